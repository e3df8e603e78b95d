//! A store in memory: for tests, and a model of the contract that is short enough to read at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::aside::Aside;
use crate::domain::{
    Action, Event, Filter, HistoryPolicy, Notice, Recipient, Slug, State, Timestamp, Watcher,
    WatcherId,
};
use crate::ports::{
    Census, Claim, Delivery, DeliveryKey, DeliveryReport, DeliveryState, Detail, InsertError, Key,
    Outcome, Reason, Record, StoreError, TransactError, Transacted, WatcherStore,
};

/// Keeps everything in memory, under one lock; what it keeps ends with the process.
#[derive(Debug)]
pub struct MemoryStore {
    policy: HistoryPolicy,
    // A std mutex: no await happens under it, and the work under it is short.
    contents: Mutex<Option<Contents>>,
    aside: Aside<(Timestamp, WatcherId)>,
}

#[derive(Debug, Default)]
struct Contents {
    watchers: HashMap<WatcherId, Entry>,
    slugs: BTreeMap<Slug, WatcherId>,
    deadlines: BTreeSet<(Timestamp, WatcherId)>,
    owed: BTreeMap<i64, Owed>,
    due: BTreeSet<(Timestamp, i64)>,
    /// What is owed to each recipient of each watcher, in order; only the first can be due.
    queues: HashMap<(WatcherId, Recipient), VecDeque<i64>>,
    refused: BTreeMap<(WatcherId, Recipient), Reason>,
    /// What was settled for good, by the number of the delivery, in the order of the settlements.
    settled: HashMap<WatcherId, VecDeque<(i64, DeliveryReport)>>,
    last_number: i64,
    watched: Option<Timestamp>,
}

#[derive(Debug)]
struct Entry {
    watcher: Watcher,
    history: VecDeque<Event>,
}

#[derive(Debug)]
struct Owed {
    watcher: WatcherId,
    delivery: Delivery,
    token: u64,
    /// Absent while an earlier delivery to the same recipient is owed.
    due: Option<Timestamp>,
    /// Why the last attempt failed.
    failure: Option<Reason>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(policy: HistoryPolicy) -> Self {
        Self {
            policy,
            contents: Mutex::new(Some(Contents::default())),
            aside: Aside::default(),
        }
    }

    fn open(&self) -> Result<OpenContents<'_>, StoreError> {
        let guard = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            return Err(StoreError::unavailable("the store is closed"));
        }
        Ok(OpenContents(guard))
    }
}

struct OpenContents<'a>(MutexGuard<'a, Option<Contents>>);

impl std::ops::Deref for OpenContents<'_> {
    type Target = Contents;
    fn deref(&self) -> &Contents {
        self.0.as_ref().expect("checked when it was opened")
    }
}

impl std::ops::DerefMut for OpenContents<'_> {
    fn deref_mut(&mut self) -> &mut Contents {
        self.0.as_mut().expect("checked when it was opened")
    }
}

impl Contents {
    fn resolve(&self, key: &Key) -> Option<WatcherId> {
        let id = match key {
            Key::Id(id) => *id,
            Key::Slug(slug) => *self.slugs.get(slug)?,
            Key::Name(name) => {
                let id = *self.slugs.get(&Slug::of(name))?;
                return (self.watchers.get(&id)?.watcher.name == *name).then_some(id);
            }
        };
        self.watchers.contains_key(&id).then_some(id)
    }

    fn put(&mut self, watcher: Watcher) -> &mut Entry {
        let id = watcher.id;
        if let Some(old) = self.watchers.get(&id) {
            self.slugs.remove(&old.watcher.slug);
            if let Some(deadline) = old.watcher.state.deadline_ahead() {
                self.deadlines.remove(&(deadline, id));
            }
        }
        self.slugs.insert(watcher.slug.clone(), id);
        if let Some(deadline) = watcher.state.deadline_ahead() {
            self.deadlines.insert((deadline, id));
        }
        let history = self
            .watchers
            .remove(&id)
            .map(|entry| entry.history)
            .unwrap_or_default();
        self.watchers
            .entry(id)
            .or_insert(Entry { watcher, history })
    }

    fn owe(&mut self, watcher: WatcherId, notice: &Notice, now: Timestamp) {
        for recipient in &notice.recipients {
            self.last_number += 1;
            let number = self.last_number;
            let delivery = Delivery {
                notice: notice.clone(),
                recipient: recipient.clone(),
                attempts: 0,
            };
            self.owed.insert(
                number,
                Owed {
                    watcher,
                    delivery,
                    token: 0,
                    due: None,
                    failure: None,
                },
            );
            let queue = self.queues.entry((watcher, recipient.clone())).or_default();
            queue.push_back(number);
            if queue.len() == 1 {
                self.set_due(number, Some(now));
            }
        }
    }

    fn set_due(&mut self, number: i64, due: Option<Timestamp>) {
        let Some(owed) = self.owed.get_mut(&number) else {
            return;
        };
        if let Some(old) = std::mem::replace(&mut owed.due, due) {
            self.due.remove(&(old, number));
        }
        if let Some(due) = due {
            self.due.insert((due, number));
        }
    }

    fn claim_one(&mut self, number: i64, lease_end: Timestamp) -> Option<Claim> {
        self.set_due(number, Some(lease_end));
        let owed = self.owed.get_mut(&number)?;
        owed.token += 1;
        let key = DeliveryKey {
            watcher: owed.watcher,
            number,
            token: owed.token,
        };
        let last_event = owed.delivery.notice.last_event;
        let Entry { watcher, history } = self.watchers.get(&owed.watcher)?;
        let events = history
            .iter()
            .filter(|event| event.at <= last_event)
            .take(Notice::EVENTS_SHOWN);
        Some(Claim {
            key,
            delivery: owed.delivery.clone(),
            events: events.cloned().collect(),
            slug: watcher.slug.clone(),
        })
    }
}

impl Owed {
    fn report(&self, state: DeliveryState) -> DeliveryReport {
        let Delivery {
            notice,
            recipient,
            attempts,
        } = &self.delivery;
        DeliveryReport {
            told: notice.kind.into(),
            at: notice.at,
            deadline: notice.deadline,
            recipient: recipient.clone(),
            attempts: *attempts,
            state,
        }
    }
}

impl Entry {
    fn record(&mut self, event: Event, policy: HistoryPolicy) {
        let newest = event.at;
        self.history.push_front(event);
        while let Some(oldest) = self.history.back()
            && !policy.keeps(self.history.len() - 1, oldest.at, newest)
        {
            self.history.pop_back();
        }
    }

    fn history(&self, detail: Detail) -> Vec<Event> {
        match detail {
            Detail::Summary => Vec::new(),
            Detail::Full => self.history.iter().cloned().collect(),
        }
    }

    fn to_record(&self, detail: Detail) -> Record {
        Record {
            watcher: self.watcher.clone(),
            history: self.history(detail),
        }
    }
}

#[async_trait]
impl WatcherStore for MemoryStore {
    async fn insert(&self, record: &Record) -> Result<(), InsertError> {
        let watcher = &record.watcher;
        let mut contents = self.open()?;
        if contents.watchers.contains_key(&watcher.id) {
            return Err(InsertError::IdTaken);
        }
        if contents.slugs.contains_key(&watcher.slug) {
            return Err(InsertError::SlugTaken);
        }
        let entry = contents.put(watcher.clone());
        for event in record.history.iter().rev() {
            entry.record(event.clone(), self.policy);
        }
        Ok(())
    }

    async fn transact(
        &self,
        key: &Key,
        action: &Action,
        now: Timestamp,
        detail: Detail,
    ) -> Result<Transacted, TransactError> {
        let mut contents = self.open()?;
        let id = contents.resolve(key).ok_or(TransactError::NotFound)?;
        let entry = contents.watchers.get(&id).ok_or(TransactError::NotFound)?;
        let before = entry.watcher.state;
        let change = entry.watcher.apply(action, now)?;
        if contents
            .slugs
            .get(&change.watcher.slug)
            .is_some_and(|holder| *holder != id)
        {
            return Err(TransactError::SlugTaken);
        }
        let entry = contents.put(change.watcher.clone());
        if let Some(event) = &change.event {
            entry.record(event.clone(), self.policy);
        }
        let history = entry.history(detail);
        for notice in &change.notices {
            contents.owe(id, notice, now);
        }
        Ok(Transacted::new(before, change, history))
    }

    async fn find(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let contents = self.open()?;
        let entry = contents
            .resolve(key)
            .and_then(|id| contents.watchers.get(&id));
        Ok(entry.map(|entry| entry.to_record(Detail::Full)))
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&Slug>,
        limit: usize,
        detail: Detail,
    ) -> Result<Vec<Record>, StoreError> {
        let contents = self.open()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = contents.slugs.range::<Slug, _>((from, Bound::Unbounded));
        let page = page.filter_map(|(_, id)| contents.watchers.get(id));
        let page = page
            .filter(|entry| filter.matches(&entry.watcher))
            .take(limit);
        Ok(page.map(|entry| entry.to_record(detail)).collect())
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        let mut contents = self.open()?;
        let Some(id) = contents.resolve(key) else {
            return Ok(false);
        };
        let Some(entry) = contents.watchers.remove(&id) else {
            return Ok(false);
        };
        contents.slugs.remove(&entry.watcher.slug);
        if let Some(deadline) = entry.watcher.state.deadline_ahead() {
            contents.deadlines.remove(&(deadline, id));
        }
        let contents = &mut *contents;
        contents.owed.retain(|number, owed| {
            let keep = owed.watcher != id;
            if let (false, Some(due)) = (keep, owed.due) {
                contents.due.remove(&(due, *number));
            }
            keep
        });
        contents.queues.retain(|(watcher, _), _| *watcher != id);
        contents.refused.retain(|(watcher, _), _| *watcher != id);
        contents.settled.remove(&id);
        Ok(true)
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>, StoreError> {
        let (hidden, again): (HashSet<_>, _) = self.aside.hidden();
        let contents = self.open()?;
        let mut deadlines = contents.deadlines.iter();
        let first = deadlines.find(|entry| !hidden.contains(entry));
        let first = first.map(|(deadline, _)| *deadline);
        Ok(first.into_iter().chain(again).min())
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<WatcherId>, StoreError> {
        self.aside.take_back(now);
        let (hidden, _): (HashSet<_>, _) = self.aside.hidden();
        let contents = self.open()?;
        let overdue = contents
            .deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline < now)
            .filter(|entry| !hidden.contains(entry));
        Ok(overdue.take(limit).map(|(_, id)| *id).collect())
    }

    async fn set_aside(
        &self,
        id: &WatcherId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let contents = self.open()?;
        let entry = contents.watchers.get(id);
        let deadline = entry.and_then(|entry| entry.watcher.state.deadline_ahead());
        if let Some(deadline) = deadline.filter(|deadline| *deadline < now) {
            self.aside.put((deadline, *id), now, until);
        }
        Ok(())
    }

    async fn next_delivery(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.open()?.due.first().map(|(due, _)| *due))
    }

    async fn claim(
        &self,
        now: Timestamp,
        lease_end: Timestamp,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        let mut contents = self.open()?;
        let due = contents.due.iter().take_while(|(due, _)| *due <= now);
        let due: Vec<i64> = due.take(limit).map(|(_, number)| *number).collect();
        Ok(due
            .into_iter()
            .filter_map(|number| contents.claim_one(number, lease_end))
            .collect())
    }

    async fn settle(
        &self,
        claim: &DeliveryKey,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut contents = self.open()?;
        let Some(owed) = contents.owed.get_mut(&claim.number) else {
            return Ok(false);
        };
        if owed.token != claim.token || owed.watcher != claim.watcher {
            return Ok(false);
        }
        owed.delivery.attempts += 1;
        let state = match outcome {
            Outcome::TryAgain { at, reason } => {
                owed.failure = Some(reason.clone());
                // From now on the claim holds no longer.
                owed.token += 1;
                contents.set_due(claim.number, Some(*at));
                return Ok(true);
            }
            Outcome::Delivered => DeliveryState::Delivered { at: now },
            Outcome::Refused(reason) => DeliveryState::Refused {
                at: now,
                reason: reason.clone(),
            },
        };
        contents.set_due(claim.number, None);
        let Some(settled) = contents.owed.remove(&claim.number) else {
            return Ok(false);
        };
        let kept = contents.settled.entry(claim.watcher).or_default();
        kept.push_back((claim.number, settled.report(state)));
        if kept.len() > DeliveryReport::KEPT {
            kept.pop_front();
        }
        let to = (claim.watcher, settled.delivery.recipient);
        if let Some(queue) = contents.queues.get_mut(&to) {
            queue.pop_front();
            match queue.front().copied() {
                Some(next) => contents.set_due(next, Some(now)),
                None => drop(contents.queues.remove(&to)),
            }
        }
        contents.refused.remove(&to);
        if let Outcome::Refused(reason) = outcome {
            contents.refused.insert(to, reason.clone());
        }
        Ok(true)
    }

    async fn deliveries(&self, watcher: &WatcherId) -> Result<Vec<DeliveryReport>, StoreError> {
        let contents = self.open()?;
        let owed = contents.owed.iter();
        let owed = owed.filter(|(_, owed)| owed.watcher == *watcher);
        let owed = owed.map(|(number, owed)| {
            let (due, failure) = (owed.due, owed.failure.clone());
            (*number, owed.report(DeliveryState::Owed { due, failure }))
        });
        let settled = contents.settled.get(watcher).into_iter().flatten();
        Ok(DeliveryReport::in_order(
            owed.chain(settled.cloned()).collect(),
        ))
    }

    async fn keep_watch(&self, now: Timestamp) -> Result<(), StoreError> {
        self.open()?.watched = Some(now);
        Ok(())
    }

    async fn last_watch(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.open()?.watched)
    }

    async fn oldest_notice(&self) -> Result<Option<Timestamp>, StoreError> {
        let contents = self.open()?;
        let owed = contents.owed.values();
        Ok(owed.map(|owed| owed.delivery.notice.at).min())
    }

    async fn census(&self) -> Result<Census, StoreError> {
        let contents = self.open()?;
        let mut census = Census {
            owed: contents.owed.len() as u64,
            refused: contents.refused.len() as u64,
            ..Census::default()
        };
        for entry in contents.watchers.values() {
            match entry.watcher.state {
                State::OnTime { .. } => census.on_time += 1,
                State::Late { .. } => census.late += 1,
                State::Paused => census.paused += 1,
            }
        }
        Ok(census)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.open().map(|_| ())
    }

    async fn close(&self) {
        *self.contents.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
