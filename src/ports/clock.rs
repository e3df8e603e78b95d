//! The present, and waiting for an instant.

use async_trait::async_trait;

use crate::domain::Timestamp;

/// Tells the time and waits for it.
///
/// # Contract
///
/// *Wall time.* Deadlines are instants of the calendar, so this is the wall clock, in UTC. It may step in
/// either direction, and the machine may be suspended; [`Clock::sleep_until`] has to notice both.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The present instant, rounded down to the millisecond.
    fn now(&self) -> Timestamp;

    /// Returns once [`Clock::now`] has reached `instant`, as soon after as the system allows.
    ///
    /// It returns at once if that is already so. A clock that steps past `instant`, or a machine that wakes
    /// after it, ends the wait within a second; a clock that steps back prolongs it. Dropping the future
    /// ends the wait without a trace.
    async fn sleep_until(&self, instant: Timestamp);
}
