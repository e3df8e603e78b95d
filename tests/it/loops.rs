//! The scheduler and the delivery loop, by the hands of a clock that the test moves.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mockall::mock;
use nights_watch::adapters::storage::memory::MemoryStore;
use nights_watch::adapters::storage::sqlite::SqliteStore;
use nights_watch::app::heartbeat::Condition;
use nights_watch::domain::{HistoryPolicy, WatcherId};
use nights_watch::ports::{
    Clock, DeliveryState, Heartbeat, Message, Notifier, NotifyError, Progress, StoreError,
    WatcherStore,
};
use reqwest::Method;
use tokio::sync::{Semaphore, mpsc};

use crate::http::check_triggered;
use crate::support::{BEGIN, Call, HookedStore, House, eventually, path, within};

const HOUR: u64 = 3_600_000;
const LATE: &str = "ops@example.org: [LATE] Backup has not reported";
const RESUMED: &str = "ops@example.org: [RESUMED] Backup is reporting again";

mock! {
    Engine {}

    #[async_trait]
    impl Notifier for Engine {
        async fn deliver(&self, message: &Message, progress: &mut Progress)
        -> Result<(), NotifyError>;
    }
}

fn later() -> NotifyError {
    NotifyError::TryAgain("the server is away".into())
}

fn never() -> NotifyError {
    NotifyError::Refused("no such mailbox".into())
}

/// Passes on what is delivered, as an inbox shows it, and answers as `answer` says.
fn engine(
    answer: impl Fn(&str) -> Result<(), NotifyError> + Send + Sync + 'static,
) -> (Arc<MockEngine>, mpsc::UnboundedReceiver<String>) {
    let (attempts, attempted) = mpsc::unbounded_channel();
    let mut engine = MockEngine::new();
    engine.expect_deliver().returning(move |message, _| {
        let line = format!("{}: {}", message.recipient, message.notice.subject());
        let answer = answer(&line);
        let _ = attempts.send(line);
        answer
    });
    (Arc::new(engine), attempted)
}

async fn next(attempted: &mut mpsc::UnboundedReceiver<String>) -> String {
    within(attempted.recv()).await.expect("the engine lives")
}

/// A watcher called Backup with a periodicity of an hour that tells `emails`.
async fn create_backup(house: &House, emails: &[&str]) -> String {
    let mut parameters = vec![("name", "Backup"), ("periodicity", "3600")];
    parameters.extend(emails.iter().map(|email| ("email", *email)));
    house.create_with(&parameters).await
}

async fn trigger(house: &House, id: &str) {
    assert_eq!(house.get(&format!("/{id}")).await.status, 200);
}

/// A store that counts what the loops ask of it.
fn counting_calls_of_loops() -> (Arc<HookedStore>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let store = HookedStore::failing(move |call| {
        if call == Call::Loops {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        None
    });
    (store, calls)
}

/// How many `calls` there were, once the loops have done everything that they were going to do on their own.
async fn settled(calls: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    while last != calls.load(Ordering::Relaxed) {
        last = calls.load(Ordering::Relaxed);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    last
}

/// Lets a delivery that failed be tried again, however often it has failed before.
fn let_retries_come(house: &House) {
    house.advance_millis(300_000);
}

#[tokio::test]
async fn a_deadline_is_noticed_when_it_has_passed_and_not_before() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    let id = create_backup(&house, &["ops@example.org"]).await;

    house.advance_millis(HOUR);
    assert_eq!(house.names(&[("late", "true")]).await, [""; 0]);
    house.advance_millis(1);
    assert_eq!(inbox.next().await, LATE);
    assert_eq!(house.names(&[("late", "true")]).await, ["Backup"]);

    trigger(&house, &id).await;
    assert_eq!(inbox.next().await, RESUMED);
    assert_eq!(house.names(&[("late", "true")]).await, [""; 0]);
}

#[tokio::test]
async fn an_earlier_deadline_wakes_the_scheduler() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    let id = create_backup(&house, &["ops@example.org"]).await;
    house
        .call("update", &[("id", &id), ("periodicity", "60")])
        .await;
    house.advance_millis(60_001);
    assert_eq!(inbox.next().await, LATE);
}

#[tokio::test]
async fn what_comes_in_the_last_moments_before_a_deadline_is_not_overlooked() {
    let (store, calls) = counting_calls_of_loops();
    let house = House::over(store).await;
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    let id = create_backup(&house, &["ops@example.org"]).await;

    house.advance_millis(HOUR - 10);
    let before = settled(&calls).await;
    house.advance_millis(7);
    assert!(settled(&calls).await > before, "nobody looks ahead");
    trigger(&house, &id).await;
    house.advance_millis(4);
    settled(&calls).await;
    assert_eq!(house.names(&[("late", "true")]).await, [""; 0]);

    // The deadline is an hour after the trigger, three milliseconds before the second hour.
    house.advance_millis(HOUR - 14);
    let before = settled(&calls).await;
    house.advance_millis(7);
    assert!(settled(&calls).await > before, "nobody looks ahead");
    let other = [
        ("name", "Other"),
        ("periodicity", "0.001"),
        ("email", "me@example.org"),
    ];
    house.create_with(&other).await;
    house.advance_millis(2);
    assert_eq!(
        inbox.next().await,
        "me@example.org: [LATE] Other has not reported"
    );
    house.advance_millis(1);
    settled(&calls).await;
    assert_eq!(house.names(&[("late", "true")]).await, ["Other"]);
    house.advance_millis(1);
    assert_eq!(inbox.next().await, LATE);
}

#[tokio::test]
async fn a_deadline_that_a_trigger_moved_is_noticed_at_its_new_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("watch.db");
    let store = SqliteStore::open(&path, HistoryPolicy::default()).unwrap();
    let house = House::over(Arc::new(store)).await;
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    let id = create_backup(&house, &["ops@example.org"]).await;
    for _ in 0..3 {
        house.advance_millis(HOUR);
        trigger(&house, &id).await;
    }
    assert_eq!(house.names(&[("late", "true")]).await, [""; 0]);
    house.advance_millis(HOUR + 1);
    assert_eq!(inbox.next().await, LATE);
}

#[tokio::test]
async fn thousands_of_deadlines_in_one_instant_are_all_served() {
    const WATCHERS: usize = 3_000;
    let house = House::open().await;
    for n in 0..WATCHERS {
        let name = format!("Watcher {n}");
        let email = format!("ops{n}@example.org");
        house
            .create_with(&[("name", &name), ("periodicity", "3600"), ("email", &email)])
            .await;
    }
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    house.advance_millis(HOUR + 1);
    let mut told = inbox.sorted(WATCHERS).await;
    told.dedup();
    assert_eq!(told.len(), WATCHERS);
}

#[tokio::test]
async fn deadlines_that_passed_while_nothing_ran_are_noticed_at_the_start() {
    let house = House::open().await;
    create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(9 * HOUR);
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    assert_eq!(inbox.next().await, LATE);
}

#[tokio::test]
async fn a_wall_clock_that_steps_is_followed() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    let id = create_backup(&house, &["ops@example.org"]).await;

    // Back by a day: an hour from the trigger is an hour from the trigger, whatever the day.
    house.clock.set(BEGIN.before(Duration::from_hours(24)));
    trigger(&house, &id).await;
    house.advance_millis(HOUR + 1);
    assert_eq!(inbox.next().await, LATE);

    // Forward by a day, as after a suspend.
    trigger(&house, &id).await;
    assert_eq!(inbox.next().await, RESUMED);
    house.clock.set(BEGIN.after(Duration::from_hours(24)));
    assert_eq!(inbox.next().await, LATE);
}

#[tokio::test]
async fn what_waits_for_a_retry_does_not_wait_longer_when_the_clock_steps_back() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let (engine, mut attempted) = engine(|_| Err(later()));
    let _delivery = house.start_delivery_by(engine);
    create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(HOUR + 1);
    assert_eq!(next(&mut attempted).await, LATE);
    let failed = "nights_watch_delivery_attempts_total{kind=\"late\",result=\"failed\"} 1";
    eventually(async || house.get("/metrics").await.text.contains(failed)).await;

    house.clock.set(BEGIN.before(Duration::from_hours(24)));
    eventually(async || {
        house.advance_millis(60_000);
        attempted.try_recv().is_ok()
    })
    .await;
    assert!(
        house.clock.now() < BEGIN,
        "it waited until the clock was where it had been"
    );
}

#[tokio::test]
async fn a_claim_of_a_server_whose_clock_is_ahead_is_left_to_it() {
    let store = Arc::new(MemoryStore::new(HistoryPolicy::default()));
    let house = House::over(store.clone()).await;
    let _scheduler = house.start_scheduler();
    create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(HOUR + 1);
    eventually(async || house.names(&[("late", "true")]).await == ["Backup"]).await;
    let there = house.clock.now().after(Duration::from_mins(1));
    let lease_end = there.after(Duration::from_mins(5));
    assert_eq!(store.claim(there, lease_end, 9).await.unwrap().len(), 1);

    let (_delivery, mut inbox) = house.start_delivery();
    let other = [
        ("name", "Other"),
        ("periodicity", "1"),
        ("email", "ops@example.org"),
    ];
    house.create_with(&other).await;
    house.advance_millis(1_001);
    assert_eq!(
        inbox.next().await,
        "ops@example.org: [LATE] Other has not reported"
    );
}

#[tokio::test]
async fn a_change_whose_client_has_left_is_announced_all_the_same() {
    let begun = Arc::new(Semaphore::new(0));
    let go_on = Arc::new(Semaphore::new(0));
    let (begins, waits) = (Arc::clone(&begun), Arc::clone(&go_on));
    let store = HookedStore::new(move |call| {
        let (begins, waits) = (Arc::clone(&begins), Arc::clone(&waits));
        async move {
            if call == Call::Insert {
                begins.add_permits(1);
                waits.acquire().await.expect("it is not closed").forget();
            }
            Ok(())
        }
    });
    let house = House::over(store).await;
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    let parameters = [
        ("name", "Backup"),
        ("periodicity", "3600"),
        ("email", "ops@example.org"),
    ];
    let request = house.request(Method::GET, &path("create", &parameters));
    let client = tokio::spawn(request.send());
    within(begun.acquire())
        .await
        .expect("it is not closed")
        .forget();
    client.abort();
    assert!(client.await.is_err_and(|error| error.is_cancelled()));
    // Long enough for the server to see that nobody is there any more.
    tokio::time::sleep(Duration::from_millis(50)).await;

    go_on.add_permits(1);
    eventually(async || house.names(&[]).await == ["Backup"]).await;
    house.advance_millis(HOUR + 1);
    assert_eq!(inbox.next().await, LATE);
}

#[tokio::test]
async fn the_loops_sleep_while_nothing_is_due() {
    let (store, calls) = counting_calls_of_loops();
    let house = House::over(store).await;
    let scheduler = house.start_scheduler();
    let (delivery, _inbox) = house.start_delivery();
    let id = create_backup(&house, &["ops@example.org"]).await;
    let before = settled(&calls).await;
    // Now and then it is recorded that somebody watches; that is not yet.
    for _ in 0..50 {
        house.advance_millis(100);
        trigger(&house, &id).await;
    }
    assert_eq!(
        settled(&calls).await,
        before,
        "the loops asked the store although nothing was due"
    );
    scheduler.stop().await;
    delivery.stop().await;
}

#[tokio::test]
async fn a_retry_reaches_only_who_was_not_reached() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let failures = AtomicUsize::new(3);
    let (engine, mut attempted) = engine(move |line| {
        let fails = line.starts_with("slow") && failures.fetch_sub(1, Ordering::Relaxed) > 0;
        if fails { Err(later()) } else { Ok(()) }
    });
    let _delivery = house.start_delivery_by(engine);
    create_backup(&house, &["slow@example.org", "ops@example.org"]).await;
    house.advance_millis(HOUR + 1);

    let mut count: HashMap<String, usize> = HashMap::new();
    for _ in 0..2 {
        *count.entry(next(&mut attempted).await).or_default() += 1;
    }
    // The pauses are one, two and four seconds, less a chance of a quarter.
    for (early, due) in [(749, 251), (1_499, 501), (2_999, 1_001)] {
        let failed = "nights_watch_delivery_attempts_total{kind=\"late\",result=\"failed\"}";
        let so_far = count.values().sum::<usize>() - 1;
        eventually(async || {
            house
                .get("/metrics")
                .await
                .text
                .contains(&format!("{failed} {so_far}"))
        })
        .await;
        house.advance_millis(early);
        assert!(
            attempted.try_recv().is_err(),
            "it was tried again too early"
        );
        house.advance_millis(due);
        *count.entry(next(&mut attempted).await).or_default() += 1;
    }
    assert_eq!(count[LATE], 1);
    assert_eq!(count["slow@example.org: [LATE] Backup has not reported"], 4);
    let delivered = "nights_watch_delivery_attempts_total{kind=\"late\",result=\"delivered\"} 2";
    eventually(async || house.get("/metrics").await.text.contains(delivered)).await;
}

#[tokio::test]
async fn a_retry_knows_the_watcher_by_its_new_slug() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let (attempts, mut attempted) = mpsc::unbounded_channel();
    let mut engine = MockEngine::new();
    engine.expect_deliver().returning(move |message, _| {
        let _ = attempts.send(format!("{}: {}", message.slug, message.notice.name));
        Err(later())
    });
    let _delivery = house.start_delivery_by(Arc::new(engine));
    let id = create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(HOUR + 1);
    assert_eq!(next(&mut attempted).await, "backup: Backup");
    let failed = "nights_watch_delivery_attempts_total{kind=\"late\",result=\"failed\"} 1";
    eventually(async || house.get("/metrics").await.text.contains(failed)).await;
    house
        .call("update", &[("id", &id), ("name", "Nightly dump")])
        .await;
    let_retries_come(&house);
    assert_eq!(next(&mut attempted).await, "nightly-dump: Backup");
}

#[tokio::test]
async fn a_recipient_hears_of_the_return_only_after_the_lateness() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let works = Arc::new(AtomicBool::new(false));
    let on = Arc::clone(&works);
    let (engine, mut attempted) = engine(move |_| {
        if on.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(later())
        }
    });
    let _delivery = house.start_delivery_by(engine);
    let id = create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(HOUR + 1);
    assert_eq!(next(&mut attempted).await, LATE);
    trigger(&house, &id).await;
    for _ in 0..3 {
        eventually(async || {
            let_retries_come(&house);
            attempted.try_recv().is_ok_and(|line| {
                assert_eq!(line, LATE);
                true
            })
        })
        .await;
    }
    works.store(true, Ordering::Relaxed);
    let mut last = String::new();
    eventually(async || {
        let_retries_come(&house);
        while let Ok(line) = attempted.try_recv() {
            assert!(
                line == LATE || (last == LATE && line == RESUMED),
                "{line} after {last}"
            );
            last = line;
        }
        last == RESUMED
    })
    .await;
}

#[tokio::test]
async fn a_refusal_for_good_is_counted_and_not_repeated() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let (engine, mut attempted) = engine(|_| Err(never()));
    let _delivery = house.start_delivery_by(engine);
    let id = create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(HOUR + 1);
    assert_eq!(next(&mut attempted).await, LATE);
    let refused = "nights_watch_deliveries_refused 1\n";
    eventually(async || house.get("/metrics").await.text.contains(refused)).await;
    let_retries_come(&house);
    trigger(&house, &id).await;
    assert_eq!(
        next(&mut attempted).await,
        RESUMED,
        "the next notice is tried all the same"
    );
}

#[tokio::test]
async fn why_a_delivery_failed_can_be_asked_for() {
    let store = Arc::new(MemoryStore::new(HistoryPolicy::default()));
    let house = House::over(store.clone()).await;
    let _scheduler = house.start_scheduler();
    let is_away = AtomicBool::new(true);
    let (engine, mut attempted) = engine(move |_| {
        let away = is_away.swap(false, Ordering::Relaxed);
        Err(if away { later() } else { never() })
    });
    let _delivery = house.start_delivery_by(engine);
    let id = create_backup(&house, &["ops@example.org"]).await;
    let id = WatcherId::parse(&id).expect("an identifier");
    let state = async || {
        let mut reports = store.deliveries(&id).await.expect("it answers");
        reports.remove(0).state
    };
    house.advance_millis(HOUR + 1);
    assert_eq!(next(&mut attempted).await, LATE);
    eventually(async || {
        let DeliveryState::Owed { failure, .. } = state().await else {
            panic!("it is owed")
        };
        failure.is_some_and(|reason| reason.as_str() == "the server is away")
    })
    .await;
    let_retries_come(&house);
    assert_eq!(next(&mut attempted).await, LATE);
    eventually(async || match state().await {
        DeliveryState::Refused { reason, .. } => reason.as_str() == "no such mailbox",
        _ => false,
    })
    .await;
}

#[tokio::test]
async fn an_alert_is_given_up_after_days() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let (engine, mut attempted) = engine(|_| Err(later()));
    let _delivery = house.start_delivery_by(engine);
    create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(HOUR + 1);
    assert_eq!(next(&mut attempted).await, LATE);
    let owed = async |count: usize| {
        let line = format!("nights_watch_deliveries_owed {count}\n");
        house.get("/metrics").await.text.contains(&line)
    };
    house.clock.advance(Duration::from_hours(5 * 24 - 2));
    assert_eq!(next(&mut attempted).await, LATE);
    assert!(owed(1).await);
    let age = "nights_watch_oldest_notice_age_seconds";
    check_metric(&house, &format!("{age} 424800.0")).await;
    eventually(async || {
        house.advance_millis(HOUR);
        owed(0).await
    })
    .await;
    check_metric(&house, &format!("{age} 0.0")).await;
}

/// A notifier that hangs over addresses which begin with `hang`, panics over those which begin with `panic`
/// the first time, and reaches all others.
struct Troubled {
    reached: mpsc::UnboundedSender<String>,
    panicked: Mutex<bool>,
}

#[async_trait]
impl Notifier for Troubled {
    async fn deliver(&self, message: &Message, _: &mut Progress) -> Result<(), NotifyError> {
        let to = message.recipient.as_str();
        if to.starts_with("hang") {
            std::future::pending::<()>().await;
        }
        let first = to.starts_with("panic")
            && !std::mem::replace(&mut *self.panicked.lock().unwrap(), true);
        assert!(!first, "a notifier with a fault");
        let _ = self.reached.send(to.to_owned());
        Ok(())
    }
}

#[tokio::test]
async fn recipients_over_whom_the_server_hangs_do_not_hold_up_the_others() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let (reached, mut told) = mpsc::unbounded_channel();
    let troubled = Troubled {
        reached,
        panicked: Mutex::new(false),
    };
    let _delivery = house.start_delivery_by(Arc::new(troubled));
    let mut emails: Vec<_> = (0..99).map(|n| format!("hang{n}@example.org")).collect();
    emails.push("ops@example.org".to_owned());
    let emails: Vec<_> = emails.iter().map(String::as_str).collect();
    create_backup(&house, &emails).await;
    house.advance_millis(HOUR + 1);
    // Each group that hangs gives way after two seconds.
    eventually(async || {
        house.advance_millis(100);
        told.try_recv().is_ok_and(|to| to == "ops@example.org")
    })
    .await;
    eventually(async || {
        let metrics = house.get("/metrics").await.text;
        metrics.contains("nights_watch_deliveries_under_way 99\n")
    })
    .await;
}

#[tokio::test]
async fn an_alert_is_timed_from_the_deadline_to_the_first_byte_of_the_first_attempt() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let clock = Arc::clone(&house.clock);
    let fails = AtomicBool::new(true);
    let mut engine = MockEngine::new();
    engine.expect_deliver().returning(move |_, progress| {
        progress.stage = "shaking hands";
        clock.advance(Duration::from_millis(7));
        progress.begun = Some(clock.now());
        progress.stage = "talking";
        clock.advance(Duration::from_millis(50));
        if fails.swap(false, Ordering::Relaxed) {
            Err(later())
        } else {
            Ok(())
        }
    });
    let _delivery = house.start_delivery_by(Arc::new(engine));
    let id = create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(HOUR + 1);
    // Until then nobody moves the clock but the engine.
    let failed = "nights_watch_delivery_errors_total{stage=\"talking\"} 1\n";
    eventually(async || house.get("/metrics").await.text.contains(failed)).await;
    let delivered = async |kind: &str| {
        let line = format!(
            "nights_watch_delivery_attempts_total{{kind=\"{kind}\",result=\"delivered\"}} 1\n"
        );
        let metrics = async || house.get("/metrics").await.text;
        eventually(async || {
            house.advance_millis(1_000);
            metrics().await.contains(&line)
        })
        .await;
    };
    delivered("late").await;
    trigger(&house, &id).await;
    delivered("resumed").await;
    check_metric(&house, "nights_watch_alert_delay_seconds_sum 0.008").await;
    check_metric(&house, "nights_watch_alert_delay_seconds_count 1").await;
    for (bucket, count) in [("0.007", 0), ("0.008", 1)] {
        let name = "nights_watch_alert_delay_seconds_bucket";
        check_metric(&house, &format!("{name}{{le=\"{bucket}\"}} {count}")).await;
    }
    eventually(async || {
        let metrics = house.get("/metrics").await.text;
        metrics.contains("nights_watch_deliveries_under_way 0\n")
    })
    .await;
}

/// A notifier that reaches who does not begin with `hang`; the others fail at first, and then hang.
struct Worsening {
    reached: mpsc::UnboundedSender<String>,
    tried: Mutex<HashSet<String>>,
    hanging: Arc<AtomicUsize>,
}

#[async_trait]
impl Notifier for Worsening {
    async fn deliver(&self, message: &Message, _: &mut Progress) -> Result<(), NotifyError> {
        let to = message.recipient.as_str();
        if to.starts_with("hang") {
            if self.tried.lock().unwrap().insert(to.to_owned()) {
                return Err(later());
            }
            self.hanging.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        let _ = self.reached.send(message.notice.subject());
        Ok(())
    }
}

#[tokio::test]
async fn what_is_told_for_the_first_time_does_not_wait_behind_hundreds_of_retries_that_hang() {
    const HUNDREDS: usize = 4;
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let (reached, mut told) = mpsc::unbounded_channel();
    let hanging = Arc::new(AtomicUsize::new(0));
    let worsening = Worsening {
        reached,
        tried: Mutex::default(),
        hanging: Arc::clone(&hanging),
    };
    let _delivery = house.start_delivery_by(Arc::new(worsening));
    for hundred in 0..HUNDREDS {
        let emails = (0..100).map(|n| format!("hang{n}@{hundred}.example.org"));
        let emails: Vec<_> = emails.collect();
        let name = format!("Trouble {hundred}");
        let mut parameters = vec![("name", name.as_str()), ("periodicity", "3600")];
        parameters.extend(emails.iter().map(|email| ("email", email.as_str())));
        house.create_with(&parameters).await;
    }
    let id = create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(HOUR + 1);
    let late = within(told.recv()).await.expect("the notifier lives");
    assert!(late.starts_with("[LATE]"), "{late}");
    let failed = "nights_watch_delivery_attempts_total{kind=\"late\",result=\"failed\"}";
    let failed = format!("{failed} {}\n", 100 * HUNDREDS);
    eventually(async || house.get("/metrics").await.text.contains(&failed)).await;

    // All retries come due. From here on the clock stands still, so nobody gives way.
    house.advance_millis(1_000);
    eventually(async || hanging.load(Ordering::Relaxed) > 0).await;
    trigger(&house, &id).await;
    let resumed = within(told.recv()).await.expect("the notifier lives");
    assert!(resumed.starts_with("[RESUMED]"), "{resumed}");

    // The retries make way for each other.
    eventually(async || {
        house.advance_millis(1_000);
        hanging.load(Ordering::Relaxed) >= 100 * HUNDREDS
    })
    .await;
}

#[tokio::test]
async fn a_notifier_that_panics_is_asked_again() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let (reached, mut told) = mpsc::unbounded_channel();
    let troubled = Troubled {
        reached,
        panicked: Mutex::new(false),
    };
    let _delivery = house.start_delivery_by(Arc::new(troubled));
    create_backup(&house, &["panic@example.org"]).await;
    house.advance_millis(HOUR + 1);
    eventually(async || {
        house.advance_millis(1_000);
        told.try_recv().is_ok()
    })
    .await;
    assert_eq!(house.get("/readyz").await.status, 200, "the loop is alive");
}

#[tokio::test]
async fn a_delivery_that_was_cut_off_is_made_when_its_lease_ends() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let (reached, _told) = mpsc::unbounded_channel();
    let hanging = Troubled {
        reached,
        panicked: Mutex::new(false),
    };
    let dying = house.start_delivery_by(Arc::new(hanging));
    create_backup(&house, &["hang@example.org"]).await;
    house.advance_millis(HOUR + 1);
    eventually(async || {
        house
            .get("/metrics")
            .await
            .text
            .contains("nights_watch_deliveries_owed 1\n")
    })
    .await;
    dying.kill().await;

    let (_delivery, mut inbox) = house.start_delivery();
    house.clock.advance(Duration::from_mins(5));
    assert_eq!(
        inbox.next().await,
        "hang@example.org: [LATE] Backup has not reported"
    );
}

#[tokio::test]
async fn nothing_is_told_of_a_deleted_watcher() {
    let house = House::open().await;
    let _scheduler = house.start_scheduler();
    let id = create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(HOUR + 1);
    eventually(async || house.names(&[("late", "true")]).await == ["Backup"]).await;
    assert_eq!(house.call("delete", &[("id", &id)]).await.status, 200);
    let other = house.create_with(&[
        ("name", "Other"),
        ("periodicity", "1"),
        ("email", "ops@example.org"),
    ]);
    other.await;
    house.advance_millis(1_001);
    let (_delivery, mut inbox) = house.start_delivery();
    assert_eq!(
        inbox.next().await,
        "ops@example.org: [LATE] Other has not reported"
    );
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_delays_and_loses_nothing() {
    let fails = Arc::new(AtomicBool::new(false));
    let on = Arc::clone(&fails);
    let store = HookedStore::failing(move |call| {
        let loops = matches!(call, Call::Loops | Call::Transact);
        (loops && on.load(Ordering::Relaxed)).then(|| StoreError::unavailable("the disk is away"))
    });
    let house = House::over(store).await;
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    let id = create_backup(&house, &["ops@example.org"]).await;
    fails.store(true, Ordering::Relaxed);
    house.advance_millis(HOUR + 1);
    eventually(async || {
        house
            .get("/readyz")
            .await
            .text
            .contains("the scheduler fails")
    })
    .await;
    assert_eq!(house.get(&format!("/{id}")).await.status, 503);

    fails.store(false, Ordering::Relaxed);
    eventually(async || {
        house.advance_millis(1_000);
        house.get("/readyz").await.status == 200
    })
    .await;
    assert_eq!(inbox.next().await, LATE);
}

/// A service over a store, which was away for a day in which the deadline of a watcher has passed.
async fn after_an_outage(grace: Duration) -> (House, Arc<MemoryStore>, String) {
    let store = Arc::new(MemoryStore::new(HistoryPolicy::default()));
    let before = House::over(store.clone()).await;
    let scheduler = before.start_scheduler();
    let id = create_backup(&before, &["ops@example.org"]).await;
    eventually(async || store.last_watch().await.expect("it answers") == Some(BEGIN)).await;
    scheduler.stop().await;
    let after = House::with_grace(store.clone(), grace).await;
    after.advance_millis(24 * HOUR);
    (after, store, id)
}

/// Lets so much time go by that deadlines are watched all along.
async fn live_through(house: &House, store: &MemoryStore, minutes: u64) {
    let is_watched = async || {
        let last = store.last_watch().await.expect("it answers");
        last == Some(house.clock.now())
    };
    eventually(is_watched).await;
    for _ in 0..3 * minutes {
        house.advance_millis(20_000);
        eventually(is_watched).await;
    }
}

async fn check_metric(house: &House, line: &str) {
    let metrics = house.get("/metrics").await.text;
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}

#[tokio::test]
async fn who_could_not_report_in_an_outage_has_a_grace() {
    for reports in [true, false] {
        let (house, store, id) = after_an_outage(Duration::from_mins(10)).await;
        let _scheduler = house.start_scheduler();
        let (_delivery, mut inbox) = house.start_delivery();
        live_through(&house, &store, 9).await;
        check_metric(&house, "nights_watch_outages_total 1").await;
        check_metric(&house, "nights_watch_deadlines_put_off_total 1").await;
        check_metric(&house, "nights_watch_late_delay_seconds_count 0").await;
        if reports {
            check_triggered(&house.get(&format!("/{id}")).await, false, false);
            live_through(&house, &store, 59).await;
        }
        live_through(&house, &store, 1).await;
        check_metric(&house, "nights_watch_late_delay_seconds_count 0").await;
        house.advance_millis(1);
        assert_eq!(inbox.next().await, LATE);
        check_metric(&house, "nights_watch_outages_total 1").await;
    }
}

#[tokio::test]
async fn a_request_that_is_quicker_than_the_scheduler_finds_the_grace_too() {
    let fails = Arc::new(AtomicBool::new(false));
    let on = Arc::clone(&fails);
    // The deadlines cannot be watched, but requests are served.
    let store = HookedStore::failing(move |call| {
        let is_away = call == Call::Loops && on.load(Ordering::Relaxed);
        is_away.then(|| StoreError::unavailable("the disk is away"))
    });
    let house = House::with_grace(store.clone(), Duration::from_mins(10)).await;
    let _scheduler = house.start_scheduler();
    let id = create_backup(&house, &["ops@example.org"]).await;
    eventually(async || store.last_watch().await.is_ok_and(|last| last.is_some())).await;
    // So that this process, too, knows that it has watched.
    eventually(async || house.get("/readyz").await.text.contains("delivery")).await;
    fails.store(true, Ordering::Relaxed);
    house.advance_millis(2 * HOUR);
    check_triggered(&house.get(&format!("/{id}")).await, false, false);
    check_metric(&house, "nights_watch_late_delay_seconds_count 0").await;
}

#[tokio::test]
async fn without_a_grace_an_outage_is_only_told() {
    let (house, ..) = after_an_outage(Duration::ZERO).await;
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    assert_eq!(inbox.next().await, LATE);
    eventually(async || {
        let metrics = house.get("/metrics").await.text;
        metrics.contains("nights_watch_outages_total 1\n")
    })
    .await;
    check_metric(&house, "nights_watch_deadlines_put_off_total 0").await;
}

#[tokio::test]
async fn what_was_put_off_is_not_put_off_again_while_the_outage_is_dealt_with() {
    let fails = Arc::new(AtomicBool::new(false));
    let on = Arc::clone(&fails);
    let store = HookedStore::failing(move |call| {
        let is_end = call == Call::KeepWatch && on.load(Ordering::Relaxed);
        is_end.then(|| StoreError::unavailable("the disk is away"))
    });
    let grace = Duration::from_mins(10);
    let house = House::with_grace(store.clone(), grace).await;
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    create_backup(&house, &["ops@example.org"]).await;
    eventually(async || store.last_watch().await.is_ok_and(|last| last.is_some())).await;
    fails.store(true, Ordering::Relaxed);
    let until = BEGIN.after(Duration::from_hours(2));
    house.clock.advance(Duration::from_hours(2));
    let put_off = until.after(grace).to_string();
    eventually(async || house.everything().await.contains(&put_off)).await;
    house.clock.advance(grace);
    let mail = async { inbox.next().await };
    let turns = async {
        loop {
            house.advance_millis(1_000);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        mail = mail => assert_eq!(mail, LATE),
        () = turns => {}
    }
}

#[tokio::test]
async fn a_watcher_that_has_to_be_mended_does_not_stop_the_watch_over_the_others() {
    let store = HookedStore::failing(|call| {
        let is_torn = call == Call::Transact;
        is_torn.then(|| StoreError::Corrupt("the periodicity of Backup".to_owned()))
    });
    let house = House::over(store.clone()).await;
    let _scheduler = house.start_scheduler();
    let (_delivery, _inbox) = house.start_delivery();
    create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(HOUR + 1);
    let now = Some(house.clock.now());
    eventually(async || store.last_watch().await.expect("it answers") == now).await;
    eventually(async || house.get("/readyz").await.status == 200).await;
}

#[tokio::test]
async fn a_watcher_that_has_to_be_mended_makes_no_other_alert_late() {
    let is_torn = Arc::new(AtomicBool::new(true));
    let torn = Arc::clone(&is_torn);
    // The first one that passes its deadline.
    let store = HookedStore::failing(move |call| {
        let is_it = call == Call::Transact && torn.swap(false, Ordering::Relaxed);
        is_it.then(|| StoreError::Corrupt("the periodicity of Backup".to_owned()))
    });
    let house = House::over(store).await;
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(500);
    let other = [
        ("name", "Report"),
        ("periodicity", "3600"),
        ("email", "ops@example.org"),
    ];
    house.create_with(&other).await;
    house.advance_millis(HOUR - 499);
    eventually(async || !is_torn.load(Ordering::Relaxed)).await;
    house.advance_millis(500);
    let mut name = inbox.next().await;
    assert!(name.contains("Report"), "{name}");
    // It is mended by now, and looked at again.
    house.clock.advance(Duration::from_mins(10));
    name = inbox.next().await;
    assert!(name.contains("Backup"), "{name}");
}

#[tokio::test]
async fn a_change_whose_outcome_is_unknown_is_watched_all_the_same() {
    let lost = Arc::new(AtomicBool::new(true));
    let is_lost = Arc::clone(&lost);
    let store = HookedStore::failing(move |call| {
        let fails =
            matches!(call, Call::Insert | Call::Transact) && is_lost.load(Ordering::Relaxed);
        fails.then(|| StoreError::outcome_unknown("the connection was lost"))
    });
    let house = House::over(store).await;
    let _scheduler = house.start_scheduler();
    let (_delivery, mut inbox) = house.start_delivery();
    let draft = [
        ("name", "Backup"),
        ("periodicity", "3600"),
        ("email", "ops@example.org"),
    ];
    assert_eq!(house.call("create", &draft).await.status, 503);
    lost.store(false, Ordering::Relaxed);
    eventually(async || house.get("/readyz").await.status == 200).await;
    house.advance_millis(HOUR + 1);
    assert_eq!(inbox.next().await, LATE);

    lost.store(true, Ordering::Relaxed);
    let triggered = house.call("trigger", &[("name", "Backup")]).await;
    assert_eq!(triggered.status, 503);
    assert_eq!(inbox.next().await, RESUMED);
}

/// A store whose failures begin when the first delivery is made, so that its success cannot be recorded.
#[tokio::test]
async fn a_success_that_cannot_be_recorded_at_once_is_not_repeated() {
    let fails = Arc::new(AtomicBool::new(false));
    let on = Arc::clone(&fails);
    let store = HookedStore::failing(move |call| {
        (call == Call::Loops && on.load(Ordering::Relaxed))
            .then(|| StoreError::unavailable("the disk is away"))
    });
    let house = House::over(store).await;
    let _scheduler = house.start_scheduler();
    let breaks = Arc::clone(&fails);
    let (engine, mut attempted) = engine(move |_| {
        breaks.store(true, Ordering::Relaxed);
        Ok(())
    });
    let _delivery = house.start_delivery_by(engine);
    create_backup(&house, &["ops@example.org"]).await;
    house.advance_millis(HOUR + 1);
    assert_eq!(next(&mut attempted).await, LATE);
    for _ in 0..10 {
        house.advance_millis(1_000);
        tokio::task::yield_now().await;
    }
    fails.store(false, Ordering::Relaxed);
    eventually(async || {
        house.advance_millis(1_000);
        house
            .get("/metrics")
            .await
            .text
            .contains("nights_watch_deliveries_owed 0\n")
    })
    .await;
    house.clock.advance(Duration::from_mins(10));
    assert!(attempted.try_recv().is_err(), "it was delivered twice");
}

mock! {
    Other {}

    #[async_trait]
    impl Heartbeat for Other {
        async fn beat(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
    }
}

#[tokio::test]
async fn the_heart_beats_only_while_all_is_well() {
    for condition in [Condition::Ready, Condition::Turning] {
        let fails = Arc::new(AtomicBool::new(false));
        let on = Arc::clone(&fails);
        let store = HookedStore::failing(move |call| {
            let is_away = call == Call::Ping && on.load(Ordering::Relaxed);
            is_away.then(|| StoreError::unavailable("the disk is away"))
        });
        let house = House::over(store).await;
        let scheduler = house.start_scheduler();
        let (_delivery, _inbox) = house.start_delivery();
        eventually(async || house.get("/readyz").await.status == 200).await;
        let beats = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&beats);
        let mut other = MockOther::new();
        other.expect_beat().returning(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Err("nobody listens".into())
        });
        let _beating = house.start_heartbeat(Arc::new(other), Duration::from_secs(5), condition);
        let after_a_turn = async || {
            let before = beats.load(Ordering::Relaxed);
            house.advance_millis(5_000);
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            beats.load(Ordering::Relaxed) - before
        };
        eventually(async || beats.load(Ordering::Relaxed) == 1).await;
        assert_eq!(after_a_turn().await, 1);
        fails.store(true, Ordering::Relaxed);
        let while_away = usize::from(condition == Condition::Turning);
        assert_eq!(after_a_turn().await, while_away, "{condition:?}");
        fails.store(false, Ordering::Relaxed);
        assert_eq!(after_a_turn().await, 1);
        scheduler.stop().await;
        assert_eq!(after_a_turn().await, 0, "{condition:?}");
    }
}
