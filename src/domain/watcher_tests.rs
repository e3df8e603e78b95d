//! The state table, cell by cell, and the invariants under any order of actions.

use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3_600_000;
const T0: i64 = 1_426_727_324_885;

fn at(offset: i64) -> Timestamp {
    Timestamp::from_millis(T0 + offset)
}

fn hours(hours: f64) -> Periodicity {
    Periodicity::from_seconds(hours * 3_600.0).expect("a periodicity")
}

fn on_time() -> Watcher {
    let draft = Draft {
        name: Name::parse("My First Watcher").expect("a name"),
        description: Description::default(),
        periodicity: hours(1.0),
        recipients: vec![Recipient::parse("ops@example.com").expect("an address")],
        paused: false,
    };
    Watcher::create(
        WatcherId::parse("fbkvlsby").expect("an identifier"),
        draft,
        at(0),
    )
    .0
}

fn late() -> Watcher {
    done(&on_time(), &Action::PassDeadline, HOUR + 1).watcher
}

fn paused() -> Watcher {
    done(&on_time(), &Action::Pause(comment("")), 10).watcher
}

fn comment(text: &str) -> Comment {
    Comment::parse(text).expect("a comment")
}

fn trigger() -> Action {
    Action::Trigger(comment("ok"))
}

fn periodicity(hours_: f64) -> Action {
    Action::Update(Update {
        periodicity: Some(hours(hours_)),
        ..Update::default()
    })
}

#[track_caller]
fn done(watcher: &Watcher, action: &Action, offset: i64) -> Change {
    watcher
        .apply(action, at(offset))
        .expect("the action is allowed")
}

/// What an action did, in the terms of the state table.
#[track_caller]
fn check(change: &Change, state: State, event: Option<&str>, notices: &[&str]) {
    assert_eq!(change.watcher.state, state);
    assert_eq!(
        change.event.as_ref().map(|event| event.text.as_str()),
        event
    );
    let told: Vec<_> = change
        .notices
        .iter()
        .map(|notice| notice.kind.word())
        .collect();
    assert_eq!(told, notices);
}

fn due(offset: i64) -> State {
    State::OnTime {
        deadline: at(offset),
    }
}

fn missed(watcher: &Watcher, offset: i64) -> State {
    let State::Late { notice, .. } = watcher.state else {
        panic!("{watcher:?} is not late")
    };
    assert!(notice.is_some());
    State::Late {
        deadline: at(offset),
        notice,
    }
}

#[test]
fn an_outage_puts_off_what_fell_into_it() {
    let outage = |since: i64, until: i64| {
        Action::PassOutage(Outage {
            since: at(since),
            until: at(until),
            grace: Duration::from_millis(600),
        })
    };
    // The deadline is at one hour; those of an outage from its first instant on, up to its last.
    for (since, until, deadline) in [
        (HOUR, HOUR + 1, HOUR + 601),
        (HOUR - 9, HOUR + 9, HOUR + 609),
    ] {
        let change = done(&on_time(), &outage(since, until), HOUR + 10);
        let deadline = at(deadline);
        assert_eq!(change.watcher.state, State::OnTime { deadline });
        assert_eq!((change.event, change.notices), (None, vec![]));
    }
    let late_for_its_own = done(&on_time(), &outage(HOUR + 1, HOUR + 9), HOUR + 10);
    assert!(late_for_its_own.watcher.state.is_late());
    let grace_is_over = done(&on_time(), &outage(HOUR, HOUR + 9), HOUR + 610);
    assert!(grace_is_over.watcher.state.is_late());
    let not_yet_due = done(&on_time(), &outage(HOUR - 9, HOUR), HOUR);
    assert_eq!(not_yet_due.watcher, on_time());
    for watcher in [late(), paused()] {
        let change = done(&watcher, &outage(0, HOUR + 9), HOUR + 10);
        assert_eq!(change.watcher, watcher);
    }
}

#[test]
fn creation_counts_from_now_unless_paused() {
    let draft = Draft {
        name: Name::parse("A_b").expect("a name"),
        description: Description::default(),
        periodicity: hours(1.0),
        recipients: vec![Recipient::parse("a@b.example").expect("an address"); 2],
        paused: true,
    };
    let id = WatcherId::parse("abcdefgh").expect("an identifier");
    let (watcher, event) = Watcher::create(id, draft, at(0));
    assert_eq!(watcher.state, State::Paused);
    assert_eq!(watcher.slug.as_str(), "a-b");
    assert_eq!(watcher.recipients.len(), 1, "nobody is told twice");
    assert_eq!(
        event,
        Event {
            at: at(0),
            text: "Watcher created".to_owned()
        }
    );
    assert_eq!(on_time().state, due(HOUR));
}

#[test]
fn trigger_of_one_on_time() {
    let change = done(&on_time(), &trigger(), 10);
    check(&change, due(10 + HOUR), Some("Triggered (ok)"), &[]);
    assert_eq!((change.recovered, change.unpaused), (false, false));
    assert_eq!(change.watcher.last_event, at(10));
}

#[test]
fn trigger_of_a_late_one() {
    let change = done(&late(), &trigger(), 2 * HOUR);
    check(&change, due(3 * HOUR), Some("Triggered (ok)"), &["resumed"]);
    assert_eq!((change.recovered, change.unpaused), (true, false));
    let State::Late { notice, .. } = late().state else {
        panic!("late")
    };
    let next_deadline = at(3 * HOUR);
    assert_eq!(
        change.notices[0].kind,
        NoticeKind::Resumed {
            late: notice,
            next_deadline
        }
    );
    assert_eq!(change.notices[0].deadline, at(HOUR));
    assert_eq!(change.notices[0].last_event, at(2 * HOUR));
}

#[test]
fn trigger_of_a_paused_one() {
    let change = done(&paused(), &trigger(), 5 * HOUR);
    check(&change, due(6 * HOUR), Some("Triggered (ok)"), &[]);
    assert_eq!((change.recovered, change.unpaused), (false, true));
}

#[test]
fn deadline_of_one_on_time() {
    check(
        &done(&on_time(), &Action::PassDeadline, HOUR),
        due(HOUR),
        None,
        &[],
    );
    let change = done(&on_time(), &Action::PassDeadline, HOUR + 1);
    check(&change, missed(&change.watcher, HOUR), None, &["late"]);
    assert_eq!(change.notices[0].deadline, at(HOUR));
    assert_eq!(change.notices[0].last_event, at(0));
    assert_eq!(change.watcher.last_event, at(0), "a lateness is no event");
}

#[test]
fn deadline_of_a_late_or_paused_one() {
    check(
        &done(&late(), &Action::PassDeadline, 9 * HOUR),
        late().state,
        None,
        &[],
    );
    check(
        &done(&paused(), &Action::PassDeadline, 9 * HOUR),
        State::Paused,
        None,
        &[],
    );
}

#[test]
fn pause() {
    let action = Action::Pause(comment("holiday"));
    check(
        &done(&on_time(), &action, 10),
        State::Paused,
        Some("Paused (holiday)"),
        &[],
    );
    check(
        &done(&late(), &action, 2 * HOUR),
        State::Paused,
        Some("Paused (holiday)"),
        &[],
    );
    assert_eq!(paused().apply(&action, at(20)), Err(Refusal::AlreadyPaused));
}

#[test]
fn unpause() {
    let action = Action::Unpause(comment(""));
    check(
        &done(&paused(), &action, 2 * HOUR),
        due(3 * HOUR),
        Some("Unpaused"),
        &[],
    );
    assert_eq!(on_time().apply(&action, at(20)), Err(Refusal::NotPaused));
    assert_eq!(late().apply(&action, at(2 * HOUR)), Err(Refusal::NotPaused));
}

#[test]
fn update_of_the_periodicity_of_one_on_time() {
    check(
        &done(&on_time(), &periodicity(2.0), 10),
        due(2 * HOUR),
        None,
        &[],
    );
    check(
        &done(&on_time(), &periodicity(0.5), HOUR / 2),
        due(HOUR / 2),
        None,
        &[],
    );
    let change = done(&on_time(), &periodicity(0.5), HOUR / 2 + 1);
    check(&change, missed(&change.watcher, HOUR / 2), None, &["late"]);
}

#[test]
fn update_of_the_periodicity_of_a_late_one() {
    check(
        &done(&late(), &periodicity(3.0), 2 * HOUR),
        due(3 * HOUR),
        None,
        &["resumed"],
    );
    let change = done(&late(), &periodicity(1.5), 2 * HOUR);
    check(&change, missed(&late(), HOUR + HOUR / 2), None, &[]);
}

#[test]
fn update_of_the_periodicity_of_a_paused_one() {
    let change = done(&paused(), &periodicity(3.0), 2 * HOUR);
    check(&change, State::Paused, None, &[]);
    assert_eq!(change.watcher.periodicity, hours(3.0));
}

#[test]
fn update_of_anything_else_leaves_the_deadline() {
    let update = Update {
        name: Name::parse("Other").ok(),
        description: Description::parse("new").ok(),
        recipients: Some(vec![]),
        periodicity: Some(hours(1.0)),
    };
    for watcher in [on_time(), paused()] {
        let change = done(&watcher, &Action::Update(update.clone()), 10);
        check(&change, watcher.state, None, &[]);
        assert_eq!(change.watcher.slug.as_str(), "other");
        assert_eq!(change.watcher.description.as_str(), "new");
        assert_eq!(change.watcher.recipients, vec![]);
    }
}

#[test]
fn update_that_changes_nothing_is_refused() {
    for action in [
        Action::Update(Update::default()),
        periodicity(1.0),
        Action::Update(Update {
            name: Some(on_time().name),
            ..Update::default()
        }),
    ] {
        for watcher in [on_time(), late(), paused()] {
            assert_eq!(
                watcher.apply(&action, at(2 * HOUR)),
                Err(Refusal::NothingToUpdate)
            );
        }
    }
}

#[test]
fn a_passed_deadline_comes_first() {
    let change = done(&on_time(), &trigger(), HOUR + 1);
    check(
        &change,
        due(2 * HOUR + 1),
        Some("Triggered (ok)"),
        &["late", "resumed"],
    );
    assert!(change.recovered);
    assert_eq!(change.notices[0].last_event, at(0));
    let late = change.notices[0].id;
    assert!(
        matches!(change.notices[1].kind, NoticeKind::Resumed { late: Some(id), .. } if id == late)
    );

    let change = done(&on_time(), &Action::Pause(comment("")), HOUR + 1);
    check(&change, State::Paused, Some("Paused"), &["late"]);
    let change = done(&on_time(), &periodicity(2.0), HOUR + 1);
    check(&change, due(2 * HOUR), None, &["late", "resumed"]);
}

#[test]
fn nobody_is_told_when_nobody_asked() {
    let watcher = Watcher {
        recipients: vec![],
        ..on_time()
    };
    let change = done(&watcher, &trigger(), HOUR + 1);
    check(&change, due(2 * HOUR + 1), Some("Triggered (ok)"), &[]);
    assert!(change.recovered);
}

#[test]
fn a_lateness_that_returns_to_the_same_deadline_is_another_notice() {
    let back = done(&late(), &periodicity(3.0), 2 * HOUR).watcher;
    let again = done(&back, &periodicity(1.0), 2 * HOUR + 5);
    assert_eq!(again.watcher.state.deadline(), late().state.deadline());
    assert_ne!(again.watcher.state, late().state);
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => Just(trigger()),
        3 => Just(Action::PassDeadline),
        1 => Just(Action::Pause(comment(""))),
        1 => Just(Action::Unpause(comment(""))),
        2 => (1_u32..8).prop_map(|quarters| periodicity(f64::from(quarters) / 4.0)),
    ]
}

proptest! {
    /// Whatever happens in whatever order, also when the wall clock steps back: late and resumed
    /// notices alternate for as long as nobody pauses, the state after an action is what time says it
    /// is, each notice names its own lateness, and a refusal leaves no trace.
    #[test]
    fn no_order_of_actions_breaks_the_invariants(
        steps in prop::collection::vec((any_action(), -HOUR / 8..HOUR), 0..60)
    ) {
        let mut watcher = on_time();
        let mut now = 0;
        let mut told_late = None;
        for (action, pause) in steps {
            now += pause;
            let Ok(change) = watcher.apply(&action, at(now)) else { continue };
            if let (Action::Trigger(comment), State::OnTime { deadline }) = (&action, watcher.state) {
                let in_time =
                    Watcher::trigger_in_time(deadline, watcher.periodicity, comment, at(now));
                let wanted = (change.watcher.state.deadline(), change.event.clone());
                let wanted = (!change.recovered).then_some(wanted);
                prop_assert_eq!(in_time.map(|(next, event)| (Some(next), Some(event))), wanted);
            }
            let quiet = watcher.state.is_paused();
            prop_assert_eq!(change.unpaused, quiet && matches!(action, Action::Trigger(_)));
            prop_assert_eq!(
                change.event.is_some(),
                !matches!(action, Action::PassDeadline | Action::Update(_))
            );
            for notice in &change.notices {
                prop_assert!(!quiet, "a paused watcher told somebody something");
                match notice.kind {
                    NoticeKind::Late => {
                        prop_assert_eq!(told_late, None);
                        prop_assert!(notice.deadline < at(now));
                        told_late = Some(notice.id);
                    }
                    NoticeKind::Resumed { late, .. } => {
                        prop_assert!(late.is_some());
                        prop_assert_eq!(told_late, late);
                        told_late = None;
                    }
                }
            }
            match change.watcher.state {
                State::Late { deadline, notice } => {
                    prop_assert_eq!(told_late, notice);
                    prop_assert!(deadline < at(now) || watcher.state.is_late());
                }
                State::OnTime { deadline } => {
                    prop_assert_eq!(told_late, None);
                    prop_assert!(deadline >= at(now));
                    prop_assert_eq!(deadline, change.watcher.periodicity.after(change.watcher.last_event));
                }
                State::Paused => told_late = None,
            }
            if let Some(event) = &change.event {
                prop_assert_eq!(event.at, change.watcher.last_event);
            }
            watcher = change.watcher;
        }
    }
}
