//! What the program is delivered as: the Debian package, the systemd unit, the image of a container, and that all of
//! them are of one version.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nights_watch::app::version;
use serde_json::Value;

use crate::program::{self, Program, directory};
use crate::watching::in_repository;

const UNIT: &str = "deploy/systemd/nights-watch.service";

/// Runs what has to succeed, and returns what it says; `None` if there is no such program here.
fn say(command: &mut Command) -> Option<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().ok()?;
    let complaints = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {complaints}");
    Some(String::from_utf8(stdout).expect("text"))
}

/// What the package's description says of Debian's.
fn deb() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(in_repository(""));
    let metadata = say(&mut cargo).expect("cargo runs the tests");
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let package = &metadata["packages"][0];
    assert_eq!(package["version"], version::RELEASE);
    package["metadata"]["deb"].clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// The files that an asset stands for.
fn files(pattern: &str) -> Vec<PathBuf> {
    let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let folder = in_repository(folder.trim_end_matches("/**"));
    let Some(end) = name.strip_prefix('*') else {
        return vec![folder.join(name)];
    };
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let files = paths.filter(|path| path.is_file() && path.to_string_lossy().ends_with(end));
    files.collect()
}

/// Lays out in `root` what the package would install. With cargo-deb at hand it is the package itself.
fn install(root: &Path) {
    let binary = Path::new(env!("CARGO_BIN_EXE_nights-watch"));
    let package = root.join("nights-watch.deb");
    let mut cargo = Command::new("cargo-deb");
    cargo
        .args([
            "--no-build",
            "--profile",
            "dev",
            "--no-strip",
            "--no-dbgsym",
            "--fast",
            "--output",
        ])
        .arg(&package)
        .current_dir(in_repository(""));
    let has_profile = binary
        .parent()
        .is_some_and(|folder| folder.ends_with("target/debug"));
    if has_profile && say(&mut cargo).is_some() {
        let unpacked = say(Command::new("dpkg").arg("-x").arg(&package).arg(root));
        unpacked.expect("where there is cargo-deb there is dpkg");
        let about = say(Command::new("dpkg-deb").arg("-f").arg(&package)).expect("dpkg");
        assert!(about.contains("Package: nights-watch\n"), "{about}");
        assert!(
            about.contains(&format!("Version: {}-1\n", version::RELEASE)),
            "{about}"
        );
        return;
    }
    for asset in deb()["assets"].as_array().expect("a list") {
        let [from, to, mode] = [0, 1, 2].map(|part| text(&asset[part]));
        let is_binary = from == "target/release/nights-watch";
        let files = if is_binary {
            vec![binary.to_owned()]
        } else {
            files(from)
        };
        assert!(!files.is_empty(), "{from} is nowhere");
        for file in files {
            let name = file.file_name().expect("a name");
            let to = if to.ends_with('/') {
                root.join(to).join(name)
            } else {
                root.join(to)
            };
            fs::create_dir_all(to.parent().expect("a folder")).expect("a writable folder");
            fs::copy(&file, &to).unwrap_or_else(|error| panic!("{from}: {error}"));
            let mode = u32::from_str_radix(mode, 8).expect("a mode");
            fs::set_permissions(&to, fs::Permissions::from_mode(mode)).expect("it is ours");
        }
    }
    let units = root.join("lib/systemd/system");
    fs::create_dir_all(&units).expect("a writable folder");
    fs::copy(in_repository(UNIT), units.join("nights-watch.service")).expect("the unit");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_debian_package_installs_serves_as_its_unit_starts_it() {
    let (root, state, secrets) = (directory(), directory(), directory());
    install(root.path());
    let units = ["lib", "usr/lib"].map(|lib| root.path().join(lib).join("systemd/system"));
    let unit = units
        .iter()
        .find_map(|units| fs::read_to_string(units.join("nights-watch.service")).ok());
    let unit = unit.expect("the unit is installed");
    let of = |key: &str| {
        let lines = unit
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("Type"), ["notify"]);
    assert_eq!(of("StateDirectory"), ["nights-watch"]);
    assert_eq!(of("WorkingDirectory"), ["%S/nights-watch"]);
    assert!(!of("WatchdogSec").is_empty());
    for conf in deb()["conf-files"].as_array().expect("a list") {
        let conf = root.path().join(text(conf).trim_start_matches('/'));
        assert!(conf.is_file(), "{}", conf.display());
    }

    // As systemd does it: what ExecStart names, in the folder for the state, with the credentials.
    for credential in of("LoadCredential") {
        let (name, stored) = credential
            .split_once(':')
            .expect("a name of ours, and one of the machine's");
        assert!(stored.starts_with("nights-watch."), "{stored} is nobody's");
        fs::write(secrets.path().join(name), "hunter2\n").expect("a writable folder");
    }
    let ini = root.path().join("etc/nights-watch.ini");
    let ini = fs::read_to_string(ini).expect("the default settings");
    let ini = format!("{ini}\n[email]\nsender = watch@example.org\nusername = watch\n");
    let executable = root.path().join(of("ExecStart")[0].trim_start_matches('/'));
    let mut command = tokio::process::Command::new(executable);
    command
        .current_dir(state.path())
        .env("CREDENTIALS_DIRECTORY", secrets.path())
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NIGHTS_WATCH_")) {
        command.env_remove(name);
    }
    let program = Program::start_by(state.path(), &ini, command).await;
    let (status, _) = program.ask("list", &[]).await;
    assert_eq!(status, 401, "the key is known");
    program.done("list", &[("auth_key", "hunter2")]).await;
    assert!(state.path().join("nights-watch.db").is_file());
    assert!(program.stop().await.success());
    let log = program::read_log(state.path());
    assert!(log.contains("mailing notices"), "{log}");
}

#[test]
fn the_unit_shuts_the_service_off_from_the_rest_of_the_machine() {
    let unit = fs::read_to_string(in_repository(UNIT)).expect("the unit");
    let lines: BTreeSet<_> = unit.lines().collect();
    for line in [
        "DynamicUser=yes",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateDevices=yes",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "RestrictNamespaces=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "SystemCallFilter=setpriority",
        "StartLimitIntervalSec=0",
    ] {
        assert!(lines.contains(line), "{line}");
    }
    // Only what runs systemd can say what that amounts to.
    let mut analyze = Command::new("systemd-analyze");
    analyze
        .args(["security", "--offline=true", "--no-pager"])
        .arg(in_repository(UNIT));
    if let Some(said) = say(&mut analyze) {
        let last = said.trim_end().lines().last().expect("a line");
        let level = last
            .split_whitespace()
            .find_map(|word| word.parse::<f64>().ok());
        assert!(level.expect("a level") < 2.0, "{last}");
    }
}

#[test]
fn a_container_is_built_from_all_that_a_build_needs() {
    let context = directory();
    let ignored = fs::read_to_string(in_repository(".containerignore")).expect("a file");
    for kept in ignored.lines().filter_map(|line| line.strip_prefix('!')) {
        let from = in_repository(kept);
        assert!(from.exists(), "{kept}");
        // As links: cargo only looks whether they are there.
        std::os::unix::fs::symlink(from, context.path().join(kept)).expect("a link");
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "metadata",
        "--no-deps",
        "--offline",
        "--locked",
        "--format-version",
        "1",
    ]);
    let metadata = say(cargo.current_dir(context.path())).expect("cargo runs the tests");
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let targets = metadata["packages"][0]["targets"]
        .as_array()
        .expect("a list");
    let kinds: BTreeSet<_> = targets
        .iter()
        .map(|target| text(&target["kind"][0]))
        .collect();
    // Without its build script a program would not know what it is.
    for kind in ["bin", "lib", "custom-build"] {
        assert!(kinds.contains(kind), "{kinds:?}");
    }
    for target in targets {
        let path = Path::new(text(&target["src_path"]));
        assert!(path.is_file(), "{}", path.display());
    }
}

/// What the package has from the program itself, and how that says it.
const SAID: [(&str, &[&str]); 4] = [
    ("deploy/shell/nights-watch.1", &["man"]),
    ("deploy/shell/nights-watch.bash", &["completions", "bash"]),
    ("deploy/shell/nights-watch.fish", &["completions", "fish"]),
    ("deploy/shell/_nights-watch", &["completions", "zsh"]),
];

#[test]
fn the_manual_and_the_completions_are_those_of_the_program() {
    for (file, arguments) in SAID {
        let mut program = Command::new(env!("CARGO_BIN_EXE_nights-watch"));
        let said = say(program.args(arguments)).expect("the program is there");
        let kept = fs::read_to_string(in_repository(file)).expect(file);
        let renew = arguments.join(" ");
        assert!(
            said == kept,
            "{file} is stale: cargo run -- {renew} > {file}"
        );
    }
}

#[test]
fn everything_is_of_one_version() {
    let (release, commit) = (version::RELEASE, version::COMMIT);
    let full = if commit.is_empty() {
        release.to_owned()
    } else {
        format!("{release} ({commit})")
    };
    assert_eq!(version::FULL, full);
    let changes = fs::read_to_string(in_repository("CHANGELOG.md")).expect("the changelog");
    let mut headings = changes.lines().filter_map(|line| line.strip_prefix("## ["));
    let newest = headings.find(|line| !line.starts_with("Unreleased"));
    assert!(
        newest.is_some_and(|line| line.starts_with(&format!("{release}]"))),
        "{newest:?}"
    );
    // A source package has no commit, and whoever builds may name another one.
    let is_of_git = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_of_git && in_repository(".git").exists() {
        let mut git = Command::new("git");
        // Not of HEAD: somebody may have committed since the build.
        git.args(["cat-file", "-t", commit])
            .current_dir(in_repository(""));
        let kind = say(&mut git).expect("the build has asked it, too");
        assert_eq!(kind, "commit\n");
    }
}
