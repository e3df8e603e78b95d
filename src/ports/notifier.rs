//! Telling one person one thing.

use std::error::Error;

use async_trait::async_trait;

use crate::domain::{Event, Notice, Recipient, Slug, Timestamp};

/// One notice for one recipient: the unit of delivery.
#[derive(Clone, Debug)]
pub struct Message {
    /// What is to be told.
    pub notice: Notice,
    /// The newest events of the watcher's history as of the notice, newest first.
    pub events: Vec<Event>,
    /// Who is to be told.
    pub recipient: Recipient,
    /// What the watcher is found by now, which does not follow from the name in the notice: the watcher may have been
    /// renamed since, or another program may have made its slug.
    pub slug: Slug,
}

/// How far an attempt to deliver a message has come: for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What the engine is about, such as `connecting`. Failures are counted by it, so it is one of a few.
    pub stage: &'static str,
    /// When the first byte of the attempt left for the server that is to take the message over; `None` if
    /// there is no such server, or none left that the attempt could go on from.
    pub begun: Option<Timestamp>,
}

impl Default for Progress {
    /// Nothing has been done yet.
    fn default() -> Self {
        Self {
            stage: "delivering",
            begun: None,
        }
    }
}

/// Tells people of notices.
///
/// # Contract
///
/// *At least once.* The delivery loop calls [`Notifier::deliver`] again until it answers `Ok` or
/// [`NotifyError::Refused`], also after a restart. An engine that can mark its messages marks them with
/// [`Notice::id`], so that a repeat is recognisable.
///
/// *Independence.* Calls run concurrently, up to a few dozen at a time. One that fails or hangs must not
/// disturb another.
///
/// *Time.* The engine bounds its own waiting, to about a minute. The delivery loop drops a call that takes
/// longer than a lease; dropping it must leave nothing behind that a later call would trip over.
///
/// *Progress.* The engine notes in `progress` how far it has come, when it has come so far: the caller reads it
/// however the attempt ends, also when it is dropped.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Hands `message` over. `Ok` means that somebody else has taken responsibility for it.
    ///
    /// # Errors
    ///
    /// [`NotifyError::Refused`] only if this recipient can never be reached with this message, however
    /// often it is tried. All else, a wrong password of ours included, is [`NotifyError::TryAgain`]: an
    /// alert is not lost because a server was set up wrongly for an hour.
    async fn deliver(&self, message: &Message, progress: &mut Progress) -> Result<(), NotifyError>;
}

/// Why a message was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// It may work later.
    #[error("could not be delivered now")]
    TryAgain(#[source] Box<dyn Error + Send + Sync>),
    /// It never will.
    #[error("was refused for good")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}
