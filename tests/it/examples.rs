//! What lies in `examples/`, run by the shells that would run it, against a service that runs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::program::{PATIENCE, Program, directory};
use crate::watching::{in_repository, read_as};

/// What stands for the service in all examples.
const SERVER: &str = "http://nights-watch-server";
/// What stands for the identifier of a watcher.
const ID: &str = "fbkvlsby";
/// What stands for that which is to be run.
const SCRIPT: &str = "my-backup-script.sh";
/// The status that it fails with.
const FAILURE: i32 = 3;

/// A service with a watcher, and a script for it to watch.
struct Place {
    program: Program,
    id: String,
    folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        let folder = directory();
        let program = Program::start(folder.path(), "").await;
        let id = program.create("My backup", "3600", &[]).await;
        let script = folder.path().join(SCRIPT);
        std::fs::write(&script, "#!/bin/sh\nexit \"$STATUS\"\n").expect("a writable folder");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&script, mode).expect("it is ours");
        Self {
            program,
            id,
            folder,
        }
    }

    /// An example, with what stands for something in it replaced by what it stands for here.
    fn adapt(&self, text: &str) -> String {
        let url = self.program.url().trim_end_matches('/');
        let text = text.replace("/usr/bin/nights-watch", "nights-watch");
        text.replace(SERVER, url).replace(ID, &self.id)
    }

    /// Runs `command`, where the script succeeds or fails.
    async fn run(&self, command: &[&str], variables: &[(&str, &str)], succeeds: bool) -> Output {
        let binary = Path::new(env!("CARGO_BIN_EXE_nights-watch"));
        let usual = std::env::var_os("PATH").expect("there is a PATH");
        let folders = [
            self.folder.path().to_owned(),
            binary.parent().expect("a folder").to_owned(),
        ];
        let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&usual)));
        let output = Command::new(command[0])
            .args(&command[1..])
            .env("PATH", path.expect("no odd names"))
            .env("STATUS", if succeeds { 0 } else { FAILURE }.to_string())
            .envs(variables.iter().copied())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        timeout(PATIENCE, output)
            .await
            .expect("it ends")
            .expect("it starts")
    }

    /// The comments that the watcher was triggered with, newest first.
    async fn triggers(&self) -> Vec<String> {
        let watcher = self.program.done("get", &[("id", &self.id)]).await;
        let history = watcher["watcher"]["history"]
            .as_array()
            .expect("a list")
            .clone();
        let comments = history
            .iter()
            .map(|event| event[1].as_str().expect("text").to_owned());
        comments
            .filter(|comment| comment.starts_with("Triggered"))
            .collect()
    }

    /// Checks that `command` triggers the watcher when the script succeeds, and only then. Returns the comment.
    #[track_caller]
    fn check(&self, command: &[&str], variables: &[(&str, &str)]) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let before = self.triggers().await;
            let output = self.run(command, variables, false).await;
            assert_eq!(
                output.status.code(),
                Some(FAILURE),
                "{command:?} at {caller}: {output:?}"
            );
            assert_eq!(
                self.triggers().await,
                before,
                "{command:?} at {caller} hides a failure"
            );
            let output = self.run(command, variables, true).await;
            assert!(
                output.status.success(),
                "{command:?} at {caller}: {output:?}"
            );
            assert!(
                output.stdout.is_empty(),
                "{command:?} at {caller} is not quiet: {output:?}"
            );
            let mut after = self.triggers().await;
            assert_eq!(after.len(), before.len() + 1, "{command:?} at {caller}");
            after.swap_remove(0)
        }
    }
}

fn read(name: &str) -> String {
    std::fs::read_to_string(in_repository("examples").join(name)).expect("an example")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn cron_jobs_report_when_they_have_succeeded() {
    let place = Place::new().await;
    let line = Regex::new(r"^((?:[0-9*]+ ){5}) (.+)$").unwrap();
    let mut comments = Vec::new();
    let mut watch = None;
    let crontab = read("crontab");
    for job in crontab
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let command = &line
            .captures(job)
            .unwrap_or_else(|| panic!("not a cron job: {job}"))[2];
        assert!(
            !command.contains('%'),
            "cron takes it for the end of a line: {job}"
        );
        let command = place.adapt(command);
        if command.contains(SCRIPT) {
            comments.push(place.check(&["sh", "-c", &command], &[]).await);
        } else {
            watch = Some(command);
        }
    }
    assert_eq!(comments[0], "Triggered");
    assert!(comments[1].starts_with("Triggered (on "), "{comments:?}");

    let watch = watch.expect("one job watches the watcher");
    let before = place.triggers().await.len();
    let output = place.run(&["sh", "-c", &watch], &[], true).await;
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(place.triggers().await.len(), before + 1);
    let Place {
        program,
        id,
        folder,
    } = place;
    let port = program.url().to_owned();
    assert!(program.stop().await.success());
    let output = Command::new("sh")
        .args(["-c", &watch])
        .current_dir(folder.path())
        .output()
        .await;
    let output = output.expect("it starts");
    assert_eq!(
        output.stdout, b"Failed to trigger watcher.\n",
        "{port} {id}: {output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_reports_from_its_trap() {
    let place = Place::new().await;
    let script = place.folder.path().join("trap.sh");
    std::fs::write(&script, place.adapt(&read("trap.sh"))).expect("a writable folder");
    let script = script.to_str().expect("a name in Unicode");
    let expected = Regex::new(r"^Triggered \(took \d+ s\)$").unwrap();
    for shell in ["sh", "bash"] {
        let comment = place.check(&[shell, script], &[]).await;
        assert!(expected.is_match(&comment), "{comment}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_a_systemd_timer_reports_after_its_job() {
    let place = Place::new().await;
    let script = place.folder.path().join(SCRIPT);
    let script = script.to_str().expect("a name in Unicode");
    let unit = place.adapt(&read("systemd/my-backup.service"));
    let unit = unit.replace(&format!("/usr/local/bin/{SCRIPT}"), script);
    let of = |key: &str| {
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {key} in {unit}"))
            .trim_start_matches('-')
    };
    // As systemd does it: by no shell, and what comes after only when the job has succeeded.
    let [job, report] = ["ExecStart", "ExecStartPost"].map(of);
    assert_eq!((of("Type"), job), ("oneshot", script));
    let both = format!("{job} || exit; exec {report}");
    assert!(
        !report.contains(['$', '|', '>', '&', '"', '\'', '%']),
        "{report}"
    );
    place.check(&["sh", "-c", &both], &[]).await;

    let timer = read("systemd/my-backup.timer");
    let written = |name: &str, text: &str| -> PathBuf {
        let path = place.folder.path().join(name);
        std::fs::write(&path, text).expect("a writable folder");
        path
    };
    let files = [
        written("my-backup.service", &unit),
        written("my-backup.timer", &timer),
    ];
    // Only what runs systemd has it.
    if let Ok(output) = Command::new("systemd-analyze")
        .arg("verify")
        .args(&files)
        .output()
        .await
    {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !said.contains("my-backup"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_of_kubernetes_reports_after_its_work() {
    let place = Place::new().await;
    let job = read_as("yaml", &in_repository("examples/kubernetes-cronjob.yaml")).await;
    let job = &job[0];
    assert_eq!(
        (text(&job["apiVersion"]), text(&job["kind"])),
        ("batch/v1", "CronJob")
    );
    assert_eq!(text(&job["spec"]["schedule"]).split(' ').count(), 5);
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    let container = &pod["containers"][0];
    assert_eq!(container["env"][0]["name"], "WATCHER_URL");
    let words = ["command", "args"].map(|part| container[part].as_array().expect("a list"));
    let words: Vec<_> = words.into_iter().flatten().map(text).collect();
    let url = place.adapt(&format!("{SERVER}/{ID}"));
    let comment = place.check(&words, &[("WATCHER_URL", &url)]).await;
    assert!(comment.starts_with("Triggered ("), "{comment}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_of_github_reports_in_its_last_step() {
    let place = Place::new().await;
    let workflow = read_as("yaml", &in_repository("examples/github-actions.yml")).await;
    let workflow = &workflow[0];
    assert_eq!(
        text(&workflow["on"]["schedule"][0]["cron"])
            .split(' ')
            .count(),
        5
    );
    let steps = workflow["jobs"]["my-backup"]["steps"]
        .as_array()
        .expect("a list");
    let last = steps.last().expect("a step");
    assert_eq!(last["env"]["WATCHER_URL"], "${{ secrets.WATCHER_URL }}");
    assert!(last["if"].is_null(), "it would run after a failure");
    // Each step is a file of its own, and the first that fails is the last.
    let runs = steps.iter().filter_map(|step| step["run"].as_str());
    let runs: Vec<_> = runs.map(|run| format!("(\n{run}\n)")).collect();
    let all = runs.join(" && ");
    let url = place.adapt(&format!("{SERVER}/{ID}"));
    let variables = [("WATCHER_URL", url.as_str()), ("GITHUB_RUN_NUMBER", "42")];
    let comment = place.check(&["bash", "-e", "-c", &all], &variables).await;
    assert_eq!(comment, "Triggered (run 42)");
}
