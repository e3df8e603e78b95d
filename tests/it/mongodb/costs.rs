//! What a trigger costs, and what the loops ask, whatever else there is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use mongodb::event::command::{CommandEvent, CommandStartedEvent};
use nights_watch::domain::{Action, Comment, Filter, Notice, Slug, Timestamp};
use nights_watch::ports::{DeliveryReport, Detail, Key, Outcome, Reason, Transacted, WatcherStore};

use super::{Database, MongoStore, at, date, empty, heard, id, is_about_watchers, theirs, trigger};

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

/// Whether a command concerns watchers or says that they are watched: a server also says that it lives.
fn counts(started: &CommandStartedEvent) -> bool {
    let goes_on = started.command.get_str("collection").ok() == Some("watchers");
    let updates = started.command.get_array("updates");
    let mut updates = updates.into_iter().flatten().filter_map(Bson::as_document);
    let is_watch = |update: &mongodb::bson::Document| {
        let which = update.get_document("q").expect("a filter");
        which.get_str("_id").ok() == Some("watch")
    };
    is_about_watchers(started) || goes_on || updates.any(is_watch)
}

/// Adds what `event` shows to the cost, if it counts.
fn note(cost: &Mutex<(Cost, Vec<i32>)>, event: CommandEvent) {
    let mut cost = cost.lock().expect("a cost");
    let (sum, awaited) = &mut *cost;
    match event {
        CommandEvent::Started(started) if counts(&started) => {
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

/// A store, and what was done with it for which cost.
struct Metered {
    store: Arc<MongoStore>,
    cost: Arc<Mutex<(Cost, Vec<i32>)>>,
    bill: Vec<(&'static str, Cost)>,
}

impl Metered {
    async fn open(database: &Database) -> Self {
        let cost: Arc<Mutex<(Cost, Vec<i32>)>> = Arc::default();
        let noted = Arc::clone(&cost);
        Self {
            store: heard(database, "costs", move |event| note(&noted, event)).await,
            cost,
            bill: Vec::new(),
        }
    }

    /// Makes a call, and puts its cost on the bill as that of `what`.
    async fn pay<T, E: std::fmt::Debug>(
        &mut self,
        what: &'static str,
        call: impl Future<Output = Result<T, E>>,
    ) -> T {
        *self.cost.lock().expect("a cost") = <_>::default();
        let answer = call.await.expect("it can be done");
        let cost = self.cost.lock().expect("a cost").0;
        self.bill.push((what, cost));
        answer
    }

    async fn act(
        &mut self,
        what: &'static str,
        letters: &str,
        action: Action,
        now: Timestamp,
    ) -> Transacted {
        let (store, key) = (Arc::clone(&self.store), Key::Id(id(letters)));
        let done = store.transact(&key, &action, now, Detail::Summary);
        self.pay(what, done).await
    }

    /// Tells the only one who is to be told at `now`.
    async fn tell(&mut self, now: Timestamp) {
        let store = Arc::clone(&self.store);
        let claimed = store.claim(now, now.after(Duration::from_mins(5)), 100);
        let claimed = self.pay("a claim", claimed).await;
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        assert_eq!(claimed[0].events.len(), Notice::EVENTS_SHOWN);
        let settled = store.settle(&claimed[0].key, &Outcome::Delivered, now);
        assert!(self.pay("a settlement", settled).await);
    }

    /// A paused watcher is triggered, becomes late and recovers, by way of all that the loops ask, and is paused
    /// again. Returns the bill.
    async fn live(&mut self, letters: &str, start: u64) -> Vec<(&'static str, Cost)> {
        let store = Arc::clone(&self.store);
        let now = |seconds| at(start + seconds);
        let woken = self.act("waking", letters, trigger(), now(0)).await;
        assert!(woken.unpaused);
        let triggered = self.act("a trigger", letters, trigger(), now(1)).await;
        assert!(!triggered.recovered && !triggered.unpaused);

        // The page that begins with it.
        let (all, before) = (Filter::default(), format!("job-{}", &letters[1..]));
        let before = Slug::from_text(before);
        let page = store.list(&all, Some(&before), 1, Detail::Summary);
        let page = self.pay("a page", page).await;
        assert_eq!(page[0].watcher.id, id(letters));

        let next = self.pay("the next deadline", store.next_deadline()).await;
        assert_eq!(next, Some(now(61)));
        let nobody = self.pay("nobody overdue", store.overdue(now(61), 100));
        assert_eq!(nobody.await, []);
        let one = self.pay("one overdue", store.overdue(now(62), 100));
        assert_eq!(one.await, [id(letters)]);
        let passing = self.act("lateness", letters, Action::PassDeadline, now(62));
        assert_eq!(passing.await.notices.len(), 1);
        self.pay("the watch", store.keep_watch(now(62))).await;

        let next = self.pay("the next delivery", store.next_delivery()).await;
        assert_eq!(next, Some(now(62)));
        self.tell(now(62)).await;
        let nothing = self.pay("nothing to claim", store.claim(now(62), now(99), 100));
        assert_eq!(nothing.await, []);
        let back = self.act("recovery", letters, trigger(), now(63)).await;
        assert!(back.recovered);
        self.tell(now(63)).await;
        let pause = Action::Pause(Comment::default());
        self.act("a pause", letters, pause, now(64)).await;
        std::mem::take(&mut self.bill)
    }
}

/// Watchers on time that owe something, but nothing for a long time.
async fn others(database: &Database, numbers: std::ops::Range<u8>, each: char) {
    let other = |number: u8| {
        let letters = [b'a' + number / 26, b'a' + number % 26];
        let letters = String::from_utf8_lossy(&letters).into_owned();
        let mut document = theirs(&format!("cccc{each}{each}{letters}"), 3);
        let far = date(at(10_000_000));
        document.extend(doc! { "deadline": far, "nw": { "rev": 1_i64, "due": far } });
        document
    };
    let watchers = database.watchers().await;
    let written = watchers.insert_many(numbers.map(other)).await;
    written.expect("they are written");
}

/// What this program has in the document of a watcher about which there is as much to report as is kept.
fn reported() -> Document {
    let why = "x".repeat(Reason::MAX_CHARS);
    let refused = doc! {
        "n": 1_i64, "at": date(at(1)), "deadline": date(at(1)), "to": "b@x.example", "resumed": false,
        "tries": 1_i64, "done": date(at(1)), "why": &why,
    };
    let settled = vec![refused; DeliveryReport::KEPT];
    doc! { "rev": 1_i64, "failures": { "n1": why }, "settled": settled }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_costs_the_same_whatever_there_is() {
    /// How many lives it takes until a watcher remembers as many changes as it ever will.
    const FIRST: u64 = 5;
    let database = empty().await;
    let watchers = database.watchers().await;
    // Both have more events than a message shows; how many more is not to be felt.
    // Nor is what became of many deliveries.
    for (letters, events, ours) in [
        ("aaaaaaaa", 40, None),
        ("bbbbbbbb", 1_000, Some(reported())),
    ] {
        let mut document = theirs(letters, events);
        document.extend(doc! { "paused": true, "deadline": Bson::Null, "emails": ["a@x.example"] });
        document.extend(ours.map(|ours| ("nw".to_owned(), ours.into())));
        watchers.insert_one(document).await.expect("it is written");
    }
    others(&database, 0..5, 'a').await;
    let mut metered = Metered::open(&database).await;
    let mut start = 100_000;
    let mut live = async |letters: &str| {
        start += 1_000;
        metered.live(letters, start).await
    };
    for _ in 0..FIRST {
        for letters in ["aaaaaaaa", "bbbbbbbb"] {
            live(letters).await;
        }
    }
    let small = live("aaaaaaaa").await;
    let long = live("bbbbbbbb").await;
    for each in ['b', 'c', 'd'] {
        others(&database, 0..165, each).await;
    }
    let among_many = live("aaaaaaaa").await;

    let commands: Vec<_> = small
        .iter()
        .map(|(what, cost)| (*what, cost.commands))
        .collect();
    let expected = [
        ("waking", 2),
        ("a trigger", 2),
        ("a page", 1),
        ("the next deadline", 1),
        ("nobody overdue", 1),
        ("one overdue", 1),
        ("lateness", 2),
        ("the watch", 1),
        ("the next delivery", 1),
        ("a claim", 3),
        ("a settlement", 2),
        ("nothing to claim", 1),
        ("recovery", 2),
        ("a claim", 3),
        ("a settlement", 2),
        ("a pause", 2),
    ];
    assert_eq!(commands, expected);
    let others = long.into_iter().zip(among_many);
    for ((what, small), ((_, long), (_, among_many))) in small.into_iter().zip(others) {
        println!("{what}: {small:?}, with a long history {long:?}, among many {among_many:?}");
        assert!(small.sent > 0 && small.received > 0, "{what}: {small:?}");
        assert!(small.is_like(long), "{what}: {small:?}, {long:?}");
        assert!(
            small.is_like(among_many),
            "{what}: {small:?}, {among_many:?}"
        );
    }
}
