//! What is owed to whom: the rows of the deliveries.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row};

use super::claims::{Claimed, Claims, Settling};
use super::rows::{self, Stored};
use super::writer::is_corruption;
use crate::domain::{HistoryPolicy, Notice, Recipient, Timestamp, WatcherId};
use crate::ports::{
    Claim, Delivery, DeliveryKey, DeliveryReport, DeliveryState, Key, Outcome, Reason, Told,
};

/// Owes each recipient of `notice` a delivery.
pub(super) fn owe(
    connection: &Connection,
    watcher: i64,
    notice: &Notice,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let json = rows::notice_json(notice)?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO deliveries (watcher, recipient, notice, at, attempts, due) \
         VALUES (?1, ?2, ?3, ?5, 0, iif(EXISTS (SELECT 1 FROM deliveries \
         WHERE watcher = ?1 AND recipient = ?2 AND refused IS NULL), NULL, ?4))",
    )?;
    for recipient in &notice.recipients {
        let at = notice.at.millis();
        statement.execute((watcher, recipient.as_str(), &json, now.millis(), at))?;
    }
    Ok(())
}

/// What was claimed.
pub(super) struct Claiming {
    pub(super) claims: Vec<Claim>,
    /// What nobody can make, since it cannot be read, and why.
    pub(super) unreadable: Vec<(Claimed, String)>,
}

/// Reads what was claimed.
pub(super) fn read(
    connection: &Connection,
    policy: HistoryPolicy,
    claimed: &[Claimed],
) -> rusqlite::Result<Claiming> {
    let mut claiming = Claiming {
        claims: Vec::with_capacity(claimed.len()),
        unreadable: Vec::new(),
    };
    for &claimed in claimed {
        match read_claim(connection, policy, claimed) {
            Ok(claim) => claiming.claims.push(claim),
            Err(error) if is_corruption(&error) => {
                claiming.unreadable.push((claimed, error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(claiming)
}

/// Lets a delivery that cannot be read stand in the way of no other.
pub(super) fn set_aside(
    connection: &Connection,
    (number, _): Claimed,
    error: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    tracing::error!(
        number,
        error,
        "a delivery in the database cannot be read and is set aside"
    );
    let Some(due) = Due::find(connection, number)? else {
        // Its watcher was deleted meanwhile.
        return Ok(());
    };
    due.report(connection, Some(error), now)?;
    connection
        .prepare_cached("UPDATE deliveries SET due = NULL, refused = ?2 WHERE row = ?1")?
        .execute((number, error))?;
    due.make_next_due(connection, now)
}

/// A delivery as it is handed out.
fn read_claim(
    connection: &Connection,
    policy: HistoryPolicy,
    (number, token): Claimed,
) -> rusqlite::Result<Claim> {
    let (watcher, delivery) = connection
        .prepare_cached(
            "SELECT watcher, recipient, notice, attempts FROM deliveries WHERE row = ?1",
        )?
        .query_row([number], |row| {
            let delivery = Delivery {
                recipient: Recipient::from_stored(row.get(1)?),
                notice: rows::read_notice(row, 2)?,
                attempts: row.get(3)?,
            };
            Ok((row.get(0)?, delivery))
        })?;
    let stored = rows::find_row(connection, watcher)?;
    let stored = stored.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let until = delivery.notice.last_event;
    let events = stored.history(connection, policy, until, Notice::EVENTS_SHOWN)?;
    let key = DeliveryKey {
        watcher: stored.watcher.id,
        number,
        token,
    };
    Ok(Claim {
        key,
        delivery,
        events,
        slug: stored.watcher.slug,
    })
}

/// Records what became of a delivery whose claim holds, and nothing otherwise. Returns the claim, which ends when that
/// is on disk, and whether there was still something to record: the watcher may be gone.
pub(super) fn settle(
    connection: &Connection,
    claims: &Arc<Claims>,
    claim: &DeliveryKey,
    outcome: &Outcome,
    now: Timestamp,
) -> rusqlite::Result<Option<(Settling, bool)>> {
    let Some(settling) = claims.settle((claim.number, claim.token)) else {
        return Ok(None);
    };
    let Some(mut due) = Due::find(connection, claim.number)? else {
        return Ok(Some((settling, false)));
    };
    if let Outcome::TryAgain { at, reason } = outcome {
        connection
            .prepare_cached(
                "UPDATE deliveries SET due = ?2, attempts = attempts + 1, failure = ?3 \
                 WHERE row = ?1",
            )?
            .execute((claim.number, at.millis(), reason.as_str()))?;
        return Ok(Some((settling, true)));
    }
    let refused = match outcome {
        Outcome::Refused(reason) => Some(reason.as_str()),
        _ => None,
    };
    due.attempts = due.attempts.saturating_add(1);
    due.report(connection, refused, now)?;
    connection
        .prepare_cached(
            "DELETE FROM deliveries WHERE watcher = ?1 AND recipient = ?2 AND refused IS NOT NULL",
        )?
        .execute((due.watcher, &due.recipient))?;
    match refused {
        Some(reason) => connection
            .prepare_cached(
                "UPDATE deliveries SET refused = ?2, due = NULL, attempts = attempts + 1 \
                 WHERE row = ?1",
            )?
            .execute((claim.number, reason))?,
        None => connection
            .prepare_cached("DELETE FROM deliveries WHERE row = ?1")?
            .execute([claim.number])?,
    };
    due.make_next_due(connection, now)?;
    Ok(Some((settling, true)))
}

/// A delivery that has its turn, as far as it takes to settle it.
struct Due {
    number: i64,
    watcher: i64,
    recipient: String,
    attempts: u32,
    /// `None` if it cannot be read.
    notice: Option<Notice>,
}

impl Due {
    fn find(connection: &Connection, number: i64) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT watcher, recipient, notice, attempts FROM deliveries WHERE row = ?1",
            )?
            .query_row([number], |row| {
                Ok(Self {
                    number,
                    watcher: row.get(0)?,
                    recipient: row.get(1)?,
                    notice: rows::read_notice(row, 2).ok(),
                    attempts: row.get(3).unwrap_or_default(),
                })
            })
            .optional()
    }

    /// Keeps what became of it, and no more of others than is to be kept.
    fn report(
        &self,
        connection: &Connection,
        refused: Option<&str>,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        // There is nothing to tell of one that cannot be read but what was logged.
        let Some(notice) = &self.notice else {
            return Ok(());
        };
        connection
            .prepare_cached(
                "INSERT INTO settled (watcher, delivery, recipient, resumed, at, deadline, attempts, \
                 settled, refused) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute((
                self.watcher,
                self.number,
                &self.recipient,
                Told::from(notice.kind) == Told::Resumed,
                notice.at.millis(),
                notice.deadline.millis(),
                self.attempts,
                now.millis(),
                refused,
            ))?;
        connection
            .prepare_cached(
                "DELETE FROM settled WHERE watcher = ?1 AND row <= (SELECT row FROM settled \
                 WHERE watcher = ?1 ORDER BY row DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute((self.watcher, DeliveryReport::KEPT))?;
        Ok(())
    }

    /// Lets the next delivery to the same recipient be made, now that those before it are out of the way.
    fn make_next_due(&self, connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "UPDATE deliveries SET due = ?3 WHERE row = (SELECT row FROM deliveries \
                 WHERE watcher = ?1 AND recipient = ?2 AND refused IS NULL ORDER BY row LIMIT 1)",
            )?
            .execute((self.watcher, &self.recipient, now.millis()))?;
        Ok(())
    }
}

/// How the deliveries of a watcher stand, and what became of others.
pub(super) fn reports(
    connection: &Connection,
    claims: &Claims,
    watcher: WatcherId,
) -> rusqlite::Result<Vec<DeliveryReport>> {
    let (found, leases) = claims.as_of(|| rows::find(connection, &Key::Id(watcher)))?;
    let Some(Stored { place, .. }) = found else {
        return Ok(Vec::new());
    };
    let watcher = place.row;
    let mut owed = connection.prepare_cached(
        "SELECT row, notice, recipient, attempts, due, failure FROM deliveries \
         WHERE watcher = ?1 AND refused IS NULL",
    )?;
    let mut settled = connection.prepare_cached(
        "SELECT delivery, resumed, recipient, attempts, at, deadline, settled, refused \
         FROM settled WHERE watcher = ?1",
    )?;
    let owed = owed.query_map([watcher], |row| read_owed(row, &leases))?;
    let settled = settled.query_map([watcher], read_settled)?;
    let reports = owed.chain(settled);
    let reports = reports.filter(|read| !read.as_ref().is_err_and(is_corruption));
    let reports: rusqlite::Result<_> = reports.collect();
    Ok(DeliveryReport::in_order(reports?))
}

fn read_owed(
    row: &Row<'_>,
    leases: &HashMap<i64, Timestamp>,
) -> rusqlite::Result<(i64, DeliveryReport)> {
    let (number, notice) = (row.get(0)?, rows::read_notice(row, 1)?);
    let due: Option<i64> = row.get(4)?;
    let failure: Option<String> = row.get(5)?;
    let lease_end = leases.get(&number).copied();
    let report = DeliveryReport {
        told: notice.kind.into(),
        at: notice.at,
        deadline: notice.deadline,
        recipient: Recipient::from_stored(row.get(2)?),
        attempts: row.get(3)?,
        state: DeliveryState::Owed {
            due: lease_end.or(due.map(Timestamp::from_millis)),
            failure: failure.map(Reason::from),
        },
    };
    Ok((number, report))
}

fn read_settled(row: &Row<'_>) -> rusqlite::Result<(i64, DeliveryReport)> {
    let instant = |column| row.get(column).map(Timestamp::from_millis);
    let (at, refused): (_, Option<String>) = (instant(6)?, row.get(7)?);
    let report = DeliveryReport {
        told: if row.get(1)? {
            Told::Resumed
        } else {
            Told::Late
        },
        at: instant(4)?,
        deadline: instant(5)?,
        recipient: Recipient::from_stored(row.get(2)?),
        attempts: row.get(3)?,
        state: match refused.map(Reason::from) {
            Some(reason) => DeliveryState::Refused { at, reason },
            None => DeliveryState::Delivered { at },
        },
    };
    Ok((row.get(0)?, report))
}
