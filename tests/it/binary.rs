//! The program as its users have it: a process, its settings, its answers, its mails and its end.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nights_watch::app::version;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::timeout;

use crate::program::{PATIENCE, Program, command, directory, mail_settings, read_log, run};
use crate::smtp_server::SmtpServer;

fn has_recovered(answer: &Value) -> bool {
    answer["recovered"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_found_nobody_in_an_outage_has_a_grace_from_the_first_request_on() {
    let directory = directory();
    let settings = "[monitor]\noutage_grace = 600\n";
    let program = Program::start(directory.path(), settings).await;
    let id = program.create("Backup", "20", &[]).await;
    program.kill().await;
    // As if it had been away for a minute.
    let database = rusqlite::Connection::open(directory.path().join("nights-watch.db"));
    let sql = "UPDATE housekeeping SET watched = watched - 60000; \
               UPDATE timings SET deadline = deadline - 30000; UPDATE watchers SET wake = wake - 30000";
    database
        .expect("a database")
        .execute_batch(sql)
        .expect("it can be changed");

    let program = Program::start(directory.path(), settings).await;
    let answer = program.done("trigger", &[("id", &id)]).await;
    assert!(!has_recovered(&answer), "{answer}");
    assert!(program.stop().await.success());
    let log = read_log(directory.path());
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("put_off=1"))
        .collect();
    assert_eq!(told.len(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_goes_silent_is_reported_by_mail_and_so_is_its_return() {
    let (directory, server) = (directory(), SmtpServer::start().await);
    let program = Program::start(directory.path(), &mail_settings(server.port())).await;
    let parameters = [
        ("name", "Nächtliche Sicherung"),
        ("periodicity", "0.5"),
        ("email", "ops@example.org"),
        ("description", "The dump of db1; ask Ann."),
    ];
    let id = program.done("create", &parameters).await["watcher"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    program
        .client
        .get(program.at(&format!("{id}?m=ran")))
        .send()
        .await
        .expect("an answer");

    let late = server.next_message().await;
    assert_eq!(late.from, "watch@example.org");
    assert_eq!(late.to, ["ops@example.org"]);
    assert_eq!(
        late.header("From").unwrap(),
        "Night's Watch <watch@example.org>"
    );
    assert_eq!(
        late.header("Subject").unwrap(),
        "[LATE] Nächtliche Sicherung has not reported"
    );
    assert_eq!(late.header("Auto-Submitted").unwrap(), "auto-generated");
    assert!(late.header("Date").is_some());
    assert!(
        late.body.contains("The dump of db1; ask Ann."),
        "{}",
        late.body
    );
    assert!(late.body.contains("Triggered (ran)"), "{}", late.body);
    let late_id = late.header("Message-ID").unwrap();
    assert!(late_id.ends_with("@example.org>"), "{late_id}");

    let answer = program.done("trigger", &[("id", &id)]).await;
    assert!(has_recovered(&answer));
    let resumed = server.next_message().await;
    let subject = resumed.header("Subject").unwrap();
    assert_eq!(subject, "[RESUMED] Nächtliche Sicherung is reporting again");
    assert_eq!(resumed.header("References").unwrap(), late_id);
    assert_eq!(resumed.header("In-Reply-To").unwrap(), late_id);
    assert_ne!(resumed.header("Message-ID").unwrap(), late_id);
    for mail in [&late, &resumed] {
        assert!(
            !mail.data.contains(&id),
            "the identifier is in a mail: {}",
            mail.data
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_base_url_mails_link_to_the_page_of_their_watcher_and_give_no_identifier_away() {
    let (directory, server) = (directory(), SmtpServer::start().await);
    let mut settings = mail_settings(server.port());
    settings += "[web]\nbase_url = https://watch.example.com/\n";
    let program = Program::start(directory.path(), &settings).await;
    let id = program
        .create("Nächtliche Sicherung", "0.5", &["ops@example.org"])
        .await;
    let late = server.next_message().await;
    program.done("trigger", &[("id", &id)]).await;
    let resumed = server.next_message().await;
    let page = "https://watch.example.com/ui/watchers/n%C3%A4chtliche-sicherung";
    for mail in [late, resumed] {
        assert_eq!(mail.parts.len(), 2, "{mail:?}");
        for (_, text) in &mail.parts {
            assert!(text.contains(page), "{text}");
            assert!(!text.contains(&id), "{text}");
        }
        assert!(!mail.data.contains(&id), "{}", mail.data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_makes_trouble_costs_nobody_else_anything() {
    let (directory, server) = (directory(), SmtpServer::start().await);
    let program = Program::start(directory.path(), &mail_settings(server.port())).await;
    let troublesome = [
        "stall",
        "stalldata",
        "drop",
        "refused",
        "rejected",
        "busy",
        "hangquit",
        "busyonce",
    ];
    let mut emails: Vec<_> = troublesome
        .map(|word| format!("{word}@example.org"))
        .to_vec();
    emails.push("good@example.org".to_owned());
    let emails: Vec<_> = emails.iter().map(String::as_str).collect();
    program.create("Trouble", "0.2", &emails).await;

    let mut reached = HashSet::new();
    while reached.len() < 3 {
        let mail = server.next_message().await;
        assert!(
            reached.insert(mail.to[0].clone()),
            "{} was told twice",
            mail.to[0]
        );
    }
    let expected = [
        "good@example.org",
        "hangquit@example.org",
        "busyonce@example.org",
    ];
    assert_eq!(reached, expected.map(str::to_owned).into());
    let refused = "nights_watch_delivery_attempts_total{kind=\"late\",result=\"refused\"}";
    program.until_metric(refused, 2.0).await;
    program
        .until_metric("nights_watch_deliveries_refused", 2.0)
        .await;
    program
        .until_metric("nights_watch_deliveries_owed", 4.0)
        .await;

    // What is held up is held up for one watcher and address: the next notice to the others leaves.
    program.done("trigger", &[("name", "Trouble")]).await;
    let resumed = server.next_message().await;
    assert!(resumed.header("Subject").unwrap().starts_with("[RESUMED]"));
    let log = read_log(directory.path());
    assert!(log.contains("refused for good"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_away_gets_the_mail_when_it_is_back() {
    let (directory, server) = (directory(), SmtpServer::start().await);
    let port = server.port();
    server.stop().await;
    let program = Program::start(directory.path(), &mail_settings(port)).await;
    let id = program.create("Patient", "0.1", &["ops@example.org"]).await;
    let failed = "nights_watch_delivery_attempts_total{kind=\"late\",result=\"failed\"}";
    program.until_metric(failed, 1.0).await;
    assert!(has_recovered(
        &program.done("trigger", &[("id", &id)]).await
    ));
    program.done("pause", &[("id", &id)]).await;

    let server = SmtpServer::start_on(port).await;
    let mut subjects = Vec::new();
    while subjects.len() < 2 {
        subjects.push(server.next_message().await.header("Subject").unwrap());
    }
    assert!(
        subjects[0].starts_with("[LATE]") && subjects[1].starts_with("[RESUMED]"),
        "{subjects:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_that_passed_while_it_was_down_are_reported_at_start() {
    let (directory, server) = (directory(), SmtpServer::start().await);
    let settings = mail_settings(server.port());
    let program = Program::start(directory.path(), &settings).await;
    program.create("Down", "1", &["ops@example.org"]).await;
    assert!(program.stop().await.success());
    assert!(server.try_mail().is_none());
    let program = Program::start(directory.path(), &settings).await;
    assert!(
        server
            .next_message()
            .await
            .header("Subject")
            .unwrap()
            .starts_with("[LATE] Down")
    );
    assert_eq!(
        program.done("get", &[("name", "Down")]).await["watcher"]["late"],
        true
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_was_accepted_and_leaves_one_tidy_file() {
    let directory = directory();
    let mut program = Program::start(directory.path(), "").await;
    let id = program.create("Busy", "3600", &[]).await;
    let (stopping, triggered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut clients = Vec::new();
    for _ in 0..8 {
        let (client, url) = (program.client.clone(), program.at(&id));
        let (stopping, triggered) = (Arc::clone(&stopping), Arc::clone(&triggered));
        clients.push(tokio::spawn(async move {
            loop {
                match client.post(&url).send().await {
                    Ok(answer) => {
                        // A connection that was accepted gets its answer, whatever happens.
                        let answer = answer.text().await.expect("a whole answer");
                        assert!(answer.contains("\"status\": \"ok\""), "{answer}");
                        triggered.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        assert!(stopping.load(Ordering::Relaxed), "{error}");
                        return;
                    }
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    stopping.store(true, Ordering::Relaxed);
    program.terminate();
    assert!(program.wait().await.success());
    for client in clients {
        timeout(PATIENCE, client)
            .await
            .expect("the client should notice")
            .expect("no panic");
    }
    let files: HashSet<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let tidy = ["nights-watch.ini", "nights-watch.db", "log.txt"];
    assert_eq!(files, tidy.map(str::to_owned).into());

    let program = Program::start(directory.path(), "").await;
    let answer = program.done("get", &[("id", &id)]).await;
    let kept = answer["watcher"]["history"].as_array().unwrap().len();
    let acknowledged = triggered.load(Ordering::Relaxed);
    assert!(
        kept > acknowledged.min(999),
        "{kept} events, {acknowledged} triggers acknowledged"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_on_the_same_database_is_refused() {
    let directory = directory();
    let program = Program::start(directory.path(), "").await;
    let second = run(directory.path(), &["--host", "127.0.0.1", "--port", "0"]).await;
    assert_eq!(second.status.code(), Some(1));
    let complaint = String::from_utf8(second.stderr).unwrap();
    let complaint = complaint.lines().last().unwrap_or_default();
    assert!(
        complaint.contains("is in use by another Night's Watch"),
        "{complaint}"
    );
    assert!(program.stop().await.success());
}

/// Runs the program with `ini` and checks the one line that it gives up with.
async fn check_refusal(ini: &str, complaint: &str) {
    let directory = directory();
    std::fs::write(directory.path().join("nights-watch.ini"), ini).unwrap();
    let output = run(directory.path(), &["--host", "127.0.0.1"]).await;
    assert_eq!(output.status.code(), Some(1), "{ini}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let last = stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("nights-watch: ") && last.contains(complaint),
        "{ini}: {stderr}"
    );
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_settings_are_one_line_and_no_start() {
    check_refusal(
        "[wsgi]\nport = abc",
        "nights-watch.ini: [wsgi] port: \"abc\"",
    )
    .await;
    check_refusal(
        "[wsgi]\nprot = 80",
        "nights-watch.ini: [wsgi] prot: no such key",
    )
    .await;
    check_refusal(
        "[wsgj]\nport = 80",
        "nights-watch.ini: [wsgj]: no such section",
    )
    .await;
    check_refusal(
        "[email]\nhost = localhost",
        "nights-watch.ini: [email] sender",
    )
    .await;
    check_refusal(
        "[wsgi]\nport = 0\n[sqlite]\npath = /nowhere/x.db",
        "[sqlite] path: ",
    )
    .await;
    check_refusal(
        "[wsgi]\nport = 0\n[logging]\nfile = /nowhere/x.log",
        "/nowhere/x.log",
    )
    .await;
    let email = "[email]\nsender = a@example.org\nhost = mail.example.org\n";
    let secret = "username = u\npassword = hunter2\n";
    check_refusal(&format!("{email}{secret}"), "[email] ").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ini = format!("[wsgi]\nport = {port}");
    check_refusal(
        &ini,
        &format!("[wsgi] host, port: cannot listen on 127.0.0.1:{port}"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_a_line_for_each_request_and_no_secret() {
    let directory = directory();
    let ini = "[wsgi]\nauth_key = hunter2\n[logging]\nfile = watch.log\nrotate = true\nmax_size = 4000\nbackup_count = 2\n";
    let program = Program::start(directory.path(), ini).await;
    let (status, answer) = program.ask("list", &[("auth_key", "hunter3")]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
    for _ in 0..100 {
        program.done("list", &[("auth_key", "hunter2")]).await;
    }
    let bearer = program
        .client
        .get(program.at("nights-watch/v1/watcher/list"))
        .bearer_auth("hunter2");
    assert_eq!(bearer.send().await.unwrap().status(), StatusCode::OK);
    assert!(program.stop().await.success());

    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let logs = [read("watch.log"), read("watch.log.1"), read("watch.log.2")];
    for log in &logs {
        assert!(log.len() <= 4000, "{}", log.len());
        assert!(!log.contains("hunter"), "{log}");
    }
    assert!(!directory.path().join("watch.log.3").exists());
    let line = logs[1]
        .lines()
        .find(|line| line.contains("request"))
        .expect("a line for a request");
    for part in [
        "method=GET",
        "path=\"/nights-watch/v1/watcher/list\"",
        "status=200",
        "duration_ms=",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_triggers_and_health_checks_only_if_they_fail() {
    let directory = directory();
    let program = Program::start(directory.path(), "[logging]\nfile = watch.log\n").await;
    let id = program.create("Backup", "3600", &[]).await;
    let status = async |path: &str| {
        let answer = program.client.get(program.at(path)).send().await;
        answer.unwrap().status()
    };
    assert_eq!(status(&id).await, StatusCode::OK);
    program.done("trigger", &[("id", &id)]).await;
    for path in ["healthz", "readyz", "metrics"] {
        assert_eq!(status(path).await, StatusCode::OK, "{path}");
    }
    let metrics = program.client.get(program.at("metrics")).send().await;
    let metrics = metrics.unwrap().text().await.unwrap();
    let commits = "nights_watch_store_commit_changes_count ";
    let commits = metrics.lines().find_map(|line| line.strip_prefix(commits));
    let commits: u32 = commits.expect("they are counted").parse().unwrap();
    assert!(commits >= 3, "{commits}: a creation and two triggers");
    assert_eq!(status("aaaaaaaa").await, StatusCode::NOT_FOUND);
    let slug = [("slug", "no-such-job")];
    assert_eq!(program.ask("trigger", &slug).await.0, StatusCode::NOT_FOUND);
    program.done("delete", &[("id", &id)]).await;
    assert!(program.stop().await.success());

    let log = std::fs::read_to_string(directory.path().join("watch.log")).unwrap();
    let requests = log.lines().filter(|line| line.contains(": request "));
    let paths = requests.map(|line| line.split('"').nth(1).expect("it has a path"));
    let api = "/nights-watch/v1/watcher";
    assert_eq!(
        paths.collect::<Vec<_>>(),
        [
            &format!("{api}/create"),
            "/aaaaaaaa",
            &format!("{api}/trigger"),
            &format!("{api}/delete")
        ],
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_log_line_is_a_flat_json_object_if_that_is_asked_for() {
    let (directory, server) = (directory(), SmtpServer::start().await);
    let settings = format!(
        "{}[logging]\nformat = json\n[wsgi]\nauth_key = hunter2\n",
        mail_settings(server.port())
    );
    let program = Program::start(directory.path(), &settings).await;
    let parameters = [
        ("name", "\"Nightly\" one"),
        ("periodicity", "0.2"),
        ("email", "ops@example.org"),
        ("email", "refused@example.org"),
        ("auth_key", "hunter2"),
    ];
    program.done("create", &parameters).await;
    server.next_message().await;
    let refused = "nights_watch_delivery_attempts_total{kind=\"late\",result=\"refused\"}";
    program.until_metric(refused, 1.0).await;
    program.ask("get", &[("name", "\"Nightly\" one")]).await;
    assert!(program.stop().await.success());

    let log = read_log(directory.path());
    assert!(!log.contains("hunter"), "{log}");
    let mut messages = HashSet::new();
    for line in log.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let members = line.as_object().expect("an object");
        assert!(
            !members
                .values()
                .any(|value| value.is_object() || value.is_array()),
            "{line}"
        );
        let text = |member: &str| members[member].as_str().expect("text").to_owned();
        assert!(text("timestamp").ends_with('Z'), "{line}");
        assert!(
            ["INFO", "WARN", "ERROR"].contains(&&*text("level")),
            "{line}"
        );
        if text("message") == "request" {
            assert!(
                line["status"].is_u64() && line["duration_ms"].is_f64(),
                "{line}"
            );
            assert_eq!(
                (text("method").as_str(), line["path"].is_string()),
                ("GET", true)
            );
        }
        if text("message") == "a notice was delivered" {
            assert_eq!(line["name"], "\"Nightly\" one");
            assert_eq!(line["to"], "ops@example.org");
        }
        messages.insert(text("message"));
    }
    for message in [
        "serving",
        "request",
        "a notice was delivered",
        "a notice was refused for good",
        "stopped",
    ] {
        assert!(messages.contains(message), "{message} in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_may_come_as_a_file_of_its_own() {
    let (directory, secrets) = (directory(), directory());
    std::fs::write(secrets.path().join("wsgi.auth_key"), "hunter2\n").expect("a file");
    let folder = secrets.path().to_str().expect("a name in Unicode");
    let variables = [("CREDENTIALS_DIRECTORY", folder)];
    let program = Program::start_in(directory.path(), "[wsgi]\nauth_key = old\n", &variables).await;
    let (status, _) = program.ask("list", &[("auth_key", "old")]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    program.done("list", &[("auth_key", "hunter2")]).await;
    drop(program);

    std::fs::write(secrets.path().join("wsgi.auth-key"), "hunter3").expect("a file");
    let output = command(directory.path()).envs(variables).output().await;
    let said = String::from_utf8(output.expect("it starts").stderr).expect("text");
    let line = format!("nights-watch: {folder}/wsgi.auth-key: no such key; ");
    assert!(
        said.starts_with(&line) && !said.contains("hunter"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_wins_over_the_file_and_flags_over_both() {
    let directory = directory();
    let program = Program::start(directory.path(), "[wsgi]\nport = 1\nhost = 203.0.113.1\n").await;
    assert!(program.ask("list", &[]).await.0.is_success());
    program.kill().await;
    let output = command(directory.path())
        .env("NIGHTS_WATCH_WSGI_PORT", "notaport")
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("NIGHTS_WATCH_WSGI_PORT"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_prints_its_document_and_its_version() {
    let directory = directory();
    let output = run(directory.path(), &["openapi"]).await;
    assert!(output.status.success());
    let document: Value = serde_json::from_slice(&output.stdout).expect("the document is JSON");
    assert_eq!(document["info"]["title"], "Night's Watch");
    let output = run(directory.path(), &["--version"]).await;
    assert_eq!(document["info"]["version"], version::RELEASE);
    let version = format!("nights-watch {}\n", version::FULL);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_watch_each_other() {
    let (folders, server) = ([directory(), directory()], SmtpServer::start().await);
    let watching = Program::start(folders[0].path(), &mail_settings(server.port())).await;
    let id = watching
        .create("The other one", "3", &["ops@example.org"])
        .await;
    let settings = format!(
        "[monitor]\nheartbeat_url = {}\nheartbeat_interval = 1\n",
        watching.at(&format!("{id}?comment=well"))
    );
    let watched = Program::start(folders[1].path(), &settings).await;
    timeout(PATIENCE, async {
        while !watching
            .done("get", &[("id", &id)])
            .await
            .to_string()
            .contains("Triggered (well)")
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("it is heard of");
    watched.kill().await;
    let late = server.next_message().await;
    let subject = late.header("Subject").expect("a subject");
    assert_eq!(subject, "[LATE] The other one has not reported");
    let log = read_log(folders[1].path());
    assert!(!log.contains(&id), "the URL is a secret: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_started_it_hears_how_it_stands() {
    let directory = directory();
    let path = directory.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).expect("a socket");
    let mut child = command(directory.path())
        .args(["--host", "127.0.0.1", "--port", "0"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .env_remove("WATCHDOG_PID")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let next = async || {
        let mut said = [0; 100];
        let length = timeout(PATIENCE, socket.recv(&mut said)).await;
        let length = length.expect("it says something").expect("a socket");
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    let mut said = Vec::new();
    while said.iter().filter(|said| *said == "WATCHDOG=1\n").count() < 3 {
        said.push(next().await);
    }
    assert!(said.contains(&"READY=1\n".to_owned()), "{said:?}");
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let pid = pid
        .and_then(rustix::process::Pid::from_raw)
        .expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
    while next().await != "STOPPING=1\n" {}
    let ended = timeout(PATIENCE, child.wait()).await.expect("it ends");
    assert!(ended.expect("it is waited for").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_goes_nowhere_is_said_once_and_shows_no_url() {
    for url in ["ftp://secret.example.com/", "https://", "secret"] {
        let directory = directory();
        let settings = format!("[monitor]\nheartbeat_url = {url}\n");
        std::fs::write(directory.path().join("nights-watch.ini"), settings).expect("a file");
        let output = run(directory.path(), &["--host", "127.0.0.1", "--port", "0"]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = "nights-watch: [monitor] heartbeat_url: is not a URL";
        assert!(
            said.starts_with(line) && said.lines().count() == 1,
            "{said}"
        );
        assert!(!said.contains("secret"), "{said}");
        assert!(!output.status.success());
        let database = directory.path().join("nights-watch.db");
        assert!(!database.exists(), "it was made before that");
    }
    let directory = directory();
    let settings = "[monitor]\nheartbeat_url = http://127.0.0.1:1/secret\nheartbeat_interval = 1\n";
    let program = Program::start(directory.path(), settings).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(program.stop().await.success());
    let log = read_log(directory.path());
    let told = log
        .lines()
        .filter(|line| line.contains("beating the heart fails") && line.contains("heartbeat_url"));
    assert_eq!(told.count(), 1, "{log}");
    assert!(!log.contains("secret"), "{log}");
}
