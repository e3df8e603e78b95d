//! The program on a machine that is short of room on its disk.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use nights_watch::adapters::clock::SystemClock;
use nights_watch::ports::Clock;
use reqwest::StatusCode;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::endurance::{counted, history, instant};
use crate::program::{PATIENCE, Program, command_under, directory, mail_settings, read_log};
use crate::smtp_server::SmtpServer;

/// Waits until `is_so`.
#[track_caller]
fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let so = async {
            while !is_so().await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let in_time = timeout(PATIENCE, so).await;
        in_time.unwrap_or_else(|_| panic!("{what}, at {caller}"));
    }
}

fn now() -> DateTime<Utc> {
    SystemClock.now().into()
}

/// Lets no file of the service grow beyond `bytes`, or each as far as it likes. A file that is longer already cannot
/// be written to behind that.
fn limit_files(program: &Program, bytes: Option<u64>) {
    let old = getrlimit(Resource::Fsize);
    let limit = Rlimit {
        current: bytes.or(old.maximum),
        maximum: old.maximum,
    };
    prlimit(Some(program.pid()), Resource::Fsize, limit).expect("one may limit one's own");
}

/// What the checks below know of a service that can or cannot store.
struct Tried<'a> {
    program: &'a Program,
    /// Triggered from time to time.
    id: String,
    acknowledged: Vec<String>,
    refused: Vec<String>,
}

impl<'a> Tried<'a> {
    async fn new(program: &'a Program) -> Self {
        Self {
            program,
            id: program.create("Tried", "3600", &[]).await,
            acknowledged: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Triggers with a comment of its own, which is as long as is allowed; returns whether that was acknowledged.
    async fn trigger(&mut self) -> bool {
        let comment = format!("{:0>1000}", self.acknowledged.len() + self.refused.len());
        let parameters = [("id", self.id.as_str()), ("comment", comment.as_str())];
        let (status, answer) = self.program.ask("trigger", &parameters).await;
        let is_stored = status == StatusCode::OK;
        if is_stored {
            self.acknowledged.push(comment);
        } else {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
            let error = answer["error"].as_str().expect("a reason");
            assert!(error.contains("nothing was changed"), "{error}");
            self.refused.push(comment);
        }
        is_stored
    }

    /// Everything that was acknowledged is there once, and nothing that was refused.
    async fn check(&self, program: &Program) {
        let history = history(program, &self.id).await;
        let counts = counted(&history);
        for comment in &self.acknowledged {
            assert_eq!(
                counts.get(comment.as_str()),
                Some(&1),
                "{comment} was acknowledged"
            );
        }
        assert_eq!(
            counts.len(),
            self.acknowledged.len(),
            "refused triggers are there"
        );
    }

    /// The service lives and can be read, but says that it is not ready, and refuses what it cannot store.
    async fn check_without_room(&mut self) {
        while self.trigger().await {}
        for _ in 0..3 {
            assert!(!self.trigger().await, "there should be no room");
        }
        self.check(self.program).await;
        assert_eq!(self.status("healthz").await, StatusCode::OK);
        let not_ready = async || self.status("readyz").await == StatusCode::SERVICE_UNAVAILABLE;
        until("it should not be ready", not_ready).await;
        for (operation, name) in [
            ("create", "Another"),
            ("pause", "Tried"),
            ("delete", "Tried"),
        ] {
            let parameters: &[_] = match operation {
                "create" => &[("name", name), ("periodicity", "1")],
                _ => &[("name", name)],
            };
            let (status, answer) = self.program.ask(operation, parameters).await;
            assert_eq!(
                status,
                StatusCode::SERVICE_UNAVAILABLE,
                "{operation}: {answer}"
            );
        }
    }

    /// The service recovers, without anybody's help.
    async fn check_recovery(&mut self) {
        until("it should be ready", async || {
            self.status("readyz").await == StatusCode::OK
        })
        .await;
        assert!(self.trigger().await, "there is room again");
        self.check(self.program).await;
    }

    async fn status(&self, path: &str) -> StatusCode {
        let request = self.program.client.get(self.program.at(path));
        let response = request.timeout(PATIENCE).send().await;
        response.expect("an answer").status()
    }
}

/// The deadline of the watcher `name` passes while that cannot be recorded: nobody is told, and the log, if there
/// is one, says so once.
async fn check_silence(program: &Program, server: &SmtpServer, name: &str, log: Option<&Path>) {
    let times = |directory| {
        read_log(directory)
            .matches("watching deadlines fails")
            .count()
    };
    let passed = async || {
        let answer = program.done("get", &[("name", name)]).await;
        instant(answer["watcher"]["deadline"].as_str().expect("a deadline")) < now()
    };
    until("the deadline passes", passed).await;
    if let Some(directory) = log {
        until("it should be logged", async || times(directory) > 0).await;
        // It is tried again every second, and said no more.
        sleep(Duration::from_millis(2_500)).await;
        assert_eq!(times(directory), 1);
    }
    assert!(
        server.try_mail().is_none(),
        "what is not recorded is not told"
    );
}

async fn check_told(server: &SmtpServer, name: &str) {
    let subject = server.next_message().await.header("Subject");
    let expected = format!("[LATE] {name} has not reported");
    assert_eq!(subject.expect("a subject"), expected);
}

/// Where a database named `nights-watch.db` in `directory` keeps what was written last.
fn journal(directory: &Path) -> PathBuf {
    directory.join("nights-watch.db-wal")
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_may_not_grow_lose_nothing_and_hold_up_only_while_they_may_not() {
    let (directory, server) = (directory(), SmtpServer::start().await);
    let settings = mail_settings(server.port());
    let program = Program::start(directory.path(), &settings).await;
    let mut tried = Tried::new(&program).await;
    // The log is a file as well, and must stay the shorter one.
    for _ in 0..100 {
        assert!(tried.trigger().await);
    }
    let length = journal(directory.path())
        .metadata()
        .expect("a journal")
        .len();
    // First there is no room for more; then nothing can be written at all, as on a disk that became read-only.
    for (round, limit) in [length + 50_000, 0].into_iter().enumerate() {
        let name = format!("Due {round}");
        program.create(&name, "2", &["ops@example.org"]).await;
        limit_files(&program, Some(limit));
        tried.check_without_room().await;
        // With a limit of nothing there is no log either.
        let log = (limit > 0).then_some(directory.path());
        check_silence(&program, &server, &name, log).await;
        limit_files(&program, None);
        tried.check_recovery().await;
        check_told(&server, &name).await;
    }
    program
        .until_metric("nights_watch_deliveries_owed", 0.0)
        .await;
    let (id, acknowledged, refused) = (tried.id, tried.acknowledged, tried.refused);
    program.kill().await;

    // Nothing that was refused comes back, not even from what was left of it in the journal.
    let program = Program::start(directory.path(), &settings).await;
    let tried = Tried {
        program: &program,
        id,
        acknowledged,
        refused,
    };
    tried.check(&program).await;
    assert!(server.try_mail().is_none(), "nobody was told twice");
}

/// A shell that mounts a small disk on the folder `data`, which is seen by what it becomes and by nobody else, and
/// then runs `script`. It takes no right but that to have a namespace of one's own.
fn on_small_disk(directory: &Path, script: &str) -> Command {
    std::fs::create_dir_all(directory.join("data")).expect("a folder");
    let script = format!("mount -t tmpfs -o size=1m none data && {script} exec \"$@\"");
    let unshare = ["unshare", "--user", "--map-root-user", "--mount"];
    let shell = ["sh", "-c", &script, "sh"];
    command_under(&[&unshare[..], &shell[..]].concat(), directory)
}

/// Whether there are small disks. Without them a test has to end early, which is a failure where it should not happen.
async fn has_small_disks() -> bool {
    let directory = directory();
    let output = on_small_disk(directory.path(), "")
        .arg("--version")
        .output()
        .await;
    let said = match output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let complaint = format!(
        "NOT TESTED: a disk that is full or read-only. It takes `unshare`, of util-linux, and a system that lets \
         this user have namespaces: {said}\n"
    );
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!is_ci, "{complaint}");
    // Not by eprintln, which shows only what failed.
    let _ = std::io::stderr().write_all(complaint.as_bytes());
    false
}

const ON_SMALL_DISK: &str = "[sqlite]\npath = data/nights-watch.db\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_loses_nothing_and_holds_up_only_until_there_is_room() {
    if !has_small_disks().await {
        return;
    }
    let (directory, server) = (directory(), SmtpServer::start().await);
    let settings = format!("{}{ON_SMALL_DISK}", mail_settings(server.port()));
    let command = on_small_disk(directory.path(), "head -c 300000 /dev/zero >data/other &&");
    let program = Program::start_by(directory.path(), &settings, command).await;
    let mut tried = Tried::new(&program).await;
    program.create("Due", "5", &["ops@example.org"]).await;
    tried.check_without_room().await;
    check_silence(&program, &server, "Due", Some(directory.path())).await;
    let pid = program.pid().as_raw_nonzero();
    let other = format!("/proc/{pid}/root{}/data/other", directory.path().display());
    std::fs::remove_file(other).expect("it is there");
    tried.check_recovery().await;
    check_told(&server, "Due").await;
    assert!(program.stop().await.success());
    let log = read_log(directory.path());
    assert!(
        log.contains("disk is full"),
        "the log should say why: {log}"
    );
}

/// Starts where nothing can be stored, and checks that one line says why.
async fn check_no_start(directory: &Path, script: &str, complaint: &str) {
    std::fs::write(directory.join("nights-watch.ini"), ON_SMALL_DISK).expect("a file");
    let mut command = on_small_disk(directory, script);
    let output = command
        .args(["--host", "127.0.0.1", "--port", "0"])
        .output();
    let output = timeout(PATIENCE, output).await.expect("it ends by itself");
    let output = output.expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{script}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().last().unwrap_or_default();
    let expected = last.starts_with("nights-watch: [sqlite] path: ") && last.contains(complaint);
    assert!(expected, "{script}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_at_the_start_is_one_line_and_no_start() {
    if !has_small_disks().await {
        return;
    }
    // With a database that is in order, and without one.
    let made = directory();
    assert!(Program::start(made.path(), "").await.stop().await.success());
    let copy = format!("cp {}/nights-watch.db data/ &&", made.path().display());
    let fill = "{ cat /dev/zero >data/other || true; } 2>&- &&";
    let lock = "mount -o remount,ro data &&";
    for (copy, spoil, complaint) in [
        ("", fill, "full"),
        (&copy, fill, "disk I/O error"),
        ("", lock, "Read-only file system"),
        (&copy, lock, "Read-only file system"),
    ] {
        check_no_start(directory().path(), &format!("{copy} {spoil}"), complaint).await;
    }
}
