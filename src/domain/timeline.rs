//! What a history looks like as time: stretches, and the intervals between triggers.

use std::time::Duration;

use super::{Event, EventKind, Standing, State, Timestamp, Watcher};

/// How a watcher stood from the oldest event that is kept until now.
///
/// A history does not tell of deadlines. So those that lie between two events are taken to be what the present
/// periodicity makes of them, and the one after the newest event is the real one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// When it begins.
    pub from: Timestamp,
    /// The present.
    pub now: Timestamp,
    /// The deadline, ahead or missed; none while paused.
    pub deadline: Option<Timestamp>,
    /// How the watcher stood, without gaps, the oldest first. Two neighbours differ in their standing.
    pub stretches: Vec<Stretch>,
    /// When it was triggered, the oldest first.
    pub triggers: Vec<Timestamp>,
    /// What lies between two triggers that follow each other, the oldest first.
    pub intervals: Vec<Interval>,
}

/// A time in which a watcher stood in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// How it stood.
    pub standing: Standing,
    /// Since when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// The time between a trigger and the next one, with nothing else between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// How long it was.
    pub length: Duration,
    /// When it ended.
    pub until: Timestamp,
}

impl Timeline {
    /// The timeline of `watcher` at `now`, with its `history`, which is newest first.
    #[must_use]
    pub fn of(watcher: &Watcher, history: &[Event], now: Timestamp) -> Self {
        let from = history.last().map_or(now, |event| event.at).min(now);
        let mut timeline = Self {
            from,
            now,
            deadline: watcher.state.deadline(),
            stretches: Vec::new(),
            triggers: Vec::new(),
            intervals: Vec::new(),
        };
        let mut events = history.iter().rev().peekable();
        while let Some(event) = events.next() {
            let is_trigger = event.kind() == EventKind::Triggered;
            if is_trigger {
                timeline.triggers.push(event.at);
            }
            let Some(next) = events.peek() else {
                timeline.stand_until(watcher.state, now);
                break;
            };
            if is_trigger && next.kind() == EventKind::Triggered {
                timeline.intervals.push(Interval {
                    length: next.at.since(event.at),
                    until: next.at,
                });
            }
            let was_paused =
                event.kind() == EventKind::Paused || next.kind() == EventKind::Unpaused;
            let state = if was_paused {
                State::Paused
            } else {
                State::OnTime {
                    deadline: watcher.periodicity.after(event.at),
                }
            };
            timeline.stand_until(state, next.at);
        }
        timeline
    }

    /// Goes on in `state` until an instant; its deadline may pass meanwhile.
    fn stand_until(&mut self, state: State, until: Timestamp) {
        match state.deadline() {
            Some(deadline) => {
                self.extend(Standing::OnTime, deadline.min(until));
                self.extend(Standing::Late, until);
            }
            None => self.extend(Standing::Paused, until),
        }
    }

    /// Nothing is added where the end has been passed already: a clock may have stepped back between two events.
    fn extend(&mut self, standing: Standing, until: Timestamp) {
        let from = self.stretches.last().map_or(self.from, |last| last.until);
        if until <= from {
            return;
        }
        match self.stretches.last_mut() {
            Some(last) if last.standing == standing => last.until = until,
            _ => self.stretches.push(Stretch {
                standing,
                from,
                until,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Action, Comment, Description, Draft, Name, Periodicity, WatcherId};

    const HOUR: i64 = 3_600_000;

    /// A watcher that is created at the hour 0, with a periodicity of two hours, and its history after `actions`
    /// at these hours.
    fn after(actions: &[(i64, Action)]) -> (Watcher, Vec<Event>) {
        let draft = Draft {
            name: Name::parse("Backup").expect("a name"),
            description: Description::default(),
            periodicity: Periodicity::parse("2h").expect("a periodicity"),
            recipients: Vec::new(),
            paused: false,
        };
        let id = WatcherId::parse("aaaaaaaa").expect("letters");
        let (mut watcher, event) = Watcher::create(id, draft, Timestamp::from_millis(0));
        let mut history = vec![event];
        for (hour, action) in actions {
            let now = Timestamp::from_millis(hour * HOUR);
            let change = watcher.apply(action, now).expect("it is allowed");
            watcher = change.watcher;
            history.extend(change.event);
        }
        history.reverse();
        (watcher, history)
    }

    /// The stretches, from and until in hours.
    fn stretches(actions: &[(i64, Action)], now: i64) -> Vec<(&'static str, i64, i64)> {
        let (watcher, history) = after(actions);
        let now = Timestamp::from_millis(now * HOUR);
        let timeline = Timeline::of(&watcher, &history, now);
        let hours = |at: Timestamp| at.millis() / HOUR;
        timeline
            .stretches
            .iter()
            .map(|stretch| {
                let (from, until) = (hours(stretch.from), hours(stretch.until));
                (stretch.standing.words(), from, until)
            })
            .collect()
    }

    fn trigger() -> Action {
        Action::Trigger(Comment::default())
    }

    #[test]
    fn triggers_in_time_are_one_stretch() {
        let actions = [(1, trigger()), (3, trigger())];
        assert_eq!(stretches(&actions, 4), [("on time", 0, 4)]);
    }

    #[test]
    fn a_gap_is_late_from_its_deadline_to_the_next_event() {
        let actions = [(1, trigger()), (7, trigger())];
        let expected = [("on time", 0, 3), ("late", 3, 7), ("on time", 7, 8)];
        assert_eq!(stretches(&actions, 8), expected);
    }

    #[test]
    fn what_is_late_now_is_late_since_its_deadline() {
        let actions = [(1, trigger()), (9, Action::PassDeadline)];
        assert_eq!(
            stretches(&actions, 10),
            [("on time", 0, 3), ("late", 3, 10)]
        );
    }

    #[test]
    fn a_pause_lasts_until_its_end_or_a_trigger() {
        let pause = || Action::Pause(Comment::default());
        let actions = [
            (1, pause()),
            (9, Action::Unpause(Comment::default())),
            (10, pause()),
            (20, trigger()),
            (21, pause()),
        ];
        let expected = [
            ("on time", 0, 1),
            ("paused", 1, 9),
            ("on time", 9, 10),
            ("paused", 10, 20),
            ("on time", 20, 21),
            ("paused", 21, 30),
        ];
        assert_eq!(stretches(&actions, 30), expected);
    }

    #[test]
    fn intervals_lie_between_triggers_that_follow_each_other() {
        let actions = [
            (1, trigger()),
            (2, trigger()),
            (3, Action::Pause(Comment::default())),
            (8, trigger()),
            (11, trigger()),
        ];
        let (watcher, history) = after(&actions);
        let timeline = Timeline::of(&watcher, &history, Timestamp::from_millis(12 * HOUR));
        let hours = timeline.intervals.iter();
        let hours: Vec<_> = hours
            .map(|interval| interval.length.as_secs() / 3_600)
            .collect();
        assert_eq!(hours, [1, 3]);
        assert_eq!(timeline.triggers.len(), 4);
    }

    #[test]
    fn a_clock_that_steps_back_leaves_no_negative_stretch() {
        let actions = [(5, trigger()), (3, trigger())];
        assert_eq!(stretches(&actions, 4), [("on time", 0, 2), ("late", 2, 5)]);
        assert_eq!(stretches(&[], -1), []);
    }
}
