//! Watchers that cannot be made late, and that nobody looks at for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::Timestamp;

/// What a store leaves out where it looks for deadlines: watchers by whatever it knows them by, each with the deadline that
/// it had, so that any other one counts.
///
/// Nothing is written for that: what has to be mended stays as it is, and whoever starts looks at all of it again.
#[derive(Debug)]
pub(super) struct Aside<W>(Mutex<Vec<Hidden<W>>>);

#[derive(Debug)]
struct Hidden<W> {
    what: W,
    since: Timestamp,
    until: Timestamp,
}

impl<W> Default for Aside<W> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<W: Clone + PartialEq> Aside<W> {
    /// Leaves `what` out from `now` until `until` has passed.
    pub(super) fn put(&self, what: W, now: Timestamp, until: Timestamp) {
        let mut hidden = self.lock();
        hidden.retain(|hidden| hidden.what != what);
        hidden.push(Hidden {
            what,
            since: now,
            until,
        });
    }

    /// Forgets, at `now`, what was left out for long enough, or by a clock that was ahead.
    pub(super) fn take_back(&self, now: Timestamp) {
        self.lock()
            .retain(|hidden| (hidden.since..=hidden.until).contains(&now));
    }

    /// All that is left out, and when some of that is to be looked at again.
    pub(super) fn hidden<S: FromIterator<W>>(&self) -> (S, Option<Timestamp>) {
        let hidden = self.lock();
        let again = hidden.iter().map(|hidden| hidden.until).min();
        let what = hidden.iter().map(|hidden| hidden.what.clone());
        (what.collect(), again)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Hidden<W>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
