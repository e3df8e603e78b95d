//! MongoDB, for those who outgrow one machine: replica sets and sharded clusters, and several servers at once.
//!
//! - `connect`: settings, the database, its indexes and what each serves.
//! - `documents`: between documents and the domain.
//! - `table`: the commands that are sent.
//! - `calls`: how long calls take, and which are made again.
//! - `operations`: changes that are made once, one after another.
//! - `servers`: the servers that share a database.
//!
//! A watcher is one document of the collection `watchers`. A change reads it and replaces what changes under
//! the condition that its revision is still the same, in one write of the majority: state, event and
//! deliveries together, on every topology. Whoever was not first does it again. A change whose answer is lost
//! is looked for in the document before it is made again, so that it is made once.

mod calls;
mod connect;
mod documents;
mod operations;
mod servers;
mod table;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
pub use mongodb::options::ClientOptions;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::calls::{Failure, Patience, TOTAL};
pub use self::connect::{MongoSettings, OpenError};
use self::documents::{
    Books, Fields, Owed, Room, Stored, Update, date, new_document, oldest_owed, read_history,
    read_id, read_notice, read_reports, read_slug, read_watcher, timestamp, tries,
};
use self::operations::{Operation, Turns, random};
use self::servers::{Server, Strays};
use self::table::{Question, Table};
use super::aside::Aside;
use crate::domain::{
    Action, Event, Filter, HistoryPolicy, Notice, Recipient, Slug, Timestamp, WatcherId,
};
use crate::ports::{
    Census, Claim, Delivery, DeliveryKey, DeliveryReport, Detail, InsertError, Key, Outcome,
    Record, StoreError, TransactError, Transacted, WatcherStore,
};

/// Keeps everything in one MongoDB database, which others like it may use at the same time.
pub struct MongoStore {
    policy: HistoryPolicy,
    watchers: Table,
    server: Server,
    aside: Aside<Hidden>,
    turns: Turns,
    begun: TaskTracker,
    is_closed: AtomicBool,
    beating: AbortHandle,
}

impl MongoStore {
    /// How many watchers of a list are read at a time.
    const BATCH: usize = 100;
    /// How many watchers' deliveries are claimed at a time.
    const AT_A_TIME: usize = 16;
    /// How many of the newest events are read for a claim, at first.
    const NEWEST: usize = 2 * Notice::EVENTS_SHOWN;

    /// Opens the database, makes its indexes, and makes itself known to the other servers.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the settings are wrong, the server cannot be reached or refuses us, or the indexes
    /// cannot be made.
    pub async fn open(settings: &MongoSettings, policy: HistoryPolicy) -> Result<Self, OpenError> {
        let (options, database) = settings.options().await?;
        Self::with_options(options, &database, policy).await
    }

    /// The same with options of the driver.
    ///
    /// # Errors
    ///
    /// [`OpenError`] as above.
    pub async fn with_options(
        options: ClientOptions,
        database: &str,
        policy: HistoryPolicy,
    ) -> Result<Self, OpenError> {
        let client = Client::with_options(options)
            .map_err(|error| OpenError::Settings(error.kind.to_string()))?;
        let database = connect::database(&client, database);
        let watchers = Table::new(database.collection("watchers"));
        connect::make_indexes(&watchers).await?;
        let server = Server {
            id: random(),
            watchers: watchers.clone(),
            servers: Table::new(database.collection("nights_watch_servers")),
            strays: Strays::default(),
        };
        server.beat(&mut Patience::new()).await?;
        let beating = tokio::spawn(server.clone().run()).abort_handle();
        Ok(Self {
            policy,
            watchers,
            server,
            aside: Aside::default(),
            turns: Turns::new(),
            begun: TaskTracker::new(),
            is_closed: AtomicBool::new(false),
            beating,
        })
    }

    /// A call begins; [`WatcherStore::close`] waits for its end.
    fn begin(&self) -> Result<TaskTrackerToken, StoreError> {
        let token = self.begun.token();
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("the store is closed"));
        }
        Ok(token)
    }

    async fn fetch(
        &self,
        filter: &Document,
        fields: Fields,
        patience: &mut Patience,
    ) -> Result<Option<Document>, StoreError> {
        let fetch = || self.watchers.first(filter.clone(), fields.document());
        patience.insist(fetch).await
    }

    async fn all(
        &self,
        question: &Question,
        patience: &mut Patience,
    ) -> Result<Vec<Document>, StoreError> {
        let all = || self.watchers.all(question.clone());
        patience.insist(all).await
    }

    /// Makes sure that an operation that was found in a document is there for good: a write of the majority
    /// that changes nothing comes back when all before it are the majority's. Returns whether it is still there;
    /// what was found on a server that is no primary any more may be gone, and then it is time to look again.
    async fn confirm(
        &self,
        id: WatcherId,
        token: i64,
        patience: &mut Patience,
    ) -> Result<bool, StoreError> {
        let confirm = || {
            let done = doc! { "id": id.as_str(), "nw.ops": token };
            let same = doc! { "$set": { "id": id.as_str() } };
            self.watchers.update(done, same)
        };
        let is_there = patience.insist(confirm).await?;
        if !is_there {
            patience.after_losing().await?;
        }
        Ok(is_there)
    }

    /// Writes `update` if the document is still as it was read. Returns whether it was.
    async fn write(
        &self,
        base: &Books,
        update: Document,
        patience: &Patience,
    ) -> Result<bool, Failure> {
        patience
            .call(self.watchers.update(base.filter(), update))
            .await
    }

    /// Claims deliveries of one watcher; none if somebody else was quicker.
    async fn claim_some(
        &self,
        base: Books,
        numbers: Vec<i64>,
        (now, lease_end): (Timestamp, Timestamp),
        patience: Patience,
    ) -> Result<Vec<Claim>, StoreError> {
        let mut update = Update::default();
        let owed = base
            .clone()
            .claim(&numbers, self.server.id, lease_end, random, &mut update);
        let claimed = self
            .try_claim(&base, update, owed.clone(), now, patience)
            .await;
        if claimed.is_err() {
            self.server.strays.add(&base, &owed);
        }
        claimed
    }

    async fn try_claim(
        &self,
        base: &Books,
        update: Update,
        owed: Vec<Owed>,
        now: Timestamp,
        mut patience: Patience,
    ) -> Result<Vec<Claim>, StoreError> {
        let mut operation: Operation<()> = Operation::new();
        let update = update.into_document(base, operation.token);
        let filter = doc! { "id": base.id.as_str() };
        loop {
            match self.write(base, update.clone(), &patience).await {
                Ok(true) => break,
                Ok(false) if operation.tried.is_empty() => return Ok(Vec::new()),
                Ok(false) => {}
                Err(failure) => operation.failed(failure, base, (), &mut patience).await?,
            }
            let found = self.fetch(&filter, Fields::Books, &mut patience).await?;
            let Some(found) = found.as_ref().map(Books::read).transpose()? else {
                return Ok(Vec::new());
            };
            let is_done = operation.done(&found)?.is_some();
            if is_done
                && self
                    .confirm(base.id, operation.token, &mut patience)
                    .await?
            {
                break;
            }
            if !is_done && found.revision != base.revision {
                return Ok(Vec::new());
            }
        }
        self.claims(base.id, owed, now, &mut patience).await
    }

    async fn claims(
        &self,
        watcher: WatcherId,
        owed: Vec<Owed>,
        now: Timestamp,
        patience: &mut Patience,
    ) -> Result<Vec<Claim>, StoreError> {
        let Some(document) = self.fetch_claimed(watcher, &owed, patience).await? else {
            // It was deleted meanwhile, with all that it owed.
            return Ok(Vec::new());
        };
        let history = read_history(&document, None, self.policy);
        let mut claims = Vec::new();
        for owed in owed {
            let key = DeliveryKey {
                watcher,
                number: owed.number,
                token: owed.token.cast_unsigned(),
            };
            if let Some(notice) = read_notice(&document, owed.notice) {
                claims.push(Claim {
                    key,
                    events: shown(&notice, &history).cloned().collect(),
                    delivery: Delivery {
                        notice,
                        recipient: Recipient::from_stored(owed.to),
                        attempts: tries(owed.attempts),
                    },
                    slug: read_slug(&document),
                });
            } else {
                let watcher = watcher.as_str();
                tracing::error!(watcher, "a notice that is owed cannot be read");
                let refused = Outcome::Refused("the notice cannot be read".into());
                self.settle(&key, &refused, now).await?;
            }
        }
        Ok(claims)
    }

    /// The notices that are `owed`, and as much of the history as their messages show: the newest events, unless
    /// many have come since one of the notices arose.
    async fn fetch_claimed(
        &self,
        watcher: WatcherId,
        owed: &[Owed],
        patience: &mut Patience,
    ) -> Result<Option<Document>, StoreError> {
        let filter = doc! { "id": watcher.as_str() };
        let newest = Fields::Claimed(Self::NEWEST);
        let Some(document) = self.fetch(&filter, newest, patience).await? else {
            return Ok(None);
        };
        let history = read_history(&document, None, self.policy);
        let is_shown = |owed: &Owed| {
            let notice = read_notice(&document, owed.notice);
            notice.is_none_or(|notice| shown(&notice, &history).count() == Notice::EVENTS_SHOWN)
        };
        let has_all = document
            .get_array("history")
            .is_ok_and(|history| history.len() < Self::NEWEST);
        if has_all || owed.iter().all(is_shown) {
            return Ok(Some(document));
        }
        let all = Fields::Claimed(self.policy.limit());
        self.fetch(&filter, all, patience).await
    }

    /// What cannot be read is not looked at again until the watcher changes: it must not hold up the others.
    async fn owe_later(&self, document: &Document, error: &StoreError) -> Result<(), StoreError> {
        tracing::error!(%error, "what a watcher owes cannot be delivered");
        let is_it = doc! { "_id": document.get("_id") };
        let not_due = || {
            let update = doc! { "$unset": { "nw.due": "" } };
            self.watchers.update(is_it.clone(), update)
        };
        Patience::new().insist(not_due).await.map(drop)
    }

    async fn count(&self, filter: Document) -> Result<u64, StoreError> {
        let count = || self.watchers.count(filter.clone());
        Patience::new().insist(count).await
    }

    async fn sum(&self, filter: Document, array: &str) -> Result<u64, StoreError> {
        let sum = || self.watchers.sum(filter.clone(), array);
        Patience::new().insist(sum).await
    }

    /// The first `limit` documents after the slug `last` that one of `states` finds, in the order of their slugs.
    async fn by_slug(
        &self,
        states: &[Document],
        last: &str,
        limit: usize,
        detail: Detail,
    ) -> Result<Vec<Document>, StoreError> {
        let mut found = Vec::new();
        for state in states {
            let mut filter = state.clone();
            filter.insert("slug", doc! { "$gt": last });
            let question = Question {
                filter,
                fields: Fields::Watcher(detail).document(),
                order: doc! { "slug": 1 },
                limit,
            };
            found.extend(self.all(&question, &mut Patience::new()).await?);
        }
        found.sort_by(|one, other| one.get_str("slug").ok().cmp(&other.get_str("slug").ok()));
        found.truncate(limit);
        Ok(found)
    }

    /// Those whose deadline lies ahead, with a condition on it, but for those that are set aside; and when some of these
    /// are to be looked at again.
    fn watched(&self, deadline: Document) -> (Document, Option<Timestamp>) {
        let mut filter = doc! { "late": false, "paused": false, "deadline": deadline };
        let (hidden, again): (Vec<_>, _) = self.aside.hidden();
        if !hidden.is_empty() {
            let (ids, deadlines): (Vec<_>, Vec<_>) = hidden.into_iter().unzip();
            // No two watchers that are set aside can be taken for each other: these deadlines have passed.
            let hidden = doc! { "_id": { "$in": ids }, "deadline": { "$in": deadlines } };
            filter.insert("$nor", vec![hidden]);
        }
        (filter, again)
    }

    fn hide(&self, document: &Document, now: Timestamp, until: Timestamp) {
        let field = |name| document.get(name).cloned().unwrap_or(Bson::Null);
        let hidden = (field("_id"), field("deadline"));
        self.aside.put(hidden, now, until);
    }

    /// The earliest date in a field of the documents that `filter` finds.
    async fn earliest(
        &self,
        filter: Document,
        field: &str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let question = Question {
            filter,
            fields: doc! { field: 1, "_id": 0 },
            order: doc! { field: 1 },
            limit: 1,
        };
        let found = self.all(&question, &mut Patience::new()).await?;
        let Some(first) = found.first() else {
            return Ok(None);
        };
        let date = match field.split_once('.') {
            Some((outer, inner)) => first
                .get_document(outer)
                .and_then(|outer| outer.get_datetime(inner)),
            None => first.get_datetime(field),
        };
        Ok(date.ok().map(|date| timestamp(*date)))
    }
}

/// Without the driver's forms, which know the settings.
impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStore").finish_non_exhaustive()
    }
}

impl Drop for MongoStore {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

fn to_record(
    document: &Document,
    detail: Detail,
    policy: HistoryPolicy,
) -> Result<Record, StoreError> {
    Ok(Record {
        watcher: read_watcher(document)?,
        history: match detail {
            Detail::Summary => Vec::new(),
            Detail::Full => read_history(document, None, policy),
        },
    })
}

/// The events of `history` that a message of `notice` shows.
fn shown<'a>(notice: &Notice, history: &'a [Event]) -> impl Iterator<Item = &'a Event> + use<'a> {
    let last = notice.last_event;
    let events = history.iter().filter(move |event| event.at <= last);
    events.take(Notice::EVENTS_SHOWN)
}

fn filter_of(key: &Key) -> Document {
    match key {
        Key::Id(id) => doc! { "id": id.as_str() },
        Key::Slug(slug) => doc! { "slug": slug.as_str() },
        Key::Name(name) => doc! { "name": name.as_str() },
    }
}

fn text_of(key: &Key) -> &str {
    match key {
        Key::Id(id) => id.as_str(),
        Key::Slug(slug) => slug.as_str(),
        Key::Name(name) => name.as_str(),
    }
}

/// A document that is set aside, and its deadline, whatever they are.
type Hidden = (Bson, Bson);

/// How long nobody looks at a document that does not say whose it is: somebody may have mended it by then.
const UNREADABLE: Duration = Duration::from_hours(1);

/// Those that owe something; the index has no others.
fn owing() -> Document {
    doc! { "nw.due": { "$type": "date" } }
}

/// What finds the watchers in the states that `filter` allows, each by a range of an index in the order of the
/// slugs: one condition for each state, but a single one for all of them.
fn states(filter: &Filter) -> Vec<Document> {
    let on_time = doc! { "late": false, "paused": false };
    let late = doc! { "late": true, "paused": false };
    let states = [
        (filter.allows(false, false), on_time),
        (filter.allows(true, false), late),
        (filter.allows(false, true), paused_ones()),
    ];
    if states.iter().all(|(is_allowed, _)| *is_allowed) {
        return vec![Document::new()];
    }
    let allowed = states.into_iter().filter(|(is_allowed, _)| *is_allowed);
    allowed.map(|(_, state)| state).collect()
}

fn paused_ones() -> Document {
    doc! { "late": { "$in": [false, true] }, "paused": true }
}

#[async_trait]
impl WatcherStore for MongoStore {
    async fn insert(&self, record: &Record) -> Result<(), InsertError> {
        let _begun = self.begin()?;
        let mut patience = Patience::new();
        let token = random();
        let watcher = &record.watcher;
        let document = new_document(record, token);
        let id = doc! { "id": watcher.id.as_str() };
        let mut is_under_way = false;
        loop {
            let mut is_taken = false;
            if is_under_way {
                patience.after_losing().await?;
            } else {
                let failure = match patience.call(self.watchers.insert(document.clone())).await {
                    Ok(()) => return Ok(()),
                    Err(failure) => failure,
                };
                // A second one could bring the watcher back after it was deleted.
                is_under_way = matches!(failure, Failure::Silence);
                is_taken = failure.is_duplicate_key();
                if !is_taken {
                    patience.after_sending(failure).await?;
                }
            }
            match self.fetch(&id, Fields::Books, &mut patience).await? {
                Some(found) if Books::read(&found)?.revision_before(token).is_some() => {
                    let is_there = self.confirm(watcher.id, token, &mut patience).await?;
                    if is_there {
                        return Ok(());
                    }
                }
                Some(_) => return Err(InsertError::IdTaken),
                None if is_taken => {
                    let slug = doc! { "slug": watcher.slug.as_str() };
                    if self
                        .fetch(&slug, Fields::Books, &mut patience)
                        .await?
                        .is_some()
                    {
                        return Err(InsertError::SlugTaken);
                    }
                    // Whoever had it is gone meanwhile.
                    patience.after_losing().await?;
                }
                None => {}
            }
        }
    }

    async fn transact(
        &self,
        key: &Key,
        action: &Action,
        now: Timestamp,
        detail: Detail,
    ) -> Result<Transacted, TransactError> {
        let _begun = self.begin()?;
        let mut patience = Patience::new();
        let _turn = self.turns.take(text_of(key), &patience).await?;
        let mut operation: Operation<Transacted> = Operation::new();
        let mut filter = filter_of(key);
        let ample = Room::new(self.policy);
        let mut room = ample;
        loop {
            let document = self
                .fetch(&filter, Fields::Transition(detail), &mut patience)
                .await?;
            let document = document.ok_or(TransactError::NotFound)?;
            let Stored {
                watcher,
                books: base,
            } = Stored::read(&document)?;
            if let Some(mut done) = operation.done(&base)? {
                if !self
                    .confirm(watcher.id, operation.token, &mut patience)
                    .await?
                {
                    continue;
                }
                if detail == Detail::Full {
                    let mut history = read_history(&document, None, self.policy);
                    let event = done.event.as_ref();
                    let newer = history.iter().position(|found| Some(found) == event);
                    done.history = history.split_off(newer.unwrap_or(0));
                }
                return Ok(done);
            }
            let change = watcher.apply(action, now)?;
            let history = match detail {
                Detail::Summary => Vec::new(),
                Detail::Full => read_history(&document, change.event.as_ref(), self.policy),
            };
            if change.watcher == watcher && change.event.is_none() && change.notices.is_empty() {
                return Ok(Transacted::new(watcher.state, change, history));
            }
            let mut update = Update::of_watcher(&watcher, &change.watcher);
            if change.event.is_some() || room != ample {
                update.record(change.event.as_ref(), room);
            }
            base.clone().owe(&change.notices, now, room, &mut update);
            let update = update.into_document(&base, operation.token);
            let done = Transacted::new(watcher.state, change, history);
            match self.write(&base, update, &patience).await {
                Ok(true) => return Ok(done),
                Ok(false) => patience.after_losing().await?,
                Err(failure) if failure.is_duplicate_key() => return Err(TransactError::SlugTaken),
                Err(failure) if failure.is_too_large() && room.shrink() => {}
                Err(failure) => {
                    operation
                        .failed(failure, &base, done, &mut patience)
                        .await?;
                }
            }
            // A slug may be somebody else's by now.
            filter = doc! { "id": watcher.id.as_str() };
        }
    }

    async fn find(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let _begun = self.begin()?;
        let fields = Fields::Watcher(Detail::Full);
        let found = self
            .fetch(&filter_of(key), fields, &mut Patience::new())
            .await?;
        found
            .map(|found| to_record(&found, Detail::Full, self.policy))
            .transpose()
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&Slug>,
        limit: usize,
        detail: Detail,
    ) -> Result<Vec<Record>, StoreError> {
        let _begun = self.begin()?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        // An expression is looked for here, by the same rules as over every store.
        let is_search = filter.search.is_some();
        let batch = if is_search {
            Self::BATCH
        } else {
            limit.min(Self::BATCH)
        };
        let states = states(filter);
        let mut page = Vec::new();
        let mut last = after.map_or_else(String::new, |after| after.as_str().to_owned());
        loop {
            let found = self.by_slug(&states, &last, batch, detail).await?;
            for document in &found {
                let record = to_record(document, detail, self.policy)?;
                record.watcher.slug.as_str().clone_into(&mut last);
                if filter.matches(&record.watcher) {
                    page.push(record);
                }
                if page.len() == limit {
                    return Ok(page);
                }
            }
            if found.len() < batch {
                return Ok(page);
            }
        }
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        let _begun = self.begin()?;
        let mut patience = Patience::new();
        let found = self
            .fetch(&filter_of(key), Fields::Books, &mut patience)
            .await?;
        // By what is never given to another one, so that it can be repeated.
        let Some(found) = found.as_ref().and_then(|found| found.get("_id")) else {
            return Ok(false);
        };
        let mut may_be_done = false;
        loop {
            let delete = self.watchers.delete(doc! { "_id": found });
            match patience.call(delete).await {
                Ok(deleted) => return Ok(deleted || may_be_done),
                Err(failure) => may_be_done |= patience.after_sending(failure).await?,
            }
        }
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>, StoreError> {
        let _begun = self.begin()?;
        // An array of dates is found by their type, too, and is none.
        let is_date = doc! { "$type": "date", "$not": { "$type": "array" } };
        let (others, again) = self.watched(is_date);
        let earliest = self.earliest(others, "deadline").await?;
        Ok(earliest.into_iter().chain(again).min())
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<WatcherId>, StoreError> {
        let _begun = self.begin()?;
        self.aside.take_back(now);
        let mut patience = Patience::new();
        loop {
            let (filter, _) = self.watched(doc! { "$lt": date(now) });
            let question = Question {
                filter,
                fields: doc! { "id": 1, "deadline": 1 },
                order: doc! { "deadline": 1 },
                limit,
            };
            let found = self.all(&question, &mut patience).await?;
            let mut overdue = Vec::new();
            for document in &found {
                match read_id(document) {
                    Ok(id) => overdue.push(id),
                    Err(error) => {
                        tracing::error!(%error, "a watcher in the database cannot be watched");
                        self.hide(document, now, now.after(UNREADABLE));
                    }
                }
            }
            // If none of them could be read there may be others behind them.
            if !overdue.is_empty() || found.is_empty() {
                return Ok(overdue);
            }
        }
    }

    async fn set_aside(
        &self,
        id: &WatcherId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let _begun = self.begin()?;
        let (is_it, fields) = (doc! { "id": id.as_str() }, doc! { "deadline": 1 });
        let find = || self.watchers.first(is_it.clone(), fields.clone());
        // A deadline that is no date can only be in the way.
        if let Some(document) = Patience::new().insist(find).await?
            && !document
                .get_datetime("deadline")
                .is_ok_and(|deadline| timestamp(*deadline) >= now)
        {
            self.hide(&document, now, until);
        }
        Ok(())
    }

    async fn next_delivery(&self) -> Result<Option<Timestamp>, StoreError> {
        let _begun = self.begin()?;
        self.earliest(owing(), "nw.due").await
    }

    async fn claim(
        &self,
        now: Timestamp,
        lease_end: Timestamp,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        let _begun = self.begin()?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let question = Question {
            filter: doc! { "nw.due": { "$lte": date(now) } },
            fields: Fields::Books.document(),
            order: doc! { "nw.due": 1 },
            limit,
        };
        let mut patience = Patience::new();
        loop {
            let mut due = Vec::new();
            let mut owing = Vec::new();
            let mut is_whole = true;
            for document in self.all(&question, &mut patience).await? {
                match Books::read(&document) {
                    Ok(books) => {
                        let place = owing.len();
                        due.extend(books.due(now).map(|(at, number)| (at, place, number)));
                        owing.push((books, Vec::new()));
                    }
                    Err(error) => {
                        self.owe_later(&document, &error).await?;
                        is_whole = false;
                    }
                }
            }
            due.sort_unstable();
            due.truncate(limit);
            for (_, place, number) in &due {
                owing[*place].1.push(*number);
            }
            let owing = owing.into_iter().filter(|(_, some)| !some.is_empty());
            let claiming = owing.map(|(books, some)| {
                let patience = patience.for_a_part();
                self.claim_some(books, some, (now, lease_end), patience)
            });
            let claimed: Vec<_> = stream::iter(claiming)
                .buffered(Self::AT_A_TIME)
                .collect()
                .await;
            let (mut claims, mut failure) = (Vec::new(), None);
            for claimed in claimed {
                match claimed {
                    Ok(claimed) => claims.extend(claimed),
                    Err(error) => failure = Some(error),
                }
            }
            match failure {
                // What was claimed is not to be lost for the rest.
                Some(error) if claims.is_empty() => return Err(error),
                _ if !claims.is_empty() || (due.is_empty() && is_whole) => return Ok(claims),
                _ => {}
            }
            // Others were quicker each time, or something was in the way, and there may be more.
            patience.after_losing().await?;
        }
    }

    async fn settle(
        &self,
        claim: &DeliveryKey,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let _begun = self.begin()?;
        let mut patience = Patience::new();
        let _turn = self.turns.take(claim.watcher.as_str(), &patience).await?;
        let mut operation: Operation<()> = Operation::new();
        let filter = doc! { "id": claim.watcher.as_str() };
        let mut has_room = true;
        loop {
            let Some(document) = self.fetch(&filter, Fields::Books, &mut patience).await? else {
                return Ok(false);
            };
            let base = Books::read(&document)?;
            if let Some(()) = operation.done(&base)? {
                if self
                    .confirm(claim.watcher, operation.token, &mut patience)
                    .await?
                {
                    return Ok(true);
                }
                continue;
            }
            let Some(place) = base.place(claim.number, claim.token.cast_signed()) else {
                return Ok(false);
            };
            let (mut books, mut update) = (base.clone(), Update::default());
            match outcome {
                Outcome::TryAgain { at, reason } => {
                    books.try_again(place, *at, reason.as_str(), &mut update);
                }
                Outcome::Delivered => books.finish(place, None, now, &mut update),
                Outcome::Refused(reason) => {
                    books.finish(place, Some(reason.as_str()), now, &mut update);
                }
            }
            if !has_room {
                update = update.without_reports();
            }
            let update = update.into_document(&base, operation.token);
            match self.write(&base, update, &patience).await {
                Ok(true) => return Ok(true),
                Ok(false) => patience.after_losing().await?,
                // A delivery that is not settled would be repeated.
                Err(failure) if failure.is_too_large() && has_room => has_room = false,
                Err(failure) => operation.failed(failure, &base, (), &mut patience).await?,
            }
        }
    }

    async fn deliveries(&self, watcher: &WatcherId) -> Result<Vec<DeliveryReport>, StoreError> {
        let _begun = self.begin()?;
        let filter = doc! { "id": watcher.as_str() };
        let found = self
            .fetch(&filter, Fields::Reports, &mut Patience::new())
            .await?;
        Ok(found.as_ref().map(read_reports).unwrap_or_default())
    }

    async fn keep_watch(&self, now: Timestamp) -> Result<(), StoreError> {
        let _begun = self.begin()?;
        self.server.keep_watch(now).await
    }

    async fn last_watch(&self) -> Result<Option<Timestamp>, StoreError> {
        let _begun = self.begin()?;
        self.server.last_watch().await
    }

    async fn oldest_notice(&self) -> Result<Option<Timestamp>, StoreError> {
        let _begun = self.begin()?;
        let question = Question {
            filter: owing(),
            fields: doc! { "nw.owed.at": 1 },
            order: doc! { "nw.owed.at": 1 },
            limit: 1,
        };
        let found = self.all(&question, &mut Patience::new()).await?;
        Ok(found.first().and_then(oldest_owed))
    }

    async fn census(&self) -> Result<Census, StoreError> {
        let _begun = self.begin()?;
        let refused = doc! { "nw.refused.to": { "$gte": "" } };
        let (on_time, late, paused, owed, refused) = tokio::try_join!(
            self.count(doc! { "late": false, "paused": false }),
            self.count(doc! { "late": true, "paused": false }),
            self.count(paused_ones()),
            self.sum(owing(), "$nw.owed"),
            self.sum(refused, "$nw.refused"),
        )?;
        Ok(Census {
            on_time,
            late,
            paused,
            owed,
            refused,
        })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let _begun = self.begin()?;
        let mut patience = Patience::new();
        self.fetch(&doc! { "id": "" }, Fields::Books, &mut patience)
            .await?;
        self.server.beat(&mut patience).await
    }

    async fn close(&self) {
        const LEAVING: Duration = Duration::from_secs(2);
        if self.is_closed.swap(true, Ordering::SeqCst) {
            return;
        }
        self.begun.close();
        let _ = tokio::time::timeout(TOTAL, self.begun.wait()).await;
        self.beating.abort();
        // What is still claimed will not be settled any more.
        let _ = tokio::time::timeout(LEAVING, self.server.bury(self.server.id)).await;
    }
}
