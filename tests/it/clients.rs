//! Clients that are generated from the committed description, as their users generate them, each of which
//! plays the same story against the real program. What was generated is never touched: where a generator
//! stumbles, the description has to change.
//!
//! The story has every error that a generated client can bring about. A 405 takes a method that the description
//! does not have, so that there is nothing to call; 500 and 503 take a service that fails.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::program::{PATIENCE, Program, directory};
use crate::{node, python};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/nights-watch.json");
const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
const NODE_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/typescript");

/// The generator, the checker of types, and what decides how the generated code works and looks.
const PYTHON_PACKAGES: &[&str] = &[
    "openapi-python-client==0.29.1",
    "attrs==26.1.0",
    "httpx==0.28.1",
    "mypy==2.4.1",
    "ruff==0.17.6",
];

const KEY: &str = "s3cret";

/// Runs a command that has to succeed within `patience`.
#[track_caller]
fn done(command: &mut Command, patience: Duration) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    async move {
        let output = timeout(patience, output).await;
        let output = output.expect("it should end").expect("it should start");
        let said = String::from_utf8_lossy(&output.stdout);
        let complaints = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        assert!(status.success(), "{caller}: {status}\n{said}{complaints}");
    }
}

/// Lets a client play its story against a service that demands a key, and looks at what it left behind.
async fn play(story: &mut Command) {
    let directory = directory();
    // The client is no proxy: what it is wrong about counts.
    let ini = format!("[wsgi]\nauth_key = {KEY}\ntrusted_proxies = 192.0.2.1\n");
    let program = Program::start(directory.path(), &ini).await;
    let url = program.url().trim_end_matches('/');
    // The client waits for a watcher to become late, and guesses until it has to wait, itself with patience.
    done(story.args([url, KEY]), 3 * PATIENCE).await;
    // By now this address may try no other key, but it was right about this one.
    let list = program.done("list", &[("auth_key", KEY)]).await;
    let left = list["watchers"].as_array().expect("watchers").iter();
    let left: Vec<_> = left.map(|watcher| &watcher["name"]).collect();
    assert_eq!(left, ["Asleep", "Restless"]);
    assert!(program.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_rust_by_progenitor_plays_the_story() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let folder = python::target().join("client-rust");
    // Other tests, which have the same processors, are more in a hurry than a compiler.
    let mut build = Command::new("nice");
    build
        .arg(cargo)
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(Path::new(STORIES).join("rust/Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder);
    // It is compiled with all that it depends on when nothing of it is there yet.
    done(&mut build, Duration::from_mins(20)).await;
    play(&mut Command::new(folder.join("debug/story"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_python_by_openapi_python_client_plays_the_story() {
    let python = python::with_packages("client-python-venv", PYTHON_PACKAGES).await;
    let tools = python.parent().expect("a folder of programs");
    let folder = tempfile::tempdir_in(python::target()).expect("a temporary directory");
    let mut path = vec![tools.to_owned()];
    path.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let path = std::env::join_paths(path).expect("a PATH");
    let tool = |name: &str| {
        let mut command = Command::new(tools.join(name));
        command.env("PATH", &path).current_dir(folder.path());
        command
    };
    let mut generate = tool("openapi-python-client");
    generate
        .args(["generate", "--meta", "none", "--fail-on-warning"])
        .args(["--output-path", "nights_watch_client", "--path", DOCUMENT]);
    done(&mut generate, PATIENCE).await;
    let story = Path::new(STORIES).join("python/story.py");
    // What it remembers stays in the folder too: it would take one generated package for another.
    let mut check = tool("mypy");
    check
        .args(["--strict", "--follow-imports=silent"])
        .env("MYPYPATH", folder.path())
        .arg(&story);
    done(&mut check, 2 * PATIENCE).await;
    let mut run = tool("python");
    run.env("PYTHONPATH", folder.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(&story);
    play(&mut run).await;
}

/// The folder in which the packages from npm are installed.
async fn node_folder() -> PathBuf {
    node::with_packages("client-typescript", NODE_FOLDER).await
}

fn node_tool(folder: &Path, name: &str) -> Command {
    let mut command = Command::new(folder.join("node_modules/.bin").join(name));
    command.current_dir(folder);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_typescript_by_openapi_fetch_plays_the_story() {
    let folder = node_folder().await;
    let mut generate = node_tool(&folder, "openapi-typescript");
    generate.args([DOCUMENT, "--output", "nights-watch.ts"]);
    done(&mut generate, PATIENCE).await;
    // It writes nothing unless the types are right.
    done(&mut node_tool(&folder, "tsc"), 2 * PATIENCE).await;
    let mut run = Command::new("node");
    play(run.arg(folder.join("out/story.js"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linter_finds_nothing_in_the_description() {
    let folder = node_folder().await;
    let mut lint = Command::new("node");
    lint.args(["lint.mjs", DOCUMENT]).current_dir(&folder);
    done(&mut lint, PATIENCE).await;
}
