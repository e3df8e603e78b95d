//! Between documents and the domain.
//!
//! The fields of a watcher's document are those of the reference program; what that one does not know stands
//! in the sub-document `nw`:
//!
//! | field | what |
//! | --- | --- |
//! | `rev` | the revision: how often the document was changed by us |
//! | `ops` | what tells the changes apart that made the newest revisions, newest last |
//! | `late` | the identity of the notice that said it is late |
//! | `numbered` | the last number that was given to a notice or a delivery |
//! | `notices` | the notices that are owed, by `n` and their number |
//! | `owed` | the deliveries that are owed, in the order of their notices |
//! | `due` | the earliest `due` among these |
//! | `refused` | deliveries that were refused for good, one a recipient |
//! | `failures` | why deliveries that are owed could not be made yet, by `n` and their number |
//! | `settled` | what became of the deliveries that were settled for good last, newest last |

use std::collections::{BTreeSet, HashSet};

use mongodb::bson::{
    Array, Bson, DateTime, Document, deserialize_from_document, doc, serialize_to_document,
};
use serde::{Deserialize, Serialize};

use crate::domain::{
    Description, Event, HistoryPolicy, Name, Notice, NoticeId, NoticeKind, Periodicity, Recipient,
    Slug, State, Timestamp, Watcher, WatcherId,
};
use crate::ports::{DeliveryReport, DeliveryState, Detail, Reason, Record, StoreError, Told};

/// The highest revision or number: nobody counts that far, and counting on from there does not overflow.
const HIGHEST: i64 = i64::MAX / 2;
/// How many changes a document remembers.
pub(super) const REMEMBERED: usize = 32;
/// How many notices a watcher may owe before some of them give way: a document has a size.
const MOST_NOTICES: usize = 1_000;
/// How many deliveries.
const MOST_OWED: usize = 10_000;
/// Why those are refused that gave way.
const TOO_MANY: &str = "too many notices were owed";
/// How many refusals a watcher keeps.
const MOST_REFUSED: usize = 200;

/// How much a document may hold of what grows. It has 16 MiB at most, whatever that is full of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    events: usize,
    notices: usize,
}

impl Room {
    pub(super) fn new(policy: HistoryPolicy) -> Self {
        Self {
            events: policy.limit(),
            notices: MOST_NOTICES,
        }
    }

    /// After a document has proved too large: old events go first, notices last. Returns whether anything can.
    pub(super) fn shrink(&mut self) -> bool {
        const FEWEST: usize = 16;
        if self.events > HistoryPolicy::ALWAYS {
            self.events = (self.events / 2).max(HistoryPolicy::ALWAYS);
            return true;
        }
        let can_shrink = self.notices > FEWEST;
        self.notices = (self.notices / 2).max(FEWEST);
        can_shrink
    }
}

/// A watcher as it is stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) watcher: Watcher,
    pub(super) books: Books,
}

/// What is stored of a watcher besides itself.
#[derive(Clone, Debug)]
pub(super) struct Books {
    pub(super) id: WatcherId,
    /// Absent if only the reference program has written it yet.
    pub(super) revision: Option<i64>,
    pub(super) operations: Vec<i64>,
    last_number: i64,
    owed: Vec<Owed>,
    refused: Vec<Refused>,
}

/// A delivery that is owed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Owed {
    #[serde(rename = "n")]
    pub(super) number: i64,
    pub(super) notice: i64,
    /// When the notice arose; absent if an earlier release wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<DateTime>,
    /// The one that was missed; absent if an earlier release wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<DateTime>,
    /// Whether the notice tells of the end of a lateness.
    #[serde(default)]
    resumed: bool,
    pub(super) to: String,
    /// Absent while an earlier one to the same recipient is owed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<DateTime>,
    pub(super) token: i64,
    /// The server that has claimed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<i64>,
    #[serde(rename = "tries")]
    pub(super) attempts: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Refused {
    to: String,
    why: String,
}

/// What became of a delivery.
#[derive(Serialize, Deserialize)]
struct Settled {
    #[serde(rename = "n")]
    number: i64,
    at: DateTime,
    deadline: DateTime,
    #[serde(default)]
    resumed: bool,
    to: String,
    #[serde(rename = "tries")]
    attempts: i64,
    done: DateTime,
    /// Present if it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// A notice without its recipients: those have deliveries of their own.
#[derive(Debug, Serialize, Deserialize)]
struct NoticeForm {
    id: String,
    at: DateTime,
    name: String,
    description: String,
    periodicity: i64,
    deadline: DateTime,
    last_event: DateTime,
    /// Present for a resumption only.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<ResumedForm>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ResumedForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    late: Option<String>,
    next_deadline: DateTime,
}

/// What is read of a document.
#[derive(Clone, Copy)]
pub(super) enum Fields {
    /// What a transition needs, with as much of the history as is wanted.
    Transition(Detail),
    /// The watcher, with as much of the history.
    Watcher(Detail),
    /// The deliveries.
    Books,
    /// A claim's notices, the slug, and so many of the newest events.
    Claimed(usize),
    /// The deliveries and what became of them.
    Reports,
}

impl Fields {
    pub(super) fn document(self) -> Document {
        let (mut fields, detail) = match self {
            Self::Transition(detail) => {
                let others = doc! { "nw.notices": 0, "nw.failures": 0, "nw.settled": 0 };
                (others, detail)
            }
            Self::Watcher(detail) => {
                let books = doc! {
                    "nw.notices": 0, "nw.owed": 0, "nw.refused": 0, "nw.ops": 0, "nw.failures": 0,
                    "nw.settled": 0,
                };
                (books, detail)
            }
            Self::Books => {
                return doc! {
                    "id": 1, "nw.rev": 1, "nw.ops": 1, "nw.numbered": 1, "nw.owed": 1, "nw.refused": 1,
                };
            }
            Self::Claimed(events) => {
                let events = i64::try_from(events).unwrap_or(i64::MAX);
                return doc! {
                    "id": 1, "slug": 1, "history": { "$slice": events }, "nw.notices": 1,
                };
            }
            Self::Reports => return doc! { "nw.owed": 1, "nw.failures": 1, "nw.settled": 1 },
        };
        // The newest event is part of the watcher.
        if detail == Detail::Summary {
            fields.insert("history", doc! { "$slice": 1 });
        }
        fields
    }
}

pub(super) fn date(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.millis())
}

pub(super) fn timestamp(date: DateTime) -> Timestamp {
    Timestamp::from_millis(date.timestamp_millis())
}

pub(super) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}

fn event_form(event: &Event) -> Bson {
    Bson::Array(vec![date(event.at).into(), event.text.as_str().into()])
}

fn emails(recipients: &[Recipient]) -> Vec<&str> {
    recipients.iter().map(Recipient::as_str).collect()
}

/// A number as the reference program would write it.
fn seconds(periodicity: Periodicity) -> Bson {
    let millis = i64::try_from(periodicity.millis()).unwrap_or(i64::MAX);
    if millis % 1_000 == 0 {
        let seconds = millis / 1_000;
        i32::try_from(seconds).map_or(Bson::Int64(seconds), Bson::Int32)
    } else {
        Bson::Double(periodicity.seconds())
    }
}

/// The document of a watcher that is new to the database.
pub(super) fn new_document(record: &Record, operation: i64) -> Document {
    let watcher = &record.watcher;
    let history: Array = record.history.iter().map(event_form).collect();
    let mut ours = doc! { "rev": 1_i64, "ops": [operation], "numbered": 0_i64 };
    if let State::Late {
        notice: Some(notice),
        ..
    } = watcher.state
    {
        ours.insert("late", notice.to_string());
    }
    let mut document = doc! {
        "id": watcher.id.as_str(),
        "name": watcher.name.as_str(),
        "slug": watcher.slug.as_str(),
        "description": watcher.description.as_str(),
        "periodicity": seconds(watcher.periodicity),
        "emails": emails(&watcher.recipients),
        "late": watcher.state.is_late(),
        "paused": watcher.state.is_paused(),
        "history": history,
        "nw": ours,
    };
    if let Some(deadline) = watcher.state.deadline() {
        document.insert("deadline", date(deadline));
    }
    document
}

pub(super) fn read_id(document: &Document) -> Result<WatcherId, StoreError> {
    let text = document.get_str("id").unwrap_or_default();
    WatcherId::parse(text).map_err(|_| corrupt(format!("the identifier of {}", name_of(document))))
}

/// How a document is called in an error.
fn name_of(document: &Document) -> String {
    match (document.get_str("slug"), document.get("_id")) {
        (Ok(slug), _) => format!("the watcher {slug:?}"),
        (Err(_), Some(id)) => format!("the document {id}"),
        (Err(_), None) => "a document".to_owned(),
    }
}

fn number(value: Option<&Bson>) -> Option<f64> {
    match value? {
        Bson::Int32(number) => Some(f64::from(*number)),
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        _ => None,
    }
}

/// An integer; shells write small ones as the shorter type.
fn integer(value: Option<&Bson>) -> Option<i64> {
    match value? {
        Bson::Int64(number) => Some(*number),
        Bson::Int32(number) => Some(i64::from(*number)),
        _ => None,
    }
}

/// The events of a document, as far as they were read and `policy` keeps them; behind `event`, if there is a
/// new one.
pub(super) fn read_history(
    document: &Document,
    event: Option<&Event>,
    policy: HistoryPolicy,
) -> Vec<Event> {
    let read = list(document, "history").filter_map(read_event);
    let mut events = Vec::new();
    let mut newest = None;
    for (rank, event) in event.cloned().into_iter().chain(read).enumerate() {
        let newest = *newest.get_or_insert(event.at);
        if !policy.keeps(rank, event.at, newest) {
            break;
        }
        events.push(event);
    }
    events
}

fn read_event(entry: &Bson) -> Option<Event> {
    let entry = entry.as_array()?;
    Some(Event {
        at: timestamp(*entry.first()?.as_datetime()?),
        text: entry
            .get(1)
            .and_then(Bson::as_str)
            .unwrap_or_default()
            .to_owned(),
    })
}

/// The watcher of a document that was read with at least the newest entry of its history.
pub(super) fn read_watcher(document: &Document) -> Result<Watcher, StoreError> {
    let text = |field: &str| {
        let text = document.get_str(field).map(str::to_owned);
        text.map_err(|_| corrupt(format!("the {field} of {}", name_of(document))))
    };
    let periodicity = number(document.get("periodicity"));
    let periodicity = periodicity.and_then(|seconds| Periodicity::from_seconds(seconds).ok());
    let Some(periodicity) = periodicity else {
        return Err(corrupt(format!("the periodicity of {}", name_of(document))));
    };
    let deadline = document.get_datetime("deadline").ok();
    let deadline = deadline.map(|deadline| timestamp(*deadline));
    let newest = document
        .get_array("history")
        .ok()
        .and_then(|history| history.first());
    let last_event = newest
        .and_then(read_event)
        .map(|event| event.at)
        .or_else(|| deadline.map(|deadline| deadline.before(periodicity.span())))
        .unwrap_or(Timestamp::from_millis(0));
    let deadline = deadline.unwrap_or_else(|| periodicity.after(last_event));
    let is = |field: &str| document.get_bool(field).unwrap_or(false);
    let state = match (is("paused"), is("late")) {
        (true, _) => State::Paused,
        (false, true) => State::Late {
            deadline,
            notice: ours(document)
                .and_then(|ours| ours.get_str("late").ok())
                .and_then(NoticeId::parse),
        },
        (false, false) => State::OnTime { deadline },
    };
    Ok(Watcher {
        id: read_id(document)?,
        name: Name::from_stored(text("name")?),
        slug: Slug::from_text(text("slug")?),
        description: Description::from_stored(text("description").unwrap_or_default()),
        periodicity,
        recipients: read_recipients(document),
        state,
        last_event,
    })
}

fn read_recipients(document: &Document) -> Vec<Recipient> {
    let mut recipients: Vec<Recipient> = Vec::new();
    let emails = document.get_array("emails").map_or(&[][..], Vec::as_slice);
    for email in emails.iter().filter_map(Bson::as_str) {
        let recipient = Recipient::from_stored(email.to_owned());
        if !recipients.contains(&recipient) {
            recipients.push(recipient);
        }
    }
    recipients
}

fn ours(document: &Document) -> Option<&Document> {
    document.get_document("nw").ok()
}

impl Stored {
    /// Reads a document that has at least the newest entry of its history.
    pub(super) fn read(document: &Document) -> Result<Self, StoreError> {
        Ok(Self {
            watcher: read_watcher(document)?,
            books: Books::read(document)?,
        })
    }
}

impl Books {
    /// Reads a document that has at least the identifier and what is ours; the notices may be left out.
    pub(super) fn read(document: &Document) -> Result<Self, StoreError> {
        let mut books = Self {
            id: read_id(document)?,
            revision: None,
            operations: Vec::new(),
            last_number: 0,
            owed: Vec::new(),
            refused: Vec::new(),
        };
        let Some(ours) = ours(document) else {
            return Ok(books);
        };
        let counted = |field: &str, count: Option<i64>| {
            let count = count.filter(|count| (0..=HIGHEST).contains(count));
            count.ok_or_else(|| corrupt(format!("the field nw.{field} of {}", books.id)))
        };
        let numbered = integer(ours.get("numbered")).unwrap_or(0);
        books.last_number = counted("numbered", Some(numbered))?;
        books.revision = Some(counted("rev", integer(ours.get("rev")))?);
        books.operations = list(ours, "ops").filter_map(Bson::as_i64).collect();
        for entry in list(ours, "owed") {
            match read_form(entry) {
                Some(owed) => books.owed.push(owed),
                None => books.refuse("?", "the delivery cannot be read"),
            }
        }
        books
            .refused
            .extend(list(ours, "refused").filter_map(read_form));
        // Whoever waits for one that cannot be read would wait for ever.
        let mut heard = HashSet::new();
        for owed in &mut books.owed {
            if heard.insert(owed.to.clone()) {
                owed.due.get_or_insert(DateTime::from_millis(0));
            }
        }
        Ok(books)
    }

    /// The operation that made the revision after `revision`, if that is remembered.
    pub(super) fn revision_before(&self, operation: i64) -> Option<i64> {
        let age = self
            .operations
            .iter()
            .rev()
            .position(|made| *made == operation)?;
        Some(self.revision? - 1 - i64::try_from(age).ok()?)
    }

    /// What finds the document as long as nobody has changed it.
    pub(super) fn filter(&self) -> Document {
        let mut filter = doc! { "id": self.id.as_str() };
        match self.revision {
            Some(revision) => filter.insert("nw.rev", revision),
            None => filter.insert("nw", doc! { "$exists": false }),
        };
        // After a fail-over another change may have the number of one that was lost with the old primary.
        if let Some(last) = self.operations.last() {
            filter.insert("nw.ops", *last);
        }
        filter
    }

    /// Owes a delivery of each notice to each of its recipients, and notes in `update` what that changes.
    pub(super) fn owe(
        &mut self,
        notices: &[Notice],
        now: Timestamp,
        room: Room,
        update: &mut Update,
    ) {
        for notice in notices {
            if notice.kind == NoticeKind::Late {
                self.make_room(room, now, update);
            }
            let form = NoticeForm::of(notice);
            self.last_number += 1;
            let number = self.last_number;
            for recipient in &notice.recipients {
                self.last_number += 1;
                let is_first = self.owed.iter().all(|owed| owed.to != recipient.as_str());
                self.owed.push(Owed {
                    number: self.last_number,
                    notice: number,
                    at: Some(date(notice.at)),
                    deadline: Some(date(notice.deadline)),
                    resumed: Told::from(notice.kind) == Told::Resumed,
                    to: recipient.as_str().to_owned(),
                    due: is_first.then(|| date(now)),
                    token: 0,
                    by: None,
                    attempts: 0,
                });
            }
            update.set(format!("nw.notices.n{number}"), form.to_bson());
        }
        if !notices.is_empty() {
            update.set("nw.numbered", self.last_number);
            self.note_owed(update);
        }
    }

    /// Of very many notices that somebody could not be told yet the newest give way, two by two: a lateness and
    /// its end. Whoever misses them reads of those before and after, and the refusals tell.
    fn make_room(&mut self, room: Room, now: Timestamp, update: &mut Update) {
        let begun = |owed: &&Owed| owed.due.is_some();
        let begun: HashSet<i64> = self
            .owed
            .iter()
            .filter(begun)
            .map(|owed| owed.notice)
            .collect();
        let numbers: BTreeSet<i64> = self.owed.iter().map(|owed| owed.notice).collect();
        let mut count = numbers.len();
        let mut waiting: Vec<i64> = numbers.into_iter().collect();
        waiting.retain(|number| !begun.contains(number));
        waiting.reverse();
        for pair in waiting.chunks_exact(2) {
            if count < room.notices && self.owed.len() < MOST_OWED {
                return;
            }
            for number in pair {
                update.unset(format!("nw.notices.n{number}"));
            }
            let owed = std::mem::take(&mut self.owed);
            let (gone, kept): (Vec<Owed>, _) = owed
                .into_iter()
                .partition(|owed| pair.contains(&owed.notice));
            (count, self.owed) = (count - 2, kept);
            for owed in &gone {
                self.refuse(&owed.to, TOO_MANY);
                update.settled(owed, Some(TOO_MANY), now);
            }
            self.note_refused(update);
            tracing::warn!(
                watcher = self.id.as_str(),
                "too many notices are owed: one lateness and its end will not be told"
            );
        }
    }

    fn note_owed(&self, update: &mut Update) {
        let owed = self.owed.iter().filter_map(to_form);
        update.set("nw.owed", Bson::Array(owed.collect()));
        match self.owed.iter().filter_map(|owed| owed.due).min() {
            Some(due) => update.set("nw.due", due),
            None => update.unset("nw.due"),
        }
    }

    /// The deliveries that are due at `now`.
    pub(super) fn due(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, i64)> {
        let due = self
            .owed
            .iter()
            .filter_map(|owed| Some((timestamp(owed.due?), owed.number)));
        due.filter(move |(due, _)| *due <= now)
    }

    /// The deliveries with these numbers, claimed until `lease_end`.
    pub(super) fn claim(
        &mut self,
        numbers: &[i64],
        by: i64,
        lease_end: Timestamp,
        mut token: impl FnMut() -> i64,
        update: &mut Update,
    ) -> Vec<Owed> {
        let mut claimed = Vec::new();
        for owed in &mut self.owed {
            if numbers.contains(&owed.number) {
                owed.due = Some(date(lease_end));
                owed.by = Some(by);
                owed.token = token();
                claimed.push(owed.clone());
            }
        }
        self.note_owed(update);
        claimed
    }

    /// Lets go of claims. Returns whether there were any.
    pub(super) fn release(
        &mut self,
        which: impl Fn(&Owed) -> bool,
        mut token: impl FnMut() -> i64,
        update: &mut Update,
    ) -> bool {
        let mut any = false;
        for owed in &mut self.owed {
            if owed.by.is_some() && which(owed) {
                owed.by = None;
                owed.token = token();
                owed.due = Some(DateTime::from_millis(0));
                any = true;
            }
        }
        self.note_owed(update);
        any
    }

    /// The place of a claimed delivery, if the claim still holds.
    pub(super) fn place(&self, number: i64, token: i64) -> Option<usize> {
        let is_it = |owed: &Owed| owed.number == number && owed.token == token && owed.by.is_some();
        self.owed.iter().position(is_it)
    }

    pub(super) fn try_again(
        &mut self,
        place: usize,
        at: Timestamp,
        reason: &str,
        update: &mut Update,
    ) {
        let owed = &mut self.owed[place];
        update.failure = Some((failure_of(owed.number), reason.to_owned()));
        owed.attempts = owed.attempts.saturating_add(1);
        owed.by = None;
        owed.due = Some(date(at));
        self.note_owed(update);
    }

    /// Takes a delivery off for good; the next one to the same recipient becomes due.
    pub(super) fn finish(
        &mut self,
        place: usize,
        refused: Option<&str>,
        now: Timestamp,
        update: &mut Update,
    ) {
        let mut done = self.owed.remove(place);
        if done.attempts > 0 {
            update.unset(failure_of(done.number));
        }
        done.attempts = done.attempts.saturating_add(1);
        update.settled(&done, refused, now);
        if let Some(next) = self.owed.iter_mut().find(|owed| owed.to == done.to) {
            next.due = Some(date(now));
        }
        if self.owed.iter().all(|owed| owed.notice != done.notice) {
            update.unset(format!("nw.notices.n{}", done.notice));
        }
        self.refused.retain(|refused| refused.to != done.to);
        if let Some(reason) = refused {
            self.refuse(&done.to, reason);
        }
        self.note_refused(update);
        self.note_owed(update);
    }

    fn note_refused(&self, update: &mut Update) {
        let refused: Array = self.refused.iter().filter_map(to_form).collect();
        if refused.is_empty() {
            update.unset("nw.refused");
        } else {
            update.set("nw.refused", refused);
        }
    }

    fn refuse(&mut self, to: &str, why: &str) {
        self.refused.retain(|refused| refused.to != to);
        self.refused.push(Refused {
            to: to.to_owned(),
            why: why.to_owned(),
        });
        if self.refused.len() > MOST_REFUSED {
            self.refused.remove(0);
        }
    }
}

fn list<'a>(document: &'a Document, field: &str) -> impl Iterator<Item = &'a Bson> + use<'a> {
    document.get_array(field).into_iter().flatten()
}

fn read_form<T: for<'de> Deserialize<'de>>(form: &Bson) -> Option<T> {
    deserialize_from_document(form.as_document()?.clone()).ok()
}

fn to_form<T: Serialize>(value: &T) -> Option<Bson> {
    serialize_to_document(value).ok().map(Bson::Document)
}

/// Where the last failure of the delivery with this number stands.
fn failure_of(number: i64) -> String {
    format!("nw.failures.n{number}")
}

/// How the deliveries of a document stand, and what became of others. What cannot be read is left out.
pub(super) fn read_reports(document: &Document) -> Vec<DeliveryReport> {
    let Some(ours) = ours(document) else {
        return Vec::new();
    };
    let failures = ours.get_document("failures").ok();
    let failure_of = |number: i64| failures?.get_str(format!("n{number}")).ok();
    let owed = list(ours, "owed").filter_map(read_form::<Owed>);
    let owed = owed.filter_map(|owed| {
        let failure = failure_of(owed.number).map(Reason::from);
        Some((owed.number, owed.into_report(failure)?))
    });
    let settled = list(ours, "settled").filter_map(read_form::<Settled>);
    let settled = settled.map(|settled| (settled.number, settled.into_report()));
    DeliveryReport::in_order(owed.chain(settled).collect())
}

impl Owed {
    /// `None` if an earlier release has written it: it did not say enough.
    fn into_report(self, failure: Option<Reason>) -> Option<DeliveryReport> {
        let due = self.due.map(timestamp);
        Some(DeliveryReport {
            told: told(self.resumed),
            at: timestamp(self.at?),
            deadline: timestamp(self.deadline?),
            recipient: Recipient::from_stored(self.to),
            attempts: tries(self.attempts),
            state: DeliveryState::Owed { due, failure },
        })
    }
}

impl Settled {
    /// `None` if an earlier release has written what is owed: it did not say enough.
    fn of(owed: &Owed, refused: Option<&str>, now: Timestamp) -> Option<Self> {
        Some(Self {
            number: owed.number,
            at: owed.at?,
            deadline: owed.deadline?,
            resumed: owed.resumed,
            to: owed.to.clone(),
            attempts: owed.attempts,
            done: date(now),
            why: refused.map(str::to_owned),
        })
    }

    fn into_report(self) -> DeliveryReport {
        let at = timestamp(self.done);
        DeliveryReport {
            told: told(self.resumed),
            at: timestamp(self.at),
            deadline: timestamp(self.deadline),
            recipient: Recipient::from_stored(self.to),
            attempts: tries(self.attempts),
            state: match self.why.map(Reason::from) {
                Some(reason) => DeliveryState::Refused { at, reason },
                None => DeliveryState::Delivered { at },
            },
        }
    }
}

fn told(is_resumed: bool) -> Told {
    if is_resumed {
        Told::Resumed
    } else {
        Told::Late
    }
}

pub(super) fn tries(attempts: i64) -> u32 {
    u32::try_from(attempts).unwrap_or(u32::MAX)
}

/// When the oldest notice arose that a document owes.
pub(super) fn oldest_owed(document: &Document) -> Option<Timestamp> {
    let owed = list(ours(document)?, "owed").filter_map(Bson::as_document);
    let dates = owed.filter_map(|owed| owed.get_datetime("at").ok());
    dates.min().map(|at| timestamp(*at))
}

/// The slug of a document that owes something. It is empty if it cannot be read: what is owed is told all the same.
pub(super) fn read_slug(document: &Document) -> Slug {
    Slug::from_text(document.get_str("slug").unwrap_or_default().to_owned())
}

/// A notice that a document owes.
pub(super) fn read_notice(document: &Document, number: i64) -> Option<Notice> {
    let notices = ours(document)?.get_document("notices").ok()?;
    let form: NoticeForm = read_form(notices.get(format!("n{number}"))?)?;
    form.into_notice()
}

impl NoticeForm {
    fn of(notice: &Notice) -> Self {
        let resumed = match notice.kind {
            NoticeKind::Late => None,
            NoticeKind::Resumed {
                late,
                next_deadline,
            } => Some(ResumedForm {
                late: late.map(|id| id.to_string()),
                next_deadline: date(next_deadline),
            }),
        };
        Self {
            id: notice.id.to_string(),
            at: date(notice.at),
            name: notice.name.as_str().to_owned(),
            description: notice.description.as_str().to_owned(),
            periodicity: i64::try_from(notice.periodicity.millis()).unwrap_or(i64::MAX),
            deadline: date(notice.deadline),
            last_event: date(notice.last_event),
            resumed,
        }
    }

    fn to_bson(&self) -> Bson {
        to_form(self).unwrap_or(Bson::Null)
    }

    fn into_notice(self) -> Option<Notice> {
        let kind = match self.resumed {
            None => NoticeKind::Late,
            Some(resumed) => NoticeKind::Resumed {
                late: resumed.late.as_deref().and_then(NoticeId::parse),
                next_deadline: timestamp(resumed.next_deadline),
            },
        };
        Some(Notice {
            id: NoticeId::parse(&self.id)?,
            kind,
            at: timestamp(self.at),
            name: Name::from_stored(self.name),
            description: Description::from_stored(self.description),
            periodicity: Periodicity::from_millis(self.periodicity.try_into().ok()?).ok()?,
            deadline: timestamp(self.deadline),
            last_event: timestamp(self.last_event),
            recipients: Vec::new(),
        })
    }
}

/// What one write changes in a document.
#[derive(Debug, Default)]
pub(super) struct Update {
    set: Document,
    unset: Document,
    push: Document,
    /// What became of deliveries.
    settled: Array,
    /// Why one has failed, and where that stands.
    failure: Option<(String, String)>,
}

impl Update {
    /// Notes what became of a delivery.
    fn settled(&mut self, owed: &Owed, refused: Option<&str>, now: Timestamp) {
        let settled = Settled::of(owed, refused, now);
        self.settled.extend(settled.as_ref().and_then(to_form));
    }

    /// The same without what is only for people to read: for a document that has no room for it.
    pub(super) fn without_reports(self) -> Self {
        Self {
            settled: Array::new(),
            failure: None,
            ..self
        }
    }

    fn set(&mut self, field: impl Into<String>, value: impl Into<Bson>) {
        self.set.insert(field, value);
    }

    fn unset(&mut self, field: impl Into<String>) {
        self.unset.insert(field, "");
    }

    /// What a transition changes in the watcher itself.
    pub(super) fn of_watcher(before: &Watcher, after: &Watcher) -> Self {
        let mut update = Self::default();
        update.set("late", after.state.is_late());
        update.set("paused", after.state.is_paused());
        match after.state.deadline() {
            Some(deadline) => update.set("deadline", date(deadline)),
            None => update.unset("deadline"),
        }
        match after.state {
            State::Late {
                notice: Some(notice),
                ..
            } => update.set("nw.late", notice.to_string()),
            _ => update.unset("nw.late"),
        }
        if after.name != before.name {
            update.set("name", after.name.as_str());
        }
        if after.slug != before.slug {
            update.set("slug", after.slug.as_str());
        }
        if after.description != before.description {
            update.set("description", after.description.as_str());
        }
        if after.periodicity != before.periodicity {
            update.set("periodicity", seconds(after.periodicity));
        }
        if after.recipients != before.recipients {
            update.set("emails", emails(&after.recipients));
        }
        update
    }

    /// Puts `event`, if there is one, before a history that keeps as many as there is room for.
    pub(super) fn record(&mut self, event: Option<&Event>, room: Room) {
        let keep = i64::try_from(room.events).unwrap_or(i64::MAX);
        let events: Array = event.map(event_form).into_iter().collect();
        let push = doc! { "$each": events, "$position": 0, "$slice": keep };
        self.push.insert("history", push);
    }

    /// The update as the server takes it, which `operation` will be known by.
    pub(super) fn into_document(mut self, books: &Books, operation: i64) -> Document {
        let keep = -i64::try_from(REMEMBERED).unwrap_or(i64::MAX);
        self.set("nw.rev", books.revision.unwrap_or(0) + 1);
        self.push
            .insert("nw.ops", doc! { "$each": [operation], "$slice": keep });
        if !self.settled.is_empty() {
            let keep = -i64::try_from(DeliveryReport::KEPT).unwrap_or(i64::MAX);
            let push = doc! { "$each": self.settled, "$slice": keep };
            self.push.insert("nw.settled", push);
        }
        if let Some((field, reason)) = self.failure {
            self.set.insert(field, reason);
        }
        let mut update = doc! { "$set": self.set, "$push": self.push };
        if !self.unset.is_empty() {
            update.insert("$unset", self.unset);
        }
        update
    }
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
