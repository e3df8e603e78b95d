//! Whether the program does its work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::ports::{Census, Clock, StoreError, WatcherStore};

/// What a loop is doing, as the loop itself says; if it dies, its end says so for it.
#[derive(Debug)]
pub struct Pulse(Mutex<Beat>);

#[derive(Clone, Copy, Debug)]
enum Beat {
    Waiting(Instant),
    Working(Instant),
    Failing(Instant),
    Stopped,
}

impl Default for Pulse {
    fn default() -> Self {
        Self(Mutex::new(Beat::Stopped))
    }
}

impl Pulse {
    /// How often a loop turns at least, even if there is nothing to do.
    pub const PERIOD: Duration = Duration::from_secs(10);
    /// A loop that has not turned for longer than this is taken to hang, at a piece of work or asleep.
    const LONGEST_TURN: Duration = Duration::from_secs(40);
    const FAILS: &str = "fails";

    /// The loop begins; it is taken to have stopped once the returned value is dropped.
    pub fn start(self: &Arc<Self>) -> Beating {
        let beating = Beating(Arc::clone(self));
        beating.waiting();
        beating
    }

    /// What is wrong with the loop, if anything.
    #[must_use]
    pub fn complaint(&self) -> Option<&'static str> {
        let hangs = |since: Instant| since.elapsed() > Self::LONGEST_TURN;
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Beat::Stopped => Some("has stopped"),
            Beat::Waiting(since) | Beat::Working(since) | Beat::Failing(since) if hangs(since) => {
                Some("hangs")
            }
            Beat::Waiting(_) | Beat::Working(_) => None,
            Beat::Failing(_) => Some(Self::FAILS),
        }
    }

    fn set(&self, beat: Beat) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = beat;
    }
}

/// The loop's side of a [`Pulse`].
#[derive(Debug)]
pub struct Beating(Arc<Pulse>);

impl Beating {
    /// The loop waits for something to do.
    pub fn waiting(&self) {
        self.0.set(Beat::Waiting(Instant::now()));
    }

    /// The loop begins a piece of work, or the next part of a long one.
    pub fn working(&self) {
        self.0.set(Beat::Working(Instant::now()));
    }

    /// The last piece of work failed; the loop will try again.
    pub fn failing(&self) {
        self.0.set(Beat::Failing(Instant::now()));
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.set(Beat::Stopped);
    }
}

/// The parts whose health is looked at.
pub struct Health {
    store: Arc<dyn WatcherStore>,
    clock: Arc<dyn Clock>,
    oldest: Option<Duration>,
    /// The scheduler's pulse.
    pub scheduler: Arc<Pulse>,
    /// The delivery loop's pulse.
    pub delivery: Arc<Pulse>,
}

/// What is wrong with each part; `None` if nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The store's complaint.
    pub store: Option<&'static str>,
    /// The scheduler's complaint.
    pub scheduler: Option<&'static str>,
    /// The delivery loop's complaint.
    pub delivery: Option<&'static str>,
    /// What is wrong with the notices that are owed.
    pub notices: Option<&'static str>,
}

impl Readiness {
    /// Whether every part does its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self == Self::default()
    }

    /// Each part by its name, with its complaint.
    #[must_use]
    pub const fn parts(&self) -> [(&'static str, Option<&'static str>); 4] {
        [
            ("store", self.store),
            ("scheduler", self.scheduler),
            ("delivery", self.delivery),
            ("notices", self.notices),
        ]
    }
}

impl Health {
    /// How long the store may take to answer.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Looks after `store` and two loops that have yet to start. Something is wrong if a notice is owed for longer
    /// than `oldest`, by the time of `clock`.
    #[must_use]
    pub fn new(
        store: Arc<dyn WatcherStore>,
        clock: Arc<dyn Clock>,
        oldest: Option<Duration>,
    ) -> Self {
        Self {
            store,
            clock,
            oldest,
            scheduler: Arc::default(),
            delivery: Arc::default(),
        }
    }

    /// Counts what the store holds, and how old the oldest notice is that it owes; `None` if it does not answer
    /// within five seconds.
    pub async fn census(&self) -> Option<(Census, Duration)> {
        let asked = async {
            let census = self.store.census().await?;
            let oldest = self.store.oldest_notice().await?;
            let age = oldest.map(|oldest| self.clock.now().since(oldest));
            Ok::<_, StoreError>((census, age.unwrap_or_default()))
        };
        tokio::time::timeout(Self::PATIENCE, asked).await.ok()?.ok()
    }

    /// Whether both loops turn, whatever they achieve.
    #[must_use]
    pub fn is_turning(&self) -> bool {
        [&self.scheduler, &self.delivery]
            .iter()
            .all(|pulse| matches!(pulse.complaint(), None | Some(Pulse::FAILS)))
    }

    /// Asks every part, and waits at most five seconds for the store.
    pub async fn readiness(&self) -> Readiness {
        let asked = tokio::time::timeout(Self::PATIENCE, self.ask_store()).await;
        let (store, waits) = match asked {
            Ok(Ok(waits)) => (None, waits),
            Ok(Err(_)) => (Some("fails"), false),
            Err(_) => (Some("does not answer"), false),
        };
        Readiness {
            store,
            scheduler: self.scheduler.complaint(),
            delivery: self.delivery.complaint(),
            notices: waits.then_some("wait for too long to be delivered"),
        }
    }

    /// Whether a notice has been owed for too long.
    async fn ask_store(&self) -> Result<bool, StoreError> {
        self.store.ping().await?;
        let Some(longest) = self.oldest else {
            return Ok(false);
        };
        let oldest = self.store.oldest_notice().await?;
        let now = self.clock.now();
        Ok(oldest.is_some_and(|oldest| now.since(oldest) > longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pulse: &Pulse, complaint: Option<&str>) {
        assert_eq!(pulse.complaint(), complaint);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_hangs_whatever_it_was_doing() {
        let pulse = Arc::new(Pulse::default());
        check(&pulse, Some("has stopped"));
        let beating = pulse.start();
        let beats: [(fn(&Beating), _); 3] = [
            (Beating::waiting, None),
            (Beating::working, None),
            (Beating::failing, Some("fails")),
        ];
        for (beat, complaint) in beats {
            beat(&beating);
            check(&pulse, complaint);
            tokio::time::advance(Pulse::LONGEST_TURN).await;
            check(&pulse, complaint);
            tokio::time::advance(Duration::from_millis(1)).await;
            check(&pulse, Some("hangs"));
        }
        drop(beating);
        check(&pulse, Some("has stopped"));
    }
}
