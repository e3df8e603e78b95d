//! Helpers that are written for Node.js: each runs from a folder of its own under the target directory, with
//! its packages installed once for all tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::python::{run, target};

/// A copy of the folder `source`, in which the packages of its lock file are installed. They are installed on
/// first use, and again when the lock file changes.
///
/// # Panics
///
/// Panics if there is no `npm`, or if the packages cannot be installed: tests are not skipped.
pub(crate) async fn with_packages(name: &str, source: &'static str) -> PathBuf {
    let folder = target().join(name);
    let made = tokio::task::spawn_blocking(move || make_once(&folder, Path::new(source)));
    made.await.expect("the folder was made")
}

fn make_once(folder: &Path, source: &Path) -> PathBuf {
    fs::create_dir_all(folder).expect("the target directory");
    // Several tests, in several processes even, may want it at the same time.
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    for file in fs::read_dir(source).expect("the committed folder") {
        let file = file.expect("a file");
        fs::copy(file.path(), folder.join(file.file_name())).expect("a copy");
    }
    let marker = folder.join("node_modules/packages-installed");
    let wanted = fs::read_to_string(folder.join("package-lock.json")).expect("a lock file");
    // The marker is written last, so a folder that was left half made is made again.
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return folder.to_owned();
    }
    run(
        std::process::Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(folder),
        "the tests need Node.js and npm on PATH, and to install packages from npm once",
    );
    fs::write(&marker, wanted).expect("a marker file");
    folder.to_owned()
}
