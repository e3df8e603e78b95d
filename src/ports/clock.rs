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

    /// Returns once [`Clock::now`] has reached `instant`, as soon after as the system allows; at once if that
    /// is already so.
    ///
    /// A clock that steps ends the wait within a second, in either direction: after a step forward the
    /// instant may have passed, and after one back the caller has to think again about what it waits for. So
    /// a caller does not rely on the instant being reached. Dropping the future ends the wait without a trace.
    async fn sleep_until(&self, instant: Timestamp);
}
