//! Which deliveries are handed out, and until when.
//!
//! Only one process can have the database open, and claims do not outlive it. So a claim has no business on the disk:
//! it is kept here, and an alert does not wait for a second commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::domain::Timestamp;

/// The claims that hold.
///
/// They are locked while what is due is looked up, so that nothing comes in between. The writer waits for that when it
/// settles something, so it is one look at an index and no more.
#[derive(Debug)]
pub(super) struct Claims(Mutex<Held>);

#[derive(Debug)]
struct Held {
    /// By the row of the delivery.
    leases: HashMap<i64, Lease>,
    last_token: u64,
}

impl Default for Claims {
    fn default() -> Self {
        Self(Mutex::new(Held {
            leases: HashMap::new(),
            // Anywhere, so that a claim of an earlier process means nothing here.
            last_token: rand::random(),
        }))
    }
}

#[derive(Debug)]
struct Lease {
    token: u64,
    end: Timestamp,
    /// What became of it is on its way to the disk. Until that is known nobody else gets it, nor settles it.
    is_settling: bool,
}

/// A delivery that was claimed, by its row and the claim's token.
pub(super) type Claimed = (i64, u64);

impl Claims {
    /// Claims what is due at `now`, at most `limit`, those that have been due longest first. Once its lease has ended, a
    /// delivery has been due since then, also if the clock has stepped back meanwhile.
    ///
    /// The connection must not have read anything in its transaction before: a claim is forgotten only when its
    /// outcome can be seen, so whoever sees what was before that also sees the claim.
    pub(super) fn take(
        &self,
        connection: &Connection,
        now: Timestamp,
        end: Timestamp,
        limit: usize,
    ) -> rusqlite::Result<Vec<Claimed>> {
        let mut held = self.held();
        let mut due = Vec::new();
        let mut statement = connection
            .prepare_cached("SELECT due, row FROM deliveries WHERE due <= ?1 ORDER BY due, row")?;
        let mut rows = statement.query([now.millis()])?;
        while due.len() < limit
            && let Some(row) = rows.next()?
        {
            let number = row.get(1)?;
            if !held.leases.contains_key(&number) {
                due.push((Timestamp::from_millis(row.get(0)?), number));
            }
        }
        let ended = held.leases.iter();
        let ended = ended.filter(|(_, lease)| lease.end <= now && !lease.is_settling);
        let ended: Vec<_> = ended.map(|(number, lease)| (lease.end, *number)).collect();
        for (end, number) in ended {
            if is_owed(connection, number)? {
                due.push((end, number));
            } else {
                held.leases.remove(&number);
            }
        }
        due.sort_unstable();
        due.truncate(limit);
        let claimed = due.into_iter().map(|(_, number)| {
            held.last_token = held.last_token.wrapping_add(1);
            let token = held.last_token;
            let lease = Lease {
                token,
                end,
                is_settling: false,
            };
            held.leases.insert(number, lease);
            (number, token)
        });
        Ok(claimed.collect())
    }

    /// When a delivery becomes due next, or the lease of one ends. The connection is as for [`Claims::take`].
    pub(super) fn next(&self, connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
        let held = self.held();
        let mut next = None;
        let mut statement = connection.prepare_cached(
            "SELECT due, row FROM deliveries WHERE due IS NOT NULL ORDER BY due, row",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if !held.leases.contains_key(&row.get(1)?) {
                next = Some(Timestamp::from_millis(row.get(0)?));
                break;
            }
        }
        for (number, lease) in &held.leases {
            if next.is_none_or(|next| lease.end < next) && is_owed(connection, *number)? {
                next = Some(lease.end);
            }
        }
        Ok(next)
    }

    /// When the leases end of what somebody is at, by the row of the delivery, as of the moment of the first `read` of
    /// a transaction. What is being settled is left out.
    pub(super) fn as_of<T>(
        &self,
        read: impl FnOnce() -> rusqlite::Result<T>,
    ) -> rusqlite::Result<(T, HashMap<i64, Timestamp>)> {
        let held = self.held();
        let leases = held.leases.iter().filter(|(_, lease)| !lease.is_settling);
        let ends = leases.map(|(number, lease)| (*number, lease.end)).collect();
        Ok((read()?, ends))
    }

    /// Lets go of a delivery that was not made.
    pub(super) fn release(&self, (number, token): Claimed) {
        let mut held = self.held();
        if held
            .leases
            .get(&number)
            .is_some_and(|lease| lease.token == token)
        {
            held.leases.remove(&number);
        }
    }

    /// Lets a claim that still holds be settled, by one caller.
    pub(super) fn settle(self: &Arc<Self>, claimed: Claimed) -> Option<Settling> {
        let mut held = self.held();
        let lease = held.leases.get_mut(&claimed.0)?;
        if lease.token != claimed.1 || lease.is_settling {
            return None;
        }
        lease.is_settling = true;
        Some(Settling {
            claims: Arc::clone(self),
            claimed,
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a delivery is still to be made: its watcher may have been deleted while somebody was at it.
fn is_owed(connection: &Connection, number: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM deliveries WHERE row = ?1 AND due IS NOT NULL")?
        .exists([number])
}

/// A claim whose outcome is being recorded. If this is dropped before the end, the claim holds as before.
#[derive(Debug)]
pub(super) struct Settling {
    claims: Arc<Claims>,
    claimed: Claimed,
}

impl Settling {
    /// What was written can be seen by everybody: the claim has ended.
    pub(super) fn end(&self) {
        self.claims.release(self.claimed);
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let (number, token) = self.claimed;
        if let Some(lease) = self.claims.held().leases.get_mut(&number)
            && lease.token == token
        {
            lease.is_settling = false;
        }
    }
}
