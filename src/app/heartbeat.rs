//! Telling others that the program does its work, for as long as that is so.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::trouble::Trouble;
use crate::ports::{Clock, Heartbeat};

/// The loop that beats: regularly while all is well, and not at all otherwise.
pub struct HeartbeatLoop {
    /// Who is told.
    pub heartbeat: Arc<dyn Heartbeat>,
    /// Whether all is well.
    pub health: Arc<Health>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How often.
    pub every: Duration,
    /// What has to be well.
    pub condition: Condition,
}

/// What has to be well for a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The loops turn, whatever they achieve: a restart mends nothing else.
    Turning,
    /// Everything that makes the program ready.
    Ready,
}

impl HeartbeatLoop {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let trouble = Trouble::new("beating the heart");
        while !stop.is_cancelled() {
            let next = self.clock.now().after(self.every);
            let turn = async {
                self.beat(&trouble).await;
                self.clock.sleep_until(next).await;
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = turn => {}
            }
        }
    }

    async fn beat(&self, trouble: &Trouble) {
        if self.is_well().await {
            match self.heartbeat.beat().await {
                Ok(()) => trouble.is_over(),
                Err(error) => trouble.is_on(&*error),
            }
        }
    }

    async fn is_well(&self) -> bool {
        match self.condition {
            Condition::Turning => self.health.is_turning(),
            Condition::Ready => self.health.readiness().await.is_ready(),
        }
    }
}
