//! What the program counts, in the form that Prometheus reads.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::health::Readiness;
use crate::domain::NoticeKind;
use crate::ports::{Census, StoreObserver};

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
    requests: Family<StatusLabel, Counter>,
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
struct StatusLabel {
    status: u16,
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

impl Default for Metrics {
    fn default() -> Self {
        // From half a millisecond to about half a minute, doubling.
        let delays = || Histogram::new(exponential_buckets(0.0005, 2.0, 17));
        let mut registry = Registry::with_prefix("nights_watch");
        let metrics = Self {
            triggers: Counter::default(),
            store_errors: Counter::default(),
            outages: Counter::default(),
            put_off: Counter::default(),
            requests: Family::default(),
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
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The release that runs", build);
        registry.register(
            "triggers",
            "Triggers acknowledged",
            metrics.triggers.clone(),
        );
        registry.register(
            "store_errors",
            "Calls of the store that failed",
            metrics.store_errors.clone(),
        );
        registry.register(
            "outages",
            "Times for which nobody watched the deadlines",
            metrics.outages.clone(),
        );
        registry.register(
            "deadlines_put_off",
            "Deadlines that had passed in an outage and were put off by the grace",
            metrics.put_off.clone(),
        );
        registry.register(
            "http_requests",
            "Requests answered, by status",
            metrics.requests.clone(),
        );
        registry.register(
            "notices",
            "Notices that arose, by kind",
            metrics.notices.clone(),
        );
        registry.register(
            "delivery_attempts",
            "Attempts to deliver a notice to a recipient, by kind and result",
            metrics.deliveries.clone(),
        );
        registry.register(
            "late_delay_seconds",
            "From a deadline to the late mark",
            metrics.late_delay.clone(),
        );
        registry.register(
            "delivery_delay_seconds",
            "From a notice to its acceptance by the notifier",
            metrics.delivery_delay.clone(),
        );
        registry.register(
            "alert_delay_seconds",
            "From a deadline to the first byte to the mail server that tells of it, in first attempts",
            metrics.alert_delay.clone(),
        );
        registry.register(
            "delivery_errors",
            "Attempts to deliver that failed or were refused, by what they were about",
            metrics.delivery_errors.clone(),
        );
        registry.register(
            "deliveries_under_way",
            "Attempts to deliver that are being made now",
            metrics.under_way.clone(),
        );
        registry.register(
            "store_commit_changes",
            "Changes that shared a commit of the embedded store",
            metrics.commits.clone(),
        );
        registry.register(
            "store_waiting_changes",
            "Changes that waited for the next commit when the last one ended",
            metrics.waiting_changes.clone(),
        );
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
}

impl Metrics {
    /// A request was answered with `status`.
    pub fn request(&self, status: u16) {
        self.requests.get_or_create(&StatusLabel { status }).inc();
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
        self.delivery(kind, "delivered");
        self.delivery_delay.observe(delay.as_secs_f64());
    }

    pub(super) fn delivery_failed(&self, kind: NoticeKind) {
        self.delivery(kind, "failed");
    }

    pub(super) fn refused(&self, kind: NoticeKind) {
        self.delivery(kind, "refused");
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

    fn delivery(&self, kind: NoticeKind, result: &'static str) {
        self.deliveries
            .get_or_create(&DeliveryLabel {
                kind: kind.word(),
                result,
            })
            .inc();
    }

    /// Everything as text, with what is counted only now.
    ///
    /// # Errors
    ///
    /// None in practice: writing to memory does not fail.
    pub fn encode(
        &self,
        census: Option<&Census>,
        readiness: &Readiness,
    ) -> Result<String, fmt::Error> {
        let mut now = Registry::with_prefix("nights_watch");
        let up = Family::<PartLabel, Gauge>::default();
        for (part, complaint) in readiness.parts() {
            up.get_or_create(&PartLabel { part })
                .set(i64::from(complaint.is_none()));
        }
        now.register("up", "Whether a part does its work: 1, or 0", up);
        if let Some(census) = census {
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
            let refused = ConstGauge::new(census.refused);
            now.register(
                "deliveries_refused",
                "Deliveries that were refused for good",
                refused,
            );
        }
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)?;
        text::encode_registry(&mut text, &now)?;
        text::encode_eof(&mut text)?;
        Ok(text)
    }
}
