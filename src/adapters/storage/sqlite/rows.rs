//! Between rows and the domain.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::{Deserialize, Serialize};

use crate::domain::{
    Description, Event, Filter, HistoryPolicy, Name, Notice, NoticeId, NoticeKind, Periodicity,
    Recipient, Slug, State, Timestamp, Watcher, WatcherId,
};
use crate::ports::Key;

/// A watcher as it is stored: what the domain knows of it, and where it stands in the tables.
pub(super) struct Stored {
    pub(super) watcher: Watcher,
    pub(super) wake: Option<Timestamp>,
    pub(super) place: Place,
}

/// Where a watcher and its events are.
pub(super) struct Place {
    pub(super) row: i64,
    /// The row of the newest event.
    newest: i64,
    /// How many events there ever were.
    events: i64,
}

/// As much of a watcher on time as a trigger in time needs.
pub(super) struct Timing {
    pub(super) periodicity: Periodicity,
    pub(super) deadline: Timestamp,
    pub(super) place: Place,
}

const ON_TIME: i64 = 0;
const LATE: i64 = 1;
const PAUSED: i64 = 2;

macro_rules! select_watcher {
    ($rest:literal) => {
        concat!(
            "SELECT w.row, id, slug, name, description, periodicity, recipients, state, deadline, missed, ",
            "late_notice, wake, last_event, newest, events ",
            "FROM watchers w LEFT JOIN timings t ON t.row = w.row ",
            $rest
        )
    };
}

pub(super) fn find(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Stored>> {
    let (sql, value) = match key {
        Key::Id(id) => (select_watcher!("WHERE id = ?1"), id.as_str()),
        Key::Slug(slug) => (select_watcher!("WHERE slug = ?1"), slug.as_str()),
        Key::Name(name) => {
            let slug = Slug::of(name);
            let stored = find(connection, &Key::Slug(slug))?;
            return Ok(stored.filter(|stored| stored.watcher.name == *name));
        }
    };
    connection
        .prepare_cached(sql)?
        .query_row([value], Stored::read)
        .optional()
}

pub(super) fn find_row(connection: &Connection, row: i64) -> rusqlite::Result<Option<Stored>> {
    connection
        .prepare_cached(select_watcher!("WHERE w.row = ?1"))?
        .query_row([row], Stored::read)
        .optional()
}

/// What a trigger in time needs of the watcher named by `key`, whose row may be `known`: `None` if that is not there, or not
/// on time, or no longer in that row.
pub(super) fn find_timing(
    connection: &Connection,
    key: &Key,
    known: Option<i64>,
) -> rusqlite::Result<Option<Timing>> {
    macro_rules! select_timing {
        // In this order, whatever the planner thinks of it.
        ($condition:literal) => {
            select_timing!(
                "watchers w CROSS JOIN timings t ON t.row = w.row",
                $condition
            )
        };
        ($tables:literal, $condition:literal) => {
            concat!(
                "SELECT t.row, periodicity, deadline, newest, events FROM ",
                $tables,
                " WHERE deadline IS NOT NULL AND ",
                $condition
            )
        };
    }
    let read = |row: &Row<'_>| {
        Ok(Timing {
            periodicity: read_periodicity(row, 1)?,
            deadline: Timestamp::from_millis(row.get(2)?),
            place: Place {
                row: row.get(0)?,
                newest: row.get(3)?,
                events: read_count(row, 4)?,
            },
        })
    };
    let found = match (known, key) {
        (Some(row), _) => connection
            .prepare_cached(select_timing!("timings t", "t.row = ?1"))?
            .query_row([row], read),
        (None, Key::Id(id)) => connection
            .prepare_cached(select_timing!("id = ?1"))?
            .query_row([id.as_str()], read),
        (None, Key::Slug(slug)) => connection
            .prepare_cached(select_timing!("slug = ?1"))?
            .query_row([slug.as_str()], read),
        (None, Key::Name(name)) => connection
            .prepare_cached(select_timing!("slug = ?1 AND name = ?2"))?
            .query_row([Slug::of(name).as_str(), name.as_str()], read),
    };
    found.optional()
}

/// Keeps a watcher that is not there yet, with its history.
pub(super) fn insert(
    connection: &Connection,
    watcher: &Watcher,
    history: &[Event],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO watchers (id, slug, name, description, recipients, state, missed, late_notice, wake) \
             VALUES (:id, :slug, :name, :description, :recipients, :state, :missed, :late_notice, :wake)",
        )?
        .execute(named_params! {
            ":id": watcher.id.as_str(),
            ":slug": watcher.slug.as_str(),
            ":name": watcher.name.as_str(),
            ":description": watcher.description.as_str(),
            ":recipients": recipients_json(&watcher.recipients),
            ":state": state_code(watcher.state),
            ":missed": missed(watcher.state).map(Timestamp::millis),
            ":late_notice": late_notice(watcher.state),
            ":wake": watcher.state.deadline_ahead().map(Timestamp::millis),
        })?;
    let mut place = Place {
        row: connection.last_insert_rowid(),
        newest: 0,
        events: 0,
    };
    for event in history.iter().rev() {
        place.append(connection, event)?;
    }
    connection
        .prepare_cached(
            "INSERT INTO timings (row, periodicity, deadline, last_event, newest, events) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((
            place.row,
            millis(watcher.periodicity),
            watcher.state.deadline_ahead().map(Timestamp::millis),
            watcher.last_event.millis(),
            place.newest,
            place.events,
        ))?;
    Ok(())
}

/// Hands `visit` the watchers that can match `filter` and come after the slug `after`, in the order of their
/// slugs, until it answers `false`.
pub(super) fn visit_by_slug(
    connection: &Connection,
    filter: &Filter,
    after: Option<&Slug>,
    mut visit: impl FnMut(Stored) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let states = [
        (ON_TIME, false, false),
        (LATE, true, false),
        (PAUSED, false, true),
    ];
    let mut wanted = states
        .into_iter()
        .filter(|(_, late, paused)| filter.allows(*late, *paused));
    let after = after.map_or("", Slug::as_str);
    let mut statement;
    let mut rows = match (wanted.next(), wanted.next()) {
        (None, _) => return Ok(()),
        (Some((state, ..)), None) => {
            let sql = select_watcher!("WHERE slug > ?1 AND state = ?2 ORDER BY slug");
            statement = connection.prepare_cached(sql)?;
            statement.query((after, state))?
        }
        (Some(_), Some(_)) => {
            let sql = select_watcher!("WHERE slug > ?1 ORDER BY slug");
            statement = connection.prepare_cached(sql)?;
            statement.query([after])?
        }
    };
    while let Some(row) = rows.next()? {
        if !visit(Stored::read(row)?)? {
            break;
        }
    }
    Ok(())
}

impl Stored {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let instant = |column| -> rusqlite::Result<_> {
            let millis: Option<i64> = row.get(column)?;
            Ok(millis.map(Timestamp::from_millis))
        };
        let state = match (row.get(7)?, instant(8)?, instant(9)?) {
            (ON_TIME, Some(deadline), None) => State::OnTime { deadline },
            (LATE, None, Some(deadline)) => {
                let notice: Option<String> = row.get(10)?;
                State::Late {
                    deadline,
                    notice: notice.and_then(|text| NoticeId::parse(&text)),
                }
            }
            (PAUSED, None, None) => State::Paused,
            (code, ..) => return Err(unreadable(7, Type::Integer, format!("state {code}"))),
        };
        let id: String = row.get(1)?;
        let watcher = Watcher {
            id: WatcherId::parse(&id).map_err(|error| unreadable(1, Type::Text, error))?,
            slug: Slug::from_text(row.get(2)?),
            name: Name::from_stored(row.get(3)?),
            description: Description::from_stored(row.get(4)?),
            periodicity: read_periodicity(row, 5)?,
            recipients: read_recipients(row, 6)?,
            state,
            last_event: Timestamp::from_millis(row.get(12)?),
        };
        Ok(Self {
            watcher,
            wake: instant(11)?,
            place: Place {
                row: row.get(0)?,
                newest: row.get(13)?,
                events: read_count(row, 14)?,
            },
        })
    }

    /// Keeps all of a watcher that is there.
    pub(super) fn update(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "UPDATE watchers SET slug = :slug, name = :name, description = :description, \
                 recipients = :recipients, state = :state, missed = :missed, late_notice = :late_notice, \
                 wake = :wake WHERE row = :row",
            )?
            .execute(named_params! {
                ":row": self.place.row,
                ":slug": self.watcher.slug.as_str(),
                ":name": self.watcher.name.as_str(),
                ":description": self.watcher.description.as_str(),
                ":recipients": recipients_json(&self.watcher.recipients),
                ":state": state_code(self.watcher.state),
                ":missed": missed(self.watcher.state).map(Timestamp::millis),
                ":late_notice": late_notice(self.watcher.state),
                ":wake": self.wake.map(Timestamp::millis),
            })?;
        connection
            .prepare_cached(
                "UPDATE timings SET periodicity = ?2, deadline = ?3, last_event = ?4, newest = ?5, \
                 events = ?6 WHERE row = ?1",
            )?
            .execute((
                self.place.row,
                millis(self.watcher.periodicity),
                self.watcher.state.deadline_ahead().map(Timestamp::millis),
                self.watcher.last_event.millis(),
                self.place.newest,
                self.place.events,
            ))?;
        Ok(())
    }

    /// The history, newest first: what the policy keeps of the events up to `until`, at most `limit`.
    pub(super) fn history(
        &self,
        connection: &Connection,
        policy: HistoryPolicy,
        until: Timestamp,
        limit: usize,
    ) -> rusqlite::Result<Vec<Event>> {
        let mut statement =
            connection.prepare_cached("SELECT previous, at, text FROM events WHERE row = ?1")?;
        let newest_at = self.watcher.last_event;
        let mut history = Vec::new();
        let mut next = Some(self.place.newest);
        let mut rank = 0;
        while let Some(row) = next
            && history.len() < limit
        {
            // An event that is missing was swept away, and all before it with it.
            let Some((previous, event)) = statement
                .query_row([row], |row| {
                    let at = Timestamp::from_millis(row.get(1)?);
                    Ok((
                        row.get(0)?,
                        Event {
                            at,
                            text: row.get(2)?,
                        },
                    ))
                })
                .optional()?
            else {
                break;
            };
            if !policy.keeps(rank, event.at, newest_at) {
                break;
            }
            if event.at <= until {
                history.push(event);
            }
            next = previous;
            rank += 1;
        }
        Ok(history)
    }
}

impl Place {
    /// Appends `event` to the history. The place has to be kept afterwards.
    pub(super) fn append(
        &mut self,
        connection: &Connection,
        event: &Event,
    ) -> rusqlite::Result<()> {
        let previous = (self.events > 0).then_some(self.newest);
        self.events += 1;
        connection
            .prepare_cached(
                "INSERT INTO events (watcher, number, previous, at, text) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((self.row, self.events, previous, event.at.millis(), &event.text))?;
        self.newest = connection.last_insert_rowid();
        Ok(())
    }
}

impl Timing {
    /// Keeps what a trigger in time changes: nothing that an index holds.
    pub(super) fn trigger(
        mut self,
        connection: &Connection,
        deadline: Timestamp,
        event: &Event,
    ) -> rusqlite::Result<()> {
        self.place.append(connection, event)?;
        connection
            .prepare_cached(
                "UPDATE timings SET deadline = ?2, last_event = ?3, newest = ?4, events = ?5 WHERE row = ?1",
            )?
            .execute((
                self.place.row,
                deadline.millis(),
                event.at.millis(),
                self.place.newest,
                self.place.events,
            ))?;
        Ok(())
    }
}

/// A notice as the deliveries table holds it. Its recipients are the rows.
#[derive(Serialize, Deserialize)]
struct NoticeJson {
    id: String,
    at: i64,
    name: String,
    description: String,
    periodicity: u64,
    deadline: i64,
    last_event: i64,
    /// Present for a resumption only.
    resumed: Option<ResumedJson>,
}

#[derive(Serialize, Deserialize)]
struct ResumedJson {
    late: Option<String>,
    next_deadline: i64,
}

pub(super) fn notice_json(notice: &Notice) -> rusqlite::Result<String> {
    let resumed = match notice.kind {
        NoticeKind::Late => None,
        NoticeKind::Resumed {
            late,
            next_deadline,
        } => Some(ResumedJson {
            late: late.map(|id| id.to_string()),
            next_deadline: next_deadline.millis(),
        }),
    };
    serde_json::to_string(&NoticeJson {
        id: notice.id.to_string(),
        at: notice.at.millis(),
        name: notice.name.as_str().to_owned(),
        description: notice.description.as_str().to_owned(),
        periodicity: notice.periodicity.millis(),
        deadline: notice.deadline.millis(),
        last_event: notice.last_event.millis(),
        resumed,
    })
    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

pub(super) fn read_notice(row: &Row<'_>, column: usize) -> rusqlite::Result<Notice> {
    let bad = |error: &dyn std::fmt::Display| unreadable(column, Type::Text, error.to_string());
    let text = row.get_ref(column)?.as_str()?;
    let json: NoticeJson = serde_json::from_str(text).map_err(|error| bad(&error))?;
    let kind = match json.resumed {
        None => NoticeKind::Late,
        Some(resumed) => NoticeKind::Resumed {
            late: resumed.late.as_deref().and_then(NoticeId::parse),
            next_deadline: Timestamp::from_millis(resumed.next_deadline),
        },
    };
    Ok(Notice {
        id: NoticeId::parse(&json.id).ok_or_else(|| bad(&"notice identity"))?,
        kind,
        at: Timestamp::from_millis(json.at),
        name: Name::from_stored(json.name),
        description: Description::from_stored(json.description),
        periodicity: Periodicity::from_millis(json.periodicity).map_err(|error| bad(&error))?,
        deadline: Timestamp::from_millis(json.deadline),
        last_event: Timestamp::from_millis(json.last_event),
        recipients: Vec::new(),
    })
}

fn state_code(state: State) -> i64 {
    match state {
        State::OnTime { .. } => ON_TIME,
        State::Late { .. } => LATE,
        State::Paused => PAUSED,
    }
}

fn missed(state: State) -> Option<Timestamp> {
    match state {
        State::Late { deadline, .. } => Some(deadline),
        State::OnTime { .. } | State::Paused => None,
    }
}

fn late_notice(state: State) -> Option<String> {
    match state {
        State::Late { notice, .. } => notice.map(|id| id.to_string()),
        State::OnTime { .. } | State::Paused => None,
    }
}

fn millis(periodicity: Periodicity) -> i64 {
    i64::try_from(periodicity.millis()).unwrap_or(i64::MAX)
}

fn read_periodicity(row: &Row<'_>, column: usize) -> rusqlite::Result<Periodicity> {
    let millis: i64 = row.get(column)?;
    Periodicity::from_millis(millis.try_into().unwrap_or_default())
        .map_err(|error| unreadable(column, Type::Integer, error))
}

fn recipients_json(recipients: &[Recipient]) -> String {
    let addresses = recipients.iter().map(|recipient| recipient.as_str().into());
    serde_json::Value::Array(addresses.collect()).to_string()
}

fn read_recipients(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<Recipient>> {
    let text = row.get_ref(column)?.as_str()?;
    let addresses: Vec<String> =
        serde_json::from_str(text).map_err(|error| unreadable(column, Type::Text, error))?;
    Ok(addresses.into_iter().map(Recipient::from_stored).collect())
}

/// The identifier and deadline of a row that has `row`, `id` and `deadline`.
pub(super) fn read_deadline(row: &Row<'_>) -> rusqlite::Result<(WatcherId, i64)> {
    let id = WatcherId::parse(row.get_ref(1)?.as_str()?);
    let id = id.map_err(|error| unreadable(1, Type::Text, error))?;
    Ok((id, row.get(2)?))
}

/// A number that counts up, so far that counting on does not overflow.
pub(super) fn read_count(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    let count: i64 = row.get(column)?;
    if (0..=i64::MAX / 2).contains(&count) {
        Ok(count)
    } else {
        Err(unreadable(column, Type::Integer, format!("count {count}")))
    }
}

fn unreadable(
    column: usize,
    kind: Type,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, error.into())
}
