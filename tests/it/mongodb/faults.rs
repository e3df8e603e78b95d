//! Faults beyond those that every command meets: at the start, of reads that are slow, and of changes.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use nights_watch::adapters::storage::mongodb::{MongoSettings, MongoStore, OpenError};
use nights_watch::domain::{Action, Filter, HistoryPolicy};
use nights_watch::ports::{
    Detail, InsertError, Key, Outcome, StoreError, TransactError, WatcherStore,
};

use super::{
    Database, act, at, claim, empty, id, insert, look, trigger, watcher, write_concern_error,
};
use crate::mongodb_server::one_who_fails;

/// How soon a call has to say that it cannot be done.
const PROMPT: Duration = Duration::from_secs(8);

/// The settings of a store that calls itself `app`.
fn settings(database: &Database, app: &str) -> MongoSettings {
    let mut settings = database.settings();
    settings.options.insert("appName".to_owned(), app.into());
    settings
}

async fn open(database: &Database, app: &str) -> MongoStore {
    let store = MongoStore::open(&settings(database, app), HistoryPolicy::default()).await;
    store.expect("a store")
}

/// `fault`, for these commands.
fn rule(fault: &Document, commands: &[&str]) -> Document {
    let mut rule = fault.clone();
    rule.insert("failCommands", commands);
    rule
}

/// A code that says that the server is no primary now, or stops being one.
fn code(code: i32) -> Document {
    doc! { "errorCode": code, "errorLabels": ["RetryableWriteError"] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_opens_after_faults_that_pass() {
    let _one = one_who_fails().await;
    let app = "opening";
    let closing = doc! { "closeConnection": true };
    let database = empty().await;
    let settings = settings(&database, app);
    for (fault, times) in [
        (closing.clone(), 1),
        (closing, 2),
        (code(91), 2),
        (code(189), 2),
        (code(11_602), 2),
        (write_concern_error(64), 1),
    ] {
        for command in ["find", "createIndexes", "listIndexes", "update"] {
            let is_read = matches!(command, "find" | "listIndexes");
            if is_read && fault.contains_key("writeConcernError") {
                continue;
            }
            // Indexes of other names are looked at.
            let watchers = database.watchers().await;
            watchers.drop().await.expect("it goes");
            let theirs = doc! {
                "createIndexes": "watchers",
                "indexes": [{ "key": { "id": 1 }, "name": "their_id", "unique": true }],
            };
            let handle = database.client().await.database(database.name());
            handle.run_command(theirs).await.expect("it is made");
            database
                .fail(app, doc! { "times": times }, rule(&fault, &[command]))
                .await;
            let opened = MongoStore::open(&settings, HistoryPolicy::default()).await;
            database.fail_no_more().await;
            let store = opened.unwrap_or_else(|error| panic!("{fault}, {command}: {error:?}"));
            let indexes = watchers.list_index_names().await.expect("they are listed");
            assert_eq!(indexes.len(), 9, "{fault}, {command}: {indexes:?}");
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_at_the_start_that_stay_are_said_within_seconds() {
    let database = empty().await;
    let _one = one_who_fails().await;
    let app = "not-opening";
    let forbidden = doc! { "errorCode": 13 };
    let closing = doc! { "closeConnection": true };
    let (unusable, index) = (
        "the database cannot be used",
        "the index id of the collection watchers cannot be made",
    );
    for (fault, command, expected) in [
        (&forbidden, "find", unusable),
        (&forbidden, "createIndexes", index),
        (&forbidden, "update", unusable),
        (&closing, "createIndexes", index),
        (&closing, "update", unusable),
    ] {
        database
            .fail(app, "alwaysOn", rule(fault, &[command]))
            .await;
        let begin = Instant::now();
        let opened = MongoStore::open(&settings(&database, app), HistoryPolicy::default()).await;
        database.fail_no_more().await;
        let refused: OpenError = opened.expect_err("it cannot be opened");
        assert_eq!(refused.to_string(), expected, "{fault}, {command}");
        let took = begin.elapsed();
        println!("{fault}, {command}: {took:?}");
        assert!(
            took < Duration::from_secs(20),
            "{fault}, {command}: {took:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_asked_again_if_the_server_is_slow_once() {
    let database = empty().await;
    let _one = one_who_fails().await;
    let app = "slow-reads";
    let store = open(&database, app).await;
    let watcher = insert(&store, "aaaaaaaa").await;
    let late = act(&store, watcher, Action::PassDeadline, at(61)).await;
    let slow = doc! { "blockConnection": true, "blockTimeMS": 3_500 };
    // All at a time, and for each a command that is slow; the census asks five questions.
    let slow = rule(&slow, &["find", "aggregate"]);
    database.fail(app, doc! { "times": 11 }, slow).await;
    let begin = Instant::now();
    let key = Key::Id(watcher);
    let everything = Filter::default();
    let (found, list, deadline, overdue, delivery, census, ping) = tokio::join!(
        store.find(&key),
        store.list(&everything, None, 10, Detail::Full),
        store.next_deadline(),
        store.overdue(at(61), 10),
        store.next_delivery(),
        store.census(),
        store.ping(),
    );
    assert_eq!(found.expect("it answers"), Some(late.clone()));
    assert_eq!(list.expect("it answers"), [late]);
    assert_eq!(deadline.expect("it answers"), None);
    assert_eq!(overdue.expect("it answers"), []);
    assert_eq!(delivery.expect("it answers"), Some(at(61)));
    let census = census.expect("it answers");
    assert_eq!((census.late, census.owed), (1, 1));
    ping.expect("it answers");
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(3), "nothing was slow: {took:?}");
    assert!(took < PROMPT, "{took:?}");
    database.fail_no_more().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_cannot_be_written_are_said_within_seconds() {
    let database = empty().await;
    let _one = one_who_fails().await;
    let app = "no-changes";
    let store = open(&database, app).await;
    let owing = insert(&store, "aaaaaaaa").await;
    act(&store, owing, Action::PassDeadline, at(61)).await;
    let held = claim(&store, at(61)).await.remove(0);
    let due = insert(&store, "bbbbbbbb").await;
    act(&store, due, Action::PassDeadline, at(61)).await;
    let changed = insert(&store, "cccccccc").await;
    let before = look(&store, changed).await;
    let unavailable = |error: &StoreError| {
        matches!(
            error,
            StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)
        )
    };
    for fault in [
        doc! { "closeConnection": true },
        code(91),
        code(189),
        code(11_602),
        doc! { "blockConnection": true, "blockTimeMS": 20_000 },
    ] {
        let rule = rule(&fault, &["update", "insert", "delete"]);
        database.fail(app, "alwaysOn", rule).await;
        let begin = Instant::now();
        let new = watcher("dddddddd");
        let (key, action, unwanted) = (Key::Id(changed), trigger(), Key::Id(due));
        let (acted, settled, claimed, inserted, deleted, ping) = tokio::join!(
            store.transact(&key, &action, at(1), Detail::Summary),
            store.settle(&held.key, &Outcome::Delivered, at(62)),
            store.claim(at(62), at(99), 10),
            store.insert(&new),
            store.delete(&unwanted),
            store.ping(),
        );
        let took = begin.elapsed();
        database.fail_no_more().await;
        println!("{fault}: {took:?}");
        assert!(took < PROMPT, "{fault}: {took:?}");
        let Err(TransactError::Store(error)) = acted else {
            panic!("{fault}: {acted:?}")
        };
        assert!(unavailable(&error), "{fault}: {error:?}");
        let Err(InsertError::Store(error)) = inserted else {
            panic!("{fault}: {inserted:?}")
        };
        assert!(unavailable(&error), "{fault}: {error:?}");
        for error in [settled.err(), claimed.err(), deleted.err(), ping.err()] {
            let error = error.unwrap_or_else(|| panic!("{fault}: it was done"));
            assert!(unavailable(&error), "{fault}: {error:?}");
        }
        assert_eq!(look(&store, changed).await, before, "{fault}");
        let found = store.find(&Key::Id(id("dddddddd"))).await;
        assert_eq!(found.expect("it answers"), None, "{fault}");
    }
    let held = store.settle(&held.key, &Outcome::Delivered, at(63)).await;
    assert!(held.expect("it answers"));
    assert_eq!(claim(&store, at(63)).await.len(), 1);
}
