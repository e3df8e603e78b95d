//! The program that is killed, again and again, in the middle of its work.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rand::RngExt;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::program::{PATIENCE, Program, directory, mail_settings};
use crate::smtp_server::{Mail, SmtpServer};

/// An event of a history.
#[derive(Debug)]
pub(crate) struct Event {
    at: DateTime<Utc>,
    comment: String,
}

impl Event {
    /// The comment of a trigger, if this is one with a comment.
    fn trigger(&self) -> Option<&str> {
        self.comment.strip_prefix("Triggered (")?.strip_suffix(')')
    }
}

pub(crate) fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("a timestamp")
}

/// The whole history of a watcher, oldest first.
pub(crate) async fn history(program: &Program, id: &str) -> Vec<Event> {
    let answer = program.done("get", &[("id", id)]).await;
    let events = answer["watcher"]["history"].as_array().expect("a history");
    let event = |event: &Value| Event {
        at: instant(event[0].as_str().expect("a timestamp")),
        comment: event[1].as_str().expect("a comment").to_owned(),
    };
    events.iter().rev().map(event).collect()
}

/// How often each of the triggers' comments is in a history.
pub(crate) fn counted(history: &[Event]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for comment in history.iter().filter_map(Event::trigger) {
        *counts.entry(comment).or_default() += 1;
    }
    counts
}

/// A trigger that was sent: with which comment, and what was answered, if anything was.
struct Sent {
    watcher: String,
    comment: String,
    answer: Option<Value>,
}

/// Triggers a watcher again and again, with a pause before each, until the service is gone.
async fn keep_triggering(
    trigger: RequestBuilder,
    watcher: String,
    client: String,
    pause: impl Fn() -> Duration,
    sent: Arc<Mutex<Vec<Sent>>>,
) {
    for n in 0.. {
        sleep(pause()).await;
        let comment = format!("{client}-{n}");
        let request = trigger.try_clone().expect("a request without a body");
        // Once the program is dead another test's server may have its port, and say nothing.
        let request = request.timeout(PATIENCE / 3);
        let answer = match request.query(&[("comment", &comment)]).send().await {
            Ok(answer) if answer.status() == StatusCode::OK => answer.json().await.ok(),
            Ok(answer) => panic!("{:?}", answer.text().await),
            Err(_) => None,
        };
        let is_over = answer.is_none();
        sent.lock().await.push(Sent {
            watcher: watcher.clone(),
            comment,
            answer,
        });
        if is_over {
            return;
        }
    }
}

/// What a mail tells: that a watcher has missed this deadline, or that it reports again since then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Late(DateTime<Utc>),
    Resumed(DateTime<Utc>),
}

/// What people have to be told of a watcher with this history, in order.
fn implied(history: &[Event], periodicity: Duration) -> Vec<Told> {
    let mut told = Vec::new();
    let mut events = history.iter().peekable();
    while let Some(event) = events.next() {
        let deadline = event.at + periodicity;
        match events.peek() {
            Some(next) if next.at > deadline => {
                told.extend([Told::Late(deadline), Told::Resumed(next.at)]);
            }
            Some(_) => {}
            None => told.push(Told::Late(deadline)),
        }
    }
    told
}

/// The name of the watcher that a mail is about, and what it tells of it.
fn read_mail(mail: &Mail) -> (String, Told) {
    let subject = mail.header("Subject").expect("a subject");
    let after = |words: &str| {
        let (_, rest) = mail.body.split_once(words).expect("the facts");
        instant(rest.split_once(".\n").expect("a sentence").0)
    };
    let late = subject.strip_prefix("[LATE] ");
    if let Some(name) = late.and_then(|rest| rest.strip_suffix(" has not reported")) {
        return (name.to_owned(), Told::Late(after("It was due by ")));
    }
    let resumed = subject.strip_prefix("[RESUMED] ");
    let name = resumed.and_then(|rest| rest.strip_suffix(" is reporting again"));
    let name = name.unwrap_or_else(|| panic!("{subject}"));
    (name.to_owned(), Told::Resumed(after("again, since ")))
}

/// What each recipient was told of each watcher, without repeats, and how many mails were repeats.
#[track_caller]
fn without_repeats(mails: &[Mail]) -> (HashMap<(String, String), Vec<Told>>, usize) {
    let mut told: HashMap<_, Vec<_>> = HashMap::new();
    let mut first: HashMap<_, Told> = HashMap::new();
    let mut repeats = 0;
    for mail in mails {
        let (name, what) = read_mail(mail);
        let [to] = mail.to.as_slice() else {
            panic!("several recipients: {:?}", mail.to)
        };
        let message_id = mail.header("Message-ID").expect("a Message-ID");
        // The same facts under another Message-ID would be told twice below.
        match first.insert((to.clone(), message_id), what) {
            Some(before) => {
                assert_eq!(before, what, "one Message-ID for two notices");
                repeats += 1;
            }
            None => told.entry((name, to.clone())).or_default().push(what),
        }
    }
    (told, repeats)
}

/// Kills the service again and again while triggers, deadlines and mails are under way. What was acknowledged must be
/// there at the end, once, and everybody must have been told all that it implies, in order.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_no_acknowledged_trigger_and_no_notice() {
    const LOAD: Duration = Duration::from_secs(18);
    const STEADY: usize = 8;
    const FLAPPING: usize = 24;
    const PERIODICITY: Duration = Duration::from_millis(500);
    let (directory, server) = (directory(), SmtpServer::start().await);
    let settings = format!("{}[history]\nlimit = 10000\n", mail_settings(server.port()));

    let program = Program::start(directory.path(), &settings).await;
    let (mut steady, mut flapping) = (Vec::new(), Vec::new());
    for n in 0..STEADY {
        let name = format!("Steady {n}");
        steady.push(program.create(&name, "3600", &["ann@example.org"]).await);
    }
    for n in 0..FLAPPING {
        // Some are told at the second attempt only, and what follows has to wait for that.
        let recipients = [
            "ann@example.org".to_owned(),
            format!("busyonce.{n}@example.org"),
        ];
        let recipients = recipients[..=n % 2].to_vec();
        let emails: Vec<_> = recipients.iter().map(String::as_str).collect();
        let name = format!("Flapping {n}");
        let id = program.create(&name, "0.5", &emails).await;
        flapping.push((id, name, recipients));
    }
    program.kill().await;

    let sent: Arc<Mutex<Vec<Sent>>> = Arc::default();
    let (begin, mut rounds) = (Instant::now(), 0);
    while begin.elapsed() < LOAD || rounds < 5 {
        let program = Program::start(directory.path(), &settings).await;
        let mut clients = JoinSet::new();
        let mut begin_client = |id: &String, client: String, pause: fn() -> Duration| {
            let (trigger, sent) = (program.client.get(program.at(id)), Arc::clone(&sent));
            clients.spawn(keep_triggering(trigger, id.clone(), client, pause, sent));
        };
        for (n, id) in steady.iter().chain(&steady).enumerate() {
            let pause = || Duration::from_millis(rand::rng().random_range(0..30));
            begin_client(id, format!("{rounds}-s{n}"), pause);
        }
        for (n, (id, ..)) in flapping.iter().enumerate() {
            // Well before the deadline or well after it.
            let pause = || Duration::from_millis(if rand::rng().random() { 100 } else { 800 });
            begin_client(id, format!("{rounds}-f{n}"), pause);
        }
        sleep(Duration::from_millis(rand::rng().random_range(50..1_500))).await;
        program.kill().await;
        let all = async {
            while let Some(ended) = clients.join_next().await {
                ended.expect("no panic");
            }
        };
        timeout(PATIENCE, all).await.expect("the clients notice");
        rounds += 1;
    }

    let program = Program::start(directory.path(), &settings).await;
    let late = "nights_watch_watchers{state=\"late\"}";
    program.until_metric(late, FLAPPING as f64).await;
    program
        .until_metric("nights_watch_deliveries_owed", 0.0)
        .await;
    // What the server has accepted comes here in order, so this one comes behind all the others.
    program.create("Last", "0.001", &["last@example.org"]).await;
    let mut mails = Vec::new();
    let mut next = server.next_message().await;
    while next.to != ["last@example.org"] {
        mails.push(next);
        next = server.next_message().await;
    }
    let (mut told, repeats) = without_repeats(&mails);
    let mut histories = HashMap::new();
    for id in steady.iter().chain(flapping.iter().map(|(id, ..)| id)) {
        histories.insert(id.clone(), history(&program, id).await);
    }
    let sent = sent.lock().await;
    let (acknowledged, kept_unanswered) = check_triggers(&sent, &histories);
    let answers = sent
        .iter()
        .filter_map(|sent| Some((sent.comment.as_str(), sent.answer.as_ref()?)));
    let answers: HashMap<_, _> = answers.collect();
    let mut notices = 0;
    for (id, name, recipients) in &flapping {
        let implied = implied(&histories[id], PERIODICITY);
        for event in &histories[id] {
            if let Some(answer) = event.trigger().and_then(|comment| answers.get(comment)) {
                let recovered = implied.contains(&Told::Resumed(event.at));
                assert_eq!(answer["recovered"], recovered, "{event:?} of {name}");
            }
        }
        for to in recipients {
            let told = told.remove(&(name.clone(), to.clone())).unwrap_or_default();
            assert_eq!(told, implied, "{to} of {name}");
            notices += told.len();
        }
    }
    assert!(told.is_empty(), "nobody asked for {told:?}");
    println!(
        "{rounds} kills; {acknowledged} triggers acknowledged, {kept_unanswered} of {} unanswered ones kept; \
         {notices} notices, {repeats} mails repeated",
        sent.len() - acknowledged
    );
    assert!(
        acknowledged > 10 * rounds && notices > 2 * FLAPPING,
        "too few to tell"
    );
}

/// Checks that each trigger that was acknowledged is kept once, and each of the others once at most. Returns how many
/// there are of the former, and how many of the latter were kept.
#[track_caller]
fn check_triggers(sent: &[Sent], histories: &HashMap<String, Vec<Event>>) -> (usize, usize) {
    let counts: HashMap<_, _> = histories
        .iter()
        .map(|(id, history)| (id, counted(history)))
        .collect();
    let (mut acknowledged, mut kept_unanswered) = (0, 0);
    for Sent {
        watcher,
        comment,
        answer,
    } in sent
    {
        let count = counts[watcher].get(comment.as_str()).copied().unwrap_or(0);
        if answer.is_some() {
            assert_eq!(
                count, 1,
                "{comment} was acknowledged and is there {count} times"
            );
            acknowledged += 1;
        } else {
            assert!(count <= 1, "{comment} is there {count} times");
            kept_unanswered += count;
        }
    }
    let kept: usize = counts.values().flat_map(HashMap::values).sum();
    assert_eq!(
        kept,
        acknowledged + kept_unanswered,
        "somebody else's triggers"
    );
    (acknowledged, kept_unanswered)
}
