//! Notices as lines in the log: what there is while nobody has set up mail.

use async_trait::async_trait;

use crate::ports::{Message, Notifier, NotifyError, Progress};

/// Writes each notice to the log as a warning, which counts as delivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogNotifier;

#[async_trait]
impl Notifier for LogNotifier {
    async fn deliver(&self, message: &Message, _: &mut Progress) -> Result<(), NotifyError> {
        let notice = &message.notice;
        tracing::warn!(
            to = message.recipient.as_str(),
            deadline = %notice.deadline,
            "{}",
            notice.subject()
        );
        Ok(())
    }
}
