//! Whether the program does its work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::ports::{Census, WatcherStore};

/// What a loop is doing, as the loop itself says; if it dies, its end says so for it.
#[derive(Debug)]
pub struct Pulse(Mutex<Beat>);

#[derive(Clone, Copy, Debug)]
enum Beat {
    Waiting,
    Working(Instant),
    Failing,
    Stopped,
}

impl Default for Pulse {
    fn default() -> Self {
        Self(Mutex::new(Beat::Stopped))
    }
}

impl Pulse {
    /// A loop that is at one piece of work for longer than this is taken to hang.
    const LONGEST_WORK: Duration = Duration::from_secs(30);

    /// The loop begins; it is taken to have stopped once the returned value is dropped.
    pub fn start(self: &Arc<Self>) -> Beating {
        let beating = Beating(Arc::clone(self));
        beating.waiting();
        beating
    }

    /// What is wrong with the loop, if anything.
    #[must_use]
    pub fn complaint(&self) -> Option<&'static str> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Beat::Waiting => None,
            Beat::Working(since) if since.elapsed() < Self::LONGEST_WORK => None,
            Beat::Working(_) => Some("hangs"),
            Beat::Failing => Some("fails"),
            Beat::Stopped => Some("has stopped"),
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
        self.0.set(Beat::Waiting);
    }

    /// The loop begins a piece of work.
    pub fn working(&self) {
        self.0.set(Beat::Working(Instant::now()));
    }

    /// The last piece of work failed; the loop will try again.
    pub fn failing(&self) {
        self.0.set(Beat::Failing);
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
}

impl Readiness {
    /// Whether every part does its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self == Self::default()
    }
}

impl Health {
    /// How long the store may take to answer.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Looks after `store` and two loops that have yet to start.
    #[must_use]
    pub fn new(store: Arc<dyn WatcherStore>) -> Self {
        Self {
            store,
            scheduler: Arc::default(),
            delivery: Arc::default(),
        }
    }

    /// Counts what the store holds; `None` if it does not answer within five seconds.
    pub async fn census(&self) -> Option<Census> {
        tokio::time::timeout(Self::PATIENCE, self.store.census())
            .await
            .ok()?
            .ok()
    }

    /// Asks every part, and waits at most five seconds for the store.
    pub async fn readiness(&self) -> Readiness {
        let store = match tokio::time::timeout(Self::PATIENCE, self.store.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some("fails"),
            Err(_) => Some("does not answer"),
        };
        Readiness {
            store,
            scheduler: self.scheduler.complaint(),
            delivery: self.delivery.complaint(),
        }
    }
}
