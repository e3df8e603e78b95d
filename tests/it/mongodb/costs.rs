//! What a trigger costs, whatever else there is.

use std::sync::{Arc, Mutex};

use mongodb::bson::doc;
use mongodb::event::command::CommandEvent;
use nights_watch::domain::Timestamp;
use nights_watch::ports::{Detail, Key, WatcherStore};

use super::{MongoStore, at, date, empty, heard, id, theirs, trigger};

/// Commands, bytes in them, and bytes in their answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    commands: usize,
    sent: usize,
    received: usize,
}

impl Cost {
    /// Whether both are the same but for a few bytes.
    fn is_like(self, other: Self) -> bool {
        self.commands == other.commands
            && self.sent.abs_diff(other.sent) < 64
            && self.received.abs_diff(other.received) < 64
    }
}

fn bytes(document: &mongodb::bson::Document) -> usize {
    document.to_vec().expect("it can be encoded").len()
}

/// Adds what `event` shows to the cost, if it concerns watchers.
fn note(cost: &Mutex<(Cost, Vec<i32>)>, event: CommandEvent) {
    let mut cost = cost.lock().expect("a cost");
    let (sum, awaited) = &mut *cost;
    match event {
        CommandEvent::Started(started) if super::is_about_watchers(&started) => {
            sum.commands += 1;
            sum.sent += bytes(&started.command);
            awaited.push(started.request_id);
        }
        CommandEvent::Succeeded(answered) if awaited.contains(&answered.request_id) => {
            sum.received += bytes(&answered.reply);
        }
        _ => {}
    }
}

async fn trigger_at(store: &MongoStore, letters: &str, now: Timestamp) {
    let done = store
        .transact(&Key::Id(id(letters)), &trigger(), now, Detail::Summary)
        .await;
    let done = done.expect("it can be triggered");
    assert!(!done.change.recovered, "it was late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_costs_the_same_whatever_there_is() {
    /// How often a watcher is triggered until it remembers as much as it ever will.
    const FIRST: u64 = 40;
    let database = empty().await;
    let watchers = database.watchers().await;
    for (letters, events) in [("aaaaaaaa", 10), ("bbbbbbbb", 1_000)] {
        let mut document = theirs(letters, events);
        document.insert("deadline", date(at(200_000)));
        watchers.insert_one(document).await.expect("it is written");
    }
    let others = async |numbers: std::ops::Range<u8>, each: char| {
        let other = |number: u8| {
            let letters = [b'a' + number / 26, b'a' + number % 26];
            let letters = String::from_utf8_lossy(&letters).into_owned();
            theirs(&format!("cccc{each}{each}{letters}"), 3)
        };
        let written = watchers.insert_many(numbers.map(other)).await;
        written.expect("they are written");
    };
    others(0..5, 'a').await;
    let cost: Arc<Mutex<(Cost, Vec<i32>)>> = Arc::default();
    let noted = Arc::clone(&cost);
    let store = heard(&database, "costs", move |event| note(&noted, event)).await;
    let mut now = 60_000;
    let mut cost_of = async |letters: &str| {
        now += 1;
        *cost.lock().expect("a cost") = <_>::default();
        trigger_at(&store, letters, at(now)).await;
        cost.lock().expect("a cost").0
    };
    for _ in 0..FIRST {
        for letters in ["aaaaaaaa", "bbbbbbbb"] {
            cost_of(letters).await;
        }
    }
    let small = cost_of("aaaaaaaa").await;
    let long = cost_of("bbbbbbbb").await;
    for each in ['b', 'c', 'd'] {
        others(0..165, each).await;
    }
    let among_many = cost_of("aaaaaaaa").await;
    println!("{small:?}, with a long history {long:?}, among many {among_many:?}");
    assert_eq!(small.commands, 2);
    assert!(small.sent > 0 && small.received > 0, "{small:?}");
    assert!(small.is_like(long), "{small:?}, {long:?}");
    assert!(small.is_like(among_many), "{small:?}, {among_many:?}");
}
