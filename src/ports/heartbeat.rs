//! Telling somebody else that this program does its work.

use std::error::Error;

use async_trait::async_trait;

/// Somebody who notices when nothing is heard for a while: another monitor, or whoever started the program.
///
/// # Contract
///
/// A beat says that all is well; there is no way to say that it is not, except by silence. Beats may get lost, so a
/// failure is no reason to beat sooner than the next time.
#[async_trait]
pub trait Heartbeat: Send + Sync {
    /// Beats once. Returns when it was heard, and within half a minute in any case.
    ///
    /// # Errors
    ///
    /// Why it was not heard, without anything that is secret.
    async fn beat(&self) -> Result<(), Box<dyn Error + Send + Sync>>;
}
