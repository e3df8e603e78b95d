//! Tells the program which commit it is built from, if that is known.

use std::env;
use std::path::Path;
use std::process::Command;

/// Says which commit it is where a tree without `.git` is built, such as a container's. Its name does not begin as those
/// of the settings do: a program that is run in the environment of its build would refuse it.
const VARIABLE: &str = "BUILD_COMMIT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let told = env::var(VARIABLE).ok().filter(|told| is_name(told));
    let commit = told.or_else(of_git).unwrap_or_default();
    let release = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let full = if commit.is_empty() {
        release
    } else {
        format!("{release} ({commit})")
    };
    println!("cargo::rustc-env=PROGRAM_COMMIT={commit}");
    println!("cargo::rustc-env=PROGRAM_VERSION={full}");
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The commit that is checked out here; `None` without git, and in a source package, also one that lies within the
/// repository of somebody else.
fn of_git() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    let branch = git(&["rev-parse", "--symbolic-full-name", "HEAD"]);
    // What changes with the commit, the log of HEAD always if git keeps one. A file that is not there would make
    // every build a new one.
    for name in ["HEAD", "logs/HEAD", branch.as_deref().unwrap_or("HEAD")] {
        let file = git(&["rev-parse", "--git-path", name]);
        if let Some(file) = file.filter(|file| Path::new(file).exists()) {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    git(&["rev-parse", "--short", "HEAD"]).filter(|commit| is_name(commit))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}
