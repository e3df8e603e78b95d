//! A watcher and everything that can happen to it: the one place where the rules live.
//!
//! A watcher is *on time*, *late* or *paused*. This is what each action does in each state, at the
//! instant `now`; "event" is a line in the history, capitals are notices to the recipients:
//!
//! | action | on time | late | paused |
//! | --- | --- | --- | --- |
//! | trigger | deadline = now + periodicity; event | the same, on time again, **RESUMED** | the same, unpaused |
//! | deadline passes | late, **LATE** | – | – |
//! | deadline has passed in an outage of ours | deadline = end of the outage + grace | – | – |
//! | pause | paused, no deadline; event | the same, no notice | refused |
//! | unpause | refused | refused | on time, deadline = now + periodicity; event |
//! | update of the periodicity | deadline = newest event + periodicity; if that is before now, late, **LATE** | the same; if that is not before now, on time, **RESUMED** | – |
//!
//! **Time decides, not luck.** Before anything else an action applies a deadline that has passed by `now`,
//! so the outcome does not depend on whether the scheduler or a request came first. The instant of the
//! deadline itself is still on time.
//!
//! **A refused action changes nothing**, not even that: the scheduler will see to the deadline.

use std::time::Duration;

use super::{
    Comment, Description, Event, Name, Notice, NoticeId, NoticeKind, Periodicity, Recipient, Slug,
    Timestamp, WatcherId,
};

/// Something that is expected to report, and who is told when it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watcher {
    /// The identifier, and the path of its trigger URL.
    pub id: WatcherId,
    /// What people call it.
    pub name: Name,
    /// The form of the name that is unique among watchers.
    pub slug: Slug,
    /// What it is for.
    pub description: Description,
    /// How long it may stay silent.
    pub periodicity: Periodicity,
    /// Who is told; nobody twice.
    pub recipients: Vec<Recipient>,
    /// How it stands.
    pub state: State,
    /// When its newest event happened: all that a transition needs to know of the history.
    pub last_event: Timestamp,
}

/// How a watcher stands. Its shape keeps two promises: there is a deadline exactly when the watcher is not
/// paused, and none is both late and paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was heard from, and has until the deadline, inclusive.
    OnTime {
        /// The last instant at which it is on time.
        deadline: Timestamp,
    },
    /// The deadline passed.
    Late {
        /// The deadline that it missed.
        deadline: Timestamp,
        /// The notice that said so; absent if another program gave it.
        notice: Option<NoticeId>,
    },
    /// Nobody waits for it.
    Paused,
}

/// Which of its three states a watcher is in, without the particulars. The order is that of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The deadline passed.
    Late,
    /// The deadline lies ahead.
    OnTime,
    /// There is no deadline.
    Paused,
}

/// What somebody asks for when creating a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The name, from which the slug is made.
    pub name: Name,
    /// What it is for.
    pub description: Description,
    /// How long it may stay silent.
    pub periodicity: Periodicity,
    /// Who is told.
    pub recipients: Vec<Recipient>,
    /// Whether it begins paused.
    pub paused: bool,
}

/// What can happen to a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The task reports that it ran.
    Trigger(Comment),
    /// Nothing but time went by.
    PassDeadline,
    /// The same, but nobody could report for a while, and that is our fault.
    PassOutage(Outage),
    /// Somebody wants no notices for a while.
    Pause(Comment),
    /// Somebody wants them again.
    Unpause(Comment),
    /// Somebody changes what the watcher is.
    Update(Update),
}

/// A time in which nobody could report, and after which those whose deadline fell into it get a grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When deadlines were watched last.
    pub since: Timestamp,
    /// When they were watched again.
    pub until: Timestamp,
    /// How long those that could not report have from then on.
    pub grace: Duration,
}

/// New values for some attributes of a watcher; those that are absent stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// A new name, and with it a new slug.
    pub name: Option<Name>,
    /// A new description.
    pub description: Option<Description>,
    /// A new periodicity, which moves the deadline.
    pub periodicity: Option<Periodicity>,
    /// New recipients instead of the present ones.
    pub recipients: Option<Vec<Recipient>>,
}

/// Why an action was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A pause of a paused watcher.
    #[error("the watcher is already paused")]
    AlreadyPaused,
    /// The end of a pause that there is not.
    #[error("the watcher is not paused")]
    NotPaused,
    /// An update after which everything would be as it was.
    #[error("the update changes nothing")]
    NothingToUpdate,
}

/// What an action made of a watcher. All of it has to be kept, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The watcher as it is now.
    pub watcher: Watcher,
    /// What is new in its history.
    pub event: Option<Event>,
    /// Who has to be told what, in this order; none without a recipient.
    pub notices: Vec<Notice>,
    /// It was late, and was triggered.
    pub recovered: bool,
    /// It was paused, and was triggered.
    pub unpaused: bool,
}

impl Standing {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Late, Self::OnTime, Self::Paused];

    /// How people say it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::OnTime => "on time",
            Self::Paused => "paused",
        }
    }
}

impl State {
    /// Which of the three it is.
    #[must_use]
    pub const fn standing(self) -> Standing {
        match self {
            Self::Late { .. } => Standing::Late,
            Self::OnTime { .. } => Standing::OnTime,
            Self::Paused => Standing::Paused,
        }
    }

    /// The deadline: the one ahead, or the one that was missed. None while paused.
    #[must_use]
    pub const fn deadline(self) -> Option<Timestamp> {
        match self {
            Self::OnTime { deadline } | Self::Late { deadline, .. } => Some(deadline),
            Self::Paused => None,
        }
    }

    /// The deadline whose passing changes something: that of a watcher on time.
    #[must_use]
    pub const fn deadline_ahead(self) -> Option<Timestamp> {
        match self {
            Self::OnTime { deadline } => Some(deadline),
            Self::Late { .. } | Self::Paused => None,
        }
    }

    /// Whether it is late.
    #[must_use]
    pub const fn is_late(self) -> bool {
        matches!(self, Self::Late { .. })
    }

    /// Whether it is paused.
    #[must_use]
    pub const fn is_paused(self) -> bool {
        matches!(self, Self::Paused)
    }
}

impl Watcher {
    /// A new watcher, on time from `now` unless it begins paused, and its first event.
    #[must_use]
    pub fn create(id: WatcherId, draft: Draft, now: Timestamp) -> (Self, Event) {
        let state = if draft.paused {
            State::Paused
        } else {
            State::OnTime {
                deadline: draft.periodicity.after(now),
            }
        };
        let watcher = Self {
            id,
            slug: Slug::of(&draft.name),
            name: draft.name,
            description: draft.description,
            periodicity: draft.periodicity,
            recipients: without_repeats(draft.recipients),
            state,
            last_event: now,
        };
        (watcher, Event::created(now))
    }

    /// What a trigger at `now` makes of a watcher that has until `deadline`, if it comes in time: the new deadline, and
    /// the event. `None` if it comes late.
    ///
    /// It is what [`Watcher::apply`] makes of it. Nobody is told anything then, and nothing else of the watcher
    /// matters, so a store need not read it.
    #[must_use]
    pub fn trigger_in_time(
        deadline: Timestamp,
        periodicity: Periodicity,
        comment: &Comment,
        now: Timestamp,
    ) -> Option<(Timestamp, Event)> {
        (now <= deadline).then(|| heard_from(periodicity, comment, now))
    }

    /// What `action` at `now` makes of this watcher.
    ///
    /// # Errors
    ///
    /// [`Refusal`], by the state table above; then nothing is to be changed.
    pub fn apply(&self, action: &Action, now: Timestamp) -> Result<Change, Refusal> {
        let mut change = Change {
            watcher: self.clone(),
            event: None,
            notices: Vec::new(),
            recovered: false,
            unpaused: false,
        };
        if let Action::PassOutage(outage) = action {
            change.put_off(outage);
        }
        change.pass_deadline(now);
        match action {
            Action::PassDeadline | Action::PassOutage(_) => {}
            Action::Trigger(comment) => change.trigger(comment, now),
            Action::Pause(comment) => change.pause(comment, now)?,
            Action::Unpause(comment) => change.unpause(comment, now)?,
            Action::Update(update) => change.update(update, now)?,
        }
        Ok(change)
    }
}

impl Change {
    fn put_off(&mut self, outage: &Outage) {
        if let State::OnTime { deadline } = &mut self.watcher.state
            && (outage.since..outage.until).contains(deadline)
        {
            *deadline = outage.until.after(outage.grace);
        }
    }

    fn pass_deadline(&mut self, now: Timestamp) {
        if let State::OnTime { deadline } = self.watcher.state
            && deadline < now
        {
            self.become_late(deadline, now);
        }
    }

    fn trigger(&mut self, comment: &Comment, now: Timestamp) {
        self.unpaused = self.watcher.state.is_paused();
        self.recovered = self.watcher.state.is_late();
        let (deadline, event) = heard_from(self.watcher.periodicity, comment, now);
        self.record(event);
        self.become_on_time(deadline, now);
    }

    fn pause(&mut self, comment: &Comment, now: Timestamp) -> Result<(), Refusal> {
        if self.watcher.state.is_paused() {
            return Err(Refusal::AlreadyPaused);
        }
        self.record(Event::paused(now, comment));
        self.watcher.state = State::Paused;
        Ok(())
    }

    fn unpause(&mut self, comment: &Comment, now: Timestamp) -> Result<(), Refusal> {
        if !self.watcher.state.is_paused() {
            return Err(Refusal::NotPaused);
        }
        self.record(Event::unpaused(now, comment));
        self.become_on_time(self.watcher.periodicity.after(now), now);
        Ok(())
    }

    fn update(&mut self, update: &Update, now: Timestamp) -> Result<(), Refusal> {
        let before = self.watcher.clone();
        if let Some(name) = &update.name {
            self.watcher.slug = Slug::of(name);
            self.watcher.name = name.clone();
        }
        if let Some(description) = &update.description {
            self.watcher.description = description.clone();
        }
        if let Some(recipients) = &update.recipients {
            self.watcher.recipients = without_repeats(recipients.clone());
        }
        if let Some(periodicity) = update.periodicity
            && periodicity != self.watcher.periodicity
        {
            self.watcher.periodicity = periodicity;
            self.move_deadline(now);
        }
        if self.watcher == before {
            Err(Refusal::NothingToUpdate)
        } else {
            Ok(())
        }
    }

    /// Counts the periodicity from the newest event again.
    fn move_deadline(&mut self, now: Timestamp) {
        let deadline = self.watcher.periodicity.after(self.watcher.last_event);
        let passed = deadline < now;
        match self.watcher.state {
            State::Paused => {}
            State::OnTime { .. } if passed => self.become_late(deadline, now),
            State::Late { notice, .. } if passed => {
                self.watcher.state = State::Late { deadline, notice }
            }
            State::OnTime { .. } | State::Late { .. } => self.become_on_time(deadline, now),
        }
    }

    fn record(&mut self, event: Event) {
        self.watcher.last_event = event.at;
        self.event = Some(event);
    }

    fn become_late(&mut self, deadline: Timestamp, now: Timestamp) {
        let id = NoticeId::derive("late", &self.watcher.slug, deadline, now);
        self.tell(id, NoticeKind::Late, deadline, now);
        self.watcher.state = State::Late {
            deadline,
            notice: Some(id),
        };
    }

    fn become_on_time(&mut self, deadline: Timestamp, now: Timestamp) {
        if let State::Late {
            deadline: missed,
            notice,
        } = self.watcher.state
        {
            let id = NoticeId::derive("resumed", &self.watcher.slug, missed, now);
            let kind = NoticeKind::Resumed {
                late: notice,
                next_deadline: deadline,
            };
            self.tell(id, kind, missed, now);
        }
        self.watcher.state = State::OnTime { deadline };
    }

    fn tell(&mut self, id: NoticeId, kind: NoticeKind, deadline: Timestamp, now: Timestamp) {
        if self.watcher.recipients.is_empty() {
            return;
        }
        self.notices.push(Notice {
            id,
            kind,
            at: now,
            name: self.watcher.name.clone(),
            description: self.watcher.description.clone(),
            periodicity: self.watcher.periodicity,
            deadline,
            last_event: self.watcher.last_event,
            recipients: self.watcher.recipients.clone(),
        });
    }
}

/// The next deadline of a watcher that is triggered, and what its history says of that.
fn heard_from(periodicity: Periodicity, comment: &Comment, now: Timestamp) -> (Timestamp, Event) {
    (periodicity.after(now), Event::triggered(now, comment))
}

fn without_repeats(recipients: Vec<Recipient>) -> Vec<Recipient> {
    let mut kept: Vec<Recipient> = Vec::with_capacity(recipients.len());
    for recipient in recipients {
        if !kept.contains(&recipient) {
            kept.push(recipient);
        }
    }
    kept
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
