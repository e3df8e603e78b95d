//! Taking away the events that nobody will read again, a little along with some commits, round and round.

use rusqlite::Connection;

use crate::app::trouble::Trouble;
use crate::domain::{HistoryPolicy, Timestamp};

/// Looks at events and deletes those that the policy no longer keeps.
///
/// For each event that arrives two are looked at, so there are seldom many more than twice as many as are kept, and
/// no trigger pays for a long history. As long as it finds little, as among watchers with short histories, it looks at
/// fewer: at least one for two that arrive. Each step is small, since alerts wait for the writer meanwhile, and is part
/// of a commit that is made anyway, since each of its own would be a wait for the disk.
pub(super) struct Sweep {
    policy: HistoryPolicy,
    trouble: Trouble,
    /// Changes since the last step.
    pending: usize,
    /// After so many changes the next step is taken.
    wait: usize,
    /// The last event that it has looked at in this round, once that is known.
    swept: Option<i64>,
    /// The last event of this round, once it has begun. What arrives later is left to the next one: where much
    /// arrives there would never be a next one else.
    end: Option<i64>,
}

impl Sweep {
    /// Steps are taken after so many changes,
    const SHORTEST: usize = 64;
    /// and if they find little, each time after so many more,
    const LONGER: usize = 32;
    /// but not after more than these.
    const LONGEST: usize = 256;
    /// A sixteenth of what it looks at is no longer little.
    const WORTH_IT: usize = 16;

    pub(super) fn new(policy: HistoryPolicy) -> Self {
        Self {
            policy,
            trouble: Trouble::new("sweeping old events away"),
            pending: 0,
            wait: Self::SHORTEST,
            swept: None,
            end: None,
        }
    }

    /// Takes a step, as part of the transaction, if enough has changed since the last one.
    pub(super) fn before_commit(&mut self, connection: &Connection, changes: usize) {
        self.pending += changes;
        if self.pending < self.wait {
            return;
        }
        let limit = 2 * self.pending * Self::SHORTEST / self.wait;
        self.pending = 0;
        match self.step(connection, limit) {
            Ok(gone) => {
                self.trouble.is_over();
                self.wait = if gone * Self::WORTH_IT >= limit {
                    Self::SHORTEST
                } else {
                    (self.wait + Self::LONGER).min(Self::LONGEST)
                };
            }
            // The next commits try again.
            Err(error) => self.trouble.is_on(&error),
        }
    }

    /// Looks at so many events, and returns how many of them had to go.
    fn step(&mut self, connection: &Connection, limit: usize) -> rusqlite::Result<usize> {
        let ask = |sql| {
            connection
                .prepare_cached(sql)?
                .query_row([], |row| row.get::<_, i64>(0))
        };
        let from = match self.swept {
            Some(swept) => swept,
            None => ask("SELECT swept FROM housekeeping")?,
        };
        let end = match self.end {
            Some(end) => end,
            None => ask("SELECT ifnull(max(row), 0) FROM events")?,
        };
        let mut looked_at = 0;
        let mut swept = from;
        let mut gone = Vec::new();
        {
            let mut statement = connection.prepare_cached(
                "SELECT e.row, e.number, e.at, t.events, t.last_event FROM events e LEFT JOIN timings t \
                 ON t.row = e.watcher WHERE e.row > ?1 AND e.row <= ?2 ORDER BY e.row LIMIT ?3",
            )?;
            let mut rows = statement.query((from, end, limit))?;
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
        let is_over = looked_at < limit;
        if is_over {
            swept = 0;
        }
        // Where nothing has to go nothing is written. Then a restart looks at some events again.
        if !gone.is_empty() {
            let mut delete = connection.prepare_cached("DELETE FROM events WHERE row = ?1")?;
            for row in &gone {
                delete.execute([row])?;
            }
            connection
                .prepare_cached("UPDATE housekeeping SET swept = ?1")?
                .execute([swept])?;
        }
        self.swept = Some(swept);
        self.end = (!is_over).then_some(end);
        Ok(gone.len())
    }
}
