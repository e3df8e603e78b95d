//! Making the deliveries that the store owes.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rand::RngExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::health::Pulse;
use super::metrics::Metrics;
use super::trouble::{Trouble, chain};
use super::use_cases::Bells;
use crate::domain::{NoticeKind, Timestamp};
use crate::ports::{
    Claim, Clock, Delivery, DeliveryKey, Message, Notifier, NotifyError, Outcome, Progress,
    StoreError, WatcherStore,
};

/// The loop that hands what is owed to the notifier, and records what became of it.
///
/// A delivery is claimed, made, and settled. It is retried for as long as it takes, up to five days, and
/// others do not wait for it: a delivery that is slow gives up its place among those that are made at a
/// time, and goes on beside them. Retries have places of their own, so that what is to be told for the first time
/// does not wait behind hundreds of them that hang.
pub struct DeliveryLoop {
    /// Where the deliveries are.
    pub store: Arc<dyn WatcherStore>,
    /// Who makes them.
    pub notifier: Arc<dyn Notifier>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How it is called.
    pub bells: Arc<Bells>,
    /// Where results are counted.
    pub metrics: Arc<Metrics>,
    /// How it says that it is alive.
    pub pulse: Arc<Pulse>,
    /// How often it looks although nobody rings: for a store that others share, who ring elsewhere.
    pub poll: Option<Duration>,
}

/// The places of deliveries that are made at a time.
struct Hands {
    first: Arc<Semaphore>,
    again: Arc<Semaphore>,
    /// Rung when one is free again, or a delivery has ended.
    freed: Notify,
}

impl DeliveryLoop {
    /// How many quick first attempts are made at a time.
    const HANDS: usize = 32;
    /// How many quick retries are. Together that is within the fifty connections that mail servers commonly allow.
    const RETRYING: usize = 16;
    /// A delivery that takes longer than this gives up its place to another.
    const SLOW: Duration = Duration::from_secs(1);
    /// How many deliveries are under way in all, retries that wait for their turn included: a server that hangs must
    /// not take all memory.
    const MOST: usize = 512;
    /// How long a claim holds, and so how long a delivery may take.
    const LEASE: Duration = Duration::from_mins(5);
    /// A delivery is dropped this long before its lease ends, so that it is settled in time.
    const MARGIN: Duration = Duration::from_secs(30);
    /// How long it waits after the store has failed.
    const RETRY: Duration = Duration::from_secs(1);
    /// How long deliveries that are under way get to finish when the program stops.
    const LAST_CALL: Duration = Duration::from_secs(3);

    /// Runs until `stop`, then gives what is under way a few seconds. What is cut off then is still owed.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let pulse = this.pulse.start();
        let trouble = Trouble::new("reading what is owed");
        let hands = Arc::new(Hands {
            first: Arc::new(Semaphore::new(Self::HANDS)),
            again: Arc::new(Semaphore::new(Self::RETRYING)),
            freed: Notify::new(),
        });
        let mut under_way = JoinSet::new();
        let mut is_due = false;
        while !stop.is_cancelled() {
            while under_way.try_join_next().is_some() {}
            pulse.working();
            let looked = this.begin_due(is_due, &hands, &mut under_way).await;
            let works = looked.is_ok();
            let wake = match looked {
                Ok(next) => {
                    trouble.is_over();
                    pulse.waiting();
                    let poll = this.poll.unwrap_or(Pulse::PERIOD);
                    let again = this.clock.now().after(poll);
                    next.map_or(again, |next| next.min(again))
                }
                Err(error) => {
                    trouble.is_on(&error);
                    pulse.failing();
                    this.clock.now().after(Self::RETRY)
                }
            };
            is_due = tokio::select! {
                biased;
                () = stop.cancelled() => false,
                // While the store fails, ringing changes nothing, and failures ring.
                () = this.bells.delivery.notified(), if works => true,
                () = hands.freed.notified(), if works => false,
                () = this.clock.sleep_until(wake) => false,
            };
        }
        let all = async { while under_way.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Self::LAST_CALL, all).await;
    }

    /// Begins what is due while there are hands for it. Returns when to look again, unless somebody rings.
    ///
    /// What `is_due` for certain is claimed at once: to ask first would be time that an alert loses.
    async fn begin_due(
        self: &Arc<Self>,
        mut is_due: bool,
        hands: &Arc<Hands>,
        under_way: &mut JoinSet<()>,
    ) -> Result<Option<Timestamp>, StoreError> {
        loop {
            let free = hands
                .first
                .available_permits()
                .min(Self::MOST.saturating_sub(under_way.len()));
            if free == 0 {
                // Whoever finishes rings.
                return Ok(None);
            }
            let next = if is_due {
                None
            } else {
                let next = self.store.next_delivery().await?;
                if next.is_none() {
                    return Ok(None);
                }
                next
            };
            // Not sooner: the answer may have taken long, and others may have claimed meanwhile.
            let now = self.clock.now();
            let lease_end = now.after(Self::LEASE);
            let next = next.unwrap_or(now);
            // Nothing is put off for longer than a lease, so what lies further ahead was put off before the
            // clock stepped back. Claims of ours look the same, so this waits until there are none; those of
            // another server, whose clock may be ahead of ours, do not lie as far ahead as two leases.
            let has_stepped = next > lease_end.after(Self::LEASE) && under_way.is_empty();
            if next > now && !has_stepped {
                return Ok(Some(next.min(lease_end)));
            }
            let claims = self.store.claim(next.max(now), lease_end, free).await?;
            if claims.is_empty() && !is_due {
                // Somebody else was quicker; if not, asking again at once would not help.
                return Ok(Some(now.after(Self::RETRY)));
            }
            is_due = false;
            for claim in claims {
                // Who finds none waits for a retry's hand, beside the loop, so that others can be claimed meanwhile.
                let is_first = claim.delivery.attempts == 0;
                let free = if is_first { &hands.first } else { &hands.again };
                let hand = Arc::clone(free).try_acquire_owned().ok();
                let hands = Arc::clone(hands);
                under_way.spawn(Arc::clone(self).deliver(claim, lease_end, hand, hands));
            }
        }
    }

    async fn deliver(
        self: Arc<Self>,
        claim: Claim,
        lease_end: Timestamp,
        hand: Option<OwnedSemaphorePermit>,
        hands: Arc<Hands>,
    ) {
        let drop_at = lease_end.before(Self::MARGIN);
        let mut hand = if hand.is_some() {
            hand
        } else {
            let hand = Arc::clone(&hands.again).acquire_owned().await.ok();
            if self.clock.now() >= drop_at {
                // It has waited for so long that somebody else may claim it.
                return hands.freed.notify_one();
            }
            hand
        };
        let _under_way = self.metrics.under_way();
        let slow_at = self.clock.now().after(Self::SLOW);
        let Claim {
            key,
            delivery,
            events,
            slug,
        } = claim;
        let Delivery {
            notice,
            recipient,
            attempts,
        } = delivery;
        let message = Message {
            notice,
            events,
            recipient,
            slug,
        };
        let mut progress = Progress::default();
        let result = {
            let attempt = self.notifier.deliver(&message, &mut progress);
            let attempt = AssertUnwindSafe(attempt).catch_unwind();
            tokio::pin!(attempt);
            loop {
                tokio::select! {
                    biased;
                    result = &mut attempt => break result.unwrap_or_else(|_| Err(try_again("it panicked"))),
                    () = self.clock.sleep_until(slow_at), if hand.is_some() => {
                        drop(hand.take());
                        hands.freed.notify_one();
                    }
                    () = self.clock.sleep_until(drop_at) => {
                        if self.clock.now() >= drop_at {
                            break Err(try_again("it took too long"));
                        }
                    }
                }
            }
        };
        if result.is_err() {
            self.metrics.delivery_error(progress.stage);
        }
        // Later attempts would tell how long the mail server was away, not what this program costs.
        if attempts == 0
            && message.notice.kind == NoticeKind::Late
            && let Some(begun) = progress.begun
        {
            self.metrics.alerted(begun.since(message.notice.deadline));
        }
        let outcome = self.judge(&message, attempts, result);
        self.settle(&key, &outcome, lease_end).await;
        drop(hand);
        hands.freed.notify_one();
    }

    /// What the result of an attempt means, which it also logs and counts.
    fn judge(&self, message: &Message, attempts: u32, result: Result<(), NotifyError>) -> Outcome {
        let now = self.clock.now();
        let notice = &message.notice;
        let (kind, name) = (notice.kind.word(), notice.name.as_str());
        let to = message.recipient.as_str();
        let attempt = attempts + 1;
        match result {
            Ok(()) => {
                tracing::info!(kind, name, to, attempt, "a notice was delivered");
                self.metrics.delivered(notice.kind, now.since(notice.at));
                Outcome::Delivered
            }
            Err(NotifyError::TryAgain(error)) if now.since(notice.at) < backoff::GIVE_UP => {
                let next = now.after(backoff::pause(attempts, rand::rng().random()));
                let error = chain(&*error);
                tracing::warn!(kind, name, to, attempt, %next, error, "a notice could not be delivered yet");
                self.metrics.delivery_failed(notice.kind);
                Outcome::TryAgain {
                    at: next,
                    reason: error.into(),
                }
            }
            Err(NotifyError::TryAgain(error)) => {
                let error = chain(&*error);
                tracing::error!(
                    kind,
                    name,
                    to,
                    attempt,
                    error,
                    "a notice was given up after days of trying"
                );
                self.metrics.refused(notice.kind);
                Outcome::Refused(format!("given up: {error}").into())
            }
            Err(NotifyError::Refused(error)) => {
                let error = chain(&*error);
                tracing::error!(
                    kind,
                    name,
                    to,
                    attempt,
                    error,
                    "a notice was refused for good"
                );
                self.metrics.refused(notice.kind);
                Outcome::Refused(error.into())
            }
        }
    }

    /// Records the outcome. While the store fails it is tried again for as long as the claim holds: a
    /// delivery whose success is forgotten would be repeated.
    async fn settle(&self, key: &DeliveryKey, outcome: &Outcome, lease_end: Timestamp) {
        loop {
            let now = self.clock.now();
            match self.store.settle(key, outcome, now).await {
                Ok(_) => return,
                Err(error) if now >= lease_end => {
                    let watcher = key.watcher.as_str();
                    let error = chain(&error);
                    tracing::error!(
                        watcher,
                        error,
                        "a delivery could not be recorded and will be repeated"
                    );
                    return;
                }
                Err(_) => {
                    // The clock may have stepped back while the store failed.
                    let next = self.clock.now().after(Self::RETRY);
                    self.clock.sleep_until(next).await;
                }
            }
        }
    }
}

fn try_again(reason: &'static str) -> NotifyError {
    NotifyError::TryAgain(reason.into())
}

mod backoff {
    //! How long to wait before the next attempt.

    use std::time::Duration;

    /// An alert that nobody could be told for so long is no alert any more.
    pub(super) const GIVE_UP: Duration = Duration::from_hours(5 * 24);
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_mins(5);

    /// The pause after `attempts` earlier attempts and one that has just failed: a second, doubled each
    /// time up to five minutes, and up to a quarter less by `chance` (0 to 1), so that what failed
    /// together does not come back together.
    pub(super) fn pause(attempts: u32, chance: f64) -> Duration {
        let whole = FIRST.saturating_mul(1 << attempts.min(16)).min(LONGEST);
        whole.mul_f64(1.0 - chance / 4.0)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn pauses_double_from_a_second_to_five_minutes() {
            let seconds: Vec<_> = (0..11)
                .map(|attempts| pause(attempts, 0.0).as_secs())
                .collect();
            assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
            assert_eq!(pause(2, 1.0), Duration::from_secs(3));
            assert_eq!(pause(u32::MAX, 0.0), LONGEST);
        }
    }
}
