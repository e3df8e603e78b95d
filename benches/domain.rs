//! What the rules cost by themselves: `cargo bench --bench domain`.
//!
//! Without `--bench`, which `cargo bench` passes, each is run once, to see that it works.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nights_watch::domain::{
    Action, Change, Comment, Description, Draft, Event, Filter, HistoryPolicy, Name, Notice,
    Periodicity, Recipient, Search, Slug, Timestamp, Update, Watcher, WatcherId,
};

/// The instant that is `seconds` after the creation of each watcher.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_426_730_924_885).after(Duration::from_secs(seconds))
}

/// A watcher that may be silent for a minute and tells so many.
fn watcher(recipients: usize) -> Watcher {
    let address = |number| Recipient::parse(&format!("person.{number}@example.com"));
    let recipients: Result<_, _> = (0..recipients).map(address).collect();
    let draft = Draft {
        name: name("Nightly backup of the first database"),
        description: Description::parse("Dumps db1 to the tape. Ask Ann.").expect("a description"),
        periodicity: Periodicity::from_seconds(60.0).expect("a periodicity"),
        recipients: recipients.expect("addresses"),
        paused: false,
    };
    Watcher::create(WatcherId::parse("fbkvlsby").expect("letters"), draft, at(0)).0
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn trigger() -> Action {
    let comment = Comment::parse("42 files, 17 GiB, no errors");
    Action::Trigger(comment.expect("a comment"))
}

/// So many triggers, newest first, `apart` from each other.
fn events(count: u64, apart: Duration) -> Vec<Event> {
    let newest = at(0);
    let event = |age: u64| Event {
        at: newest.before(Duration::from_millis(
            age * u64::try_from(apart.as_millis()).expect("a span"),
        )),
        text: format!("Triggered ({age} files, 17 GiB, no errors)"),
    };
    (0..count).map(event).collect()
}

fn apply(watcher: &Watcher, action: &Action, now: Timestamp) -> Change {
    watcher.apply(action, now).expect("it is not refused")
}

fn changes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    let update = Action::Update(Update {
        name: Some(name("Nightly backup of the second database")),
        periodicity: Some(Periodicity::from_seconds(90.0).expect("a periodicity")),
        ..Update::default()
    });
    for (what, recipients, action, now, notices) in [
        ("trigger on time", 1, trigger(), 60, 0),
        ("trigger late, 1 recipient", 1, trigger(), 61, 2),
        ("trigger late, 100 recipients", 100, trigger(), 61, 2),
        ("deadline ahead", 1, Action::PassDeadline, 60, 0),
        (
            "deadline passed, 1 recipient",
            1,
            Action::PassDeadline,
            61,
            1,
        ),
        ("update", 1, update, 60, 0),
    ] {
        let watcher = watcher(recipients);
        assert_eq!(apply(&watcher, &action, at(now)).notices.len(), notices);
        group.bench_function(what, |bencher| {
            bencher.iter(|| apply(black_box(&watcher), black_box(&action), at(now)));
        });
    }
}

fn texts(criterion: &mut Criterion) {
    let long = name(&"Größe_ÄÖ 東京 ".repeat(18));
    criterion.bench_function("slug of a long name", |bencher| {
        bencher.iter(|| Slug::of(black_box(&long)));
    });

    let watcher = watcher(1);
    // It is found nowhere, so everything is searched.
    let search = Search::parse(r"(?i)weekly.*\bdb[2-9]\b").expect("an expression");
    let filter = Filter {
        search: Some(search),
        ..Filter::default()
    };
    assert!(!filter.matches(&watcher));
    criterion.bench_function("search in a watcher", |bencher| {
        bencher.iter(|| black_box(&filter).matches(black_box(&watcher)));
    });

    let late = apply(&watcher, &Action::PassDeadline, at(61));
    let notice: &Notice = &late.notices[0];
    let events = events(15, Duration::from_mins(1));
    assert_eq!(events.len(), Notice::EVENTS_SHOWN);
    criterion.bench_function("body of a notice", |bencher| {
        bencher.iter(|| {
            black_box(notice)
                .content(black_box(&events), None)
                .plain_text()
        });
    });
}

fn histories(criterion: &mut Criterion) {
    // The older half is older than a week.
    let history = events(1_000, HistoryPolicy::AGE / 500);
    let policy = HistoryPolicy::default();
    let mut group = criterion.benchmark_group("prune 1,000 events");
    for (what, history) in [
        ("none too old", events(1_000, Duration::from_mins(1))),
        ("half too old", history),
    ] {
        group.bench_function(what, |bencher| {
            let prune = |history: &mut Vec<Event>| policy.prune(black_box(history));
            bencher.iter_batched_ref(|| history.clone(), prune, BatchSize::SmallInput);
        });
    }
}

criterion_group!(benches, changes, texts, histories);
criterion_main!(benches);
