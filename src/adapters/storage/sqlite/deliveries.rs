//! What is owed to whom: the rows of the deliveries.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::claims::{Claimed, Claims, Settling};
use super::rows;
use super::writer::is_corruption;
use crate::domain::{HistoryPolicy, Notice, Recipient, Timestamp};
use crate::ports::{Claim, Delivery, DeliveryKey, Outcome};

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
    let Some((watcher, recipient)) = who(connection, number)? else {
        // Its watcher was deleted meanwhile.
        return Ok(());
    };
    connection
        .prepare_cached("UPDATE deliveries SET due = NULL, refused = ?2 WHERE row = ?1")?
        .execute((number, error))?;
    make_next_due(connection, watcher, &recipient, now)
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
    let Some((watcher, recipient)) = who(connection, claim.number)? else {
        return Ok(Some((settling, false)));
    };
    if let Outcome::TryAgain { at, .. } = outcome {
        connection
            .prepare_cached(
                "UPDATE deliveries SET due = ?2, attempts = attempts + 1 WHERE row = ?1",
            )?
            .execute((claim.number, at.millis()))?;
        return Ok(Some((settling, true)));
    }
    connection
        .prepare_cached(
            "DELETE FROM deliveries WHERE watcher = ?1 AND recipient = ?2 AND refused IS NOT NULL",
        )?
        .execute((watcher, &recipient))?;
    match outcome {
        Outcome::Refused(reason) => connection
            .prepare_cached(
                "UPDATE deliveries SET refused = ?2, due = NULL, attempts = attempts + 1 \
                 WHERE row = ?1",
            )?
            .execute((claim.number, reason.as_str()))?,
        _ => connection
            .prepare_cached("DELETE FROM deliveries WHERE row = ?1")?
            .execute([claim.number])?,
    };
    make_next_due(connection, watcher, &recipient, now)?;
    Ok(Some((settling, true)))
}

/// Which watcher owes a delivery, and to whom.
fn who(connection: &Connection, number: i64) -> rusqlite::Result<Option<(i64, String)>> {
    connection
        .prepare_cached("SELECT watcher, recipient FROM deliveries WHERE row = ?1")?
        .query_row([number], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Lets the next delivery of a watcher to a recipient be made, now that those before it are out of the way.
fn make_next_due(
    connection: &Connection,
    watcher: i64,
    recipient: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE deliveries SET due = ?3 WHERE row = (SELECT row FROM deliveries \
             WHERE watcher = ?1 AND recipient = ?2 AND refused IS NULL ORDER BY row LIMIT 1)",
        )?
        .execute((watcher, recipient, now.millis()))?;
    Ok(())
}
