//! Seeing deadlines pass.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::health::{Beating, Pulse};
use super::outage::Vigil;
use super::trouble::{Trouble, chain};
use super::use_cases::{Bells, NightsWatch, UseCaseError};
use crate::domain::{Outage, Timestamp, WatcherId};
use crate::ports::{Clock, StoreError, WatcherStore};

/// The loop that makes watchers late at their deadlines.
///
/// It sleeps until a little before the next deadline that the store knows, or until somebody rings because there is an
/// earlier one. Then it looks up whose deadline that is, so that at the instant itself nothing is left to ask. While
/// nothing is due it only records now and then that it watches, unless the store is shared.
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
    /// The record of when deadlines were watched.
    pub vigil: Arc<Vigil>,
}

/// What a look at the deadlines has shown.
enum Look {
    Found(Upcoming),
    /// Nobody's passes before it is time to look `again`.
    Nobody {
        again: Option<Timestamp>,
    },
}

/// Watchers whose deadline has passed, or is about to.
struct Upcoming {
    /// The first of their deadlines. It is the only one if it lies ahead.
    deadline: Timestamp,
    watchers: Vec<WatcherId>,
}

impl Scheduler {
    /// How long before a deadline it looks up whose that is. Who reports later than that is not made late for it: that is
    /// decided at the deadline.
    const AHEAD: Duration = Duration::from_millis(5);
    /// How many watchers it takes on at a time. They share the store's commits.
    const BATCH: usize = 500;
    /// How long it leaves a watcher alone that it cannot make late because something of it cannot be read: somebody may
    /// have mended it by then.
    const ASIDE: Duration = Duration::from_mins(10);
    /// How long it waits after the store has failed.
    const RETRY: Duration = Duration::from_secs(1);

    /// Looks once, before anybody can ask for anything: after an outage of ours, a request must not find a watcher
    /// late that has a grace. If it fails, [`Scheduler::run`] does it again.
    pub async fn catch_up(&self, stop: &CancellationToken) {
        let pulse = self.pulse.start();
        if let Err(error) = self.watch_deadlines(&mut None, &pulse, stop).await {
            tracing::debug!(%error, "cannot catch up yet");
        }
    }

    /// Runs until `stop`; what it has begun it finishes.
    pub async fn run(self, stop: CancellationToken) {
        let pulse = self.pulse.start();
        let trouble = Trouble::new("watching deadlines");
        let mut upcoming = None;
        while !stop.is_cancelled() {
            let looked = self.watch_deadlines(&mut upcoming, &pulse, &stop).await;
            let works = looked.is_ok();
            let wake = match looked {
                Ok(wake) => {
                    trouble.is_over();
                    pulse.waiting();
                    wake
                }
                Err(error) => {
                    trouble.is_on(&error);
                    pulse.failing();
                    self.clock.now().after(Self::RETRY)
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                // While the store fails, ringing changes nothing, and failures ring.
                () = self.bells.scheduler.notified(), if works => {}
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    /// Makes late what is overdue, and returns when to look again. `upcoming` is what was looked up ahead before, and is
    /// now.
    async fn watch_deadlines(
        &self,
        upcoming: &mut Option<Upcoming>,
        pulse: &Beating,
        stop: &CancellationToken,
    ) -> Result<Timestamp, StoreError> {
        let outage = self.vigil.outage(self.clock.now()).await?;
        let next = self.pass_deadlines(upcoming, outage, pulse, stop).await?;
        let now = self.clock.now();
        if stop.is_cancelled() {
            return Ok(now);
        }
        let again = self.vigil.keep(now).await?;
        let poll = self.poll.map(|poll| now.after(poll));
        Ok(next.into_iter().chain(poll).fold(again, Timestamp::min))
    }

    /// Makes late what is overdue, or puts it off if that is due to an outage of ours. Returns when to look again for the
    /// next deadline's sake.
    async fn pass_deadlines(
        &self,
        upcoming: &mut Option<Upcoming>,
        outage: Option<Outage>,
        pulse: &Beating,
        stop: &CancellationToken,
    ) -> Result<Option<Timestamp>, StoreError> {
        let with_grace = outage.filter(|outage| !outage.grace.is_zero());
        let mut put_off: u64 = 0;
        let next = loop {
            pulse.working();
            let look = match upcoming.take() {
                Some(found) if found.deadline < self.clock.now() => Look::Found(found),
                _ => self.look(pulse, stop).await?,
            };
            if stop.is_cancelled() {
                return Ok(None);
            }
            let found = match look {
                Look::Found(found) => found,
                Look::Nobody { again } => break again,
            };
            let now = self.clock.now();
            if found.deadline >= now {
                // The instant of the deadline itself is still on time.
                let passes = found.deadline.next();
                *upcoming = Some(found);
                break Some(passes);
            }
            let passing = found
                .watchers
                .into_iter()
                .map(async |id| (id, self.pass_deadline(id, with_grace).await));
            let results: Vec<_> = stream::iter(passing)
                .buffer_unordered(Self::BATCH)
                .collect()
                .await;
            // One watcher that cannot be handled must not keep the others waiting, so this comes last.
            let mut damaged = Vec::new();
            for (id, result) in results {
                match result {
                    Ok(is_put_off) => put_off += u64::from(is_put_off),
                    Err(error @ StoreError::Corrupt(_)) => {
                        let (watcher, error) = (id.as_str(), chain(&error));
                        tracing::error!(
                            watcher,
                            error,
                            "a watcher cannot be watched until it is mended"
                        );
                        damaged.push(id);
                    }
                    Err(error) => return Err(error),
                }
            }
            let until = now.after(Self::ASIDE);
            let aside = damaged
                .iter()
                .map(|id| self.store.set_aside(id, now, until));
            try_join_all(aside).await?;
        };
        if let Some(outage) = outage {
            self.watch.outage_is_over(&outage, put_off);
        }
        Ok(next)
    }

    /// Looks up whose deadline has passed or is about to.
    async fn look(&self, pulse: &Beating, stop: &CancellationToken) -> Result<Look, StoreError> {
        let mut next = self.store.next_deadline().await?;
        while let Some(deadline) = next
            && !stop.is_cancelled()
        {
            pulse.working();
            // Each time anew: many may have passed while the store brought the next one closer.
            let now = self.clock.now();
            let ahead = deadline.before(Self::AHEAD);
            if ahead > now {
                return Ok(Look::Nobody { again: Some(ahead) });
            }
            let passed = now.max(deadline.next());
            let watchers = self.store.overdue(passed, Self::BATCH).await?;
            if !watchers.is_empty() {
                return Ok(Look::Found(Upcoming { deadline, watchers }));
            }
            next = self.store.next_deadline().await?;
            if next == Some(deadline) {
                // The store does not do what it promises; asking again at once would not help.
                let again = Some(now.after(Self::RETRY));
                return Ok(Look::Nobody { again });
            }
        }
        Ok(Look::Nobody { again: None })
    }

    /// Returns whether the deadline was put off.
    async fn pass_deadline(
        &self,
        id: WatcherId,
        outage: Option<Outage>,
    ) -> Result<bool, StoreError> {
        match self.watch.pass_deadline(id, outage).await {
            Ok(is_put_off) => Ok(is_put_off),
            Err(UseCaseError::Store(error)) => Err(error),
            // It may have been triggered, paused or deleted meanwhile.
            Err(_) => Ok(false),
        }
    }
}
