//! The real binary as a process of its own, in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long anything that a test waits for may take, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

const API: &str = "nights-watch/v1/watcher";

/// A running service. It is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    url: String,
    pub(crate) client: Client,
}

/// A directory that is gone with the test.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Settings that send mails to the server at `port` of this machine.
pub(crate) fn mail_settings(port: u16) -> String {
    format!(
        "[email]\nsender = Night's Watch <watch@example.org>\nhost = 127.0.0.1\nport = {port}\n"
    )
}

/// A command that runs the binary in `directory`, with no setting but those in the files there.
pub(crate) fn command(directory: &Path) -> Command {
    command_under(&[], directory)
}

/// The same by way of `wrapper`, a command that becomes the one that is appended to it.
pub(crate) fn command_under(wrapper: &[&str], directory: &Path) -> Command {
    let mut words = wrapper.iter().chain(&[env!("CARGO_BIN_EXE_nights-watch")]);
    let mut command = Command::new(words.next().expect("the binary at least"));
    command.args(words);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NIGHTS_WATCH_")) {
        command.env_remove(name);
    }
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs the binary to its end, which has to come by itself.
pub(crate) async fn run(directory: &Path, arguments: &[&str]) -> Output {
    let output = command(directory).args(arguments).output();
    timeout(PATIENCE, output)
        .await
        .expect("it should end by itself")
        .expect("it should start")
}

impl Program {
    /// Starts the service on a free port with the settings `ini`, and waits until it serves. What it logs
    /// is added to `log.txt` in the directory.
    pub(crate) async fn start(directory: &Path, ini: &str) -> Self {
        Self::start_in(directory, ini, &[]).await
    }

    /// The same in an environment that has these variables.
    pub(crate) async fn start_in(directory: &Path, ini: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = command(directory);
        command.envs(variables.iter().copied());
        Self::start_by(directory, ini, command).await
    }

    /// The same by a command that becomes the service.
    pub(crate) async fn start_by(directory: &Path, ini: &str, mut command: Command) -> Self {
        std::fs::write(directory.join("nights-watch.ini"), ini).expect("a writable directory");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log_path(directory))
            .expect("a writable directory");
        let mut child = command
            .args(["--host", "127.0.0.1", "--port", "0"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let line = timeout(PATIENCE, stdout.lines().next_line()).await;
        let line = line
            .expect("it should serve in time")
            .expect("a readable pipe");
        let Some(line) = line else {
            panic!("it did not start: {}", read_log(directory))
        };
        let url = line
            .split_whitespace()
            .find(|word| word.starts_with("http://"));
        let url = url.expect("the line says where it serves").to_owned();
        Self {
            child,
            url,
            client: Client::new(),
        }
    }

    /// The URL of a path at the root.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The URL of the root.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Asks for an operation, and returns the status and the answer.
    pub(crate) async fn ask(
        &self,
        operation: &str,
        parameters: &[(&str, &str)],
    ) -> (StatusCode, Value) {
        let url = self.at(&format!("{API}/{operation}"));
        let request = self.client.get(url).query(parameters).timeout(PATIENCE);
        let response = request.send().await.expect("an answer");
        (
            response.status(),
            response.json().await.expect("an answer in JSON"),
        )
    }

    /// Asks for an operation that has to succeed.
    #[track_caller]
    pub(crate) fn done(
        &self,
        operation: &str,
        parameters: &[(&str, &str)],
    ) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let (status, answer) = self.ask(operation, parameters).await;
            assert_eq!(status, StatusCode::OK, "{operation} at {caller}: {answer}");
            answer
        }
    }

    /// Creates a watcher that tells `emails`, and returns its identifier.
    pub(crate) async fn create(&self, name: &str, periodicity: &str, emails: &[&str]) -> String {
        let mut parameters = vec![("name", name), ("periodicity", periodicity)];
        parameters.extend(emails.iter().map(|email| ("email", *email)));
        let answer = self.done("create", &parameters).await;
        answer["watcher"]["id"]
            .as_str()
            .expect("an identifier")
            .to_owned()
    }

    /// One line of the metrics, without its name.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self
            .client
            .get(self.at("metrics"))
            .send()
            .await
            .expect("an answer");
        let text = text.text().await.expect("text");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    /// Waits until a line of the metrics has `value`.
    pub(crate) async fn until_metric(&self, name: &str, value: f64) {
        let reached = async {
            while self.metric(name).await != Some(value) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, reached)
            .await
            .unwrap_or_else(|_| panic!("{name} should become {value}"));
    }

    /// Ends it as the power cut does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it was running");
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.wait().await
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).expect("it can be asked to end");
    }

    /// Stops it as a machine that hangs does: it keeps its connections, and says nothing.
    pub(crate) fn suspend(&self) {
        kill_process(self.pid(), Signal::STOP).expect("it can be stopped");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it can go on");
    }

    /// The process that serves.
    pub(crate) fn pid(&self) -> Pid {
        let id = self.child.id();
        let pid = id.and_then(|id| Pid::from_raw(id.try_into().ok()?));
        pid.expect("it runs")
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait())
            .await
            .expect("it should end")
            .expect("a status")
    }
}

/// Where the log of the service in `directory` is.
pub(crate) fn log_path(directory: &Path) -> PathBuf {
    directory.join("log.txt")
}

/// What the service in `directory` has logged so far.
pub(crate) fn read_log(directory: &Path) -> String {
    std::fs::read_to_string(log_path(directory)).unwrap_or_default()
}
