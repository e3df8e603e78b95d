//! What people can ask of Night's Watch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::Stream;
use futures_util::stream::try_unfold;
use rand::RngExt;
use tokio::sync::{Mutex, Notify};

use super::metrics::Metrics;
use super::outage::Vigil;
use super::trouble::{Complaints, Trouble};
use crate::domain::{
    Action, Comment, Draft, Filter, Outage, Refusal, Search, Slug, Timestamp, Update, Watcher,
    WatcherId,
};
use crate::ports::{
    Census, Clock, DeliveryReport, Detail, InsertError, Key, Record, StoreError, TransactError,
    Transacted, WatcherStore,
};

/// The use cases: each method is one thing that somebody asks for.
///
/// It reads the clock, lets the store and the rules decide, and rings for the loops when there is something
/// for them to do. Whatever a method returned with `Ok` is on disk.
pub struct NightsWatch {
    store: Arc<dyn WatcherStore>,
    clock: Arc<dyn Clock>,
    bells: Arc<Bells>,
    metrics: Arc<Metrics>,
    reading: Trouble,
    writing: Trouble,
    damaged: Complaints,
    vigil: Arc<Vigil>,
    /// What was counted last, and when.
    counted: Mutex<Option<(Instant, Census)>>,
}

/// How the use cases call the loops.
#[derive(Debug, Default)]
pub struct Bells {
    /// Rung when a deadline may have come to lie before those that the scheduler knows.
    pub scheduler: Notify,
    /// Rung when a delivery has become due.
    pub delivery: Notify,
}

/// Why something that was asked for was not done. Nothing has changed then, unless the store says that it may
/// have.
#[derive(Debug, thiserror::Error)]
pub enum UseCaseError {
    /// There is no such watcher.
    #[error("there is no such watcher")]
    NotFound,
    /// Another watcher has this name, or one with the same slug.
    #[error("the name is taken: another watcher has the same slug")]
    NameTaken,
    /// The rules forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An expression takes too much time among so many watchers.
    #[error("the expression takes too long among so many watchers; a simpler one is quicker")]
    SearchTooLong,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TransactError> for UseCaseError {
    fn from(error: TransactError) -> Self {
        match error {
            TransactError::NotFound => Self::NotFound,
            TransactError::SlugTaken => Self::NameTaken,
            TransactError::Refused(refusal) => Self::Refused(refusal),
            TransactError::Store(error) => Self::Store(error),
        }
    }
}

/// What a trigger found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triggered {
    /// The watcher was late before.
    pub recovered: bool,
    /// The watcher was paused before.
    pub unpaused: bool,
}

impl NightsWatch {
    /// How many watchers a page of a list has: as much as is in memory of a list at a time.
    const PAGE: usize = 100;
    /// The same where each watcher comes with its history.
    const FULL_PAGE: usize = 10;
    /// How many identifiers are drawn before it is taken for a fault that each of them exists.
    const DRAWS: usize = 16;

    /// The use cases over `store`, by the time of `clock`.
    #[must_use]
    pub fn new(
        store: Arc<dyn WatcherStore>,
        clock: Arc<dyn Clock>,
        bells: Arc<Bells>,
        metrics: Arc<Metrics>,
        vigil: Arc<Vigil>,
    ) -> Self {
        Self {
            store,
            clock,
            bells,
            metrics,
            reading: Trouble::new("reading for requests"),
            writing: Trouble::new("writing for requests"),
            damaged: Complaints::default(),
            vigil,
            counted: Mutex::default(),
        }
    }

    /// Creates a watcher with an identifier of its own.
    ///
    /// # Errors
    ///
    /// [`UseCaseError::NameTaken`] if another watcher has the slug of this name.
    pub async fn create(&self, draft: Draft) -> Result<Record, UseCaseError> {
        let now = self.clock.now();
        for _ in 0..Self::DRAWS {
            let record = Record::from(Watcher::create(draw_id(), draft.clone(), now));
            match self.store.insert(&record).await {
                Ok(()) => {
                    self.writing.is_over();
                    self.bells.scheduler.notify_one();
                    return Ok(record);
                }
                Err(InsertError::IdTaken) => {}
                Err(InsertError::SlugTaken) => return Err(UseCaseError::NameTaken),
                Err(InsertError::Store(error)) => return Err(self.failed(&self.writing, error)),
            }
        }
        Err(self.failed(
            &self.writing,
            StoreError::Corrupt("every identifier that was drawn is taken".to_owned()),
        ))
    }

    /// Records that the task of a watcher ran.
    ///
    /// # Errors
    ///
    /// [`UseCaseError::NotFound`] if there is no such watcher.
    pub async fn trigger(&self, key: &Key, comment: Comment) -> Result<Triggered, UseCaseError> {
        let done = self
            .transact(key, &Action::Trigger(comment), Detail::Summary)
            .await?;
        self.metrics.triggers.inc();
        Ok(Triggered {
            recovered: done.recovered,
            unpaused: done.unpaused,
        })
    }

    /// Pauses a watcher.
    ///
    /// # Errors
    ///
    /// [`UseCaseError::NotFound`], or [`UseCaseError::Refused`] if it is paused already.
    pub async fn pause(&self, key: &Key, comment: Comment) -> Result<Record, UseCaseError> {
        self.change(key, &Action::Pause(comment)).await
    }

    /// Ends the pause of a watcher.
    ///
    /// # Errors
    ///
    /// [`UseCaseError::NotFound`], or [`UseCaseError::Refused`] if it is not paused.
    pub async fn unpause(&self, key: &Key, comment: Comment) -> Result<Record, UseCaseError> {
        self.change(key, &Action::Unpause(comment)).await
    }

    /// Changes attributes of a watcher.
    ///
    /// # Errors
    ///
    /// [`UseCaseError::NotFound`], [`UseCaseError::NameTaken`], or [`UseCaseError::Refused`] if everything
    /// would be as before.
    pub async fn update(&self, key: &Key, update: Update) -> Result<Record, UseCaseError> {
        self.change(key, &Action::Update(update)).await
    }

    /// Sees whether the deadline of a watcher has passed, perhaps in an outage of ours. Returns whether it was put
    /// off for that.
    ///
    /// # Errors
    ///
    /// [`UseCaseError::NotFound`] if it is gone.
    pub async fn pass_deadline(
        &self,
        id: WatcherId,
        outage: Option<Outage>,
    ) -> Result<bool, UseCaseError> {
        let action = outage.map_or(Action::PassDeadline, Action::PassOutage);
        let done = self
            .transact(&Key::Id(id), &action, Detail::Summary)
            .await?;
        Ok(done.after != done.before && !done.after.is_late())
    }

    /// Deadlines are watched again after an outage, and so many were put off.
    pub(super) fn outage_is_over(&self, outage: &Outage, put_off: u64) {
        self.metrics.outage(put_off);
        let (since, until, grace) = (outage.since, outage.until, outage.grace);
        tracing::warn!(
            %since,
            %until,
            ?grace,
            put_off,
            "deadlines were not watched for a while; those that passed meanwhile are put off by the grace, if there is one"
        );
    }

    /// Deletes a watcher, with its history and whatever was still to be told of it.
    ///
    /// # Errors
    ///
    /// [`UseCaseError::NotFound`] if there is no such watcher.
    pub async fn delete(&self, key: &Key) -> Result<(), UseCaseError> {
        let deleted = self
            .store
            .delete(key)
            .await
            .map_err(|error| self.failed(&self.writing, error))?;
        self.writing.is_over();
        if deleted {
            Ok(())
        } else {
            Err(UseCaseError::NotFound)
        }
    }

    /// A watcher with its history.
    ///
    /// # Errors
    ///
    /// [`UseCaseError::NotFound`] if there is no such watcher.
    pub async fn get(&self, key: &Key) -> Result<Record, UseCaseError> {
        let found = self.read(self.store.find(key).await)?;
        found.ok_or(UseCaseError::NotFound)
    }

    /// How the deliveries of a watcher's notices stand and what became of the last ones, the newest notice first;
    /// none if there is no such watcher.
    ///
    /// # Errors
    ///
    /// [`UseCaseError::Store`] alone.
    pub async fn deliveries(&self, id: &WatcherId) -> Result<Vec<DeliveryReport>, UseCaseError> {
        self.read(self.store.deliveries(id).await)
    }

    /// The watchers that match `filter`, by slug, page by page: no more than a page is in memory at a time.
    pub fn list(
        self: &Arc<Self>,
        filter: Filter,
        detail: Detail,
    ) -> impl Stream<Item = Result<Vec<Record>, UseCaseError>> + Send + 'static {
        enum Next {
            Page(Option<Slug>),
            Done,
        }
        let this = Arc::clone(self);
        let limit = match detail {
            Detail::Summary => Self::PAGE,
            Detail::Full => Self::FULL_PAGE,
        };
        try_unfold(Next::Page(None), move |next| {
            let (this, filter) = (Arc::clone(&this), filter.clone());
            async move {
                let Next::Page(after) = next else {
                    return Ok(None);
                };
                let page = this.page(&filter, after.as_ref(), limit, detail).await?;
                let next = match page.last() {
                    Some(last) if page.len() >= limit => {
                        Next::Page(Some(last.watcher.slug.clone()))
                    }
                    _ => Next::Done,
                };
                Ok(Some((page, next)))
            }
        })
    }

    /// A page of the watchers that match `filter`, as [`WatcherStore::list`] says.
    pub(super) async fn page(
        &self,
        filter: &Filter,
        after: Option<&Slug>,
        limit: usize,
        detail: Detail,
    ) -> Result<Vec<Record>, UseCaseError> {
        let listing = self.store.list(filter, after, limit, detail);
        let page = match &filter.search {
            Some(search) => in_time(search, listing).await?,
            None => listing.await,
        };
        self.read(page)
    }

    /// How many watchers stand how, and what is owed to people.
    ///
    /// It takes time in proportion to what is there, so whoever asks often says how old the answer may be.
    ///
    /// # Errors
    ///
    /// [`UseCaseError::Store`] if the store fails.
    pub async fn counts(&self, max_age: Duration) -> Result<Census, UseCaseError> {
        // Who comes while somebody counts waits, and takes that result if it is young enough.
        let mut counted = self.counted.lock().await;
        if let Some((at, census)) = *counted
            && at.elapsed() < max_age
        {
            return Ok(census);
        }
        let census = self.read(self.store.census().await)?;
        *counted = Some((Instant::now(), census));
        Ok(census)
    }

    async fn change(&self, key: &Key, action: &Action) -> Result<Record, UseCaseError> {
        let done = self.transact(key, action, Detail::Full).await?;
        let watcher = done.watcher.ok_or_else(|| {
            let error = StoreError::outcome_unknown("the watcher was not handed out");
            self.failed(&self.writing, error)
        })?;
        Ok(Record {
            watcher,
            history: done.history,
        })
    }

    async fn transact(
        &self,
        key: &Key,
        action: &Action,
        detail: Detail,
    ) -> Result<Transacted, UseCaseError> {
        if !matches!(action, Action::PassDeadline | Action::PassOutage(_)) {
            self.pass_outage(key).await;
        }
        let now = self.clock.now();
        let done = match self.store.transact(key, action, now, detail).await {
            Ok(done) => done,
            Err(TransactError::Store(error)) => return Err(self.failed(&self.writing, error)),
            Err(error) => return Err(error.into()),
        };
        self.writing.is_over();
        self.announce(action, &done, now);
        Ok(done)
    }

    /// If a request is quicker than the scheduler after an outage, it must not find late what has a grace.
    async fn pass_outage(&self, key: &Key) {
        let now = self.clock.now();
        if let Some(outage) = self.vigil.unnoticed(now) {
            let action = Action::PassOutage(outage);
            let passed = self.store.transact(key, &action, now, Detail::Summary);
            // If that fails, what was asked for will most likely fail too.
            if let Ok(done) = passed.await {
                self.announce(&action, &done, now);
            }
        }
    }

    /// Tells the loops, the log and the metrics what a change means for them.
    fn announce(&self, action: &Action, done: &Transacted, now: Timestamp) {
        let before = done.before.deadline_ahead();
        let after = done.after.deadline_ahead();
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.bells.scheduler.notify_one();
        }
        if !done.notices.is_empty() {
            self.bells.delivery.notify_one();
        }
        for notice in &done.notices {
            self.metrics.notice(notice.kind);
        }
        // The change may have ended the lateness at once, so the new state alone does not tell.
        let is_outage = matches!(action, Action::PassOutage(_));
        let passed = before.filter(|deadline| *deadline < now && !is_outage);
        let became_late = !done.before.is_late() && done.after.is_late();
        let missed = passed.or(done.after.deadline().filter(|_| became_late));
        let name = done.watcher.as_ref().map(|watcher| watcher.name.as_str());
        if let Some(deadline) = missed {
            self.metrics.late(now.since(deadline));
            tracing::info!(name, %deadline, "a watcher is late");
        }
        if (done.before.is_late() || missed.is_some()) && after.is_some() {
            tracing::info!(name, "a late watcher is on time again");
        }
    }

    /// What the store has answered to a question, as a use case says it.
    fn read<T>(&self, answer: Result<T, StoreError>) -> Result<T, UseCaseError> {
        let answer = answer.map_err(|error| self.failed(&self.reading, error))?;
        self.reading.is_over();
        Ok(answer)
    }

    fn failed(&self, trouble: &Trouble, error: StoreError) -> UseCaseError {
        self.metrics.store_errors.inc();
        match error {
            StoreError::Corrupt(_) => self.damaged.add(&error),
            _ => trouble.is_on(&error),
        }
        if let StoreError::OutcomeUnknown(_) = error {
            // If the change was made after all, nobody else announces it.
            self.bells.scheduler.notify_one();
            self.bells.delivery.notify_one();
        }
        UseCaseError::Store(error)
    }
}

/// How long a search may look for a page of a list.
const LONGEST_SEARCH: Duration = Duration::from_secs(10);

/// Waits for a page of a search, but not for ever: the store may be searching on when nobody waits any more.
async fn in_time<T>(search: &Search, page: impl Future<Output = T>) -> Result<T, UseCaseError> {
    tokio::time::timeout(LONGEST_SEARCH, page)
        .await
        .map_err(|_| {
            search.give_up();
            UseCaseError::SearchTooLong
        })
}

/// Eight letters that nobody can guess: the generator of threads is a cryptographic one, seeded by the
/// operating system.
fn draw_id() -> WatcherId {
    let mut random = rand::rng();
    loop {
        let letters = std::array::from_fn(|_| random.random_range(b'a'..=b'z'));
        if let Ok(id) = WatcherId::from_letters(letters) {
            return id;
        }
    }
}
