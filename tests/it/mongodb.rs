//! What only the MongoDB store has: documents of another program, servers that share it, and faults.

mod costs;
mod indexes;

mod away;
mod faults;
mod logins;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::event::EventHandler;
use mongodb::event::command::{CommandEvent, CommandStartedEvent};
use nights_watch::adapters::storage::mongodb::{
    ClientOptions, MongoSettings, MongoStore, OpenError,
};
use nights_watch::domain::{
    Action, Comment, Description, Draft, Filter, HistoryPolicy, Name, Periodicity, Recipient,
    State, Timestamp, Watcher, WatcherId,
};
use nights_watch::ports::{
    Claim, DeliveryReport, DeliveryState, Detail, InsertError, Key, Outcome, Record, StoreError,
    TransactError, WatcherStore,
};

use crate::mongodb_server::{Database, MongoServer, one_who_fails};
use crate::program::{Program, run};
use crate::smtp_server::SmtpServer;
use crate::support::eventually;

/// The instant that is `seconds` after the beginning of each test.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_426_730_924_885).after(Duration::from_secs(seconds))
}

fn date(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.millis())
}

fn id(letters: &str) -> WatcherId {
    WatcherId::parse(letters).expect("letters")
}

fn trigger() -> Action {
    Action::Trigger(Comment::default())
}

async fn empty() -> Database {
    MongoServer::shared().await.database()
}

async fn open(database: &Database) -> Arc<MongoStore> {
    let store = MongoStore::open(&database.settings(), HistoryPolicy::default()).await;
    Arc::new(store.expect("a store"))
}

/// A store that calls itself `app` and tells `hear` of every command that it sends once it is open.
async fn heard(
    database: &Database,
    app: &str,
    hear: impl Fn(CommandEvent) + Send + Sync + 'static,
) -> Arc<MongoStore> {
    let is_open = Arc::new(AtomicBool::new(false));
    let listens = Arc::clone(&is_open);
    let mut options = ClientOptions::parse(database.uri()).await.expect("options");
    options.app_name = Some(app.to_owned());
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if listens.load(Ordering::SeqCst) {
            hear(event);
        }
    }));
    let policy = HistoryPolicy::default();
    let store = MongoStore::with_options(options, database.name(), policy).await;
    is_open.store(true, Ordering::SeqCst);
    Arc::new(store.expect("a store"))
}

fn is_about_watchers(started: &CommandStartedEvent) -> bool {
    started.command.get_str(&started.command_name).ok() == Some("watchers")
}

/// A store that calls itself `app`, and the names of the commands that it has sent about watchers.
async fn watched(database: &Database, app: &str) -> (Arc<MongoStore>, Arc<Mutex<Vec<String>>>) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&sent);
    let hear = move |event| {
        if let CommandEvent::Started(started) = event
            && is_about_watchers(&started)
        {
            list.lock().expect("a list").push(started.command_name);
        }
    };
    (heard(database, app, hear).await, sent)
}

fn taken(sent: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *sent.lock().expect("a list"))
}

/// A new watcher that may be silent for a minute and tells one person.
fn watcher(letters: &str) -> Record {
    let draft = Draft {
        name: Name::parse(&format!("Job {letters}")).expect("a name"),
        description: Description::default(),
        periodicity: Periodicity::from_seconds(60.0).expect("a periodicity"),
        recipients: vec![Recipient::parse("a@x.example").expect("an address")],
        paused: false,
    };
    Watcher::create(id(letters), draft, at(0)).into()
}

async fn insert(store: &MongoStore, letters: &str) -> WatcherId {
    let inserted = store.insert(&watcher(letters)).await;
    inserted.expect("it can be inserted");
    id(letters)
}

async fn act(store: &MongoStore, id: WatcherId, action: Action, now: Timestamp) -> Record {
    let done = store
        .transact(&Key::Id(id), &action, now, Detail::Full)
        .await;
    let done = done.expect("it can be done");
    Record {
        watcher: done.watcher.expect("the watcher"),
        history: done.history,
    }
}

async fn look(store: &MongoStore, id: WatcherId) -> Record {
    let found = store.find(&Key::Id(id)).await.expect("it answers");
    found.expect("it is there")
}

async fn claim(store: &MongoStore, now: Timestamp) -> Vec<Claim> {
    let lease_end = now.after(Duration::from_mins(5));
    store.claim(now, lease_end, 100).await.expect("it answers")
}

// Documents of the reference program.

/// A document as the reference program writes it, with so many events, a minute apart.
fn theirs(letters: &str, events: usize) -> Document {
    let history: Vec<Bson> = (0..events as u64)
        .rev()
        .map(|minute| Bson::Array(vec![date(at(minute * 60)).into(), "Triggered".into()]))
        .collect();
    doc! {
        "id": letters,
        "name": format!("Job {letters}"),
        "slug": format!("job-{letters}"),
        "description": "theirs",
        "periodicity": 60,
        "emails": ["a@x.example", "b@x.example"],
        "late": false,
        "paused": false,
        "deadline": date(at(events as u64 * 60)),
        "history": history,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_the_reference_program_work_at_once() {
    let database = empty().await;
    let watchers = database.watchers().await;
    let late = doc! { "late": true, "periodicity": 60.0 };
    let paused = doc! { "paused": true, "deadline": Bson::Null, "periodicity": 90.5 };
    for (letters, events, other) in [
        ("aaaaaaaa", 1, doc! { "slug": "Job_A" }),
        ("bbbbbbbb", 100, late),
        ("cccccccc", 1_000, paused),
    ] {
        let mut document = theirs(letters, events);
        document.extend(other);
        watchers
            .insert_one(document)
            .await
            .expect("it can be written");
    }
    let store = open(&database).await;

    let found = look(&store, id("aaaaaaaa")).await;
    assert_eq!(found.watcher.state, State::OnTime { deadline: at(60) });
    assert_eq!(found.watcher.recipients.len(), 2);
    assert_eq!(
        store.next_deadline().await.expect("it answers"),
        Some(at(60))
    );
    let overdue = store.overdue(at(61), 10).await.expect("it answers");
    assert_eq!(overdue, [id("aaaaaaaa")]);
    let reported = act(&store, id("aaaaaaaa"), Action::PassDeadline, at(61)).await;
    assert!(reported.watcher.state.is_late());
    let told = claim(&store, at(61)).await;
    assert_eq!(told.len(), 2, "both are told");
    assert!(told.iter().all(|claim| claim.slug.as_str() == "Job_A"));

    let now = at(200_000);
    let done = store
        .transact(&Key::Id(id("bbbbbbbb")), &trigger(), now, Detail::Full)
        .await
        .expect("it can be triggered");
    assert!(done.recovered);
    assert_eq!(done.history.len(), 101);
    assert_eq!(look(&store, id("bbbbbbbb")).await.history, done.history);
    let mut told = claim(&store, now).await;
    told.retain(|claim| claim.key.watcher == id("bbbbbbbb"));
    assert_eq!(told.len(), 2, "both hear that it is back");

    let found = look(&store, id("cccccccc")).await;
    assert_eq!(found.watcher.state, State::Paused);
    assert_eq!(found.watcher.periodicity.millis(), 90_500);
    let back = act(&store, id("cccccccc"), trigger(), at(60_001)).await;
    assert_eq!(back.history.len(), 1_000, "the oldest went");
    assert_eq!(look(&store, id("cccccccc")).await, back);

    // Their fields keep their names and types, and ours stand apart.
    let stored = watchers.find_one(doc! { "id": "cccccccc" }).await;
    let stored = stored.expect("it answers").expect("it is there");
    let mut names: Vec<&str> = stored.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected = [
        "_id",
        "deadline",
        "description",
        "emails",
        "history",
        "id",
        "late",
        "name",
        "nw",
        "paused",
        "periodicity",
        "slug",
    ];
    assert_eq!(names, expected);
    assert_eq!(stored.get_array("history").expect("an array").len(), 1_000);
    assert_eq!(stored.get_f64("periodicity").ok(), Some(90.5));
    assert!(stored.get_datetime("deadline").is_ok());
    act(
        &store,
        id("cccccccc"),
        Action::Pause(Comment::default()),
        at(60_002),
    )
    .await;
    let stored = watchers.find_one(doc! { "id": "cccccccc" }).await;
    let stored = stored.expect("it answers").expect("it is there");
    assert!(!stored.contains_key("deadline"), "{stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_do_not_say_whose_they_are_hide_nobody() {
    let database = empty().await;
    let watchers = database.watchers().await;
    for (letters, events) in [("BAD1", 1), ("BAD2", 1), ("aaaaaaaa", 2)] {
        let document = theirs(letters, events);
        let inserted = watchers.insert_one(document).await;
        inserted.expect("it can be written");
    }
    let store = open(&database).await;
    let overdue = store.overdue(at(121), 1).await.expect("it answers");
    assert_eq!(overdue, [id("aaaaaaaa")]);
    act(&store, id("aaaaaaaa"), Action::PassDeadline, at(121)).await;
    assert_eq!(store.overdue(at(122), 1).await.expect("it answers"), []);
    let next = store.next_deadline().await.expect("it answers");
    assert_eq!(next, Some(at(121 + 3_600)));

    let mended = doc! { "$set": { "id": "bbbbbbbb" } };
    watchers
        .update_one(doc! { "id": "BAD2" }, mended)
        .await
        .expect("it can be written");
    let overdue = store.overdue(at(3_722), 1).await.expect("it answers");
    assert_eq!(overdue, [id("bbbbbbbb")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_which_something_cannot_be_read_hides_nobody() {
    let database = empty().await;
    let watchers = database.watchers().await;
    let mut torn = theirs("aaaaaaaa", 1);
    torn.insert("periodicity", "often");
    let inserted = watchers.insert_many([torn, theirs("bbbbbbbb", 2)]).await;
    inserted.expect("they can be written");
    let store = open(&database).await;
    let next = async || store.next_deadline().await.expect("it answers");
    assert_eq!(next().await, Some(at(60)));
    let overdue = store.overdue(at(121), 1).await.expect("it answers");
    assert_eq!(overdue, [id("aaaaaaaa")]);
    let (torn, pass) = (Key::Id(id("aaaaaaaa")), Action::PassDeadline);
    let refused = store.transact(&torn, &pass, at(121), Detail::Summary).await;
    assert!(
        matches!(refused, Err(TransactError::Store(StoreError::Corrupt(_)))),
        "{refused:?}"
    );
    store
        .set_aside(&id("aaaaaaaa"), at(121), at(721))
        .await
        .expect("it answers");
    assert_eq!(next().await, Some(at(120)));
    let overdue = store.overdue(at(121), 1).await.expect("it answers");
    assert_eq!(overdue, [id("bbbbbbbb")]);
    act(&store, id("bbbbbbbb"), pass, at(121)).await;
    assert_eq!(next().await, Some(at(721)));
    assert_eq!(store.overdue(at(721), 1).await.expect("it answers"), []);
    let overdue = store.overdue(at(722), 1).await.expect("it answers");
    assert_eq!(overdue, [id("aaaaaaaa")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_is_none_hides_no_other() {
    let database = empty().await;
    let watchers = database.watchers().await;
    let mut torn = theirs("aaaaaaaa", 1);
    torn.insert("deadline", vec![date(at(60))]);
    let inserted = watchers.insert_many([torn, theirs("bbbbbbbb", 2)]).await;
    inserted.expect("they can be written");
    let store = open(&database).await;
    let next = store.next_deadline().await.expect("it answers");
    assert_eq!(next, Some(at(120)));
    let overdue = store.overdue(at(121), 10).await.expect("it answers");
    // It is what the last event and the periodicity say.
    assert_eq!(overdue, [id("aaaaaaaa"), id("bbbbbbbb")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_of_other_names_will_do_but_have_to_be_unique() {
    let database = empty().await;
    let indexes = |unique: bool| {
        doc! {
            "createIndexes": "watchers",
            "indexes": [
                { "key": { "id": 1 }, "name": "their_id", "unique": unique },
                { "key": { "slug": 1 }, "name": "their_slug", "unique": true },
            ],
        }
    };
    let client = database.client().await.database(database.name());
    client
        .run_command(indexes(true))
        .await
        .expect("they are made");
    let first = open(&database).await;
    insert(&first, "aaaaaaaa").await;
    let again = open(&database).await;
    let same = watcher("aaaaaaaa");
    let taken = again.insert(&same).await;
    assert!(matches!(taken, Err(InsertError::IdTaken)), "{taken:?}");

    let other = empty().await;
    let client = other.client().await.database(other.name());
    client
        .run_command(indexes(false))
        .await
        .expect("they are made");
    // Some servers take a unique index beside theirs, others do not.
    match MongoStore::open(&other.settings(), HistoryPolicy::default()).await {
        Ok(store) => {
            insert(&store, "aaaaaaaa").await;
            let taken = store.insert(&same).await;
            assert!(matches!(taken, Err(InsertError::IdTaken)), "{taken:?}");
        }
        Err(refused) => assert!(matches!(refused, OpenError::NotUnique("id")), "{refused}"),
    }
}

// Round trips.

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_is_two_round_trips() {
    let database = empty().await;
    let (store, sent) = watched(&database, "two-trips").await;
    let id = insert(&store, "aaaaaaaa").await;
    assert_eq!(taken(&sent), ["insert"]);
    for (now, detail) in [
        (1, Detail::Summary),
        (2, Detail::Full),
        (100, Detail::Summary),
    ] {
        let done = store
            .transact(&Key::Id(id), &trigger(), at(now), detail)
            .await;
        done.expect("it can be triggered");
        assert_eq!(taken(&sent), ["find", "update"], "at {now}");
    }
    let (key, nothing) = (Key::Id(id), Action::PassDeadline);
    let nothing = store.transact(&key, &nothing, at(101), Detail::Summary);
    nothing.await.expect("it can be done");
    assert_eq!(taken(&sent), ["find"]);
}

// Several servers.

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_tell_everything_once() {
    let database = empty().await;
    let stores = [open(&database).await, open(&database).await];
    let ids: Vec<WatcherId> = ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"]
        .map(id)
        .to_vec();
    for (number, letters) in ids.iter().enumerate() {
        insert(&stores[number % 2], letters.as_str()).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for store in &stores {
        let (store, ids) = (Arc::clone(store), ids.clone());
        tasks.spawn(async move {
            let mut notices = 0;
            for id in ids {
                for action in [Action::PassDeadline, trigger()] {
                    let done = store
                        .transact(&Key::Id(id), &action, at(61), Detail::Summary)
                        .await;
                    notices += done.expect("it can be done").notices.len();
                }
            }
            let mut told = Vec::new();
            loop {
                let claims = claim(&store, at(62)).await;
                if claims.is_empty() {
                    return (notices, told);
                }
                for claim in claims {
                    let held = store.settle(&claim.key, &Outcome::Delivered, at(62)).await;
                    assert!(held.expect("it answers"));
                    told.push((claim.key.watcher, claim.delivery.notice.kind.word()));
                }
            }
        });
    }
    let (mut notices, mut told) = (0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (some, those) = done.expect("it does not panic");
        notices += some;
        told.extend(those);
    }
    for claim in claim(&stores[0], at(63)).await {
        told.push((claim.key.watcher, claim.delivery.notice.kind.word()));
    }
    told.sort_unstable();
    let mut expected: Vec<_> = ids
        .iter()
        .flat_map(|id| [(*id, "late"), (*id, "resumed")])
        .collect();
    expected.sort_unstable();
    assert_eq!((notices, told), (8, expected));
    for id in ids {
        assert_eq!(look(&stores[0], id).await.history.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_server_was_delivering_is_due_again_within_seconds() {
    let database = empty().await;
    let (dying, living) = (open(&database).await, open(&database).await);
    let watcher = insert(&dying, "aaaaaaaa").await;
    act(&dying, watcher, Action::PassDeadline, at(61)).await;
    let left = claim(&dying, at(61)).await.remove(0);
    assert_eq!(claim(&living, at(62)).await, [], "it is claimed");
    let begin = Instant::now();
    // Without a last word, as by a kill.
    drop(dying);
    let mut again = Vec::new();
    eventually(async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        again = claim(&living, at(62)).await;
        !again.is_empty()
    })
    .await;
    assert!(
        begin.elapsed() > Duration::from_secs(4),
        "it was not given a chance"
    );
    assert_eq!(again[0].delivery, left.delivery);
    let stale = living.settle(&left.key, &Outcome::Delivered, at(63)).await;
    assert!(!stale.expect("it answers"));
    let held = living
        .settle(&again[0].key, &Outcome::Delivered, at(63))
        .await;
    assert!(held.expect("it answers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_closed_leaves_its_claims_to_the_others() {
    let database = empty().await;
    let (leaving, staying) = (open(&database).await, open(&database).await);
    let watcher = insert(&leaving, "aaaaaaaa").await;
    act(&leaving, watcher, Action::PassDeadline, at(61)).await;
    assert_eq!(claim(&leaving, at(61)).await.len(), 1);
    leaving.close().await;
    assert_eq!(claim(&staying, at(62)).await.len(), 1);
}

// Faults.

fn write_concern_error(code: i32) -> Document {
    doc! { "writeConcernError": { "code": code, "errmsg": "injected" } }
}

/// Every way in which a command fails once or twice, and then works again.
fn passing_faults() -> Vec<(&'static str, i32, Document)> {
    let mut faults = vec![
        ("closed once", 1, doc! { "closeConnection": true }),
        ("closed twice", 2, doc! { "closeConnection": true }),
    ];
    for code in [91, 11_602] {
        for times in [1, 2] {
            let labels = ["RetryableWriteError"];
            let fault = doc! { "errorCode": code, "errorLabels": labels };
            faults.push(("not the primary", times, fault));
        }
        faults.push(("not the majority's", 1, write_concern_error(code)));
    }
    faults.push(("not the majority's in time", 1, write_concern_error(64)));
    faults.push((
        "slow",
        1,
        doc! { "blockConnection": true, "blockTimeMS": 3_500 },
    ));
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_survives_faults_that_pass() {
    let database = empty().await;
    let _one = one_who_fails().await;
    let app = "passing-faults";
    let (store, _) = watched(&database, app).await;
    let mut number = 0_u8;
    for (what, times, fault) in passing_faults() {
        for command in ["find", "update", "insert", "delete", "aggregate"] {
            let is_read = matches!(command, "find" | "aggregate");
            // These concern only what changes something.
            let is_of_writes = ["writeConcernError", "blockConnection"];
            if is_read && is_of_writes.iter().any(|what| fault.contains_key(what)) {
                continue;
            }
            let case = format!("{what}, {times} times: {command}");
            let letters = format!(
                "aaaaaa{}{}",
                char::from(b'a' + number / 26),
                char::from(b'a' + number % 26)
            );
            number += 1;
            let mut rule = fault.clone();
            rule.insert("failCommands", [command]);
            let arm = async || {
                database
                    .fail(app, doc! { "times": times }, rule.clone())
                    .await;
            };

            arm().await;
            let watcher = insert(&store, &letters).await;
            arm().await;
            let late = act(&store, watcher, trigger(), at(100)).await;
            assert_eq!(late.history.len(), 2, "{case}");
            arm().await;
            let claims = claim(&store, at(100)).await;
            assert_eq!(claims.len(), 1, "{case}");
            arm().await;
            let held = store
                .settle(&claims[0].key, &Outcome::Delivered, at(101))
                .await;
            assert!(held.expect("it answers"), "{case}");
            arm().await;
            let reports = store.deliveries(&watcher).await.expect("it answers");
            let is_delivered =
                |report: &DeliveryReport| matches!(report.state, DeliveryState::Delivered { .. });
            assert_eq!(
                reports.iter().map(is_delivered).collect::<Vec<_>>(),
                [false, true],
                "{case}: {reports:?}"
            );
            arm().await;
            let census = store.census().await.expect("it answers");
            assert_eq!((census.on_time, census.owed), (1, 1), "{case}");
            arm().await;
            assert_eq!(look(&store, watcher).await, late, "{case}");
            arm().await;
            assert!(
                store.delete(&Key::Id(watcher)).await.expect("it answers"),
                "{case}"
            );
            database.fail_no_more().await;
            let left = store
                .list(&Filter::default(), None, 10, Detail::Summary)
                .await;
            assert_eq!(left.expect("it answers"), [], "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_that_stay_are_said_within_seconds_and_change_nothing() {
    let database = empty().await;
    let _one = one_who_fails().await;
    let app = "staying-faults";
    let (store, _) = watched(&database, app).await;
    let watcher = insert(&store, "aaaaaaaa").await;
    let before = look(&store, watcher).await;
    for fault in [
        doc! { "closeConnection": true },
        doc! { "errorCode": 91 },
        doc! { "blockConnection": true, "blockTimeMS": 20_000 },
    ] {
        let mut rule = fault.clone();
        rule.insert("failCommands", ["find", "insert", "delete", "aggregate"]);
        database.fail(app, "alwaysOn", rule).await;
        let begin = Instant::now();
        let (key, action) = (Key::Id(watcher), trigger());
        let done = store.transact(&key, &action, at(1), Detail::Summary);
        let ping = store.ping();
        let (done, ping) = tokio::join!(done, ping);
        let unavailable = matches!(done, Err(TransactError::Store(StoreError::Unavailable(_))));
        assert!(unavailable, "{fault}: {done:?}");
        assert!(ping.is_err(), "{fault}");
        assert!(
            begin.elapsed() < Duration::from_secs(8),
            "{fault}: {:?}",
            begin.elapsed()
        );
        database.fail_no_more().await;
        assert_eq!(look(&store, watcher).await, before, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_made_unknown_to_anybody_is_let_go() {
    let database = empty().await;
    let _one = one_who_fails().await;
    let app = "unknown-claim";
    let (store, _) = watched(&database, app).await;
    let watcher = insert(&store, "aaaaaaaa").await;
    act(&store, watcher, Action::PassDeadline, at(61)).await;
    let mut rule = write_concern_error(91);
    rule.insert("failCommands", ["update"]);
    database.fail(app, "alwaysOn", rule).await;
    let lost = store.claim(at(61), at(361), 1).await;
    assert!(
        matches!(lost, Err(StoreError::OutcomeUnknown(_))),
        "{lost:?}"
    );
    database.fail_no_more().await;

    let mut again = Vec::new();
    eventually(async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        again = claim(&store, at(62)).await;
        !again.is_empty()
    })
    .await;
    let held = store
        .settle(&again[0].key, &Outcome::Delivered, at(62))
        .await;
    assert!(held.expect("it answers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_would_be_too_large_loses_its_oldest_events_only() {
    const TOO_LARGE: i32 = 10_334;
    let database = empty().await;
    let _one = one_who_fails().await;
    let app = "too-large";
    let (store, _) = watched(&database, app).await;
    let document = theirs("aaaaaaaa", 1_000);
    let written = database.watchers().await.insert_one(document).await;
    written.expect("it can be written");
    // Three times: its history is halved as often.
    let rule = doc! { "failCommands": ["update"], "errorCode": TOO_LARGE };
    database.fail(app, doc! { "times": 3 }, rule).await;
    let late = act(&store, id("aaaaaaaa"), Action::PassDeadline, at(60_001)).await;
    database.fail_no_more().await;
    assert!(late.watcher.state.is_late());
    let left = look(&store, id("aaaaaaaa")).await.history;
    assert_eq!(left.len(), 125);
    assert_eq!(left[0].at, at(999 * 60));
    assert_eq!(claim(&store, at(60_001)).await.len(), 2, "both are told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_without_room_for_reports_is_settled_all_the_same() {
    const TOO_LARGE: i32 = 10_334;
    let database = empty().await;
    let _one = one_who_fails().await;
    let app = "no-room";
    let (store, _) = watched(&database, app).await;
    let watcher = insert(&store, "aaaaaaaa").await;
    act(&store, watcher, Action::PassDeadline, at(61)).await;
    let away = Outcome::TryAgain {
        at: at(62),
        reason: "away".into(),
    };
    for (now, outcome, left) in [(at(61), away, 1), (at(62), Outcome::Delivered, 0)] {
        let claimed = claim(&store, now).await.remove(0);
        let rule = doc! { "failCommands": ["update"], "errorCode": TOO_LARGE };
        database.fail(app, doc! { "times": 1 }, rule).await;
        let held = store.settle(&claimed.key, &outcome, now).await;
        database.fail_no_more().await;
        assert!(held.expect("it answers"));
        assert_eq!(store.census().await.expect("it answers").owed, left);
        let reports = store.deliveries(&watcher).await.expect("it answers");
        assert_eq!(reports.len() as u64, left, "what is owed is always there");
        for report in reports {
            let without = DeliveryState::Owed {
                due: Some(at(62)),
                failure: None,
            };
            assert_eq!((report.state, report.attempts), (without, 1));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_release_owes_is_made_without_a_report() {
    let database = empty().await;
    let store = open(&database).await;
    let watcher = insert(&store, "aaaaaaaa").await;
    act(&store, watcher, trigger(), at(61)).await;
    let earlier = doc! { "nw.owed.$[].deadline": "", "nw.owed.$[].resumed": "" };
    let watchers = database.watchers().await;
    let updated = watchers.update_one(doc! {}, doc! { "$unset": earlier });
    updated.await.expect("it can be written");
    for number in 0..2 {
        let claims = claim(&store, at(62 + number)).await;
        assert_eq!(claims.len(), 1, "it is made");
        let held = store.settle(&claims[0].key, &Outcome::Delivered, at(62 + number));
        assert!(held.await.expect("it answers"));
        assert_eq!(store.deliveries(&watcher).await.expect("it answers"), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_does_not_hold_up_the_others() {
    let database = empty().await;
    let store = open(&database).await;
    let watcher = insert(&store, "aaaaaaaa").await;
    act(&store, watcher, Action::PassDeadline, at(61)).await;
    let mut odd = theirs("NOT ONE", 1);
    odd.insert("nw", doc! { "rev": 1, "due": date(at(1)) });
    let written = database.watchers().await.insert_one(odd).await;
    written.expect("it can be written");
    let lease_end = at(361);
    let claims = store.claim(at(61), lease_end, 1).await.expect("it answers");
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].key.watcher, watcher);
    let next = store.next_delivery().await.expect("it answers");
    assert_eq!(next, Some(lease_end), "it was set aside");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_owed_is_told_although_the_slug_cannot_be_read() {
    let database = empty().await;
    let store = open(&database).await;
    let watcher = insert(&store, "aaaaaaaa").await;
    act(&store, watcher, Action::PassDeadline, at(61)).await;
    let watchers = database.watchers().await;
    let updated = watchers.update_one(doc! {}, doc! { "$set": { "slug": 1 } });
    updated.await.expect("it can be written");
    let claims = claim(&store, at(61)).await;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].slug.as_str(), "");
}

// Settings.

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_are_said_in_one_line() {
    let database = empty().await;
    let good = database.settings();
    let with = |option: &str, value: &str| MongoSettings {
        options: BTreeMap::from([(option.to_owned(), value.into())]),
        ..good.clone()
    };
    let nameless = MongoSettings {
        database: None,
        ..good.clone()
    };
    let login = MongoSettings {
        username: Some("j:o/n@x".to_owned()),
        password: Some("p%#@ :/?ss".into()),
        ..good.clone()
    };
    for (settings, expected) in [
        (with("frobnicate", "1"), "frobnicate is an invalid option"),
        (nameless, "database is missing: the name of the database"),
        (login, "the database cannot be used"),
    ] {
        let refused = MongoStore::open(&settings, HistoryPolicy::default()).await;
        let refused = refused.expect_err(expected).to_string();
        assert_eq!(refused, expected);
    }
}

// The program.

fn settings_of(database: &Database, mail_port: u16) -> String {
    format!(
        "[mongodb]\nhosts = {}\ndatabase = {}\nusername =\npassword =\n\
         [email]\nsender = watch@example.org\nhost = 127.0.0.1\nport = {mail_port}\n",
        database.uri(),
        database.name(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_move_from_sqlite_with_their_trigger_urls() {
    let (database, mails) = (empty().await, SmtpServer::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let email = format!(
        "[email]\nsender = watch@example.org\nhost = 127.0.0.1\nport = {}\n",
        mails.port()
    );
    let before = Program::start(folder.path(), &email).await;
    let quick = before.create("Quick", "0.5", &["ops@example.org"]).await;
    let slow = before.create("Slow", "3600", &["ops@example.org"]).await;
    before
        .done("pause", &[("id", &slow), ("comment", "moving")])
        .await;
    let late = mails.next_message().await;
    let all = before.done("list", &[("verbose", "true")]).await;
    assert!(before.stop().await.success());

    let settings = settings_of(&database, mails.port());
    std::fs::write(folder.path().join("nights-watch.ini"), &settings).expect("it can be written");
    for said in [
        "2 watchers copied, 0 were there already\n",
        "0 watchers copied, 2 were there already\n",
    ] {
        let moved = run(folder.path(), &["import", "nights-watch.db"]).await;
        assert_eq!(String::from_utf8_lossy(&moved.stdout), said, "{moved:?}");
        assert!(moved.status.success());
    }
    let after = Program::start(folder.path(), &settings).await;
    assert_eq!(after.done("list", &[("verbose", "true")]).await, all);
    assert_eq!(
        after.done("trigger", &[("id", &quick)]).await["recovered"],
        true
    );
    let resumed = mails.next_message().await;
    assert_eq!(resumed.header("References"), late.header("Message-ID"));
    assert!(after.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_killed_is_replaced_by_another() {
    let (database, mails) = (empty().await, SmtpServer::start().await);
    let settings = settings_of(&database, mails.port());
    let folders =
        [tempfile::tempdir(), tempfile::tempdir()].map(|folder| folder.expect("a folder"));
    let first = Program::start(folders[0].path(), &settings).await;
    let second = Program::start(folders[1].path(), &settings).await;
    let mut expected = Vec::new();
    for number in 0..5 {
        let name = format!("Job {number}");
        first.create(&name, "3", &["ops@example.org"]).await;
        expected.push(format!("[LATE] {name} has not reported"));
    }
    let listed = second.done("list", &[("verbose", "true")]).await;
    let deadline = listed["watchers"][4]["deadline"]
        .as_str()
        .expect("a deadline")
        .to_owned();
    assert_eq!(listed["watchers"].as_array().map(Vec::len), Some(5));
    first.kill().await;

    let mut told = Vec::new();
    let mut latest: f64 = 0.0;
    for _ in 0..5 {
        let mail = mails.next_message().await;
        told.push(mail.header("Subject").expect("a subject"));
        latest = latest.max(mail.at);
    }
    told.sort();
    assert_eq!(told, expected);
    let deadline = chrono::DateTime::parse_from_rfc3339(&deadline).expect("a date");
    let late_by = latest - deadline.timestamp_millis() as f64 / 1_000.0;
    println!("the last notice came {late_by:.3} s after the last deadline");
    assert!(
        late_by < 5.0,
        "the last notice came {late_by} s after the last deadline"
    );

    let answer = second.done("trigger", &[("name", "Job 3")]).await;
    assert_eq!(answer["recovered"], true);
    let resumed = mails.next_message().await;
    let subject = resumed.header("Subject").expect("a subject");
    assert_eq!(subject, "[RESUMED] Job 3 is reporting again");
    assert!(mails.try_mail().is_none(), "somebody was told twice");
    assert!(second.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_one_line_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = "[mongodb]\nhosts = mongodb://jon:hush@127.0.0.1:1/?serverSelectionTimeoutMS=200\ndatabase = d\n";
    std::fs::write(folder.path().join("nights-watch.ini"), settings).expect("it can be written");
    let output = run(folder.path(), &["--host", "127.0.0.1", "--port", "0"]).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said: Vec<&str> = said.lines().filter(|line| !line.contains("WARN")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    let line = "nights-watch: [mongodb]: the database cannot be used: ";
    assert!(said[0].starts_with(line), "{said:?}");
    assert!(!said[0].contains("hush"), "{said:?}");
}
