//! The rules, written down a second time from their table in the design, and the words for what comes of
//! them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use nights_watch::app::UseCaseError;
use nights_watch::domain::{
    Action, Event, Name, Notice, NoticeId, NoticeKind, Periodicity, Recipient, Refusal, State,
    Timestamp, Update, Watcher,
};
use nights_watch::ports::{Message, TransactError, Transacted};

use super::model::{Held, Owed};
use super::world::{BEGIN, Caller};

/// How many events of a watcher are kept: few, so that some are forgotten.
pub(super) const HISTORY: usize = 6;

/// A watcher as the model keeps it.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) name: Name,
    pub(super) periodicity: Periodicity,
    pub(super) recipients: Vec<Recipient>,
    pub(super) standing: Standing,
    /// Newest first.
    pub(super) history: VecDeque<Event>,
    pub(super) last_event: Timestamp,
    /// The notice of the lateness that goes on, if anybody was told.
    pub(super) late: Option<NoticeId>,
    /// What each recipient still has to be told, in this order.
    pub(super) owed: BTreeMap<Recipient, VecDeque<Owed>>,
    pub(super) refused: BTreeSet<Recipient>,
}

#[derive(Clone, Copy)]
pub(super) enum Standing {
    OnTime(Timestamp),
    Late(Timestamp),
    Paused,
}

/// A notice in words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) text: String,
    pub(super) to: Vec<Recipient>,
    pub(super) at: Timestamp,
    pub(super) last_event: Timestamp,
}

/// What an action did beyond the watcher itself.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Done {
    pub(super) recovered: bool,
    pub(super) unpaused: bool,
    pub(super) told: Vec<Told>,
}

impl Watched {
    /// The table of the rules.
    pub(super) fn act(
        &mut self,
        caller: Caller,
        action: &Action,
        now: Timestamp,
    ) -> Result<Done, &'static str> {
        let mut done = Done::default();
        if let (Action::PassOutage(outage), Standing::OnTime(deadline)) = (action, self.standing)
            && outage.since <= deadline
            && deadline < outage.until
        {
            self.standing = Standing::OnTime(outage.until.after(outage.grace));
        }
        if let Standing::OnTime(deadline) = self.standing
            && deadline < now
        {
            self.be_late(deadline, now, &mut done);
        }
        let next = add(now, self.periodicity);
        match (action, self.standing) {
            (Action::PassDeadline | Action::PassOutage(_), _) => {}
            (Action::Trigger(_), before) => {
                done.recovered = matches!(before, Standing::Late(_));
                done.unpaused = matches!(before, Standing::Paused);
                self.record("Triggered", caller, now);
                self.be_on_time(next, now, &mut done);
            }
            (Action::Pause(_), Standing::Paused) => return Err("already paused"),
            (Action::Pause(_), _) => {
                self.record("Paused", caller, now);
                self.standing = Standing::Paused;
            }
            (Action::Unpause(_), Standing::Paused) => {
                self.record("Unpaused", caller, now);
                self.standing = Standing::OnTime(next);
            }
            (Action::Unpause(_), _) => return Err("not paused"),
            (Action::Update(update), _) => {
                let before = self.line(false);
                self.update(update, now, &mut done);
                if before == self.line(false) {
                    return Err("changes nothing");
                }
            }
        }
        Ok(done)
    }

    fn update(&mut self, update: &Update, now: Timestamp, done: &mut Done) {
        if let Some(name) = &update.name {
            self.name = name.clone();
        }
        if let Some(recipients) = &update.recipients {
            let mut seen = BTreeSet::new();
            let new = recipients
                .iter()
                .filter(|recipient| seen.insert(*recipient));
            self.recipients = new.cloned().collect();
        }
        if let Some(periodicity) = update.periodicity.filter(|new| *new != self.periodicity) {
            self.periodicity = periodicity;
            let deadline = add(self.last_event, periodicity);
            match self.standing {
                Standing::Paused => {}
                Standing::OnTime(_) if deadline < now => self.be_late(deadline, now, done),
                Standing::Late(_) if deadline < now => self.standing = Standing::Late(deadline),
                Standing::OnTime(_) | Standing::Late(_) => self.be_on_time(deadline, now, done),
            }
        }
    }

    fn be_late(&mut self, deadline: Timestamp, now: Timestamp, done: &mut Done) {
        self.standing = Standing::Late(deadline);
        self.tell("LATE", (deadline, now, None), done);
    }

    fn be_on_time(&mut self, deadline: Timestamp, now: Timestamp, done: &mut Done) {
        if let Standing::Late(missed) = self.standing {
            self.tell("RESUMED", (missed, now, Some(deadline)), done);
        }
        self.standing = Standing::OnTime(deadline);
    }

    /// Tells the recipients of this moment, if there are any.
    fn tell(
        &self,
        kind: &str,
        (missed, now, next): (Timestamp, Timestamp, Option<Timestamp>),
        done: &mut Done,
    ) {
        let (name, every, last) = (&self.name, self.periodicity, self.last_event);
        let text = told_text(kind, (name, every), (missed, now, last, next));
        if !self.recipients.is_empty() {
            let to = self.recipients.clone();
            done.told.push(Told {
                text,
                to,
                at: now,
                last_event: last,
            });
        }
    }

    fn record(&mut self, what: &str, caller: Caller, now: Timestamp) {
        let text = format!("{what} ({})", caller.comment());
        self.history.push_front(Event { at: now, text });
        self.history.truncate(HISTORY);
        self.last_event = now;
    }

    pub(super) fn deadline_ahead(&self) -> Option<Timestamp> {
        match self.standing {
            Standing::OnTime(deadline) => Some(deadline),
            Standing::Late(_) | Standing::Paused => None,
        }
    }

    /// Owes each recipient of each notice that notice.
    pub(super) fn owe(&mut self, told: Vec<Told>, due: Timestamp) {
        for told in told {
            for recipient in told.to.clone() {
                let told = told.clone();
                let owed = Owed {
                    told,
                    attempts: 0,
                    since: due,
                    due,
                    claim: None,
                };
                self.owed.entry(recipient).or_default().push_back(owed);
            }
        }
    }

    /// The claim under which a message may be told, and the message in words.
    pub(super) fn in_hand(&mut self, message: &Message) -> (Option<&mut Held>, String) {
        let told = Told::of(&message.notice);
        let queue = self.owed.get_mut(&message.recipient);
        let front = queue.and_then(VecDeque::front_mut);
        let front = front.filter(|owed| owed.told.text == told.text);
        (front.and_then(|owed| owed.claim.as_mut()), told.text)
    }

    /// Takes note of the notice of a lateness; returns whether that of its end names it.
    pub(super) fn link(&mut self, notices: &[Notice]) -> bool {
        let mut fits = true;
        for notice in notices {
            match notice.kind {
                NoticeKind::Late => self.late = Some(notice.id),
                NoticeKind::Resumed { late, .. } => {
                    fits &= self.late.is_none() || self.late == late;
                }
            }
        }
        let is_late = matches!(self.standing, Standing::Late(_));
        self.late = self.late.filter(|_| is_late);
        fits
    }

    /// How it stands.
    pub(super) fn standing(&self) -> String {
        match self.standing {
            Standing::OnTime(deadline) => format!("on time until {}", at(deadline)),
            Standing::Late(deadline) => format!("late since {}", at(deadline)),
            Standing::Paused => "paused".to_owned(),
        }
    }

    /// What is to be seen of it.
    pub(super) fn line(&self, full: bool) -> String {
        let history = self.history.iter().filter(|_| full);
        let facts = (
            &self.name,
            self.periodicity,
            &*self.recipients,
            self.last_event,
        );
        line(facts, &self.standing(), history)
    }
}

impl Done {
    pub(super) fn of(done: &Transacted) -> Self {
        Self {
            recovered: done.recovered,
            unpaused: done.unpaused,
            told: done.notices.iter().map(Told::of).collect(),
        }
    }
}

impl Told {
    pub(super) fn of(notice: &Notice) -> Self {
        let (kind, next) = match notice.kind {
            NoticeKind::Late => ("LATE", None),
            NoticeKind::Resumed { next_deadline, .. } => ("RESUMED", Some(next_deadline)),
        };
        let times = (notice.deadline, notice.at, notice.last_event, next);
        Self {
            text: told_text(kind, (&notice.name, notice.periodicity), times),
            to: notice.recipients.clone(),
            at: notice.at,
            last_event: notice.last_event,
        }
    }
}

pub(super) fn add(instant: Timestamp, periodicity: Periodicity) -> Timestamp {
    instant.after(Duration::from_millis(periodicity.millis()))
}

/// An instant as seconds since the beginning.
pub(super) fn at(instant: Timestamp) -> String {
    format!(
        "{:+.3}",
        (instant.millis() - BEGIN.millis()) as f64 / 1_000.0
    )
}

fn told_text(
    kind: &str,
    (name, every): (&Name, Periodicity),
    (missed, now, last, next): (Timestamp, Timestamp, Timestamp, Option<Timestamp>),
) -> String {
    let (every, next) = (every.millis(), next.map_or_else(String::new, at));
    let (last, missed, now) = (at(last), at(missed), at(now));
    format!("{kind} {name}, {every} ms after {last} by {missed}, seen at {now}, next {next}")
}

/// A notice in words.
pub(super) fn told(notice: &Notice) -> String {
    Told::of(notice).text
}

fn line<'a>(
    (name, every, to, last): (&Name, Periodicity, &[Recipient], Timestamp),
    standing: &str,
    history: impl Iterator<Item = &'a Event>,
) -> String {
    let to: Vec<_> = to.iter().map(Recipient::as_str).collect();
    let history: Vec<_> = history
        .map(|event| format!("{} {}", at(event.at), event.text))
        .collect();
    let (every, last) = (every.millis(), at(last));
    format!("{name}, {every} ms after {last}, for {to:?}: {standing} {history:?}")
}

/// A watcher as the program shows it, in the words of the model.
pub(super) fn show(watcher: &Watcher, history: &[Event]) -> String {
    let standing = standing(watcher.state);
    let every = watcher.periodicity;
    let facts = (
        &watcher.name,
        every,
        &*watcher.recipients,
        watcher.last_event,
    );
    line(facts, &standing, history.iter())
}

/// A state as [`show`] shows it.
pub(super) fn standing(state: State) -> String {
    match state {
        State::OnTime { deadline } => format!("on time until {}", at(deadline)),
        State::Late { deadline, .. } => format!("late since {}", at(deadline)),
        State::Paused => "paused".to_owned(),
    }
}

/// The answer to a trigger.
pub(super) fn marks(recovered: bool, unpaused: bool) -> String {
    format!("recovered={recovered} unpaused={unpaused}")
}

fn refusal_word(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::AlreadyPaused => "already paused",
        Refusal::NotPaused => "not paused",
        Refusal::NothingToUpdate => "changes nothing",
    }
}

pub(super) fn transact_word(error: &TransactError) -> &'static str {
    match error {
        TransactError::NotFound => "not found",
        TransactError::SlugTaken => "taken",
        TransactError::Refused(refusal) => refusal_word(*refusal),
        TransactError::Store(_) => "store",
    }
}

/// The error of a use case in a word or two.
pub(super) fn error_word(error: &UseCaseError) -> &'static str {
    match error {
        UseCaseError::NotFound => "not found",
        UseCaseError::NameTaken => "taken",
        UseCaseError::Refused(refusal) => refusal_word(*refusal),
        UseCaseError::SearchTooLong => "too long",
        UseCaseError::Store(_) => "store",
    }
}
