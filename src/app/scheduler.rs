//! Seeing deadlines pass.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::health::Pulse;
use super::trouble::Trouble;
use super::use_cases::{Bells, NightsWatch, UseCaseError};
use crate::domain::{Timestamp, WatcherId};
use crate::ports::{Clock, StoreError, WatcherStore};

/// The loop that makes watchers late at their deadlines.
///
/// It sleeps until the next deadline that the store knows, or until somebody rings because there is an
/// earlier one; while nothing is due it does nothing, unless the store is shared.
pub struct Scheduler {
    /// The use cases, one of which makes a watcher late.
    pub watch: Arc<NightsWatch>,
    /// Where the deadlines are.
    pub store: Arc<dyn WatcherStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How it is called.
    pub bells: Arc<Bells>,
    /// How it says that it is alive.
    pub pulse: Arc<Pulse>,
    /// How often it looks although nobody rings: for a store that others share, who ring elsewhere.
    pub poll: Option<Duration>,
}

impl Scheduler {
    /// How many watchers it takes on at a time. They share the store's commits.
    const BATCH: usize = 500;
    /// How long it waits after the store has failed.
    const RETRY: Duration = Duration::from_secs(1);

    /// Runs until `stop`; what it has begun it finishes.
    pub async fn run(self, stop: CancellationToken) {
        let pulse = self.pulse.start();
        let trouble = Trouble::new("watching deadlines");
        while !stop.is_cancelled() {
            pulse.working();
            let wake = match self.pass_deadlines(&stop).await {
                Ok(next) => {
                    trouble.is_over();
                    pulse.waiting();
                    // The instant of the deadline itself is still on time.
                    let next = next.map(Timestamp::next);
                    let poll = self.poll.map(|poll| self.clock.now().after(poll));
                    next.into_iter().chain(poll).min()
                }
                Err(error) => {
                    trouble.is_on(&error);
                    pulse.failing();
                    Some(self.clock.now().after(Self::RETRY))
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.bells.scheduler.notified() => {}
                () = self.clock.sleep_until(wake.unwrap_or(Timestamp::MAX)) => {}
            }
        }
    }

    /// Makes late what is overdue, and returns the next deadline that lies ahead.
    async fn pass_deadlines(
        &self,
        stop: &CancellationToken,
    ) -> Result<Option<Timestamp>, StoreError> {
        loop {
            let now = self.clock.now();
            let next = self.store.next_deadline().await?;
            if next.is_none_or(|next| next >= now) || stop.is_cancelled() {
                return Ok(next);
            }
            let overdue = self.store.overdue(now, Self::BATCH).await?;
            if overdue.is_empty() && self.store.next_deadline().await? == next {
                // The store does not do what it promises; asking again at once would not help.
                return Ok(Some(now.after(Self::RETRY)));
            }
            let passing = overdue.into_iter().map(|id| self.pass_deadline(id));
            let results: Vec<_> = stream::iter(passing)
                .buffer_unordered(Self::BATCH)
                .collect()
                .await;
            // One watcher that cannot be handled must not keep the others waiting, so this comes last.
            results.into_iter().collect::<Result<(), _>>()?;
        }
    }

    async fn pass_deadline(&self, id: WatcherId) -> Result<(), StoreError> {
        match self.watch.pass_deadline(id).await {
            Err(UseCaseError::Store(error)) => Err(error),
            // It may have been triggered, paused or deleted meanwhile.
            _ => Ok(()),
        }
    }
}
