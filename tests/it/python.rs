//! Helpers that are written in Python: each runs from a virtual environment, made once for all tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Python of the virtual environment `name` under the target directory, which has `packages` installed.
/// It is made on first use, and again when the packages change.
///
/// # Panics
///
/// Panics if there is no `python3`, or if the packages cannot be installed: tests are not skipped.
pub(crate) async fn with_packages(name: &str, packages: &'static [&'static str]) -> PathBuf {
    let folder = target().join(name);
    let made = tokio::task::spawn_blocking(move || make_once(&folder, packages));
    made.await.expect("the environment was made")
}

/// The directory that the build writes to.
pub(crate) fn target() -> &'static Path {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().expect("it is in the target directory")
}

fn make_once(folder: &Path, packages: &[&str]) -> PathBuf {
    fs::create_dir_all(target()).expect("the target directory");
    // Several tests, in several processes even, may want it at the same time.
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let python = folder.join("bin/python");
    let marker = folder.join("packages-installed");
    let wanted = packages.join("\n");
    // The marker is written last, so an environment that was left half made is made again.
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) && python.exists() {
        return python;
    }
    run(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(folder),
        "the tests need python3 on PATH, with its venv module",
    );
    run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--no-input"])
            .arg("--disable-pip-version-check")
            .args(packages),
        "the tests need to install packages from PyPI once",
    );
    fs::write(&marker, wanted).expect("a marker file");
    python
}

/// Runs a command to its end.
///
/// # Panics
///
/// Panics if it fails, with what it said and what is needed `otherwise`.
pub(crate) fn run(command: &mut Command, otherwise: &str) {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            panic!(
                "{otherwise}: {command:?} ended with {}: {said}",
                output.status
            );
        }
        Err(error) => panic!("{otherwise}: cannot run {command:?}: {error}"),
    }
}
