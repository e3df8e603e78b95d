//! Clocks: the system's, and one that tests move by hand.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use crate::domain::Timestamp;
use crate::ports::Clock;

/// The system's wall clock. Nothing else in the program asks the system for the time of day.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The longest single sleep. The timer under it stands still while the machine is suspended and does
    /// not see the wall clock step, so the wall clock is looked at this often. With nothing to do that is most of what
    /// the program computes.
    const LONGEST_SLEEP: Duration = Duration::from_secs(1);
    /// Less than this is a clock that is being slowed down, not one that steps back.
    const SMALLEST_STEP: Duration = Duration::from_millis(100);
    /// What is not left to the runtime's timer, which is late by a millisecond or two.
    const LAST_BIT: Duration = Duration::from_millis(3);

    #[expect(clippy::disallowed_methods, reason = "this is the one caller")]
    fn read() -> DateTime<Utc> {
        Utc::now()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Self::read().into()
    }

    async fn sleep_until(&self, instant: Timestamp) {
        let instant = DateTime::<Utc>::from(instant);
        let mut before = Self::read();
        loop {
            let now = Self::read();
            // An error is an instant that has passed.
            let rest = (instant - now).to_std().unwrap_or_default();
            let step = (before - now).to_std().unwrap_or_default();
            if rest.is_zero() || step >= Self::SMALLEST_STEP {
                return;
            }
            before = now;
            let most = rest.saturating_sub(Self::LAST_BIT);
            if most.is_zero() {
                // A thread by itself is late by a tenth of a millisecond. It fails only when the program ends.
                let _ = tokio::task::spawn_blocking(move || sleep(rest)).await;
            } else {
                tokio::time::sleep(most.min(Self::LONGEST_SLEEP)).await;
            }
        }
    }
}

/// Sleeps as exactly as the system can.
fn sleep(span: Duration) {
    // On Linux this is for the thread alone. Else it is woken together with others that are due soon after it.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(Some(std::num::NonZeroU64::MIN));
    thread::sleep(span);
}

/// A clock that stands still until somebody moves it.
///
/// Those who wait wake in the order in which they came, so that a test can be repeated.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Timestamp>,
    moved: Notify,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self {
            now: Mutex::new(now),
            moved: Notify::new(),
        }
    }

    /// Moves the clock forward by `span`, and wakes whoever waited for an instant that is reached.
    pub fn advance(&self, span: Duration) {
        let mut now = self.lock();
        *now = now.after(span);
        drop(now);
        self.moved.notify_waiters();
    }

    /// Sets the clock, forward or back, and wakes whoever waited for an instant that is reached; if it goes
    /// back, everybody.
    pub fn set(&self, now: Timestamp) {
        *self.lock() = now;
        self.moved.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Timestamp> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.lock()
    }

    async fn sleep_until(&self, instant: Timestamp) {
        let mut before = self.now();
        loop {
            // It exists before the clock is looked at, so no move falls between the two.
            let moved = self.moved.notified();
            let now = self.now();
            if now >= instant || now < before {
                return;
            }
            before = now;
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_who_has_waited_long_enough() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        clock.sleep_until(Timestamp::from_millis(0)).await;
        let sleep = clock.sleep_until(Timestamp::from_millis(10));
        tokio::pin!(sleep);
        clock.advance(Duration::from_millis(9));
        tokio::select! {
            biased;
            () = &mut sleep => panic!("it woke too early"),
            () = std::future::ready(()) => {}
        }
        clock.set(Timestamp::from_millis(10));
        sleep.await;
    }

    #[tokio::test]
    async fn the_system_clock_has_reached_what_was_waited_for() {
        let until = SystemClock.now().after(Duration::from_millis(5));
        SystemClock.sleep_until(until).await;
        assert!(SystemClock.now() >= until);
    }
}
