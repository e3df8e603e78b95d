//! Noticing that deadlines pass: what the scheduler relies on.

use std::collections::HashMap;

use nights_watch::domain::{Outage, Update};
use nights_watch::ports::Census;

use super::*;

/// Does what the scheduler does at `now`, and returns who became late, in no order.
async fn drain(store: &Store, now: Timestamp, limit: usize) -> Vec<WatcherId> {
    let mut late = Vec::new();
    while let Some(next) = next_deadline(store).await
        && next < now
    {
        let overdue = store.overdue(now, limit).await.expect("the store answers");
        assert!(overdue.len() <= limit, "{} of {limit}", overdue.len());
        if overdue.is_empty() {
            let after = next_deadline(store).await;
            assert!(
                after.is_none_or(|after| after > next),
                "it makes no progress"
            );
        }
        let passed = overdue.iter().map(async |id| {
            let done = act(store, *id, Action::PassDeadline, now).await;
            assert!(!done.before.is_late(), "{id} was late already");
            assert!(done.after.is_late(), "{id} is not late");
        });
        together(passed).await;
        late.extend(overdue);
    }
    let rest = store.overdue(now, limit).await.expect("the store answers");
    assert_eq!(
        rest,
        [],
        "no deadline lies before now, but somebody is overdue"
    );
    late
}

/// Inserts watchers at the beginning of the case, told to nobody.
async fn many(store: &Store, count: usize) -> Vec<Watcher> {
    let inserted = (0..count).map(|number| insert(store, draft(&format!("Job {number}"))));
    together(inserted).await
}

#[track_caller]
fn check_ids(mut found: Vec<WatcherId>, expected: impl IntoIterator<Item = WatcherId>) {
    let mut expected: Vec<WatcherId> = expected.into_iter().collect();
    found.sort();
    expected.sort();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "the same number, but others");
}

fn with_periodicity(periodicity: Periodicity) -> Action {
    Action::Update(Update {
        periodicity: Some(periodicity),
        ..Update::default()
    })
}

pub(super) async fn who_watched_last_is_remembered(store: Store) {
    assert_eq!(store.last_watch().await.unwrap(), None);
    // The later ones count, not those with the later time: a clock may have been wrong.
    for now in [at(10), at(1_000), at(20)] {
        store.keep_watch(now).await.unwrap();
        assert_eq!(store.last_watch().await.unwrap(), Some(now));
    }
    assert_eq!(store.census().await.unwrap(), Census::default());
    assert_eq!(next_deadline(&store).await, None);
}

pub(super) async fn an_outage_puts_deadlines_off(store: Store) {
    let mut ids = Vec::new();
    // Due before the outage, in it, and after it.
    for (name, second) in [("Before", 0), ("During", 100), ("After", 200)] {
        ids.push(insert_at(&store, draft(name), at(second)).await.watcher.id);
    }
    let outage = Outage {
        since: at(100),
        until: at(200),
        grace: Duration::from_secs(30),
    };
    let now = at(201);
    let overdue = store.overdue(now, 10).await.unwrap();
    assert_eq!(overdue.len(), 2);
    for id in &ids {
        act(&store, *id, Action::PassOutage(outage), now).await;
    }
    let deadlines = [at(60), at(230), at(260)].map(Some);
    for (id, deadline) in ids.iter().zip(deadlines) {
        let found = look(&store, *id).await;
        assert_eq!(found.watcher.state.deadline(), deadline);
        assert_eq!(found.history.len(), 1);
        assert_eq!(found.watcher.state.is_late(), deadline == Some(at(60)));
    }
    assert_eq!(store.overdue(now, 10).await.unwrap(), []);
    assert_eq!(store.overdue(at(231), 10).await.unwrap(), [ids[1]]);
    let late = make_late(&store, ids[1], at(231)).await;
    assert!(late.after.is_late());
}

pub(super) async fn there_is_none_unless_somebody_is_on_time(store: Store) {
    assert_eq!(next_deadline(&store).await, None);
    assert_eq!(store.overdue(Timestamp::MAX, 10).await.unwrap(), []);
    let paused = Draft {
        paused: true,
        ..draft("Paused")
    };
    insert(&store, paused).await;
    assert_eq!(next_deadline(&store).await, None);
    let late = insert(&store, draft("Late")).await;
    assert!(next_deadline(&store).await.is_some());
    make_late(&store, late.id, at(MINUTE + 1)).await;
    assert_eq!(next_deadline(&store).await, None);
    assert_eq!(store.overdue(Timestamp::MAX, 10).await.unwrap(), []);
}

pub(super) async fn the_instant_of_the_deadline_is_on_time(store: Store) {
    let watcher = insert(&store, draft("Job")).await;
    let deadline = at(MINUTE);
    assert_eq!(next_deadline(&store).await, Some(deadline));
    assert_eq!(store.overdue(deadline, 10).await.unwrap(), []);
    let overdue = store.overdue(deadline.next(), 10).await;
    assert_eq!(overdue.unwrap(), [watcher.id]);
    let again = store.overdue(deadline.next(), 10).await;
    assert_eq!(again.unwrap(), [watcher.id], "asking changes nothing");
    // Who asks ahead of the clock may find out too early.
    let done = act(&store, watcher.id, Action::PassDeadline, deadline).await;
    assert!(!done.after.is_late());
}

pub(super) async fn the_next_deadline_is_not_later_than_the_earliest(store: Store) {
    let mut earliest = Timestamp::MAX;
    for (number, period) in [60.0, 90.0, 30.0, 30.5, 0.001, 45.0]
        .into_iter()
        .enumerate()
    {
        let draft = Draft {
            periodicity: seconds(period),
            ..draft(&format!("Job {number}"))
        };
        let deadline = insert(&store, draft).await.state.deadline_ahead();
        earliest = earliest.min(deadline.expect("it is on time"));
        assert_eq!(next_deadline(&store).await, Some(earliest));
    }
    assert_eq!(drain(&store, at(40), 10).await.len(), 3);
    assert_eq!(next_deadline(&store).await, Some(at(45)));
}

pub(super) async fn no_more_are_returned_than_asked_for(store: Store) {
    let watchers = many(&store, 10).await;
    for limit in [1, 3, 10] {
        let overdue = store.overdue(at(MINUTE + 1), limit).await;
        assert_eq!(overdue.unwrap().len(), limit);
    }
    let all = store.overdue(at(MINUTE + 1), usize::MAX).await.unwrap();
    check_ids(all, watchers.iter().map(|watcher| watcher.id));
    let late = drain(&store, at(MINUTE + 1), 3).await;
    check_ids(late, watchers.iter().map(|watcher| watcher.id));
}

pub(super) async fn thousands_are_drained(store: Store) {
    let watchers = many(&store, 2_500).await;
    assert_eq!(drain(&store, at(MINUTE), 500).await, []);
    let late = drain(&store, at(MINUTE + 1), 500).await;
    check_ids(late, watchers.iter().map(|watcher| watcher.id));
    assert_eq!(next_deadline(&store).await, None);
    assert_eq!(store.census().await.unwrap().late, 2_500);
}

pub(super) async fn a_trigger_moves_the_deadline_on(store: Store) {
    let (one, two) = (
        insert(&store, draft("One")).await,
        insert(&store, draft("Two")).await,
    );
    for seconds in [10, 20, 30] {
        act(&store, one.id, trigger(), at(seconds)).await;
    }
    assert!(next_deadline(&store).await.expect("two are on time") <= at(60));
    assert_eq!(drain(&store, at(61), 10).await, [two.id]);
    assert!(next_deadline(&store).await.expect("one is on time") <= at(90));
    assert_eq!(drain(&store, at(90), 10).await, []);
    assert_eq!(drain(&store, at(91), 10).await, [one.id]);
    assert_eq!(next_deadline(&store).await, None);
}

pub(super) async fn thousands_that_were_triggered_hide_nobody(store: Store) {
    let watchers = many(&store, 2_200).await;
    let triggered = watchers.iter().enumerate().map(async |(number, watcher)| {
        if number % 100 != 99 {
            act(&store, watcher.id, trigger(), at(30)).await;
        }
    });
    together(triggered).await;
    let silent = watchers.iter().skip(99).step_by(100);
    check_ids(
        drain(&store, at(61), 5).await,
        silent.map(|watcher| watcher.id),
    );
    let next = next_deadline(&store).await.expect("most are on time");
    assert!((at(61)..=at(90)).contains(&next), "{next}");
    assert_eq!(drain(&store, at(91), 5_000).await.len(), 2_178);
    assert_eq!(store.census().await.unwrap().late, 2_200);
}

pub(super) async fn pausing_and_deleting_take_the_deadline_away(store: Store) {
    let watchers = many(&store, 4).await;
    act(&store, watchers[0].id, pause(), at(1)).await;
    act(&store, watchers[1].id, trigger(), at(1)).await;
    act(&store, watchers[1].id, pause(), at(2)).await;
    assert!(store.delete(&Key::Id(watchers[2].id)).await.unwrap());
    assert_eq!(drain(&store, at(61), 10).await, [watchers[3].id]);
    assert_eq!(next_deadline(&store).await, None);
}

pub(super) async fn an_update_moves_the_deadline_either_way(store: Store) {
    let (sooner, later) = (
        insert(&store, draft("Sooner")).await,
        insert(&store, draft("Later")).await,
    );
    act(&store, sooner.id, trigger(), at(10)).await;
    act(&store, sooner.id, with_periodicity(seconds(20.0)), at(11)).await;
    act(&store, later.id, with_periodicity(seconds(120.0)), at(11)).await;
    assert!(next_deadline(&store).await.expect("two are on time") <= at(30));
    assert_eq!(drain(&store, at(30), 10).await, []);
    assert_eq!(drain(&store, at(31), 10).await, [sooner.id]);
    assert_eq!(drain(&store, at(120), 10).await, []);
    assert_eq!(drain(&store, at(121), 10).await, [later.id]);
}

pub(super) async fn whoever_comes_back_has_a_deadline_again(store: Store) {
    let watchers = many(&store, 3).await;
    assert_eq!(drain(&store, at(61), 10).await.len(), 3);
    act(&store, watchers[0].id, trigger(), at(70)).await;
    act(&store, watchers[1].id, pause(), at(70)).await;
    act(&store, watchers[1].id, unpause(), at(80)).await;
    act(
        &store,
        watchers[2].id,
        with_periodicity(seconds(150.0)),
        at(80),
    )
    .await;
    assert_eq!(next_deadline(&store).await, Some(at(130)));
    assert_eq!(drain(&store, at(131), 10).await, [watchers[0].id]);
    assert_eq!(drain(&store, at(141), 10).await, [watchers[1].id]);
    assert_eq!(drain(&store, at(151), 10).await, [watchers[2].id]);
}

pub(super) async fn who_is_set_aside_stands_in_nobodys_way(store: Store) {
    let torn = many(&store, 3).await;
    let other = Draft {
        periodicity: seconds(90.0),
        ..draft("Other")
    };
    let other = insert(&store, other).await.id;
    for watcher in &torn {
        let aside = store.set_aside(&watcher.id, at(61), at(100)).await;
        aside.expect("the store answers");
    }
    assert_eq!(store.overdue(at(61), 1).await.unwrap(), []);
    assert_eq!(next_deadline(&store).await, Some(at(90)));
    assert_eq!(drain(&store, at(91), 1).await, [other]);
    assert!(next_deadline(&store).await.expect("three are on time") <= at(100));
    assert_eq!(drain(&store, at(100), 10).await, []);
    let late = drain(&store, at(101), 2).await;
    check_ids(late, torn.iter().map(|watcher| watcher.id));
    assert_eq!(next_deadline(&store).await, None);
}

pub(super) async fn a_deadline_that_comes_later_is_not_set_aside(store: Store) {
    let [before, after, late, deleted] = ["Before", "After", "Late", "Deleted"].map(draft);
    let before = insert(&store, before).await.id;
    let after = insert(&store, after).await.id;
    let late = insert(&store, late).await.id;
    let deleted = insert(&store, deleted).await.id;
    act(&store, before, trigger(), at(30)).await;
    make_late(&store, late, at(61)).await;
    assert!(store.delete(&Key::Id(deleted)).await.unwrap());
    for id in [before, after, late, deleted] {
        let aside = store.set_aside(&id, at(61), at(1_000)).await;
        aside.expect("the store answers");
    }
    act(&store, after, trigger(), at(70)).await;
    act(&store, late, trigger(), at(80)).await;
    for (second, id) in [(90, before), (130, after), (140, late)] {
        assert_eq!(drain(&store, at(second), 10).await, []);
        assert_eq!(drain(&store, at(second + 1), 10).await, [id]);
    }
    assert_eq!(drain(&store, at(1_001), 10).await, []);
    assert_eq!(next_deadline(&store).await, None);
}

pub(super) async fn who_reports_in_time_is_not_set_aside(store: Store) {
    let [raced, early] = ["Raced", "Early"].map(draft);
    let raced = insert(&store, raced).await.id;
    let early = insert(&store, early).await.id;
    // Just when it was found to be overdue, and by a clock that was far ahead.
    for (id, now, until, reports) in [
        (raced, at(61), at(1_000), at(60)),
        (early, at(10_000), at(10_600), at(50)),
    ] {
        let aside = store.set_aside(&id, now, until).await;
        aside.expect("the store answers");
        let (key, action) = (Key::Id(id), trigger());
        let done = store.transact(&key, &action, reports, Detail::Summary);
        assert!(!done.await.expect("it is there").recovered);
    }
    assert_eq!(drain(&store, at(110), 10).await, []);
    assert_eq!(drain(&store, at(111), 10).await, [early]);
    assert_eq!(drain(&store, at(120), 10).await, []);
    assert_eq!(drain(&store, at(121), 10).await, [raced]);
}

pub(super) async fn a_deadline_at_the_end_of_time_never_passes(store: Store) {
    let watcher = insert_at(&store, draft("Job"), Timestamp::MAX)
        .await
        .watcher;
    assert_eq!(watcher.state.deadline(), Some(Timestamp::MAX));
    assert_eq!(next_deadline(&store).await, Some(Timestamp::MAX));
    assert_eq!(store.overdue(Timestamp::MAX, 10).await.unwrap(), []);
}

pub(super) async fn a_deadline_before_1970_passes(store: Store) {
    let long_ago = Timestamp::MIN;
    let watcher = insert_at(&store, told("Job", &["a@x.example"]), long_ago).await;
    let id = watcher.watcher.id;
    let deadline = long_ago.after(Duration::from_secs(MINUTE));
    assert_eq!(next_deadline(&store).await, Some(deadline));
    assert_eq!(drain(&store, deadline, 10).await, []);
    assert_eq!(drain(&store, deadline.next(), 10).await, [id]);
    assert_eq!(next_delivery(&store).await, Some(deadline.next()));
    assert_eq!(claim(&store, deadline.next()).await.len(), 1);
}

pub(super) async fn racing_schedulers_tell_everything_once(store: Store) {
    let inserted = (0..100)
        .map(async |number| insert(&store, told(&format!("Job {number}"), &["a@x.example"])).await);
    let watchers = together(inserted).await;
    let ids: Vec<WatcherId> = watchers.iter().map(|watcher| watcher.id).collect();
    // Two schedulers and somebody who triggers half of the watchers just as their deadlines pass.
    let notices = race(3, |number| {
        let (store, ids) = (Arc::clone(&store), ids.clone());
        async move {
            let now = at(MINUTE + 1);
            let mut told = HashMap::new();
            let mut count = |done: &Transacted| {
                *told.entry(changed(done).id).or_insert(0) += done.notices.len();
            };
            if number == 2 {
                for id in ids.iter().step_by(2) {
                    count(&act(&store, *id, trigger(), now).await);
                }
                return told;
            }
            while next_deadline(&store).await.is_some_and(|next| next < now) {
                for id in store.overdue(now, 7).await.expect("the store answers") {
                    count(&act(&store, id, Action::PassDeadline, now).await);
                }
            }
            told
        }
    });
    let mut told: HashMap<WatcherId, usize> = HashMap::new();
    for (id, count) in notices.await.into_iter().flatten() {
        *told.entry(id).or_default() += count;
    }
    for (number, id) in ids.iter().enumerate() {
        let expected = if number % 2 == 0 { 2 } else { 1 };
        assert_eq!(told[id], expected, "LATE, and RESUMED if it was triggered");
    }
    let census = Census {
        on_time: 50,
        late: 50,
        owed: 150,
        ..Census::default()
    };
    assert_eq!(store.census().await.unwrap(), census);
}
