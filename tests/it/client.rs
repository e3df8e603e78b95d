//! The client as its users have it: the real binary against a real service, or against one that misbehaves as told.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::program::{Program, command, command_under, directory, run};
use crate::support::{eventually, within};

/// A service, and somebody who uses it from a shell.
struct Desk {
    directory: tempfile::TempDir,
    program: Program,
}

impl Desk {
    async fn open() -> Self {
        let directory = directory();
        let program = Program::start(directory.path(), "").await;
        Self { directory, program }
    }

    /// The client with these arguments, which knows the service from the environment.
    fn client(&self, arguments: &[&str]) -> Command {
        client_of(self.directory.path(), self.program.url(), arguments)
    }

    /// Runs the client, which has to succeed without a complaint, and returns what it shows.
    #[track_caller]
    fn done(&self, arguments: &[&str]) -> impl Future<Output = String> {
        let done = ended(self.client(arguments));
        let arguments = arguments.join(" ");
        async move {
            let output = done.await;
            let text = |bytes| String::from_utf8(bytes).expect("text");
            let (shown, complaint) = (text(output.stdout), text(output.stderr));
            assert_eq!(output.status.code(), Some(0), "{arguments}: {complaint}");
            assert_eq!(complaint, "", "{arguments}");
            shown
        }
    }

    /// Runs the client, which has to end with `code` and one line, and returns that.
    async fn refused(&self, code: i32, arguments: &[&str]) -> String {
        check_refusal(self.client(arguments), code).await
    }

    async fn watcher(&self, slug: &str) -> Value {
        self.program.done("get", &[("slug", slug)]).await["watcher"].clone()
    }

    /// The newest event of a watcher.
    async fn newest(&self, slug: &str) -> String {
        let event = &self.watcher(slug).await["history"][0][1];
        event.as_str().expect("an event").to_owned()
    }
}

/// The client with these arguments and a home in `directory`, which knows no service.
fn client_in(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = command(directory);
    at_home(&mut command, directory).args(arguments);
    command
}

/// The same, which knows the service at `url` from the environment.
fn client_of(directory: &Path, url: &str, arguments: &[&str]) -> Command {
    let mut command = client_in(directory, arguments);
    command.env("NIGHTS_WATCH_URL", url);
    command
}

fn at_home<'a>(command: &'a mut Command, directory: &Path) -> &'a mut Command {
    for name in [
        "XDG_CONFIG_HOME",
        "NO_COLOR",
        "http_proxy",
        "HTTP_PROXY",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    command.env("HOME", directory)
}

async fn ended(mut command: Command) -> Output {
    within(command.output()).await.expect("it starts")
}

/// Checks that `command` ends with `code`, shows nothing, and says one line, which is returned.
async fn check_refusal(command: Command, code: i32) -> String {
    let output = ended(command).await;
    let complaint = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{complaint}");
    assert_eq!(output.stdout, b"", "{complaint}");
    let line = complaint.strip_suffix('\n').expect("a line");
    let line = line.strip_prefix("nights-watch: ").expect("who says it");
    assert!(!line.contains('\n'), "{complaint}");
    line.to_owned()
}

/// Gives each line of a table as its cells, which two blanks or more part.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines();
    lines
        .map(|line| {
            let cells = line.split("  ").map(str::trim);
            cells.filter(|cell| !cell.is_empty()).collect()
        })
        .collect()
}

/// A stand-in for a service, which gives one answer after the other, the last one for ever, and keeps what it was asked.
struct Fake {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
    /// Each answer takes one.
    leave: Arc<Semaphore>,
    server: JoinHandle<()>,
}

impl Fake {
    /// Gives these answers, as they stand.
    async fn answering(answers: Vec<String>) -> Self {
        let fake = Self::silent(answers).await;
        fake.leave.add_permits(1_000);
        fake
    }

    /// The same, but each answer waits until it is given leave.
    async fn silent(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let leave = Arc::new(Semaphore::new(0));
        let (kept, taken) = (Arc::clone(&heads), Arc::clone(&leave));
        let server = tokio::spawn(async move {
            for turn in 0.. {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let head = read_head(&mut stream).await;
                kept.lock().expect("no panic").push(head);
                taken.acquire().await.expect("it is open").forget();
                let answer = answers.get(turn).or(answers.last()).expect("an answer");
                // The client may have heard enough.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self {
            url,
            heads,
            leave,
            server,
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }

    async fn until_asked(&self) {
        eventually(async || !self.heads().is_empty()).await;
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8(head).expect("text")
}

/// An answer of a service.
fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn json(status: &str, body: &str) -> String {
    answer(status, "application/json", body)
}

fn triggered() -> String {
    json(
        "200 OK",
        r#"{"status": "ok", "recovered": false, "unpaused": false}"#,
    )
}

/// Where nobody listens.
async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

// What is asked of a service.

#[tokio::test(flavor = "multi_thread")]
async fn every_command_does_what_it_says() {
    let desk = Desk::open().await;
    let shown = desk
        .done(&[
            "create",
            "Nightly backup",
            "25h",
            "--email=a@x.example",
            "--email=b@x.example",
            "--description=Dumps db1\nAsk Ann.",
        ])
        .await;
    let watcher = desk.watcher("nightly-backup").await;
    assert_eq!(watcher["periodicity"], 90_000);
    assert_eq!(
        watcher["emails"],
        serde_json::json!(["a@x.example", "b@x.example"])
    );
    let id = watcher["id"].as_str().expect("an identifier");
    for line in [
        "Nightly backup\n  State        on time\n  Due          20",
        "Z, in 1d",
        "\n  Expected     every 1d1h\n  Slug         nightly-backup\n",
        &format!(
            "  Identifier   {id}\n  Trigger URL  {}{id}\n",
            desk.program.url()
        ),
        "  Told         a@x.example, b@x.example\n  Description  Dumps db1\n               Ask Ann.\n",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }

    let by_slug = "--slug=nightly-backup";
    let shown = desk
        .done(&[
            "trigger",
            "--name",
            "Nightly backup",
            "--comment",
            "-5 files",
        ])
        .await;
    assert_eq!(shown, "triggered\n");
    let shown = desk.done(&["get", &format!("--id={id}")]).await;
    assert!(shown.contains("ago  Triggered (-5 files)\n"), "{shown}");
    assert!(shown.contains("ago  Watcher created\n"), "{shown}");
    let shown = desk.done(&["pause", by_slug, "--comment=holidays"]).await;
    assert!(shown.contains("State        paused\n  Expected"), "{shown}");
    assert_eq!(desk.newest("nightly-backup").await, "Paused (holidays)");
    let shown = desk.done(&["trigger", by_slug]).await;
    assert_eq!(shown, "triggered; it was paused, and is no longer\n");
    desk.done(&["pause", by_slug]).await;
    let shown = desk.done(&["unpause", by_slug]).await;
    assert!(shown.contains("State        on time\n"), "{shown}");

    let changes = [
        "--new-name=Weekly backup",
        "--periodicity=8d",
        "--description=",
        "--no-emails",
    ];
    let shown = desk
        .done(&[&["update", by_slug], &changes[..]].concat())
        .await;
    assert!(shown.starts_with("Weekly backup\n"), "{shown}");
    assert!(shown.ends_with("  Told         nobody\n"), "{shown}");
    let watcher = desk.watcher("weekly-backup").await;
    assert_eq!(watcher["periodicity"], 691_200);
    assert_eq!(watcher["id"], id);
    assert_eq!(watcher["emails"], serde_json::json!([]));
    assert_eq!(watcher["description"], "");
    desk.done(&[
        "update",
        "--slug=weekly-backup",
        "--email=c@x.example",
        "--email=d@x.example",
    ])
    .await;
    let watcher = desk.watcher("weekly-backup").await;
    assert_eq!(
        watcher["emails"],
        serde_json::json!(["c@x.example", "d@x.example"])
    );

    assert_eq!(
        desk.done(&["delete", "--slug=weekly-backup"]).await,
        "deleted\n"
    );
    let (status, _) = desk.program.ask("get", &[("id", id)]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    desk.done(&["create", "Later", "60", "--paused"]).await;
    assert_eq!(desk.watcher("later").await["paused"], true);
    assert_eq!(desk.done(&["health"]).await, "alive\n");
    assert_eq!(desk.done(&["health", "--ready"]).await, "ready\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_arrive_as_they_are_and_steer_no_terminal() {
    let desk = Desk::open().await;
    let name = "R&D: 100% + größer? #1 = 東京/a\\b";
    desk.done(&["create", name, "1h"]).await;
    let odd = "a=b&c+d %41 #\u{1b}[31m\u{9b}2J\u{202e}";
    desk.done(&["trigger", "--name", name, "--comment", odd])
        .await;
    let answer = desk.program.done("get", &[("name", name)]).await;
    assert_eq!(
        answer["watcher"]["history"][0][1],
        format!("Triggered ({odd})")
    );
    for arguments in [&["list"][..], &["get", "--name", name]] {
        let shown = desk.done(arguments).await;
        assert!(shown.contains(name), "{shown}");
        assert!(
            shown.contains("Triggered (a=b&c+d %41 #�[31m�2J�)\n"),
            "{shown}"
        );
        assert!(
            !shown.contains(|c: char| c.is_control() && c != '\n'),
            "{shown:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_a_table_whose_columns_stand_under_each_other() {
    let desk = Desk::open().await;
    let output = ended(desk.client(&["list"])).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        (output.stdout, output.stderr),
        (vec![], b"no watchers\n".to_vec())
    );

    desk.done(&["create", "Backup", "2h"]).await;
    desk.done(&["create", "東京 import", "0.001"]).await;
    desk.done(&["create", "Zoo", "1h", "--paused"]).await;
    eventually(async || desk.watcher("東京-import").await["late"] == true).await;
    let table = desk.done(&["list"]).await;
    let rows = cells(&table);
    assert_eq!(rows[0], ["NAME", "ID", "STATE", "DUE", "LAST", "EVENT"]);
    for (row, slug) in rows[1..].iter().zip(["backup", "zoo", "東京-import"]) {
        assert_eq!(desk.watcher(slug).await["id"], row[1], "{table}");
    }
    assert_eq!((rows[1][0], rows[1][2]), ("Backup", "on time"));
    assert!(["in 2h", "in 1h 59m"].contains(&rows[1][3]), "{table}");
    assert_eq!((rows[2][0], &rows[2][2..4]), ("Zoo", &["paused", "-"][..]));
    assert_eq!((rows[3][0], rows[3][2]), ("東京 import", "late"));
    assert!(rows[3][3].ends_with("s overdue"), "{table}");
    assert!(
        rows[1..].iter().all(|row| row[5] == "Watcher created"),
        "{table}"
    );
    // A name of eleven columns in nine characters, since two of them are wide.
    let starts: Vec<_> = table
        .lines()
        .map(|line| line.find(rows[1][1]).or(line.find("ID")))
        .collect();
    assert_eq!(starts[..2], [Some(13), Some(13)], "{table}");
    let aligned = format!("\n東京 import  {}  late     ", rows[3][1]);
    assert!(table.contains(&aligned), "{table}");

    let names = async |arguments: &[&str]| {
        let table = desk.done(&[&["list"], arguments].concat()).await;
        let rows = cells(&table);
        rows[1..]
            .iter()
            .map(|row| row[0].to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&["--late"]).await, ["東京 import"]);
    assert_eq!(names(&["--paused"]).await, ["Zoo"]);
    assert_eq!(names(&["--on-time"]).await, ["Backup"]);
    assert_eq!(names(&["--search", "^(zoo|back)"]).await, ["Backup", "Zoo"]);
    let table = desk.done(&["list", "--brief", "--search=zoo"]).await;
    let id = desk.watcher("zoo").await["id"]
        .as_str()
        .expect("one")
        .to_owned();
    assert_eq!(table, format!("NAME  ID\nZoo   {id}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_what_the_service_says() {
    let desk = Desk::open().await;
    desk.done(&["create", "Backup", "2h"]).await;
    desk.done(&["create", "Größe", "2h"]).await;
    for (arguments, path) in [
        (&["get", "--slug=backup"][..], "get?slug=backup"),
        (&["list"], "list?verbose=true"),
        (&["list", "--brief"], "list"),
    ] {
        let shown = desk.done(&[arguments, &["--json"]].concat()).await;
        let url = desk.program.at(&format!("nights-watch/v1/watcher/{path}"));
        let answer = desk
            .program
            .client
            .get(url)
            .send()
            .await
            .expect("an answer");
        assert_eq!(shown, answer.text().await.expect("text"), "{path}");
    }
    let recovered = r#""recovered": false"#;
    for (arguments, part) in [
        (&["create", "Third", "1"][..], "\"slug\": \"third\""),
        (
            &["update", "--slug=third", "--periodicity=1h"],
            "\"periodicity\": 3600",
        ),
        (&["pause", "--slug=third"], "\"paused\": true"),
        (&["unpause", "--slug=third"], "\"paused\": false"),
        (&["trigger", "--slug=third"], recovered),
        (
            &["delete", "--slug=third"],
            "{\n    \"status\": \"ok\"\n}\n",
        ),
    ] {
        let shown = desk.done(&[arguments, &["--json"]].concat()).await;
        assert!(shown.contains(part), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_status_says_what_went_wrong() {
    let desk = Desk::open().await;
    desk.done(&["create", "Backup", "2h"]).await;
    let line = desk
        .refused(1, &["create", "New", "2h", "--email=nobody"])
        .await;
    assert!(line.starts_with("the parameter \"email\" "), "{line}");
    let line = desk.refused(3, &["get", "--slug=nope"]).await;
    assert_eq!(line, "there is no such watcher");
    desk.refused(3, &["trigger", "--id=aaaaaaaa"]).await;
    desk.refused(6, &["create", "backup", "2h"]).await;
    let line = desk.refused(6, &["unpause", "--slug=backup"]).await;
    assert_eq!(line, "the watcher is not paused");
    for wrong in [
        &["get"][..],
        &["get", "--slug=backup", "--id=aaaaaaaa"],
        &["create", "New"],
        &["create", "New", "30m1h"],
        &["update", "--slug=backup"],
        &["update", "--name=Backup", "--periodicity=1h"],
        &[
            "update",
            "--slug=backup",
            "--no-emails",
            "--email=a@x.example",
        ],
        &["list", "--late", "--paused"],
        &["exec", "--slug=backup"],
        &["exec", "--", "true"],
    ] {
        let output = ended(desk.client(wrong)).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let complaint = ended(desk.client(&["create", "New", "30m1h"])).await.stderr;
    let complaint = String::from_utf8(complaint).expect("text");
    assert!(complaint.contains("has h behind m"), "{complaint}");

    let at = |url: &str| client_of(desk.directory.path(), url, &["list"]);
    let line = check_refusal(at(&nowhere().await), 5).await;
    assert!(
        line.contains(" cannot be reached: Connection refused"),
        "{line}"
    );
    let away = r#"{"status": "error", "error": "the store is away"}"#;
    for (answer, code, words) in [
        (
            json("503 Service Unavailable", away),
            5,
            "the store is away",
        ),
        (json("429 Too Many Requests", away), 5, "the store is away"),
        (
            json("500 Internal Server Error", away),
            5,
            "the store is away",
        ),
        (
            answer("502 Bad Gateway", "text/html", "<p>"),
            5,
            "the status is 502",
        ),
        (
            answer("200 OK", "text/html", "<p>"),
            1,
            "does not answer as Night's Watch does",
        ),
        (
            answer("404 Not Found", "text/html", "<p>"),
            1,
            "does not answer as Night's Watch does",
        ),
        (json("200 OK", "{}"), 1, "missing field `watchers`"),
        (
            "HTTP/1.1 301 M\r\nlocation: http://b/\r\n\r\n".into(),
            1,
            "redirects to http://b/",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
                .into(),
            5,
            "broke off",
        ),
        (String::new(), 5, "cannot be reached"),
    ] {
        let fake = Fake::answering(vec![answer]).await;
        let line = check_refusal(at(&fake.url), code).await;
        assert!(line.contains(words), "{line}");
    }
    // Behind the path of something else there is no watcher, but that is another matter.
    let path = format!("{}elsewhere", desk.program.url());
    let line = check_refusal(at(&path), 1).await;
    assert!(line.contains("there is no such path"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_of_a_service_is_an_exit_status() {
    let folder = directory();
    let away = json(
        "503 Service Unavailable",
        r#"{"status": "error", "error": "the delivery loop hangs"}"#,
    );
    let fake = Fake::answering(vec![json("200 OK", "{}"), away]).await;
    let health = |arguments: &[&str]| client_of(folder.path(), &fake.url, arguments);
    let output = ended(health(&["health"])).await;
    assert_eq!(
        (output.status.code(), output.stdout),
        (Some(0), b"alive\n".to_vec())
    );
    let line = check_refusal(health(&["health", "--ready"]), 5).await;
    assert_eq!(line, "the delivery loop hangs");
    let asked: Vec<_> = fake
        .heads()
        .iter()
        .map(|head| head[..12].to_owned())
        .collect();
    assert_eq!(asked, ["GET /healthz", "GET /readyz "]);
    let url = nowhere().await;
    check_refusal(
        client_of(folder.path(), &fake.url, &["health", "--url", &url]),
        5,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_has_seen_enough_ends_it_quietly_and_a_long_list_costs_no_memory() {
    let folder = directory();
    let event = format!("[\"2015-03-19T01:08:44.885Z\", \"{}\"]", "x".repeat(900));
    let history = vec![event; 20].join(",");
    let watcher = |number| {
        format!(
            "{{\"name\": \"Job {number}\", \"id\": \"aaaaaaaa\", \"late\": false, \"paused\": true, \"history\": [{history}]}}"
        )
    };
    // Some 36 megabytes.
    let watchers = (0..2_000).map(watcher).collect::<Vec<_>>().join(",");
    let body = format!("{{\"status\": \"ok\", \"watchers\": [{watchers}]}}");
    let fake = Fake::answering(vec![json("200 OK", &body)]).await;
    for more in [&[][..], &["--json"]] {
        let arguments = [&["list"], more].concat();
        let mut command = client_of(folder.path(), &fake.url, &arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        within(lines.next_line())
            .await
            .expect("text")
            .expect("a line");
        drop(lines);
        let output = within(child.wait_with_output()).await.expect("an end");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(output.stderr, b"");
    }
    // All of them, and the most memory that was taken at a time, in kibibytes.
    let script = "import resource, subprocess, sys\n\
                  subprocess.run(sys.argv[1:], check=True)\n\
                  print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)";
    let mut command = command_under(&["python3", "-c", script], folder.path());
    at_home(&mut command, folder.path()).args(["list", "--url", &fake.url]);
    let output = ended(command).await;
    assert_eq!(output.status.code(), Some(0), "{:?}", output.stderr);
    let table = String::from_utf8(output.stdout).expect("text");
    assert_eq!(table.lines().count(), 2_001);
    let most = String::from_utf8(output.stderr).expect("text");
    let most: usize = most.trim().parse().expect("a number");
    assert!(
        most < body.len() / 1_024,
        "{most} KiB for {} bytes",
        body.len()
    );
}

// On a terminal.

/// Runs the client on a terminal of its own.
fn on_terminal(directory: &Path, arguments: &[&str]) -> Command {
    let script = "import os, pty, sys\n\
                  sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let mut command = command_under(&["python3", "-c", script], directory);
    at_home(&mut command, directory)
        .args(arguments)
        .env("TERM", "xterm");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_terminals_whose_users_want_them() {
    let desk = Desk::open().await;
    desk.done(&["create", "Backup", "2h"]).await;
    let green = "\u{1b}[32mon time\u{1b}[0m";
    let shown = async |variables: &[(&str, &str)]| {
        let arguments = ["list", "--url", desk.program.url()];
        let mut command = on_terminal(desk.directory.path(), &arguments);
        command.envs(variables.iter().copied());
        String::from_utf8(ended(command).await.stdout).expect("text")
    };
    let colourful = shown(&[]).await;
    assert!(colourful.contains(green), "{colourful:?}");
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = shown(&[plain]).await;
        assert!(
            plain.contains("on time") && !plain.contains('\u{1b}'),
            "{plain:?}"
        );
    }
    assert!(!desk.done(&["list"]).await.contains('\u{1b}'));
}

/// Reads until `words` have come, and returns all that came.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), words: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(words) {
        let byte = within(stream.read_u8()).await;
        text.push(byte.unwrap_or_else(|_| panic!("{words} in {}", String::from_utf8_lossy(&text))));
    }
    String::from_utf8(text).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn configure_asks_on_a_terminal_and_shows_no_key() {
    let folder = directory();
    let mut child = on_terminal(folder.path(), &["configure"])
        .spawn()
        .expect("it starts");
    let (mut stdin, mut stdout) = (
        child.stdin.take().expect("piped"),
        child.stdout.take().expect("piped"),
    );
    read_until(&mut stdout, "URL of the service [http://localhost]: ").await;
    stdin
        .write_all(b"http://watch.example.com/\n")
        .await
        .expect("it reads");
    read_until(&mut stdout, "Key (it is not shown; nothing for none): ").await;
    stdin.write_all(b"hunter2\n").await.expect("it reads");
    let rest = read_until(&mut stdout, "with a key").await;
    assert!(!rest.contains("hunter2"), "{rest}");
    assert!(within(child.wait()).await.expect("an end").success());
    let stored = std::fs::read_to_string(folder.path().join(FILE)).expect("it is there");
    assert!(
        stored.ends_with("[client]\nurl = http://watch.example.com\nauth_key = hunter2\n"),
        "{stored}"
    );
}

// Settings.

/// The file of the user, in their home.
const FILE: &str = ".config/nights-watch/client.ini";

/// Runs `configure` with these arguments and this standard input.
async fn configure(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let limits = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];
    let mut command = command_under(&limits, directory);
    at_home(&mut command, directory)
        .arg("configure")
        .args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).await.expect("it reads");
    drop(stdin);
    within(child.wait_with_output()).await.expect("an end")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_configured_is_for_its_user_alone() {
    let folder = directory();
    let file = folder.path().join(FILE);
    let mode = |path: &Path| {
        let metadata = std::fs::metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    let arguments = ["--url", "http://127.0.0.1:1/", "--auth-key-stdin"];
    let output = configure(folder.path(), &arguments, "hunter2\n").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = format!("{} has http://127.0.0.1:1, with a key\n", file.display());
    assert_eq!(String::from_utf8(output.stdout).expect("text"), said);
    assert_eq!(output.stderr, b"");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().expect("a folder")), 0o700);
    assert_eq!(mode(&folder.path().join(".config")), 0o700);

    // One that was readable is replaced, and no other file is left.
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("it is ours");
    let line = format!(
        "{} can be read by others (mode 644): chmod 600 it",
        file.display()
    );
    let output = ended(client_in(folder.path(), &["list"])).await;
    assert!(
        String::from_utf8(output.stderr)
            .expect("text")
            .contains(&line)
    );
    configure(folder.path(), &["--auth-key-stdin"], "hunter3").await;
    assert_eq!(mode(&file), 0o600);
    let entries = std::fs::read_dir(file.parent().expect("a folder")).expect("it is there");
    assert_eq!(entries.count(), 1);
    let stored = || std::fs::read_to_string(&file).expect("it is there");
    assert!(
        stored().ends_with("url = http://127.0.0.1:1\nauth_key = hunter3\n"),
        "{}",
        stored()
    );

    // The key goes with its service.
    configure(folder.path(), &["--url=http://127.0.0.1:1"], "").await;
    assert!(stored().contains("hunter3"), "{}", stored());
    configure(folder.path(), &["--url=http://127.0.0.1:2"], "").await;
    assert!(!stored().contains("hunter3"), "{}", stored());

    let before = stored();
    for (arguments, input, code) in [
        (&[][..], "", 2),
        (&["--auth-key-stdin"], "", 2),
        (&["--auth-key-stdin"], " hunter2\n", 1),
        (&["--auth-key-stdin"], "hunter2\t1\n", 1),
        (&["--url=hunter2"], "", 1),
    ] {
        let output = configure(folder.path(), arguments, input).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(
            !String::from_utf8(output.stderr)
                .expect("text")
                .contains("hunter2")
        );
        assert_eq!(stored(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_stand_above_the_environment_and_that_above_the_file() {
    let folder = directory();
    let empty = || json("200 OK", r#"{"status": "ok", "watchers": []}"#);
    let [first, second] = [
        Fake::answering(vec![empty()]).await,
        Fake::answering(vec![empty()]).await,
    ];
    // Who asks `fake` last, and with which key.
    let key = |fake: &Fake| {
        let heads = fake.heads();
        let mut lines = heads.last().expect("a request").lines();
        assert!(
            !lines
                .clone()
                .any(|line| line.starts_with("GET") && line.contains("key"))
        );
        let line = lines.find_map(|line| line.strip_prefix("authorization: "));
        line.map(str::to_owned)
    };
    let list = async |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = client_in(folder.path(), &[&["list"], arguments].concat());
        let output = ended({
            command.envs(variables.iter().copied());
            command
        })
        .await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(
            !String::from_utf8(output.stderr)
                .expect("text")
                .contains("key-")
        );
    };
    let counts = || (first.heads().len(), second.heads().len());
    configure(
        folder.path(),
        &["--url", &first.url, "--auth-key-stdin"],
        "key-of-file",
    )
    .await;
    list(&[], &[]).await;
    assert_eq!(
        (counts(), key(&first).as_deref()),
        ((1, 0), Some("Bearer key-of-file"))
    );

    // The key that is stored is for the service that it is stored with.
    let url = ("NIGHTS_WATCH_URL", second.url.as_str());
    list(&[], &[url]).await;
    assert_eq!((counts(), key(&second)), ((1, 1), None));
    list(&["--url", &format!("{}/", first.url)], &[url]).await;
    assert_eq!(
        (counts(), key(&first).as_deref()),
        ((2, 1), Some("Bearer key-of-file"))
    );

    let variable = ("NIGHTS_WATCH_AUTH_KEY", "key-of-variable");
    list(&[], &[url, variable]).await;
    assert_eq!(key(&second).as_deref(), Some("Bearer key-of-variable"));
    list(&["--auth-key=key-of-option"], &[url, variable]).await;
    assert_eq!(key(&second).as_deref(), Some("Bearer key-of-option"));
    let arguments = ["list", "--url", &first.url, "--auth-key=hünter2"];
    let line = check_refusal(client_in(folder.path(), &arguments), 1).await;
    assert_eq!(line, "the key: has something but printable ASCII in it");
    list(&[], &[variable, ("NIGHTS_WATCH_URL", "")]).await;
    assert_eq!(key(&first).as_deref(), Some("Bearer key-of-variable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_service_opens_to_its_key() {
    let folder = directory();
    let program = Program::start(folder.path(), "[wsgi]\nauth_key = hunter2\n").await;
    let list = |key: Option<&str>| {
        let mut command = client_of(folder.path(), program.url(), &["create", "Backup", "1h"]);
        command.envs(key.map(|key| ("NIGHTS_WATCH_AUTH_KEY", key)));
        command
    };
    let url = program.url().trim_end_matches('/');
    let line = check_refusal(list(None), 4).await;
    let expected = format!("{url} wants a key: set NIGHTS_WATCH_AUTH_KEY, or store it by");
    assert!(line.starts_with(&expected), "{line}");
    let line = check_refusal(list(Some("hunter3")), 4).await;
    assert_eq!(line, format!("{url} does not take this key"));
    // A key that is stored for one URL is kept from all others, whatever these lead to.
    let stored = ["--url=http://x", "--auth-key-stdin"];
    let output = configure(folder.path(), &stored, "hunter2").await;
    assert!(output.status.success(), "{output:?}");
    let line = check_refusal(list(None), 4).await;
    let expected = format!("{url} wants a key, and the stored one is for http://x: use that URL");
    assert!(line.starts_with(&expected), "{line}");
    assert_eq!(ended(list(Some("hunter2"))).await.status.code(), Some(0));
    let trigger = ["trigger", "--slug=backup"];
    let output = ended(client_of(folder.path(), program.url(), &trigger)).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_starts_beside_the_settings_of_the_client() {
    let folder = directory();
    let variables = [
        ("NIGHTS_WATCH_URL", "http://watch.example.com"),
        ("NIGHTS_WATCH_AUTH_KEY", "hunter2"),
    ];
    let program = Program::start_in(folder.path(), "", &variables).await;
    // The key of the client is none of the service's.
    program.create("Backup", "60", &[]).await;
    assert!(program.stop().await.success());
}

// Jobs.

/// Starts the client, whose three streams are pipes.
fn piped(mut command: Command) -> Child {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).spawn().expect("it starts")
}

fn signal(child: &Child, signal: Signal) {
    let id = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    kill_process(id.expect("it runs"), signal).expect("it can be told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_succeeds_triggers_and_one_that_fails_does_not() {
    let desk = Desk::open().await;
    desk.done(&["create", "Backup", "2h"]).await;
    let exec = ["exec", "--slug=backup"];
    assert_eq!(desk.done(&[&exec[..], &["--", "true"]].concat()).await, "");
    let event = desk.newest("backup").await;
    assert!(
        event.starts_with("Triggered (succeeded in ") && event.ends_with("s)"),
        "{event}"
    );

    let events = async || {
        desk.watcher("backup").await["history"]
            .as_array()
            .expect("a history")
            .len()
    };
    let ran = async |more: &[&str], command: &[&str]| {
        let arguments = [&exec[..], more, &["--"], command].concat();
        let output = ended(desk.client(&arguments)).await;
        let complaint = String::from_utf8(output.stderr).expect("text");
        (output.status.code(), complaint)
    };
    let fails = ["sh", "-c", "exit 3"];
    assert_eq!(ran(&[], &fails).await, (Some(3), String::new()));
    assert_eq!(
        ran(&[], &["sh", "-c", "kill -9 $$"]).await,
        (Some(137), String::new())
    );
    let (code, complaint) = ran(&[], &["./nothing"]).await;
    assert_eq!(code, Some(127));
    assert!(
        complaint.starts_with("nights-watch: cannot run ./nothing: No such file"),
        "{complaint}"
    );
    let (code, complaint) = ran(&[], &["./nights-watch.ini"]).await;
    assert_eq!(code, Some(126), "{complaint}");
    assert_eq!(events().await, 2);

    let report = ["--report-failure"];
    assert_eq!(ran(&report, &fails).await, (Some(3), String::new()));
    let event = desk.newest("backup").await;
    assert!(
        event.starts_with("Triggered (failed with status 3 after "),
        "{event}"
    );
    ran(&report, &["sh", "-c", "kill -9 $$"]).await;
    let event = desk.newest("backup").await;
    assert!(
        event.starts_with("Triggered (was ended by signal 9 after "),
        "{event}"
    );
    assert_eq!(ran(&report, &["./nothing"]).await.0, Some(127));
    let event = desk.newest("backup").await;
    assert!(
        event.starts_with("Triggered (could not be started after "),
        "{event}"
    );

    // What a service refuses is not asked again, and the job has done its work all the same.
    let arguments = ["exec", "--id=aaaaaaaa", "--", "true"];
    let output = ended(desk.client(&arguments)).await;
    let complaint = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(0));
    assert!(
        complaint.ends_with("which was not reported: there is no such watcher\n"),
        "{complaint}"
    );
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_a_job_are_passed_through_byte_by_byte() {
    let fake = Fake::answering(vec![triggered()]).await;
    let folder = directory();
    let script = "cat; echo warning >&2; exit 0";
    let arguments = ["exec", "--id=abcdefgh", "--", "sh", "-c", script];
    let mut child = piped(client_of(folder.path(), &fake.url, &arguments));
    let mut stdin = child.stdin.take().expect("it is piped");
    let bytes: Vec<u8> = (0..=255_u8).cycle().take(1_000_000).collect();
    let input = bytes.clone();
    let writer = tokio::spawn(async move { stdin.write_all(&input).await });
    let output = within(child.wait_with_output()).await.expect("an end");
    writer.await.expect("no panic").expect("it reads");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == bytes, "{} bytes", output.stdout.len());
    assert_eq!(output.stderr, b"warning\n");
    let heads = fake.heads();
    assert!(
        heads[0].starts_with(
            "POST /nights-watch/v1/watcher/trigger?id=abcdefgh&comment=succeeded%20in%20"
        ),
        "{heads:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_answer_is_asked_again() {
    let unavailable = json(
        "503 Service Unavailable",
        r#"{"status": "error", "error": "later"}"#,
    );
    let many = json(
        "429 Too Many Requests",
        r#"{"status": "error", "error": "later"}"#,
    );
    let fake = Fake::answering(vec![String::new(), unavailable, many, triggered()]).await;
    let folder = directory();
    let arguments = ["exec", "--id=abcdefgh", "--", "echo", "done"];
    let output = ended(client_of(folder.path(), &fake.url, &arguments)).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((output.stdout, output.stderr), (b"done\n".to_vec(), vec![]));
    let first_lines: Vec<_> = fake
        .heads()
        .iter()
        .map(|head| head.lines().next().map(str::to_owned))
        .collect();
    assert_eq!(first_lines.len(), 4);
    assert!(
        first_lines.iter().all(|line| *line == first_lines[0]),
        "{first_lines:?}"
    );

    let url = nowhere().await;
    for patience in ["0", "0s", "0.01", "0.2s"] {
        let arguments = [
            "exec",
            "--id=abcdefgh",
            "--retry-for",
            patience,
            "--",
            "sh",
            "-c",
            "exit 0",
        ];
        let line = check_refusal(client_of(folder.path(), &url, &arguments), 0).await;
        assert!(
            line.starts_with("it succeeded in ") && line.contains(" was not reported: "),
            "{line}"
        );
        assert!(line.contains("Connection refused"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_no_service() {
    let fake = Fake::silent(vec![triggered()]).await;
    let folder = directory();
    let script = "echo running; read line; echo ended";
    let arguments = ["exec", "--id=abcdefgh", "--", "sh", "-c", script];
    let mut child = piped(client_of(folder.path(), &fake.url, &arguments));
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    within(stdout.read_line(&mut line)).await.expect("text");
    assert_eq!((line.as_str(), fake.heads().len()), ("running\n", 0));
    drop(child.stdin.take());
    // The end of its output is seen while the report is still under way.
    let mut rest = String::new();
    within(stdout.read_to_string(&mut rest))
        .await
        .expect("text");
    assert_eq!(rest, "ended\n");
    fake.until_asked().await;
    assert_eq!(child.try_wait().expect("a state"), None);
    fake.leave.add_permits(1);
    assert!(within(child.wait()).await.expect("an end").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_mean_the_job() {
    let desk = Desk::open().await;
    // The tests may run where signals are ignored, as in the background of a shell.
    let plain = "import os, signal, sys\n\
                 for number in 1, 2, 3: signal.signal(number, signal.SIG_DFL)\n\
                 os.execvp(sys.argv[1], sys.argv[1:])";
    let client = |arguments: &[&str]| {
        let folder = desk.directory.path();
        let mut command = command_under(&["python3", "-c", plain], folder);
        at_home(&mut command, folder).args(arguments);
        command.env("NIGHTS_WATCH_URL", desk.program.url());
        piped(command)
    };
    desk.done(&["create", "Backup", "2h"]).await;
    for (sent, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
        (Signal::USR1, "USR1"),
    ] {
        let script = format!(
            "trap 'echo caught {name}; exit 7' {name}; echo ready; while :; do sleep 0.05; done"
        );
        let arguments = ["exec", "--slug=backup", "--", "sh", "-c", &script];
        let mut child = client(&arguments);
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = within(lines.next_line()).await.expect("text");
        assert_eq!(line.as_deref(), Some("ready"));
        signal(&child, sent);
        let line = within(lines.next_line()).await.expect("text");
        assert_eq!(line, Some(format!("caught {name}")));
        assert_eq!(within(child.wait()).await.expect("an end").code(), Some(7));
    }
    assert_eq!(desk.newest("backup").await, "Watcher created");

    let arguments = [
        "exec",
        "--slug=backup",
        "--",
        "sh",
        "-c",
        "echo ready; exec sleep 100",
    ];
    let mut child = client(&arguments);
    read_until(&mut child.stdout.take().expect("it is piped"), "ready").await;
    signal(&child, Signal::TERM);
    assert_eq!(
        within(child.wait()).await.expect("an end").code(),
        Some(128 + 15)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_terminal_reaches_the_job_once() {
    let folder = directory();
    // What is sent to the client after the interruption comes back after it, if that came at all.
    let script = "import os, signal, sys\n\
                  mine = {signal.SIGINT, signal.SIGUSR1}\n\
                  signal.pthread_sigmask(signal.SIG_BLOCK, mine)\n\
                  print('ready', flush=True)\n\
                  hits = 0\n\
                  while signal.sigwait(mine) == signal.SIGINT:\n\
                  \x20   hits += 1\n\
                  \x20   if hits == 1: os.kill(os.getppid(), signal.SIGUSR1)\n\
                  print('hit', hits, 'times')\n\
                  sys.exit(9)";
    let url = nowhere().await;
    let exec = [
        "exec",
        "--id=abcdefgh",
        "--url",
        &url,
        "--",
        "python3",
        "-c",
        script,
    ];
    let mut child = on_terminal(folder.path(), &exec)
        .spawn()
        .expect("it starts");
    let mut stdout = child.stdout.take().expect("it is piped");
    read_until(&mut stdout, "ready").await;
    let stdin = child.stdin.as_mut().expect("it is piped");
    stdin.write_all(b"\x03").await.expect("it reads");
    let rest = read_until(&mut stdout, "times").await;
    assert!(rest.ends_with("hit 1 times"), "{rest:?}");
    assert_eq!(within(child.wait()).await.expect("an end").code(), Some(9));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_ignored_stays_ignored() {
    let fake = Fake::answering(vec![triggered()]).await;
    let folder = directory();
    let nohup = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"];
    let mut command = command_under(&nohup, folder.path());
    at_home(&mut command, folder.path()).args(["exec", "--id=abcdefgh", "--url", &fake.url, "--"]);
    command.args([
        "sh",
        "-c",
        "kill -HUP $$; echo alive; read line; echo ended",
    ]);
    let mut child = piped(command);
    let mut stdout = child.stdout.take().expect("it is piped");
    read_until(&mut stdout, "alive").await;
    signal(&child, Signal::HUP);
    drop(child.stdin.take());
    read_until(&mut stdout, "ended").await;
    assert_eq!(within(child.wait()).await.expect("an end").code(), Some(0));
    fake.until_asked().await;
}

/// Some supervisors do not want to hear of the end of their children, and what they start inherits that.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_succeeds_also_where_nobody_waits_for_children() {
    let fake = Fake::answering(vec![triggered()]).await;
    let folder = directory();
    let supervisor = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); \
                      os.execvp(sys.argv[1], sys.argv[1:])";
    for (status, script) in [(0, "exit 0"), (7, "exit 7")] {
        let mut command = command_under(&["python3", "-c", supervisor], folder.path());
        at_home(&mut command, folder.path());
        command.args(["exec", "--id=abcdefgh", "--url", &fake.url, "--"]);
        command.args(["sh", "-c", script]);
        let output = ended(command).await;
        assert_eq!(output.status.code(), Some(status), "{output:?}");
    }
    fake.until_asked().await;
    assert_eq!(fake.heads().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_wait_for_a_service() {
    let fake = Fake::silent(vec![triggered()]).await;
    let folder = directory();
    let arguments = [
        "exec",
        "--id=abcdefgh",
        "--report-failure",
        "--",
        "sh",
        "-c",
        "exit 5",
    ];
    let child = piped(client_of(folder.path(), &fake.url, &arguments));
    fake.until_asked().await;
    signal(&child, Signal::TERM);
    let output = within(child.wait_with_output()).await.expect("an end");
    let complaint = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(5));
    assert!(
        complaint.contains("was not reported: it was stopped by a signal"),
        "{complaint}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_whatever_the_settings_are() {
    let folder = directory();
    let file = folder.path().join(FILE);
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("it is ours");
    let mut job = client_in(
        folder.path(),
        &[
            "exec",
            "--id=abcdefgh",
            "--",
            "sh",
            "-c",
            "echo ran; exit 0",
        ],
    );
    for (url, stored, words) in [
        (Some("garbage"), "", "NIGHTS_WATCH_URL: is not a URL"),
        (
            None,
            "[client]\ngarbage\n",
            "client.ini: line 2: is neither",
        ),
    ] {
        std::fs::write(&file, stored).expect("it is ours");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("it is ours");
        job.envs(url.map(|url| ("NIGHTS_WATCH_URL", url)));
        if url.is_none() {
            job.env_remove("NIGHTS_WATCH_URL");
        }
        let output = within(job.output()).await.expect("it starts");
        let complaint = String::from_utf8(output.stderr).expect("text");
        assert_eq!(
            (output.status.code(), output.stdout),
            (Some(0), b"ran\n".to_vec())
        );
        assert!(complaint.contains(words), "{complaint}");
    }
}

// What comes with the program.

#[tokio::test(flavor = "multi_thread")]
async fn shells_and_man_take_what_is_made_for_them() {
    let folder = directory();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(folder.path(), &["completions", shell]).await;
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.contains("report-failure"), "{shell}: {text}");
        std::fs::write(folder.path().join(shell), text).expect("it is ours");
        // Of other shells, those that there are.
        let mut check = Command::new(shell);
        let checked = check
            .arg("-n")
            .arg(folder.path().join(shell))
            .output()
            .await;
        if shell == "bash" || checked.is_ok() {
            let checked = checked.expect("it starts");
            assert!(
                checked.status.success() && checked.stderr.is_empty(),
                "{checked:?}"
            );
        }
    }

    let page = run(folder.path(), &["man"]).await.stdout;
    let page = String::from_utf8(page).expect("text");
    let help = String::from_utf8(run(folder.path(), &["--help"]).await.stdout).expect("text");
    let commands = help
        .split_once("Commands:\n")
        .and_then(|(_, rest)| rest.split_once("\n\n"));
    let names = commands
        .expect("a list")
        .0
        .lines()
        .filter(|line| !line.starts_with("   "));
    let names: Vec<_> = names
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        names.contains(&"exec") && names.contains(&"import"),
        "{names:?}"
    );
    for name in names.iter().filter(|name| **name != "help") {
        let title = format!("\n.SH \"{}\"\n.SS SYNOPSIS\n", name.to_uppercase());
        assert!(page.contains(&title), "{name}: {page}");
    }
    std::fs::write(folder.path().join("page.1"), page).expect("it is ours");
    let mut groff = Command::new("groff");
    let groff = groff
        .args(["-man", "-Tutf8", "-ww", "-z"])
        .arg(folder.path().join("page.1"));
    if let Ok(checked) = groff.output().await {
        let complaint = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(
            checked.status.success() && complaint.is_empty(),
            "{complaint}"
        );
    }
}
