//! The servers that share a database, and what becomes of the claims of one that died.
//!
//! Each beats every second, in a document of its own in `nights_watch_servers`. One whose beat the others have
//! seen standing still for five rounds is gone: its claims are due again, and its document goes. Rounds count
//! only in a row: while the database is away nobody can beat, and whoever finds it first must not bury the rest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mongodb::bson::doc;
use tokio::time::{MissedTickBehavior, interval};

use super::calls::Patience;
use super::documents::{Books, Fields, Owed, Update, date, timestamp};
use super::operations::random;
use super::table::{Question, Table};
use crate::domain::{Timestamp, WatcherId};
use crate::ports::StoreError;

const PERIOD: Duration = Duration::from_secs(1);
const ROUNDS: u32 = 5;
/// The document that says when deadlines were last watched; the others are called by numbers.
const WATCH: &str = "watch";

/// One of the servers: this one.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) id: i64,
    pub(super) watchers: Table,
    pub(super) servers: Table,
    pub(super) strays: Strays,
}

/// Claims of ours that nobody will settle: whether they were made was not known to whoever wanted them.
#[derive(Clone, Debug, Default)]
pub(super) struct Strays(Arc<Mutex<Vec<Stray>>>);

#[derive(Clone, Debug)]
struct Stray {
    watcher: WatcherId,
    /// The revision that the claim would have followed.
    base: Option<i64>,
    tokens: Vec<i64>,
}

impl Strays {
    /// What was to be claimed after `base` is to be let go of as soon as the database is there.
    pub(super) fn add(&self, base: &Books, claimed: &[Owed]) {
        self.list().push(Stray {
            watcher: base.id,
            base: base.revision,
            tokens: claimed.iter().map(|owed| owed.token).collect(),
        });
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Stray>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Beats, and looks after the others, for as long as it is polled. Neither waits for the other.
    pub(super) async fn run(self) {
        tokio::join!(self.keep_beating(), self.look_after_others());
    }

    async fn keep_beating(&self) {
        let mut rounds = interval(PERIOD);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if let Err(error) = self.beat(&mut Patience::new()).await {
                tracing::debug!(%error, "the other servers cannot be told that this one lives");
            }
        }
    }

    async fn look_after_others(&self) {
        let mut rounds = interval(PERIOD);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = HashMap::new();
        loop {
            rounds.tick().await;
            if let Err(error) = self.round(&mut seen).await {
                tracing::debug!(%error, "the other servers cannot be looked after");
                seen.clear();
            }
        }
    }

    async fn round(&self, seen: &mut HashMap<i64, (i64, u32)>) -> Result<(), StoreError> {
        self.release_strays().await?;
        let others = self.others().await?;
        seen.retain(|id, _| others.contains_key(id));
        for (id, beat) in others {
            let (last, rounds) = seen.entry(id).or_insert((beat, 0));
            if *last != beat {
                (*last, *rounds) = (beat, 0);
                continue;
            }
            *rounds += 1;
            if *rounds > ROUNDS {
                tracing::warn!("another server is gone: what it was delivering is due again");
                self.bury(id).await?;
            }
        }
        Ok(())
    }

    /// Shows that this server lives, and that the database can be read and written.
    pub(super) async fn beat(&self, patience: &mut Patience) -> Result<(), StoreError> {
        let beat = doc! { "$inc": { "beat": 1_i64 } };
        let beaten = || self.servers.upsert(doc! { "_id": self.id }, beat.clone());
        patience.insist(beaten).await
    }

    /// Records that deadlines are watched at `now`, by one of the servers.
    pub(super) async fn keep_watch(&self, now: Timestamp) -> Result<(), StoreError> {
        let watched = doc! { "$set": { "at": date(now) } };
        let keep = || self.servers.upsert(doc! { "_id": WATCH }, watched.clone());
        Patience::new().insist(keep).await
    }

    pub(super) async fn last_watch(&self) -> Result<Option<Timestamp>, StoreError> {
        let find = || self.servers.first(doc! { "_id": WATCH }, doc! { "at": 1 });
        let watched = Patience::new().insist(find).await?;
        let at = watched.and_then(|watched| watched.get_datetime("at").ok().copied());
        Ok(at.map(timestamp))
    }

    async fn others(&self) -> Result<HashMap<i64, i64>, StoreError> {
        let everybody = Question {
            filter: doc! {},
            fields: doc! { "beat": 1 },
            order: doc! { "_id": 1 },
            limit: Table::MOST,
        };
        let servers = Patience::new().call(self.servers.all(everybody)).await?;
        let read = servers.iter().filter_map(|server| {
            let id = server.get_i64("_id").ok()?;
            Some((id, server.get_i64("beat").ok()?))
        });
        Ok(read.filter(|(id, _)| *id != self.id).collect())
    }

    async fn release_strays(&self) -> Result<(), StoreError> {
        loop {
            let Some(stray) = self.strays.list().last().cloned() else {
                return Ok(());
            };
            match self.release_stray(&stray).await {
                Err(StoreError::Corrupt(_)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
            // Only this loop takes away, but others may have added to the end meanwhile.
            let is_it = |other: &Stray| other.tokens == stray.tokens;
            self.strays.list().retain(|other| !is_it(other));
        }
    }

    async fn release_stray(&self, stray: &Stray) -> Result<(), StoreError> {
        let filter = doc! { "id": stray.watcher.as_str() };
        let mut patience = Patience::new();
        loop {
            let find = || {
                self.watchers
                    .first(filter.clone(), Fields::Books.document())
            };
            let Some(document) = patience.insist(find).await? else {
                return Ok(());
            };
            let mut books = Books::read(&document)?;
            let base = books.clone();
            let mut update = Update::default();
            let was_made = books.release(
                |owed| stray.tokens.contains(&owed.token),
                random,
                &mut update,
            );
            // If it can still be made, a new revision is what prevents that.
            if !was_made && base.revision != stray.base {
                return Ok(());
            }
            if self.replace(&base, update, &mut patience).await? {
                return Ok(());
            }
        }
    }

    /// Lets go of all claims of the server `id`, and forgets it.
    pub(super) async fn bury(&self, id: i64) -> Result<(), StoreError> {
        let mut patience = Patience::new();
        let mut unreadable = Vec::new();
        loop {
            let mut filter = doc! { "nw.owed.by": id };
            if !unreadable.is_empty() {
                filter.insert("_id", doc! { "$nin": &unreadable });
            }
            let claimed = || {
                let fields = Fields::Books.document();
                self.watchers.first(filter.clone(), fields)
            };
            let Some(document) = patience.insist(claimed).await? else {
                break;
            };
            // Where that cannot be read, the claims end with their lease.
            let Ok(mut books) = Books::read(&document) else {
                unreadable.extend(document.get("_id").cloned());
                continue;
            };
            let (base, mut update) = (books.clone(), Update::default());
            books.release(|owed| owed.by == Some(id), random, &mut update);
            self.replace(&base, update, &mut patience).await?;
        }
        let gone = || self.servers.delete(doc! { "_id": id });
        patience.insist(gone).await.map(drop)
    }

    /// Writes `update`, which may be written twice, if the document is still as it was read. Returns whether it
    /// was, when it is time to read it again.
    async fn replace(
        &self,
        base: &Books,
        update: Update,
        patience: &mut Patience,
    ) -> Result<bool, StoreError> {
        let (filter, update) = (base.filter(), update.into_document(base, random()));
        let write = || self.watchers.update(filter.clone(), update.clone());
        let written = patience.insist(write).await?;
        if !written {
            patience.after_losing().await?;
        }
        Ok(written)
    }
}
