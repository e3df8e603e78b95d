//! Knowing for how long nobody watched the deadlines.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::health::Pulse;
use crate::domain::{Outage, Timestamp};
use crate::ports::{StoreError, WatcherStore};

/// Keeps the record of when deadlines were watched last, and tells when that is long ago: the program was down,
/// the machine was suspended, or the store was away. Tasks may have run then and found nobody to report to.
pub struct Vigil {
    store: Arc<dyn WatcherStore>,
    grace: Duration,
    // A std mutex: no await happens under it.
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    /// When this process has watched last.
    watched: Option<Timestamp>,
    /// When it has recorded that last.
    recorded: Option<Timestamp>,
    /// The outage that has yet to be dealt with.
    outage: Option<Outage>,
}

impl Vigil {
    /// A gap in the record that is longer than this is an outage.
    pub const LONGEST_GAP: Duration = Duration::from_secs(30);

    /// Watches over the record in `store`; after an outage there is `grace`.
    #[must_use]
    pub fn new(store: Arc<dyn WatcherStore>, grace: Duration) -> Self {
        Self {
            store,
            grace,
            seen: Mutex::default(),
        }
    }

    /// The outage that has ended at `now`, if there is one. It stays the same until [`Vigil::keep`] says that it
    /// was dealt with: what is put off must not be put off again.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the record cannot be read.
    pub async fn outage(&self, now: Timestamp) -> Result<Option<Outage>, StoreError> {
        let seen = *self.seen();
        if seen.outage.is_some() || seen.watched.is_some_and(|watched| !is_gap(watched, now)) {
            return Ok(seen.outage);
        }
        // Another server may have watched meanwhile.
        let last = self.store.last_watch().await?;
        let outage = last
            .filter(|last| is_gap(*last, now))
            .map(|last| self.since(last, now));
        self.seen().outage = outage;
        Ok(outage)
    }

    /// The outage that a request at `now` is the first to notice, if those get a grace whose deadline fell into it.
    #[must_use]
    pub fn unnoticed(&self, now: Timestamp) -> Option<Outage> {
        if self.grace.is_zero() {
            return None;
        }
        let seen = *self.seen();
        let watched = seen.watched.filter(|watched| is_gap(*watched, now))?;
        seen.outage.or_else(|| Some(self.since(watched, now)))
    }

    /// Deadlines were watched at `now`, which is recorded from time to time. Returns when to watch again at the
    /// latest.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be recorded.
    pub async fn keep(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let recorded = self.seen().recorded.filter(|recorded| {
            // Not if the clock has stepped back.
            *recorded <= now && now.since(*recorded) < Pulse::PERIOD
        });
        if recorded.is_none() {
            self.store.keep_watch(now).await?;
        }
        let recorded = recorded.unwrap_or(now);
        *self.seen() = Seen {
            watched: Some(now),
            recorded: Some(recorded),
            outage: None,
        };
        Ok(recorded.after(Pulse::PERIOD))
    }

    fn since(&self, since: Timestamp, until: Timestamp) -> Outage {
        Outage {
            since,
            until,
            grace: self.grace,
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_gap(since: Timestamp, now: Timestamp) -> bool {
    now.since(since) > Vigil::LONGEST_GAP
}
