//! What the calls of each store cost: `cargo bench --bench stores`.
//!
//! Each benchmark has stores of its own; those that have files have them in a temporary directory, where `TMPDIR` says.
//! MongoDB takes part if `NIGHTS_WATCH_TEST_MONGODB_URI` names a server. That has to be a real one: the clock of the
//! tests' stand-in says nothing about MongoDB, and it looks at every watcher where MongoDB uses an index.
//!
//! Without `--bench`, which `cargo bench` passes, each is run once over a small store, to see that it works.

use std::cell::LazyCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use mongodb::{Client, Database};
use nights_watch::adapters::storage::memory::MemoryStore;
use nights_watch::adapters::storage::mongodb::{MongoSettings, MongoStore};
use nights_watch::adapters::storage::sqlite::SqliteStore;
use nights_watch::domain::{
    Action, Comment, Description, Draft, Event, Filter, HistoryPolicy, Name, Periodicity,
    Recipient, Timestamp, Watcher, WatcherId,
};
use nights_watch::ports::{Detail, Key, Outcome, Record, WatcherStore};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How many watchers are many.
const MANY: usize = 10_000;
/// How many events are a short history, and how many a long one.
const SHORT: usize = 10;
const LONG: usize = 1_000;
/// How many triggers come at once.
const CROWD: usize = 64;
/// How many watchers are on a page of a list.
const PAGE: usize = 100;
/// How long each watcher may stay silent, in seconds.
const HOUR: u64 = 3_600;

/// What is measured.
enum Engine {
    Memory,
    Sqlite,
    /// On the server that a connection string names.
    MongoDb(String),
}

/// What a store leaves behind when it is closed.
enum Remains {
    Nothing,
    Files(TempDir),
    Database(Database),
}

/// A store for one benchmark, with what is in it at first. It goes when it is dropped.
struct Stage<'a> {
    runtime: &'a Runtime,
    store: Arc<dyn WatcherStore>,
    remains: Remains,
    watchers: Vec<WatcherId>,
}

impl Engine {
    fn all() -> Vec<Self> {
        let uri = std::env::var("NIGHTS_WATCH_TEST_MONGODB_URI").ok();
        let uri = uri.filter(|uri| !uri.is_empty());
        let always = [Self::Memory, Self::Sqlite];
        always.into_iter().chain(uri.map(Self::MongoDb)).collect()
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::MongoDb(_) => "mongodb",
        }
    }

    fn open(&self, runtime: &Runtime, policy: HistoryPolicy) -> (Arc<dyn WatcherStore>, Remains) {
        match self {
            Self::Memory => (Arc::new(MemoryStore::new(policy)), Remains::Nothing),
            Self::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary directory");
                let store = SqliteStore::open(&folder.path().join("store.db"), policy);
                (Arc::new(store.expect("a store")), Remains::Files(folder))
            }
            Self::MongoDb(uri) => {
                let name = format!("nights_watch_bench_{}_{}", std::process::id(), number());
                let settings = MongoSettings {
                    hosts: uri.as_str().into(),
                    database: Some(name.clone()),
                    username: None,
                    password: None,
                    replica_set: None,
                    options: [].into(),
                };
                runtime.block_on(async {
                    let store = MongoStore::open(&settings, policy).await.expect("a store");
                    let client = Client::with_uri_str(uri).await.expect("a client");
                    let remains = Remains::Database(client.database(&name));
                    (Arc::new(store) as Arc<dyn WatcherStore>, remains)
                })
            }
        }
    }

    /// A store with so many watchers, each with a history of so many events, which is all that it keeps: their
    /// number stays. It is made when it is first needed, so not for a benchmark that was not chosen.
    fn stage<'a>(
        &'a self,
        runtime: &'a Runtime,
        watchers: usize,
        events: usize,
    ) -> LazyCell<Stage<'a>, impl FnOnce() -> Stage<'a>> {
        LazyCell::new(move || {
            let policy = HistoryPolicy::with_limit(size(events)).expect("a limit");
            let (store, remains) = self.open(runtime, policy);
            let records: Vec<Record> = (0..size(watchers)).map(|_| record(size(events))).collect();
            runtime.block_on(
                stream::iter(&records).for_each_concurrent(CROWD, |record| async {
                    store.insert(record).await.expect("it can be inserted");
                }),
            );
            Stage {
                runtime,
                store,
                remains,
                watchers: records.iter().map(|record| record.watcher.id).collect(),
            }
        })
    }
}

impl Stage<'_> {
    async fn act(&self, watcher: WatcherId, action: &Action, now: Timestamp) {
        let key = Key::Id(watcher);
        let done = self.store.transact(&key, action, now, Detail::Summary);
        done.await.expect("it can be done");
    }

    /// Tells the only one who is to be told.
    async fn tell(&self, now: Timestamp) {
        let lease_end = now.after(Duration::from_mins(5));
        let claims = self.store.claim(now, lease_end, CROWD).await;
        let claims = claims.expect("it answers");
        assert_eq!(claims.len(), 1, "{claims:?}");
        let settled = self.store.settle(&claims[0].key, &Outcome::Delivered, now);
        assert!(settled.await.expect("it answers"), "the claim was lost");
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.runtime.block_on(self.store.close());
        match std::mem::replace(&mut self.remains, Remains::Nothing) {
            Remains::Nothing => {}
            Remains::Files(folder) => folder.close().expect("it can be removed"),
            Remains::Database(database) => {
                let dropped = self.runtime.block_on(async { database.drop().await });
                dropped.expect("it can be dropped");
            }
        }
    }
}

/// As many, or only some if that is not to be measured.
fn size(wanted: usize) -> usize {
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    if is_measured {
        wanted
    } else {
        wanted.min(PAGE)
    }
}

/// A number that nobody else has.
fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// The time, after so many more seconds. Nobody else's clock goes.
fn later(seconds: u64) -> Timestamp {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let now = NOW.fetch_add(seconds, Ordering::Relaxed) + seconds;
    Timestamp::from_millis(1_426_730_924_885).after(Duration::from_secs(now))
}

/// A new watcher, which tells one person, with a history of so many events.
fn record(events: usize) -> Record {
    let number = number();
    let mut rest = number;
    let letters = std::array::from_fn(|_| {
        let letter = b'a' + u8::try_from(rest % 26).expect("a letter");
        rest /= 26;
        letter
    });
    let draft = Draft {
        name: Name::parse(&format!("Nightly backup {number}")).expect("a name"),
        description: Description::default(),
        periodicity: Periodicity::from_millis(HOUR * 1_000).expect("a periodicity"),
        recipients: vec![Recipient::parse("ops@example.com").expect("an address")],
        paused: false,
    };
    let id = WatcherId::from_letters(letters).expect("letters");
    let now = later(1);
    let (watcher, created) = Watcher::create(id, draft, now);
    let triggered = (1..events).map(|age| Event {
        at: now.before(Duration::from_mins(age as u64)),
        text: "Triggered (42 files)".to_owned(),
    });
    Record {
        watcher,
        history: std::iter::once(created).chain(triggered).collect(),
    }
}

fn trigger() -> Action {
    Action::Trigger(Comment::parse("42 files").expect("a comment"))
}

fn triggers(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let action = trigger();
    let at_once = format!("{CROWD} triggers at once");
    for (name, crowd) in [("trigger", 1), (at_once.as_str(), CROWD)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(crowd as u64));
        for engine in &Engine::all() {
            for events in [SHORT, LONG] {
                let stage = engine.stage(&runtime, crowd, events);
                let id = BenchmarkId::new(engine.name(), format!("history of {events}"));
                group.bench_function(id, |bencher| {
                    let stage = LazyCell::force(&stage);
                    bencher.to_async(&runtime).iter(|| {
                        let now = later(1);
                        let watchers = stage.watchers.iter();
                        join_all(watchers.map(|watcher| stage.act(*watcher, &action, now)))
                    });
                });
            }
        }
    }
}

fn watchers(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    for engine in &Engine::all() {
        let stage = engine.stage(&runtime, 0, SHORT);
        criterion.bench_function(&format!("insert/{}", engine.name()), |bencher| {
            let stage = LazyCell::force(&stage);
            let insert = async |record: Record| {
                stage
                    .store
                    .insert(&record)
                    .await
                    .expect("it can be inserted");
            };
            let bencher = &mut bencher.to_async(&runtime);
            bencher.iter_batched(|| record(1), insert, BatchSize::SmallInput);
        });

        let stage = engine.stage(&runtime, 1, LONG);
        let name = format!("find with a history of {LONG}/{}", engine.name());
        criterion.bench_function(&name, |bencher| {
            let stage = LazyCell::force(&stage);
            let key = Key::Id(stage.watchers[0]);
            bencher.to_async(&runtime).iter(async || {
                let found = stage.store.find(&key).await.expect("it answers");
                assert_eq!(found.expect("it is there").history.len(), size(LONG));
            });
        });
    }
}

fn among_many(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group(format!("among {MANY}"));
    for engine in &Engine::all() {
        let stage = engine.stage(&runtime, MANY, 1);
        let id = |what| BenchmarkId::new(what, engine.name());
        group.bench_function(id("next deadline"), |bencher| {
            let stage = LazyCell::force(&stage);
            bencher.to_async(&runtime).iter(async || {
                let next = stage.store.next_deadline().await.expect("it answers");
                assert!(next.is_some());
            });
        });
        group.bench_function(id("nobody overdue"), |bencher| {
            let stage = LazyCell::force(&stage);
            // The deadline itself is still on time.
            let next = runtime.block_on(stage.store.next_deadline());
            let now = next.expect("it answers").expect("a deadline");
            bencher.to_async(&runtime).iter(async || {
                let overdue = stage.store.overdue(now, PAGE).await.expect("it answers");
                assert!(overdue.is_empty(), "{overdue:?}");
            });
        });
        group.bench_function(id("page of a list"), |bencher| {
            let stage = LazyCell::force(&stage);
            let filter = Filter::default();
            bencher.to_async(&runtime).iter(async || {
                let page = stage.store.list(&filter, None, PAGE, Detail::Summary).await;
                assert_eq!(page.expect("it answers").len(), PAGE);
            });
        });
    }
}

/// Only telling somebody that a watcher is late is measured, not what brings that about.
fn deliveries(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    for engine in &Engine::all() {
        let stage = engine.stage(&runtime, 1, LONG);
        let name = format!("claim and settle/{}", engine.name());
        criterion.bench_function(&name, |bencher| {
            let stage = LazyCell::force(&stage);
            let watcher = stage.watchers[0];
            bencher.to_async(&runtime).iter_custom(async |times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let now = later(2 * HOUR);
                    stage.act(watcher, &Action::PassDeadline, now).await;
                    let begin = Instant::now();
                    stage.tell(now).await;
                    took += begin.elapsed();
                    let now = later(1);
                    stage.act(watcher, &trigger(), now).await;
                    stage.tell(now).await;
                }
                took
            });
        });
    }
}

criterion_group!(benches, triggers, watchers, among_many, deliveries);
criterion_main!(benches);
