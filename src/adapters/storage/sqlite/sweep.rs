//! Taking away the events that nobody will read again, a little after some commits, round and round.

use rusqlite::Connection;

use crate::domain::{HistoryPolicy, Timestamp};

/// Looks at events and deletes those that the policy no longer keeps.
///
/// For each event that arrives two are looked at, so there are never many more than twice as many as are kept,
/// and no trigger pays for a long history. As long as it finds little it looks less often, and it never looks at
/// many at once: alerts wait for the writer meanwhile.
pub(super) struct Sweep {
    policy: HistoryPolicy,
    /// Changes since the last step.
    pending: usize,
    /// How often in a row it has found little.
    calm: u32,
    /// The last event that it has looked at in this round, once that is known.
    swept: Option<i64>,
}

impl Sweep {
    /// After so many changes twice as many events are looked at.
    const STEP: usize = 256;
    /// Each time that it finds little it waits for twice as many changes, as often as this.
    const CALMEST: u32 = 3;
    /// A sixteenth of what it looks at is no longer little.
    const WORTH_IT: usize = 16;

    pub(super) fn new(policy: HistoryPolicy) -> Self {
        Self {
            policy,
            pending: 0,
            calm: 0,
            swept: None,
        }
    }

    /// Takes a step if enough has changed since the last one.
    pub(super) fn after_commit(&mut self, connection: &Connection, changes: usize) {
        self.pending += changes;
        if self.pending < Self::STEP << self.calm {
            return;
        }
        self.pending = 0;
        match self.step(connection) {
            Ok(gone) if gone * Self::WORTH_IT >= 2 * Self::STEP => self.calm = 0,
            Ok(_) => self.calm = (self.calm + 1).min(Self::CALMEST),
            Err(error) => {
                tracing::warn!(%error, "old events could not be swept away; the next commits will try again");
            }
        }
    }

    /// Looks at some events, and returns how many of them had to go.
    fn step(&mut self, connection: &Connection) -> rusqlite::Result<usize> {
        let transaction = connection.unchecked_transaction()?;
        let from = match self.swept {
            Some(swept) => swept,
            None => transaction
                .prepare_cached("SELECT swept FROM housekeeping")?
                .query_row([], |row| row.get(0))?,
        };
        let limit = 2 * Self::STEP;
        let mut looked_at = 0;
        let mut swept = 0;
        let mut gone = Vec::new();
        {
            let mut statement = transaction.prepare_cached(
                "SELECT e.row, e.number, e.at, w.events, w.last_event FROM events e \
                 LEFT JOIN watchers w ON w.row = e.watcher WHERE e.row > ?1 ORDER BY e.row LIMIT ?2",
            )?;
            let mut rows = statement.query((from, limit))?;
            while let Some(row) = rows.next()? {
                looked_at += 1;
                swept = row.get(0)?;
                let is_kept = match row.get::<_, Option<i64>>(3)? {
                    None => false,
                    Some(events) => {
                        let rank = events - row.get::<_, i64>(1)?;
                        self.policy.keeps(
                            usize::try_from(rank).unwrap_or(0),
                            Timestamp::from_millis(row.get(2)?),
                            Timestamp::from_millis(row.get(4)?),
                        )
                    }
                };
                if !is_kept {
                    gone.push(swept);
                }
            }
        }
        if looked_at < limit {
            // The next round begins.
            swept = 0;
        }
        // Where nothing has to go nothing is written. Then a restart looks at some events again.
        if !gone.is_empty() {
            let mut delete = transaction.prepare_cached("DELETE FROM events WHERE row = ?1")?;
            for row in &gone {
                delete.execute([row])?;
            }
            transaction
                .prepare_cached("UPDATE housekeeping SET swept = ?1")?
                .execute([swept])?;
        }
        transaction.commit()?;
        self.swept = Some(swept);
        Ok(gone.len())
    }
}
