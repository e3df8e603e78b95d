//! The program at a database that wants a login, or is reached by TLS.

use std::time::{Duration, Instant};

use mongodb::bson::doc;
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::mongodb_server::{Database, MongoServer};
use crate::program::{Program, run};

const USER: &str = "j:o/n@x";
const PASSWORD: &str = "p%#@ :/?ss";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Has the program write and read.
async fn works(settings: &str) {
    let folder = folder();
    let program = Program::start(folder.path(), settings).await;
    let id = program.create("Job", "3600", &[]).await;
    program.done("trigger", &[("id", &id)]).await;
    let got = program.done("get", &[("id", &id)]).await;
    let history = got["watcher"]["history"].as_array();
    assert_eq!(history.map(Vec::len), Some(2), "{got}");
    assert!(program.stop().await.success());
}

/// What the program says, besides warnings, when it does not start: one line, soon, without secrets.
async fn refusal(settings: &str) -> String {
    let folder = folder();
    std::fs::write(folder.path().join("nights-watch.ini"), settings).expect("it can be written");
    let begin = Instant::now();
    let output = run(folder.path(), &["--host", "127.0.0.1", "--port", "0"]).await;
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // The driver sometimes trips over its own end, when nobody waits for a connection any more.
    let is_said = |line: &&str| !line.contains("WARN") && !line.contains("connection_requester.rs");
    let said: Vec<&str> = said.lines().filter(is_said).collect();
    println!("{said:?}");
    let [line] = *said else { panic!("{said:?}") };
    assert!(line.starts_with("nights-watch: [mongodb]: "), "{line}");
    line.to_owned()
}

fn login(database: &Database, address: &str, password: &str) -> String {
    format!(
        "[mongodb]\nhosts = {address}\ndatabase = {}\nusername = {USER}\npassword = {password}\n\
         directConnection = true\n",
        database.name(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_odd_characters_works_and_a_wrong_one_is_said() {
    let data = folder();
    let data = data.path().to_str().expect("a path");
    let server = MongoServer::stand_in(0, &["--storage-path", data, "--sync-on-commit"]).await;
    let database = server.database();
    let user = doc! { "createUser": USER, "pwd": PASSWORD, "roles": ["readWrite"] };
    let handle = database.client().await.database(database.name());
    handle.run_command(user).await.expect("the user is made");
    drop((handle, server));
    let server = MongoServer::stand_in(0, &["--storage-path", data, "--auth"]).await;
    let address = server.database().address().await;

    works(&login(&database, &address, PASSWORD)).await;
    for (wrong, expected) in [
        ("p%#@ :/?sS", "authentication failed"),
        ("hush%23", "authentication failed"),
        ("", "no password supplied"),
    ] {
        let line = refusal(&login(&database, &address, wrong)).await;
        assert!(line.ends_with(expected), "{line}");
        assert!(!line.contains("p%") && !line.contains("hush"), "{line}");
    }
    let nobody = format!(
        "[mongodb]\nhosts = {address}\ndatabase = {}\nusername =\npassword =\ndirectConnection = true\n",
        database.name(),
    );
    let line = refusal(&nobody).await;
    assert!(line.contains("authentication"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_works_with_the_right_authority_and_a_wrong_one_is_said() {
    let right = Certificates::of(&["127.0.0.1", "localhost"]).await;
    let wrong = Certificates::of(&["127.0.0.1", "localhost"]).await;
    let (certificate, key) = (right.server(), right.key());
    let options = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
    let server = MongoServer::stand_in(0, &options).await;
    let address = server.database().address().await;
    let settings = |authority: &str| {
        format!(
            "[mongodb]\nhosts = {address}\ndatabase = d\nusername =\npassword =\n\
             tls = true\ntlsCAFile = {authority}\ndirectConnection = true\n",
        )
    };
    works(&settings(&right.authority())).await;
    let line = refusal(&settings(&wrong.authority())).await;
    assert!(line.contains("certificate"), "{line}");
    let missing = refusal(&settings("no-such-file.pem")).await;
    assert!(missing.contains("no-such-file.pem"), "{missing}");
}
