//! The program on a machine that is short of room on its disk, of descriptors, or of clients that mean well.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nights_watch::adapters::clock::SystemClock;
use nights_watch::ports::Clock;
use reqwest::{Client, StatusCode};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
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
        while self.trigger().await {
            let bytes = 1_000 * self.acknowledged.len();
            assert!(
                bytes < 2_000_000,
                "{bytes} bytes are acknowledged, more than there is room for"
            );
        }
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

/// What a process has of the machine.
#[derive(Clone, Copy, Debug)]
struct Share {
    descriptors: usize,
    resident_kib: usize,
    /// In hundredths of a second.
    cpu: u64,
}

impl Share {
    fn of(pid: Pid) -> Self {
        let folder = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("it runs");
        let (status, stat) = (read("status"), read("stat"));
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.expect("it has memory").trim_end_matches("kB");
        // The first two fields are before the bracket; these are the 14th and the 15th.
        let (_, fields) = stat.rsplit_once(')').expect("the name of the program");
        let cpu = fields.split_whitespace().skip(11).take(2);
        Self {
            descriptors: std::fs::read_dir(folder.join("fd"))
                .expect("it runs")
                .count(),
            resident_kib: resident.trim().parse().expect("a number"),
            cpu: cpu
                .map(|ticks| ticks.parse::<u64>().expect("a number"))
                .sum(),
        }
    }
}

/// A service with a watcher to trigger, as somebody sees it who has nothing to do with those that make trouble.
struct Beset<'a> {
    program: &'a Program,
    id: String,
    before: Share,
    address: &'a str,
}

impl<'a> Beset<'a> {
    async fn new(program: &'a Program) -> Self {
        let id = program.create("Beset", "3600", &[]).await;
        let address = program
            .url()
            .trim_start_matches("http://")
            .trim_end_matches('/');
        let this = Self {
            program,
            id,
            before: Share::of(program.pid()),
            address,
        };
        // Whatever it opens once, it has opened now.
        this.trigger().await;
        program.done("list", &[("search", "x")]).await;
        Self {
            before: Share::of(program.pid()),
            ..this
        }
    }

    /// A connection on which `bytes` were sent.
    async fn connect(&self, bytes: &[u8]) -> TcpStream {
        let connected = timeout(PATIENCE, TcpStream::connect(self.address)).await;
        let mut stream = connected.expect("it should connect").expect("a connection");
        stream.write_all(bytes).await.expect("it can be written to");
        stream
    }

    /// Triggers on a connection of its own, and returns how long that took.
    async fn trigger(&self) -> Duration {
        let begin = Instant::now();
        let request = Client::new()
            .get(self.program.at(&self.id))
            .timeout(PATIENCE);
        let answer = request.send().await.expect("others should be served");
        assert_eq!(answer.status(), StatusCode::OK);
        begin.elapsed()
    }

    /// It waits for them without working, once it has done what was to be done.
    async fn check_rest(&self) {
        let rests = async || {
            let begin = Share::of(self.program.pid()).cpu;
            sleep(Duration::from_secs(1)).await;
            Share::of(self.program.pid()).cpu - begin < 50
        };
        until("it should take less than half of a processor", rests).await;
    }

    /// Those that made trouble are gone, and it has nothing of them left.
    async fn check_aftermath(&self) -> Share {
        let few = self.before.descriptors + 8;
        let closed = async || Share::of(self.program.pid()).descriptors <= few;
        until("their connections should be closed", closed).await;
        self.trigger().await;
        let after = Share::of(self.program.pid());
        let most = self.before.resident_kib + 100 * 1024;
        assert!(
            after.resident_kib < most,
            "{:?} became {after:?}",
            self.before
        );
        after
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_clients_than_descriptors_are_served_in_turn_and_mails_leave_meanwhile() {
    let (directory, server) = (directory(), SmtpServer::start().await);
    let few = ["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"];
    let command = command_under(&few, directory.path());
    let settings = mail_settings(server.port());
    let program = Program::start_by(directory.path(), &settings, command).await;
    let beset = Beset::new(&program).await;
    for n in 0..40 {
        let name = format!("Due {n}");
        program.create(&name, "3", &["ops@example.org"]).await;
    }
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(beset.connect(b"GET /healthz HTTP/1.1\r\nHost: x").await);
    }
    let waited = beset.trigger().await;
    println!("300 clients for 32 places: served after {waited:?}");
    // Each place is held for a second, not for ten.
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    let open = Share::of(program.pid()).descriptors;
    assert!(open <= 64, "{open} descriptors");
    beset.check_rest().await;
    for _ in 0..40 {
        server.next_message().await;
    }
    drop(idle);
    beset.check_aftermath().await;
    let log = read_log(directory.path());
    assert_eq!(
        log.matches("taking more fails").count(),
        1,
        "it is said once: {log}"
    );
}

/// How many connections a test may have open, here and in the service: as many as are wanted, if the system lets it.
fn affordable(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // If it cannot be raised, there are fewer.
    let _ = setrlimit(Resource::Nofile, raised);
    let most = getrlimit(Resource::Nofile)
        .current
        .map_or(wanted, |most| usize::try_from(most).unwrap_or(wanted));
    wanted.min(most / 4)
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_clients_that_want_nothing_cost_the_others_little() {
    let directory = directory();
    let many = affordable(2_000);
    let program = Program::start(directory.path(), "").await;
    let beset = Beset::new(&program).await;
    let mut idle = Vec::new();
    for n in 0..many {
        // Those that wait before their request, and those that wait in the middle of it.
        let begun: &[u8] = if n % 2 == 0 {
            b""
        } else {
            b"GET /healthz HTTP/1.1\r\nHost: x"
        };
        idle.push(beset.connect(begun).await);
    }
    let among_idle = beset.trigger().await;
    beset.check_rest().await;
    // Some drip; those whose time is over may be gone.
    for stream in idle.iter_mut().skip(1).step_by(2) {
        let _ = stream.write_all(b"x").await;
    }
    let among_dripping = beset.trigger().await;
    // Some ask for a lot and read nothing of it.
    let mut greedy = Vec::new();
    let request = b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    for _ in 0..100 {
        greedy.push(beset.connect(&request).await);
    }
    let among_greedy = beset.trigger().await;
    beset.check_rest().await;
    let during = Share::of(program.pid());
    drop((idle, greedy));
    let after = beset.check_aftermath().await;
    println!(
        "{many} idle clients: served after {among_idle:?}; when half of them drip, {among_dripping:?}; with 100 \
         that do not read, {among_greedy:?}. Before: {:?}, during: {during:?}, after: {after:?}",
        beset.before
    );
}
