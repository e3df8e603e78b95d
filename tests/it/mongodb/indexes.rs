//! No question makes the server look at every watcher.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use mongodb::Database as Handle;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::event::command::{CommandEvent, CommandStartedEvent};
use nights_watch::domain::{Action, Comment, Filter, Name, Search, Slug};
use nights_watch::ports::{Detail, InsertError, Key, Outcome, WatcherStore};

use super::{
    MongoStore, act, at, claim, empty, heard, id, insert, is_about_watchers, theirs, trigger,
    watcher, write_concern_error,
};
use crate::mongodb_server::one_who_fails;

/// The fields of a filter: those that an index looks up, those that are checked in what it finds, and the
/// indexes that may do it.
type Promise = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

const PROMISES: [Promise; 13] = [
    (&["_id"], &[], &["_id_"]),
    (&["id"], &[], &["id"]),
    (&["id"], &["nw.rev", "nw.ops"], &["id"]),
    (&["id"], &["nw"], &["id"]),
    (&["id"], &["nw.ops"], &["id"]),
    (&["slug"], &[], &["slug"]),
    (&["name"], &[], &["name"]),
    (
        &["late", "paused"],
        &[],
        &["late_paused_deadline", "late_paused_slug"],
    ),
    (
        &["late", "paused", "deadline"],
        &[],
        &["late_paused_deadline"],
    ),
    (&["late", "paused", "slug"], &[], &["late_paused_slug"]),
    (&["nw.due"], &[], &["due"]),
    (&["nw.owed.by"], &[], &["by"]),
    (&["nw.refused.to"], &[], &["refused"]),
];

/// A command about watchers, and the filter in it.
#[derive(Clone, Debug)]
struct Question {
    command: Document,
    filter: Document,
}

impl Question {
    /// What of a command can be explained, besides its name.
    const EXPLAINED: [&str; 7] = [
        "filter",
        "sort",
        "limit",
        "projection",
        "pipeline",
        "updates",
        "deletes",
    ];

    /// The question in a command, unless it asks for nothing.
    fn of(started: &CommandStartedEvent) -> Option<Self> {
        let name = started.command_name.as_str();
        let first = |list: &str, field: &str| {
            let list = started.command.get_array(list).expect("a list");
            let first = list[0].as_document().expect("a document");
            first.get_document(field).cloned()
        };
        let filter = match name {
            "insert" => return None,
            "find" => started.command.get_document("filter").cloned(),
            "aggregate" => first("pipeline", "$match"),
            "update" => first("updates", "q"),
            "delete" => first("deletes", "q"),
            other => panic!("how is {other} explained?"),
        };
        let mut command = started.command.clone();
        let is_explained = |key: &str| key == name || Self::EXPLAINED.contains(&key);
        let others: Vec<String> = command.keys().cloned().collect();
        for other in others.iter().filter(|key| !is_explained(key)) {
            command.remove(other);
        }
        if name == "aggregate" {
            command.insert("cursor", doc! {});
        }
        let filter = filter.unwrap_or_else(|error| panic!("{error}: {command}"));
        Some(Self { command, filter })
    }

    /// The same for all questions that differ only in the values asked for.
    fn form(&self) -> String {
        let condition = |(field, value): (&String, &Bson)| match value {
            Bson::Document(operators) => {
                let operators: Vec<&str> = operators.keys().map(String::as_str).collect();
                format!("{field} {}", operators.join(" "))
            }
            _ => field.clone(),
        };
        let conditions: Vec<String> = self.filter.iter().map(condition).collect();
        let name = self.command.keys().next().expect("a command");
        let sort = self.command.get_document("sort").ok();
        let sort = sort.map(|sort| format!(", by {}", sort.keys().next().expect("a field")));
        format!(
            "{name} {}{}",
            conditions.join(", "),
            sort.unwrap_or_default()
        )
    }

    fn promise(&self) -> Promise {
        let fields: Vec<&str> = self.filter.keys().map(String::as_str).collect();
        let promised = PROMISES
            .into_iter()
            .find(|(looked_up, checked, _)| fields == [*looked_up, *checked].concat());
        promised.unwrap_or_else(|| panic!("no index is promised for {}", self.form()))
    }

    /// The commands whose plans tell how the question is answered.
    ///
    /// `SecantusDB` looks nothing up if there is one condition that it cannot look up. There the fields that an
    /// index is for are asked about alone, in operators that it knows.
    fn explainable(&self, is_secantus: bool) -> Vec<Document> {
        if !is_secantus {
            return vec![self.command.clone()];
        }
        let mut filters = vec![Document::new()];
        for field in self.promise().0 {
            let values = match &self.filter[*field] {
                Bson::Document(operators) => match operators.iter().next().expect("an operator") {
                    (operator, Bson::Array(values)) if operator == "$in" => values.clone(),
                    (operator, _) if operator == "$type" => {
                        vec![doc! { "$gte": DateTime::MIN }.into()]
                    }
                    _ => vec![operators.clone().into()],
                },
                value => vec![value.clone()],
            };
            let with = |filter: &Document| {
                let filter = filter.clone();
                let values = values.clone().into_iter();
                values.map(move |value| {
                    let mut filter = filter.clone();
                    filter.insert(*field, value);
                    filter
                })
            };
            filters = filters.iter().flat_map(with).collect();
        }
        let find = |filter| doc! { "find": "watchers", "filter": filter };
        filters.into_iter().map(find).collect()
    }
}

/// The stages of all plans in an answer, and the indexes that they use.
fn read_plans(
    answer: &Bson,
    in_plan: bool,
    stages: &mut BTreeSet<String>,
    indexes: &mut BTreeSet<String>,
) {
    match answer {
        Bson::Document(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("rejectedPlans" | "command", _) => {}
                    ("stage", Bson::String(stage)) if in_plan => {
                        stages.insert(stage.clone());
                    }
                    ("indexName", Bson::String(index)) if in_plan => {
                        indexes.insert(index.clone());
                    }
                    _ => {
                        let in_plan = in_plan || name == "winningPlan";
                        read_plans(value, in_plan, stages, indexes);
                    }
                }
            }
        }
        Bson::Array(values) => {
            for value in values {
                read_plans(value, in_plan, stages, indexes);
            }
        }
        _ => {}
    }
}

/// What is wrong with how the server would answer `question`, if anything.
async fn complaint(handle: &Handle, question: &Question, is_secantus: bool) -> Option<String> {
    let (_, _, promised) = question.promise();
    let (mut stages, mut used) = (BTreeSet::new(), BTreeSet::new());
    for command in question.explainable(is_secantus) {
        let explain = doc! { "explain": command, "verbosity": "queryPlanner" };
        let answer = handle.run_command(explain).await.expect("a plan");
        read_plans(&answer.into(), false, &mut stages, &mut used);
    }
    // A search by `_id` alone has a stage of its own, which names no index.
    let is_by_id = stages.contains("IDHACK") && promised == ["_id_"];
    let is_promised =
        is_by_id || !used.is_empty() && used.iter().all(|index| promised.contains(&index.as_str()));
    let scans = stages.contains("COLLSCAN");
    // What an index gives in order needs no sorting. SecantusDB sorts whatever it finds.
    let sorts = stages.contains("SORT") && !is_secantus;
    (scans || sorts || !is_promised).then(|| format!("{}: {stages:?} {used:?}", question.form()))
}

async fn complaints(
    handle: &Handle,
    questions: &BTreeMap<String, Question>,
    is_secantus: bool,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for question in questions.values() {
        complaints.extend(complaint(handle, question, is_secantus).await);
    }
    complaints
}

/// Has the store send every command that it knows.
async fn ask_everything(store: &MongoStore, fail: impl AsyncFn()) {
    // A third each are on time, late and paused.
    for (number, letters) in ('a'..='l').enumerate() {
        let watcher = insert(store, &letters.to_string().repeat(8)).await;
        match number % 3 {
            0 => drop(act(store, watcher, Action::PassDeadline, at(61)).await),
            1 => drop(act(store, watcher, Action::Pause(Comment::default()), at(1)).await),
            _ => {}
        }
    }
    let mut same_slug = watcher("aaaaaaaa");
    same_slug.watcher.id = id("zzzzzzzz");
    let taken = store.insert(&same_slug).await;
    assert!(matches!(taken, Err(InsertError::SlugTaken)), "{taken:?}");
    let keys = [
        Key::Id(id("cccccccc")),
        Key::Slug(Slug::from_text("job-cccccccc".to_owned())),
        Key::Name(Name::parse("Job cccccccc").expect("a name")),
    ];
    for key in &keys {
        let found = store.find(key).await.expect("it answers");
        assert!(found.is_some(), "{key:?}");
        let done = store
            .transact(key, &trigger(), at(2), Detail::Summary)
            .await;
        done.expect("it can be triggered");
    }
    // This one is the reference program's.
    act(store, id("mmmmmmmm"), trigger(), at(2)).await;
    // The answer is lost, so that it is looked for.
    fail().await;
    act(store, id("cccccccc"), trigger(), at(3)).await;
    for late in [None, Some(false), Some(true)] {
        for paused in [None, Some(false), Some(true)] {
            for search in [None, Search::parse("job").ok()] {
                let filter = Filter {
                    late,
                    paused,
                    search,
                };
                let after = Slug::from_text("job-b".to_owned());
                for (after, detail) in [(None, Detail::Summary), (Some(&after), Detail::Full)] {
                    let list = store.list(&filter, after, 2, detail).await;
                    let some = !(late == Some(true) && paused == Some(true));
                    assert_eq!(!list.expect("it answers").is_empty(), some, "{filter:?}");
                }
            }
        }
    }
    store.next_deadline().await.expect("it answers");
    store.overdue(at(61), 10).await.expect("it answers");
    store.next_delivery().await.expect("it answers");
    let claims = claim(store, at(61)).await;
    let outcomes = [
        Outcome::Delivered,
        Outcome::TryAgain {
            at: at(90),
            reason: "away".into(),
        },
        Outcome::Refused("unknown".into()),
    ];
    for (claim, outcome) in claims.iter().zip(&outcomes) {
        let held = store.settle(&claim.key, outcome, at(62)).await;
        assert!(held.expect("it answers"));
    }
    assert!(claims.len() > outcomes.len(), "one is left to be buried");
    let reports = store.deliveries(&claims[0].key.watcher).await;
    assert_eq!(reports.expect("it answers").len(), 1);
    let census = store.census().await.expect("it answers");
    assert_eq!((census.owed, census.refused), (2, 1), "{census:?}");
    store.ping().await.expect("it answers");
    for letters in ["bbbbbbbb", "cccccccc"] {
        let gone = store.delete(&Key::Id(id(letters))).await;
        assert!(gone.expect("it answers"));
    }
    // What it holds is released as that of a server that died.
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_answered_by_an_index() {
    let database = empty().await;
    let _one = one_who_fails().await;
    let written = database.watchers().await;
    let written = written.insert_one(theirs("mmmmmmmm", 1)).await;
    written.expect("it is written");
    let questions = Arc::new(Mutex::new(BTreeMap::new()));
    let asked = Arc::clone(&questions);
    let app = "indexes";
    let store = heard(&database, app, move |event| {
        if let CommandEvent::Started(started) = event
            && is_about_watchers(&started)
            && let Some(question) = Question::of(&started)
        {
            let mut asked = asked.lock().expect("a map");
            asked.insert(question.form(), question);
        }
    })
    .await;
    ask_everything(&store, async || {
        let mut rule = write_concern_error(64);
        rule.insert("failCommands", ["update"]);
        database.fail(app, doc! { "times": 1 }, rule).await;
    })
    .await;
    database.fail_no_more().await;

    let questions = questions.lock().expect("a map").clone();
    let forms: Vec<&String> = questions.keys().collect();
    println!("{forms:#?}");
    let mut promises: Vec<_> = questions.values().map(|one| one.promise().2).collect();
    promises.sort_unstable();
    promises.dedup();
    assert_eq!(promises.len(), 10, "an index without use: {forms:#?}");

    let handle = database.client().await.database(database.name());
    let hello = handle.run_command(doc! { "hello": 1 }).await;
    let hello = hello.expect("it answers");
    let is_secantus = hello.get_str("setName").ok() == Some("secantus");
    let wrong = complaints(&handle, &questions, is_secantus).await;
    assert_eq!(wrong, [""; 0], "{forms:#?}");

    // Without the indexes each of them is found wanting.
    let drop = doc! { "dropIndexes": "watchers", "index": "*" };
    handle.run_command(drop).await.expect("they go");
    let wrong = complaints(&handle, &questions, is_secantus).await;
    let by_id = questions
        .values()
        .filter(|one| one.filter.contains_key("_id"));
    assert_eq!(wrong.len() + by_id.count(), questions.len(), "{wrong:#?}");
}
