//! Calls as such: that they can be dropped, that a store can be closed, and what a ping does.

use std::pin::pin;
use std::task::Poll;

use nights_watch::domain::{Filter, State};
use nights_watch::ports::{Census, StoreError};

use super::*;

/// Begins a call and drops it after it has been polled so many times, unless it has answered before.
async fn drop_after<F: Future>(polls: usize, call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    for _ in 0..polls {
        let poll = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        if let Poll::Ready(answer) = poll {
            return Some(answer);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[track_caller]
fn check_unavailable<T: Debug>(answer: Result<T, impl Into<AnyError>>) {
    match answer.map_err(Into::into) {
        Err(AnyError(Some(StoreError::Unavailable(_)))) => {}
        Ok(answer) => panic!("a closed store answered: {answer:?}"),
        Err(AnyError(other)) => panic!("not the store's fault: {other:?}"),
    }
}

/// The store's part in an error, if it has one.
struct AnyError(Option<StoreError>);

impl From<StoreError> for AnyError {
    fn from(error: StoreError) -> Self {
        Self(Some(error))
    }
}

impl From<InsertError> for AnyError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Store(error) => Self(Some(error)),
            _ => Self(None),
        }
    }
}

impl From<TransactError> for AnyError {
    fn from(error: TransactError) -> Self {
        match error {
            TransactError::Store(error) => Self(Some(error)),
            _ => Self(None),
        }
    }
}

pub(super) async fn a_ping_changes_nothing(store: Store) {
    store.ping().await.expect("the store is there");
    assert_eq!(store.census().await.unwrap(), Census::default());
    assert_eq!(list_all(&store, Detail::Full).await, []);
    let watcher = insert(&store, told("Job", &["a@x.example"])).await;
    act(&store, watcher.id, trigger(), at(100)).await;
    let (before, census) = (look(&store, watcher.id).await, store.census().await);
    for _ in 0..5 {
        store.ping().await.expect("the store is there");
    }
    check_record(&look(&store, watcher.id).await, &before);
    assert_eq!(store.census().await.unwrap(), census.unwrap());
    assert_eq!(next_delivery(&store).await, Some(at(100)));
}

pub(super) async fn a_closed_store_refuses_everything(store: Store) {
    let watcher = insert(&store, told("Job", &["a@x.example"])).await;
    make_late(&store, watcher.id, at(100)).await;
    let claimed = claim_one(&store, at(100)).await;
    store.close().await;
    store.close().await;

    let key = Key::Id(watcher.id);
    let other = Watcher::create(fresh_id(), draft("Other"), at(1));
    check_unavailable(store.insert(&other.into()).await);
    check_unavailable(
        store
            .transact(&key, &trigger(), at(101), Detail::Full)
            .await,
    );
    check_unavailable(store.find(&key).await);
    check_unavailable(store.list(&Filter::default(), None, 10, Detail::Full).await);
    check_unavailable(store.delete(&key).await);
    check_unavailable(store.next_deadline().await);
    check_unavailable(store.overdue(at(200), 10).await);
    check_unavailable(store.next_delivery().await);
    check_unavailable(store.claim(at(200), at(300), 10).await);
    check_unavailable(
        store
            .settle(&claimed.key, &Outcome::Delivered, at(101))
            .await,
    );
    check_unavailable(store.deliveries(&watcher.id).await);
    check_unavailable(store.census().await);
    check_unavailable(store.ping().await);
    store.close().await;
}

pub(super) async fn closing_finishes_what_was_begun(store: Store) {
    let id = insert(&store, draft("Job")).await.id;
    let answers = race(64, |number| {
        let store = Arc::clone(&store);
        async move {
            if number == 63 {
                tokio::task::yield_now().await;
                store.close().await;
            }
            let now = at(number as u64);
            try_to(&store, id, trigger(), now).await
        }
    });
    // Each is answered, one way or the other; and what was answered stood in what was answered after it.
    let mut lengths = Vec::new();
    for answer in answers.await {
        match answer {
            Ok(done) => lengths.push(done.history.len()),
            Err(error) => check_unavailable::<()>(Err(error)),
        }
    }
    lengths.sort_unstable();
    let expected: Vec<usize> = (2..lengths.len() + 2).collect();
    assert_eq!(lengths, expected);
}

pub(super) async fn dropped_triggers_happen_wholly_or_not_at_all(store: Store) {
    let mut late = Vec::new();
    for number in 0..60 {
        let draft = told(&format!("Job {number}"), &["a@x.example"]);
        let watcher = insert(&store, draft).await;
        make_late(&store, watcher.id, at(100)).await;
        late.push(watcher.id);
    }
    for (number, id) in late.iter().enumerate() {
        let (key, action) = (Key::Id(*id), trigger());
        let call = store.transact(&key, &action, at(110), Detail::Full);
        drop_after(1 + number % 4, call).await;
    }
    // The store is usable at once, whatever of these is still under way.
    let other = insert(&store, draft("Other")).await;
    act(&store, other.id, trigger(), at(1)).await;
    for claimed in claim(&store, at(110)).await {
        assert_eq!(claimed.delivery.notice.kind.word(), "late");
        let id = claimed.key.watcher;
        let before = look(&store, id).await;
        assert!(settle(&store, &claimed, Outcome::Delivered, at(111)).await);
        let resumed = claim(&store, at(111)).await;
        let after = look(&store, id).await;
        for found in [&before, &after] {
            let is_triggered = matches!(found.watcher.state, State::OnTime { .. });
            let events = if is_triggered { 2 } else { 1 };
            assert_eq!(found.history.len(), events, "{:?}", found.watcher);
            assert_eq!(found.watcher.last_event, found.history[0].at);
        }
        let is_resumed = resumed.iter().any(|claim| claim.key.watcher == id);
        if !before.watcher.state.is_late() {
            assert!(is_resumed, "the change without its notice");
        }
        if after.watcher.state.is_late() {
            assert!(!is_resumed, "the notice without its change");
        }
    }
}

pub(super) async fn dropped_inserts_happen_wholly_or_not_at_all(store: Store) {
    let mut begun = Vec::new();
    for number in 0..100 {
        let job = Watcher::create(fresh_id(), draft(&format!("Job {number}")), at(0));
        let record = Record::from(job);
        drop_after(1 + number % 4, store.insert(&record)).await;
        begun.push(record);
    }
    insert(&store, draft("Other")).await;
    for expected in begun {
        let key = Key::Id(expected.watcher.id);
        let found = store.find(&key).await.unwrap();
        // What did not happen can be done again, and what did happen is there already.
        match store.insert(&expected).await {
            Ok(()) => assert_eq!(found, None),
            Err(InsertError::IdTaken | InsertError::SlugTaken) => {}
            Err(error) => panic!("{error}"),
        }
        check_found(store.find(&key).await.unwrap(), &expected);
    }
    assert_eq!(list_all(&store, Detail::Full).await.len(), 101);
}

pub(super) async fn dropped_claims_come_back(store: Store) {
    for number in 0..20 {
        let watcher = insert(&store, told(&format!("Job {number}"), &["a@x.example"])).await;
        make_late(&store, watcher.id, at(100)).await;
    }
    for number in 0..20 {
        drop_after(1 + number % 4, store.claim(at(100), at(130), 1)).await;
    }
    // Whatever of these took effect, nothing is lost once their leases have ended.
    let claims = store.claim(at(130), at(160), 100).await.unwrap();
    assert_eq!(claims.len(), 20);
    for (number, claimed) in claims.iter().enumerate() {
        let outcome = Outcome::Delivered;
        let call = store.settle(&claimed.key, &outcome, at(131));
        drop_after(1 + number % 4, call).await;
    }
    // Whatever of these takes effect has done so by the time that another change has.
    store.ping().await.unwrap();
    let rest = store.claim(at(160), at(190), 100).await.unwrap();
    let census = store.census().await.unwrap();
    assert_eq!(census.owed, rest.len() as u64);
    for claimed in &rest {
        assert!(settle(&store, claimed, Outcome::Delivered, at(161)).await);
    }
    assert_eq!(store.census().await.unwrap().owed, 0);
    assert_eq!(next_delivery(&store).await, None);
}

pub(super) async fn dropped_reads_leave_the_store_usable(store: Store) {
    let watcher = insert(&store, draft("Job")).await;
    let key = Key::Id(watcher.id);
    let filter = Filter::default();
    for number in 0..60 {
        let polls = 1 + number % 3;
        drop_after(polls, store.find(&key)).await;
        drop_after(polls, store.list(&filter, None, 10, Detail::Full)).await;
        drop_after(polls, store.next_deadline()).await;
        drop_after(polls, store.census()).await;
        drop_after(polls, store.deliveries(&watcher.id)).await;
        drop_after(polls, store.overdue(at(1), 10)).await;
        drop_after(polls, store.ping()).await;
    }
    assert_eq!(look(&store, watcher.id).await.watcher, watcher);
    act(&store, watcher.id, trigger(), at(1)).await;
}
