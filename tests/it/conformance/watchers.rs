//! Inserting, finding, listing, deleting and counting watchers.

use std::collections::BTreeSet;

use nights_watch::domain::{Filter, NoticeKind, Search, Slug, State};
use nights_watch::ports::Census;

use super::*;

pub(super) async fn an_inserted_watcher_is_found_by_each_key(store: Store) {
    let expected = insert_at(&store, draft("My First Watcher"), at(0)).await;
    insert(&store, draft("Another")).await;
    for key in keys(&expected.watcher) {
        check_found(store.find(&key).await.unwrap(), &expected);
    }
    for absent in [
        Key::Id(fresh_id()),
        Key::Slug(Slug::from_text("my-first".to_owned())),
        Key::Slug(Slug::from_text("My-First-Watcher".to_owned())),
        Key::Slug(Slug::from_text(String::new())),
        Key::Name(named("Absent")),
    ] {
        assert_eq!(store.find(&absent).await.unwrap(), None, "{absent:?}");
    }
}

pub(super) async fn a_name_has_to_be_the_very_same(store: Store) {
    let expected = insert_at(&store, draft("My Watcher"), at(0)).await;
    for other in ["my watcher", "My  Watcher", "My Watcher!", "my-watcher"] {
        let key = Key::Name(named(other));
        assert_eq!(store.find(&key).await.unwrap(), None, "{other}");
        assert!(!store.delete(&key).await.unwrap(), "{other}");
        let answer = store
            .transact(&key, &trigger(), at(1), Detail::Summary)
            .await;
        assert!(matches!(answer, Err(TransactError::NotFound)), "{other}");
    }
    check_record(&look(&store, expected.watcher.id).await, &expected);
}

pub(super) async fn identifiers_and_slugs_are_unique(store: Store) {
    let first = insert_at(&store, draft("One"), at(0)).await;
    let same_id = Watcher::create(first.watcher.id, draft("Two"), at(1));
    let answer = store.insert(&same_id.into()).await;
    assert!(matches!(answer, Err(InsertError::IdTaken)), "{answer:?}");

    let same_slug = Watcher::create(fresh_id(), draft("one!"), at(1));
    check_not_inserted_for_slug(&store.insert(&same_slug.into()).await);

    assert_eq!(list_all(&store, Detail::Full).await, [first]);
    assert_eq!(store.census().await.unwrap().on_time, 1);
    let earliest = next_deadline(&store).await.expect("one is on time");
    assert!(earliest <= at(MINUTE));
}

pub(super) async fn a_watcher_may_come_with_a_history_and_late(store: Store) {
    let told = told("Job", &["a@x.example"]);
    let created = Watcher::create(fresh_id(), told, at(0));
    let mut record = Record::from(created);
    let mut late = None;
    for minutes in 1..=300 {
        let now = at(2 * minutes * MINUTE);
        let passed = record.watcher.apply(&Action::PassDeadline, now).unwrap();
        late = passed.notices.first().map(|notice| notice.id);
        let action = if minutes == 300 {
            Action::PassDeadline
        } else {
            trigger()
        };
        let change = record.watcher.apply(&action, now).unwrap();
        record.watcher = change.watcher;
        record.history.splice(0..0, change.event);
    }
    assert!(matches!(
        record.watcher.state,
        State::Late {
            notice: Some(_),
            ..
        }
    ));
    store.insert(&record).await.unwrap();
    check_record(&look(&store, record.watcher.id).await, &record);
    assert_eq!(list_all(&store, Detail::Full).await, [record.clone()]);
    assert_eq!(next_delivery(&store).await, None, "it owes nothing yet");
    assert_eq!(next_deadline(&store).await, None);

    let back = act(&store, record.watcher.id, trigger(), at(602 * MINUTE)).await;
    assert!(back.recovered);
    assert_eq!(back.history[1..], record.history);
    let claim = claim_one(&store, at(602 * MINUTE)).await;
    let kind = claim.delivery.notice.kind;
    assert!(
        matches!(kind, NoticeKind::Resumed { late: answered, .. } if answered == late),
        "{kind:?}"
    );
}

pub(super) async fn of_racing_inserts_of_one_slug_one_wins(store: Store) {
    let answers = race(16, |number| {
        let store = Arc::clone(&store);
        let name = format!("same{}slug", " -_".repeat(number + 1));
        let record = Record::from(Watcher::create(fresh_id(), draft(&name), at(number as u64)));
        async move { (store.insert(&record).await, record.watcher) }
    });
    let mut winners = Vec::new();
    for (answer, watcher) in answers.await {
        match answer {
            Ok(()) => winners.push(watcher),
            answer => check_not_inserted_for_slug(&answer),
        }
    }
    let list = list_all(&store, Detail::Full).await;
    let listed: Vec<Watcher> = list.iter().map(|record| record.watcher.clone()).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(listed, winners);
    assert_eq!(list[0].history.len(), 1);
}

pub(super) async fn of_racing_inserts_of_one_identifier_one_wins(store: Store) {
    let id = fresh_id();
    let answers = race(16, |number| {
        let store = Arc::clone(&store);
        let record = Watcher::create(id, draft(&format!("Name {number}")), at(0)).into();
        async move { store.insert(&record).await }
    });
    let answers = answers.await;
    let won = answers.iter().filter(|answer| answer.is_ok()).count();
    let lost = |answer: &&Result<(), InsertError>| matches!(answer, Err(InsertError::IdTaken));
    assert_eq!(won, 1, "{answers:?}");
    assert_eq!(answers.iter().filter(lost).count(), 15, "{answers:?}");
    assert_eq!(list_all(&store, Detail::Full).await.len(), 1);
}

pub(super) async fn every_field_survives(store: Store) {
    let many: Vec<Recipient> = (0..Recipient::MAX_PER_WATCHER)
        .map(|number| person(&format!("person{number}@example.com")))
        .collect();
    let drafts = [
        draft("Plain"),
        Draft {
            paused: true,
            ..draft("Paused")
        },
        Draft {
            recipients: many,
            ..draft("Many")
        },
        Draft {
            periodicity: seconds(0.001),
            ..draft("Shortest")
        },
        Draft {
            periodicity: seconds(1_234.567),
            ..draft("Fraction")
        },
        Draft {
            periodicity: Periodicity::MAX,
            ..draft("Longest")
        },
        Draft {
            description: Description::parse(&"é".repeat(Description::MAX_CHARS)).unwrap(),
            ..draft("Described")
        },
        draft(&"é".repeat(Name::MAX_CHARS)),
        draft(&"x".repeat(Name::MAX_CHARS)),
    ];
    let instants = [
        at(0),
        at(0).next(),
        Timestamp::MIN,
        Timestamp::MIN.next(),
        Timestamp::from_millis(-1),
        Timestamp::from_millis(0),
        Timestamp::MAX.before(MILLISECOND),
        Timestamp::MAX,
    ];
    for (number, draft) in drafts.into_iter().enumerate() {
        for now in instants {
            let draft = Draft {
                name: Name::parse(&format!("{}{number}", &draft.name.as_str()[..2])).unwrap(),
                ..draft.clone()
            };
            let expected = insert_at(&store, draft, now).await;
            check_record(&look(&store, expected.watcher.id).await, &expected);
            let deleted = store.delete(&Key::Id(expected.watcher.id)).await;
            assert!(deleted.unwrap());
        }
        let expected = insert_at(&store, draft, at(0)).await;
        check_record(&look(&store, expected.watcher.id).await, &expected);
    }
}

pub(super) async fn every_character_survives(store: Store) {
    let texts = [
        "Größe 東京 \u{1F980} e\u{301} ﷽",
        "quote \" ' back\\slash $dollar .dot {brace} %25 `tick` <tag> &amp; --",
        "\u{202e}right to left\u{200b}\u{feff}",
    ];
    for text in texts {
        let draft = Draft {
            description: Description::parse(&format!("{text}\0\r\n\t\u{1}{text}")).unwrap(),
            recipients: people(&["jörg@exämple.de", "a'b+c/d=$e@x.example", "root@localhost"]),
            ..draft(text)
        };
        let mut expected = insert_at(&store, draft, at(0)).await;
        for key in keys(&expected.watcher) {
            check_found(store.find(&key).await.unwrap(), &expected);
        }
        let said = Action::Trigger(comment(&format!("{text}\0NUL\r\n{text}")));
        let done = act(&store, expected.watcher.id, said, at(1)).await;
        expected.watcher = changed(&done);
        expected.history.insert(0, done.event.unwrap());
        check_record(&look(&store, expected.watcher.id).await, &expected);
        check_history(&done.history, &expected.history);
    }
}

pub(super) async fn the_list_is_in_the_order_of_the_slugs_bytes(store: Store) {
    assert_eq!(list_all(&store, Detail::Full).await, []);
    let names = [
        "b",
        "B2",
        "a",
        "a b",
        "a-",
        "ab",
        "10",
        "9",
        "é",
        "z",
        "\u{1D465}z",
        "東京",
        "ａ",
        "𐐨",
        "ß",
        "-x",
        "a\u{301}1",
        "_",
    ];
    let mut slugs = Vec::new();
    for name in names {
        slugs.push(insert(&store, draft(name)).await.slug);
    }
    slugs.sort_by(|one, other| one.as_str().as_bytes().cmp(other.as_str().as_bytes()));
    let listed = list_all(&store, Detail::Summary).await;
    let listed: Vec<Slug> = listed.into_iter().map(|each| each.watcher.slug).collect();
    assert_eq!(listed, slugs);
}

/// All pages of `limit` watchers, one after another.
async fn pages(store: &Store, filter: &Filter, limit: usize) -> Vec<Vec<Record>> {
    let mut pages: Vec<Vec<Record>> = Vec::new();
    loop {
        let after = pages.last().and_then(|page| page.last());
        let after = after.map(|record| record.watcher.slug.clone());
        let page = store.list(filter, after.as_ref(), limit, Detail::Summary);
        let page = page.await.expect("the store answers");
        let is_last = page.len() < limit;
        pages.push(page);
        assert!(pages.len() < 1_000, "the pages have no end");
        if is_last {
            return pages;
        }
    }
}

pub(super) async fn pages_neither_lose_nor_repeat(store: Store) {
    for number in 0..60 {
        insert(&store, draft(&format!("Watcher {}", number * 7 % 60))).await;
    }
    let filter = Filter::default();
    let all = list_all(&store, Detail::Summary).await;
    let distinct: BTreeSet<_> = all.iter().map(|each| each.watcher.slug.clone()).collect();
    assert_eq!((all.len(), distinct.len()), (60, 60));
    for limit in [1, 7, 30, 59, 60, 61, usize::MAX] {
        let pages = pages(&store, &filter, limit).await;
        assert_eq!(pages.len(), 60 / limit + 1, "pages of {limit}");
        assert_eq!(pages.concat(), all, "pages of {limit}");
    }
    let none = store.list(&filter, None, 0, Detail::Summary).await;
    assert_eq!(none.unwrap(), []);

    let between = Slug::from_text("watcher-1x".to_owned());
    let rest = store.list(&filter, Some(&between), 100, Detail::Summary);
    let expected = all.iter().filter(|each| each.watcher.slug > between);
    assert_eq!(
        rest.await.unwrap(),
        expected.cloned().collect::<Vec<_>>(),
        "a page may begin after a slug that is not there"
    );
    let beyond = Slug::from_text("x".to_owned());
    let rest = store.list(&filter, Some(&beyond), 100, Detail::Summary);
    assert_eq!(rest.await.unwrap(), []);
}

/// Three watchers in each state, told apart by name, address and number.
async fn in_each_state(store: &Store) {
    // In another order than that of the slugs.
    for number in [7, 2, 5, 0, 8, 3, 1, 6, 4] {
        let address = format!("{}@example.com", ["ann", "bob", "cid"][number % 3]);
        let watcher = insert(store, told(&format!("Job {number}"), &[&address])).await;
        match number / 3 {
            0 => drop(act(store, watcher.id, trigger(), at(MINUTE)).await),
            1 => drop(make_late(store, watcher.id, at(MINUTE + 1)).await),
            _ => drop(act(store, watcher.id, pause(), at(1)).await),
        }
    }
}

fn searches(store: &[Record]) -> Vec<Option<Search>> {
    let id = store[4].watcher.id.to_string();
    let expressions = [
        "ann@",
        "^job-[258]$",
        "^Job [0-4]$",
        &id,
        "nobody",
        "",
        "J.B",
    ];
    let parsed = expressions.map(|expression| Some(Search::parse(expression).unwrap()));
    parsed.into_iter().chain([None]).collect()
}

pub(super) async fn filters_hold_alone_and_combined(store: Store) {
    in_each_state(&store).await;
    let all = list_all(&store, Detail::Full).await;
    let choices = [None, Some(false), Some(true)];
    for search in searches(&all) {
        for (late, paused) in choices
            .iter()
            .flat_map(|one| choices.map(|two| (*one, two)))
        {
            let filter = Filter {
                late,
                paused,
                search: search.clone(),
            };
            let expected: Vec<Record> = all
                .iter()
                .filter(|each| filter.matches(&each.watcher))
                .cloned()
                .collect();
            let listed = store.list(&filter, None, 100, Detail::Full).await.unwrap();
            assert_eq!(listed, expected, "{filter:?}");
        }
    }
    let late = Filter {
        late: Some(true),
        ..Filter::default()
    };
    let late = store.list(&late, None, 100, Detail::Summary).await.unwrap();
    assert_eq!(late.len(), 3, "the fixture has some in each state");
}

pub(super) async fn pages_count_only_what_matches(store: Store) {
    in_each_state(&store).await;
    let all = list_all(&store, Detail::Summary).await;
    let even = Filter {
        search: Some(Search::parse("^job-[02468]$").unwrap()),
        ..Filter::default()
    };
    let not_late = Filter {
        late: Some(false),
        ..even.clone()
    };
    let paused = Filter {
        paused: Some(true),
        ..Filter::default()
    };
    for filter in [even, not_late, paused] {
        for limit in 1..6 {
            let found = pages(&store, &filter, limit).await.concat();
            let expected = all.iter().filter(|each| filter.matches(&each.watcher));
            assert_eq!(found, expected.cloned().collect::<Vec<_>>(), "{filter:?}");
        }
    }
}

pub(super) async fn the_list_has_histories_if_they_are_wanted(store: Store) {
    in_each_state(&store).await;
    let full = list_all(&store, Detail::Full).await;
    assert_eq!(full.len(), 9);
    for record in &full {
        check_record(&look(&store, record.watcher.id).await, record);
        assert!(!record.history.is_empty());
    }
    let without: Vec<Record> = full
        .into_iter()
        .map(|record| Record {
            history: Vec::new(),
            ..record
        })
        .collect();
    assert_eq!(list_all(&store, Detail::Summary).await, without);
}

pub(super) async fn deleting_forgets_everything(store: Store) {
    let first = told("Gone", &["a@x.example", "b@x.example"]);
    let watcher = insert(&store, first.clone()).await;
    act(&store, watcher.id, trigger(), at(MINUTE + 1)).await;
    let claims = claim(&store, at(MINUTE + 1)).await;
    assert_eq!(
        told_by(&claims),
        ["late to a@x.example", "late to b@x.example"]
    );
    let refused = Outcome::Refused("no such mailbox".into());
    assert!(settle(&store, &claims[0], refused, at(MINUTE + 1)).await);

    assert!(store.delete(&Key::Id(watcher.id)).await.unwrap());
    for key in keys(&watcher) {
        assert_eq!(store.find(&key).await.unwrap(), None);
        assert!(!store.delete(&key).await.unwrap());
    }
    assert_eq!(store.census().await.unwrap(), Census::default());
    assert_eq!(next_delivery(&store).await, None);
    assert_eq!(claim(&store, at(10 * MINUTE)).await, []);
    assert_eq!(next_deadline(&store).await, None);
    assert_eq!(store.overdue(at(10 * MINUTE), 10).await.unwrap(), []);
    assert_eq!(list_all(&store, Detail::Full).await, []);

    let expected = Record::from(Watcher::create(watcher.id, first, at(20 * MINUTE)));
    store.insert(&expected).await.expect("both are free");
    check_record(&look(&store, watcher.id).await, &expected);
    make_late(&store, watcher.id, at(30 * MINUTE)).await;
    let late = claim(&store, at(30 * MINUTE)).await;
    assert_eq!(
        told_by(&late),
        ["late to a@x.example", "late to b@x.example"]
    );
    let old = settle(&store, &claims[1], Outcome::Delivered, at(30 * MINUTE)).await;
    assert!(!old, "a claim of the old watcher is not one of the new");
}

pub(super) async fn deleting_works_by_each_key(store: Store) {
    for which in 0..3 {
        let watcher = insert(&store, draft("Gone")).await;
        assert!(store.delete(&keys(&watcher)[which]).await.unwrap());
        assert_eq!(list_all(&store, Detail::Full).await, []);
    }
}

pub(super) async fn deleting_leaves_the_others_alone(store: Store) {
    let gone = insert(&store, told("Gone", &["a@x.example"])).await;
    let stays = insert(&store, told("Stays", &["a@x.example"])).await;
    for id in [gone.id, stays.id] {
        act(&store, id, trigger(), at(MINUTE + 1)).await;
    }
    let before = look(&store, stays.id).await;
    assert!(store.delete(&Key::Id(gone.id)).await.unwrap());
    check_record(&look(&store, stays.id).await, &before);
    let census = Census {
        on_time: 1,
        owed: 2,
        ..Census::default()
    };
    assert_eq!(store.census().await.unwrap(), census);
    let late = claim_one(&store, at(MINUTE + 1)).await;
    assert_eq!(late.key.watcher, stays.id);
}

/// Whatever a store remembers of a watcher that has been triggered.
pub(super) async fn a_deleted_watcher_is_not_taken_for_a_later_one(store: Store) {
    let gone = insert(&store, draft("Gone")).await;
    let key = Key::Id(gone.id);
    let trigger_at = async |now| {
        store
            .transact(&key, &trigger(), at(now), Detail::Summary)
            .await
    };
    for now in 1..4 {
        trigger_at(now).await.expect("it can be triggered");
    }
    assert!(store.delete(&key).await.unwrap());
    let other = insert_at(&store, draft("Other"), at(4)).await;
    let answer = trigger_at(5).await;
    assert!(matches!(answer, Err(TransactError::NotFound)), "{answer:?}");
    check_record(&look(&store, other.watcher.id).await, &other);

    let again = Watcher::create(gone.id, draft("Again"), at(6));
    store.insert(&again.into()).await.expect("it is free again");
    for now in 7..10 {
        trigger_at(now).await.expect("it can be triggered");
    }
    assert_eq!(look(&store, gone.id).await.history.len(), 4);
    check_record(&look(&store, other.watcher.id).await, &other);
}

pub(super) async fn the_census_counts_what_is_there(store: Store) {
    assert_eq!(store.census().await.unwrap(), Census::default());
    in_each_state(&store).await;
    let mut expected = Census {
        on_time: 3,
        late: 3,
        paused: 3,
        owed: 3,
        refused: 0,
    };
    assert_eq!(store.census().await.unwrap(), expected);

    let claims = claim(&store, at(MINUTE + 1)).await;
    assert_eq!(store.census().await.unwrap(), expected, "claimed is owed");
    settle(&store, &claims[0], Outcome::Delivered, at(MINUTE + 1)).await;
    let later = try_again(at(2 * MINUTE));
    settle(&store, &claims[1], later, at(MINUTE + 1)).await;
    let refused = Outcome::Refused("no".into());
    settle(&store, &claims[2], refused, at(MINUTE + 1)).await;
    expected.owed = 1;
    expected.refused = 1;
    assert_eq!(store.census().await.unwrap(), expected);

    // The deliveries of a watcher that is late again have to wait, and are owed all the same.
    let late = claims[1].key.watcher;
    act(&store, late, trigger(), at(MINUTE + 2)).await;
    expected.owed = 2;
    expected.late -= 1;
    expected.on_time += 1;
    assert_eq!(store.census().await.unwrap(), expected);
    assert!(matches!(
        look(&store, late).await.watcher.state,
        State::OnTime { .. }
    ));
}
