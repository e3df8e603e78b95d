//! The embedded default: one SQLite database, made for many small durable writes.
//!
//! - `schema`: opening a file, its tables and their versions.
//! - `writer`: the one thread that writes, and the commits that many callers share.
//! - `checkpoints`, `sweep`: what keeps journal and history from growing, beside the writer or a little at a time.
//! - `deliveries`, `claims`: what is owed, what of that somebody is at, and what became of the rest.
//! - `rows`, `places`: between rows and the domain, and which rows are whose.
//!
//! Reads run on connections of their own and see what was committed last.

mod checkpoints;
mod claims;
mod deliveries;
mod places;
mod rows;
mod schema;
mod sweep;
mod writer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, ffi};
use tokio::sync::Semaphore;

use self::checkpoints::Checkpoints;
use self::claims::{Claims, Settling};
use self::deliveries::Claiming;
use self::places::Places;
use self::rows::Stored;
pub use self::schema::OpenError;
use self::sweep::Sweep;
use self::writer::{Writer, is_corruption, store_error};
use super::aside::Aside;
use crate::domain::{
    Action, Change, Comment, Event, Filter, HistoryPolicy, Slug, Timestamp, Watcher, WatcherId,
};
use crate::ports::{
    Census, Claim, DeliveryKey, DeliveryReport, Detail, InsertError, Key, Outcome, Record,
    StoreError, StoreObserver, TransactError, Transacted, WatcherStore,
};

/// Keeps everything in one SQLite database, which it has for itself while it is open.
#[derive(Debug)]
pub struct SqliteStore {
    policy: HistoryPolicy,
    writer: Writer,
    claims: Arc<Claims>,
    aside: Arc<Aside<Hidden>>,
    places: Places,
    thread: Mutex<Option<JoinHandle<()>>>,
    readers: Arc<Readers>,
    /// For lists with an expression, some of which take long.
    searchers: Arc<Readers>,
    /// For the questions that the loops ask: they must not wait behind people's.
    loop_readers: Arc<Readers>,
}

impl SqliteStore {
    /// Opens the database at `path`, or makes a new one there. Blocks while it does.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the file cannot be used, is another program's, was written by a later release, or is
    /// open already.
    pub fn open(path: &Path, policy: HistoryPolicy) -> Result<Self, OpenError> {
        Self::open_observed(path, policy, Arc::new(()))
    }

    /// Opens the database as [`SqliteStore::open`] does, and tells `observer` of each commit.
    ///
    /// # Errors
    ///
    /// Those of [`SqliteStore::open`].
    pub fn open_observed(
        path: &Path,
        policy: HistoryPolicy,
        observer: Arc<dyn StoreObserver>,
    ) -> Result<Self, OpenError> {
        let lock = Arc::new(schema::lock(path)?);
        let mut connection = schema::open_writer(path)?;
        let refused = |error| OpenError::File(path.to_owned(), error);
        let housekeeping = Housekeeping {
            observer,
            sweep: Sweep::new(policy),
            checkpoints: Checkpoints::start(path, Arc::clone(&lock), &mut connection)
                .map_err(refused)?,
        };
        let (writer, thread) = Writer::start(connection, lock, housekeeping).map_err(refused)?;
        Ok(Self {
            policy,
            writer,
            claims: Arc::default(),
            aside: Arc::default(),
            places: Places::default(),
            thread: Mutex::new(Some(thread)),
            readers: Arc::new(Readers::new(path.to_owned(), 4)),
            searchers: Arc::new(Readers::new(path.to_owned(), 2)),
            loop_readers: Arc::new(Readers::new(path.to_owned(), 2)),
        })
    }
}

/// What goes on beside the changes.
struct Housekeeping {
    observer: Arc<dyn StoreObserver>,
    sweep: Sweep,
    checkpoints: Checkpoints,
}

impl writer::Housekeeping for Housekeeping {
    fn before_commit(&mut self, connection: &Connection, jobs: usize) {
        self.sweep.before_commit(connection, jobs);
    }

    fn after_commit(&mut self, connection: &Connection, jobs: usize, waiting: usize) {
        self.observer.committed(jobs, waiting);
        self.checkpoints.after_commit(connection);
    }

    fn after_last_commit(self, connection: &Connection) {
        self.checkpoints.finish(connection);
    }
}

/// Connections for reading, opened when they are first needed.
#[derive(Debug)]
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// At most `most` connections to the database at `path`.
    fn new(path: PathBuf, most: usize) -> Self {
        Self {
            path,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(most)),
        }
    }

    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::unavailable("the store is closed"))?;
        let readers = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let idle = readers.idle().pop();
            let connection = idle.map_or_else(|| schema::open_reader(&readers.path), Ok)?;
            let snapshot = connection.unchecked_transaction()?;
            let result = work(&snapshot);
            snapshot.finish()?;
            if !readers.permits.is_closed() {
                readers.idle().push(connection);
            }
            drop(permit);
            result
        });
        match task.await {
            Ok(result) => result.map_err(store_error),
            Err(error) => Err(StoreError::unavailable(error)),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }
}

#[async_trait]
impl WatcherStore for SqliteStore {
    async fn insert(&self, record: &Record) -> Result<(), InsertError> {
        let Record { watcher, history } = record.clone();
        self.writer
            .run(
                move |connection| match rows::insert(connection, &watcher, &history) {
                    Err(error) if is_taken(&error, "watchers.id") => Ok(Err(InsertError::IdTaken)),
                    Err(error) if is_taken(&error, "watchers.slug") => {
                        Ok(Err(InsertError::SlugTaken))
                    }
                    inserted => inserted.map(Ok),
                },
            )
            .await?
    }

    async fn transact(
        &self,
        key: &Key,
        action: &Action,
        now: Timestamp,
        detail: Detail,
    ) -> Result<Transacted, TransactError> {
        let known = self.places.find(key);
        let asked = key;
        let (key, action, policy) = (key.clone(), action.clone(), self.policy);
        let done = self
            .writer
            .run(move |connection| {
                if let (Action::Trigger(comment), Detail::Summary) = (&action, detail)
                    && let Some(done) = trigger_in_time(connection, &key, known, comment, now)?
                {
                    return Ok(Ok(done));
                }
                let Some(stored) = rows::find(connection, &key)? else {
                    return Ok(Err(TransactError::NotFound));
                };
                let before = stored.watcher.state;
                let change = match stored.watcher.apply(&action, now) {
                    Ok(change) => change,
                    Err(refusal) => return Ok(Err(refusal.into())),
                };
                // Before anything is written, so that an event that cannot be read spoils nothing.
                let mut history = read_history(connection, &stored, policy, detail)?;
                let row = stored.place.row;
                match keep(connection, stored, &change) {
                    Err(error) if is_taken(&error, "watchers.slug") => {
                        return Ok(Err(TransactError::SlugTaken));
                    }
                    kept => kept?,
                }
                for notice in &change.notices {
                    deliveries::owe(connection, row, notice, now)?;
                }
                if let (Detail::Full, Some(event)) = (detail, &change.event) {
                    history.insert(0, event.clone());
                    policy.prune(&mut history);
                }
                Ok(Ok((Transacted::new(before, change, history), row)))
            })
            .await?;
        let (done, row) = done?;
        if known != Some(row) {
            self.places.remember(asked, row);
        }
        Ok(done)
    }

    async fn find(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let (key, policy) = (key.clone(), self.policy);
        self.readers
            .run(move |connection| {
                let Some(stored) = rows::find(connection, &key)? else {
                    return Ok(None);
                };
                let history = read_history(connection, &stored, policy, Detail::Full)?;
                Ok(Some(Record {
                    watcher: stored.watcher,
                    history,
                }))
            })
            .await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&Slug>,
        limit: usize,
        detail: Detail,
    ) -> Result<Vec<Record>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let readers = match filter.search {
            Some(_) => &self.searchers,
            None => &self.readers,
        };
        let (filter, after, policy) = (filter.clone(), after.cloned(), self.policy);
        readers
            .run(move |connection| {
                let mut page = Vec::new();
                rows::visit_by_slug(connection, &filter, after.as_ref(), |stored| {
                    if filter.matches(&stored.watcher) {
                        let history = read_history(connection, &stored, policy, detail)?;
                        page.push(Record {
                            watcher: stored.watcher,
                            history,
                        });
                    }
                    Ok(page.len() < limit)
                })?;
                Ok(page)
            })
            .await
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        let key = key.clone();
        self.writer
            .run(move |connection| {
                let Some(stored) = rows::find(connection, &key)? else {
                    return Ok(false);
                };
                for sql in [
                    "DELETE FROM deliveries WHERE watcher = ?1",
                    "DELETE FROM settled WHERE watcher = ?1",
                    // Its events are left to the sweep: deleting need not wait for a thousand rows.
                    "DELETE FROM timings WHERE row = ?1",
                    "DELETE FROM watchers WHERE row = ?1",
                ] {
                    let row = stored.place.row;
                    connection.prepare_cached(sql)?.execute([row])?;
                }
                Ok(true)
            })
            .await
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>, StoreError> {
        let aside = Arc::clone(&self.aside);
        let next = self
            .loop_readers
            .run(move |connection| next_wake(connection, &aside));
        next.await
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<WatcherId>, StoreError> {
        self.aside.take_back(now);
        loop {
            let aside = Arc::clone(&self.aside);
            // A look does not wait for the commit that is under way, as a change would.
            let looked = self
                .loop_readers
                .run(move |connection| overdue(connection, &aside, now, limit));
            let Overdue { found, put_off } = looked.await?;
            if !found.is_empty() || put_off.is_empty() {
                return Ok(found);
            }
            self.writer
                .run(move |connection| wake_later(connection, &put_off, now))
                .await?;
        }
    }

    async fn set_aside(
        &self,
        id: &WatcherId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let (id, aside) = (*id, Arc::clone(&self.aside));
        self.loop_readers
            .run(move |connection| {
                let deadline: Option<i64> = connection
                    .prepare_cached(
                        "SELECT deadline FROM watchers w JOIN timings t ON t.row = w.row WHERE id = ?1",
                    )?
                    .query_row([id.as_str()], |row| row.get(0))
                    .optional()?
                    .flatten();
                if let Some(deadline) = deadline.filter(|deadline| *deadline < now.millis()) {
                    aside.put((id, deadline), now, until);
                }
                Ok(())
            })
            .await
    }

    async fn next_delivery(&self) -> Result<Option<Timestamp>, StoreError> {
        let claims = Arc::clone(&self.claims);
        self.loop_readers
            .run(move |connection| claims.next(connection))
            .await
    }

    async fn claim(
        &self,
        now: Timestamp,
        lease_end: Timestamp,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        let (claims, policy) = (Arc::clone(&self.claims), self.policy);
        let read = self.loop_readers.run(move |connection| {
            let claimed = claims.take(connection, now, lease_end, limit)?;
            let read = deliveries::read(connection, policy, &claimed);
            if read.is_err() {
                for claimed in claimed {
                    claims.release(claimed);
                }
            }
            read
        });
        let Claiming { claims, unreadable } = read.await?;
        for (claimed, error) in unreadable {
            let set_aside = self
                .writer
                .run(move |connection| deliveries::set_aside(connection, claimed, &error, now))
                .await;
            self.claims.release(claimed);
            if let Err(error) = set_aside {
                // The others are claimed, and have to be made whatever becomes of this one.
                tracing::warn!(%error, "a delivery that cannot be read could not be set aside yet");
            }
        }
        Ok(claims)
    }

    async fn settle(
        &self,
        claim: &DeliveryKey,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (claims, claim, outcome) = (Arc::clone(&self.claims), claim.clone(), outcome.clone());
        let settle = move |connection: &Connection| {
            deliveries::settle(connection, &claims, &claim, &outcome, now)
        };
        let end = |settled: &Option<(Settling, bool)>| {
            if let Some((settling, _)) = settled {
                settling.end();
            }
        };
        let settled = self.writer.run_then(settle, end).await?;
        Ok(settled.is_some_and(|(_, is_recorded)| is_recorded))
    }

    async fn deliveries(&self, watcher: &WatcherId) -> Result<Vec<DeliveryReport>, StoreError> {
        let (claims, watcher) = (Arc::clone(&self.claims), *watcher);
        self.readers
            .run(move |connection| deliveries::reports(connection, &claims, watcher))
            .await
    }

    async fn keep_watch(&self, now: Timestamp) -> Result<(), StoreError> {
        self.writer
            .run(move |connection| {
                connection
                    .prepare_cached("UPDATE housekeeping SET watched = ?1")?
                    .execute([now.millis()])
                    .map(drop)
            })
            .await
    }

    async fn last_watch(&self) -> Result<Option<Timestamp>, StoreError> {
        self.first("SELECT watched FROM housekeeping").await
    }

    async fn oldest_notice(&self) -> Result<Option<Timestamp>, StoreError> {
        self.first("SELECT min(at) FROM deliveries WHERE refused IS NULL")
            .await
    }

    async fn census(&self) -> Result<Census, StoreError> {
        self.readers
            .run(|connection| {
                let count = |sql: &str| -> rusqlite::Result<u64> {
                    connection
                        .prepare_cached(sql)?
                        .query_row([], |row| row.get(0))
                };
                Ok(Census {
                    on_time: count("SELECT count(*) FROM watchers WHERE state = 0")?,
                    late: count("SELECT count(*) FROM watchers WHERE state = 1")?,
                    paused: count("SELECT count(*) FROM watchers WHERE state = 2")?,
                    owed: count("SELECT count(*) FROM deliveries WHERE refused IS NULL")?,
                    refused: count("SELECT count(*) FROM deliveries WHERE refused IS NOT NULL")?,
                })
            })
            .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.first("SELECT max(row) FROM housekeeping").await?;
        self.writer
            .run(|connection| {
                connection
                    .prepare_cached("UPDATE housekeeping SET beats = beats + 1")?
                    .execute([])
            })
            .await?;
        Ok(())
    }

    async fn close(&self) {
        self.readers.close();
        self.searchers.close();
        self.loop_readers.close();
        self.writer.close().await;
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A writer that panicked has reported that itself.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl SqliteStore {
    async fn first(&self, sql: &'static str) -> Result<Option<Timestamp>, StoreError> {
        let first = self.loop_readers.run(move |connection| {
            connection
                .prepare_cached(sql)?
                .query_row([], |row| row.get::<_, Option<i64>>(0))
        });
        Ok(first.await?.map(Timestamp::from_millis))
    }
}

fn is_taken(error: &rusqlite::Error, column: &str) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, Some(message)) => {
            failure.extended_code == ffi::SQLITE_CONSTRAINT_UNIQUE && message.ends_with(column)
        }
        _ => false,
    }
}

fn read_history(
    connection: &Connection,
    stored: &Stored,
    policy: HistoryPolicy,
    detail: Detail,
) -> rusqlite::Result<Vec<Event>> {
    match detail {
        Detail::Summary => Ok(Vec::new()),
        Detail::Full => stored.history(connection, policy, Timestamp::MAX, policy.limit()),
    }
}

/// Triggers the watcher named by `key`, if that is on time, by reading and writing as little as that takes. Returns
/// `None`, and has changed nothing, if it takes more. Whether the rest of the watcher can be read is seen when somebody
/// needs it: a task that has run is not to suffer for that.
fn trigger_in_time(
    connection: &Connection,
    key: &Key,
    known: Option<i64>,
    comment: &Comment,
    now: Timestamp,
) -> rusqlite::Result<Option<(Transacted, i64)>> {
    let Some(timing) = rows::find_timing(connection, key, known)? else {
        return Ok(None);
    };
    let row = timing.place.row;
    let before = timing.deadline;
    match Watcher::trigger_in_time(before, timing.periodicity, comment, now) {
        // For an earlier deadline than before the scheduler has to wake earlier, which takes more.
        Some((after, event)) if after >= before => {
            timing.trigger(connection, after, &event)?;
            Ok(Some((Transacted::in_time(before, after, event), row)))
        }
        _ => Ok(None),
    }
}

/// Keeps `change` of the watcher that is `stored`, its event included.
fn keep(connection: &Connection, mut stored: Stored, change: &Change) -> rusqlite::Result<()> {
    if stored.watcher == change.watcher && change.event.is_none() {
        return Ok(());
    }
    if let Some(event) = &change.event {
        stored.place.append(connection, event)?;
    }
    stored.watcher = change.watcher.clone();
    // The scheduler may look too early, never too late.
    let deadline = stored.watcher.state.deadline_ahead();
    stored.wake = deadline.map(|deadline| stored.wake.map_or(deadline, |wake| wake.min(deadline)));
    stored.update(connection)
}

/// How many watchers are looked at in one go, at most: neither a look nor the change after it may take long.
const LOOKED_AT: usize = 2_000;

/// What has come due.
struct Overdue {
    found: Vec<WatcherId>,
    /// The rows of those that have not passed their deadline after all.
    put_off: Vec<i64>,
}

/// A watcher that is set aside, and its deadline.
type Hidden = (WatcherId, i64);

/// When to look next. Triggers do not bring that up to date, so it is early for watchers that were triggered.
fn next_wake(
    connection: &Connection,
    aside: &Aside<Hidden>,
) -> rusqlite::Result<Option<Timestamp>> {
    let (hidden, again): (HashSet<Hidden>, _) = aside.hidden();
    let mut statement = connection.prepare_cached(
        "SELECT w.row, id, deadline, wake FROM watchers w LEFT JOIN timings t ON t.row = w.row \
         WHERE wake IS NOT NULL ORDER BY wake",
    )?;
    let mut rows = statement.query([])?;
    let mut next = None;
    while let Some(row) = rows.next()? {
        let is_hidden = match rows::read_deadline(row) {
            Ok(watcher) => hidden.contains(&watcher),
            Err(error) if is_corruption(&error) => false,
            Err(error) => return Err(error),
        };
        if !is_hidden {
            next = Some(Timestamp::from_millis(row.get(3)?));
            break;
        }
    }
    Ok(next.into_iter().chain(again).min())
}

fn overdue(
    connection: &Connection,
    aside: &Aside<Hidden>,
    now: Timestamp,
    limit: usize,
) -> rusqlite::Result<Overdue> {
    let (hidden, _): (HashSet<Hidden>, _) = aside.hidden();
    let mut overdue = Overdue {
        found: Vec::new(),
        put_off: Vec::new(),
    };
    let mut statement = connection.prepare_cached(
        "SELECT w.row, id, deadline FROM watchers w LEFT JOIN timings t ON t.row = w.row \
         WHERE wake < ?1 ORDER BY wake LIMIT ?2",
    )?;
    let mut rows = statement.query((now.millis(), LOOKED_AT + hidden.len()))?;
    while overdue.found.len() < limit
        && let Some(row) = rows.next()?
    {
        match rows::read_deadline(row) {
            Ok(watcher) if hidden.contains(&watcher) => {}
            Ok((id, deadline)) if deadline < now.millis() => overdue.found.push(id),
            // One that cannot be read must not stand in the way of any other.
            Ok(_) => overdue.put_off.push(row.get(0)?),
            Err(error) if is_corruption(&error) => overdue.put_off.push(row.get(0)?),
            Err(error) => return Err(error),
        }
    }
    Ok(overdue)
}

/// How long nobody looks at a watcher that cannot be read: somebody may have mended it by then.
const UNREADABLE: Duration = Duration::from_hours(1);

/// Lets the scheduler look at watchers again when their deadline passes, or much later at one that cannot be read.
fn wake_later(connection: &Connection, put_off: &[i64], now: Timestamp) -> rusqlite::Result<()> {
    let mut look = connection.prepare_cached(
        "SELECT w.row, id, deadline FROM watchers w LEFT JOIN timings t ON t.row = w.row \
         WHERE w.row = ?1 AND wake IS NOT NULL",
    )?;
    let mut wake = connection.prepare_cached("UPDATE watchers SET wake = ?2 WHERE row = ?1")?;
    for number in put_off {
        let deadline = look.query_row([number], rows::read_deadline).optional();
        let deadline = match deadline {
            Ok(None) => continue,
            Ok(Some((_, deadline))) => deadline,
            Err(error) if is_corruption(&error) => {
                tracing::error!(number, %error, "a watcher in the database cannot be watched");
                now.after(UNREADABLE).millis()
            }
            Err(error) => return Err(error),
        };
        wake.execute((number, deadline))?;
    }
    Ok(())
}
