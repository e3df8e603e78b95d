//! Changes that are made once, however often they are tried, and one after another.

use std::hash::{DefaultHasher, Hash, Hasher};

use rand::RngExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::calls::{Failure, Patience};
use super::documents::{Books, REMEMBERED};
use crate::ports::StoreError;

/// What tells a change, a claim or a server from all others.
pub(super) fn random() -> i64 {
    rand::rng().random()
}

/// Callers of one watcher take turns, in the order of their coming, so that only other servers can be quicker.
pub(super) struct Turns([Semaphore; Self::LANES]);

impl Turns {
    const LANES: usize = 256;

    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Semaphore::new(1)))
    }

    pub(super) async fn take(
        &self,
        key: &str,
        patience: &Patience,
    ) -> Result<SemaphorePermit<'_>, StoreError> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % Self::LANES as u64).unwrap_or(0);
        let turn = patience.wait(self.0[lane].acquire()).await?;
        turn.map_err(StoreError::unavailable)
    }
}

/// A change that is made once, however often it is tried.
pub(super) struct Operation<T> {
    pub(super) token: i64,
    /// What each attempt whose answer was lost would have done, by the revision that it would have followed.
    pub(super) tried: Vec<(i64, T)>,
}

impl<T: Clone> Operation<T> {
    pub(super) fn new() -> Self {
        Self {
            token: random(),
            tried: Vec::new(),
        }
    }

    /// What was done by the attempt that has happened after all, if one has: of those that followed the same
    /// revision the last, since what came of the others was rolled back.
    pub(super) fn done(&self, books: &Books) -> Result<Option<T>, StoreError> {
        let Some((first, _)) = self.tried.first() else {
            return Ok(None);
        };
        if let Some(revision) = books.revision_before(self.token) {
            let made = self.tried.iter().rfind(|(base, _)| *base == revision);
            let made =
                made.ok_or_else(|| StoreError::outcome_unknown("another attempt was made"))?;
            return Ok(Some(made.1.clone()));
        }
        let since = books.revision.unwrap_or(0) - first;
        if since > i64::try_from(REMEMBERED).unwrap_or(i64::MAX) {
            return Err(StoreError::outcome_unknown("too much has happened since"));
        }
        Ok(None)
    }

    /// After a failure. Returns when it is time to look.
    pub(super) async fn failed(
        &mut self,
        failure: Failure,
        base: &Books,
        what: T,
        patience: &mut Patience,
    ) -> Result<(), StoreError> {
        if patience.after_sending(failure).await? {
            self.tried.push((base.revision.unwrap_or(0), what));
        }
        Ok(())
    }
}
