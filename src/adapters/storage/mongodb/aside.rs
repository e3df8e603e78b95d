//! Watchers that nobody looks at for a while, since they cannot be made late.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mongodb::bson::{Document, doc};

use super::documents::date;
use crate::domain::Timestamp;

/// Documents that are left out where deadlines are looked for. Nothing is written to them: each server finds out by itself
/// that they have to be mended.
#[derive(Debug, Default)]
pub(super) struct Aside(Mutex<Vec<Hidden>>);

#[derive(Debug)]
struct Hidden {
    /// What finds it, as long as it has the deadline that it had.
    is_it: Document,
    until: Timestamp,
}

impl Aside {
    /// Leaves out the document that `is_it` finds, until `until`, if its deadline lies before `now`: one that it gets later
    /// counts.
    pub(super) fn put(&self, mut is_it: Document, now: Timestamp, until: Timestamp) {
        is_it.insert("deadline", doc! { "$lt": date(now) });
        self.hidden().push(Hidden { is_it, until });
    }

    /// What `filter` finds, but for what is left out, and until when some of that is.
    pub(super) fn leave_out(&self, mut filter: Document) -> (Document, Option<Timestamp>) {
        let hidden = self.hidden();
        let again = hidden.iter().map(|hidden| hidden.until).min();
        if again.is_some() {
            let hidden: Vec<_> = hidden.iter().map(|hidden| hidden.is_it.clone()).collect();
            filter.insert("$nor", hidden);
        }
        (filter, again)
    }

    /// Leaves out no longer what was left out until before `now`.
    pub(super) fn take_back(&self, now: Timestamp) {
        self.hidden().retain(|hidden| hidden.until >= now);
    }

    fn hidden(&self) -> MutexGuard<'_, Vec<Hidden>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
