//! Knowing for how long nobody watched the deadlines.

use std::sync::Arc;
use std::time::Duration;

use super::health::Pulse;
use crate::domain::{Outage, Timestamp};
use crate::ports::{StoreError, WatcherStore};

/// Keeps the record of when deadlines were watched last, and tells when that is long ago: the program was down,
/// the machine was suspended, or the store was away. Tasks may have run then and found nobody to report to.
pub struct Vigil {
    store: Arc<dyn WatcherStore>,
    grace: Duration,
    /// When this process has watched last, and when it has recorded that.
    watched: Option<Timestamp>,
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
            watched: None,
            recorded: None,
            outage: None,
        }
    }

    /// The outage that has ended at `now`, if there is one. It stays the same until [`Vigil::keep`] says that it
    /// was dealt with: what is put off must not be put off again.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the record cannot be read.
    pub async fn outage(&mut self, now: Timestamp) -> Result<Option<Outage>, StoreError> {
        let is_gap = |since: &Timestamp| now.since(*since) > Self::LONGEST_GAP;
        if self.outage.is_none() && self.watched.as_ref().is_none_or(is_gap) {
            // Another server may have watched meanwhile.
            let last = self.store.last_watch().await?;
            self.outage = last.filter(is_gap).map(|since| Outage {
                since,
                until: now,
                grace: self.grace,
            });
        }
        Ok(self.outage)
    }

    /// Deadlines were watched at `now`, which is recorded from time to time. Returns when to watch again at the
    /// latest.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be recorded.
    pub async fn keep(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let is_due = self.recorded.is_none_or(|recorded| {
            // Also if the clock has stepped back.
            now < recorded || now.since(recorded) >= Pulse::PERIOD
        });
        if is_due {
            self.store.keep_watch(now).await?;
            self.recorded = Some(now);
        }
        self.watched = Some(now);
        self.outage = None;
        Ok(self.recorded.unwrap_or(now).after(Pulse::PERIOD))
    }
}
