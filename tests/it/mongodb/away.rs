//! The program, while its database is away or another program dies.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mongodb::bson::doc;
use nights_watch::domain::HistoryPolicy;
use nights_watch::ports::{Key, WatcherStore};
use reqwest::StatusCode;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::{Database, MongoStore, empty, insert, look};
use crate::program::{Program, read_log};
use crate::proxy::{Line, Proxy};
use crate::smtp_server::SmtpServer;
use crate::support::eventually;

/// How long the database is away, in seconds.
const AWAY: u64 = 20;
/// How soon a request is answered that cannot be done.
const PROMPT: Duration = Duration::from_secs(8);

/// The settings of a program that reaches the database at an address of its own.
fn settings(database: &Database, address: &str, mail_port: u16) -> String {
    format!(
        "[mongodb]\nhosts = mongodb://{address}/?directConnection=true\ndatabase = {}\n\
         [email]\nsender = watch@example.org\nhost = 127.0.0.1\nport = {mail_port}\n",
        database.name(),
    )
}

/// An answer to one of the requests that come while the database is away.
#[derive(Debug)]
struct Answered {
    what: &'static str,
    status: StatusCode,
    within: Duration,
}

/// Asks for three things each second, without waiting for the answers before.
async fn ask_meanwhile(program: &Program, id: &str) -> Vec<Answered> {
    let mut seconds = interval(Duration::from_secs(1));
    let mut requests = JoinSet::new();
    for number in 1..=AWAY {
        seconds.tick().await;
        let trigger = format!("{id}?m={number}");
        for (what, path) in [
            ("trigger", trigger.as_str()),
            ("readyz", "readyz"),
            ("healthz", "healthz"),
        ] {
            let request = program.client.get(program.at(path)).timeout(3 * PROMPT);
            requests.spawn(async move {
                let begin = Instant::now();
                let answer = request.send().await.expect("an answer");
                Answered {
                    what,
                    status: answer.status(),
                    within: begin.elapsed(),
                }
            });
        }
    }
    requests.join_all().await
}

/// What the program has logged besides requests: the level and the text of each line, without its fields.
fn said(folder: &Path) -> Vec<String> {
    let log = read_log(folder);
    let lines = log.lines().map(|line| {
        let (head, rest) = line.split_once(": ").expect("a text");
        let level = head.split_whitespace().nth(1).expect("a level");
        let words = rest.split(' ').take_while(|word| !word.contains('='));
        format!("{level} {}", words.collect::<Vec<_>>().join(" "))
    });
    lines.filter(|line| line != "INFO request").collect()
}

/// A watcher comes due while the line to the database is as `line` says, and others are triggered.
async fn is_told_when_it_is_back(line: Line) {
    let (database, mails) = (empty().await, SmtpServer::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = Proxy::to(database.address().await).await;
    let settings = settings(&database, &proxy.address(), mails.port());
    let program = Program::start(folder.path(), &settings).await;
    program.create("Silent", "5", &["ops@example.org"]).await;
    let busy = program.create("Busy", "3600", &[]).await;
    let key = [("id", busy.as_str()), ("comment", "0")];
    program.done("trigger", &key).await;
    let lines_before = said(folder.path()).len();

    proxy.becomes(line);
    let answers = ask_meanwhile(&program, &busy).await;
    assert!(mails.try_mail().is_none());
    proxy.becomes(Line::Good);
    let back = Instant::now();
    let mail = mails.next_message().await;
    println!("{line:?}: told {:?} after the return", back.elapsed());
    assert!(
        back.elapsed() < Duration::from_secs(4),
        "{:?}",
        back.elapsed()
    );
    let subject = mail.header("Subject").expect("a subject");
    assert_eq!(subject, "[LATE] Silent has not reported");

    let longest = answers.iter().map(|answer| answer.within).max();
    println!("{line:?}: {longest:?} at most for an answer meanwhile");
    for answer in &answers {
        let expected = match answer.what {
            "healthz" => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        assert_eq!(answer.status, expected, "{answer:?}");
        assert!(answer.within < PROMPT, "{answer:?}");
    }
    eventually(async || {
        let ready = program.client.get(program.at("readyz")).send().await;
        ready.expect("an answer").status() == StatusCode::OK
    })
    .await;
    let key = [("id", busy.as_str()), ("comment", "after")];
    program.done("trigger", &key).await;
    let got = program.done("get", &[("id", &busy)]).await;
    let history = got["watcher"]["history"].as_array().expect("a history");
    let events: Vec<_> = history.iter().map(|event| event[1].as_str()).collect();
    // Those that were answered 503 did not even reach the server.
    let expected = ["Triggered (after)", "Triggered (0)", "Watcher created"];
    assert_eq!(events, expected.map(Some));
    assert!(mails.try_mail().is_none(), "somebody was told twice");

    let mut said = said(folder.path()).split_off(lines_before);
    assert!(program.stop().await.success());
    said.sort();
    let mut expected: Vec<String> = [
        "watching deadlines",
        "reading what is owed",
        "writing for requests",
    ]
    .into_iter()
    .flat_map(|what| {
        [
            format!("ERROR {what} fails"),
            format!("INFO {what} works again"),
        ]
    })
    .chain(["INFO a watcher is late", "INFO a notice was delivered"].map(str::to_owned))
    .collect();
    expected.sort();
    assert_eq!(said, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_while_the_database_is_cut_off_is_told_when_it_is_back() {
    is_told_when_it_is_back(Line::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_while_the_database_is_silent_is_told_when_it_is_back() {
    is_told_when_it_is_back(Line::Silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_program_was_delivering_is_told_once_by_another() {
    let (database, mails) = (empty().await, SmtpServer::start().await);
    let folders =
        [tempfile::tempdir(), tempfile::tempdir()].map(|folder| folder.expect("a folder"));
    let address = database.address().await;
    // Its mail server takes everything and says nothing.
    let silence = Proxy::to(String::new()).await;
    silence.becomes(Line::Silent);
    let dying = settings(&database, &address, silence.port());
    let dying = Program::start(folders[0].path(), &dying).await;
    dying.create("Job", "0.5", &["ops@example.org"]).await;
    let watchers = database.watchers().await;
    eventually(async || {
        let held = doc! { "nw.owed.by": { "$exists": true } };
        watchers.find_one(held).await.expect("it answers").is_some()
    })
    .await;

    let living = settings(&database, &address, mails.port());
    let living = Program::start(folders[1].path(), &living).await;
    let killed = Instant::now();
    dying.kill().await;
    let mail = mails.next_message().await;
    println!("told {:?} after the kill", killed.elapsed());
    assert!(
        killed.elapsed() < Duration::from_secs(20),
        "{:?}",
        killed.elapsed()
    );
    let subject = mail.header("Subject").expect("a subject");
    assert_eq!(subject, "[LATE] Job has not reported");
    living
        .until_metric("nights_watch_deliveries_owed", 0.0)
        .await;
    assert!(mails.try_mail().is_none(), "somebody was told twice");
    assert!(living.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_forgotten_are_given_up_within_seconds() {
    let database = empty().await;
    let proxy = Proxy::to(database.address().await).await;
    let mut settings = database.settings();
    settings.hosts = format!("mongodb://{}/?directConnection=true", proxy.address()).into();
    let store = MongoStore::open(&settings, HistoryPolicy::default()).await;
    let store = Arc::new(store.expect("a store"));
    let watcher = insert(&store, "aaaaaaaa").await;
    // As many connections as there are questions at a time.
    let looks = (0..32).map(|_| look(&store, watcher));
    join_all(looks).await;

    proxy.becomes(Line::Forgotten);
    let begin = Instant::now();
    let mut tries = 0;
    eventually(async || {
        tries += 1;
        store.find(&Key::Id(watcher)).await.is_ok()
    })
    .await;
    println!(
        "answered {:?} after the line was lost, the {tries}. time",
        begin.elapsed()
    );
    assert!(begin.elapsed() < PROMPT, "{:?}", begin.elapsed());
}
