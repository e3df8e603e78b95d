//! Databases full of watchers, and what they must hold in the end.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use nights_watch::adapters::storage::sqlite::SqliteStore;
use nights_watch::domain::{
    Description, Event, HistoryPolicy, Name, Periodicity, Recipient, Slug, State, Timestamp,
    Watcher, WatcherId,
};
use nights_watch::ports::{Record, WatcherStore};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rusqlite::{Connection, OpenFlags};

use crate::driver::Phase;
use crate::figures::timestamp;

/// The letters of an identifier.
pub(crate) type Identifier = [u8; WatcherId::LENGTH];

const DAY: Duration = Duration::from_hours(24);

/// A database in a directory of its own, with watchers of which none is due for hours.
pub(crate) struct Database {
    pub(crate) directory: PathBuf,
    pub(crate) watchers: Arc<[Identifier]>,
    events_at_first: u32,
    /// What each watcher's history must have come to.
    tallies: Vec<Tally>,
    random: SmallRng,
    taken: HashSet<Identifier>,
}

#[derive(Clone, Copy)]
struct Tally {
    /// How many events there were at first, and have been acknowledged since.
    certain: u32,
    /// How many more there may be: triggers without an answer.
    in_doubt: u32,
}

/// What [`Database::check`] has found to be right.
pub(crate) struct Kept {
    /// How many triggers were acknowledged; all of them are there.
    pub(crate) acknowledged: u64,
    /// How many were never answered, since the server died.
    pub(crate) in_doubt: u64,
    /// How many of those are there as well.
    pub(crate) unanswered: u64,
}

impl Database {
    /// Makes one below `parent` with so many watchers, each with a history of `events`.
    pub(crate) fn fill(parent: &Path, name: &str, watchers: usize, events: u32) -> Self {
        let directory = parent.join(name);
        std::fs::create_dir(&directory).expect("a writable directory");
        let mut this = Self {
            directory,
            watchers: Arc::new([]),
            events_at_first: events,
            tallies: Vec::new(),
            random: SmallRng::seed_from_u64(1),
            taken: HashSet::new(),
        };
        let now = timestamp();
        let ids: Vec<_> = (0..watchers).map(|_| this.draw()).collect();
        let mut random = this.random.clone();
        let records = ids.iter().enumerate().map(|(n, id)| {
            // As if each had last reported some time in the last twelve hours.
            let ago = Duration::from_millis(random.random_range(0..43_200_000));
            let last = now.before(ago);
            let name = format!("Backup of host {n:06}");
            let to = format!("ops{n:06}@example.org");
            let history = history(events, last);
            record(*id, &name, &to, last.after(DAY), history)
        });
        // As much at a time as fits well into one commit.
        let at_a_time = (100_000 / events.max(1) as usize).clamp(1, 1_024);
        insert(&this.directory, records, at_a_time);
        let tally = Tally {
            certain: events,
            in_doubt: 0,
        };
        this.tallies = vec![tally; watchers];
        this.watchers = ids.into();
        this
    }

    /// Adds `count` watchers that are all due at `deadline`, and returns who is to be told of each.
    pub(crate) fn add_due(&mut self, count: usize, deadline: Timestamp) -> Vec<String> {
        let recipients: Vec<_> = (0..count)
            .map(|n| format!("crowd{n:05}@example.org"))
            .collect();
        let mut records = Vec::with_capacity(count);
        for (n, to) in recipients.iter().enumerate() {
            let last = deadline.before(DAY);
            let name = format!("One of the crowd {n:05}");
            records.push(record(self.draw(), &name, to, deadline, history(1, last)));
        }
        insert(&self.directory, records, 1_024);
        recipients
    }

    /// Takes down what came of driving a server over this database.
    pub(crate) fn note(&mut self, phase: &Phase) {
        for watcher in &phase.acknowledged {
            self.tallies[*watcher as usize].certain += 1;
        }
        for watcher in &phase.in_doubt {
            self.tallies[*watcher as usize].in_doubt += 1;
        }
    }

    /// How many triggers were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        let since = |tally: &Tally| u64::from(tally.certain - self.events_at_first);
        self.tallies.iter().map(since).sum()
    }

    /// Checks that each trigger that was acknowledged is there, and none that was not made. Call it when the program
    /// is dead.
    pub(crate) fn check(&self) -> Kept {
        let kept = self.count_events();
        let mut sum = Kept {
            acknowledged: self.acknowledged(),
            in_doubt: 0,
            unanswered: 0,
        };
        for (id, tally) in self.watchers.iter().zip(&self.tallies) {
            let Tally { certain, in_doubt } = *tally;
            let name = String::from_utf8_lossy(id);
            let kept = kept.get(id).copied().unwrap_or(0);
            assert!(
                kept >= certain,
                "LOST: {name} has {kept} events, and {certain} were acknowledged"
            );
            assert!(
                kept - certain <= in_doubt,
                "{name} has {kept} events, but only {certain} were acknowledged and {in_doubt} under way"
            );
            sum.in_doubt += u64::from(in_doubt);
            sum.unanswered += u64::from(kept - certain);
        }
        sum
    }

    /// How many events each watcher ever had. It reads only: the database is left as the program's death left it.
    fn count_events(&self) -> HashMap<Identifier, u32> {
        let path = self.directory.join(FILE);
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .expect("a database");
        let mut statement = connection
            .prepare("SELECT id, events FROM watchers JOIN timings USING (row)")
            .expect("the table of watchers");
        let rows = statement.query_map([], |row| {
            let id: String = row.get(0)?;
            let id = id.as_bytes().try_into().expect("eight letters");
            Ok((id, row.get(1)?))
        });
        let rows: Result<_, _> = rows.expect("watchers").collect();
        rows.expect("watchers that can be read")
    }

    /// An identifier that there is not yet.
    fn draw(&mut self) -> Identifier {
        loop {
            let id = std::array::from_fn(|_| self.random.random_range(b'a'..=b'z'));
            if self.taken.insert(id) {
                return id;
            }
        }
    }
}

/// Where the program keeps it by default.
const FILE: &str = "nights-watch.db";

/// A history of so many events a minute apart, newest first.
fn history(events: u32, last: Timestamp) -> Vec<Event> {
    let event = |n: u32| Event {
        at: last.before(Duration::from_mins(n.into())),
        text: if n + 1 == events {
            "Watcher created".to_owned()
        } else {
            "Triggered".to_owned()
        },
    };
    (0..events).map(event).collect()
}

fn record(
    id: Identifier,
    name: &str,
    to: &str,
    deadline: Timestamp,
    history: Vec<Event>,
) -> Record {
    let name = Name::parse(name).expect("a name");
    let description = "Dumps the database to the backup server. Ask the people on call.";
    let watcher = Watcher {
        id: WatcherId::from_letters(id).expect("letters"),
        slug: Slug::of(&name),
        name,
        description: Description::parse(description).expect("a description"),
        periodicity: Periodicity::from_seconds(DAY.as_secs_f64()).expect("a day"),
        recipients: vec![Recipient::parse(to).expect("an address")],
        state: State::OnTime { deadline },
        last_event: history[0].at,
    };
    Record { watcher, history }
}

/// Inserts by the program's own store, `at_a_time` of them at once so that they share commits.
fn insert(directory: &Path, records: impl IntoIterator<Item = Record>, at_a_time: usize) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = SqliteStore::open(&directory.join(FILE), HistoryPolicy::default());
        let store = &store.expect("a database");
        let inserted = stream::iter(records)
            .map(|record| async move { store.insert(&record).await })
            .buffer_unordered(at_a_time)
            .try_for_each(|()| async { Ok(()) });
        inserted.await.expect("room for all");
        store.close().await;
    });
}
