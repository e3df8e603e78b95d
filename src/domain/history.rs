//! What happened to a watcher, and how much of it is kept.

use std::time::Duration;

use super::Timestamp;

/// One line of a watcher's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened.
    pub at: Timestamp,
    /// What happened, in the words that answers and mails show, such as `Triggered (nightly run)`.
    pub text: String,
}

/// What kind of event a line of a history tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The watcher was created.
    Created,
    /// Its task reported.
    Triggered,
    /// Somebody paused it.
    Paused,
    /// Somebody ended its pause.
    Unpaused,
    /// Something that this program does not write.
    Other,
}

impl Event {
    /// The words that events of each kind begin with.
    const KINDS: [(&str, EventKind); 4] = [
        ("Watcher created", EventKind::Created),
        ("Triggered", EventKind::Triggered),
        ("Paused", EventKind::Paused),
        ("Unpaused", EventKind::Unpaused),
    ];

    /// What kind of event it is: its text begins with a word for it, and comments come after that.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        let mut kinds = Self::KINDS.iter();
        let found = kinds.find(|(words, _)| self.text.starts_with(words));
        found.map_or(EventKind::Other, |(_, kind)| *kind)
    }

    pub(super) fn created(at: Timestamp) -> Self {
        Self {
            at,
            text: "Watcher created".to_owned(),
        }
    }

    pub(super) fn triggered(at: Timestamp, comment: &Comment) -> Self {
        Self {
            at,
            text: comment.attach_to("Triggered"),
        }
    }

    pub(super) fn paused(at: Timestamp, comment: &Comment) -> Self {
        Self {
            at,
            text: comment.attach_to("Paused"),
        }
    }

    pub(super) fn unpaused(at: Timestamp, comment: &Comment) -> Self {
        Self {
            at,
            text: comment.attach_to("Unpaused"),
        }
    }
}

/// What a caller says about a trigger, a pause or its end; empty for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comment(String);

/// A comment over [`Comment::MAX_CHARS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is longer than {} characters", Comment::MAX_CHARS)]
pub struct InvalidComment;

impl Comment {
    /// The longest comment, in characters: it bounds what a full history weighs.
    pub const MAX_CHARS: usize = 1_000;

    /// Reads a comment; white space around it is dropped.
    ///
    /// # Errors
    ///
    /// [`InvalidComment`] if it is too long.
    pub fn parse(text: &str) -> Result<Self, InvalidComment> {
        let comment = text.trim();
        if comment.chars().count() > Self::MAX_CHARS {
            return Err(InvalidComment);
        }
        Ok(Self(comment.to_owned()))
    }

    fn attach_to(&self, what: &str) -> String {
        if self.0.is_empty() {
            what.to_owned()
        } else {
            format!("{what} ({})", self.0)
        }
    }
}

/// Which events of a watcher are kept, as seen from its newest one.
///
/// An event stays while it is among the newest 100 or not older than a week before the newest event; in
/// no case are there more than the limit. The rule is applied as each event arrives, so a history does
/// not change by itself while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPolicy {
    limit: usize,
}

impl HistoryPolicy {
    /// This many events stay however old they are, if the limit allows it.
    pub const ALWAYS: usize = 100;
    /// Events younger than this stay however many they are, if the limit allows it.
    pub const AGE: Duration = Duration::from_hours(7 * 24);
    /// The limit where nobody sets another.
    pub const DEFAULT_LIMIT: usize = 1_000;
    /// The highest limit: more could not be answered, or kept in one document, within reason.
    pub const MAX_LIMIT: usize = 10_000;

    /// A policy that keeps at most `limit` events of a watcher; `None` unless that is between 1 and
    /// [`HistoryPolicy::MAX_LIMIT`].
    #[must_use]
    pub const fn with_limit(limit: usize) -> Option<Self> {
        if limit >= 1 && limit <= Self::MAX_LIMIT {
            Some(Self { limit })
        } else {
            None
        }
    }

    /// The most events that are kept of one watcher.
    #[must_use]
    pub const fn limit(self) -> usize {
        self.limit
    }

    /// Events before this instant are kept only among the newest [`HistoryPolicy::ALWAYS`].
    #[must_use]
    pub fn cutoff(newest: Timestamp) -> Timestamp {
        newest.before(Self::AGE)
    }

    /// Takes away what is not kept of a history, which is newest first.
    pub fn prune(self, history: &mut Vec<Event>) {
        let Some(newest) = history.first().map(|event| event.at) else {
            return;
        };
        let ranked = history.iter().enumerate();
        let kept = ranked
            .take_while(|(rank, event)| self.keeps(*rank, event.at, newest))
            .count();
        history.truncate(kept);
    }

    /// Whether an event from `at` is kept that has `rank` newer ones, the newest of them from `newest`.
    #[must_use]
    pub fn keeps(self, rank: usize, at: Timestamp, newest: Timestamp) -> bool {
        rank < self.limit && (rank < Self::ALWAYS || at >= Self::cutoff(newest))
    }
}

impl Default for HistoryPolicy {
    fn default() -> Self {
        Self {
            limit: Self::DEFAULT_LIMIT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_stand_in_brackets_behind_what_happened() {
        let at = Timestamp::from_millis(0);
        let comment = Comment::parse(" it worked \n").unwrap_or_default();
        assert_eq!(Event::triggered(at, &comment).text, "Triggered (it worked)");
        assert_eq!(Event::triggered(at, &Comment::default()).text, "Triggered");
        assert_eq!(Event::paused(at, &comment).text, "Paused (it worked)");
        assert_eq!(Event::unpaused(at, &comment).text, "Unpaused (it worked)");
        assert_eq!(Event::created(at).text, "Watcher created");
        assert_eq!(Comment::parse(&"x".repeat(1_001)), Err(InvalidComment));
    }

    #[test]
    fn a_week_or_the_newest_hundred_are_kept_up_to_the_limit() {
        let policy = HistoryPolicy::default();
        let newest = Timestamp::from_millis(1_000_000_000_000);
        let week_ago = newest.before(HistoryPolicy::AGE);
        let older = week_ago.before(Duration::from_millis(1));
        assert!(policy.keeps(99, older, newest));
        assert!(!policy.keeps(100, older, newest));
        assert!(policy.keeps(100, week_ago, newest));
        assert!(policy.keeps(999, newest, newest));
        assert!(!policy.keeps(1_000, newest, newest));
    }

    #[test]
    fn a_limit_below_a_hundred_wins() {
        let newest = Timestamp::from_millis(0);
        let policy = HistoryPolicy::with_limit(5).unwrap_or_default();
        assert!(policy.keeps(4, newest, newest));
        assert!(!policy.keeps(5, newest, newest));
        assert_eq!(HistoryPolicy::with_limit(0), None);
        assert_eq!(HistoryPolicy::with_limit(10_001), None);
    }
}
