//! What the program counts, in the form that Prometheus reads.

use std::sync::atomic::AtomicU64;
use std::time::Duration;
use std::{fmt, fs};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::health::Readiness;
use super::version;
use crate::domain::{NoticeKind, Timestamp};
use crate::ports::{Census, Progress, StoreObserver};

/// Counters that the program keeps while it runs; they begin at zero with each start.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Triggers that were acknowledged.
    pub triggers: Counter,
    /// Calls of the store that failed while a request or a deadline was served.
    pub store_errors: Counter,
    outages: Counter,
    put_off: Counter,
    started: Gauge<f64, AtomicU64>,
    requests: Family<RequestLabel, Counter>,
    durations: Family<OperationLabel, Histogram, fn() -> Histogram>,
    store_calls: Family<OperationLabel, Histogram, fn() -> Histogram>,
    notices: Family<KindLabel, Counter>,
    deliveries: Family<DeliveryLabel, Counter>,
    late_delay: Histogram,
    delivery_delay: Histogram,
    alert_delay: Histogram,
    delivery_errors: Family<StageLabel, Counter>,
    under_way: Gauge,
    commits: Histogram,
    waiting_changes: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    operation: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabel {
    version: &'static str,
    commit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabel {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

/// A delivery that counts as under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}

/// Whole milliseconds where the aim lies, since that is what timestamps tell apart, then ever coarser up to a quarter
/// of an hour.
const ALERT_DELAYS: [f64; 29] = [
    0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009, 0.01, 0.012, 0.015, 0.02, 0.03,
    0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
];

/// What a notice can tell, as [`NoticeKind::word`] says.
const KINDS: [&str; 2] = ["late", "resumed"];

/// How an attempt to deliver it can end.
const RESULTS: [&str; 3] = ["delivered", "failed", "refused"];

/// From half a millisecond to about half a minute, doubling.
fn delays() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 17))
}

/// From an eighth of a millisecond to about eight seconds, doubling.
fn calls() -> Histogram {
    Histogram::new(exponential_buckets(0.000_125, 2.0, 17))
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            triggers: Counter::default(),
            store_errors: Counter::default(),
            outages: Counter::default(),
            put_off: Counter::default(),
            started: Gauge::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(calls),
            store_calls: Family::new_with_constructor(calls),
            notices: Family::default(),
            deliveries: Family::default(),
            late_delay: delays(),
            delivery_delay: delays(),
            alert_delay: Histogram::new(ALERT_DELAYS),
            delivery_errors: Family::default(),
            under_way: Gauge::default(),
            // Up to as many as a commit takes.
            commits: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            waiting_changes: Gauge::default(),
            registry: Registry::default(),
        };
        // What is there from the start is seen to grow; what begins with its first event is not.
        for kind in KINDS {
            let _ = metrics.notices.get_or_create(&KindLabel { kind });
            for result in RESULTS {
                let label = DeliveryLabel { kind, result };
                let _ = metrics.deliveries.get_or_create(&label);
            }
        }
        metrics.stages(&[Progress::default().stage]);
        let registry = metrics.registered();
        Self {
            registry,
            ..metrics
        }
    }
}

impl StoreObserver for Metrics {
    fn committed(&self, changes: usize, waiting: usize) {
        self.commits.observe(changes as f64);
        self.waiting_changes
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    fn called(&self, operation: &'static str, took: Duration) {
        self.store_calls
            .get_or_create(&OperationLabel { operation })
            .observe(took.as_secs_f64());
    }
}

impl Metrics {
    /// The service begins at `now`.
    pub fn start(&self, now: Timestamp) {
        self.started.set(now.millis() as f64 / 1_000.0);
    }

    /// Attempts to deliver have these stages, at each of which they may end.
    pub fn stages(&self, stages: &[&'static str]) {
        for &stage in stages {
            let _ = self.delivery_errors.get_or_create(&StageLabel { stage });
        }
    }

    /// A request for `operation`, which is one of a few names, was answered with `status` after so long.
    pub fn request(&self, operation: &'static str, status: u16, took: Duration) {
        self.requests
            .get_or_create(&RequestLabel { operation, status })
            .inc();
        self.durations
            .get_or_create(&OperationLabel { operation })
            .observe(took.as_secs_f64());
    }

    /// A watcher became late this long after its deadline.
    pub(super) fn late(&self, delay: Duration) {
        self.late_delay.observe(delay.as_secs_f64());
    }

    pub(super) fn outage(&self, put_off: u64) {
        self.outages.inc();
        self.put_off.inc_by(put_off);
    }

    pub(super) fn notice(&self, kind: NoticeKind) {
        self.notices
            .get_or_create(&KindLabel { kind: kind.word() })
            .inc();
    }

    pub(super) fn delivered(&self, kind: NoticeKind, delay: Duration) {
        self.delivery(kind, RESULTS[0]);
        self.delivery_delay.observe(delay.as_secs_f64());
    }

    pub(super) fn delivery_failed(&self, kind: NoticeKind) {
        self.delivery(kind, RESULTS[1]);
    }

    pub(super) fn refused(&self, kind: NoticeKind) {
        self.delivery(kind, RESULTS[2]);
    }

    /// A first attempt to tell of a lateness began this long after the deadline.
    pub(super) fn alerted(&self, delay: Duration) {
        self.alert_delay.observe(delay.as_secs_f64());
    }

    /// An attempt ended at `stage`.
    pub(super) fn delivery_error(&self, stage: &'static str) {
        self.delivery_errors
            .get_or_create(&StageLabel { stage })
            .inc();
    }

    /// A delivery is under way for as long as the answer lives.
    pub(super) fn under_way(&self) -> UnderWay {
        self.under_way.inc();
        UnderWay(self.under_way.clone())
    }

    /// All of them under their names, which end in their units. Counters get their `_total` from the encoder.
    fn registered(&self) -> Registry {
        let mut registry = Registry::default();
        registry.register_with_unit(
            "process_start_time",
            "When the service began, in seconds since 1970",
            Unit::Seconds,
            self.started.clone(),
        );
        let ours = registry.sub_registry_with_prefix("nights_watch");
        let build = Family::<BuildLabel, Gauge>::default();
        let (version, commit) = (version::RELEASE, version::COMMIT);
        build.get_or_create(&BuildLabel { version, commit }).set(1);
        ours.register("build_info", "The release and commit that runs: 1", build);
        ours.register("triggers", "Triggers acknowledged", self.triggers.clone());
        ours.register(
            "store_errors",
            "Calls of the store that failed",
            self.store_errors.clone(),
        );
        ours.register(
            "outages",
            "Times for which nobody watched the deadlines",
            self.outages.clone(),
        );
        ours.register(
            "deadlines_put_off",
            "Deadlines that had passed in an outage and were put off by the grace",
            self.put_off.clone(),
        );
        ours.register(
            "http_requests",
            "Requests answered, by operation and status",
            self.requests.clone(),
        );
        ours.register_with_unit(
            "http_request_duration",
            "From a request to the beginning of its answer, by operation",
            Unit::Seconds,
            self.durations.clone(),
        );
        ours.register_with_unit(
            "store_call_duration",
            "How long calls of the store took, by what was asked of it",
            Unit::Seconds,
            self.store_calls.clone(),
        );
        ours.register(
            "notices",
            "Notices that arose, by kind",
            self.notices.clone(),
        );
        ours.register(
            "delivery_attempts",
            "Attempts to deliver a notice to a recipient, by kind and result",
            self.deliveries.clone(),
        );
        ours.register_with_unit(
            "late_delay",
            "From a deadline to the late mark",
            Unit::Seconds,
            self.late_delay.clone(),
        );
        ours.register_with_unit(
            "delivery_delay",
            "From a notice to its acceptance by the notifier",
            Unit::Seconds,
            self.delivery_delay.clone(),
        );
        ours.register_with_unit(
            "alert_delay",
            "From a deadline to the first byte to the mail server that tells of it, in first attempts",
            Unit::Seconds,
            self.alert_delay.clone(),
        );
        ours.register(
            "delivery_errors",
            "Attempts to deliver that failed or were refused, by what they were about",
            self.delivery_errors.clone(),
        );
        ours.register(
            "deliveries_under_way",
            "Attempts to deliver that are being made now",
            self.under_way.clone(),
        );
        ours.register(
            "store_commit_changes",
            "Changes that shared a commit of the embedded store",
            self.commits.clone(),
        );
        ours.register(
            "store_waiting_changes",
            "Changes that waited for the next commit when the last one ended",
            self.waiting_changes.clone(),
        );
        registry
    }

    fn delivery(&self, kind: NoticeKind, result: &'static str) {
        self.deliveries
            .get_or_create(&DeliveryLabel {
                kind: kind.word(),
                result,
            })
            .inc();
    }

    /// Everything as text, with what is counted only now: the census, with the age of the oldest notice owed.
    ///
    /// # Errors
    ///
    /// None in practice: writing to memory does not fail.
    pub fn encode(
        &self,
        census: Option<(Census, Duration)>,
        readiness: &Readiness,
    ) -> Result<String, fmt::Error> {
        let mut now = Registry::with_prefix("nights_watch");
        let up = Family::<PartLabel, Gauge>::default();
        for (part, complaint) in readiness.parts() {
            up.get_or_create(&PartLabel { part })
                .set(i64::from(complaint.is_none()));
        }
        now.register("up", "Whether a part does its work: 1, or 0", up);
        if let Some((census, oldest_notice)) = census {
            let watchers = Family::<StateLabel, Gauge>::default();
            let states = [
                ("on_time", census.on_time),
                ("late", census.late),
                ("paused", census.paused),
            ];
            for (state, count) in states {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                watchers.get_or_create(&StateLabel { state }).set(count);
            }
            now.register("watchers", "Watchers, by state", watchers);
            let owed = ConstGauge::new(census.owed);
            now.register(
                "deliveries_owed",
                "Deliveries that are still to be made",
                owed,
            );
            now.register_with_unit(
                "oldest_notice_age",
                "How long the oldest notice that is still owed to somebody has been there; 0 if there is none",
                Unit::Seconds,
                ConstGauge::new(oldest_notice.as_secs_f64()),
            );
            let refused = ConstGauge::new(census.refused);
            now.register(
                "deliveries_refused",
                "Deliveries that were refused for good",
                refused,
            );
        }
        let mut process = Registry::with_prefix("process");
        if let Some(bytes) = resident_memory() {
            process.register_with_unit(
                "resident_memory",
                "Memory that the process has in use",
                Unit::Bytes,
                ConstGauge::new(bytes),
            );
        }
        let mut text = String::new();
        text::encode_registry(&mut text, &process)?;
        text::encode_registry(&mut text, &self.registry)?;
        text::encode_registry(&mut text, &now)?;
        text::encode_eof(&mut text)?;
        Ok(text)
    }
}

/// The memory of this process in bytes, where the system tells as Linux does.
fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1_024)
}
