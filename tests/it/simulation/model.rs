//! What must hold, whatever happens: what the store has to hold and to answer, and who has to be told what.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use nights_watch::domain::{
    Action, Event, Name, NoticeId, Recipient, Slug, State, Timestamp, Watcher, WatcherId,
};
use nights_watch::ports::{
    Census, Claim, DeliveryKey, Detail, InsertError, Key, Message, Outcome, Record, TransactError,
    Transacted,
};

use super::rules::{Done, Standing, Told, Watched, add, at, marks, show, standing, transact_word};
use super::world::Caller;

/// An alert that nobody could be told for so long may be given up.
const GIVE_UP: Duration = Duration::from_hours(5 * 24);

/// Nothing, or what is not as it must be.
pub(super) type Seen = Result<(), String>;

/// Says what is wrong unless something holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}

/// What the store has to hold, and what people have to be told.
#[derive(Default)]
pub(super) struct Model {
    watched: BTreeMap<WatcherId, Watched>,
    /// Which watcher a message is about: it does not say so itself.
    subjects: HashMap<(NoticeId, Recipient), WatcherId>,
    /// What two servers made off with at a time, because both saw that the clock had gone back: it may be
    /// told by each of them.
    doubled: HashSet<(NoticeId, Recipient)>,
    /// Whom each claim was to reach.
    claims: HashMap<DeliveryKey, Recipient>,
    /// What each request has to be answered.
    answers: HashMap<u32, String>,
    /// The latest that the clock has shown.
    latest: Option<Timestamp>,
    /// Whether the clock has ever gone back.
    pub(super) stepped_back: bool,
}

#[derive(Clone)]
pub(super) struct Owed {
    pub(super) told: Told,
    pub(super) attempts: u32,
    /// When it became due, whoever is at it.
    pub(super) since: Timestamp,
    /// Before this nobody is handed it.
    pub(super) due: Timestamp,
    pub(super) claim: Option<Held>,
}

#[derive(Clone)]
pub(super) struct Held {
    pub(super) key: DeliveryKey,
    /// Who makes the attempt, if anybody.
    pub(super) server: Option<char>,
    pub(super) notice: NoticeId,
    pub(super) attempt: Attempt,
}

/// How far the attempt to deliver has come, as the notifier saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Attempt {
    Open,
    /// Taken over by the notifier, whose answer is on its way.
    Accepted,
    /// The loop knows.
    Heard,
    /// The loop does not know, and never will.
    Unheard,
    Refused,
}

/// What requests do.
impl Model {
    pub(super) fn inserted(
        &mut self,
        caller: Caller,
        (watcher, event): (&Watcher, &Event),
        result: &Result<(), InsertError>,
    ) -> Seen {
        let taken = self.named(&watcher.slug).is_some();
        if taken {
            self.answer(caller, "taken");
            ensure!(
                matches!(result, Err(InsertError::SlugTaken)),
                "{} is there twice",
                watcher.slug
            );
            return Ok(());
        }
        let new = Watched {
            name: watcher.name.clone(),
            periodicity: watcher.periodicity,
            recipients: watcher.recipients.clone(),
            standing: match watcher.state {
                State::Paused => Standing::Paused,
                _ => Standing::OnTime(add(event.at, watcher.periodicity)),
            },
            history: [Event {
                text: "Watcher created".to_owned(),
                ..*event
            }]
            .into(),
            last_event: event.at,
            late: None,
            owed: BTreeMap::new(),
            refused: BTreeSet::new(),
        };
        let (wanted, got) = (new.line(true), show(watcher, std::slice::from_ref(event)));
        self.answer(caller, &wanted);
        self.watched.insert(watcher.id, new);
        ensure!(
            result.is_ok() && wanted == got,
            "{result:?}, {got}, not {wanted}"
        );
        Ok(())
    }

    pub(super) fn transacted(
        &mut self,
        caller: Caller,
        (key, action, now, detail): (&Key, &Action, Timestamp, Detail),
        result: &Result<Transacted, TransactError>,
    ) -> Seen {
        let full = detail == Detail::Full;
        let expected = self.expect(caller, key, action, now);
        // A store may leave out the watcher itself only after a trigger in time, and if nobody asked for it.
        let may_be_short = matches!(action, Action::Trigger(_)) && !full;
        let is_short = |done: &Transacted| {
            let is_in_time = matches!(done.before, State::OnTime { deadline } if now <= deadline);
            may_be_short && is_in_time && done.watcher.is_none()
        };
        let is_short = result.as_ref().is_ok_and(is_short);
        let wanted = match &expected {
            Ok((_, after, done)) if is_short => format!("{done:?} {}", after.standing()),
            Ok((_, after, done)) => format!("{done:?} {}", after.line(full)),
            Err(word) => (*word).to_owned(),
        };
        let got = match result {
            Ok(done) if is_short => format!("{:?} {}", Done::of(done), standing(done.after)),
            Ok(done) => {
                let watcher = done.watcher.as_ref().ok_or("there is no watcher")?;
                ensure!(done.after == watcher.state, "{done:?}");
                format!("{:?} {}", Done::of(done), show(watcher, &done.history))
            }
            Err(error) => transact_word(error).to_owned(),
        };
        ensure!(wanted == got, "{action:?} gave\n  {got}, not\n  {wanted}");
        match (expected, result) {
            (Ok((id, mut after, done)), Ok(transacted)) => {
                let answer = match action {
                    Action::Trigger(_) => marks(done.recovered, done.unpaused),
                    _ => after.line(full),
                };
                self.answer(caller, &answer);
                let notices = &transacted.notices;
                ensure!(after.link(notices), "it is back from no lateness");
                after.owe(done.told, now);
                self.watched.insert(id, after);
            }
            (expected, _) => self.answer(caller, expected.err().unwrap_or_default()),
        }
        Ok(())
    }

    pub(super) fn found(&mut self, caller: Caller, key: &Key, found: Option<&Record>) -> Seen {
        let wanted = self.resolve(key).map(|id| self.watched[&id].line(true));
        let got = found.map(|record| show(&record.watcher, &record.history));
        self.answer(caller, wanted.as_deref().unwrap_or("not found"));
        ensure!(
            wanted == got,
            "the store holds\n  {got:?}, not\n  {wanted:?}"
        );
        Ok(())
    }

    pub(super) fn deleted(&mut self, caller: Caller, key: &Key, deleted: bool) -> Seen {
        let gone = self.resolve(key).and_then(|id| self.watched.remove(&id));
        self.answer(caller, if deleted { "deleted" } else { "not found" });
        ensure!(deleted == gone.is_some(), "deleting {key:?} gave {deleted}");
        Ok(())
    }

    /// The store did not say what became of a call.
    pub(super) fn failed(&mut self, caller: Caller) {
        self.answer(caller, "store");
    }

    /// A request was answered: people must be told what happened, and nothing else.
    pub(super) fn answered(&mut self, number: u32, got: &str) -> Seen {
        let wanted = self.answers.remove(&number);
        let fits = wanted.as_deref() == Some(got);
        ensure!(
            fits,
            "request {number} was answered\n  {got}, not\n  {wanted:?}"
        );
        Ok(())
    }

    fn answer(&mut self, caller: Caller, answer: &str) {
        if let Caller::Request(number) = caller {
            self.answers.insert(number, answer.to_owned());
        }
    }

    fn expect(
        &self,
        caller: Caller,
        key: &Key,
        action: &Action,
        now: Timestamp,
    ) -> Result<(WatcherId, Watched, Done), &'static str> {
        let id = self.resolve(key).ok_or("not found")?;
        let mut after = self.watched[&id].clone();
        let done = after.act(caller, action, now)?;
        match self.named(&Slug::of(&after.name)) {
            Some(other) if other != id => Err("taken"),
            _ => Ok((id, after, done)),
        }
    }

    fn resolve(&self, key: &Key) -> Option<WatcherId> {
        match key {
            Key::Id(id) => self.watched.contains_key(id).then_some(*id),
            Key::Slug(slug) => self.named(slug),
            Key::Name(name) => {
                let id = self.named(&Slug::of(name))?;
                (self.watched[&id].name == *name).then_some(id)
            }
        }
    }

    fn named(&self, slug: &Slug) -> Option<WatcherId> {
        let mut all = self.watched.iter();
        let found = all.find(|(_, watched)| Slug::of(&watched.name) == *slug)?;
        Some(*found.0)
    }
}

/// What the loops see and do.
impl Model {
    /// An instant that the store gives as the next one: it may be early, but there must be one or none.
    pub(super) fn is_early_enough(wanted: Option<Timestamp>, got: Option<Timestamp>) -> Seen {
        let fits = got.is_some() == wanted.is_some() && got <= wanted;
        let (wanted, got) = (wanted.map(at), got.map(at));
        ensure!(fits, "the store says {got:?}, and not {wanted:?} or before");
        Ok(())
    }

    pub(super) fn are_overdue(&mut self, ids: &[WatcherId], now: Timestamp) -> Seen {
        for id in ids {
            let deadline = self.watched.get(id).and_then(Watched::deadline_ahead);
            ensure!(
                deadline.is_some_and(|deadline| deadline < now),
                "{id} is not overdue"
            );
        }
        Ok(())
    }

    /// A delivery is handed out: the first that is owed, when it is due, with what belongs to it.
    pub(super) fn claimed(
        &mut self,
        server: char,
        claim: &Claim,
        (now, lease_end): (Timestamp, Timestamp),
        clock: Timestamp,
    ) -> Seen {
        let in_time = now <= clock || self.stepped_back;
        ensure!(in_time, "a claim ahead of time, at {}", at(now));
        let (id, to) = (claim.key.watcher, &claim.delivery.recipient);
        let got = Told::of(&claim.delivery.notice).text;
        let watched = self.watched.get_mut(&id).ok_or("handed out, of nobody")?;
        let queue = watched.owed.get_mut(to).and_then(VecDeque::front_mut);
        let owed = queue.ok_or_else(|| format!("{to} is owed nothing, and not {got}"))?;
        let (due, wanted) = (at(owed.due), &owed.told.text);
        ensure!(
            owed.due <= now,
            "{got} was handed out before it was due at {due}"
        );
        ensure!(got == *wanted, "{got} was handed out before {wanted}");
        ensure!(
            claim.delivery.attempts == owed.attempts,
            "not {} attempts",
            owed.attempts
        );
        let events = watched.history.iter();
        let events = events.filter(|event| event.at <= owed.told.last_event);
        ensure!(
            events.eq(&claim.events),
            "{got} comes with {:?}",
            claim.events
        );

        let subject = (claim.delivery.notice.id, to.clone());
        let held = Held {
            key: claim.key.clone(),
            server: Some(server),
            notice: subject.0,
            attempt: Attempt::Open,
        };
        if owed.claim.replace(held).is_some() && now > clock {
            self.doubled.insert(subject.clone());
        }
        owed.due = lease_end;
        self.claims.insert(claim.key.clone(), to.clone());
        self.subjects.insert(subject, id);
        Ok(())
    }

    /// The notifier takes a message over, or refuses it for good.
    pub(super) fn told(&mut self, message: &Message, refused: bool) -> Seen {
        let subject = (message.notice.id, message.recipient.clone());
        let id = self.subjects.get(&subject).ok_or("told without a claim")?;
        // A watcher that was deleted after its notice was handed out can still be heard of.
        let Some(watched) = self.watched.get_mut(id) else {
            return Ok(());
        };
        let (held, got) = watched.in_hand(message);
        match held {
            Some(held) if held.attempt == Attempt::Open => {
                held.attempt = if refused {
                    Attempt::Refused
                } else {
                    Attempt::Accepted
                };
            }
            _ => ensure!(
                self.doubled.contains(&subject),
                "{got} once more or out of order"
            ),
        }
        Ok(())
    }

    /// The notifier's answer to a message that it accepted reached the loop, or did not.
    pub(super) fn heard(&mut self, message: &Message, heard: bool) {
        let subject = (message.notice.id, message.recipient.clone());
        let id = self.subjects.get(&subject);
        if let Some(watched) = id.and_then(|id| self.watched.get_mut(id))
            && let (Some(held), _) = watched.in_hand(message)
        {
            held.attempt = if heard {
                Attempt::Heard
            } else {
                Attempt::Unheard
            };
        }
    }

    /// A server crashes, and all that it had in hand is in nobody's.
    pub(super) fn crashed(&mut self, server: char) {
        for held in self.held().filter(|held| held.server == Some(server)) {
            held.server = None;
        }
    }

    /// A claim took effect, but whoever made it does not know.
    pub(super) fn unclaimed(&mut self, keys: &[DeliveryKey]) {
        for held in self.held().filter(|held| keys.contains(&held.key)) {
            held.server = None;
        }
    }

    fn owed(&mut self) -> impl Iterator<Item = &mut Owed> {
        let watched = self.watched.values_mut();
        watched
            .flat_map(|watched| watched.owed.values_mut())
            .flatten()
    }

    fn held(&mut self) -> impl Iterator<Item = &mut Held> {
        self.owed().filter_map(|owed| owed.claim.as_mut())
    }

    /// What became of a delivery is kept: only by whom it was handed to, and only what is so.
    pub(super) fn settled(
        &mut self,
        key: &DeliveryKey,
        outcome: &Outcome,
        now: Timestamp,
        kept: bool,
    ) -> Seen {
        let to = self
            .claims
            .get(key)
            .ok_or("settled without a claim")?
            .clone();
        let watched = self.watched.get_mut(&key.watcher);
        let mut queue =
            watched.and_then(|watched| Some((watched.owed.get_mut(&to)?, &mut watched.refused)));
        let front = queue.as_mut().and_then(|(queue, _)| queue.front_mut());
        let held = front.filter(|owed| owed.claim.as_ref().is_some_and(|held| held.key == *key));
        ensure!(kept == held.is_some(), "settling {key:?} gave {kept}");
        let Some(owed) = held else { return Ok(()) };
        let Some(held) = owed.claim.take() else {
            return Ok(());
        };
        let given_up = self.latest.unwrap_or(now).since(owed.told.at) >= GIVE_UP;
        let is_so = match (outcome, held.attempt) {
            _ if self.doubled.contains(&(held.notice, to.clone())) => true,
            (Outcome::Delivered, Attempt::Heard)
            | (Outcome::Refused(_), Attempt::Refused)
            | (Outcome::TryAgain { .. }, Attempt::Open | Attempt::Unheard) => true,
            (Outcome::Refused(_), Attempt::Open | Attempt::Unheard) => given_up,
            _ => false,
        };
        ensure!(
            is_so,
            "{outcome:?} was recorded of what was {:?}",
            held.attempt
        );
        if let Outcome::TryAgain { at: due, .. } = outcome {
            owed.since = *due;
            owed.due = *due;
            owed.attempts += 1;
        } else if let Some((queue, refused)) = queue {
            queue.pop_front();
            if let Some(next) = queue.front_mut() {
                next.since = now;
                next.due = now;
            }
            refused.remove(&to);
            if let Outcome::Refused(_) = outcome {
                refused.insert(to);
            }
        }
        Ok(())
    }

    /// A store that one process has for itself was opened: nobody holds anything any more.
    pub(super) fn reopened(&mut self) {
        for owed in self.owed().filter(|owed| owed.claim.is_some()) {
            owed.claim = None;
            owed.due = owed.since;
        }
    }
}

/// What is so at rest and in the end.
impl Model {
    pub(super) fn clock_moved(&mut self, from: Timestamp, to: Timestamp) {
        self.stepped_back |= to < from;
        self.latest = self.latest.max(Some(to));
    }

    /// Whoever is awake has done what was due by now, but for so many attempts that hang.
    pub(super) fn is_done_by(&mut self, now: Timestamp, hanging: usize) -> Seen {
        let missed = self
            .next_deadline()
            .filter(|deadline| *deadline < now)
            .map(at);
        ensure!(
            missed.is_none(),
            "nobody noticed the deadline at {missed:?}"
        );
        let owed = self.next_due().filter(|due| *due <= now).map(at);
        ensure!(owed.is_none(), "nobody makes the delivery due at {owed:?}");
        // An attempt that does not hang has ended, and is settled then, or given up when its lease has ended.
        let latest = self.latest;
        let claimed = self.owed().filter(|owed| Some(owed.due) > latest);
        let held = claimed.filter_map(|owed| owed.claim.as_ref());
        let in_hand = held.filter(|held| held.server.is_some()).count();
        let settled = in_hand <= hanging || !self.doubled.is_empty();
        ensure!(
            settled,
            "{in_hand} deliveries are not settled, and {hanging} hang"
        );
        Ok(())
    }

    /// The store holds what was acknowledged, and nothing else.
    pub(super) fn is_held(&self, held: &[Record], counts: Census) -> Seen {
        let wanted = self
            .watched
            .iter()
            .map(|(id, watched)| (*id, watched.line(true)));
        let got = held
            .iter()
            .map(|held| (held.watcher.id, show(&held.watcher, &held.history)));
        let (wanted, got): (BTreeMap<_, _>, BTreeMap<_, _>) = (wanted.collect(), got.collect());
        ensure!(
            wanted == got,
            "in the end the store holds\n  {got:#?}, not\n  {wanted:#?}"
        );
        let count = |is: fn(&Standing) -> bool| {
            let standings = self.watched.values().map(|watched| watched.standing);
            standings.filter(is).count() as u64
        };
        let refused = self
            .watched
            .values()
            .map(|watched| watched.refused.len() as u64);
        let wanted = Census {
            on_time: count(|standing| matches!(standing, Standing::OnTime(_))),
            late: count(|standing| matches!(standing, Standing::Late(_))),
            paused: count(|standing| matches!(standing, Standing::Paused)),
            owed: 0,
            refused: refused.sum(),
        };
        ensure!(
            counts == wanted,
            "in the end there are {counts:?}, not {wanted:?}"
        );
        Ok(())
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = WatcherId> {
        self.watched.keys().copied()
    }

    pub(super) fn name_of(&self, id: WatcherId) -> Option<Name> {
        Some(self.watched.get(&id)?.name.clone())
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.watched
            .values()
            .filter_map(Watched::deadline_ahead)
            .min()
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let queues = self
            .watched
            .values()
            .flat_map(|watched| watched.owed.values());
        queues.filter_map(|queue| Some(queue.front()?.due)).min()
    }
}
