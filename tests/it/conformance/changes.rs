//! Changing watchers, one at a time and many at once.

use std::collections::HashMap;

use nights_watch::domain::{Outage, Refusal, State, Update};
use nights_watch::ports::Census;

use super::*;

pub(super) async fn each_action_is_answered_and_kept_by_id(store: Store) {
    each_action_is_answered_and_kept(store, 0).await;
}

pub(super) async fn each_action_is_answered_and_kept_by_slug(store: Store) {
    each_action_is_answered_and_kept(store, 1).await;
}

pub(super) async fn each_action_is_answered_and_kept_by_name(store: Store) {
    each_action_is_answered_and_kept(store, 2).await;
}

async fn each_action_is_answered_and_kept(store: Store, which_key: usize) {
    let draft = told("Job", &["a@x.example", "b@x.example"]);
    let mut expected = insert_at(&store, draft, at(0)).await;
    let mut owed = 0;
    for (now, action) in a_full_life() {
        let key = &keys(&expected.watcher)[which_key];
        let change = expected.watcher.apply(&action, now).expect("it is allowed");
        let done = store.transact(key, &action, now, Detail::Full).await;
        let done = done.unwrap_or_else(|error| panic!("{action:?}: {error}"));

        assert_eq!(done.before, expected.watcher.state, "{action:?}");
        let wanted = Transacted::new(done.before, change.clone(), done.history.clone());
        assert_eq!(done, wanted, "{action:?}");
        expected.watcher = change.watcher;
        expected.history.splice(0..0, change.event);
        owed += change.notices.len() as u64 * 2;
        check_history(&done.history, &expected.history);
        for key in keys(&expected.watcher) {
            check_found(store.find(&key).await.unwrap(), &expected);
        }
        assert_eq!(store.census().await.unwrap().owed, owed, "{action:?}");
    }
    assert_eq!(owed, 14, "two people, four times late and three times back");
}

/// Each action in each state that allows it, with the instants at which it happens.
fn a_full_life() -> Vec<(Timestamp, Action)> {
    let longer = Update {
        periodicity: Some(seconds(1_000.25)),
        ..Update::default()
    };
    let shorter = Update {
        periodicity: Some(seconds(0.5)),
        ..Update::default()
    };
    let all_else = Update {
        name: Some(named("Renamed Job")),
        description: Some(Description::parse("what it is").unwrap()),
        recipients: Some(people(&["c@x.example", "b@x.example"])),
        ..Update::default()
    };
    let same_slug = Update {
        name: Some(named("renamed job")),
        ..Update::default()
    };
    vec![
        (at(10), Action::Trigger(comment("on time"))),
        (at(20), Action::PassDeadline),
        (at(71), Action::PassDeadline),
        (at(72), Action::PassDeadline),
        (at(80), trigger()),
        (at(141), Action::Trigger(comment("just too late"))),
        (at(150), Action::Pause(comment("on time"))),
        (at(1_000), Action::PassDeadline),
        (at(1_001), Action::Unpause(comment("again"))),
        (at(1_002), Action::Pause(comment("once more"))),
        (at(1_003), Action::Trigger(comment("while paused"))),
        (at(1_004), Action::Update(all_else)),
        (at(1_005), Action::Update(same_slug)),
        (at(1_006), Action::Update(shorter)),
        (at(1_007), Action::Update(longer)),
        (at(2_004), Action::PassDeadline),
        (at(2_005), Action::Pause(comment("while late"))),
    ]
}

pub(super) async fn only_full_detail_has_a_history(store: Store) {
    let watcher = insert(&store, draft("Job")).await;
    let key = Key::Id(watcher.id);
    let full = store.transact(&key, &trigger(), at(1), Detail::Full).await;
    let summary = store
        .transact(&key, &trigger(), at(2), Detail::Summary)
        .await;
    let summary = summary.unwrap();
    assert_eq!(full.unwrap().history.len(), 2);
    assert_eq!(summary.history, []);
    assert_eq!(summary.after, State::OnTime { deadline: at(62) });
    assert_eq!(summary.event.map(|event| event.at), Some(at(2)));
    assert_eq!(look(&store, watcher.id).await.history.len(), 3);
}

/// A store may do less where less is asked for, and must do the same.
pub(super) async fn a_trigger_is_the_same_whatever_is_asked_for(store: Store) {
    let outage = Outage {
        since: at(500),
        until: at(600),
        grace: Duration::from_hours(1),
    };
    let life = [
        (10, trigger()),
        (70, Action::Trigger(comment("at the last instant"))),
        (71, trigger()),
        (40, Action::Trigger(comment("the clock has stepped back"))),
        (101, Action::Trigger(comment("just too late"))),
        (110, Action::Pause(comment(""))),
        (120, Action::Trigger(comment("while paused"))),
        (181, Action::PassDeadline),
        (490, Action::Trigger(comment("late"))),
        (600, Action::PassOutage(outage)),
        (610, Action::Trigger(comment("long before the deadline"))),
    ];
    let jobs = ["Full", "By id", "By slug", "By name"];
    let mut watchers = Vec::new();
    for name in jobs {
        watchers.push(insert_at(&store, told(name, &["a@x.example"]), at(0)).await);
    }
    for (now, action) in life {
        let overdue = store.overdue(at(now), 10).await.unwrap();
        let ahead = watchers[0].watcher.state.deadline_ahead();
        let are_overdue = ahead.is_some_and(|deadline| deadline < at(now));
        let wanted = if are_overdue { jobs.len() } else { 0 };
        assert_eq!(overdue.len(), wanted, "before {action:?} {now}");
        let mut wanted = None;
        for (number, Record { watcher, history }) in watchers.iter_mut().enumerate() {
            let detail = if number == 0 {
                Detail::Full
            } else {
                Detail::Summary
            };
            let key = &keys(watcher)[number.saturating_sub(1)];
            let done = store.transact(key, &action, at(now), detail).await;
            let done = done.unwrap_or_else(|error| panic!("{action:?}: {error}"));
            let told: Vec<_> = done.notices.iter().map(|it| it.kind.word()).collect();
            let marks = (done.recovered, done.unpaused);
            let states =
                [done.before, done.after].map(|state| (state.standing(), state.deadline()));
            let got = (states, marks, told, done.event.clone());
            assert_eq!(*wanted.get_or_insert(got.clone()), got, "{action:?} {now}");

            watcher.state = done.after;
            if let Some(event) = done.event {
                watcher.last_event = event.at;
                history.insert(0, event);
            }
            let found = look(&store, watcher.id).await;
            assert_eq!(found.watcher, *watcher, "{action:?} {now}");
            check_history(&found.history, history);
        }
    }
}

pub(super) async fn refusals_change_nothing(store: Store) {
    let paused = Draft {
        paused: true,
        ..told("Paused", &["a@x.example"])
    };
    let paused = insert(&store, paused).await;
    let on_time = insert(&store, told("On time", &["a@x.example"])).await;
    let late = insert(&store, told("Late", &["a@x.example"])).await;
    // One that is on time still, but only because nobody has looked: a refused action does not look.
    let now = at(MINUTE + 1);
    make_late(&store, late.id, now).await;
    let before = list_all(&store, Detail::Full).await;
    let census = store.census().await.unwrap();

    let same = Update {
        name: Some(on_time.name.clone()),
        periodicity: Some(on_time.periodicity),
        ..Update::default()
    };
    for (watcher, action, refusal) in [
        (&paused, pause(), Refusal::AlreadyPaused),
        (&on_time, unpause(), Refusal::NotPaused),
        (&late, unpause(), Refusal::NotPaused),
        (
            &paused,
            Action::Update(Update::default()),
            Refusal::NothingToUpdate,
        ),
        (
            &late,
            Action::Update(Update::default()),
            Refusal::NothingToUpdate,
        ),
    ] {
        let answer = try_to(&store, watcher.id, action.clone(), now).await;
        assert!(
            matches!(&answer, Err(TransactError::Refused(found)) if *found == refusal),
            "{action:?}: {answer:?}"
        );
    }
    let answer = store
        .transact(
            &Key::Id(on_time.id),
            &Action::Update(same),
            at(1),
            Detail::Full,
        )
        .await;
    assert!(matches!(
        answer,
        Err(TransactError::Refused(Refusal::NothingToUpdate))
    ));
    assert_eq!(list_all(&store, Detail::Full).await, before);
    assert_eq!(store.census().await.unwrap(), census);
    assert_eq!(store.overdue(now, 10).await.unwrap(), [on_time.id]);
}

pub(super) async fn absent_watchers_are_not_found(store: Store) {
    let (absent, _) = Watcher::create(fresh_id(), draft("Absent"), at(0));
    let renamed = Update {
        name: Some(named("Present")),
        ..Update::default()
    };
    for key in keys(&absent) {
        for action in [
            trigger(),
            Action::PassDeadline,
            Action::Update(renamed.clone()),
        ] {
            let answer = store.transact(&key, &action, at(1), Detail::Full).await;
            assert!(matches!(answer, Err(TransactError::NotFound)), "{answer:?}");
        }
        assert_eq!(store.find(&key).await.unwrap(), None);
        assert!(!store.delete(&key).await.unwrap());
    }
    assert_eq!(store.census().await.unwrap(), Census::default());
}

pub(super) async fn a_slug_that_is_taken_stops_the_whole_update(store: Store) {
    insert(&store, draft("Taken")).await;
    let watcher = insert(&store, told("Job", &["a@x.example"])).await;
    let before = list_all(&store, Detail::Full).await;
    let census = store.census().await.unwrap();
    // All of it would be kept, and a notice besides, if the slug were free.
    let update = Update {
        name: Some(named("TAKEN")),
        description: Some(Description::parse("changed").unwrap()),
        periodicity: Some(seconds(0.5)),
        recipients: Some(people(&["b@x.example"])),
    };
    for key in keys(&watcher) {
        let action = Action::Update(update.clone());
        let answer = store.transact(&key, &action, at(MINUTE + 1), Detail::Full);
        check_slug_taken(&answer.await);
    }
    assert_eq!(list_all(&store, Detail::Full).await, before);
    assert_eq!(store.census().await.unwrap(), census);
    assert_eq!(next_delivery(&store).await, None);
    assert_eq!(store.overdue(at(30), 10).await.unwrap(), []);
}

pub(super) async fn renaming_frees_the_old_slug(store: Store) {
    let old = insert(&store, draft("Old name")).await;
    let rename = |name: &str| {
        Action::Update(Update {
            name: Some(named(name)),
            ..Update::default()
        })
    };
    let done = act(&store, old.id, rename("New name"), at(1)).await;
    for key in &keys(&old)[1..] {
        assert_eq!(store.find(key).await.unwrap(), None, "{key:?}");
    }
    for key in keys(&changed(&done)) {
        let found = store.find(&key).await.unwrap();
        assert_eq!(found.expect("it is found").watcher, changed(&done));
    }
    let heir = insert(&store, draft("OLD-name")).await;
    check_slug_taken(
        &store
            .transact(&Key::Id(old.id), &rename("Old name"), at(2), Detail::Full)
            .await,
    );
    assert!(store.delete(&Key::Id(heir.id)).await.unwrap());
    let back = act(&store, old.id, rename("Old name"), at(3)).await;
    assert_eq!(changed(&back).slug, old.slug);
    assert_eq!(list_all(&store, Detail::Summary).await.len(), 1);
}

pub(super) async fn of_racing_renames_to_one_slug_one_wins(store: Store) {
    let mut before = HashMap::new();
    for number in 0..16 {
        let watcher = insert(&store, draft(&format!("Job {number}"))).await;
        before.insert(watcher.id, watcher);
    }
    let ids: Vec<WatcherId> = before.keys().copied().collect();
    let answers = race(16, |number| {
        let (store, id) = (Arc::clone(&store), ids[number]);
        let action = Action::Update(Update {
            name: Some(named("The One")),
            ..Update::default()
        });
        async move {
            store
                .transact(&Key::Id(id), &action, at(1), Detail::Full)
                .await
        }
    });
    let mut winners = Vec::new();
    for answer in answers.await {
        match answer {
            Ok(done) => winners.push(changed(&done)),
            answer => check_slug_taken(&answer),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    before.insert(winners[0].id, winners[0].clone());
    let listed = list_all(&store, Detail::Summary).await;
    assert_eq!(listed.len(), 16);
    for record in listed {
        assert_eq!(record.watcher, before[&record.watcher.id]);
    }
    let found = store.find(&Key::Slug(winners[0].slug.clone())).await;
    assert_eq!(found.unwrap().expect("it is found").watcher, winners[0]);
}

pub(super) async fn racing_triggers_are_all_kept_one_after_another(store: Store) {
    let created = insert_at(&store, draft("Job"), at(0)).await;
    let id = created.watcher.id;
    let answers = race(200, |number| {
        let store = Arc::clone(&store);
        let action = Action::Trigger(comment(&number.to_string()));
        let now = at(number as u64);
        async move {
            store
                .transact(&Key::Id(id), &action, now, Detail::Summary)
                .await
        }
    });
    let mut by_event: HashMap<String, Transacted> = HashMap::new();
    for answer in answers.await {
        let done = answer.expect("it can be triggered");
        let event = done.event.clone().expect("a trigger is an event");
        by_event.insert(event.text, done);
    }
    assert_eq!(by_event.len(), 200);
    let found = look(&store, id).await;
    assert_eq!(found.history.len(), 201);
    let mut state = created.watcher.state;
    for event in found.history.iter().rev().skip(1) {
        let done = by_event
            .remove(&event.text)
            .expect("each event stands once");
        assert_eq!(done.before, state, "each sees the ones before it");
        assert_eq!(done.event.as_ref(), Some(event));
        state = done.after;
    }
    let expected = Watcher {
        state,
        last_event: found.history[0].at,
        ..created.watcher
    };
    assert_eq!(
        found.watcher, expected,
        "the newest event is the last change"
    );
}

pub(super) async fn racing_actions_see_each_other(store: Store) {
    let created = insert_at(&store, told("Job", &["a@x.example", "b@x.example"]), at(0)).await;
    let id = created.watcher.id;
    let answers = race(160, |number| {
        let store = Arc::clone(&store);
        let said = comment(&number.to_string());
        let action = match number % 4 {
            0 => Action::Trigger(said),
            1 => Action::Pause(said),
            2 => Action::Unpause(said),
            _ => Action::PassDeadline,
        };
        // Far enough apart that a deadline may have passed between any two.
        let now = at(number as u64 * 40);
        async move { (try_to(&store, id, action.clone(), now).await, action, now) }
    });
    let mut by_event: HashMap<String, Transacted> = HashMap::new();
    let mut owed = 0;
    for (answer, action, now) in answers.await {
        let done = match answer {
            Ok(done) => done,
            Err(TransactError::Refused(_)) => continue,
            Err(error) => panic!("{action:?}: {error}"),
        };
        let mut before = changed(&done);
        before.state = done.before;
        let alone = before.apply(&action, now).expect("it was allowed");
        assert_eq!(alone.watcher.state, done.after, "{action:?}");
        assert_eq!(alone.recovered, done.recovered, "{action:?}");
        assert_eq!(alone.unpaused, done.unpaused, "{action:?}");
        assert_eq!(alone.notices.len(), done.notices.len(), "{action:?}");
        owed += done.notices.len() as u64 * 2;
        if let Some(event) = done.event.clone() {
            by_event.insert(event.text, done);
        }
    }
    let found = look(&store, id).await;
    assert_eq!(found.history.len(), by_event.len() + 1);
    let mut state = created.watcher.state;
    for event in found.history.iter().rev().skip(1) {
        let done = by_event
            .remove(&event.text)
            .expect("each event stands once");
        // Between two events only the deadline can have passed, which does not move it.
        assert_eq!(done.before.is_paused(), state.is_paused(), "{event:?}");
        assert_eq!(done.before.deadline(), state.deadline(), "{event:?}");
        state = done.after;
    }
    assert_eq!(found.watcher.state.is_paused(), state.is_paused());
    assert_eq!(found.watcher.state.deadline(), state.deadline());
    assert_eq!(found.watcher.last_event, found.history[0].at);
    assert_eq!(store.census().await.unwrap().owed, owed);
}

pub(super) async fn readers_see_whole_changes(store: Store) {
    let id = insert(&store, draft("Job")).await.id;
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 1..=300 {
                act(&store, id, trigger(), at(number)).await;
            }
        })
    };
    let mut newest = at(0);
    let mut reads = 0;
    while !writer.is_finished() || reads == 0 {
        let listed = list_all(&store, Detail::Full).await.remove(0);
        for found in [listed, look(&store, id).await] {
            assert_eq!(found.watcher.last_event, found.history[0].at);
            let deadline = found.watcher.periodicity.after(found.history[0].at);
            assert_eq!(found.watcher.state.deadline(), Some(deadline));
            assert!(found.watcher.last_event >= newest, "time does not go back");
            newest = found.watcher.last_event;
        }
        reads += 1;
    }
    writer.await.expect("it does not panic");
    assert_eq!(look(&store, id).await.watcher.last_event, at(300));
}
