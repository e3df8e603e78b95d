//! Where watchers stand, as far as that has been asked for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::WatcherId;
use crate::ports::Key;

/// The rows of watchers that were named by their identifier, so that a trigger need not look into the index of those.
///
/// What is remembered can have gone, but never be wrong: a watcher keeps its row until it is deleted, and no other gets
/// that row then.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<BTreeMap<WatcherId, i64>>);

impl Places {
    /// How many are remembered, in less than 2 MB. A million took 25 MB, and hardly brought more triggers.
    const MOST: usize = 1 << 16;

    pub(super) fn find(&self, key: &Key) -> Option<i64> {
        match key {
            Key::Id(id) => self.rows().get(id).copied(),
            Key::Slug(_) | Key::Name(_) => None,
        }
    }

    /// Remembers the row of a watcher, which has to be on the disk: until then it may yet become another's.
    pub(super) fn remember(&self, key: &Key, row: i64) {
        if let Key::Id(id) = key {
            let mut rows = self.rows();
            if rows.len() >= Self::MOST {
                // One is as good as another: which of them will be asked for is not known.
                rows.pop_first();
            }
            rows.insert(*id, row);
        }
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<WatcherId, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
