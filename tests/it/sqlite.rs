//! What only SQLite promises, because it has a file: see `conformance` for all that every store does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nights_watch::adapters::storage::sqlite::{OpenError, SqliteStore};
use nights_watch::domain::{
    Action, Comment, Description, Draft, Event, Filter, HistoryPolicy, Name, Periodicity,
    Recipient, Search, Timestamp, Watcher, WatcherId,
};
use nights_watch::ports::{
    Claim, DeliveryReport, DeliveryState, Detail, Key, Outcome, Record, StoreError, StoreObserver,
    Told, TransactError, WatcherStore,
};
use rusqlite::Connection;
use tempfile::TempDir;

/// A place for one database.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store.db")
    }

    fn open(&self) -> SqliteStore {
        self.try_open().expect("it can be opened")
    }

    fn try_open(&self) -> Result<SqliteStore, OpenError> {
        SqliteStore::open(&self.path(), HistoryPolicy::default())
    }

    fn open_with_limit(&self, limit: usize) -> SqliteStore {
        let policy = HistoryPolicy::with_limit(limit).expect("a limit");
        SqliteStore::open(&self.path(), policy).expect("it can be opened")
    }

    /// Runs SQL in the file, past the store.
    fn run(&self, sql: &str) {
        let connection = Connection::open(self.path()).expect("a database");
        connection.execute_batch(sql).expect("it can be run");
    }

    fn count(&self, sql: &str) -> i64 {
        let connection = Connection::open(self.path()).expect("a database");
        let count = connection.query_row(sql, [], |row| row.get(0));
        count.expect("a number")
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_426_730_924_885).after(Duration::from_secs(seconds))
}

fn id(letters: &str) -> WatcherId {
    WatcherId::parse(letters).expect("an identifier")
}

fn trigger() -> Action {
    Action::Trigger(Comment::default())
}

async fn insert(store: &SqliteStore, letters: &str, name: &str) -> (Watcher, Event) {
    let draft = Draft {
        name: Name::parse(name).expect("a name"),
        description: Description::parse("Größe\0").expect("a description"),
        periodicity: Periodicity::from_seconds(60.0).expect("a periodicity"),
        recipients: vec![Recipient::parse("a@x.example").expect("an address")],
        paused: false,
    };
    let created = Watcher::create(id(letters), draft, at(0));
    let inserted = store.insert(&created.clone().into()).await;
    inserted.expect("it can be inserted");
    created
}

async fn act(store: &SqliteStore, id: WatcherId, action: Action, now: Timestamp) -> Record {
    let key = Key::Id(id);
    let done = store.transact(&key, &action, now, Detail::Full).await;
    let done = done.expect("it can be done");
    Record {
        watcher: done.watcher.expect("the watcher"),
        history: done.history,
    }
}

async fn claim_one(store: &SqliteStore, now: Timestamp, lease_end: Timestamp) -> Claim {
    let mut claims = store.claim(now, lease_end, 10).await.expect("it answers");
    assert_eq!(claims.len(), 1, "{claims:?}");
    claims.remove(0)
}

fn try_again(at: Timestamp) -> Outcome {
    let reason = "the server is away".into();
    Outcome::TryAgain { at, reason }
}

/// Triggers a watcher so many times, concurrently and without a history in the answers.
async fn trigger_often(store: &Arc<SqliteStore>, id: WatcherId, times: u64) {
    let tasks = (0..32).map(|task| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for number in (task..times).step_by(32) {
                let key = Key::Id(id);
                let (action, now) = (trigger(), at(number));
                let done = store.transact(&key, &action, now, Detail::Summary).await;
                done.expect("it can be triggered");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("it does not panic");
    }
}

#[tokio::test]
async fn everything_is_there_after_it_was_opened_again() {
    let place = Place::new();
    let store = place.open();
    let (one, _) = insert(&store, "aaaaaaaa", "One").await;
    let (two, _) = insert(&store, "bbbbbbbb", "Two").await;
    let (late, _) = insert(&store, "cccccccc", "Late").await;
    let one = act(&store, one.id, trigger(), at(30)).await;
    let two = act(&store, two.id, Action::Pause(Comment::default()), at(30)).await;
    let late = act(&store, late.id, Action::PassDeadline, at(61)).await;
    let census = store.census().await.expect("it answers");
    store.close().await;
    drop(store);

    let store = place.open();
    for expected in [&one, &two, &late] {
        let found = store.find(&Key::Id(expected.watcher.id)).await;
        assert_eq!(found.expect("it answers").as_ref(), Some(expected));
    }
    assert_eq!(store.census().await.expect("it answers"), census);
    let due = claim_one(&store, at(61), at(90)).await;
    assert_eq!(due.key.watcher, late.watcher.id);
    assert_eq!(due.events, late.history);
    let overdue = store.overdue(at(91), 10).await;
    assert_eq!(overdue.expect("it answers"), [one.watcher.id]);
}

#[tokio::test]
async fn a_store_that_was_not_closed_keeps_what_it_answered() {
    let place = Place::new();
    let store = place.open();
    let (watcher, _) = insert(&store, "aaaaaaaa", "One").await;
    let expected = act(&store, watcher.id, trigger(), at(30)).await;
    // What a killed process leaves behind: the files as they are, the journal included.
    let copy = Place::new();
    for file in ["store.db", "store.db-wal"] {
        let (from, to) = (place.0.path().join(file), copy.0.path().join(file));
        std::fs::copy(from, to).expect("it can be copied");
    }
    let found = copy.open().find(&Key::Id(watcher.id)).await;
    assert_eq!(found.expect("it answers"), Some(expected));
}

#[tokio::test]
async fn a_claim_that_the_last_process_left_behind_is_due_at_once() {
    let place = Place::new();
    let store = place.open();
    let (watcher, _) = insert(&store, "aaaaaaaa", "One").await;
    act(&store, watcher.id, trigger(), at(61)).await;
    let left = claim_one(&store, at(61), at(1_000)).await;
    store.close().await;
    drop(store);

    let store = place.open();
    let next = store.next_delivery().await.expect("it answers");
    assert!(next.is_some_and(|next| next <= at(62)), "{next:?}");
    let again = claim_one(&store, at(62), at(1_000)).await;
    assert_eq!(again.delivery, left.delivery);
    let stale = store.settle(&left.key, &Outcome::Delivered, at(63)).await;
    assert!(!stale.expect("it answers"), "the old claim holds no longer");
    let held = store.settle(&again.key, &Outcome::Delivered, at(63)).await;
    assert!(held.expect("it answers"));
    let resumed = claim_one(&store, at(63), at(1_000)).await;
    assert_eq!(resumed.delivery.notice.kind.word(), "resumed");
}

#[tokio::test]
async fn a_delivery_that_cannot_be_read_holds_up_no_other() {
    let place = Place::new();
    let store = place.open();
    for (letters, name) in [("aaaaaaaa", "One"), ("bbbbbbbb", "Two")] {
        let (watcher, _) = insert(&store, letters, name).await;
        act(&store, watcher.id, Action::PassDeadline, at(61)).await;
    }
    place.run("UPDATE deliveries SET notice = '{}' WHERE row = 1");
    let claims = store
        .claim(at(61), at(1_000), 10)
        .await
        .expect("it answers");
    let names: Vec<_> = claims
        .iter()
        .map(|claim| claim.delivery.notice.name.as_str())
        .collect();
    assert_eq!(names, ["Two"]);
    assert_eq!(store.census().await.expect("it answers").refused, 1);
    assert_eq!(
        store.next_delivery().await.expect("it answers"),
        Some(at(1_000))
    );
}

#[tokio::test]
async fn what_waits_behind_a_delivery_that_cannot_be_read_is_made() {
    let place = Place::new();
    let store = place.open();
    let (watcher, _) = insert(&store, "aaaaaaaa", "One").await;
    act(&store, watcher.id, trigger(), at(61)).await;
    place.run("UPDATE deliveries SET notice = '{}' WHERE row = 1");
    assert_eq!(
        store
            .claim(at(61), at(1_000), 10)
            .await
            .expect("it answers"),
        vec![]
    );
    let next = claim_one(&store, at(61), at(1_000)).await;
    assert_eq!(next.delivery.notice.kind.word(), "resumed");
}

#[tokio::test]
async fn a_watcher_that_cannot_be_read_is_looked_at_again_when_somebody_may_have_mended_it() {
    let place = Place::new();
    let store = place.open();
    insert(&store, "aaaaaaaa", "One").await;
    for (damage, repair) in [
        (
            "UPDATE watchers SET id = 'BAD'",
            "UPDATE watchers SET id = 'aaaaaaaa'",
        ),
        ("UPDATE timings SET row = 2", "UPDATE timings SET row = 1"),
    ] {
        place.run("UPDATE watchers SET wake = 0");
        place.run(damage);
        assert_eq!(store.overdue(at(61), 10).await.expect("it answers"), vec![]);
        let next = store.next_deadline().await.expect("it answers");
        assert_eq!(next, Some(at(3_661)), "{damage}");
        place.run(repair);
        let overdue = store.overdue(at(3_662), 10).await.expect("it answers");
        assert_eq!(overdue, [id("aaaaaaaa")], "{damage}");
    }
}

#[tokio::test]
async fn a_watcher_of_which_something_cannot_be_read_hides_nobody() {
    let place = Place::new();
    let store = place.open();
    let (torn, _) = insert(&store, "aaaaaaaa", "Torn").await;
    place.run("UPDATE watchers SET recipients = 'nobody'");
    let (other, _) = insert(&store, "bbbbbbbb", "Other").await;
    let pass = async |id| {
        let key = Key::Id(id);
        let passed = store.transact(&key, &Action::PassDeadline, at(61), Detail::Summary);
        passed.await
    };
    let overdue = store.overdue(at(61), 1).await.expect("it answers");
    assert_eq!(overdue, [torn.id]);
    let refused = pass(torn.id).await;
    assert!(
        matches!(refused, Err(TransactError::Store(StoreError::Corrupt(_)))),
        "{refused:?}"
    );
    store
        .set_aside(&torn.id, at(61), at(661))
        .await
        .expect("it answers");
    let overdue = store.overdue(at(61), 1).await.expect("it answers");
    assert_eq!(overdue, [other.id]);
    pass(other.id).await.expect("it can be done");
    let next = store.next_deadline().await.expect("it answers");
    assert_eq!(next, Some(at(661)));

    // Whoever has mended it need not wait for that if he starts the program again.
    store.close().await;
    place.run("UPDATE watchers SET recipients = '[]'");
    let store = place.open();
    let next = store.next_deadline().await.expect("it answers");
    assert_eq!(next, Some(at(60)));
    let overdue = store.overdue(at(62), 1).await.expect("it answers");
    assert_eq!(overdue, [torn.id]);
}

#[tokio::test]
async fn another_name_for_the_file_is_no_way_past_the_one_who_has_it() {
    let place = Place::new();
    let store = place.open();
    let (soft, hard) = (
        place.0.path().join("soft.db"),
        place.0.path().join("hard.db"),
    );
    std::os::unix::fs::symlink(place.path(), &soft).expect("a link");
    std::fs::hard_link(place.path(), &hard).expect("a link");
    for link in [soft, hard] {
        let error = SqliteStore::open(&link, HistoryPolicy::default()).expect_err("it is in use");
        assert!(matches!(error, OpenError::InUse(_)), "{error}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_retry_stays_due_when_it_was_said() {
    let place = Place::new();
    let store = place.open();
    let (watcher, _) = insert(&store, "aaaaaaaa", "One").await;
    act(&store, watcher.id, Action::PassDeadline, at(61)).await;
    let claim = claim_one(&store, at(61), at(90)).await;
    let later = try_again(at(500));
    assert!(
        store
            .settle(&claim.key, &later, at(62))
            .await
            .expect("it answers")
    );
    store.close().await;
    drop(store);

    let store = place.open();
    let next = store.next_delivery().await.expect("it answers");
    assert_eq!(next, Some(at(500)));
    assert_eq!(
        claim_one(&store, at(500), at(600)).await.delivery.attempts,
        1
    );
}

#[tokio::test]
async fn what_became_of_deliveries_is_there_after_it_was_opened_again() {
    let place = Place::new();
    let store = place.open();
    let (watcher, _) = insert(&store, "aaaaaaaa", "One").await;
    act(&store, watcher.id, trigger(), at(61)).await;
    act(&store, watcher.id, trigger(), at(122)).await;
    let refused = Outcome::Refused("no such mailbox".into());
    for (now, outcome) in [
        (at(122), refused),
        (at(123), Outcome::Delivered),
        (at(124), try_again(at(500))),
    ] {
        let claim = claim_one(&store, now, at(200)).await;
        let held = store.settle(&claim.key, &outcome, now.next()).await;
        assert!(held.expect("it answers"));
    }
    let before = store.deliveries(&watcher.id).await.expect("it answers");
    assert_eq!(before.len(), 4);
    store.close().await;
    drop(store);

    let store = place.open();
    let after = store.deliveries(&watcher.id).await.expect("it answers");
    assert_eq!(after, before);
    let deleted = store.delete(&Key::Id(watcher.id)).await;
    assert!(deleted.expect("it answers"));
    assert_eq!(place.count("SELECT count(*) FROM settled"), 0);
}

#[tokio::test]
async fn only_one_can_have_it_open() {
    let place = Place::new();
    let store = place.open();
    insert(&store, "aaaaaaaa", "One").await;
    for _ in 0..3 {
        let second = place.try_open();
        assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
    }
    let found = store.find(&Key::Id(id("aaaaaaaa"))).await;
    assert!(found.expect("the first one still works").is_some());
}

#[tokio::test]
async fn a_closed_store_lets_go_of_the_file() {
    let place = Place::new();
    let closed = place.open();
    insert(&closed, "aaaaaaaa", "One").await;
    closed.close().await;
    let store = place.open();
    insert(&store, "bbbbbbbb", "Two").await;
}

#[tokio::test]
async fn a_dropped_store_has_finished_when_the_next_can_open() {
    let place = Place::new();
    for round in 0_u8..20 {
        let store = loop {
            match place.try_open() {
                Ok(store) => break store,
                Err(OpenError::InUse(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let letters = [b'a' + round; WatcherId::LENGTH];
        let letters = String::from_utf8_lossy(&letters).into_owned();
        insert(&store, &letters, &letters).await;
        // The file of the journal goes with the last connection, and nobody else has one.
        drop(store);
    }
    let store = loop {
        if let Ok(store) = place.try_open() {
            break store;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(store.census().await.expect("it answers").on_time, 20);
}

#[tokio::test]
async fn an_older_schema_is_brought_forward_with_all_that_is_in_it() {
    let place = Place::new();
    place.run(include_str!("../../src/adapters/storage/sqlite/schema.sql"));
    place.run("PRAGMA application_id = 0x4e576368; PRAGMA user_version = 1");
    place.run(
        "INSERT INTO watchers VALUES (1, 'aaaaaaaa', 'job', 'Job', '', 60000, '[\"a@x.example\"]', 1, \
         1426730984885, NULL, NULL, 1426730924885, 1, 1); \
         INSERT INTO events VALUES (1, 1, 1, NULL, 1426730924885, 'Watcher created'); \
         INSERT INTO deliveries VALUES (1, 1, 'a@x.example', \
         '{\"id\":\"6ba7b810-9dad-51d1-80b4-00c04fd430c8\",\"at\":1426730984886,\"name\":\"Job\",\
         \"description\":\"\",\"periodicity\":60000,\"deadline\":1426730984885,\
         \"last_event\":1426730924885,\"resumed\":null}', 0, 1, 1, 1426731984886, NULL); \
         INSERT INTO deliveries VALUES (2, 1, 'b@x.example', 'torn {', 0, 0, 0, NULL, 'unreadable'); \
         INSERT INTO deliveries VALUES (3, 1, 'c@x.example', '{\"at\":\"?\"}', 0, 0, 0, NULL, 'too')",
    );
    let store = place.open();
    assert_eq!(store.last_watch().await.expect("it answers"), None);
    let oldest = store.oldest_notice().await.expect("it answers");
    assert_eq!(oldest, Some(at(60).next()));
    let found = store.find(&Key::Id(id("aaaaaaaa"))).await;
    let found = found.expect("it answers").expect("it is there");
    assert!(found.watcher.state.is_late());
    // It was claimed until far beyond that.
    let claims = store.claim(at(61), at(361), 10).await.expect("it answers");
    assert_eq!(claims.len(), 1);
}

#[tokio::test]
async fn a_database_from_before_there_were_reports_is_brought_forward() {
    let place = Place::new();
    place.run(include_str!("../../src/adapters/storage/sqlite/schema.sql"));
    place.run(include_str!(
        "../../src/adapters/storage/sqlite/schema_2.sql"
    ));
    place.run(include_str!(
        "../../src/adapters/storage/sqlite/schema_3.sql"
    ));
    place.run("PRAGMA application_id = 0x4e576368; PRAGMA user_version = 3");
    place.run(
        "INSERT INTO watchers VALUES (1, 'aaaaaaaa', 'job', 'Job', '', 60000, '[\"a@x.example\"]', 1, \
         1426730984885, NULL, NULL, 1426730924885, 1, 1); \
         INSERT INTO events VALUES (1, 1, 1, NULL, 1426730924885, 'Watcher created'); \
         INSERT INTO deliveries VALUES (1, 1, 'b@x.example', 'torn {', 1, NULL, 'unreadable', NULL); \
         INSERT INTO deliveries VALUES (2, 1, 'a@x.example', \
         '{\"id\":\"6ba7b810-9dad-51d1-80b4-00c04fd430c8\",\"at\":1426730984886,\"name\":\"Job\",\
         \"description\":\"\",\"periodicity\":60000,\"deadline\":1426730984885,\
         \"last_event\":1426730924885,\"resumed\":null}', 2, 1426730994885, NULL, 1426730984886)",
    );
    let store = place.open();
    let mut owed = DeliveryReport {
        told: Told::Late,
        at: at(60).next(),
        deadline: at(60),
        recipient: Recipient::parse("a@x.example").expect("an address"),
        attempts: 2,
        state: DeliveryState::Owed {
            due: Some(at(70)),
            failure: None,
        },
    };
    let reports = store.deliveries(&id("aaaaaaaa")).await;
    assert_eq!(reports.expect("it answers"), [owed.clone()]);
    let claim = claim_one(&store, at(70), at(100)).await;
    let held = store.settle(&claim.key, &Outcome::Delivered, at(71)).await;
    assert!(held.expect("it answers"));
    owed.attempts = 3;
    owed.state = DeliveryState::Delivered { at: at(71) };
    // One that is torn hides no other.
    place.run(
        "INSERT INTO deliveries (watcher, recipient, notice, at, attempts) \
         VALUES (1, 'c@x.example', 'torn {', 1, 0)",
    );
    let reports = store.deliveries(&id("aaaaaaaa")).await;
    assert_eq!(reports.expect("it answers"), [owed]);
    assert_eq!(store.census().await.expect("it answers").refused, 1);
}

#[tokio::test]
async fn a_database_from_before_triggers_had_a_table_of_their_own_is_brought_forward() {
    let place = Place::new();
    for step in [
        include_str!("../../src/adapters/storage/sqlite/schema.sql"),
        include_str!("../../src/adapters/storage/sqlite/schema_2.sql"),
        include_str!("../../src/adapters/storage/sqlite/schema_3.sql"),
        include_str!("../../src/adapters/storage/sqlite/schema_4.sql"),
    ] {
        place.run(step);
    }
    place.run("PRAGMA application_id = 0x4e576368; PRAGMA user_version = 4");
    // Row 30 was given out once, and that watcher deleted; its event waits for the sweep.
    place.run(
        "INSERT INTO watchers VALUES (30, 'zzzzzzzz', 'gone', 'Gone', '', 1000, '[]', 2, NULL, NULL, NULL, 0, 1, 1); \
         DELETE FROM watchers; \
         INSERT INTO watchers VALUES (1, 'aaaaaaaa', 'on-time', 'On Time', 'a', 60000, '[\"a@x.example\"]', 0, \
         1426731004885, NULL, 1426730984885, 1426730944885, 3, 2); \
         INSERT INTO watchers VALUES (2, 'bbbbbbbb', 'late', 'Late', 'b', 1000, '[]', 1, \
         1426730925885, '6ba7b810-9dad-51d1-80b4-00c04fd430c8', NULL, 1426730924885, 2, 1); \
         INSERT INTO watchers VALUES (3, 'cccccccc', 'paused', 'Paused', 'c', 1000, '[]', 2, \
         NULL, NULL, NULL, 1426730924885, 4, 1); \
         INSERT INTO events VALUES (1, 1, 1, NULL, 1426730924885, 'Watcher created'); \
         INSERT INTO events VALUES (2, 2, 1, NULL, 1426730924885, 'Watcher created'); \
         INSERT INTO events VALUES (3, 1, 2, 1, 1426730944885, 'Triggered'); \
         INSERT INTO events VALUES (4, 3, 1, NULL, 1426730924885, 'Watcher created'); \
         INSERT INTO events VALUES (5, 30, 1, NULL, 1426730924885, 'Watcher created')",
    );
    let store = place.open();
    assert_eq!(
        store.next_deadline().await.expect("it answers"),
        Some(at(60))
    );
    let listed = store.list(&Filter::default(), None, 10, Detail::Full).await;
    let listed = listed.expect("it answers");
    let told: Vec<_> = listed
        .iter()
        .map(|Record { watcher, history }| {
            let state = (watcher.state.standing().words(), watcher.state.deadline());
            let every = watcher.periodicity.millis();
            (
                watcher.slug.as_str(),
                state,
                every,
                watcher.last_event,
                history.len(),
            )
        })
        .collect();
    let wanted = [
        ("late", ("late", Some(at(1))), 1_000, at(0), 1),
        ("on-time", ("on time", Some(at(80))), 60_000, at(20), 2),
        ("paused", ("paused", None), 1_000, at(0), 1),
    ];
    assert_eq!(told, wanted);

    for (letters, now, recovered, unpaused) in [
        ("aaaaaaaa", 30, false, false),
        ("bbbbbbbb", 31, true, false),
        ("cccccccc", 32, false, true),
    ] {
        let (key, action) = (Key::Id(id(letters)), trigger());
        let done = store.transact(&key, &action, at(now), Detail::Summary);
        let done = done.await.expect("it can be triggered");
        assert_eq!(
            (done.recovered, done.unpaused),
            (recovered, unpaused),
            "{letters}"
        );
        let found = store.find(&key).await.expect("it answers");
        let events = found.expect("it is there").history;
        assert_eq!(events[0].at, at(now), "{letters}");
        assert!(events.len() > 1, "{letters}");
    }
    // What is left of a deleted watcher becomes nobody else's.
    let expected = insert(&store, "dddddddd", "Another").await;
    let found = store.find(&Key::Id(id("dddddddd"))).await;
    assert_eq!(found.expect("it answers"), Some(expected.into()));
    assert_eq!(place.count("SELECT max(row) FROM watchers"), 31);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let place = Place::new();
    place.open().close().await;
    place.run("PRAGMA user_version = 1000");
    let refused = place.try_open();
    assert!(
        matches!(refused, Err(OpenError::Newer { found: 1_000, .. })),
        "{refused:?}"
    );
    assert_eq!(
        place.count("SELECT user_version FROM pragma_user_version"),
        1_000
    );
}

#[tokio::test]
async fn the_database_of_another_program_is_refused_and_left_as_it_was() {
    for sql in [
        "CREATE TABLE theirs (x)",
        "PRAGMA application_id = 42",
        "PRAGMA user_version = 1",
        "CREATE TABLE watchers (x); PRAGMA application_id = 42; PRAGMA user_version = 1",
    ] {
        let place = Place::new();
        place.run(sql);
        let before = std::fs::read(place.path()).expect("a file");
        let refused = place.try_open();
        assert!(
            matches!(refused, Err(OpenError::Foreign(_))),
            "{sql}: {refused:?}"
        );
        assert_eq!(
            std::fs::read(place.path()).expect("a file"),
            before,
            "{sql}"
        );
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_as_it_was() {
    let place = Place::new();
    let text = "This is no database, however long one looks at it.\n".repeat(100);
    std::fs::write(place.path(), &text).expect("it can be written");
    let error = place.try_open().expect_err("it is refused");
    assert!(matches!(error, OpenError::Database(..)), "{error:?}");
    check_names(&error, &place.path());
    let source = std::error::Error::source(&error).expect("it has a cause");
    assert!(source.to_string().contains("not a database"), "{source}");
    let after = std::fs::read_to_string(place.path()).expect("it can be read");
    assert_eq!(after, text);
}

#[tokio::test]
async fn a_folder_that_is_missing_is_named() {
    let place = Place::new();
    let path = place.0.path().join("missing").join("store.db");
    let error = SqliteStore::open(&path, HistoryPolicy::default()).expect_err("it is refused");
    assert!(matches!(error, OpenError::File(..)), "{error:?}");
    check_names(&error, &path);
    assert!(!path.parent().expect("a folder").exists());

    let error = SqliteStore::open(place.0.path(), HistoryPolicy::default());
    let error = error.expect_err("a folder is no database");
    assert!(matches!(error, OpenError::File(..)), "{error:?}");
}

#[track_caller]
fn check_names(error: &OpenError, path: &Path) {
    let (text, path) = (error.to_string(), path.display().to_string());
    assert!(text.contains(&path), "{text}");
}

#[tokio::test]
async fn nobody_else_can_read_the_files() {
    let place = Place::new();
    let store = place.open();
    insert(&store, "aaaaaaaa", "One").await;
    let mut files = 0;
    for file in std::fs::read_dir(place.0.path()).expect("a folder") {
        let file = file.expect("a file");
        let mode = file.metadata().expect("its facts").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.path().display());
        files += 1;
    }
    assert!(
        files >= 3,
        "the database, its journal and the lock, at least"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shares_a_transaction_that_fails_is_told() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let (watcher, _) = insert(&store, "aaaaaaaa", "One").await;
    place.run(
        "CREATE TRIGGER poison BEFORE INSERT ON events WHEN NEW.text = 'Triggered (poison)' \
         BEGIN SELECT RAISE(ABORT, 'poisoned'); END",
    );
    let tasks = (0..64).map(|number| {
        let store = Arc::clone(&store);
        let said = if number % 8 == 7 { "poison" } else { "fine" };
        let action = Action::Trigger(Comment::parse(said).expect("a comment"));
        tokio::spawn(async move {
            let key = Key::Id(id("aaaaaaaa"));
            let done = store.transact(&key, &action, at(number), Detail::Summary);
            done.await.is_ok()
        })
    });
    let mut kept = 0;
    for task in tasks.collect::<Vec<_>>() {
        kept += usize::from(task.await.expect("it does not panic"));
    }
    assert!(kept <= 56, "{kept} were kept, poison among them");
    place.run("DROP TRIGGER poison");
    let found = act(&store, watcher.id, trigger(), at(100)).await;
    assert_eq!(found.history.len(), kept + 2);
}

/// How many changes each commit had, and how many waited.
#[derive(Default)]
struct Commits(Mutex<Vec<(usize, usize)>>);

impl StoreObserver for Commits {
    fn committed(&self, changes: usize, waiting: usize) {
        self.0.lock().unwrap().push((changes, waiting));
    }

    fn called(&self, _: &'static str, _: Duration) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn the_observer_hears_how_many_changes_share_a_commit() {
    let place = Place::new();
    let commits = Arc::new(Commits::default());
    let observer = Arc::clone(&commits);
    let policy = HistoryPolicy::default();
    let store = SqliteStore::open_observed(&place.path(), policy, observer).expect("it opens");
    let store = Arc::new(store);
    let (watcher, _) = insert(&store, "aaaaaaaa", "Busy").await;
    trigger_often(&store, watcher.id, 1_000).await;
    store.close().await;
    let commits = commits.0.lock().unwrap();
    assert_eq!(
        commits.iter().map(|(changes, _)| changes).sum::<usize>(),
        1_001
    );
    assert!(commits.len() < 1_001, "no two changes have shared a commit");
    assert_eq!(commits.last().map(|(_, waiting)| *waiting), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_begins_anew_while_somebody_writes_on() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let (watcher, _) = insert(&store, "aaaaaaaa", "Busy").await;
    trigger_often(&store, watcher.id, 300_000).await;
    // It would be about 198 MB long by now. It has been long, or others than the thread would have moved it.
    let journal = std::fs::metadata(place.path().with_extension("db-wal")).unwrap();
    let length = journal.len();
    assert!((64 << 20..128 << 20).contains(&length), "{length} bytes");
    store.close().await;
    assert_eq!(place.count("SELECT events FROM timings"), 300_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_bounds_the_events_of_a_busy_watcher() {
    let place = Place::new();
    let store = Arc::new(place.open_with_limit(10));
    let (busy, _) = insert(&store, "aaaaaaaa", "Busy").await;
    let (calm, _) = insert(&store, "bbbbbbbb", "Calm").await;
    let calm = act(&store, calm.id, trigger(), at(1)).await;
    let mut most = 0;
    for _ in 0..4 {
        trigger_often(&store, busy.id, 5_000).await;
        most = most.max(place.count("SELECT count(*) FROM events"));
    }
    assert!(most < 5_000, "there were {most} events of 20,000");

    let expected = act(&store, busy.id, trigger(), at(30_000)).await;
    assert_eq!(expected.history.len(), 10);
    assert!(
        expected
            .history
            .iter()
            .all(|event| event.text == "Triggered")
    );
    for expected in [expected, calm] {
        let found = store.find(&Key::Id(expected.watcher.id)).await;
        assert_eq!(found.expect("it answers"), Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_spares_what_is_kept() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let (quiet, _) = insert(&store, "aaaaaaaa", "Quiet").await;
    for number in 1..150 {
        act(&store, quiet.id, trigger(), at(number)).await;
    }
    let expected = act(&store, quiet.id, trigger(), at(150)).await;
    assert_eq!(expected.history.len(), 151);
    let (busy, _) = insert(&store, "bbbbbbbb", "Busy").await;
    trigger_often(&store, busy.id, 6_000).await;
    let found = store.find(&Key::Id(quiet.id)).await;
    assert_eq!(found.expect("it answers"), Some(expected));
    let found = store.find(&Key::Id(busy.id)).await.expect("it answers");
    assert_eq!(found.expect("it is there").history.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_takes_the_events_of_deleted_watchers() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let (gone, _) = insert(&store, "aaaaaaaa", "Gone").await;
    trigger_often(&store, gone.id, 500).await;
    let (busy, _) = insert(&store, "bbbbbbbb", "Busy").await;
    // The sweep comes past those that are still kept, and follows what arrives.
    trigger_often(&store, busy.id, 5_000).await;
    assert!(store.delete(&Key::Id(gone.id)).await.expect("it answers"));
    let events_of_nobody =
        "SELECT count(*) FROM events WHERE watcher NOT IN (SELECT row FROM watchers)";
    assert_eq!(place.count(events_of_nobody), 501);
    trigger_often(&store, busy.id, 20_000).await;
    assert_eq!(place.count(events_of_nobody), 0);
    let found = store.find(&Key::Id(busy.id)).await.expect("it answers");
    assert_eq!(found.expect("it is there").history.len(), 1_000);
}

/// Every column that a reader understands, and values that are none of ours: whatever stands there, the store
/// answers with what it can read or says that it cannot, and goes on.
#[tokio::test]
async fn rows_of_somebody_else_are_read_or_called_corrupt() {
    const COLUMNS: [(&str, &[&str]); 5] = [
        (
            "watchers",
            &[
                "id",
                "slug",
                "name",
                "description",
                "recipients",
                "state",
                "missed",
                "late_notice",
                "wake",
            ],
        ),
        (
            "timings",
            &["periodicity", "deadline", "last_event", "newest", "events"],
        ),
        ("events", &["watcher", "number", "previous", "at", "text"]),
        (
            "deliveries",
            &[
                "recipient",
                "notice",
                "attempts",
                "due",
                "refused",
                "failure",
            ],
        ),
        (
            "settled",
            &[
                "delivery",
                "recipient",
                "resumed",
                "at",
                "deadline",
                "attempts",
                "settled",
                "refused",
            ],
        ),
    ];
    const VALUES: [&str; 9] = [
        "NULL",
        "-9223372036854775808",
        "9223372036854775807",
        "0",
        "''",
        "CAST(x'ff' AS TEXT)",
        "char(0, 27, 8238)",
        "'[\"\", \"\\u0000\"]'",
        "'{}'",
    ];
    let original = Place::new();
    let store = original.open();
    let (late, _) = insert(&store, "aaaaaaaa", "One").await;
    act(&store, late.id, trigger(), at(61)).await;
    let told = claim_one(&store, at(61), at(90)).await;
    let held = store.settle(&told.key, &Outcome::Delivered, at(61)).await;
    assert!(held.expect("it answers"));
    act(&store, late.id, Action::PassDeadline, at(122)).await;
    insert(&store, "bbbbbbbb", "Two").await;
    store.close().await;
    drop(store);

    let mut corrupt = 0;
    for (table, columns) in COLUMNS {
        for column in columns {
            for value in VALUES {
                let place = Place::new();
                std::fs::copy(original.path(), place.path()).expect("a copy");
                let connection = Connection::open(place.path()).expect("a database");
                let sql = format!("UPDATE OR IGNORE {table} SET {column} = {value}");
                // What the schema itself refuses cannot stand there.
                if connection.execute(&sql, []).is_err() {
                    continue;
                }
                drop(connection);
                corrupt += count_corrupt(&place.open(), late.id, &sql).await;
            }
        }
    }
    assert!(corrupt > 30, "{corrupt}");
    original.run("DELETE FROM timings");
    let corrupt = count_corrupt(&original.open(), late.id, "DELETE FROM timings").await;
    assert!(corrupt > 3, "{corrupt}");
}

/// Asks a store everything, and returns how often it said that something is corrupt; it may say nothing worse.
async fn count_corrupt(store: &SqliteStore, watcher: WatcherId, sql: &str) -> usize {
    let mut corrupt = 0;
    let mut note = |error: Option<StoreError>| match error {
        None => {}
        Some(StoreError::Corrupt(_)) => corrupt += 1,
        Some(error) => panic!("{sql}: {error:?}"),
    };
    let key = Key::Id(watcher);
    note(store.find(&key).await.err());
    let all = Filter::default();
    note(store.list(&all, None, 10, Detail::Full).await.err());
    note(store.next_deadline().await.err());
    note(store.next_delivery().await.err());
    note(store.deliveries(&watcher).await.err());
    match store.claim(at(200), at(300), 10).await {
        Ok(claims) => {
            for claim in claims {
                for outcome in [try_again(at(201)), Outcome::Delivered] {
                    note(store.settle(&claim.key, &outcome, at(201)).await.err());
                }
            }
        }
        Err(error) => note(Some(error)),
    }
    for (action, detail) in [
        (Action::PassDeadline, Detail::Full),
        (trigger(), Detail::Full),
        (trigger(), Detail::Summary),
        (Action::Pause(Comment::default()), Detail::Full),
    ] {
        let done = store.transact(&key, &action, at(202), detail).await;
        if let Err(TransactError::Store(error)) = done {
            note(Some(error));
        }
    }
    note(store.census().await.err());
    // It does not get in the way of others.
    let (other, _) = insert(store, "zzzzzzzz", "Another").await;
    let overdue = store.overdue(at(200), 10).await.expect("it answers");
    assert!(overdue.contains(&other.id), "{sql}: {overdue:?}");
    note(store.ping().await.err());
    store.close().await;
    corrupt
}

/// An expression can be such that looking for it takes long, so it has to be only its own kind that waits.
#[tokio::test]
async fn searches_that_take_long_hold_up_nobody_else() {
    let place = Place::new();
    let store = Arc::new(place.open());
    // Names without a pattern, so that nothing learned of one helps with the next.
    let mut state = 1_u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { 'a' } else { 'c' }
    };
    for number in 0..100_u8 {
        let tens = [number / 10, number % 10].map(|digit| char::from(b'a' + digit));
        let letters = format!("aaaaaa{}{}", tens[0], tens[1]);
        let name: String = (0..240).map(|_| letter()).collect();
        insert(&store, &letters, &format!("{letters}{name}")).await;
    }
    let search = Search::parse("(a|c)*a(a|c){200}x").expect("an expression");
    let filter = Filter {
        search: Some(search),
        ..Filter::default()
    };
    let mut searches = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (store, filter) = (Arc::clone(&store), filter.clone());
        searches.spawn(async move { store.list(&filter, None, 10, Detail::Summary).await });
    }
    // Each gets as far as it can before the others are asked.
    tokio::task::yield_now().await;
    let others = async {
        let found = store.find(&Key::Id(id("aaaaaaaa"))).await;
        assert!(found.expect("it answers").is_some());
        let listed = store.list(&Filter::default(), None, 10, Detail::Full).await;
        assert_eq!(listed.expect("it answers").len(), 10);
        act(&store, id("aaaaaaaa"), trigger(), at(1)).await;
        store.ping().await.expect("it answers");
    };
    tokio::select! {
        biased;
        _ = searches.join_next() => panic!("they waited for a search"),
        () = others => {}
    }
    if let Some(search) = &filter.search {
        search.give_up();
    }
    while let Some(searched) = searches.join_next().await {
        assert_eq!(searched.expect("no panic").expect("it answers"), []);
    }
}
