//! Keeping watchers, their history, and what still has to be told.

use std::cmp::Reverse;
use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{
    Action, Change, Event, Filter, Name, Notice, NoticeKind, Recipient, Refusal, Slug, State,
    Timestamp, Watcher, WatcherId,
};

/// Keeps watchers, their history, and the deliveries that are still owed.
///
/// # Contract
///
/// *Durability.* When a method that changes something returns `Ok`, the change survives the death of the
/// process; on an engine with a disk, also the loss of power. When it returns an error, nothing has changed,
/// unless the error is [`StoreError::OutcomeUnknown`].
///
/// *Atomicity.* Each method takes effect as a whole, at one instant between call and return. A reader never
/// sees a watcher without the event, or without the deliveries, that belong to its state.
///
/// *Order.* Changes of one watcher happen one after another; each sees all that the ones before it did.
///
/// *Rules.* A store has none of its own: [`Watcher::apply`] and [`HistoryPolicy`] decide, and the store keeps
/// what they say. For triggers in time [`Watcher::trigger_in_time`] says the same with less.
///
/// *Cost.* [`WatcherStore::transact`] must not cost more for a watcher with a long history, and neither that
/// nor the queries that the loops make may cost more for a store with many watchers than an index costs.
/// The store reads the history of a watcher only where a method says so.
///
/// *Dropped calls.* A caller may drop a call's future at any await. The change then happens wholly or not
/// at all; the store stays usable.
///
/// *Deliveries.* A notice owes one delivery to each of its recipients. For one watcher and one recipient,
/// deliveries are handed out in the order in which their notices arose: the next one becomes due when the
/// one before it was settled for good. There is no order among recipients or watchers.
///
/// [`HistoryPolicy`]: crate::domain::HistoryPolicy
#[async_trait]
pub trait WatcherStore: Send + Sync {
    /// Keeps a watcher that it has not had, with its history: one event, for a new one, or those that another
    /// store kept. A watcher that is late owes nothing for that.
    ///
    /// # Errors
    ///
    /// [`InsertError::IdTaken`] or [`InsertError::SlugTaken`] if another watcher has the same identifier or
    /// slug, however closely the two inserts race.
    async fn insert(&self, record: &Record) -> Result<(), InsertError>;

    /// Changes the watcher named by `key` as [`Watcher::apply`] says of `action` at `now`.
    ///
    /// The watcher as it becomes, its new event, and a delivery for each recipient of each notice (due at
    /// once, unless an earlier one to the same recipient is still owed) are kept in one atomic write.
    /// With [`Detail::Full`] the answer has the watcher and its history as they are after the change.
    ///
    /// # Errors
    ///
    /// [`TransactError::NotFound`] if there is no such watcher, [`TransactError::Refused`] if the rules
    /// refuse the action, [`TransactError::SlugTaken`] if the watcher would get the slug of another.
    async fn transact(
        &self,
        key: &Key,
        action: &Action,
        now: Timestamp,
        detail: Detail,
    ) -> Result<Transacted, TransactError>;

    /// The watcher named by `key` with its history, or `None` if there is no such watcher.
    async fn find(&self, key: &Key) -> Result<Option<Record>, StoreError>;

    /// A page of the watchers that match `filter`, ordered by slug: the first `limit` of those whose slug
    /// comes after `after`, in the order of the slugs' bytes.
    ///
    /// Fewer than `limit` means that there are no more. Each page is consistent in itself; a watcher that
    /// is renamed between two pages may be on both or on neither. With [`Detail::Full`] each has its history.
    async fn list(
        &self,
        filter: &Filter,
        after: Option<&Slug>,
        limit: usize,
        detail: Detail,
    ) -> Result<Vec<Record>, StoreError>;

    /// Forgets the watcher named by `key`, with its history, the deliveries it still owes and what became of others.
    /// Returns whether there was one.
    async fn delete(&self, key: &Key) -> Result<bool, StoreError>;

    /// When a deadline passes next: not later than the earliest deadline of a watcher on time, or `None` if
    /// no watcher is on time.
    ///
    /// It may be earlier than that, as long as calls of [`WatcherStore::overdue`] bring it closer. What was
    /// [set aside](WatcherStore::set_aside) does not count.
    async fn next_deadline(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Watchers on time whose deadline lies before `now`, at most `limit` (which is at least 1), in any order.
    ///
    /// There are more as long as [`WatcherStore::next_deadline`] lies before `now`; a call that returns none
    /// has brought that closer. `now` may lie some milliseconds ahead of the clock.
    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<WatcherId>, StoreError>;

    /// Leaves the watcher `id`, whose deadline lay before `now`, out of what [`WatcherStore::overdue`] answers until `until`
    /// has passed: something of it cannot be read, so it cannot be made late, and must not stand in the way of the others.
    ///
    /// That holds for the deadline that it has; once it gets another one that counts as ever, and if it has got one by now,
    /// or is not there any more, nobody is left out. Until `until` [`WatcherStore::next_deadline`] may take that for one of
    /// the deadlines in place of what is left out. A store forgets all this when it is closed.
    async fn set_aside(
        &self,
        id: &WatcherId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(), StoreError>;

    /// Records that deadlines are watched at `now`, by whichever process. An earlier record is replaced, also one
    /// of a later instant: that clock was wrong.
    async fn keep_watch(&self, now: Timestamp) -> Result<(), StoreError>;

    /// When it was last recorded that deadlines are watched; `None` if it never was.
    async fn last_watch(&self) -> Result<Option<Timestamp>, StoreError>;

    /// When a delivery becomes due next, or a claim's lease ends, whichever comes first; `None` if nothing
    /// is owed.
    async fn next_delivery(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Claims deliveries that are due at `now`, at most `limit`, those that have been due longest first.
    ///
    /// Nobody else is handed a claimed delivery before `lease_end`; from then on it is due again, unless it
    /// was settled. Of claims that race for a delivery exactly one gets it. A store that only one process
    /// can open lets go of all claims when it is opened.
    async fn claim(
        &self,
        now: Timestamp,
        lease_end: Timestamp,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError>;

    /// Records what became of a claimed delivery. Returns whether the claim still held: `false` means that
    /// nothing was recorded, because the lease had ended and somebody else holds or has settled it, or
    /// because the watcher is gone.
    ///
    /// [`Outcome::Delivered`] and [`Outcome::Refused`] are final: the delivery is no longer owed, and the
    /// next one to the same recipient becomes due at `now`. A refused one is kept, for the [`Census`], until
    /// a later delivery to the same recipient is settled for good or the watcher is deleted.
    ///
    /// What became of it, and why it has failed so far, is kept for [`WatcherStore::deliveries`] in the same
    /// atomic write.
    async fn settle(
        &self,
        claim: &DeliveryKey,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Reports on the deliveries of a watcher: all that are owed, claimed or not, and the
    /// [`DeliveryReport::KEPT`] that were settled for good last; none if there is no such watcher.
    ///
    /// Those of the newest notice come first, and those of one notice in the order of its recipients. It is for
    /// people: it may take time in proportion to what is owed, and leaves out what cannot be read. What was settled for good costs no method anything but
    /// this one and the one that settles: no other reads it.
    async fn deliveries(&self, watcher: &WatcherId) -> Result<Vec<DeliveryReport>, StoreError>;

    /// When the oldest notice arose of those that are still owed to somebody; `None` if nothing is owed. It may
    /// take time in proportion to what is owed.
    async fn oldest_notice(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Counts what is there, for the metrics; it may take time in proportion.
    async fn census(&self) -> Result<Census, StoreError>;

    /// Returns when the store has shown that it can read and write; it changes nothing that others see.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Finishes what was begun and lets go of the engine. Later calls fail; a second close does nothing.
    async fn close(&self);
}

/// Hears how a store works, for the metrics.
pub trait StoreObserver: Send + Sync {
    /// So many changes have shared a commit, and so many more were waiting for the next one. A store that leaves
    /// commits to an engine has nothing to tell of them.
    fn committed(&self, changes: usize, waiting: usize);

    /// A call of the method `operation` has taken so long.
    fn called(&self, operation: &'static str, took: Duration);
}

/// Nobody listens.
impl StoreObserver for () {
    fn committed(&self, _: usize, _: usize) {}

    fn called(&self, _: &'static str, _: Duration) {}
}

/// How somebody names a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// By its identifier.
    Id(WatcherId),
    /// By its slug.
    Slug(Slug),
    /// By its name, which has to be the very same; names are unique since their slugs are.
    Name(Name),
}

/// How much of a watcher a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The watcher without its history; of a trigger in time perhaps only what it did.
    Summary,
    /// The watcher with its history.
    Full,
}

/// A watcher as a store takes it in and hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The watcher.
    pub watcher: Watcher,
    /// Its history, newest first, as far as the history policy keeps it; empty with [`Detail::Summary`].
    pub history: Vec<Event>,
}

/// A new watcher with its first event.
impl From<(Watcher, Event)> for Record {
    fn from((watcher, event): (Watcher, Event)) -> Self {
        Self {
            watcher,
            history: vec![event],
        }
    }
}

/// What [`WatcherStore::transact`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transacted {
    /// How the watcher stood before the change.
    pub before: State,
    /// How it stands now.
    pub after: State,
    /// What is new in its history.
    pub event: Option<Event>,
    /// It was late, and was triggered.
    pub recovered: bool,
    /// It was paused, and was triggered.
    pub unpaused: bool,
    /// Who has to be told what, for which deliveries are kept.
    pub notices: Vec<Notice>,
    /// The watcher as it is now. With [`Detail::Summary`] it may be absent after a trigger in time: that needs so
    /// little of a watcher that a store need not read the rest.
    pub watcher: Option<Watcher>,
    /// The history after the change; empty with [`Detail::Summary`].
    pub history: Vec<Event>,
}

impl Transacted {
    /// What it means that `change` was kept of a watcher that stood like `before`.
    #[must_use]
    pub fn new(before: State, change: Change, history: Vec<Event>) -> Self {
        let Change {
            watcher,
            event,
            notices,
            recovered,
            unpaused,
        } = change;
        Self {
            before,
            after: watcher.state,
            event,
            recovered,
            unpaused,
            notices,
            watcher: Some(watcher),
            history,
        }
    }

    /// What it means that a watcher was triggered in time, and has until `after` where it had until `before`.
    #[must_use]
    pub fn in_time(before: Timestamp, after: Timestamp, event: Event) -> Self {
        Self {
            before: State::OnTime { deadline: before },
            after: State::OnTime { deadline: after },
            event: Some(event),
            recovered: false,
            unpaused: false,
            notices: Vec::new(),
            watcher: None,
            history: Vec::new(),
        }
    }
}

/// The name of a claimed delivery in its store: opaque to everybody else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryKey {
    /// The watcher that owes it.
    pub watcher: WatcherId,
    /// The delivery's number within its store or watcher.
    pub number: i64,
    /// What tells this claim from an earlier or later one of the same delivery.
    pub token: u64,
}

/// One notice owed to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What is to be told.
    pub notice: Notice,
    /// Who is to be told.
    pub recipient: Recipient,
    /// How often it was tried in vain.
    pub attempts: u32,
}

/// A delivery that was handed out to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What to settle it by.
    pub key: DeliveryKey,
    /// What to deliver. The notice's `recipients` may be left empty: `recipient` is who counts.
    pub delivery: Delivery,
    /// The newest events of the watcher that are not later than the notice's `last_event`, newest first,
    /// at most [`Notice::EVENTS_SHOWN`].
    pub events: Vec<Event>,
    /// The watcher's slug as it is when this is claimed: it may have been renamed since the notice arose.
    pub slug: Slug,
}

/// What became of a claimed delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken over by somebody who will see to the rest.
    Delivered,
    /// It failed for the given reason; it is due again at the given instant.
    TryAgain {
        /// When it is due again.
        at: Timestamp,
        /// Why it failed.
        reason: Reason,
    },
    /// It will never succeed, for the given reason.
    Refused(Reason),
}

/// Why a delivery failed, in words for people.
///
/// It is often what some mail server said, and every store has to keep it: it has at most
/// [`Reason::MAX_CHARS`] characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// The most characters that a reason has.
    pub const MAX_CHARS: usize = 500;

    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is too long loses its end.
impl From<String> for Reason {
    fn from(mut text: String) -> Self {
        if let Some((end, _)) = text.char_indices().nth(Self::MAX_CHARS) {
            text.truncate(end);
        }
        Self(text)
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// How one delivery stands, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReport {
    /// What is told.
    pub told: Told,
    /// When the notice was decided.
    pub at: Timestamp,
    /// The deadline that was missed.
    pub deadline: Timestamp,
    /// Who is told.
    pub recipient: Recipient,
    /// How often it was tried, the last time included.
    pub attempts: u32,
    /// How it stands.
    pub state: DeliveryState,
}

/// What a notice tells, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The deadline has passed.
    Late,
    /// The watcher is no longer late.
    Resumed,
}

impl From<NoticeKind> for Told {
    fn from(kind: NoticeKind) -> Self {
        match kind {
            NoticeKind::Late => Self::Late,
            NoticeKind::Resumed { .. } => Self::Resumed,
        }
    }
}

/// How a delivery stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is still to be made.
    Owed {
        /// From when on it may be claimed: while somebody is at it that is the end of the lease. `None` while an
        /// earlier one to the same recipient is owed.
        due: Option<Timestamp>,
        /// Why the last attempt failed; `None` if there was none.
        failure: Option<Reason>,
    },
    /// It was taken over by somebody who has seen to the rest.
    Delivered {
        /// When that was settled.
        at: Timestamp,
    },
    /// It will never be made.
    Refused {
        /// When that was settled.
        at: Timestamp,
        /// Why.
        reason: Reason,
    },
}

impl DeliveryReport {
    /// How many deliveries that were settled for good a watcher is remembered by.
    pub const KEPT: usize = 100;

    /// The reports in the order of [`WatcherStore::deliveries`]. Each comes with a number of the store's: of two
    /// deliveries of a watcher the later one has the higher.
    #[must_use]
    pub fn in_order(mut numbered: Vec<(i64, Self)>) -> Vec<Self> {
        numbered.sort_unstable_by_key(|(number, _)| Reverse(*number));
        let notice_of = |report: &Self| (report.told, report.at, report.deadline);
        for told in numbered.chunk_by_mut(|(_, one), (_, next)| notice_of(one) == notice_of(next)) {
            told.reverse();
        }
        numbered.into_iter().map(|(_, report)| report).collect()
    }
}

/// How much is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Watchers on time.
    pub on_time: u64,
    /// Watchers that are late.
    pub late: u64,
    /// Watchers that are paused.
    pub paused: u64,
    /// Deliveries that are owed, claimed or not.
    pub owed: u64,
    /// Deliveries that were refused for good.
    pub refused: u64,
}

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed or is out of reach; it may be there later.
    #[error("the store is not available")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// The engine was lost in the middle of a change, which has happened wholly or not at all, or still may.
    /// Only an engine behind a network has a reason to say so.
    #[error("the store was lost in the middle of a change, which may have been made")]
    OutcomeUnknown(#[source] Box<dyn Error + Send + Sync>),
    /// The engine answered with something that this program did not write.
    #[error("the store holds something that cannot be understood: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// The engine failed because of `cause`.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// Whether the change was made cannot be told, because of `cause`.
    pub fn outcome_unknown(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::OutcomeUnknown(cause.into())
    }
}

/// Why a watcher was not inserted.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// Another watcher has its identifier.
    #[error("the identifier is taken")]
    IdTaken,
    /// Another watcher has its slug.
    #[error("the slug is taken")]
    SlugTaken,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a watcher was not changed.
#[derive(Debug, thiserror::Error)]
pub enum TransactError {
    /// There is no such watcher.
    #[error("there is no such watcher")]
    NotFound,
    /// Another watcher has the slug that it would get.
    #[error("the slug is taken")]
    SlugTaken,
    /// The rules forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_loses_its_end_between_two_characters() {
        let most = "é".repeat(Reason::MAX_CHARS);
        for (text, kept) in [
            ("", ""),
            ("no such mailbox", "no such mailbox"),
            (most.as_str(), &most),
            (&format!("{most}e"), &most),
            (&format!("{most}é"), &most),
        ] {
            assert_eq!(Reason::from(text).as_str(), kept);
        }
    }
}
