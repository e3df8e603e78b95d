//! What those try who mean harm, and what must not harm anybody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use percent_encoding::NON_ALPHANUMERIC;
use regex::Regex;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, StatusCode};
use tempfile::TempDir;

use crate::http::{check_error, check_triggered};
use crate::program::{Program, command, read_log};
use crate::smtp_server::{Mail, SmtpServer};
use crate::support::{API, BEGIN, Call, HookedStore, House, Reply, path, within};

// Guessing.

/// How many wrong guesses are free, and how long each one after that takes.
const FREE: usize = 1_000;
const EACH: u64 = 100;

const KEY: &str = "correct horse battery staple";
const GUESSER: &str = "198.51.100.7";
const NEIGHBOUR: &str = "198.51.100.8";

/// Gets `path` as the client at `address`, by way of a proxy on this machine.
async fn get_as(house: &House, address: &str, path: &str) -> Reply {
    let request = house.request(Method::GET, path);
    Reply::to(request.header("x-forwarded-for", address)).await
}

/// An identifier that no watcher has.
fn wrong_id(mut n: usize) -> String {
    let mut letters = *b"zzzzaaaa";
    for letter in letters.iter_mut().rev() {
        *letter += u8::try_from(n % 26).unwrap() * u8::from(*letter == b'a');
        n /= 26;
    }
    String::from_utf8(letters.to_vec()).unwrap()
}

/// Makes `client` guess wrong so often that it has to wait 100 milliseconds for the next new guess.
async fn exhaust(house: &House, client: &str) {
    for n in 0..=FREE {
        let reply = get_as(house, client, &format!("/{}", wrong_id(n))).await;
        check_error(&reply, 404, "watcher");
    }
}

/// Checks that a client has to wait for as many seconds.
#[track_caller]
fn check_wait(reply: &Reply, seconds: &str) {
    check_error(reply, 429, &format!("{seconds} s"));
    assert_eq!(reply.header("retry-after"), seconds);
}

#[tokio::test]
async fn who_guesses_names_has_to_wait_and_learns_nothing_meanwhile() {
    let house = House::open().await;
    let (known, other) = (house.create("Known").await, house.create("Other").await);
    let known_slug = format!("{API}/trigger?slug=known");
    for path in [&format!("/{known}"), &known_slug] {
        check_triggered(&get_as(&house, GUESSER, path).await, false, false);
    }
    exhaust(&house, GUESSER).await;

    let before = house.everything().await;
    let refused = get_as(&house, GUESSER, "/zzzzzzzz").await;
    check_wait(&refused, "1");
    for path in [
        format!("/{other}"),
        format!("{API}/trigger?id={other}"),
        format!("{API}/trigger?slug=other"),
        format!("{API}/trigger?name=Other&comment=x"),
        format!("{API}/trigger?name=Nobody"),
    ] {
        for method in [Method::GET, Method::POST] {
            let request = house.request(method, &path);
            let reply = Reply::to(request.header("x-forwarded-for", GUESSER)).await;
            check_wait(&reply, "1");
            assert_eq!(reply.text, refused.text, "{path}");
        }
    }
    assert_eq!(house.everything().await, before);

    // What was right before is right now, by each way to say it; what was wrong is still answered.
    for path in [
        &format!("/{known}?m=still"),
        &format!("{API}/trigger?id={known}"),
        &known_slug,
    ] {
        check_triggered(&get_as(&house, GUESSER, path).await, false, false);
    }
    let again = get_as(&house, GUESSER, &format!("/{}", wrong_id(7))).await;
    check_error(&again, 404, "watcher");
    // Nobody else has to wait.
    let path = format!("/{other}");
    check_triggered(&get_as(&house, NEIGHBOUR, &path).await, false, false);
    check_error(
        &get_as(&house, NEIGHBOUR, "/zzzzzzzz").await,
        404,
        "watcher",
    );
    let metrics = house.get("/metrics").await.text;
    let refused = metrics.lines().filter_map(|line| {
        let line = line.strip_prefix("nights_watch_http_requests_total{")?;
        line.split_once("status=\"429\"} ")?.1.parse::<u32>().ok()
    });
    assert_eq!(refused.sum::<u32>(), 11, "{metrics}");

    // Time alone ends it, whatever the clock does; being right costs nothing, being wrong does again.
    house.clock.set(BEGIN.before(Duration::from_hours(1)));
    check_wait(&get_as(&house, GUESSER, &path).await, "1");
    house.advance_millis(EACH - 1);
    check_wait(&get_as(&house, GUESSER, &path).await, "1");
    house.advance_millis(1);
    check_triggered(&get_as(&house, GUESSER, &path).await, false, false);
    check_error(&get_as(&house, GUESSER, "/zzzzzzzz").await, 404, "watcher");
    check_wait(&get_as(&house, GUESSER, "/zzzzzzzy").await, "1");
}

#[tokio::test]
async fn a_job_that_is_wrong_for_ever_costs_its_neighbours_nothing() {
    let house = House::open().await;
    let watcher = house.create("W").await;
    for _ in 0..=FREE + 20 {
        check_error(&get_as(&house, GUESSER, "/zzzzzzzz").await, 404, "watcher");
    }
    check_triggered(
        &get_as(&house, GUESSER, &format!("/{watcher}")).await,
        false,
        false,
    );
    check_error(&get_as(&house, GUESSER, "/zzzzzzzy").await, 404, "watcher");
}

#[tokio::test]
async fn guesses_that_cannot_be_told_apart_from_others_are_not_limited() {
    let house = House::open().await;
    let watcher = house.create("W").await;
    for n in 0..=FREE {
        house.get(&format!("/{}", wrong_id(n))).await;
    }
    check_error(&house.get("/zzzzzzzz").await, 404, "watcher");
    check_triggered(&house.get(&format!("/{watcher}")).await, false, false);
}

#[tokio::test]
async fn the_client_is_the_last_one_on_the_way_that_is_no_proxy() {
    let house = House::open().await;
    exhaust(&house, "2001:db8:1:2::3").await;
    for way in [
        "2001:db8:1:2:ffff::9",
        "[2001:db8:1:2::]:4711",
        "192.0.2.1, 2001:db8:1:2::3",
        "2001:db8:1:2::3, 127.0.0.9, ::1",
        "nonsense, 2001:db8:1:2::3",
    ] {
        check_wait(&get_as(&house, way, "/zzzzzzzz").await, "1");
    }
    for way in [
        "2001:db8:1:3::3",
        "2001:db8:1:2::3, 192.0.2.1",
        "2001:db8:1:2::3, nonsense",
        "",
    ] {
        check_error(&get_as(&house, way, "/zzzzzzzz").await, 404, "watcher");
    }
    // Several headers are one list.
    let request = house.request(Method::GET, "/zzzzzzzy");
    let request = request.header("x-forwarded-for", "192.0.2.1");
    let request = request.header("x-forwarded-for", "2001:db8:1:2::3");
    check_wait(&Reply::to(request).await, "1");
}

#[tokio::test]
async fn who_guesses_the_key_has_to_wait() {
    let house = House::locked_by(KEY).await;
    let list = path("list", &[("auth_key", KEY)]);
    assert_eq!(get_as(&house, NEIGHBOUR, &list).await.status, 200);
    // Many keys in one request are as many guesses.
    let keys: Vec<String> = (0..=FREE).map(|n| format!("auth_key={n}")).collect();
    for keys in keys.chunks(500) {
        let path = format!("{API}/list?{}", keys.join("&"));
        for _ in 0..2 {
            check_error(&get_as(&house, GUESSER, &path).await, 401, "auth_key");
        }
    }
    check_wait(&get_as(&house, GUESSER, &list).await, "1");
    for bearer in [&b"Bearer x"[..], b"bearer \xff"] {
        let request = house.request(Method::GET, &format!("{API}/list"));
        let request = request.header("x-forwarded-for", GUESSER);
        let bearer = HeaderValue::from_bytes(bearer).unwrap();
        let reply = Reply::to(request.header(AUTHORIZATION, bearer)).await;
        check_wait(&reply, "1");
    }
    // No key is no guess.
    let none = get_as(&house, GUESSER, &format!("{API}/list")).await;
    check_error(&none, 401, "auth_key");
    assert_eq!(get_as(&house, NEIGHBOUR, &list).await.status, 200);
    exhaust(&house, NEIGHBOUR).await;
    // A key that was right before is taken all the same.
    assert_eq!(get_as(&house, NEIGHBOUR, &list).await.status, 200);
    house.advance_millis(EACH);
    assert_eq!(get_as(&house, GUESSER, &list).await.status, 200);
}

// Texts.

/// Texts that mean something to somebody on their way: a mail server, a mail program, a terminal, a log, a browser.
const TEXTS: [&str; 10] = [
    "plain",
    "x\r\nBcc: victim@example.org\r\n\r\nbody",
    "x\nINFO nights_watch: all is well",
    "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m",
    "nul \0 and \u{7f} and \u{85}",
    "\u{202e}gnp.exe \u{2066}x\u{2069} \u{2028} \u{200f}",
    "=?utf-8?q?=0D=0ABcc:_victim@example.org?=",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    ".\r\n.\r\nRCPT TO:<victim@example.org>",
    "\"}]} , {\"status\": \"ok\" \\",
];

/// Checks that the bytes of a mail are our headers, each once and on lines of its own, and a body.
#[track_caller]
fn check_mail(mail: &Mail) {
    let (head, body) = mail.data.split_once("\r\n\r\n").expect("a head and a body");
    let header = Regex::new("^([A-Za-z-]+): .").unwrap();
    let mut names = Vec::new();
    for line in head.split("\r\n") {
        assert!(!line.contains(|c: char| c.is_control()), "{head:?}");
        match header.captures(line) {
            Some(found) => names.push(found[1].to_owned()),
            None => assert!(line.starts_with(' '), "{head:?}"),
        }
    }
    names.sort();
    let ours = [
        "Auto-Submitted",
        "Content-Transfer-Encoding",
        "Content-Type",
        "Date",
        "From",
        "MIME-Version",
        "Message-ID",
        "Subject",
        "To",
    ];
    assert_eq!(names, ours, "{head:?}");
    assert_eq!(mail.to, ["ops@example.org"]);
    for text in [
        &body.replace("\r\n", " "),
        &mail.header("Subject").unwrap(),
        &mail.body.replace('\n', " "),
    ] {
        let steers = |c: char| c.is_control() || "\u{202e}\u{2028}\u{2066}\u{200f}".contains(c);
        assert!(!text.contains(steers), "{text:?}");
    }
}

/// Checks that each line of a log is a line of ours, and that nothing in it steers a terminal.
#[track_caller]
fn check_log(log: &str) {
    let line =
        Regex::new(r"^\d{4}-\d\d-\d\dT[\d:.]+Z +(TRACE|DEBUG|INFO|WARN|ERROR) [a-z_:]+: ").unwrap();
    assert!(log.lines().count() > 10, "{log}");
    for text in log.split('\n').filter(|text| !text.is_empty()) {
        assert!(line.is_match(text), "{text:?}");
        let steers = |c: char| c.is_control() || "\u{202e}\u{2028}\u{2066}\u{200f}".contains(c);
        assert!(!text.contains(steers), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_texts_mean_nothing_to_anybody_on_their_way() {
    let (directory, server) = (TempDir::new().unwrap(), SmtpServer::start().await);
    let ini = format!(
        "[email]\nsender = watch@example.org\nhost = 127.0.0.1\nport = {}\n",
        server.port()
    );
    let program = Program::start(directory.path(), &ini).await;
    let docs = || async {
        let docs = program.client.get(program.at("docs")).send().await.unwrap();
        docs.text().await.unwrap()
    };
    let before = docs().await;
    for (n, text) in TEXTS.into_iter().enumerate() {
        // As a name it is taken if it fits on a line; every answer is JSON, or this panics.
        let fallback = format!("W{n}");
        let mut parameters = vec![
            ("name", text),
            ("periodicity", "0.3"),
            ("description", text),
            ("email", "ops@example.org"),
        ];
        let (status, answer) = program.ask("create", &parameters).await;
        if text.trim().contains(char::is_control) {
            assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
            parameters[0].1 = &fallback;
            program.done("create", &parameters).await;
        } else {
            assert_eq!(answer["watcher"]["name"], text.trim());
        }
        let name = parameters[0].1;
        program
            .done("trigger", &[("name", name), ("comment", text)])
            .await;
        let mail = server.next_message().await;
        check_mail(&mail);
        program.done("delete", &[("name", name)]).await;
        // Where it is refused it comes back in an error, and in a line of the log.
        for (operation, parameter) in [
            ("create", "email"),
            ("list", "search"),
            ("get", "slug"),
            ("get", text),
        ] {
            let (status, answer) = program.ask(operation, &[(parameter, text)]).await;
            assert!(
                status.is_client_error() || parameter == "search",
                "{answer}"
            );
        }
        let path = percent_encoding::percent_encode(text.as_bytes(), NON_ALPHANUMERIC).to_string();
        let reply = program.client.get(program.at(&path)).send().await.unwrap();
        assert_eq!(reply.status(), StatusCode::NOT_FOUND);
    }
    let long = "x".repeat(100_000);
    for (query, status) in [
        ("name=%ED%A0%80", 400),
        ("name=%00", 400),
        ("%ED%A0%80=x", 400),
        ("name=%C0%AF", 400),
        (&*format!("name={long}"), 414),
    ] {
        let url = program.at(&format!(
            "nights-watch/v1/watcher/create?periodicity=1&{query}"
        ));
        // The longest is not even read to its end, so the connection may break before the answer is.
        match program.client.get(url).send().await {
            Ok(reply) => assert_eq!(reply.status().as_u16(), status, "{query:.50}"),
            Err(error) => assert_eq!(status, 414, "{query:.50}: {error}"),
        }
    }
    assert_eq!(docs().await, before);
    let answer = program.done("list", &[("verbose", "1")]).await;
    assert_eq!(answer["watchers"], serde_json::json!([]));
    assert!(program.stop().await.success());
    check_log(&read_log(directory.path()));
}

// Expressions.

#[tokio::test]
async fn expressions_that_explode_are_answered_or_refused_at_once() {
    let house = House::open().await;
    for number in 0..20 {
        house.create(&format!("{number} {}", "a".repeat(240))).await;
    }
    let nested = "(".repeat(5_000);
    let classes = r"[\w\p{L}]".repeat(50);
    for (expression, status) in [
        ("(a*)*b", 200),
        ("^(a|aa)+$b", 200),
        (r"(\w+\s?)*!", 200),
        ("((a{1,30}){1,30})b", 200),
        ("(a?){30}a{30}", 200),
        ("(((((a?){9}){9}){9}){9}){9}", 400),
        ("((a{0,999}){999}){999}", 400),
        ("a{99999999999}", 400),
        (&*classes, 400),
        (&nested[..900], 400),
        (&nested, 400),
        ("[[[[a-z]&&[^b]]--c]", 400),
        (r"(a)\1", 400),
        ("(?<=a)b", 400),
    ] {
        let begin = Instant::now();
        let reply = house.call("list", &[("search", expression)]).await;
        assert!(begin.elapsed() < Duration::from_secs(1), "{expression:.40}");
        assert_eq!(reply.status, status, "{expression:.40}: {}", reply.text);
        if status == 400 {
            check_error(&reply, 400, "\"search\"");
        }
    }
}

#[tokio::test]
async fn a_search_without_an_end_is_given_up_and_holds_up_nobody() {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let store = HookedStore::new(move |call| {
        let is_endless = call == Call::FirstPage && !over.load(Ordering::Relaxed);
        async move {
            if is_endless {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    });
    let house = House::over(store).await;
    house.create("Backup").await;
    let reply = house.call("list", &[("search", "up")]).await;
    check_error(
        &reply,
        400,
        "\"search\" is wrong: the expression takes too long",
    );
    is_over.store(true, Ordering::Relaxed);
    assert_eq!(house.names(&[("search", "up")]).await, ["Backup"]);
}

// Secrets.

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_at_any_level() {
    const PASSWORD: &str = "m41l-s3cret";
    // The same in the dialogue with the mail server: Base64 of "\0watch\0m41l-s3cret".
    const PLAIN: &str = "AHdhdGNoAG00MWwtczNjcmV0";
    const RIGHT: &str = "r1ght-k3y";
    const WRONG: &str = "wr0ng-k3y";
    let directory = TempDir::new().unwrap();
    let login = format!("watch:{PASSWORD}");
    let server = SmtpServer::start_with(0, &["--auth", &login]).await;
    let ini = format!(
        "[wsgi]\nauth_key = {RIGHT}\n[email]\nsender = watch@example.org\nhost = 127.0.0.1\nport = {}\n\
         username = watch\npassword = {PASSWORD}\n",
        server.port()
    );
    let program = Program::start_in(directory.path(), &ini, &[("RUST_LOG", "trace")]).await;
    let create = [
        ("name", "W"),
        ("periodicity", "0.1"),
        ("email", "ops@example.org"),
        ("auth_key", RIGHT),
    ];
    let answer = program.done("create", &create).await;
    let id = answer["watcher"]["id"].as_str().unwrap();
    assert_eq!(server.next_message().await.user.as_deref(), Some("watch"));
    for key in [RIGHT, WRONG] {
        for path in [
            format!("nights-watch/v1/watcher/get?id={id}&auth_key={key}"),
            format!("nights-watch/v1/watcher/get?id={id}&auth_key={key}&auth_key={key}"),
            format!("nights-watch/v1/watcher/get?{key}"),
            format!("nights-watch/v1/watcher/nothing?auth_key={key}"),
            format!("{id}?auth_key={key}"),
            format!("metrics?auth_key={key}"),
            format!("docs?auth_key={key}"),
        ] {
            for method in [Method::GET, Method::PUT, Method::HEAD] {
                let request = program.client.request(method, program.at(&path));
                let reply = request.bearer_auth(key).send().await.unwrap();
                let seen = format!("{:?}", reply.headers()) + reply.text().await.unwrap().as_str();
                // A parameter that is called like the key is nobody's key.
                let is_named = path.ends_with(&format!("?{key}")) && key == RIGHT;
                assert!(is_named || !seen.contains(key), "{path}: {seen}");
            }
        }
    }
    assert!(program.stop().await.success());
    let log = read_log(directory.path());
    assert!(log.contains("path=\"/metrics\""), "{log}");
    for secret in [PASSWORD, PLAIN, RIGHT, WRONG] {
        assert!(!log.contains(secret), "{secret}");
    }

    // A server that cannot be reached, with the password in each place where one can stand.
    for mongodb in [
        format!("hosts = 127.0.0.1:1\nusername = u\npassword = {PASSWORD}\n"),
        format!("hosts = mongodb://u:{PASSWORD}@127.0.0.1:1\n"),
        format!("hosts = mongodb://u:{PASSWORD}@127.0.0.1:1/?nonsense\n"),
        format!("hosts = mongodb://u:1?{PASSWORD}@127.0.0.1:1\n"),
        format!("hosts = mongodb://u:{PASSWORD}/b@127.0.0.1:1\n"),
        format!("hosts = mongodb:/u:{PASSWORD}@@127.0.0.1\n"),
        format!("hosts = 127.0.0.1:1\nauthMechanismProperties = {PASSWORD}\n"),
    ] {
        let ini = format!(
            "[wsgi]\nport = 0\n[mongodb]\ndatabase = d\nserverSelectionTimeoutMS = 100\n{mongodb}"
        );
        std::fs::write(directory.path().join("nights-watch.ini"), ini).unwrap();
        let run = command(directory.path()).env("RUST_LOG", "trace").output();
        let output = within(run).await.unwrap();
        assert!(!output.status.success(), "{mongodb}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("[mongodb]"), "{said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }
}
