//! The world around the program: every call of a port waits at a gate, at its beginning and at its end,
//! until the seed lets it go on, fail, or never come back.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nights_watch::adapters::clock::ManualClock;
use nights_watch::domain::{Action, Filter, Slug, Timestamp, WatcherId};
use nights_watch::ports::{
    Census, Claim, Clock, DeliveryKey, DeliveryReport, Detail, InsertError, Key, Message, Notifier,
    NotifyError, Outcome, Progress, Record, StoreError, TransactError, Transacted, WatcherStore,
};
use tokio::sync::{Notify, oneshot};

use super::model::{Model, Seen};
use super::rules::{at, show, standing, told};

/// When every run begins.
pub(super) const BEGIN: Timestamp = Timestamp::from_millis(1_426_727_324_885);

/// Where all chance comes from: the same seed, the same throws (the generator `SplitMix64`).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let count = u64::try_from(from.len()).expect("a small number");
        from[usize::try_from(self.below(count)).expect("a small number")].clone()
    }
}

/// Who calls a port.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Caller {
    Request(u32),
    Scheduler,
    Delivery,
}

impl Caller {
    /// The comment that goes with what it does, a different one for each request.
    pub(super) fn comment(self) -> String {
        match self {
            Self::Request(number) => format!("#{number}"),
            Self::Scheduler | Self::Delivery => String::new(),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(number) => write!(f, "request {number}"),
            Self::Scheduler => f.write_str("scheduler"),
            Self::Delivery => f.write_str("delivery loop"),
        }
    }
}

/// What the seed says to whoever waits at a gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    Go,
    Fail,
    Refuse,
    Panic,
    Hang,
}

/// Which verdicts a gate understands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Gate {
    /// Before or after a call of the store.
    Store,
    /// Before the notifier has taken a message over.
    Offer,
    /// After it has, and before its answer arrives.
    Answer,
}

/// Somebody who waits at a gate.
pub(super) struct Waiting {
    pub(super) gate: Gate,
    pub(super) what: String,
    /// Since when it hangs for good.
    pub(super) hangs: Option<Timestamp>,
    go: Option<oneshot::Sender<Verdict>>,
}

pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    /// How long watchers have after an outage.
    pub(super) grace: Duration,
    state: Mutex<State>,
    /// Rung when a call of the store has come back.
    pub(super) back: Notify,
}

pub(super) struct State {
    pub(super) model: Model,
    /// The first thing that was not as it must be.
    pub(super) broken: Option<String>,
    pub(super) trace: Vec<String>,
    /// In the order in which they came.
    pub(super) waiting: BTreeMap<u64, Waiting>,
    tickets: u64,
    /// How many calls are inside the store.
    pub(super) inside: usize,
    /// For what the program itself would draw: identifiers, and pauses between attempts.
    dice: Dice,
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::new(ManualClock::at(BEGIN)),
            grace: Duration::from_secs(60 * (seed % 2)),
            state: Mutex::new(State {
                model: Model::default(),
                broken: None,
                trace: Vec::new(),
                waiting: BTreeMap::new(),
                tickets: 0,
                inside: 0,
                dice: Dice(!seed),
            }),
            back: Notify::new(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, line: impl fmt::Display) {
        let line = format!("{:>12} {line}", at(self.clock.now()));
        self.state().trace.push(line);
    }

    /// Lets somebody who waits go on as `verdict` says.
    pub(super) fn release(&self, ticket: u64, verdict: Verdict) {
        let now = self.clock.now();
        let mut state = self.state();
        let Some(waiting) = state.waiting.get_mut(&ticket) else {
            return;
        };
        let line = format!("{:>12} {}: {verdict:?}", at(now), waiting.what);
        if verdict == Verdict::Hang {
            waiting.hangs = Some(now);
        } else if let Some(go) = waiting.go.take() {
            // Whoever waited may be gone by now.
            let _ = go.send(verdict);
        }
        state.trace.push(line);
    }

    /// Who can be let go on: those that do not hang, or those that do.
    pub(super) fn held_up(&self, hanging: bool) -> Vec<(u64, Gate)> {
        let state = self.state();
        let waiting = state.waiting.iter();
        let waiting = waiting
            .filter(|(_, waiting)| waiting.go.is_some() && waiting.hangs.is_some() == hanging);
        waiting
            .map(|(ticket, waiting)| (*ticket, waiting.gate))
            .collect()
    }

    async fn gate(&self, gate: Gate, what: String) -> Verdict {
        let (go, gone) = oneshot::channel();
        let ticket = {
            let mut state = self.state();
            state.tickets += 1;
            let ticket = state.tickets;
            let waiting = Waiting {
                gate,
                what,
                hangs: None,
                go: Some(go),
            };
            state.waiting.insert(ticket, waiting);
            ticket
        };
        let _place = Place(self, ticket);
        match gone.await {
            Ok(verdict) => verdict,
            Err(_) => pending().await,
        }
    }
}

impl State {
    pub(super) fn see(&mut self, seen: Seen) {
        if let Err(wrong) = seen {
            self.broken.get_or_insert(wrong);
        }
    }

    /// More about the line before.
    fn also(&mut self, line: impl fmt::Display) {
        self.trace.push(format!("{:>16} {line}", ""));
    }
}

/// A place at a gate, which is left when the call goes on or is dropped.
struct Place<'a>(&'a World, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state().waiting.remove(&self.1);
    }
}

/// A call inside the store.
struct Inside<'a>(&'a World);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.state().inside -= 1;
        self.0.back.notify_one();
    }
}

/// The ports as one caller has them.
pub(super) struct Port {
    pub(super) world: Arc<World>,
    pub(super) server: char,
    pub(super) caller: Caller,
    pub(super) store: Arc<dyn WatcherStore>,
}

impl Port {
    /// A call of the store. The model sees its effect before anything else can happen.
    async fn call<T, E: From<StoreError>>(
        &self,
        what: impl fmt::Display + Send,
        inner: impl Future<Output = Result<T, E>> + Send,
        seen: impl FnOnce(&mut State, &Result<T, E>) -> Seen + Send,
    ) -> Result<T, E> {
        let what = format!("{} {} {what}", self.server, self.caller);
        let fails = |error: fn(&'static str) -> StoreError| {
            self.world.state().model.failed(self.caller);
            Err(error("the seed wanted it").into())
        };
        if self.world.gate(Gate::Store, what.clone()).await != Verdict::Go {
            return fails(StoreError::unavailable);
        }
        self.world.state().inside += 1;
        let inside = Inside(&self.world);
        let result = inner.await;
        {
            let mut state = self.world.state();
            let seen = seen(&mut state, &result);
            state.see(seen);
        }
        drop(inside);
        match self.world.gate(Gate::Store, what + ", done").await {
            Verdict::Go => result,
            _ => fails(StoreError::outcome_unknown),
        }
    }

    /// The same for calls that fail only if the engine does.
    async fn ask<T>(
        &self,
        what: impl fmt::Display + Send,
        inner: impl Future<Output = Result<T, StoreError>> + Send,
        seen: impl FnOnce(&mut State, &T) -> Seen + Send,
    ) -> Result<T, StoreError> {
        self.call(what, inner, |state, result| match result {
            Ok(value) => seen(state, value),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    /// What happens has to happen at the time of the clock.
    fn is_present(&self, now: Timestamp) {
        if now != self.world.clock.now() {
            let seen = Err(format!("a call says that it is {}", at(now)));
            self.world.state().see(seen);
        }
    }
}

#[async_trait]
impl WatcherStore for Port {
    async fn insert(&self, record: &Record) -> Result<(), InsertError> {
        self.is_present(record.watcher.last_event);
        // The letters that the program draws are not the seed's, so others take their place.
        let letters = {
            let dice = &mut self.world.state().dice;
            [(); WatcherId::LENGTH].map(|()| dice.pick(b"abcdefghijklmnopqrstuvwxyz"))
        };
        let id = WatcherId::from_letters(letters).expect("letters");
        let mut record = record.clone();
        record.watcher.id = id;
        let inner = self.store.insert(&record);
        self.call(format!("inserts {id}"), inner, |state, result| {
            let new = (&record.watcher, &record.history[0]);
            state.model.inserted(self.caller, new, result)
        })
        .await
    }

    async fn transact(
        &self,
        key: &Key,
        action: &Action,
        now: Timestamp,
        detail: Detail,
    ) -> Result<Transacted, TransactError> {
        self.is_present(now);
        let inner = self.store.transact(key, action, now, detail);
        let what = format!("{action:?} {key:?}");
        self.call(what, inner, |state, result| {
            if let Ok(Transacted { watcher, after, .. }) = result {
                match watcher {
                    Some(watcher) => state.also(show(watcher, &[])),
                    None => state.also(standing(*after)),
                }
            }
            let call = (key, action, now, detail);
            state.model.transacted(self.caller, call, result)
        })
        .await
    }

    async fn find(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let what = format!("finds {key:?}");
        self.ask(what, self.store.find(key), |state, found| {
            state.model.found(self.caller, key, found.as_ref())
        })
        .await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&Slug>,
        limit: usize,
        detail: Detail,
    ) -> Result<Vec<Record>, StoreError> {
        self.store.list(filter, after, limit, detail).await
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        let what = format!("deletes {key:?}");
        self.ask(what, self.store.delete(key), |state, deleted| {
            state.model.deleted(self.caller, key, *deleted)
        })
        .await
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>, StoreError> {
        let inner = self.store.next_deadline();
        self.ask("asks for the next deadline", inner, |state, next| {
            Model::is_early_enough(state.model.next_deadline(), *next)
        })
        .await
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<WatcherId>, StoreError> {
        let inner = self.store.overdue(now, limit);
        self.ask("asks who is overdue", inner, |state, ids| {
            state.model.are_overdue(ids, now)
        })
        .await
    }

    async fn set_aside(
        &self,
        id: &WatcherId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.store.set_aside(id, now, until).await
    }

    async fn keep_watch(&self, now: Timestamp) -> Result<(), StoreError> {
        self.is_present(now);
        let inner = self.store.keep_watch(now);
        self.ask("watches", inner, |_, ()| Ok(())).await
    }

    async fn last_watch(&self) -> Result<Option<Timestamp>, StoreError> {
        let inner = self.store.last_watch();
        self.ask("asks who watched", inner, |_, _| Ok(())).await
    }

    async fn deliveries(&self, watcher: &WatcherId) -> Result<Vec<DeliveryReport>, StoreError> {
        self.store.deliveries(watcher).await
    }

    async fn oldest_notice(&self) -> Result<Option<Timestamp>, StoreError> {
        self.store.oldest_notice().await
    }

    async fn next_delivery(&self) -> Result<Option<Timestamp>, StoreError> {
        let inner = self.store.next_delivery();
        self.ask("asks for the next delivery", inner, |state, next| {
            Model::is_early_enough(state.model.next_due(), *next)
        })
        .await
    }

    async fn claim(
        &self,
        now: Timestamp,
        lease_end: Timestamp,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        let inner = self.store.claim(now, lease_end, limit);
        let mut keys = Vec::new();
        let claims = self.ask("claims", inner, |state, claims| {
            let (server, clock) = (self.server, self.world.clock.now());
            claims.iter().try_for_each(|claim| {
                let Claim { key, delivery, .. } = claim;
                keys.push(key.clone());
                state.also(format!("{key:?} {}", told(&delivery.notice)));
                let times = (now, lease_end);
                state.model.claimed(server, claim, times, clock)
            })
        });
        let claims = claims.await;
        if claims.is_err() {
            self.world.state().model.unclaimed(&keys);
        }
        claims
    }

    async fn settle(
        &self,
        claim: &DeliveryKey,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.is_present(now);
        let outcome = match outcome {
            // The pause that the loop draws is not the seed's, so another takes its place.
            Outcome::TryAgain { reason, .. } => {
                let pause = 750 + self.world.state().dice.below(300_000);
                Outcome::TryAgain {
                    at: now.after(Duration::from_millis(pause)),
                    reason: reason.clone(),
                }
            }
            other => other.clone(),
        };
        let inner = self.store.settle(claim, &outcome, now);
        let what = format!("settles {claim:?} as {outcome:?}");
        self.ask(what, inner, |state, kept| {
            state.model.settled(claim, &outcome, now, *kept)
        })
        .await
    }

    async fn census(&self) -> Result<Census, StoreError> {
        self.store.census().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

/// An answer of the notifier that is on its way.
struct Unheard<'a>(Option<(&'a World, &'a Message)>);

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if let Some((world, message)) = self.0 {
            world.state().model.heard(message, false);
        }
    }
}

#[async_trait]
impl Notifier for Port {
    async fn deliver(&self, message: &Message, _: &mut Progress) -> Result<(), NotifyError> {
        let (server, to) = (self.server, &message.recipient);
        let what = format!("{server} tells {to}: {}", told(&message.notice));
        let panic = || resume_unwind(Box::new("the seed wanted it"));
        let told = |refused| {
            let mut state = self.world.state();
            let seen = state.model.told(message, refused);
            state.see(seen);
        };
        match self.world.gate(Gate::Offer, what.clone()).await {
            Verdict::Go => told(false),
            Verdict::Refuse => {
                told(true);
                return Err(NotifyError::Refused("the seed wanted it".into()));
            }
            Verdict::Panic => panic(),
            Verdict::Fail | Verdict::Hang => {
                return Err(NotifyError::TryAgain("the seed wanted it".into()));
            }
        }
        let mut answer = Unheard(Some((&self.world, message)));
        match self.world.gate(Gate::Answer, what + ", accepted").await {
            Verdict::Go => {
                answer.0 = None;
                self.world.state().model.heard(message, true);
            }
            Verdict::Panic => panic(),
            _ => return Err(NotifyError::TryAgain("the answer was lost".into())),
        }
        Ok(())
    }
}
