//! Documents that this program did not write.

use mongodb::bson::oid::ObjectId;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;

use super::*;
use crate::domain::{Action, Comment};

fn any_date() -> impl Strategy<Value = DateTime> {
    prop_oneof![
        any::<i64>(),
        -100_000_000_000_000..300_000_000_000_000_i64,
        Just(i64::MIN),
        Just(i64::MAX)
    ]
    .prop_map(DateTime::from_millis)
}

/// Any value at all, with a liking for what stands in documents of ours.
fn any_value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        Just(Bson::Null),
        any::<bool>().prop_map(Bson::Boolean),
        any::<i32>().prop_map(Bson::Int32),
        prop_oneof![any::<i64>(), -3..3_i64, Just(i64::MIN), Just(i64::MAX)].prop_map(Bson::Int64),
        any::<f64>().prop_map(Bson::Double),
        prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(1e300)]
            .prop_map(Bson::Double),
        any_date().prop_map(Bson::DateTime),
        any::<String>().prop_map(Bson::String),
        "[a-z]{8}".prop_map(Bson::String),
        any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(ObjectId::from_bytes(bytes))),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let field = prop_oneof![
            any::<String>(),
            prop::sample::select(&FIELDS[..]).prop_map(str::to_owned),
        ];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Bson::Array),
            vec((field, inner), 0..6)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
        ]
    })
}

const FIELDS: [&str; 20] = [
    "rev", "ops", "late", "numbered", "notices", "owed", "due", "refused", "n", "notice", "to",
    "token", "by", "tries", "why", "n1", "failures", "settled", "deadline", "resumed",
];

/// A value as `usual`, most of the time.
fn mostly(usual: impl Strategy<Value = Bson> + 'static) -> impl Strategy<Value = Option<Bson>> {
    weighted(
        0.95,
        prop_oneof![9 => usual.boxed(), 1 => any_value().boxed()],
    )
}

/// A document with these fields.
fn form(fields: Vec<(&'static str, BoxedStrategy<Option<Bson>>)>) -> impl Strategy<Value = Bson> {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    values.prop_map(move |values| {
        let fields = names.iter().zip(values);
        let fields = fields.filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
        Bson::Document(fields.collect())
    })
}

fn text(pattern: &'static str) -> BoxedStrategy<Option<Bson>> {
    mostly(pattern.prop_map(Bson::String)).boxed()
}

fn number() -> BoxedStrategy<Option<Bson>> {
    let extreme = prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>(), -3..0_i64];
    mostly(prop_oneof![30 => 0..9_i64, 1 => extreme].prop_map(Bson::Int64)).boxed()
}

fn date_field() -> BoxedStrategy<Option<Bson>> {
    mostly(any_date().prop_map(Bson::DateTime)).boxed()
}

fn array(of: impl Strategy<Value = Bson> + 'static) -> BoxedStrategy<Option<Bson>> {
    mostly(vec(of, 0..4).prop_map(Bson::Array)).boxed()
}

fn any_notice() -> impl Strategy<Value = Bson> {
    form(vec![
        ("id", text("[0-9a-f]{32}")),
        ("at", date_field()),
        ("name", text(".*")),
        ("description", text(".*")),
        ("periodicity", number()),
        ("deadline", date_field()),
        ("last_event", date_field()),
        (
            "resumed",
            weighted(0.5, form(vec![("next_deadline", date_field())])).boxed(),
        ),
    ])
}

/// A document that is almost one of ours, or nothing like it.
fn any_document() -> impl Strategy<Value = Document> {
    let owed = form(vec![
        ("n", number()),
        ("notice", number()),
        ("at", date_field()),
        ("to", text("[ab]@x")),
        ("due", date_field()),
        ("token", number()),
        ("by", number()),
        ("tries", number()),
        ("deadline", date_field()),
        (
            "resumed",
            mostly(any::<bool>().prop_map(Bson::Boolean)).boxed(),
        ),
    ]);
    let settled = form(vec![
        ("n", number()),
        ("at", date_field()),
        ("deadline", date_field()),
        ("to", text("[ab]@x")),
        ("tries", number()),
        ("done", date_field()),
        ("why", weighted(0.5, ".*".prop_map(Bson::String)).boxed()),
    ]);
    let failures = form(vec![("n1", text(".*"))]);
    let ours = form(vec![
        ("rev", number()),
        ("ops", array(prop_oneof![Just(Bson::Int64(7)), any_value()])),
        ("late", text("[0-9a-f]{32}")),
        ("numbered", number()),
        (
            "notices",
            mostly(form(vec![("n1", weighted(0.9, any_notice()).boxed())])).boxed(),
        ),
        ("owed", array(owed)),
        ("refused", array(any_value())),
        ("failures", mostly(failures).boxed()),
        ("settled", array(settled)),
    ]);
    let event = (any_date(), any::<String>())
        .prop_map(|(at, text)| Bson::Array(vec![at.into(), text.into()]));
    let seconds = prop_oneof![
        (1..9_i32).prop_map(Bson::Int32),
        any::<f64>().prop_map(Bson::Double)
    ];
    let whole = form(vec![
        ("id", text("[a-z]{8}")),
        ("name", text(".*")),
        ("slug", text("[a-z]{1,9}")),
        ("description", text(".*")),
        ("periodicity", mostly(seconds).boxed()),
        ("emails", array("[ab]@x".prop_map(Bson::String))),
        (
            "late",
            mostly(any::<bool>().prop_map(Bson::Boolean)).boxed(),
        ),
        (
            "paused",
            mostly(any::<bool>().prop_map(Bson::Boolean)).boxed(),
        ),
        ("deadline", date_field()),
        ("history", array(prop_oneof![9 => event, 1 => any_value()])),
        ("nw", mostly(ours).boxed()),
    ]);
    prop_oneof![9 => whole.boxed(), 1 => any_value().boxed()].prop_map(|value| match value {
        Bson::Document(document) => document,
        other => doc! { "nw": other },
    })
}

proptest! {
    /// Whatever a document holds, it is read or it is corrupt; and what was read can be shown, changed, owed,
    /// claimed and settled.
    #[test]
    fn no_document_makes_the_program_fail(
        document in any_document(),
        now in any_date().prop_map(timestamp),
    ) {
        let policy = HistoryPolicy::default();
        let history = read_history(&document, None, policy);
        let _ = read_reports(&document);
        if let Some(notice) = read_notice(&document, 1) {
            let _ = (notice.subject(), notice.content(&history, None));
        }
        let Stored { watcher, books } = match Stored::read(&document) {
            Ok(stored) => stored,
            Err(error) => {
                prop_assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
                return Ok(());
            }
        };
        let _ = (books.revision_before(7), books.filter(), books.due(now).count());
        for action in [Action::Trigger(Comment::default()), Action::PassDeadline] {
            let Ok(change) = watcher.apply(&action, now) else { continue };
            let mut update = Update::of_watcher(&watcher, &change.watcher);
            let mut books = books.clone();
            let room = Room::new(HistoryPolicy::default());
            books.owe(&change.notices, now, room, &mut update);
            let numbers: Vec<_> = books.due(now).map(|(_, number)| number).collect();
            let claimed = books.claim(&numbers, 1, now, || 2, &mut update);
            for (owed, refused) in claimed.iter().zip([None, Some("no")].into_iter().cycle()) {
                let Some(place) = books.place(owed.number, 2) else { continue };
                books.try_again(place, now, "away", &mut update);
                books.finish(place, refused, now, &mut update);
            }
            books.release(|owed| owed.by == Some(1), || 3, &mut update);
            let _ = update.into_document(&books, 9);
        }
    }
}

#[test]
fn documents_that_are_whole_are_among_those_that_are_tried() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let documents = (0..200).map(|_| any_document().new_tree(&mut runner).expect("one").current());
    let read: Vec<_> = documents
        .filter_map(|document| Stored::read(&document).ok())
        .collect();
    assert!(read.len() > 20, "{}", read.len());
    assert!(read.iter().any(|stored| stored.books.owed.len() > 1));
}

#[test]
fn reports_are_among_what_is_tried() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let documents = (0..200).map(|_| any_document().new_tree(&mut runner).expect("one").current());
    let reports: Vec<_> = documents
        .flat_map(|document| read_reports(&document))
        .collect();
    let has = |state: fn(&DeliveryState) -> bool| reports.iter().any(|report| state(&report.state));
    assert!(has(|state| matches!(
        state,
        DeliveryState::Owed {
            failure: Some(_),
            ..
        }
    )));
    assert!(has(|state| matches!(state, DeliveryState::Refused { .. })));
}

#[test]
fn who_waits_behind_a_delivery_that_cannot_be_read_waits_no_longer() {
    let mut update = Update::default();
    owing(2, Room::new(HistoryPolicy::default())).note_owed(&mut update);
    let mut owed = update.set.get_array("nw.owed").expect("a list").clone();
    owed[0] = Bson::String("torn".to_owned());
    let document = doc! { "id": "aaaaaaaa", "nw": { "rev": 1_i64, "owed": owed } };
    let read = Books::read(&document).expect("the rest can be read");
    let now = Timestamp::from_millis(5_000);
    assert_eq!(read.due(now).count(), 1);
}

// Too many notices.

const ANN: &str = "ann@example.org";

fn notice(kind: NoticeKind) -> Notice {
    let at = Timestamp::from_millis(1_000);
    Notice {
        id: NoticeId::parse("6ba7b810-9dad-51d1-80b4-00c04fd430c8").expect("an identity"),
        kind,
        at,
        name: Name::parse("Backup").expect("a name"),
        description: Description::default(),
        periodicity: Periodicity::from_millis(1).expect("a periodicity"),
        deadline: at,
        last_event: at,
        recipients: vec![Recipient::parse(ANN).expect("an address")],
    }
}

/// A watcher that owes so many outages, each a lateness and its end, to somebody who is not to be reached.
fn owing(outages: usize, room: Room) -> Books {
    let mut books = Books {
        id: WatcherId::parse("aaaaaaaa").expect("letters"),
        revision: Some(1),
        operations: Vec::new(),
        last_number: 0,
        owed: Vec::new(),
        refused: Vec::new(),
    };
    let at = Timestamp::from_millis(1_000);
    let resumed = NoticeKind::Resumed {
        late: None,
        next_deadline: at,
    };
    for _ in 0..outages {
        let both = [notice(NoticeKind::Late), notice(resumed)];
        books.owe(&both, at, room, &mut Update::default());
    }
    books
}

#[test]
fn a_thousand_notices_wait_before_the_newest_outages_give_way() {
    let room = Room::new(HistoryPolicy::default());
    let full = owing(MOST_NOTICES / 2, room);
    assert_eq!(full.owed.len(), MOST_NOTICES);
    assert!(full.refused.is_empty());

    let mut more = full.clone();
    let mut update = Update::default();
    let at = Timestamp::from_millis(2_000);
    more.owe(&[notice(NoticeKind::Late)], at, room, &mut update);
    assert_eq!(more.owed.len(), MOST_NOTICES - 1);
    let (oldest, newest) = full.owed.split_at(MOST_NOTICES - 2);
    let numbers = |owed: &[Owed]| owed.iter().map(|owed| owed.number).collect::<Vec<_>>();
    assert_eq!(numbers(&more.owed[..MOST_NOTICES - 2]), numbers(oldest));
    for owed in newest {
        let notice = format!("nw.notices.n{}", owed.notice);
        assert!(
            update.unset.contains_key(&notice),
            "{notice} is left behind"
        );
    }
    assert_eq!(more.refused.len(), 1, "{:?}", more.refused);
    assert_eq!(more.refused[0].to, ANN);
    assert!(update.set.contains_key("nw.refused"));
    assert_eq!(update.settled.len(), 2, "{:?}", update.settled);
}

#[test]
fn a_document_that_is_too_large_gives_up_events_first() {
    let mut room = Room::new(HistoryPolicy::default());
    let mut steps = Vec::new();
    while room.shrink() {
        steps.push((room.events, room.notices));
    }
    assert_eq!(steps[..2], [(500, MOST_NOTICES), (250, MOST_NOTICES)]);
    assert_eq!(steps[4], (HistoryPolicy::ALWAYS, MOST_NOTICES / 2));
    assert_eq!(steps.last(), Some(&(HistoryPolicy::ALWAYS, 16)));

    let full = owing(100, Room::new(HistoryPolicy::default()));
    let mut less = full.clone();
    let at = Timestamp::from_millis(2_000);
    let mut update = Update::default();
    less.owe(&[notice(NoticeKind::Late)], at, room, &mut update);
    assert!(less.owed.len() <= 16, "{}", less.owed.len());
    assert_eq!(less.owed[0].number, full.owed[0].number);
}
