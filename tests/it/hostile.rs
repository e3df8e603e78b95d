//! What those try who mean harm, and what must not harm anybody else.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderValue};

use crate::http::{check_error, check_triggered};
use crate::support::{API, BEGIN, House, Reply, path};

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
    let line = "nights_watch_http_requests_total{status=\"429\"} 11\n";
    assert!(metrics.contains(line), "{metrics}");

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
