//! What every store has to do, written against the port: the same cases run over every store.
//!
//! A case is a plain async function that is given an empty store. It stands in the list in `suite!`, and a
//! store stands in the list in `stores!`; each pair of them is a test of its own.

mod calls;
mod changes;
mod deadlines;
mod deliveries;
mod histories;
mod watchers;

use std::any::Any;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use nights_watch::adapters::storage::memory::MemoryStore;
use nights_watch::adapters::storage::mongodb::MongoStore;
use nights_watch::adapters::storage::sqlite::SqliteStore;
use nights_watch::domain::{
    Action, Comment, Description, Draft, Event, Filter, HistoryPolicy, Name, Periodicity,
    Recipient, Timestamp, Watcher, WatcherId,
};
use nights_watch::ports::{
    Claim, DeliveryReport, DeliveryState, Detail, InsertError, Key, Outcome, Record, TransactError,
    Transacted, WatcherStore,
};
use tokio::sync::Barrier;

use crate::mongodb_server::MongoServer;

/// A store, and what has to stay alive for as long as it is used.
pub(crate) struct Opened {
    pub(crate) store: Store,
    _kept: Box<dyn Any + Send>,
}

pub(crate) type Store = Arc<dyn WatcherStore>;

/// Makes tests of the whole suite for each store, from an async function that opens an empty one.
macro_rules! stores {
    ($($store:ident: $open:ident,)+) => {
        $(mod $store {
            use super::*;
            suite! { $open }
        })+
    };
}

stores! {
    memory: open_memory,
    sqlite: open_sqlite,
    mongodb: open_mongodb,
}

/// The cases. Some want a store that keeps at most so many events of a watcher.
macro_rules! suite {
    ($open:ident) => {
        tests! { $open, watchers:
            an_inserted_watcher_is_found_by_each_key,
            a_name_has_to_be_the_very_same,
            identifiers_and_slugs_are_unique,
            a_watcher_may_come_with_a_history_and_late,
            of_racing_inserts_of_one_slug_one_wins,
            of_racing_inserts_of_one_identifier_one_wins,
            every_field_survives,
            every_character_survives,
            the_list_is_in_the_order_of_the_slugs_bytes,
            pages_neither_lose_nor_repeat,
            filters_hold_alone_and_combined,
            pages_count_only_what_matches,
            the_list_has_histories_if_they_are_wanted,
            deleting_forgets_everything,
            deleting_works_by_each_key,
            deleting_leaves_the_others_alone,
            a_deleted_watcher_is_not_taken_for_a_later_one,
            the_census_counts_what_is_there,
        }
        tests! { $open, changes:
            each_action_is_answered_and_kept_by_id,
            each_action_is_answered_and_kept_by_slug,
            each_action_is_answered_and_kept_by_name,
            only_full_detail_has_a_history,
            a_trigger_is_the_same_whatever_is_asked_for,
            refusals_change_nothing,
            absent_watchers_are_not_found,
            a_slug_that_is_taken_stops_the_whole_update,
            renaming_frees_the_old_slug,
            of_racing_renames_to_one_slug_one_wins,
            racing_triggers_are_all_kept_one_after_another,
            racing_actions_see_each_other,
            readers_see_whole_changes,
        }
        tests! { $open, histories:
            a_history_is_newest_first,
            a_clock_that_steps_back_does_not_reorder_it,
            the_default_limit_holds,
            a_long_history_is_kept_whole (limit 2_000),
            a_small_limit_holds (limit 10),
            a_limit_of_one_holds (limit 1),
            the_newest_hundred_stay_however_old,
            the_last_week_stays_to_the_millisecond,
            a_limit_above_a_hundred_caps_the_last_week (limit 120),
        }
        tests! { $open, deadlines:
            there_is_none_unless_somebody_is_on_time,
            the_instant_of_the_deadline_is_on_time,
            the_next_deadline_is_not_later_than_the_earliest,
            no_more_are_returned_than_asked_for,
            thousands_are_drained,
            a_trigger_moves_the_deadline_on,
            thousands_that_were_triggered_hide_nobody,
            pausing_and_deleting_take_the_deadline_away,
            an_update_moves_the_deadline_either_way,
            whoever_comes_back_has_a_deadline_again,
            who_is_set_aside_stands_in_nobodys_way,
            a_deadline_that_comes_later_is_not_set_aside,
            who_reports_in_time_is_not_set_aside,
            a_deadline_at_the_end_of_time_never_passes,
            a_deadline_before_1970_passes,
            racing_schedulers_tell_everything_once,
            who_watched_last_is_remembered,
            an_outage_puts_deadlines_off,
        }
        tests! { $open, deliveries:
            each_recipient_is_owed_one_at_once,
            nobody_is_owed_nothing,
            notices_survive,
            a_recipient_is_told_in_order,
            recipients_do_not_wait_for_each_other,
            watchers_do_not_wait_for_each_other,
            a_notice_waits_for_one_that_is_claimed,
            a_change_of_recipients_leaves_what_is_owed,
            no_more_are_claimed_than_asked_for_and_the_longest_due_first,
            nobody_else_is_handed_a_claimed_one,
            a_stale_claim_settles_nothing,
            a_claim_nobody_took_over_still_holds,
            a_settled_claim_does_not_settle_again,
            racing_claims_hand_out_each_once,
            racing_settlements_of_one_claim_record_one,
            one_to_be_tried_again_is_due_when_it_was_said,
            retries_keep_the_order,
            a_refused_one_makes_way_and_is_counted,
            refusals_are_counted_by_watcher_and_recipient,
            the_next_delivery_is_what_comes_first,
            a_claim_has_the_events_as_of_the_notice,
            a_claim_has_no_more_events_than_are_kept (limit 5),
            a_claim_has_the_slug_that_the_watcher_has_now,
            deleting_drops_what_is_owed,
            the_oldest_notice_is_that_which_is_owed,
            a_delivery_is_reported_until_it_is_made,
            a_refused_one_is_reported_with_the_reason,
            one_that_waits_for_another_is_reported_as_such,
            the_newest_notice_is_reported_first_to_each_in_order,
            of_what_is_settled_the_last_hundred_are_reported,
            a_claim_that_holds_no_longer_is_not_reported,
            racing_settlements_are_reported_once,
            reports_go_with_their_watcher,
        }
        tests! { $open, calls:
            a_ping_changes_nothing,
            a_closed_store_refuses_everything,
            closing_finishes_what_was_begun,
            dropped_triggers_happen_wholly_or_not_at_all,
            dropped_inserts_happen_wholly_or_not_at_all,
            dropped_claims_come_back,
            dropped_reads_leave_the_store_usable,
        }
    };
}
use suite;

macro_rules! tests {
    ($open:ident, $topic:ident: $($case:ident $((limit $limit:literal))?,)+) => {
        mod $topic {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let policy = HistoryPolicy::default();
                    $(let policy = HistoryPolicy::with_limit($limit).unwrap_or(policy);)?
                    run($open(policy).await, crate::conformance::$topic::$case).await;
                }
            )+
        }
    };
}
use tests;

async fn open_memory(policy: HistoryPolicy) -> Opened {
    Opened {
        store: Arc::new(MemoryStore::new(policy)),
        _kept: Box::new(()),
    }
}

async fn open_sqlite(policy: HistoryPolicy) -> Opened {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("store.db");
    let store = tokio::task::spawn_blocking(move || SqliteStore::open(&path, policy));
    let store = store.await.expect("it does not panic");
    Opened {
        store: Arc::new(store.expect("a store")),
        _kept: Box::new(folder),
    }
}

async fn open_mongodb(policy: HistoryPolicy) -> Opened {
    let database = MongoServer::shared().await.database();
    let store = MongoStore::open(&database.settings(), policy).await;
    Opened {
        store: Arc::new(store.expect("a store")),
        _kept: Box::new(()),
    }
}

/// How long a case may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_mins(3);

async fn run<F: Future<Output = ()>>(opened: Opened, case: impl FnOnce(Store) -> F) {
    let case = case(Arc::clone(&opened.store));
    let ended = tokio::time::timeout(PATIENCE, case).await;
    assert!(ended.is_ok(), "the case hangs");
    opened.store.close().await;
}

// The fixtures: a calendar, a few watchers, and the calls that most cases make.

/// The instant that is `seconds` after the beginning of each case.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_426_730_924_885).after(Duration::from_secs(seconds))
}

const MILLISECOND: Duration = Duration::from_millis(1);

/// How long the watchers of [`draft`] may stay silent, in seconds.
const MINUTE: u64 = 60;

/// A watcher that may be silent for a minute, and of which nobody is told.
fn draft(name: &str) -> Draft {
    Draft {
        name: named(name),
        description: Description::default(),
        periodicity: seconds(60.0),
        recipients: Vec::new(),
        paused: false,
    }
}

/// The same, of which `recipients` are told.
fn told(name: &str, recipients: &[&str]) -> Draft {
    Draft {
        recipients: people(recipients),
        ..draft(name)
    }
}

fn named(name: &str) -> Name {
    Name::parse(name).expect("a name")
}

fn seconds(seconds: f64) -> Periodicity {
    Periodicity::from_seconds(seconds).expect("a periodicity")
}

fn people(addresses: &[&str]) -> Vec<Recipient> {
    addresses.iter().map(|address| person(address)).collect()
}

fn person(address: &str) -> Recipient {
    Recipient::parse(address).expect("an address")
}

fn comment(text: &str) -> Comment {
    Comment::parse(text).expect("a comment")
}

fn trigger() -> Action {
    Action::Trigger(Comment::default())
}

fn pause() -> Action {
    Action::Pause(Comment::default())
}

fn unpause() -> Action {
    Action::Unpause(Comment::default())
}

/// An identifier that nobody else has.
fn fresh_id() -> WatcherId {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let mut rest = LAST.fetch_add(1, Ordering::Relaxed);
    let letters = std::array::from_fn(|_| {
        let letter = b'a' + u8::try_from(rest % 26).unwrap_or(0);
        rest /= 26;
        letter
    });
    WatcherId::from_letters(letters).expect("letters")
}

/// Every way to name `watcher`.
fn keys(watcher: &Watcher) -> [Key; 3] {
    [
        Key::Id(watcher.id),
        Key::Slug(watcher.slug.clone()),
        Key::Name(watcher.name.clone()),
    ]
}

/// Inserts a watcher at the beginning of the case.
async fn insert(store: &Store, draft: Draft) -> Watcher {
    insert_at(store, draft, at(0)).await.watcher
}

/// Inserts a watcher, and returns how it has to be found.
async fn insert_at(store: &Store, draft: Draft, now: Timestamp) -> Record {
    let record = Record::from(Watcher::create(fresh_id(), draft, now));
    let inserted = store.insert(&record).await;
    inserted.expect("it can be inserted");
    record
}

async fn act(store: &Store, id: WatcherId, action: Action, now: Timestamp) -> Transacted {
    let done = try_to(store, id, action, now).await;
    done.expect("it can be done")
}

async fn try_to(
    store: &Store,
    id: WatcherId,
    action: Action,
    now: Timestamp,
) -> Result<Transacted, TransactError> {
    let key = Key::Id(id);
    store.transact(&key, &action, now, Detail::Full).await
}

/// The watcher as a change has left it. After a trigger in time it is sure to be there with [`Detail::Full`] only.
fn changed(done: &Transacted) -> Watcher {
    done.watcher.clone().expect("the watcher")
}

async fn look(store: &Store, id: WatcherId) -> Record {
    let found = store.find(&Key::Id(id)).await.expect("the store answers");
    found.expect("the watcher is there")
}

/// Makes a watcher late, whose deadline has passed by `now`.
async fn make_late(store: &Store, id: WatcherId, now: Timestamp) -> Transacted {
    let done = act(store, id, Action::PassDeadline, now).await;
    assert!(done.after.is_late(), "{done:?}");
    done
}

/// Claims all that is due at `now`, until a minute later.
async fn claim(store: &Store, now: Timestamp) -> Vec<Claim> {
    let lease_end = now.after(Duration::from_secs(MINUTE));
    let claims = store.claim(now, lease_end, 1_000).await;
    claims.expect("the store answers")
}

/// Claims the only delivery that is due at `now`, until a minute later.
async fn claim_one(store: &Store, now: Timestamp) -> Claim {
    let mut claims = claim(store, now).await;
    assert_eq!(claims.len(), 1, "due at {now}: {claims:?}");
    claims.remove(0)
}

async fn settle(store: &Store, claim: &Claim, outcome: Outcome, now: Timestamp) -> bool {
    let held = store.settle(&claim.key, &outcome, now).await;
    held.expect("the store answers")
}

async fn next_delivery(store: &Store) -> Option<Timestamp> {
    store.next_delivery().await.expect("the store answers")
}

async fn next_deadline(store: &Store) -> Option<Timestamp> {
    store.next_deadline().await.expect("the store answers")
}

async fn list_all(store: &Store, detail: Detail) -> Vec<Record> {
    let filter = Filter::default();
    let list = store.list(&filter, None, 10_000, detail).await;
    list.expect("the store answers")
}

/// A delivery failed, and is due again at `at`.
fn try_again(at: Timestamp) -> Outcome {
    let reason = "the server is away".into();
    Outcome::TryAgain { at, reason }
}

async fn reports(store: &Store, id: WatcherId) -> Vec<DeliveryReport> {
    store.deliveries(&id).await.expect("the store answers")
}

/// What is told by these claims, shortly: `late to a@example.com`, in order of the words.
fn told_by(claims: &[Claim]) -> Vec<String> {
    let mut told: Vec<String> = claims
        .iter()
        .map(|claim| {
            let word = claim.delivery.notice.kind.word();
            format!("{word} to {}", claim.delivery.recipient)
        })
        .collect();
    told.sort();
    told
}

/// Makes the calls, a few dozen at a time, and returns the answers in the order of the calls.
async fn together<F: Future>(calls: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    stream::iter(calls).buffered(64).collect().await
}

/// Lets `count` tasks begin at the same time, and returns their answers in the order of the tasks.
async fn race<F, T>(count: usize, mut task: impl FnMut(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let start = Arc::new(Barrier::new(count));
    let mut tasks = Vec::with_capacity(count);
    for number in 0..count {
        let (start, work) = (Arc::clone(&start), task(number));
        tasks.push(tokio::spawn(async move {
            start.wait().await;
            work.await
        }));
    }
    let mut answers = Vec::with_capacity(count);
    for task in tasks {
        answers.push(task.await.expect("it does not panic"));
    }
    answers
}

#[track_caller]
fn check_found(found: Option<Record>, expected: &Record) {
    let found = found.expect("it is found");
    check_record(&found, expected);
}

#[track_caller]
fn check_record(found: &Record, expected: &Record) {
    assert_eq!(found.watcher, expected.watcher);
    check_history(&found.history, &expected.history);
}

/// Compares histories, and shows only where they begin to differ.
#[track_caller]
fn check_history(found: &[Event], expected: &[Event]) {
    for (rank, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "the event with {rank} newer ones");
    }
    assert_eq!(found.len(), expected.len(), "how many events there are");
}

#[track_caller]
fn check_slug_taken<T: Debug>(answer: &Result<T, TransactError>) {
    assert!(
        matches!(answer, Err(TransactError::SlugTaken)),
        "{answer:?}"
    );
}

#[track_caller]
fn check_not_inserted_for_slug(answer: &Result<(), InsertError>) {
    assert!(matches!(answer, Err(InsertError::SlugTaken)), "{answer:?}");
}
