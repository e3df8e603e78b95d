//! The servers that share a database, and what becomes of the claims of one that died.
//!
//! Each beats every two seconds, in a document of its own in `nights_watch_servers`. One whose beat the others
//! have seen standing still for five rounds is gone: its claims are due again, and its document goes.

use std::collections::HashMap;
use std::time::Duration;

use mongodb::bson::doc;
use tokio::time::{MissedTickBehavior, interval};

use super::calls::Patience;
use super::documents::{Books, Update};
use super::table::{Question, Table};
use super::{Fields, random};
use crate::ports::StoreError;

const PERIOD: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 5;

/// One of the servers: this one.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) id: i64,
    pub(super) watchers: Table,
    pub(super) servers: Table,
}

impl Server {
    /// Beats, and looks after the others, for as long as it is polled.
    pub(super) async fn run(self) {
        let mut rounds = interval(PERIOD);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = HashMap::new();
        loop {
            rounds.tick().await;
            if let Err(error) = self.round(&mut seen).await {
                tracing::debug!(%error, "the other servers cannot be looked after");
            }
        }
    }

    async fn round(&self, seen: &mut HashMap<i64, (i64, u32)>) -> Result<(), StoreError> {
        self.beat(&mut Patience::new()).await?;
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

    /// Lets go of all claims of the server `id`, and forgets it.
    pub(super) async fn bury(&self, id: i64) -> Result<(), StoreError> {
        let mut patience = Patience::new();
        loop {
            let claimed = || {
                let filter = doc! { "nw.owed.by": id };
                self.watchers.first(filter, Fields::Books.document())
            };
            let Some(document) = patience.insist(claimed).await? else {
                break;
            };
            let mut books = Books::read(&document)?;
            let (filter, mut update) = (books.filter(), Update::default());
            books.release(id, random, &mut update);
            let update = update.into_document(&books, random());
            let released = || self.watchers.update(filter.clone(), update.clone());
            if !patience.insist(released).await? {
                patience.after_losing().await?;
            }
        }
        let gone = || self.servers.delete(doc! { "_id": id });
        patience.insist(gone).await.map(drop)
    }
}
