//! How much of a history is kept, as seen through the store.

use nights_watch::domain::HistoryPolicy;

use super::*;

/// Triggers a watcher at each of `instants`, and returns how it has to be found, with all of its events.
async fn triggered_at(store: &Store, instants: impl Iterator<Item = Timestamp>) -> Record {
    let mut expected = insert_at(store, draft("Job"), at(0)).await;
    for (number, now) in instants.enumerate() {
        let action = Action::Trigger(comment(&number.to_string()));
        let key = Key::Id(expected.watcher.id);
        let done = store.transact(&key, &action, now, Detail::Summary).await;
        let done = done.expect("it can be triggered");
        let event = done.event.expect("an event");
        expected.watcher.state = done.after;
        expected.watcher.last_event = event.at;
        expected.history.insert(0, event);
    }
    expected
}

/// Checks every way to read a history.
async fn check_read(store: &Store, expected: &Record) {
    let id = expected.watcher.id;
    check_record(&look(store, id).await, expected);
    let listed = list_all(store, Detail::Full).await;
    check_record(&listed[0], expected);
    // Nothing happens here, so the answer is as it is.
    let action = Action::PassDeadline;
    let done = act(store, id, action, expected.watcher.last_event).await;
    check_history(&done.history, &expected.history);
}

pub(super) async fn a_history_is_newest_first(store: Store) {
    // Several within one millisecond stay in the order in which they came.
    let instants = [1, 1, 1, 2, 2, 30, 30].map(at);
    let expected = triggered_at(&store, instants.into_iter()).await;
    check_read(&store, &expected).await;
}

pub(super) async fn a_clock_that_steps_back_does_not_reorder_it(store: Store) {
    let instants = [10, 50, 20, 20, 40].map(at);
    let expected = triggered_at(&store, instants.into_iter()).await;
    assert_eq!(expected.watcher.last_event, at(40));
    check_read(&store, &expected).await;
}

pub(super) async fn the_default_limit_holds(store: Store) {
    let mut expected = triggered_at(&store, (1..=1_050).map(at)).await;
    expected.history.truncate(HistoryPolicy::DEFAULT_LIMIT);
    check_read(&store, &expected).await;
}

pub(super) async fn a_long_history_is_kept_whole(store: Store) {
    let expected = triggered_at(&store, (1..=1_200).map(at)).await;
    assert_eq!(expected.history.len(), 1_201);
    check_read(&store, &expected).await;
}

pub(super) async fn a_small_limit_holds(store: Store) {
    let mut expected = triggered_at(&store, (1..=9).map(at)).await;
    check_read(&store, &expected).await;
    for number in 10..=40 {
        let done = act(&store, expected.watcher.id, trigger(), at(number)).await;
        expected.watcher = changed(&done);
        expected.history.insert(0, done.event.expect("an event"));
        expected.history.truncate(10);
        check_history(&done.history, &expected.history);
    }
    check_read(&store, &expected).await;
}

pub(super) async fn a_limit_of_one_holds(store: Store) {
    let mut expected = triggered_at(&store, (1..=3).map(at)).await;
    expected.history.truncate(1);
    check_read(&store, &expected).await;
}

pub(super) async fn the_newest_hundred_stay_however_old(store: Store) {
    let mut expected = triggered_at(&store, (1..=149).map(at)).await;
    assert_eq!(expected.history.len(), 150);
    check_read(&store, &expected).await;

    let years_later = at(2 * 365 * 86_400);
    let done = act(&store, expected.watcher.id, trigger(), years_later).await;
    expected.watcher = changed(&done);
    expected.history.insert(0, done.event.expect("an event"));
    expected.history.truncate(HistoryPolicy::ALWAYS);
    check_read(&store, &expected).await;
}

pub(super) async fn the_last_week_stays_to_the_millisecond(store: Store) {
    // One a second for a while, and one more a week after the thirty-first second.
    let mut expected = triggered_at(&store, (1..=150).map(at)).await;
    let newest = at(31).after(HistoryPolicy::AGE);
    let done = act(&store, expected.watcher.id, trigger(), newest).await;
    expected.watcher = changed(&done);
    expected.history.insert(0, done.event.expect("an event"));
    expected.history.retain(|event| event.at >= at(31));
    assert_eq!(expected.history.len(), 121);
    check_read(&store, &expected).await;

    // A millisecond more, and the oldest of these goes.
    let done = act(&store, expected.watcher.id, trigger(), newest.next()).await;
    expected.watcher = changed(&done);
    expected.history.insert(0, done.event.expect("an event"));
    expected.history.retain(|event| event.at > at(31));
    assert_eq!(expected.history.len(), 121);
    check_read(&store, &expected).await;
}

pub(super) async fn a_limit_above_a_hundred_caps_the_last_week(store: Store) {
    let mut expected = triggered_at(&store, (1..=150).map(at)).await;
    expected.history.truncate(120);
    check_read(&store, &expected).await;
}
