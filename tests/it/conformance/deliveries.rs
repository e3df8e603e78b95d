//! What is owed to recipients: what the delivery loop relies on.

use std::collections::HashSet;

use nights_watch::domain::{Notice, NoticeKind, Slug, Update};
use nights_watch::ports::{Census, Reason, Told};

use super::*;

/// The first instant at which a watcher of [`draft`] is late.
fn late_at() -> Timestamp {
    at(MINUTE).next()
}

/// Inserts a watcher that is late, and returns it with its notice.
async fn late(store: &Store, name: &str, recipients: &[&str]) -> (Watcher, Notice) {
    let watcher = insert(store, told(name, recipients)).await;
    let done = make_late(store, watcher.id, late_at()).await;
    let notice = done.notices.into_iter().next();
    (
        done.watcher.expect("the watcher"),
        notice.expect("there are recipients"),
    )
}

async fn oldest(store: &Store) -> Option<Timestamp> {
    store.oldest_notice().await.expect("it answers")
}

pub(super) async fn the_oldest_notice_is_that_which_is_owed(store: Store) {
    assert_eq!(oldest(&store).await, None);
    let (first, notice) = late(&store, "First", &["a@x.example", "b@x.example"]).await;
    let unheard = insert(&store, draft("Unheard")).await;
    make_late(&store, unheard.id, late_at()).await;
    let second = insert(&store, told("Second", &["a@x.example"])).await;
    make_late(&store, second.id, at(10 * MINUTE)).await;
    act(&store, first.id, trigger(), at(20 * MINUTE)).await;
    assert_eq!(oldest(&store).await, Some(notice.at));

    let mut claims = claim(&store, at(20 * MINUTE)).await;
    claims.retain(|claim| claim.key.watcher == first.id);
    assert_eq!(
        oldest(&store).await,
        Some(notice.at),
        "a claim changes nothing"
    );
    assert!(settle(&store, &claims[0], refused(), at(20 * MINUTE)).await);
    assert_eq!(
        oldest(&store).await,
        Some(notice.at),
        "one is still owed it"
    );
    let again = try_again(at(30 * MINUTE));
    assert!(settle(&store, &claims[1], again, at(20 * MINUTE)).await);
    assert_eq!(oldest(&store).await, Some(notice.at));
    assert!(store.delete(&Key::Id(first.id)).await.unwrap());
    assert_eq!(oldest(&store).await, Some(at(10 * MINUTE)));
    assert!(store.delete(&Key::Id(second.id)).await.unwrap());
    assert_eq!(oldest(&store).await, None);
}

fn refused() -> Outcome {
    Outcome::Refused("no such mailbox".into())
}

#[track_caller]
fn check_counts(census: Census, owed: u64, refused: u64) {
    assert_eq!(
        (census.owed, census.refused),
        (owed, refused),
        "owed, refused"
    );
}

/// Compares a claim with the notice it delivers. Whom else the notice goes to is of no interest.
#[track_caller]
fn check_notice(claim: &Claim, notice: &Notice) {
    let found = Notice {
        recipients: Vec::new(),
        ..claim.delivery.notice.clone()
    };
    let expected = Notice {
        recipients: Vec::new(),
        ..notice.clone()
    };
    assert_eq!(found, expected);
}

pub(super) async fn each_recipient_is_owed_one_at_once(store: Store) {
    let people = ["a@x.example", "b@x.example", "c@x.example"];
    let (watcher, notice) = late(&store, "Job", &people).await;
    check_counts(store.census().await.unwrap(), 3, 0);
    assert_eq!(next_delivery(&store).await, Some(late_at()));
    let claims = claim(&store, late_at()).await;
    assert_eq!(
        told_by(&claims),
        [
            "late to a@x.example",
            "late to b@x.example",
            "late to c@x.example"
        ]
    );
    for claim in &claims {
        check_notice(claim, &notice);
        assert_eq!(claim.key.watcher, watcher.id);
        assert_eq!(claim.delivery.attempts, 0);
    }
}

pub(super) async fn nobody_is_owed_nothing(store: Store) {
    let watcher = insert(&store, draft("Job")).await;
    make_late(&store, watcher.id, late_at()).await;
    act(&store, watcher.id, trigger(), at(70)).await;
    check_counts(store.census().await.unwrap(), 0, 0);
    assert_eq!(next_delivery(&store).await, None);
    assert_eq!(claim(&store, at(1_000)).await, []);
}

pub(super) async fn notices_survive(store: Store) {
    let drafts = [
        told("Plain", &["a@x.example"]),
        Draft {
            description: Description::parse("Größe\0 東京\r\n\"quoted\" \\ \u{1F980}").unwrap(),
            periodicity: seconds(0.001),
            recipients: people(&["jörg@exämple.de"]),
            ..draft("Größe 東京 \u{1F980} \"quoted\" \\")
        },
        Draft {
            description: Description::parse(&"é".repeat(Description::MAX_CHARS)).unwrap(),
            periodicity: seconds(12_345.678),
            ..told(&"é".repeat(Name::MAX_CHARS), &["root@localhost"])
        },
    ];
    for draft in drafts {
        let recipient = draft.recipients[0].clone();
        let watcher = insert(&store, draft).await;
        let deadline = watcher.state.deadline().unwrap();
        let done = make_late(&store, watcher.id, deadline.next()).await;
        let told_late = &done.notices[0];
        let late = claim_one(&store, deadline.next()).await;
        check_notice(&late, told_late);
        assert_eq!(late.delivery.recipient, recipient);

        let now = deadline.after(Duration::from_millis(1_234));
        let done = act(&store, watcher.id, trigger(), now).await;
        assert!(settle(&store, &late, Outcome::Delivered, now).await);
        let resumed = claim_one(&store, now).await;
        check_notice(&resumed, &done.notices[0]);
        assert_eq!(resumed.delivery.recipient, recipient);
        let kind = NoticeKind::Resumed {
            late: Some(told_late.id),
            next_deadline: watcher.periodicity.after(now),
        };
        assert_eq!(resumed.delivery.notice.kind, kind);
        assert!(store.delete(&Key::Id(watcher.id)).await.unwrap());
    }
}

pub(super) async fn a_recipient_is_told_in_order(store: Store) {
    let watcher = insert(&store, told("Job", &["a@x.example"])).await;
    let mut notices = Vec::new();
    for round in 1..=3 {
        let done = act(&store, watcher.id, trigger(), at(round * 100)).await;
        notices.extend(done.notices);
    }
    assert_eq!(notices.len(), 6, "three times LATE and RESUMED");
    check_counts(store.census().await.unwrap(), 6, 0);
    for (number, notice) in notices.iter().enumerate() {
        let now = at(400 + number as u64);
        let claimed = claim_one(&store, now).await;
        check_notice(&claimed, notice);
        assert_eq!(claim(&store, now).await, [], "the next one waits");
        assert!(settle(&store, &claimed, Outcome::Delivered, now.next()).await);
        let next_due = (number < 5).then_some(now.next());
        assert_eq!(next_delivery(&store).await, next_due);
    }
    check_counts(store.census().await.unwrap(), 0, 0);
}

pub(super) async fn recipients_do_not_wait_for_each_other(store: Store) {
    let (watcher, _) = late(&store, "Job", &["a@x.example", "b@x.example"]).await;
    act(&store, watcher.id, trigger(), at(70)).await;
    let claims = claim(&store, at(70)).await;
    assert_eq!(
        told_by(&claims),
        ["late to a@x.example", "late to b@x.example"]
    );
    let to_b = claims
        .iter()
        .find(|claim| claim.delivery.recipient == person("b@x.example"));
    assert!(settle(&store, to_b.unwrap(), Outcome::Delivered, at(71)).await);
    assert_eq!(
        told_by(&claim(&store, at(71)).await),
        ["resumed to b@x.example"]
    );
}

pub(super) async fn watchers_do_not_wait_for_each_other(store: Store) {
    let (one, first) = late(&store, "One", &["a@x.example"]).await;
    act(&store, one.id, trigger(), at(70)).await;
    let claimed = claim_one(&store, at(70)).await;
    check_notice(&claimed, &first);
    let (two, second) = late(&store, "Two", &["a@x.example"]).await;
    act(&store, two.id, trigger(), at(80)).await;
    let claimed = claim_one(&store, at(80)).await;
    check_notice(&claimed, &second);
    assert!(settle(&store, &claimed, Outcome::Delivered, at(81)).await);
    let resumed = claim_one(&store, at(81)).await;
    assert_eq!(
        resumed.key.watcher, two.id,
        "that of the other one still waits"
    );
}

pub(super) async fn a_notice_waits_for_one_that_is_claimed(store: Store) {
    let (watcher, _) = late(&store, "Job", &["a@x.example"]).await;
    let claimed = claim_one(&store, late_at()).await;
    act(&store, watcher.id, trigger(), at(70)).await;
    assert_eq!(claim(&store, at(70)).await, []);
    assert!(settle(&store, &claimed, Outcome::Delivered, at(71)).await);
    let resumed = claim(&store, at(71)).await;
    assert_eq!(told_by(&resumed), ["resumed to a@x.example"]);
}

pub(super) async fn a_change_of_recipients_leaves_what_is_owed(store: Store) {
    let (watcher, _) = late(&store, "Job", &["a@x.example", "b@x.example"]).await;
    let update = Update {
        name: Some(named("Renamed")),
        recipients: Some(people(&["b@x.example", "c@x.example"])),
        ..Update::default()
    };
    act(&store, watcher.id, Action::Update(update), at(65)).await;
    act(&store, watcher.id, trigger(), at(70)).await;
    let claims = claim(&store, at(70)).await;
    assert_eq!(
        told_by(&claims),
        [
            "late to a@x.example",
            "late to b@x.example",
            "resumed to c@x.example"
        ]
    );
    for claim in &claims {
        assert!(settle(&store, claim, Outcome::Delivered, at(71)).await);
    }
    let rest = claim_one(&store, at(71)).await;
    assert_eq!(
        told_by(std::slice::from_ref(&rest)),
        ["resumed to b@x.example"]
    );
    assert_eq!(rest.delivery.notice.name, named("Renamed"));
}

pub(super) async fn no_more_are_claimed_than_asked_for_and_the_longest_due_first(store: Store) {
    // They become due in another order than that of their names or insertion.
    let mut expected = Vec::new();
    for number in 0_u64..12 {
        let draft = Draft {
            periodicity: seconds(1.0),
            ..told(&format!("Job {number}"), &["a@x.example"])
        };
        let watcher = insert(&store, draft).await;
        let due = at(100 + number * 7 % 12);
        make_late(&store, watcher.id, due).await;
        expected.push((due, watcher.id));
    }
    expected.sort();
    assert_eq!(next_delivery(&store).await, Some(at(100)));
    let mut claimed = Vec::new();
    for limit in [1, 2, 5] {
        let claims = store.claim(at(110), at(200), limit).await.unwrap();
        assert_eq!(claims.len(), limit);
        claimed.extend(claims.into_iter().map(|claim| claim.key.watcher));
    }
    let claims = store.claim(at(110), at(200), usize::MAX).await.unwrap();
    assert_eq!(claims.len(), 3, "the twelfth is not due yet");
    claimed.extend(claims.into_iter().map(|claim| claim.key.watcher));
    let expected: Vec<WatcherId> = expected.into_iter().map(|(_, id)| id).collect();
    assert_eq!(claimed, expected[..11]);
    assert_eq!(store.claim(at(111), at(200), 0).await.unwrap(), []);
    assert_eq!(claim_one(&store, at(111)).await.key.watcher, expected[11]);
}

pub(super) async fn nobody_else_is_handed_a_claimed_one(store: Store) {
    late(&store, "Job", &["a@x.example"]).await;
    let (now, lease_end) = (at(100), at(130));
    let first = store.claim(now, lease_end, 10).await.unwrap().remove(0);
    for early in [now, at(101), lease_end.before(MILLISECOND)] {
        assert_eq!(
            store.claim(early, at(500), 10).await.unwrap(),
            [],
            "{early}"
        );
    }
    let second = store.claim(lease_end, at(200), 10).await.unwrap().remove(0);
    assert_eq!(
        second.delivery, first.delivery,
        "a lease that ends is no attempt"
    );
    assert_eq!(second.events, first.events);
    assert_ne!(second.key, first.key);
    assert_eq!(store.claim(at(199), at(500), 10).await.unwrap(), []);
}

pub(super) async fn a_stale_claim_settles_nothing(store: Store) {
    let (watcher, _) = late(&store, "Job", &["a@x.example"]).await;
    act(&store, watcher.id, trigger(), at(70)).await;
    let stale = store.claim(at(100), at(130), 10).await.unwrap().remove(0);
    let held = store.claim(at(130), at(160), 10).await.unwrap().remove(0);
    for outcome in [Outcome::Delivered, try_again(at(131)), refused()] {
        assert!(!settle(&store, &stale, outcome, at(131)).await);
        check_counts(store.census().await.unwrap(), 2, 0);
        assert_eq!(next_delivery(&store).await, Some(at(160)));
    }
    assert!(settle(&store, &held, Outcome::Delivered, at(132)).await);
    for outcome in [Outcome::Delivered, try_again(at(131)), refused()] {
        assert!(!settle(&store, &stale, outcome, at(133)).await);
    }
    check_counts(store.census().await.unwrap(), 1, 0);
    assert_eq!(
        told_by(&claim(&store, at(133)).await),
        ["resumed to a@x.example"]
    );
}

pub(super) async fn a_claim_nobody_took_over_still_holds(store: Store) {
    late(&store, "One", &["a@x.example"]).await;
    let claimed = store.claim(at(100), at(130), 10).await.unwrap().remove(0);
    assert!(settle(&store, &claimed, Outcome::Delivered, at(1_000)).await);
    check_counts(store.census().await.unwrap(), 0, 0);
}

pub(super) async fn a_settled_claim_does_not_settle_again(store: Store) {
    late(&store, "Job", &["a@x.example"]).await;
    let first = claim_one(&store, at(100)).await;
    assert!(settle(&store, &first, try_again(at(105)), at(101)).await);
    for outcome in [try_again(at(110)), Outcome::Delivered, refused()] {
        assert!(!settle(&store, &first, outcome, at(102)).await);
    }
    let second = claim_one(&store, at(105)).await;
    assert_eq!(second.delivery.attempts, 1);
    assert!(!settle(&store, &first, Outcome::Delivered, at(106)).await);
    assert!(settle(&store, &second, refused(), at(106)).await);
    for claim in [&first, &second] {
        for outcome in [try_again(at(110)), Outcome::Delivered, refused()] {
            assert!(!settle(&store, claim, outcome, at(107)).await);
        }
    }
    check_counts(store.census().await.unwrap(), 0, 1);
    assert_eq!(next_delivery(&store).await, None);
}

pub(super) async fn racing_claims_hand_out_each_once(store: Store) {
    let people: Vec<String> = (0..10)
        .map(|number| format!("p{number}@x.example"))
        .collect();
    let people: Vec<&str> = people.iter().map(String::as_str).collect();
    for number in 0..10 {
        late(&store, &format!("Job {number}"), &people).await;
    }
    let claims = race(8, |_| {
        let store = Arc::clone(&store);
        async move {
            let mut all = Vec::new();
            loop {
                let claims = store.claim(at(100), at(200), 3).await;
                let claims = claims.expect("the store answers");
                if claims.is_empty() {
                    return all;
                }
                all.extend(claims);
            }
        }
    });
    let claims = claims.await.concat();
    let distinct: HashSet<_> = claims
        .iter()
        .map(|claim| (claim.key.watcher, claim.delivery.recipient.clone()))
        .collect();
    assert_eq!((claims.len(), distinct.len()), (100, 100));
}

pub(super) async fn racing_settlements_of_one_claim_record_one(store: Store) {
    late(&store, "Job", &["a@x.example"]).await;
    let claimed = claim_one(&store, at(100)).await;
    let answers = race(8, |_| {
        let (store, claimed) = (Arc::clone(&store), claimed.clone());
        async move { settle(&store, &claimed, try_again(at(110)), at(101)).await }
    });
    let held = answers.await.into_iter().filter(|held| *held).count();
    assert_eq!(held, 1);
    assert_eq!(claim_one(&store, at(110)).await.delivery.attempts, 1);
}

pub(super) async fn one_to_be_tried_again_is_due_when_it_was_said(store: Store) {
    let (_, notice) = late(&store, "Job", &["a@x.example"]).await;
    let mut now = at(100);
    for attempts in 0..5 {
        let claimed = claim_one(&store, now).await;
        check_notice(&claimed, &notice);
        assert_eq!(claimed.delivery.attempts, attempts);
        let due = now.after(Duration::from_millis(2_345));
        assert!(settle(&store, &claimed, try_again(due), now.next()).await);
        assert_eq!(next_delivery(&store).await, Some(due));
        assert_eq!(claim(&store, due.before(MILLISECOND)).await, []);
        now = due;
    }
    check_counts(store.census().await.unwrap(), 1, 0);
    let claimed = claim_one(&store, now).await;
    assert!(settle(&store, &claimed, Outcome::Delivered, now).await);
    check_counts(store.census().await.unwrap(), 0, 0);
    assert_eq!(next_delivery(&store).await, None);
}

pub(super) async fn retries_keep_the_order(store: Store) {
    let (watcher, _) = late(&store, "Job", &["a@x.example"]).await;
    act(&store, watcher.id, trigger(), at(70)).await;
    let claimed = claim_one(&store, at(70)).await;
    assert!(settle(&store, &claimed, try_again(at(500)), at(71)).await);
    assert_eq!(next_delivery(&store).await, Some(at(500)));
    assert_eq!(
        claim(&store, at(499)).await,
        [],
        "the next one waits as well"
    );
    let claims = claim(&store, at(600)).await;
    assert_eq!(told_by(&claims), ["late to a@x.example"]);
}

pub(super) async fn a_refused_one_makes_way_and_is_counted(store: Store) {
    let watcher = insert(&store, told("Job", &["a@x.example"])).await;
    for round in 1..=2 {
        act(&store, watcher.id, trigger(), at(round * 100)).await;
    }
    check_counts(store.census().await.unwrap(), 4, 0);

    let claimed = claim_one(&store, at(300)).await;
    assert!(settle(&store, &claimed, refused(), at(301)).await);
    check_counts(store.census().await.unwrap(), 3, 1);
    assert_eq!(
        next_delivery(&store).await,
        Some(at(301)),
        "the next is due"
    );

    let claimed = claim_one(&store, at(301)).await;
    assert_eq!(claimed.delivery.notice.kind.word(), "resumed");
    assert!(settle(&store, &claimed, try_again(at(303)), at(302)).await);
    check_counts(store.census().await.unwrap(), 3, 1);

    let claimed = claim_one(&store, at(303)).await;
    assert!(settle(&store, &claimed, refused(), at(304)).await);
    check_counts(store.census().await.unwrap(), 2, 1);

    let claimed = claim_one(&store, at(305)).await;
    assert!(settle(&store, &claimed, Outcome::Delivered, at(306)).await);
    check_counts(store.census().await.unwrap(), 1, 0);

    let claimed = claim_one(&store, at(307)).await;
    assert!(settle(&store, &claimed, refused(), at(308)).await);
    check_counts(store.census().await.unwrap(), 0, 1);
    assert_eq!(
        next_delivery(&store).await,
        None,
        "nobody waits for a refused one"
    );
    assert_eq!(claim(&store, at(100_000)).await, []);

    // It is in nobody's way.
    make_late(&store, watcher.id, at(1_000)).await;
    check_counts(store.census().await.unwrap(), 1, 1);
    let claimed = claim_one(&store, at(1_000)).await;
    assert!(settle(&store, &claimed, Outcome::Delivered, at(1_001)).await);
    check_counts(store.census().await.unwrap(), 0, 0);
}

pub(super) async fn refusals_are_counted_by_watcher_and_recipient(store: Store) {
    let (one, _) = late(&store, "One", &["a@x.example", "b@x.example"]).await;
    let (two, _) = late(&store, "Two", &["a@x.example"]).await;
    for claimed in claim(&store, at(100)).await {
        assert!(settle(&store, &claimed, refused(), at(101)).await);
    }
    check_counts(store.census().await.unwrap(), 0, 3);
    act(&store, two.id, trigger(), at(110)).await;
    let claimed = claim_one(&store, at(110)).await;
    assert!(settle(&store, &claimed, Outcome::Delivered, at(111)).await);
    check_counts(store.census().await.unwrap(), 0, 2);
    assert!(store.delete(&Key::Id(one.id)).await.unwrap());
    check_counts(store.census().await.unwrap(), 0, 0);
}

pub(super) async fn the_next_delivery_is_what_comes_first(store: Store) {
    assert_eq!(next_delivery(&store).await, None);
    let (watcher, _) = late(&store, "Job", &["a@x.example", "b@x.example"]).await;
    assert_eq!(next_delivery(&store).await, Some(late_at()));
    let one = store.claim(at(100), at(130), 1).await.unwrap().remove(0);
    assert_eq!(
        next_delivery(&store).await,
        Some(late_at()),
        "one is due still"
    );
    let two = store.claim(at(100), at(140), 1).await.unwrap().remove(0);
    assert_eq!(
        next_delivery(&store).await,
        Some(at(130)),
        "the first lease"
    );
    act(&store, watcher.id, trigger(), at(110)).await;
    assert_eq!(
        next_delivery(&store).await,
        Some(at(130)),
        "what waits is not due"
    );
    assert!(settle(&store, &one, try_again(at(150)), at(111)).await);
    assert_eq!(
        next_delivery(&store).await,
        Some(at(140)),
        "the second lease"
    );
    assert!(settle(&store, &two, Outcome::Delivered, at(112)).await);
    assert_eq!(
        next_delivery(&store).await,
        Some(at(112)),
        "the one behind it"
    );
    let resumed = claim_one(&store, at(112)).await;
    assert!(settle(&store, &resumed, Outcome::Delivered, at(113)).await);
    assert_eq!(next_delivery(&store).await, Some(at(150)), "the retry");
}

pub(super) async fn a_claim_has_the_events_as_of_the_notice(store: Store) {
    let watcher = insert(&store, told("Job", &["a@x.example"])).await;
    for number in 1..=20 {
        let said = Action::Trigger(comment(&number.to_string()));
        act(&store, watcher.id, said, at(number)).await;
    }
    let as_of_late = make_late(&store, watcher.id, at(100)).await.history;
    let early = claim_one(&store, at(100)).await;
    assert_eq!(as_of_late.len(), 21);
    check_history(&early.events, &as_of_late[..Notice::EVENTS_SHOWN]);

    let as_of_resumed = act(&store, watcher.id, trigger(), at(110)).await.history;
    for number in 111..=130 {
        let said = Action::Trigger(comment(&number.to_string()));
        act(&store, watcher.id, said, at(number)).await;
    }
    let again = claim_one(&store, at(200)).await;
    check_history(&again.events, &early.events);
    assert!(settle(&store, &again, Outcome::Delivered, at(201)).await);
    let resumed = claim_one(&store, at(201)).await;
    check_history(&resumed.events, &as_of_resumed[..Notice::EVENTS_SHOWN]);

    let (young, _) = late(&store, "Young", &["a@x.example"]).await;
    let claimed = claim_one(&store, at(202)).await;
    check_history(&claimed.events, &look(&store, young.id).await.history);
}

pub(super) async fn a_claim_has_no_more_events_than_are_kept(store: Store) {
    let watcher = insert(&store, told("Job", &["a@x.example"])).await;
    for number in 1..=20 {
        act(&store, watcher.id, trigger(), at(number)).await;
    }
    let as_of_late = make_late(&store, watcher.id, at(100)).await.history;
    for number in 101..=103 {
        act(&store, watcher.id, trigger(), at(number)).await;
    }
    let claimed = claim_one(&store, at(200)).await;
    check_history(&claimed.events, &as_of_late[..2]);
}

pub(super) async fn a_claim_has_the_slug_that_the_watcher_has_now(store: Store) {
    let mut watcher = Watcher::create(fresh_id(), told("Job", &["a@x.example"]), at(0));
    // As another program may make it.
    watcher.0.slug = Slug::from_text("Job_1".to_owned());
    store.insert(&watcher.clone().into()).await.unwrap();
    let (watcher, _) = watcher;
    make_late(&store, watcher.id, late_at()).await;
    let early = claim_one(&store, late_at()).await;
    assert_eq!(early.slug, watcher.slug);
    let again = try_again(at(70));
    assert!(settle(&store, &early, again, late_at()).await);

    let update = Update {
        name: Some(named("Renamed Job")),
        ..Update::default()
    };
    act(&store, watcher.id, Action::Update(update), at(65)).await;
    let renamed = claim_one(&store, at(70)).await;
    check_notice(&renamed, &early.delivery.notice);
    assert_eq!(renamed.slug, Slug::of(&named("Renamed Job")));
}

pub(super) async fn deleting_drops_what_is_owed(store: Store) {
    let (watcher, _) = late(&store, "Job", &["a@x.example", "b@x.example"]).await;
    act(&store, watcher.id, trigger(), at(70)).await;
    let claims = store.claim(at(100), at(130), 1).await.unwrap();
    assert!(store.delete(&Key::Id(watcher.id)).await.unwrap());
    for outcome in [Outcome::Delivered, try_again(at(101)), refused()] {
        assert!(!settle(&store, &claims[0], outcome, at(101)).await);
    }
    check_counts(store.census().await.unwrap(), 0, 0);
    assert_eq!(next_delivery(&store).await, None);
    assert_eq!(claim(&store, at(1_000)).await, []);
}

// What is told of deliveries.

/// The only delivery of a watcher that there is a report on.
async fn report(store: &Store, id: WatcherId) -> DeliveryReport {
    let mut reports = reports(store, id).await;
    assert_eq!(reports.len(), 1, "{reports:?}");
    reports.remove(0)
}

fn owed(due: Option<Timestamp>, failure: Option<&str>) -> DeliveryState {
    let failure = failure.map(Reason::from);
    DeliveryState::Owed { due, failure }
}

/// What was told to whom and how that stands, shortly: `late to a@x.example: delivered`.
fn said_of(reports: &[DeliveryReport]) -> Vec<String> {
    let say = |report: &DeliveryReport| {
        let told = match report.told {
            Told::Late => "late",
            Told::Resumed => "resumed",
        };
        let state = match report.state {
            DeliveryState::Owed { due: None, .. } => "waits",
            DeliveryState::Owed { .. } => "owed",
            DeliveryState::Delivered { .. } => "delivered",
            DeliveryState::Refused { .. } => "refused",
        };
        format!("{told} to {}: {state}", report.recipient)
    };
    reports.iter().map(say).collect()
}

pub(super) async fn a_delivery_is_reported_until_it_is_made(store: Store) {
    let (watcher, notice) = late(&store, "Job", &["a@x.example"]).await;
    let mut expected = DeliveryReport {
        told: Told::Late,
        at: notice.at,
        deadline: at(MINUTE),
        recipient: person("a@x.example"),
        attempts: 0,
        state: owed(Some(late_at()), None),
    };
    assert_eq!(report(&store, watcher.id).await, expected);

    let mut now = at(100);
    for reason in ["no answer", "a wrong password"] {
        let lease_end = now.after(Duration::from_secs(30));
        let claimed = store.claim(now, lease_end, 10).await.unwrap().remove(0);
        let DeliveryState::Owed { due, .. } = &mut expected.state else {
            unreachable!("it is owed")
        };
        *due = Some(lease_end);
        assert_eq!(report(&store, watcher.id).await, expected, "while claimed");
        let again = Outcome::TryAgain {
            at: lease_end.next(),
            reason: reason.into(),
        };
        assert!(settle(&store, &claimed, again, now.next()).await);
        expected.attempts += 1;
        expected.state = owed(Some(lease_end.next()), Some(reason));
        assert_eq!(report(&store, watcher.id).await, expected);
        now = lease_end.next();
    }

    let claimed = claim_one(&store, now).await;
    assert!(settle(&store, &claimed, Outcome::Delivered, at(500)).await);
    expected.attempts = 3;
    expected.state = DeliveryState::Delivered { at: at(500) };
    assert_eq!(report(&store, watcher.id).await, expected);

    // It is told of, and owed no more.
    check_counts(store.census().await.unwrap(), 0, 0);
    assert_eq!(next_delivery(&store).await, None);
    assert_eq!(oldest(&store).await, None);
    assert_eq!(claim(&store, at(100_000)).await, []);
}

pub(super) async fn a_refused_one_is_reported_with_the_reason(store: Store) {
    let (watcher, late_notice) = late(&store, "Job", &["a@x.example"]).await;
    let claimed = claim_one(&store, at(70)).await;
    assert!(settle(&store, &claimed, refused(), at(71)).await);
    let refusal = DeliveryReport {
        told: Told::Late,
        at: late_notice.at,
        deadline: at(MINUTE),
        recipient: person("a@x.example"),
        attempts: 1,
        state: DeliveryState::Refused {
            at: at(71),
            reason: "no such mailbox".into(),
        },
    };
    assert_eq!(report(&store, watcher.id).await, refusal);
    check_counts(store.census().await.unwrap(), 0, 1);

    // It is still told of when it is counted no more.
    act(&store, watcher.id, trigger(), at(80)).await;
    let claimed = claim_one(&store, at(80)).await;
    assert!(settle(&store, &claimed, Outcome::Delivered, at(81)).await);
    check_counts(store.census().await.unwrap(), 0, 0);
    let resumption = DeliveryReport {
        told: Told::Resumed,
        at: at(80),
        state: DeliveryState::Delivered { at: at(81) },
        ..refusal.clone()
    };
    assert_eq!(reports(&store, watcher.id).await, [resumption, refusal]);
}

pub(super) async fn one_that_waits_for_another_is_reported_as_such(store: Store) {
    let (watcher, _) = late(&store, "Job", &["a@x.example"]).await;
    act(&store, watcher.id, trigger(), at(70)).await;
    let states = async || {
        let reports = reports(&store, watcher.id).await;
        let states: Vec<_> = reports.into_iter().map(|report| report.state).collect();
        states
    };
    let first = owed(Some(late_at()), None);
    assert_eq!(states().await, [owed(None, None), first]);
    let claimed = claim_one(&store, at(70)).await;
    let later = try_again(at(90));
    assert!(settle(&store, &claimed, later, at(71)).await);
    let first = owed(Some(at(90)), Some("the server is away"));
    assert_eq!(states().await, [owed(None, None), first]);
    let claimed = claim_one(&store, at(90)).await;
    assert!(settle(&store, &claimed, Outcome::Delivered, at(91)).await);
    let first = DeliveryState::Delivered { at: at(91) };
    assert_eq!(states().await, [owed(Some(at(91)), None), first]);
}

pub(super) async fn the_newest_notice_is_reported_first_to_each_in_order(store: Store) {
    let people = ["c@x.example", "a@x.example", "b@x.example"];
    let watcher = insert(&store, told("Job", &people)).await;
    // Both notices arise at one instant.
    act(&store, watcher.id, trigger(), at(100)).await;
    let expected = [
        "resumed to c@x.example: waits",
        "resumed to a@x.example: waits",
        "resumed to b@x.example: waits",
        "late to c@x.example: owed",
        "late to a@x.example: owed",
        "late to b@x.example: owed",
    ];
    assert_eq!(said_of(&reports(&store, watcher.id).await), expected);

    let claims = claim(&store, at(100)).await;
    let settled = [
        ("b@x.example", Outcome::Delivered),
        ("a@x.example", refused()),
    ];
    for (number, (to, outcome)) in settled.into_iter().enumerate() {
        let claimed = claims
            .iter()
            .find(|claim| claim.delivery.recipient == person(to))
            .expect("it was claimed");
        assert!(settle(&store, claimed, outcome, at(101 + number as u64)).await);
    }
    // A clock that steps back makes nothing older.
    act(
        &store,
        watcher.id,
        Action::Pause(Comment::default()),
        at(90),
    )
    .await;
    act(&store, watcher.id, unpause(), at(20)).await;
    make_late(&store, watcher.id, at(20 + MINUTE).next()).await;
    let expected = [
        "late to c@x.example: waits",
        "late to a@x.example: waits",
        "late to b@x.example: waits",
        "resumed to c@x.example: waits",
        "resumed to a@x.example: owed",
        "resumed to b@x.example: owed",
        "late to c@x.example: owed",
        "late to a@x.example: refused",
        "late to b@x.example: delivered",
    ];
    assert_eq!(said_of(&reports(&store, watcher.id).await), expected);
}

pub(super) async fn of_what_is_settled_the_last_hundred_are_reported(store: Store) {
    let people: Vec<String> = (0..=DeliveryReport::KEPT / 2)
        .map(|number| format!("p{number}@x.example"))
        .collect();
    let people: Vec<&str> = people.iter().map(String::as_str).collect();
    let (watcher, _) = late(&store, "Job", &people).await;
    act(&store, watcher.id, trigger(), at(70)).await;
    let mut settled = Vec::new();
    let mut last = async |claimed: &Claim, outcome: Outcome| {
        assert!(settle(&store, claimed, outcome, at(71)).await);
        settled.extend(told_by(std::slice::from_ref(claimed)));
        let reports = reports(&store, watcher.id).await;
        let ended = |report: &&DeliveryReport| !matches!(report.state, DeliveryState::Owed { .. });
        let reported: HashSet<String> = said_of(&reports)
            .iter()
            .zip(&reports)
            .filter(|(_, report)| ended(report))
            .map(|(said, _)| said.rsplit_once(": ").expect("a state").0.to_owned())
            .collect();
        let first = settled.len().saturating_sub(DeliveryReport::KEPT);
        let expected: HashSet<String> = settled[first..].iter().cloned().collect();
        assert_eq!(reported, expected);
        reports.len() - reported.len()
    };
    let mut owed = people.len() * 2;
    let mut slow = None;
    for _ in 0..2 {
        for claimed in claim(&store, at(71)).await {
            if slow.is_none() {
                let later = try_again(at(1_000));
                assert!(settle(&store, &claimed, later, at(71)).await);
                slow = Some(claimed.delivery.recipient);
            } else {
                owed -= 1;
                assert_eq!(last(&claimed, Outcome::Delivered).await, owed);
            }
        }
    }
    assert_eq!(owed, 2, "as many as are kept are settled");

    // It counts when they were settled, not when their notices arose.
    for outcome in [refused(), Outcome::Delivered] {
        let claimed = claim_one(&store, at(1_000)).await;
        assert_eq!(Some(&claimed.delivery.recipient), slow.as_ref());
        owed -= 1;
        assert_eq!(last(&claimed, outcome).await, owed);
    }
    assert_eq!(
        reports(&store, watcher.id).await.len(),
        DeliveryReport::KEPT
    );
}

pub(super) async fn a_claim_that_holds_no_longer_is_not_reported(store: Store) {
    let (watcher, _) = late(&store, "Job", &["a@x.example"]).await;
    let stale = store.claim(at(100), at(130), 10).await.unwrap().remove(0);
    let held = store.claim(at(130), at(160), 10).await.unwrap().remove(0);
    let check_stale = async || {
        let before = report(&store, watcher.id).await;
        for outcome in [Outcome::Delivered, try_again(at(131)), refused()] {
            assert!(!settle(&store, &stale, outcome, at(131)).await);
            assert_eq!(report(&store, watcher.id).await, before);
        }
    };
    check_stale().await;
    assert!(settle(&store, &held, Outcome::Delivered, at(132)).await);
    check_stale().await;
}

pub(super) async fn racing_settlements_are_reported_once(store: Store) {
    let (watcher, _) = late(&store, "Job", &["a@x.example"]).await;
    let claimed = claim_one(&store, at(100)).await;
    let answers = race(8, |_| {
        let (store, claimed) = (Arc::clone(&store), claimed.clone());
        async move { settle(&store, &claimed, Outcome::Delivered, at(101)).await }
    });
    let held = answers.await.into_iter().filter(|held| *held).count();
    assert_eq!(held, 1);
    assert_eq!(report(&store, watcher.id).await.attempts, 1);
}

pub(super) async fn reports_go_with_their_watcher(store: Store) {
    assert_eq!(reports(&store, fresh_id()).await, []);
    let (gone, _) = late(&store, "Gone", &["a@x.example", "b@x.example"]).await;
    let (stays, _) = late(&store, "Stays", &["a@x.example"]).await;
    for claimed in store.claim(at(100), at(130), 3).await.unwrap() {
        if claimed.delivery.recipient == person("a@x.example") {
            assert!(settle(&store, &claimed, Outcome::Delivered, at(101)).await);
        }
    }
    let said = said_of(&reports(&store, gone.id).await);
    assert_eq!(
        said,
        [
            "late to a@x.example: delivered",
            "late to b@x.example: owed"
        ]
    );
    assert!(store.delete(&Key::Id(gone.id)).await.unwrap());
    assert_eq!(reports(&store, gone.id).await, []);
    let said = said_of(&reports(&store, stays.id).await);
    assert_eq!(said, ["late to a@x.example: delivered"]);

    // Nor does another watcher get them that is given the same letters.
    let again = Watcher::create(gone.id, told("Again", &["a@x.example"]), at(200));
    store.insert(&again.into()).await.expect("it is free again");
    assert_eq!(reports(&store, gone.id).await, []);
}
