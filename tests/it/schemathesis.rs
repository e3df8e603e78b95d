//! The program against its own description: schemathesis reads that, asks for everything that it allows and
//! for much that it does not, and compares the answers.
//!
//! It asks from this machine, whose guesses are not limited. Two of its checks are left out. That valid data
//! be accepted cannot hold: that a text is an address, or that two parameters contradict each other, is
//! nothing that a schema says. That invalid data be refused does not hold to the letter: white space around a
//! value is dropped before it is measured, since a trigger should not fail for that. `/metrics` is in another
//! format for another reader, so it is not in the description; `http` has a test of it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::program::Program;
use crate::python;

/// What it generates depends on all three.
const PACKAGES: &[&str] = &[
    "schemathesis==4.32.5",
    "hypothesis==6.170.15",
    "jsonschema_rs==0.60.3",
];

const OPERATIONS: usize = 13;
const KEY: &str = "s3cret";

/// Runs it with further `settings` and `options`, and checks that it looked at so many operations and found
/// nothing.
async fn check(
    program: &Program,
    directory: &Path,
    count: usize,
    settings: &str,
    options: &[&str],
) {
    // Told apart from parameters, the key can be left out and falsified on purpose.
    let auth = format!(
        "[auth.openapi.bearer]\nbearer = \"{KEY}\"\n[auth.openapi.authKey]\napi_key = \"{KEY}\"\n"
    );
    let config = directory.join("schemathesis.toml");
    std::fs::write(&config, format!("{settings}{auth}")).expect("a writable directory");
    let python = python::with_packages("schemathesis-venv", PACKAGES).await;
    let output = Command::new(python.with_file_name("schemathesis"))
        .arg("--config-file")
        .arg(&config)
        .args(["run", &format!("{}openapi.json", program.url())])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args([
            "--exclude-checks",
            "positive_data_acceptance,negative_data_rejection",
        ])
        .args([
            "--seed",
            "20150319",
            "--max-examples",
            "30",
            "--workers",
            "1",
        ])
        .args(["--generation-database", "none", "--warnings", "off"])
        .args(["--continue-on-failure", "--no-color"])
        .args(options)
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_mins(3), output).await;
    let output = output.expect("it should end").expect("it should start");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaints}");
    assert!(said.contains(&format!("Tested: {count}\n")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_answers_as_its_description_says() {
    let directory = TempDir::new().expect("a temporary directory");
    let ini = format!("[wsgi]\nauth_key = {KEY}\n");
    let program = Program::start(directory.path(), &ini).await;
    check(&program, directory.path(), OPERATIONS, "", &[]).await;
    // Little is found by identifiers that are made up, so once more with one that there is.
    let create = [("name", "W"), ("periodicity", "60"), ("auth_key", KEY)];
    let id = program.done("create", &create).await["watcher"]["id"].clone();
    let settings = format!("[parameters]\n\"path.id\" = {id}\n\"query.id\" = {id}\n");
    let options = ["--exclude-operation-id", "deleteWatcher"];
    check(
        &program,
        directory.path(),
        OPERATIONS - 1,
        &settings,
        &options,
    )
    .await;
    // It found it, and may have renamed it.
    let get = [("id", id.as_str().expect("text")), ("auth_key", KEY)];
    let events = program.done("get", &get).await["watcher"]["history"].to_string();
    for word in ["Triggered", "Paused"] {
        assert!(events.contains(word), "never {word}: {events}");
    }
    assert!(program.stop().await.success());
}
