//! systemd, or whoever else has started the program with a socket for notices in the environment.

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use sd_notify::NotifyState;

use crate::ports::Heartbeat;

/// The watchdog, which ends the program when it hears nothing.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog;

impl Watchdog {
    /// How long it waits for a beat; `None` if there is no watchdog.
    #[must_use]
    pub fn patience() -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
    }
}

#[async_trait]
impl Heartbeat for Watchdog {
    async fn beat(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(sd_notify::notify(&[NotifyState::Watchdog])?)
    }
}

/// Says that the program serves.
pub fn ready() {
    say(NotifyState::Ready);
}

/// Says that the program ends because it was told to.
pub fn stopping() {
    say(NotifyState::Stopping);
}

fn say(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told how it stands");
    }
}
