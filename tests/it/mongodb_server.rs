//! A MongoDB server for tests, shared by all that run in this process.
//!
//! It is, in this order: the one that `NIGHTS_WATCH_TEST_MONGODB_URI` names; a `mongod` on PATH; or
//! `SecantusDB` from `PyPI`, which speaks the same protocol. Whichever it is, each test has databases of its own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection};
use nights_watch::adapters::storage::mongodb::MongoSettings;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::python;

const PACKAGES: &[&str] = &["secantusdb==0.7.0b3"];

/// The variable that names a server of one's own. Its last word, `?` and all, may be options.
const URI_VARIABLE: &str = "NIGHTS_WATCH_TEST_MONGODB_URI";

/// How long a server that has just been started may take until it serves.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server that answers.
pub(crate) struct MongoServer {
    uri: String,
    /// Held, not used: the server ends when its standard input is closed, even if the tests are killed.
    process: Option<(Child, ChildStdin)>,
}

/// A database on a server, empty at first.
pub(crate) struct Database {
    uri: String,
    name: String,
}

impl MongoServer {
    /// The server that all tests share; where each of them is slow, one of a few.
    pub(crate) async fn shared() -> &'static Self {
        const FEW: usize = 2;
        static SHARED: [OnceCell<MongoServer>; FEW] = [const { OnceCell::const_new() }; FEW];
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % FEW;
        SHARED[next]
            .get_or_init(async || match std::env::var(URI_VARIABLE) {
                Ok(uri) if !uri.is_empty() => Self { uri, process: None },
                _ => Self::start(0, &[]).await,
            })
            .await
    }

    /// Starts a server for one test alone, on a port of choice or (0) a free one, with further arguments.
    ///
    /// # Panics
    ///
    /// Panics if there is neither a `mongod` nor a way to install its replacement: tests are not skipped.
    pub(crate) async fn start(port: u16, arguments: &[&str]) -> Self {
        let Some(mongod) = on_path("mongod") else {
            return Self::stand_in(port, arguments).await;
        };
        let python = Path::new("python3");
        let (port, process) = Self::run(python, of_mongod(&mongod), port, arguments).await;
        initiate(port).await;
        Self::at(port, "tests", process)
    }

    /// The same with `SecantusDB` whatever there is: for what needs much more to be set up with a `mongod`,
    /// such as logins.
    pub(crate) async fn stand_in(port: u16, arguments: &[&str]) -> Self {
        let python = python::with_packages("mongodb-venv", PACKAGES).await;
        let (port, process) = Self::run(&python, of_secantus(&python), port, arguments).await;
        Self::at(port, "secantus", process)
    }

    async fn run(
        python: &Path,
        command: Vec<String>,
        port: u16,
        arguments: &[&str],
    ) -> (u16, (Child, ChildStdin)) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mongodb_server.py");
        let mut process = Command::new(python)
            .args([script, "--port", &port.to_string(), "--"])
            .args(command)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is on PATH");
        let stdin = process.stdin.take().expect("it is piped");
        let stdout = process.stdout.take().expect("it is piped");
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(PATIENCE, line).await;
        let line = line.expect("the MongoDB server does not start");
        let line = line.expect("it does not panic").expect("it can be read");
        let port = line.trim().parse();
        let port = port.expect("the MongoDB server ended at once; it has said why above");
        (port, (process, stdin))
    }

    fn at(port: u16, set: &str, process: (Child, ChildStdin)) -> Self {
        let uri = format!("mongodb://127.0.0.1:{port}/?replicaSet={set}&heartbeatFrequencyMS=500");
        Self {
            uri,
            process: Some(process),
        }
    }

    /// A database that no other test has. It is left behind: the server goes, or is somebody's own.
    pub(crate) fn database(&self) -> Database {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        Database {
            uri: self.uri.clone(),
            name: format!("nights_watch_test_{}_{number}", std::process::id()),
        }
    }
}

impl Drop for MongoServer {
    fn drop(&mut self) {
        if let Some((mut process, stdin)) = self.process.take() {
            drop(stdin);
            let _ = process.wait();
        }
    }
}

impl Database {
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The settings with which a store opens it.
    pub(crate) fn settings(&self) -> MongoSettings {
        MongoSettings {
            hosts: self.uri.as_str().into(),
            database: Some(self.name.clone()),
            username: None,
            password: None,
            replica_set: None,
            options: BTreeMap::new(),
        }
    }

    /// Where its server listens: `host:port`.
    pub(crate) async fn address(&self) -> String {
        let options = ClientOptions::parse(&self.uri).await.expect("options");
        options.hosts[0].to_string()
    }

    /// Its watchers, as the server keeps them.
    pub(crate) async fn watchers(&self) -> Collection<Document> {
        self.client()
            .await
            .database(&self.name)
            .collection("watchers")
    }

    /// A client of its own.
    pub(crate) async fn client(&self) -> Client {
        Client::with_uri_str(&self.uri).await.expect("a client")
    }

    /// Lets commands fail as `data` says, `mode` times or as it says otherwise, but only those of clients
    /// that call themselves `app`. A server has one such rule at a time, so it is had for oneself.
    pub(crate) async fn fail(
        &self,
        app: &str,
        mode: impl Into<mongodb::bson::Bson>,
        data: Document,
    ) {
        let mut data = data;
        data.insert("appName", app);
        let command =
            doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
        let admin = self.client().await.database("admin");
        admin.run_command(command).await.expect("it takes the rule");
    }

    /// Ends the rule.
    pub(crate) async fn fail_no_more(&self) {
        let command = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        let admin = self.client().await.database("admin");
        admin.run_command(command).await.expect("it takes the rule");
    }
}

/// Whoever wants to let commands fail waits for this first.
pub(crate) async fn one_who_fails() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn of_mongod(mongod: &Path) -> Vec<String> {
    let words = [
        &mongod.display().to_string(),
        "--port",
        "PORT",
        "--dbpath",
        "FOLDER",
        "--bind_ip",
        "127.0.0.1",
        "--replSet",
        "tests",
        "--setParameter",
        "enableTestCommands=1",
    ];
    words.map(str::to_owned).to_vec()
}

fn of_secantus(python: &Path) -> Vec<String> {
    let words = [
        &python.display().to_string(),
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/mongodb_server_secantus.py"
        ),
        "--port",
        "PORT",
        "--storage-path",
        "FOLDER",
        "--enable-test-commands",
        "--log-level",
        "ERROR",
    ];
    words.map(str::to_owned).to_vec()
}

/// Makes a replica set of a single `mongod`, and waits until it takes writes.
async fn initiate(port: u16) {
    let uri = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
    let client = Client::with_uri_str(uri).await.expect("a client");
    let admin = client.database("admin");
    let member = doc! { "_id": 0, "host": format!("127.0.0.1:{port}") };
    let set = doc! { "_id": "tests", "members": [member] };
    let begun = admin.run_command(doc! { "replSetInitiate": set }).await;
    begun.expect("it becomes a replica set");
    let writable = async {
        loop {
            let hello = admin.run_command(doc! { "hello": 1 }).await;
            if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let primary = tokio::time::timeout(PATIENCE, writable).await;
    primary.expect("it should become the primary");
}
