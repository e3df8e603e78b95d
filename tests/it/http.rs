//! The interface as clients meet it: sentence by sentence of the specification, and what hostile ones try.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nights_watch::adapters::http::openapi_document;
use nights_watch::ports::StoreError;
use regex::Regex;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use crate::support::{
    API, BEGIN, CONNECTIONS, Call, HookedStore, House, Reply, eventually, path, within,
};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// Checks the envelope of success, and returns what is in it.
#[track_caller]
fn check_ok(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/json");
    assert!(
        reply.text.starts_with("{\n    \"status\": \"ok\""),
        "{}",
        reply.text
    );
    assert!(reply.text.ends_with("\n}\n"), "{}", reply.text);
    reply.json()
}

/// Checks success and single members of the watcher in the answer.
#[track_caller]
fn check_watcher(reply: &Reply, expected: &Value) {
    let watcher = &check_ok(reply)["watcher"];
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(&watcher[member], value, "{member} of {watcher:#}");
    }
}

/// Checks that the watcher in the answer has no deadline, not even an empty one.
#[track_caller]
fn check_no_deadline(reply: &Reply) {
    let json = check_ok(reply);
    let watcher = json["watcher"].as_object().unwrap();
    assert!(!watcher.contains_key("deadline"), "{json:#}");
}

/// Checks what a trigger found.
#[track_caller]
pub(crate) fn check_triggered(reply: &Reply, recovered: bool, unpaused: bool) {
    let text = format!(
        "{{\n    \"status\": \"ok\",\n    \"recovered\": {recovered},\n    \"unpaused\": {unpaused}\n}}\n"
    );
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.text, text);
    assert_eq!(reply.header("content-type"), "application/json");
}

/// Checks the envelope of errors, and that the error says `words`.
#[track_caller]
pub(crate) fn check_error(reply: &Reply, status: u16, words: &str) {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/json");
    let error = &reply.json()["error"];
    let text = format!("{{\n    \"status\": \"error\",\n    \"error\": {error}\n}}\n");
    assert_eq!(reply.text, text);
    let error = error.as_str().unwrap();
    assert!(error.contains(words), "{error:?} does not say {words:?}");
}

/// Checks that each request (an operation with its query) is refused with `status`, that the error names the
/// parameter, and that nothing has changed. There is a watcher "Awake", whose identifier stands where a query
/// says `{id}`, and a paused one "Asleep".
async fn check_refusals(status: u16, cases: &[(&str, &str)]) {
    let house = House::open().await;
    let id = house.create("Awake").await;
    house
        .create_with(&[("name", "Asleep"), ("periodicity", "60"), ("paused", "1")])
        .await;
    let before = house.everything().await;
    house.advance_millis(1_000);
    for (request, parameter) in cases {
        let request = request.replace("{id}", &id);
        let reply = house.get(&format!("{API}/{request}")).await;
        assert_eq!(reply.status, status, "{request}: {}", reply.text);
        check_error(&reply, status, &format!("\"{parameter}\""));
        assert_eq!(house.everything().await, before, "{request}");
    }
}

/// The events of a watcher, newest first, without their instants.
#[track_caller]
fn events(reply: &Reply) -> Vec<String> {
    let json = check_ok(reply);
    let history = json["watcher"]["history"].as_array().unwrap().iter();
    history
        .map(|event| event[1].as_str().unwrap().to_owned())
        .collect()
}

// The examples of the specification.

#[tokio::test]
async fn the_examples_of_the_specification_hold_in_order() {
    let house = House::open().await;
    let created = house
        .get("/nights-watch/v1/watcher/create?name=My+First+Watcher&periodicity=3600")
        .await;
    check_ok(&created);
    let id = created.watcher()["id"].as_str().unwrap().to_owned();
    assert!(id.len() == 8 && id.bytes().all(|b| b.is_ascii_lowercase()));
    assert_eq!(
        created.text,
        format!(
            r#"{{
    "status": "ok",
    "watcher": {{
        "name": "My First Watcher",
        "description": "",
        "id": "{id}",
        "slug": "my-first-watcher",
        "periodicity": 3600,
        "emails": [],
        "late": false,
        "paused": false,
        "deadline": "2015-03-19T02:08:44.885Z",
        "history": [
            [
                "2015-03-19T01:08:44.885Z",
                "Watcher created"
            ]
        ]
    }}
}}
"#
        )
    );

    house.clock.set(BEGIN.after(Duration::from_millis(117_723)));
    let short = house.get(&format!("/{id}?comment=short+form+trigger+url"));
    check_triggered(&short.await, false, false);

    house.clock.set(BEGIN.after(Duration::from_millis(191_523)));
    let long = house
        .get("/nights-watch/v1/watcher/trigger?slug=my-first-watcher&comment=long+form+trigger+url")
        .await;
    check_triggered(&long, false, false);

    let got = house
        .get("/nights-watch/v1/watcher/get?name=My+First+Watcher")
        .await;
    assert_eq!(
        check_ok(&got),
        json!({
            "status": "ok",
            "watcher": {
                "name": "My First Watcher",
                "description": "",
                "id": id,
                "slug": "my-first-watcher",
                "periodicity": 3600,
                "emails": [],
                "late": false,
                "paused": false,
                "deadline": "2015-03-19T02:11:56.408Z",
                "history": [
                    ["2015-03-19T01:11:56.408Z", "Triggered (long form trigger url)"],
                    ["2015-03-19T01:10:42.608Z", "Triggered (short form trigger url)"],
                    ["2015-03-19T01:08:44.885Z", "Watcher created"],
                ],
            },
        })
    );
}

// Creating.

#[tokio::test]
async fn a_watcher_is_created_with_all_that_was_given() {
    let house = House::open().await;
    let reply = house
        .call(
            "create",
            &[
                ("name", "Nightly_Dump -- of db1"),
                ("periodicity", "0.25"),
                ("description", "What it is for"),
                ("email", "ops@example.com"),
                ("email", "root@localhost"),
                ("email", "ops@example.com"),
            ],
        )
        .await;
    let expected = json!({
        "name": "Nightly_Dump -- of db1",
        "slug": "nightly-dump-of-db1",
        "description": "What it is for",
        "periodicity": 0.25,
        "emails": ["ops@example.com", "root@localhost"],
        "late": false,
        "paused": false,
        "deadline": "2015-03-19T01:08:45.135Z",
        "history": [["2015-03-19T01:08:44.885Z", "Watcher created"]],
    });
    check_watcher(&reply, &expected);
    let got = house.call("get", &[("slug", "nightly-dump-of-db1")]).await;
    assert_eq!(got.text, reply.text);
}

#[tokio::test]
async fn whole_periodicities_are_shown_without_a_fraction() {
    let house = House::open().await;
    for (given, shown) in [
        ("3600", "3600"),
        ("3600.0", "3600"),
        ("0.25", "0.25"),
        ("1.5", "1.5"),
        ("3155760000", "3155760000"),
        ("90s", "90"),
        ("15m", "900"),
        ("25h", "90000"),
        ("7d", "604800"),
        ("1h30m", "5400"),
        ("0.5s", "0.5"),
    ] {
        let name = format!("W {given}");
        let reply = house
            .call("create", &[("name", &name), ("periodicity", given)])
            .await;
        let line = format!("\n        \"periodicity\": {shown},\n");
        assert!(reply.text.contains(&line), "{}", reply.text);
    }
}

#[tokio::test]
async fn an_update_takes_a_duration() {
    let house = House::open().await;
    let id = house.create("Backup").await;
    let updated = house
        .call("update", &[("id", &id), ("periodicity", "1d1h")])
        .await;
    check_ok(&updated);
    assert_eq!(updated.watcher()["periodicity"], 90_000);
    let reply = house
        .call("update", &[("id", &id), ("periodicity", "30m1h")])
        .await;
    let complaint = "the parameter \"periodicity\" has h behind m";
    let error = reply.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with(complaint), "{error}");
}

#[tokio::test]
async fn a_watcher_that_is_created_paused_has_no_deadline() {
    let house = House::open().await;
    let parameters = [("name", "W"), ("periodicity", "60"), ("paused", "true")];
    let reply = house.call("create", &parameters).await;
    check_watcher(&reply, &json!({"paused": true, "late": false}));
    check_no_deadline(&reply);
    assert_eq!(events(&reply), ["Watcher created"]);
}

#[tokio::test]
async fn booleans_have_seven_spellings() {
    let house = House::open().await;
    for (name, word, paused) in [
        ("a", "true", true),
        ("b", "yes", true),
        ("c", "1", true),
        ("d", "false", false),
        ("e", "no", false),
        ("f", "0", false),
        ("g", "", false),
    ] {
        let parameters = [("name", name), ("periodicity", "60"), ("paused", word)];
        let reply = house.call("create", &parameters).await;
        check_watcher(&reply, &json!({"paused": paused}));
    }
    assert_eq!(house.names(&[("paused", "yes")]).await, ["a", "b", "c"]);
    assert_eq!(house.names(&[("paused", "")]).await, ["d", "e", "f", "g"]);
}

#[tokio::test]
async fn a_name_or_slug_is_taken_once() {
    let house = House::open().await;
    house.create("My Watcher").await;
    let before = house.everything().await;
    for name in ["My Watcher", "my_watcher", "MY - WATCHER!"] {
        let reply = house
            .call("create", &[("name", name), ("periodicity", "1")])
            .await;
        check_error(&reply, 409, "name is taken");
    }
    assert_eq!(house.everything().await, before);
}

// Naming a watcher.

#[tokio::test]
async fn each_operation_finds_a_watcher_by_identifier_slug_or_name() {
    for operation in ["get", "trigger", "pause", "unpause", "delete"] {
        for parameter in ["id", "slug", "name"] {
            let house = House::open().await;
            let id = house.create("My Watcher").await;
            house.create("Other").await;
            if operation == "unpause" {
                check_ok(&house.call("pause", &[("id", &id)]).await);
            }
            let key = match parameter {
                "id" => (parameter, &*id),
                "slug" => (parameter, "my-watcher"),
                _ => (parameter, "My Watcher"),
            };
            check_ok(&house.call(operation, &[key]).await);
        }
    }
    let house = House::open().await;
    let id = house.create("My Watcher").await;
    for (n, key) in [("id", &*id), ("slug", "my-watcher")]
        .into_iter()
        .enumerate()
    {
        let description = n.to_string();
        let reply = house.call("update", &[key, ("description", &description)]);
        check_watcher(&reply.await, &json!({"description": description}));
    }
}

#[tokio::test]
async fn a_watcher_that_does_not_exist_is_not_found() {
    let house = House::open().await;
    house.create("Awake").await;
    let before = house.everything().await;
    let keys = [
        ("id", "qqqqqqqq"),
        ("id", "Awake"),
        ("id", ""),
        ("id", "QQQQQQQQ"),
        ("id", "qqqqqqqqq"),
        ("slug", "asleep"),
        ("slug", "Awake"),
        ("slug", ""),
        ("name", "Asleep"),
        ("name", "awake"),
        ("name", ""),
        ("name", "\u{0}"),
    ];
    for operation in ["get", "trigger", "pause", "unpause", "delete"] {
        for key in keys {
            check_error(&house.call(operation, &[key]).await, 404, "no such watcher");
        }
    }
    for key in &keys[..8] {
        let reply = house.call("update", &[*key, ("description", "new")]).await;
        check_error(&reply, 404, "no such watcher");
    }
    check_error(&house.get("/qqqqqqqq").await, 404, "no such watcher");
    assert_eq!(house.everything().await, before);
}

#[tokio::test]
async fn a_deleted_watcher_is_gone_and_its_name_free() {
    let house = House::open().await;
    let id = house.create("W").await;
    let reply = house.call("delete", &[("id", &id)]).await;
    assert_eq!(reply.text, "{\n    \"status\": \"ok\"\n}\n");
    check_ok(&reply);
    check_error(&house.call("get", &[("id", &id)]).await, 404, "watcher");
    check_error(&house.get(&format!("/{id}")).await, 404, "watcher");
    assert!(house.names(&[]).await.is_empty());
    assert_ne!(house.create("W").await, id);
}

// Updating.

#[tokio::test]
async fn an_update_changes_what_is_given_and_leaves_the_rest() {
    let house = House::open().await;
    let id = house
        .create_with(&[
            ("name", "Old"),
            ("periodicity", "3600"),
            ("description", "old"),
            ("email", "old@example.com"),
        ])
        .await;
    let mut expected = house.call("get", &[("id", &id)]).await.json();
    for (parameters, changed) in [
        (vec![("description", "new")], json!({"description": "new"})),
        (vec![("description", "")], json!({"description": ""})),
        (
            vec![("email", "a@example.com"), ("email", "b@example.com")],
            json!({"emails": ["a@example.com", "b@example.com"]}),
        ),
        (
            vec![("periodicity", "7200")],
            json!({"periodicity": 7200, "deadline": "2015-03-19T03:08:44.885Z"}),
        ),
        (
            vec![("name", "The New Name")],
            json!({"name": "The New Name", "slug": "the-new-name"}),
        ),
        (
            vec![("name", "Both"), ("description", "at once")],
            json!({"name": "Both", "slug": "both", "description": "at once"}),
        ),
    ] {
        let parameters = [&[("id", &*id)], &parameters[..]].concat();
        let reply = house.call("update", &parameters).await;
        for (member, value) in changed.as_object().unwrap() {
            expected["watcher"][member] = value.clone();
        }
        assert_eq!(check_ok(&reply), expected, "{parameters:?}");
        let got = house.call("get", &[("id", &id)]).await;
        assert_eq!(got.text, reply.text);
    }
    check_error(&house.call("get", &[("name", "Old")]).await, 404, "watcher");
}

#[tokio::test]
async fn a_hyphen_or_an_empty_value_clears_the_addresses() {
    let house = House::open().await;
    let id = house.create("W").await;
    for cleared in ["-", ""] {
        let set = house.call("update", &[("id", &id), ("email", "ops@example.com")]);
        check_watcher(&set.await, &json!({"emails": ["ops@example.com"]}));
        let reply = house.call("update", &[("id", &id), ("email", cleared)]);
        check_watcher(&reply.await, &json!({"emails": []}));
    }
    let parameters = [("name", "None"), ("periodicity", "1"), ("email", "")];
    let reply = house.call("create", &parameters).await;
    check_watcher(&reply, &json!({"emails": []}));
}

#[tokio::test]
async fn a_watcher_has_as_many_addresses_as_the_description_allows() {
    let house = House::open().await;
    let id = house.create("W").await;
    let document = house.get("/openapi.json").await.json();
    for (operation, others) in [
        ("create", vec![("name", "New"), ("periodicity", "60")]),
        ("update", vec![("id", &*id)]),
    ] {
        let described = &document["paths"][format!("{API}/{operation}")]["get"]["parameters"];
        let mut described = described.as_array().expect("parameters").iter();
        let email = described.find(|parameter| parameter["name"] == "email");
        let most = email.expect("a parameter")["schema"]["maxItems"].as_u64();
        let most = most.unwrap_or_else(|| panic!("{operation}: no limit"));
        let addresses: Vec<_> = (0..=most).map(|n| format!("a{n}@b.example")).collect();
        let mut parameters: Vec<_> = addresses.iter().map(|it| ("email", it.as_str())).collect();
        parameters.extend(others);
        let reply = house.call(operation, &parameters).await;
        check_error(&reply, 400, "\"email\"");
        let reply = house.call(operation, &parameters[1..]).await;
        check_watcher(&reply, &json!({"emails": addresses[1..]}));
    }
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_refused() {
    let house = House::open().await;
    let id = house
        .create_with(&[
            ("name", "W"),
            ("periodicity", "60"),
            ("email", "a@b.example"),
        ])
        .await;
    let before = house.everything().await;
    for same in [
        vec![],
        vec![("name", "W")],
        vec![("periodicity", "60.0")],
        vec![("description", "")],
        vec![("email", "a@b.example")],
        vec![("name", "W"), ("periodicity", "60")],
    ] {
        let reply = house.call("update", &[&[("id", &*id)], &same[..]].concat());
        check_error(&reply.await, 400, "changes nothing");
    }
    assert_eq!(house.everything().await, before);
}

#[tokio::test]
async fn a_rename_keeps_slugs_unique() {
    let house = House::open().await;
    let id = house.create("My Watcher").await;
    house.create("Other One").await;
    let before = house.everything().await;
    for taken in ["Other One", "other_one"] {
        let parameters = [("id", &*id), ("name", taken), ("description", "new")];
        let reply = house.call("update", &parameters).await;
        check_error(&reply, 409, "name is taken");
        assert_eq!(house.everything().await, before);
    }
    let same_slug = [("slug", "my-watcher"), ("name", "MY_WATCHER")];
    let reply = house.call("update", &same_slug).await;
    check_watcher(
        &reply,
        &json!({"name": "MY_WATCHER", "slug": "my-watcher", "id": id}),
    );
    check_ok(&house.call("get", &[("name", "MY_WATCHER")]).await);
}

// Pausing.

#[tokio::test]
async fn a_pause_clears_the_deadline_and_its_end_sets_it_anew() {
    let house = House::open().await;
    let id = house.create("W").await;
    house.advance_millis(1_000);
    let reply = house
        .call("pause", &[("id", &id), ("comment", "being moved")])
        .await;
    check_watcher(&reply, &json!({"paused": true, "late": false}));
    check_no_deadline(&reply);
    assert_eq!(events(&reply), ["Paused (being moved)", "Watcher created"]);
    let got = house.call("get", &[("id", &id)]).await;
    assert_eq!(got.text, reply.text);

    house.advance_millis(DAY);
    let reply = house
        .call("unpause", &[("id", &id), ("comment", "back")])
        .await;
    let expected = json!({
        "paused": false,
        "late": false,
        "deadline": "2015-03-20T02:08:45.885Z",
        "history": [
            ["2015-03-20T01:08:45.885Z", "Unpaused (back)"],
            ["2015-03-19T01:08:45.885Z", "Paused (being moved)"],
            ["2015-03-19T01:08:44.885Z", "Watcher created"],
        ],
    });
    check_watcher(&reply, &expected);
}

#[tokio::test]
async fn comments_may_be_left_out_or_empty() {
    let house = House::open().await;
    let id = house.create("W").await;
    for comment in [vec![], vec![("comment", "")], vec![("comment", "  ")]] {
        for operation in ["pause", "unpause", "trigger"] {
            let parameters = [&[("id", &*id)], &comment[..]].concat();
            check_ok(&house.call(operation, &parameters).await);
        }
    }
    let got = house.call("get", &[("id", &id)]).await;
    assert_eq!(
        events(&got)[..9],
        ["Triggered", "Unpaused", "Paused"].repeat(3)
    );
}

#[tokio::test]
async fn what_is_paused_cannot_be_paused_nor_what_is_not_unpaused() {
    let house = House::open().await;
    let id = house.create("W").await;
    let before = house.everything().await;
    let reply = house.call("unpause", &[("id", &id)]).await;
    check_error(&reply, 409, "not paused");
    assert_eq!(house.everything().await, before);

    check_ok(&house.call("pause", &[("id", &id)]).await);
    let before = house.everything().await;
    let reply = house.call("pause", &[("id", &id)]).await;
    check_error(&reply, 409, "already paused");
    assert_eq!(house.everything().await, before);
}

#[tokio::test]
async fn a_trigger_unpauses() {
    let house = House::open().await;
    let id = house.create("W").await;
    check_ok(&house.call("pause", &[("id", &id)]).await);
    house.advance_millis(DAY);
    check_triggered(&house.get(&format!("/{id}")).await, false, true);
    let got = house.call("get", &[("id", &id)]).await;
    let expected = json!({"paused": false, "deadline": "2015-03-20T02:08:44.885Z"});
    check_watcher(&got, &expected);
}

// Triggering.

#[tokio::test]
async fn a_trigger_takes_its_comment_by_either_name_and_every_form() {
    let house = House::open().await;
    let id = house.create("W").await;
    let trigger = format!("{API}/trigger?id={id}");
    for (method, path) in [
        (Method::GET, format!("{trigger}&comment=one")),
        (Method::GET, format!("{trigger}&m=two")),
        (Method::GET, format!("/{id}?comment=three")),
        (Method::GET, format!("/{id}?m=four")),
        (Method::POST, format!("{trigger}&comment=five")),
        (Method::POST, format!("{trigger}&m=six")),
        (Method::POST, format!("/{id}?comment=seven")),
        (Method::POST, format!("/{id}?m=eight")),
    ] {
        check_triggered(&Reply::to(house.request(method, &path)).await, false, false);
    }
    let words = [
        "eight", "seven", "six", "five", "four", "three", "two", "one",
    ];
    let expected = words.map(|word| format!("Triggered ({word})"));
    let got = house.call("get", &[("id", &id)]).await;
    assert_eq!(events(&got)[..8], expected);
}

#[tokio::test]
async fn the_body_of_a_trigger_by_post_is_ignored() {
    let house = House::open().await;
    let id = house.create("W").await;
    for (media_type, body) in [
        ("application/x-www-form-urlencoded", "comment=no&nonsense=1"),
        ("application/json", "{\"comment\": "),
        ("text/plain", "\u{0}"),
        ("", ""),
    ] {
        for path in [format!("/{id}"), format!("{API}/trigger?slug=w")] {
            let request = house.request(Method::POST, &path).body(body);
            let request = request.header("content-type", media_type);
            check_triggered(&Reply::to(request).await, false, false);
        }
    }
    let got = house.call("get", &[("id", &id)]).await;
    assert_eq!(events(&got)[..8], vec!["Triggered"; 8]);
}

#[tokio::test]
async fn of_a_long_history_the_newest_hundred_or_the_last_week_are_kept() {
    let house = House::open().await;
    let id = house.create("W").await;
    for _ in 0..104 {
        check_triggered(&house.get(&format!("/{id}")).await, false, false);
    }
    let got = house.call("get", &[("id", &id)]).await;
    assert_eq!(events(&got).len(), 105);

    check_ok(&house.call("pause", &[("id", &id)]).await);
    house.advance_millis(7 * DAY + 1);
    let unpaused = house.call("unpause", &[("id", &id)]).await;
    assert_eq!(events(&unpaused).len(), 100);
    assert_eq!(events(&unpaused)[..2], ["Unpaused", "Paused"]);
}

// Requests that are wrong.

#[tokio::test]
async fn a_missing_parameter_is_named() {
    let mut cases = vec![
        ("create", "name"),
        ("create?periodicity=1", "name"),
        ("create?name=New", "periodicity"),
        ("update?description=x", "id"),
        ("update?description=x", "slug"),
        ("update?name=Awake&description=x", "id"),
    ];
    for request in ["get", "delete", "pause?comment=x", "unpause", "trigger?m=x"] {
        cases.extend(["id", "slug", "name"].map(|parameter| (request, parameter)));
    }
    check_refusals(400, &cases).await;
}

#[tokio::test]
async fn a_malformed_parameter_is_named() {
    let long = |request: &str, length: usize| format!("{request}{}", "x".repeat(length));
    let owned = [
        (long("create?periodicity=1&name=", 256), "name"),
        (
            long("create?periodicity=1&name=N&description=", 4_001),
            "description",
        ),
        (long("trigger?id={id}&comment=", 1_001), "comment"),
        (long("trigger?id={id}&m=", 1_001), "m"),
        (long("pause?id={id}&comment=", 1_001), "comment"),
        (long("unpause?slug=asleep&comment=", 1_001), "comment"),
        (
            format!(
                "create?name=N&periodicity=1{}",
                "&email=a@b.example".repeat(101)
            ),
            "email",
        ),
        (format!("list?search={}", "(".repeat(1_000)), "search"),
    ];
    let mut cases: Vec<(&str, &str)> = owned
        .iter()
        .map(|(request, parameter)| (request.as_str(), *parameter))
        .collect();
    cases.extend([
        ("create?periodicity=1&name=", "name"),
        ("create?periodicity=1&name=+%09", "name"),
        ("create?periodicity=1&name=%21%3f", "name"),
        ("create?periodicity=1&name=a%0ab", "name"),
        ("create?periodicity=1&name=a%00b", "name"),
        ("create?name=N&periodicity=", "periodicity"),
        ("create?name=N&periodicity=hour", "periodicity"),
        ("create?name=N&periodicity=1x", "periodicity"),
        ("create?name=N&periodicity=1h30", "periodicity"),
        ("create?name=N&periodicity=30m1h", "periodicity"),
        ("create?name=N&periodicity=1,5", "periodicity"),
        ("create?name=N&periodicity=0x10", "periodicity"),
        ("create?name=N&periodicity=0", "periodicity"),
        ("create?name=N&periodicity=-1", "periodicity"),
        ("create?name=N&periodicity=0.0004", "periodicity"),
        ("create?name=N&periodicity=nan", "periodicity"),
        ("create?name=N&periodicity=inf", "periodicity"),
        ("create?name=N&periodicity=3155760001", "periodicity"),
        ("create?name=N&periodicity=1e300", "periodicity"),
        ("create?name=N&periodicity=1&email=nobody", "email"),
        (
            "create?name=N&periodicity=1&email=a@b.example,c@d.example",
            "email",
        ),
        (
            "create?name=N&periodicity=1&email=a@b.example%0d%0aBcc:c@d.example",
            "email",
        ),
        (
            "create?name=N&periodicity=1&email=a@b.example&email=",
            "email",
        ),
        (
            "create?name=N&periodicity=1&email=-&email=a@b.example",
            "email",
        ),
        ("create?name=N&periodicity=1&paused=maybe", "paused"),
        ("create?name=N&periodicity=1&paused=TRUE", "paused"),
        ("create?name=N&periodicity=1&paused=2", "paused"),
        ("create?name=N&periodicity=1&paused=+1", "paused"),
        ("update?id={id}&name=", "name"),
        ("update?id={id}&periodicity=0", "periodicity"),
        (
            "update?id={id}&description=new&periodicity=x",
            "periodicity",
        ),
        ("update?id={id}&email=nobody", "email"),
        ("list?verbose=on", "verbose"),
        ("list?late=off", "late"),
        ("list?paused=t", "paused"),
        ("list?search=(", "search"),
        ("list?search=[z-a]", "search"),
        ("list?search=(a{500}){500}", "search"),
        ("list?search=(%3f%3da)b", "search"),
    ]);
    check_refusals(400, &cases).await;
}

#[tokio::test]
async fn an_unknown_parameter_is_named() {
    check_refusals(
        400,
        &[
            ("create?name=N&periodicity=1&nonsense=1", "nonsense"),
            ("create?name=N&periodicity=1&comment=x", "comment"),
            ("create?name=N&periodicity=1&id=abcdefgh", "id"),
            ("create?Name=N&periodicity=1", "Name"),
            ("create?name=N&periodicity=1&=x", ""),
            ("delete?id={id}&nonsense", "nonsense"),
            ("update?id={id}&description=new&paused=1", "paused"),
            ("update?id={id}&description=new&late=1", "late"),
            ("get?id={id}&verbose=1", "verbose"),
            ("list?id={id}", "id"),
            ("trigger?id={id}&nonsense=1", "nonsense"),
            ("trigger?id={id}&message=x", "message"),
            ("pause?id={id}&m=x", "m"),
            ("unpause?slug=asleep&m=x", "m"),
            ("../../../{id}?id={id}", "id"),
            ("../../../{id}?slug=awake", "slug"),
            ("../../../healthz?verbose=1", "verbose"),
            ("../../../readyz?auth_key=1", "auth_key"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_repeated_parameter_is_named() {
    check_refusals(
        400,
        &[
            ("create?name=N&periodicity=1&name=N", "name"),
            ("create?name=N&periodicity=1&periodicity=2", "periodicity"),
            ("create?name=N&periodicity=1&paused=1&paused=1", "paused"),
            (
                "create?name=N&periodicity=1&description=a&description=b",
                "description",
            ),
            (
                "create?name=N&periodicity=1&auth_key=a&auth_key=b",
                "auth_key",
            ),
            ("delete?id={id}&id={id}", "id"),
            ("delete?slug=awake&slug=awake", "slug"),
            (
                "update?id={id}&description=a&descriptio%6e=b",
                "description",
            ),
            ("get?name=Awake&name=Awake", "name"),
            ("list?verbose=1&verbose=1", "verbose"),
            ("list?late=1&late=0", "late"),
            ("list?paused=1&paused=0", "paused"),
            ("list?search=a&search=b", "search"),
            ("trigger?id={id}&comment=a&comment=b", "comment"),
            ("trigger?id={id}&m=a&m=b", "m"),
            ("trigger?id={id}&auth_key=a&auth_key=b", "auth_key"),
            ("pause?id={id}&comment=a&comment=b", "comment"),
            ("unpause?slug=asleep&comment=a&comment=b", "comment"),
            ("../../../{id}?m=a&m=b", "m"),
        ],
    )
    .await;
}

#[tokio::test]
async fn parameters_that_contradict_each_other_are_named() {
    let owned: Vec<String> = ["get", "delete", "pause", "unpause", "trigger"]
        .iter()
        .flat_map(|operation| {
            [
                "id={id}&slug=awake",
                "slug=awake&name=Awake",
                "id={id}&name=Awake",
                "id={id}&slug=awake&name=Awake",
            ]
            .map(|keys| format!("{operation}?{keys}"))
        })
        .collect();
    let mut cases = vec![
        ("update?id={id}&slug=awake&description=new", "id"),
        ("update?id={id}&slug=awake&description=new", "slug"),
        ("trigger?id={id}&comment=a&m=a", "comment"),
        ("trigger?id={id}&comment=a&m=a", "m"),
        ("../../../{id}?m=a&comment=", "comment"),
    ];
    for request in &owned {
        cases.extend(["id", "slug", "name"].map(|parameter| (request.as_str(), parameter)));
    }
    check_refusals(400, &cases).await;
}

#[tokio::test]
async fn broken_percent_encoding_is_refused() {
    check_refusals(
        400,
        &[
            ("create?periodicity=1&name=%", "name"),
            ("create?periodicity=1&name=a%4", "name"),
            ("create?periodicity=1&name=%zz", "name"),
            ("create?periodicity=1&name=%ff", "name"),
            ("create?name=N&periodicity=%", "periodicity"),
            ("create?name=N&periodicity=1&email=a@b.example%", "email"),
            ("trigger?id={id}&comment=50%", "comment"),
            ("trigger?id={id}&comment=%ed%a0%80", "comment"),
            ("pause?id=%", "id"),
            ("list?search=%f0%9f", "search"),
            ("../../../{id}?m=100%25%", "m"),
        ],
    )
    .await;
    let house = House::open().await;
    let reply = house.get(&format!("{API}/list?%ff=1")).await;
    check_error(&reply, 400, "parameter is not percent-encoded");
}

#[tokio::test]
async fn there_is_nothing_at_other_paths() {
    let house = House::open().await;
    let id = house.create("W").await;
    let before = house.everything().await;
    for path in [
        "/".to_owned(),
        "/favicon.ico?v=1".to_owned(),
        "/robots.txt".to_owned(),
        "/Abcdefgh".to_owned(),
        "/abcdefg".to_owned(),
        "/abcdefghi".to_owned(),
        "/abcdefg1".to_owned(),
        "/abcd%65fgh".to_owned(),
        format!("/{id}/"),
        format!("//{id}"),
        format!("/{id}/trigger"),
        format!("/{}", id.to_uppercase()),
        "/nights-watch".to_owned(),
        "/nights-watch/v1/watcher".to_owned(),
        "/nights-watch/v1/watcher/".to_owned(),
        "/nights-watch/v1/watcher/list/".to_owned(),
        "/nights-watch/v1/watcher/List".to_owned(),
        "/nights-watch/v2/watcher/list".to_owned(),
        "/docs/".to_owned(),
        "/docs/index.html".to_owned(),
    ] {
        for method in ["GET", "POST", "HEAD", "OPTIONS", "BREW"] {
            let reply = Reply::to(house.request(method.parse().unwrap(), &path)).await;
            assert_eq!(reply.status, 404, "{method} {path}: {}", reply.text);
            if method != "HEAD" {
                check_error(&reply, 404, "no such path");
            }
        }
    }
    assert_eq!(house.everything().await, before);
}

#[tokio::test]
async fn each_path_says_which_methods_it_answers() {
    let house = House::open().await;
    let id = house.create("W").await;
    let before = house.everything().await;
    let all = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW",
    ];
    for (path, allow) in [
        (format!("{API}/create?name=N&periodicity=1"), "GET"),
        (format!("{API}/delete?id={id}"), "GET"),
        (format!("{API}/update?id={id}&description=new"), "GET"),
        (format!("{API}/get?id={id}"), "GET, HEAD"),
        (format!("{API}/list"), "GET, HEAD"),
        (format!("{API}/trigger?id={id}"), "GET, POST"),
        (format!("{API}/pause?id={id}"), "GET"),
        (format!("{API}/unpause?id={id}"), "GET"),
        (format!("/{id}"), "GET, POST"),
        ("/healthz".to_owned(), "GET, HEAD"),
        ("/readyz".to_owned(), "GET, HEAD"),
    ] {
        let allowed: Vec<_> = allow.split(", ").collect();
        for method in all.iter().filter(|method| !allowed.contains(*method)) {
            let request = house.request(method.parse().unwrap(), &path);
            let reply = Reply::to(request).await;
            assert_eq!(reply.status, 405, "{method} {path}: {}", reply.text);
            assert_eq!(reply.header("allow"), allow, "{method} {path}");
            if *method != "HEAD" {
                check_error(&reply, 405, allow);
            }
        }
    }
    assert_eq!(house.everything().await, before);
    for path in ["/docs", "/openapi.json", "/metrics"] {
        let reply = Reply::to(house.request(Method::POST, path)).await;
        check_error(&reply, 405, "GET");
        assert_eq!(reply.header("allow"), "GET", "{path}");
    }
}

#[tokio::test]
async fn head_and_get_of_what_only_reads_differ_in_the_body_alone() {
    let house = House::open().await;
    let id = house.create("W").await;
    let loops = (house.start_scheduler(), house.start_delivery());
    eventually(async || house.get("/readyz").await.status == 200).await;
    for path in [
        format!("{API}/get?id={id}"),
        format!("{API}/list?verbose=1"),
        format!("{API}/list?verbose=maybe"),
        format!("{API}/get?id=qqqqqqqq"),
        "/healthz".to_owned(),
        "/readyz".to_owned(),
        "/docs".to_owned(),
        "/openapi.json".to_owned(),
        "/metrics".to_owned(),
    ] {
        let get = house.get(&path).await;
        let head = Reply::to(house.request(Method::HEAD, &path)).await;
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
        assert!(head.text.is_empty() && !get.text.is_empty(), "{path}");
    }
    drop(loops);
}

#[tokio::test]
async fn a_prefetch_changes_nothing() {
    let house = House::open().await;
    let id = house.create("Awake").await;
    house
        .create_with(&[("name", "Asleep"), ("periodicity", "60"), ("paused", "1")])
        .await;
    let before = house.everything().await;
    for (name, value) in [
        ("sec-purpose", "prefetch"),
        ("sec-purpose", "prefetch;prerender"),
        ("sec-purpose", "Prefetch;anonymous-client-ip"),
        ("purpose", "prefetch"),
        ("purpose", "preview"),
        ("x-purpose", "preview"),
        ("x-moz", "prefetch"),
    ] {
        for path in [
            format!("{API}/create?name=N&periodicity=1"),
            format!("{API}/delete?id={id}"),
            format!("{API}/update?id={id}&description=new"),
            format!("{API}/pause?id={id}"),
            format!("{API}/unpause?slug=asleep"),
            format!("{API}/trigger?id={id}"),
            format!("/{id}"),
        ] {
            let name: HeaderName = name.parse().unwrap();
            let request = house.request(Method::GET, &path).header(name, value);
            check_error(&Reply::to(request).await, 403, "prefetch");
        }
        assert_eq!(house.everything().await, before, "{name}: {value}");
    }
    let harmless = house.request(Method::GET, &format!("{API}/get?id={id}"));
    check_ok(&Reply::to(harmless.header("sec-purpose", "prefetch")).await);
    let other = house.request(Method::GET, &format!("/{id}"));
    check_ok(&Reply::to(other.header("sec-purpose", "navigate")).await);
}

#[tokio::test]
async fn a_path_and_query_over_16_kib_are_refused() {
    let house = House::open().await;
    let base = format!("{API}/get?slug=");
    let fits = format!("{base}{}", "x".repeat(16 * 1024 - base.len()));
    check_error(&house.get(&fits).await, 404, "no such watcher");
    check_error(&house.get(&format!("{fits}x")).await, 414, "query");
    let short = format!("/abcdefgh?m={}", "x".repeat(40 * 1024));
    check_error(&house.get(&short).await, 414, "query");
}

#[tokio::test]
async fn headers_over_16_kib_are_refused() {
    let house = House::open().await;
    let id = house.create("W").await;
    let before = house.everything().await;
    let request = |bytes: usize| {
        let request = house.request(Method::GET, &format!("/{id}"));
        Reply::to(request.header("x-long", "x".repeat(bytes)))
    };
    check_error(&request(16 * 1024).await, 431, "headers");
    check_error(&request(40 * 1024).await, 431, "headers");
    assert_eq!(house.everything().await, before);
    check_triggered(&request(15 * 1024).await, false, false);
}

// The key.

const KEY: &str = "k3y/with+signs&more";

/// An operation of each kind that demands the key, as it would succeed.
fn secured(id: &str) -> [(&'static str, Vec<(&'static str, String)>); 7] {
    let key = || vec![("id", id.to_owned())];
    let with = |name, value: &str| [key(), vec![(name, value.to_owned())]].concat();
    [
        ("get", key()),
        ("list", Vec::new()),
        ("update", with("description", "new")),
        ("pause", key()),
        ("unpause", key()),
        (
            "create",
            vec![("name", "New".to_owned()), ("periodicity", "60".to_owned())],
        ),
        ("delete", key()),
    ]
}

/// A house that demands the key, with one watcher in it.
async fn locked() -> (House, String) {
    let house = House::locked_by(KEY).await;
    let parameters = [("name", "W"), ("periodicity", "3600"), ("auth_key", KEY)];
    let id = house.create_with(&parameters).await;
    (house, id)
}

#[tokio::test]
async fn without_the_right_key_nothing_is_read_or_changed() {
    let (house, id) = locked().await;
    let everything = path("list", &[("verbose", "1"), ("auth_key", KEY)]);
    let before = house.get(&everything).await.text;
    let longer = format!("{KEY}x");
    let wrong = [
        "",
        "x",
        &KEY[1..],
        &KEY[..KEY.len() - 1],
        &longer,
        "K3Y/with+signs&more",
    ];
    for (operation, parameters) in secured(&id) {
        let plain: Vec<_> = parameters.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut requests = vec![house.request(Method::GET, &path(operation, &plain))];
        for key in wrong {
            let in_query = [&plain[..], &[("auth_key", key)]].concat();
            requests.push(house.request(Method::GET, &path(operation, &in_query)));
            for value in [
                format!("Bearer {key}"),
                format!("Basic {KEY}"),
                KEY.to_owned(),
            ] {
                let request = house.request(Method::GET, &path(operation, &plain));
                requests.push(request.header(AUTHORIZATION, value));
            }
        }
        // Who has no key does not learn either which parameters and watchers there are.
        requests.push(house.request(Method::GET, &path(operation, &[("nonsense", "1")])));
        requests.push(house.request(Method::GET, &path(operation, &[("id", "qqqqqqqq")])));
        for request in requests {
            let reply = Reply::to(request).await;
            check_error(&reply, 401, "\"auth_key\"");
            assert_eq!(reply.header("www-authenticate"), "Bearer");
            assert!(!reply.everything().contains(KEY), "{operation}");
        }
    }
    assert_eq!(house.get(&everything).await.text, before);
}

#[tokio::test]
async fn the_key_is_taken_as_a_parameter_or_as_a_bearer_token() {
    for bearer in [None, Some("Bearer"), Some("bearer")] {
        let (house, id) = locked().await;
        for (operation, parameters) in secured(&id) {
            let mut parameters: Vec<_> = parameters.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let request = if let Some(bearer) = bearer {
                let request = house.request(Method::GET, &path(operation, &parameters));
                request.header(AUTHORIZATION, format!("{bearer} {KEY}"))
            } else {
                parameters.push(("auth_key", KEY));
                house.request(Method::GET, &path(operation, &parameters))
            };
            let reply = Reply::to(request).await;
            check_ok(&reply);
            assert!(!reply.everything().contains(KEY), "{operation}");
        }
    }
}

#[tokio::test]
async fn a_trigger_needs_no_key_and_ignores_one() {
    let (house, id) = locked().await;
    for query in [
        "",
        "&auth_key=wrong",
        "&auth_key=",
        "&auth_key=k3y/with%2bsigns%26more",
    ] {
        let short = query.replacen('&', "?", 1);
        for path in [
            format!("{API}/trigger?id={id}{query}"),
            format!("/{id}{short}"),
        ] {
            for method in [Method::GET, Method::POST] {
                let request = house.request(method, &path);
                let request = request.header(AUTHORIZATION, "Bearer wrong");
                check_triggered(&Reply::to(request).await, false, false);
            }
        }
    }
}

#[tokio::test]
async fn a_service_without_a_key_ignores_one() {
    let house = House::open().await;
    let id = house.create("W").await;
    for (operation, parameters) in secured(&id) {
        let mut parameters: Vec<_> = parameters.iter().map(|(n, v)| (*n, v.as_str())).collect();
        parameters.push(("auth_key", "anything"));
        let request = house.request(Method::GET, &path(operation, &parameters));
        check_ok(&Reply::to(request.header(AUTHORIZATION, "Bearer x")).await);
    }
}

#[tokio::test]
async fn the_health_needs_no_key() {
    let (house, _) = locked().await;
    check_ok(&house.get("/healthz").await);
    check_error(&house.get("/readyz").await, 503, "stopped");
}

/// A log that a test can read.
#[derive(Clone, Default)]
pub(crate) struct Captured(pub(crate) Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_key_is_in_no_answer_and_no_log() {
    let captured = Captured::default();
    let writer = captured.clone();
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // The runtime of this test has one thread, so the server logs here as well.
    let _here = tracing::subscriber::set_default(log);
    // As long as there is one subscriber, whether an event is wanted is decided by the thread that meets it
    // first, which may be that of a test without a log. A second one ends that.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let (house, id) = locked().await;
    let encoded = path("get", &[("id", &id), ("auth_key", KEY)]);
    let encoded = encoded.split_once("auth_key=").unwrap().1;
    for path in [
        format!("{API}/get?id={id}&auth_key={encoded}"),
        format!("{API}/get?id={id}&auth_key={encoded}&auth_key={encoded}"),
        format!("{API}/get?id={id}&auth_key={encoded}&nonsense=1"),
        format!("{API}/get?id={id}&auth_key={encoded}&name=%zz"),
        format!("{API}/get?auth_key={encoded}"),
        format!("{API}/list?search=(&auth_key={encoded}"),
        format!("{API}/nothing?auth_key={encoded}"),
        format!("/{id}?auth_key={encoded}"),
        format!("/healthz?auth_key={encoded}"),
        format!("/nothing?auth_key={encoded}"),
    ] {
        for request in [
            house.request(Method::GET, &path),
            house.request(Method::PUT, &path),
            house.request(Method::GET, &path).bearer_auth(KEY),
        ] {
            let seen = Reply::to(request).await.everything();
            assert!(!seen.contains(KEY) && !seen.contains(encoded), "{path}");
        }
    }
    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("/nights-watch/v1/watcher/get"), "{log}");
    assert!(!log.contains(KEY) && !log.contains(encoded), "{log}");
}

// Deadlines.

#[tokio::test]
async fn a_silent_watcher_is_late_once_its_deadline_has_passed() {
    let house = House::open().await;
    let scheduler = house.start_scheduler();
    for (name, periodicity) in [("First", "59.999"), ("Second", "60"), ("Third", "61")] {
        house
            .create_with(&[("name", name), ("periodicity", periodicity)])
            .await;
    }
    house.advance_millis(60_000);
    // The second one's deadline is this very instant, at which it is still on time.
    eventually(async || house.names(&[("late", "true")]).await == ["First"]).await;
    assert_eq!(house.names(&[("late", "no")]).await, ["Second", "Third"]);
    house.advance_millis(1);
    eventually(async || house.names(&[("late", "true")]).await == ["First", "Second"]).await;
    let got = house.call("get", &[("name", "First")]).await;
    let expected = json!({
        "late": true,
        "paused": false,
        "deadline": "2015-03-19T01:09:44.884Z",
        "history": [["2015-03-19T01:08:44.885Z", "Watcher created"]],
    });
    check_watcher(&got, &expected);
    scheduler.stop().await;
}

#[tokio::test]
async fn a_trigger_ends_lateness_once() {
    let house = House::open().await;
    let scheduler = house.start_scheduler();
    let id = house.create("W").await;
    house.advance_millis(2 * HOUR);
    eventually(async || house.names(&[("late", "1")]).await == ["W"]).await;
    check_triggered(&house.get(&format!("/{id}")).await, true, false);
    check_triggered(&house.get(&format!("/{id}")).await, false, false);
    let got = house.call("get", &[("id", &id)]).await;
    let expected = json!({"late": false, "deadline": "2015-03-19T04:08:44.885Z"});
    check_watcher(&got, &expected);
    scheduler.stop().await;
}

#[tokio::test]
async fn a_trigger_after_the_deadline_recovers_though_no_scheduler_ran() {
    let house = House::open().await;
    let id = house.create("W").await;
    house.advance_millis(HOUR + 1);
    check_triggered(&house.get(&format!("/{id}")).await, true, false);
    let got = house.call("get", &[("id", &id)]).await;
    let expected = json!({"late": false, "deadline": "2015-03-19T03:08:44.886Z"});
    check_watcher(&got, &expected);
}

#[tokio::test]
async fn a_trigger_at_the_instant_of_the_deadline_is_on_time() {
    let house = House::open().await;
    let id = house.create("W").await;
    house.advance_millis(HOUR);
    check_triggered(&house.get(&format!("/{id}")).await, false, false);
}

#[tokio::test]
async fn everybody_is_told_of_lateness_and_of_its_end() {
    let house = House::open().await;
    let scheduler = house.start_scheduler();
    let (delivery, mut inbox) = house.start_delivery();
    let id = house
        .create_with(&[
            ("name", "Nightly dump"),
            ("periodicity", "60"),
            ("email", "a@example.com"),
            ("email", "b@example.com"),
        ])
        .await;
    house.advance_millis(60_001);
    assert_eq!(
        inbox.sorted(2).await,
        [
            "a@example.com: [LATE] Nightly dump has not reported",
            "b@example.com: [LATE] Nightly dump has not reported",
        ]
    );
    check_triggered(&house.get(&format!("/{id}")).await, true, false);
    assert_eq!(
        inbox.sorted(2).await,
        [
            "a@example.com: [RESUMED] Nightly dump is reporting again",
            "b@example.com: [RESUMED] Nightly dump is reporting again",
        ]
    );
    scheduler.stop().await;
    delivery.stop().await;
}

#[tokio::test]
async fn a_late_trigger_tells_of_both_though_no_scheduler_ran() {
    let house = House::open().await;
    let (delivery, mut inbox) = house.start_delivery();
    let parameters = [
        ("name", "W"),
        ("periodicity", "60"),
        ("email", "a@b.example"),
    ];
    let id = house.create_with(&parameters).await;
    house.advance_millis(60_001);
    check_triggered(&house.get(&format!("/{id}")).await, true, false);
    assert_eq!(inbox.next().await, "a@b.example: [LATE] W has not reported");
    assert_eq!(
        inbox.next().await,
        "a@b.example: [RESUMED] W is reporting again"
    );
    delivery.stop().await;
}

#[tokio::test]
async fn a_paused_watcher_does_not_become_late() {
    let house = House::open().await;
    let scheduler = house.start_scheduler();
    let id = house.create("Asleep").await;
    house.create("Awake").await;
    check_ok(&house.call("pause", &[("id", &id)]).await);
    house.advance_millis(365 * DAY);
    eventually(async || house.names(&[("late", "1")]).await == ["Awake"]).await;
    let got = house.call("get", &[("id", &id)]).await;
    check_watcher(&got, &json!({"late": false, "paused": true}));
    check_no_deadline(&got);
    scheduler.stop().await;
}

#[tokio::test]
async fn a_pause_ends_lateness_and_tells_nobody() {
    let house = House::open().await;
    let scheduler = house.start_scheduler();
    let (delivery, mut inbox) = house.start_delivery();
    let parameters = [
        ("name", "W"),
        ("periodicity", "60"),
        ("email", "a@b.example"),
    ];
    let id = house.create_with(&parameters).await;
    let late = "a@b.example: [LATE] W has not reported";
    house.advance_millis(60_001);
    assert_eq!(inbox.next().await, late);
    let paused = house.call("pause", &[("id", &id)]).await;
    check_watcher(&paused, &json!({"late": false, "paused": true}));
    check_no_deadline(&paused);
    check_ok(&house.call("unpause", &[("id", &id)]).await);
    house.advance_millis(60_001);
    // What one recipient is told of one watcher arrives in order, so nothing came between.
    assert_eq!(inbox.next().await, late);
    scheduler.stop().await;
    delivery.stop().await;
}

#[tokio::test]
async fn a_shorter_periodicity_can_make_a_watcher_late() {
    let house = House::open().await;
    let (delivery, mut inbox) = house.start_delivery();
    let parameters = [
        ("name", "W"),
        ("periodicity", "3600"),
        ("email", "a@b.example"),
    ];
    let id = house.create_with(&parameters).await;
    house.advance_millis(60_000);
    check_triggered(&house.get(&format!("/{id}")).await, false, false);
    house.advance_millis(60_000);
    // The new deadline is this very instant, at which it is still on time.
    let reply = house.call("update", &[("id", &id), ("periodicity", "60")]);
    let expected = json!({"late": false, "deadline": "2015-03-19T01:10:44.885Z"});
    check_watcher(&reply.await, &expected);
    let reply = house.call("update", &[("id", &id), ("periodicity", "59.999")]);
    let expected = json!({"late": true, "deadline": "2015-03-19T01:10:44.884Z"});
    check_watcher(&reply.await, &expected);
    assert_eq!(inbox.next().await, "a@b.example: [LATE] W has not reported");
    delivery.stop().await;
}

#[tokio::test]
async fn a_longer_periodicity_can_end_lateness() {
    let house = House::open().await;
    let scheduler = house.start_scheduler();
    let (delivery, mut inbox) = house.start_delivery();
    let parameters = [
        ("name", "W"),
        ("periodicity", "60"),
        ("email", "a@b.example"),
    ];
    let id = house.create_with(&parameters).await;
    house.advance_millis(120_000);
    assert_eq!(inbox.next().await, "a@b.example: [LATE] W has not reported");
    let reply = house.call("update", &[("id", &id), ("periodicity", "119.999")]);
    let expected = json!({"late": true, "deadline": "2015-03-19T01:10:44.884Z"});
    check_watcher(&reply.await, &expected);
    let reply = house.call("update", &[("id", &id), ("periodicity", "120")]);
    let expected = json!({"late": false, "deadline": "2015-03-19T01:10:44.885Z"});
    check_watcher(&reply.await, &expected);
    assert_eq!(
        inbox.next().await,
        "a@b.example: [RESUMED] W is reporting again"
    );
    scheduler.stop().await;
    delivery.stop().await;
}

#[tokio::test]
async fn a_new_periodicity_gives_a_paused_watcher_no_deadline() {
    let house = House::open().await;
    let id = house.create("W").await;
    check_ok(&house.call("pause", &[("id", &id)]).await);
    let parameters = [("id", &*id), ("periodicity", "60")];
    let reply = house.call("update", &parameters).await;
    check_watcher(&reply, &json!({"paused": true, "periodicity": 60}));
    check_no_deadline(&reply);
}

// Lists.

#[tokio::test]
async fn a_list_has_names_and_identifiers_or_everything() {
    let house = House::open().await;
    let id = house.create("W").await;
    let brief = json!({"status": "ok", "watchers": [{"name": "W", "id": id}]});
    for query in [
        "",
        "?",
        "?verbose=",
        "?verbose=false",
        "?verbose=0",
        "?verbose",
    ] {
        let reply = house.get(&format!("{API}/list{query}")).await;
        assert_eq!(check_ok(&reply), brief, "{query}");
    }
    let paused = house.create_with(&[("name", "X"), ("periodicity", "0.5"), ("paused", "1")]);
    let paused = paused.await;
    let verbose = house.call("list", &[("verbose", "yes")]).await;
    let watcher = async |id: &str| house.call("get", &[("id", id)]).await.watcher();
    let expected = [watcher(&id).await, watcher(&paused).await];
    assert_eq!(check_ok(&verbose)["watchers"], json!(expected));
    // It is indented as if it had been written at once.
    let head = "{\n    \"status\": \"ok\",\n    \"watchers\": [\n        {\n            \"name\": \"W\",\n";
    assert!(verbose.text.starts_with(head), "{}", verbose.text);
}

#[tokio::test]
async fn a_list_of_nothing_is_empty() {
    let house = House::open().await;
    for query in ["", "?verbose=1", "?late=1", "?search=x"] {
        let reply = house.get(&format!("{API}/list{query}")).await;
        assert_eq!(check_ok(&reply), json!({"status": "ok", "watchers": []}));
    }
}

#[tokio::test]
async fn a_list_shows_what_is_late_or_paused_or_not() {
    let house = House::open().await;
    let scheduler = house.start_scheduler();
    for (name, periodicity, paused) in [("L", "1", "0"), ("P", "1", "1"), ("T", "60", "0")] {
        let parameters = [
            ("name", name),
            ("periodicity", periodicity),
            ("paused", paused),
        ];
        house.create_with(&parameters).await;
    }
    house.advance_millis(2_000);
    eventually(async || house.names(&[("late", "true")]).await == ["L"]).await;
    for (conditions, names) in [
        (&[][..], &["L", "P", "T"][..]),
        (&[("late", "false")], &["P", "T"]),
        (&[("paused", "true")], &["P"]),
        (&[("paused", "false")], &["L", "T"]),
        (&[("paused", "false"), ("late", "false")], &["T"]),
        (&[("paused", "true"), ("late", "true")], &[]),
        (&[("late", "1"), ("verbose", "1")], &["L"]),
    ] {
        assert_eq!(house.names(conditions).await, names, "{conditions:?}");
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn a_search_looks_at_name_slug_identifier_and_addresses() {
    let house = House::open().await;
    let parameters = [
        ("name", "Back Up"),
        ("periodicity", "60"),
        ("email", "ops@example.com"),
    ];
    let id = house.create_with(&parameters).await;
    house.create("Über 100%").await;
    for (expression, names) in [
        ("^Back", &["Back Up"][..]),
        ("^back-up$", &["Back Up"]),
        ("@EXAMPLE", &[]),
        ("(?i)@EXAMPLE", &["Back Up"]),
        (&format!("^{id}$"), &["Back Up"]),
        ("100%", &["Über 100%"]),
        (r"^\w{4} ", &["Back Up", "Über 100%"]),
        ("nothing", &[]),
        ("hour|created", &[]),
        ("", &["Back Up", "Über 100%"]),
    ] {
        let found = house.names(&[("search", expression)]).await;
        assert_eq!(found, names, "{expression}");
    }
}

#[tokio::test]
async fn a_search_takes_linear_time() {
    let house = House::open().await;
    house.create(&"a".repeat(255)).await;
    let begin = Instant::now();
    for expression in ["(a*)*b", "^(a|aa)+$b", "(a+)+$", r"(\w+\s?)*!"] {
        house.names(&[("search", expression)]).await;
    }
    // An engine that backtracks would take ages.
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_list_of_many_is_whole_and_ordered_by_slug() {
    let house = House::open().await;
    let mut names: Vec<String> = (0..257).map(|n| format!("W {}", n * 7919 % 257)).collect();
    for name in &names {
        house.create(name).await;
    }
    names.sort_by_key(|name| name.to_lowercase().replace(' ', "-"));
    assert_eq!(house.names(&[]).await, names);
    assert_eq!(house.names(&[("verbose", "1")]).await, names);
    // Exactly as many as two pages have.
    let expression = ("search", r"^W (\d|\d\d|1\d\d)$");
    assert_eq!(house.names(&[expression]).await.len(), 200);
}

// Races.

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_creates_of_one_name_one_succeeds() {
    let house = House::open().await;
    let racers = (0..16).map(|n| {
        let description = n.to_string();
        let parameters = [
            ("name", "W"),
            ("periodicity", "60"),
            ("description", &description),
        ];
        house.call("create", &parameters)
    });
    let replies = within(join_all(racers)).await;
    let (created, refused): (Vec<_>, Vec<_>) =
        replies.iter().partition(|reply| reply.status == 200);
    let [created] = &created[..] else {
        panic!("{} were created", created.len())
    };
    assert_eq!(refused.len(), 15);
    for reply in refused {
        check_error(reply, 409, "name is taken");
    }
    let json = house.call("list", &[("verbose", "1")]).await.json();
    assert_eq!(json["watchers"], json!([created.watcher()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_triggers_none_is_lost() {
    let house = House::open().await;
    let id = house.create("W").await;
    let triggers = (0..64).map(|n| house.get(&format!("/{id}?m={n}")));
    for reply in within(join_all(triggers)).await {
        check_triggered(&reply, false, false);
    }
    let got = house.call("get", &[("id", &id)]).await;
    let events = events(&got);
    assert_eq!(events.len(), 65);
    let distinct: BTreeSet<_> = events.into_iter().collect();
    let mut expected: BTreeSet<_> = (0..64).map(|n| format!("Triggered ({n})")).collect();
    expected.insert("Watcher created".to_owned());
    assert_eq!(distinct, expected);
}

// Texts that somebody else would stumble over.

const HOSTILE: [&str; 9] = [
    r#"say "hi" \ 'there'"#,
    "<script>alert(1)</script>",
    "\u{202e}txt.exe\u{202c} rtl",
    "owl 🦉 and family 👨\u{200d}👩\u{200d}👧",
    "Größe 東京 مرحبا",
    "a&b=c?d#e+f%20g;h",
    "{{7*7}} ${x} %s",
    "'; DROP TABLE watchers; --",
    "e\u{301} is not é, \u{feff}a byte order mark",
];

#[tokio::test]
async fn hostile_texts_come_back_as_they_went() {
    let house = House::open().await;
    for text in HOSTILE {
        let parameters = [("name", text), ("periodicity", "60"), ("description", text)];
        let created = house.call("create", &parameters).await;
        check_watcher(&created, &json!({"name": text, "description": text}));
        check_ok(
            &house
                .call("trigger", &[("name", text), ("comment", text)])
                .await,
        );
        let got = house.call("get", &[("name", text)]).await;
        assert_eq!(events(&got)[0], format!("Triggered ({text})"));
        let slug = got.watcher()["slug"].as_str().unwrap().to_owned();
        let by_slug = house.call("get", &[("slug", &slug)]).await;
        assert_eq!(by_slug.text, got.text);
    }
    let json = house.call("list", &[("verbose", "1")]).await.json();
    assert_eq!(json["watchers"].as_array().unwrap().len(), HOSTILE.len());
}

#[tokio::test]
async fn control_characters_in_free_text_come_back_as_they_went() {
    let house = House::open().await;
    let id = house.create("W").await;
    for text in [
        "nul \u{0} byte",
        "a\r\nb\tc",
        "\u{1b}[31mred\u{7f}",
        "\u{0}\u{2028}\u{85}.",
    ] {
        check_ok(
            &house
                .call("trigger", &[("id", &id), ("comment", text)])
                .await,
        );
        let reply = house.call("update", &[("id", &id), ("description", text)]);
        let reply = reply.await;
        check_watcher(&reply, &json!({"description": text}));
        assert_eq!(events(&reply)[0], format!("Triggered ({text})"));
        let listed = house.call("list", &[("verbose", "1")]).await.json();
        assert_eq!(listed["watchers"][0], reply.watcher());
    }
}

#[tokio::test]
async fn texts_may_be_as_long_as_is_said_in_characters() {
    let house = House::open().await;
    let (name, description) = ("é".repeat(255), "é".repeat(2_000));
    let parameters = [
        ("name", &*name),
        ("periodicity", "60"),
        ("description", &description),
    ];
    check_watcher(
        &house.call("create", &parameters).await,
        &json!({"name": name}),
    );
    let comment = "é".repeat(1_000);
    check_ok(
        &house
            .call("trigger", &[("name", &name), ("m", &comment)])
            .await,
    );
    let comment = "é".repeat(1_001);
    let reply = house
        .call("trigger", &[("name", &name), ("m", &comment)])
        .await;
    check_error(&reply, 400, "\"m\"");
}

// A store that fails.

/// Checks that every operation on watchers answers `status` and says `text` if the store fails as `error` says,
/// and shows nothing of the inside.
async fn check_failures(status: u16, text: &str, error: fn() -> StoreError) {
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = Arc::clone(&broken);
    let store = HookedStore::failing(move |_| is_broken.load(Ordering::SeqCst).then(error));
    let house = House::over(store).await;
    let id = house.create("W").await;
    let before = house.everything().await;
    broken.store(true, Ordering::SeqCst);
    for path in [
        format!("{API}/create?name=N&periodicity=1"),
        format!("{API}/delete?id={id}"),
        format!("{API}/update?id={id}&description=new"),
        format!("{API}/get?id={id}"),
        format!("{API}/list"),
        format!("{API}/list?verbose=1"),
        format!("{API}/pause?id={id}"),
        format!("{API}/unpause?id={id}"),
        format!("{API}/trigger?id={id}"),
        format!("/{id}"),
    ] {
        let reply = house.get(&path).await;
        assert_eq!(reply.status, status, "{path}");
        check_error(&reply, status, text);
        assert!(!reply.everything().contains("secret"), "{}", reply.text);
    }
    check_ok(&house.get("/healthz").await);
    broken.store(false, Ordering::SeqCst);
    assert_eq!(house.everything().await, before);
}

#[tokio::test]
async fn a_store_out_of_reach_is_unavailability() {
    check_failures(503, "nothing was changed", || {
        StoreError::unavailable("secret-host:27017 refused")
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_lost_in_the_middle_is_unavailability_of_another_kind() {
    let lost = || StoreError::outcome_unknown("secret-host:27017 hung up");
    let store = HookedStore::failing(move |call| (call == Call::Transact).then(lost));
    let house = House::over(store).await;
    let id = house.create("W").await;
    let reply = house.get(&format!("/{id}?comment=made")).await;
    check_error(&reply, 503, "it may have been done or not");
    assert!(!reply.everything().contains("secret"), "{}", reply.text);
    let history = house.everything().await;
    assert!(history.contains("Triggered (made)"), "{history}");
}

#[tokio::test]
async fn a_store_that_makes_no_sense_is_an_error_inside() {
    check_failures(500, "inside", || {
        StoreError::Corrupt("secret row 7".to_owned())
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_an_error_inside_and_harms_nobody_else() {
    let store = HookedStore::new(async |call| match call {
        Call::Find => panic!("a secret"),
        _ => Ok(()),
    });
    let house = House::over(store).await;
    let id = house.create("W").await;
    for _ in 0..3 {
        let reply = house.call("get", &[("id", &id)]).await;
        check_error(&reply, 500, "inside");
        assert!(!reply.everything().contains("secret"));
        check_triggered(&house.get(&format!("/{id}")).await, false, false);
    }
}

#[tokio::test]
async fn a_list_that_fails_half_way_is_broken_off() {
    let store = HookedStore::failing(|call| {
        (call == Call::LaterPage).then(|| StoreError::unavailable("gone"))
    });
    let house = House::over(store).await;
    // So long that the client has a part of it before the second page fails.
    let description = "x".repeat(2_000);
    for n in 0..100 {
        if n == 99 {
            assert_eq!(house.names(&[]).await.len(), 99);
        }
        let name = format!("W {n}");
        let parameters = [
            ("name", &*name),
            ("periodicity", "60"),
            ("description", &description),
        ];
        house.create_with(&parameters).await;
    }
    for verbose in ["0", "1"] {
        let request = house.request(Method::GET, &path("list", &[("verbose", verbose)]));
        let text = within(async { request.send().await?.text().await }).await;
        assert!(text.is_err(), "a part was taken for the whole: {text:?}");
    }
    assert_eq!(house.names(&[("search", "^W 7$")]).await, ["W 7"]);
}

// For those who run it.

#[tokio::test]
async fn it_is_ready_while_the_store_answers_and_both_loops_turn() {
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = Arc::clone(&broken);
    let store = HookedStore::failing(move |call| {
        let fails = call == Call::Ping && is_broken.load(Ordering::SeqCst);
        fails.then(|| StoreError::unavailable("secret-host:27017 refused"))
    });
    let house = House::over(store).await;
    let never_started = house.get("/readyz").await;
    check_error(&never_started, 503, "the scheduler has stopped");
    check_error(&never_started, 503, "the delivery has stopped");

    let scheduler = house.start_scheduler();
    let (delivery, _inbox) = house.start_delivery();
    eventually(async || house.get("/readyz").await.status == 200).await;
    let ready = house.get("/readyz").await;
    check_ok(&ready);
    assert_eq!(ready.text, "{\n    \"status\": \"ok\"\n}\n");

    broken.store(true, Ordering::SeqCst);
    let reply = house.get("/readyz").await;
    check_error(&reply, 503, "the store fails");
    assert!(!reply.text.contains("scheduler") && !reply.text.contains("secret"));
    check_ok(&house.get("/healthz").await);
    broken.store(false, Ordering::SeqCst);
    check_ok(&house.get("/readyz").await);

    scheduler.stop().await;
    let reply = house.get("/readyz").await;
    check_error(&reply, 503, "the scheduler has stopped");
    assert!(!reply.text.contains("delivery"), "{}", reply.text);
    delivery.stop().await;
    let reply = house.get("/readyz").await;
    check_error(&reply, 503, "the delivery has stopped");
    check_ok(&house.get("/healthz").await);
}

#[tokio::test]
async fn a_notice_that_is_owed_for_too_long_is_a_complaint() {
    let house = House::open().await;
    let scheduler = house.start_scheduler();
    let parameters = [
        ("name", "W"),
        ("periodicity", "60"),
        ("email", "ops@example.org"),
    ];
    house.create_with(&parameters).await;
    house.advance_millis(60_001);
    eventually(async || house.everything().await.contains("\"late\": true")).await;
    let waiting = "the notices wait for too long to be delivered";
    house.advance_millis(3_600_000);
    let reply = house.get("/readyz").await;
    assert!(!reply.text.contains(waiting), "{}", reply.text);
    house.advance_millis(1);
    check_error(&house.get("/readyz").await, 503, waiting);
    let metrics = house.get("/metrics").await.text;
    assert!(
        metrics.contains("nights_watch_up{part=\"notices\"} 0\n"),
        "{metrics}"
    );

    let (_delivery, mut inbox) = house.start_delivery();
    inbox.next().await;
    eventually(async || house.get("/readyz").await.status == 200).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn a_loop_whose_store_fails_is_not_ready() {
    let store =
        HookedStore::failing(|call| (call == Call::Loops).then(|| StoreError::unavailable("gone")));
    let house = House::over(store).await;
    let scheduler = house.start_scheduler();
    let (delivery, _inbox) = house.start_delivery();
    let complaints = "the scheduler fails; the delivery fails";
    eventually(async || house.get("/readyz").await.text.contains(complaints)).await;
    check_error(&house.get("/readyz").await, 503, complaints);
    scheduler.stop().await;
    delivery.stop().await;
}

#[tokio::test]
async fn the_metrics_are_well_formed_and_count() {
    let house = House::open().await;
    let scheduler = house.start_scheduler();
    let id = house.create("W").await;
    let parameters = [("name", "P"), ("periodicity", "60"), ("paused", "1")];
    house.create_with(&parameters).await;
    for _ in 0..3 {
        check_triggered(&house.get(&format!("/{id}")).await, false, false);
    }
    check_error(&house.get("/qqqqqqqq").await, 404, "watcher");
    let scrape = house
        .request(Method::GET, "/metrics")
        .header("accept", "application/openmetrics-text;version=1.0.0;q=0.5");
    let metrics = Reply::to(scrape).await;
    assert_eq!(metrics.status, 200);
    let media_type = metrics.header("content-type");
    assert!(media_type.starts_with("application/openmetrics-text"));
    let lines: Vec<_> = metrics.text.lines().collect();
    let sample =
        r#"^[a-z_:][a-z0-9_:]*(\{[a-z_]+="[^"\\]*"(,[a-z_]+="[^"\\]*")*\})? -?[0-9][0-9.e+-]*$"#;
    let sample = Regex::new(sample).unwrap();
    let (last, rest) = lines.split_last().unwrap();
    assert_eq!(*last, "# EOF");
    for line in rest {
        assert!(line.starts_with("# ") || sample.is_match(line), "{line:?}");
    }
    for line in [
        "nights_watch_triggers_total 3",
        "nights_watch_http_requests_total{operation=\"createWatcher\",status=\"200\"} 2",
        "nights_watch_http_requests_total{operation=\"triggerById\",status=\"200\"} 3",
        "nights_watch_http_requests_total{operation=\"triggerById\",status=\"404\"} 1",
        "nights_watch_http_request_duration_seconds_count{operation=\"triggerById\"} 4",
        "nights_watch_watchers{state=\"on_time\"} 1",
        "nights_watch_watchers{state=\"paused\"} 1",
        "nights_watch_up{part=\"store\"} 1",
        "nights_watch_up{part=\"scheduler\"} 1",
        "nights_watch_up{part=\"delivery\"} 0",
    ] {
        assert!(lines.contains(&line), "{line} in {}", metrics.text);
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn the_metrics_stand_without_the_store() {
    let store = HookedStore::failing(|_| Some(StoreError::unavailable("gone")));
    let house = House::over(store).await;
    check_error(&house.get("/qqqqqqqq").await, 503, "store");
    let metrics = house.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    for line in [
        "nights_watch_triggers_total 0",
        "nights_watch_store_errors_total 1",
        "nights_watch_up{part=\"store\"} 0",
    ] {
        assert!(metrics.text.lines().any(|l| l == line), "{}", metrics.text);
    }
}

#[tokio::test]
async fn the_docs_load_nothing_from_elsewhere() {
    let house = House::open().await;
    let docs = house.get("/docs").await;
    assert_eq!(docs.status, 200);
    assert!(docs.header("content-type").starts_with("text/html"));
    assert!(docs.text.contains(&openapi_document()));
    let tags = Regex::new(r"<(?:script|link|img|iframe)\b[^>]*>").unwrap();
    let elsewhere = Regex::new(r#"\b(?:src|href)\s*=\s*["']?\s*(?:https?:)?//"#).unwrap();
    for tag in tags.find_iter(&docs.text).map(|tag| tag.as_str()) {
        assert!(!elsewhere.is_match(tag), "{tag}");
    }
}

#[tokio::test]
async fn the_description_that_is_served_is_the_one_that_is_printed() {
    let house = House::open().await;
    let reply = house.get("/openapi.json").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/json");
    assert!(reply.text == openapi_document());
}

// Connections.

/// Connects, and sends `bytes`.
pub(crate) async fn connect(house: &House, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// All that comes until the connection ends.
pub(crate) async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn half_sent_requests_hinder_nobody() {
    let house = House::open().await;
    let id = house.create("W").await;
    let head = format!("GET /{id} HTTP/1.1\r\nHost: x\r\nX-Long: ");
    let mut slow = Vec::new();
    for _ in 0..32 {
        slow.push(connect(&house, &head).await);
    }
    check_triggered(&house.get(&format!("/{id}")).await, false, false);
    let got = house.call("get", &[("id", &id)]).await;
    assert_eq!(events(&got), ["Triggered", "Watcher created"]);
    // They are served as well, once they are done.
    let mut last = slow.pop().unwrap();
    last.write_all(b"x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = rest(last).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\"status\": \"ok\""), "{answer}");
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let house = House::open().await;
    for garbage in [
        "GARBAGE\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}",
        "GET\r\n\r\n",
        "GET /healthz HTTP/9.9\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /heal thz HTTP/1.1\r\n\r\n",
    ] {
        let answer = rest(connect(&house, garbage).await).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{garbage:?}: {answer}");
    }
    check_ok(&house.get("/healthz").await);
}

#[tokio::test]
async fn old_and_plain_clients_are_served() {
    let house = House::open().await;
    let id = house.create("W").await;
    for head in [
        format!("GET /{id} HTTP/1.0\r\n\r\n"),
        format!("GET /{id} HTTP/1.1\r\nConnection: close\r\n\r\n"),
        format!(
            "GET http://watch.example/{id} HTTP/1.1\r\nHost: watch.example\r\nConnection: close\r\n\r\n"
        ),
    ] {
        let answer = rest(connect(&house, &head).await).await;
        let status = answer.lines().next().unwrap();
        assert!(status.ends_with(" 200 OK"), "{head:?}: {answer}");
        assert!(answer.contains("\"status\": \"ok\""), "{head:?}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_disturbs_nobody() {
    let house = House::open().await;
    let id = house.create("W").await;
    for _ in 0..8 {
        drop(connect(&house, &format!("GET /{id} HTTP/1.1\r\nHost: x\r\n\r\n")).await);
        drop(connect(&house, "GET ").await);
    }
    check_triggered(&house.get(&format!("/{id}")).await, false, false);
}

#[tokio::test]
async fn more_connections_than_there_may_be_wait_their_turn() {
    let house = House::open().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(connect(&house, "GET /healthz HTTP/1.1\r\nHost: ").await);
    }
    let waiting = connect(&house, "GET /healthz HTTP/1.0\r\n\r\n").await;
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(200), waiting.peek(&mut byte)).await;
    assert!(early.is_err(), "it was served at once");
    drop(held.pop());
    let answer = rest(waiting).await;
    assert!(answer.contains("\"status\": \"ok\""), "{answer}");
}

#[tokio::test]
async fn a_stop_finishes_what_was_accepted() {
    let (entered, mut has_entered) = mpsc::unbounded_channel();
    let (release, released) = watch::channel(false);
    let store = HookedStore::new(move |call| {
        let (entered, mut released) = (entered.clone(), released.clone());
        async move {
            if call == Call::Find {
                entered.send(()).unwrap();
                released.wait_for(|released| *released).await.unwrap();
            }
            Ok(())
        }
    });
    let house = House::over(store).await;
    let id = house.create("W").await;
    let begun = house.call("get", &[("id", &id)]);
    let begun = tokio::spawn(begun);
    within(has_entered.recv()).await.unwrap();

    house.stop.cancel();
    eventually(async || TcpStream::connect(house.address).await.is_err()).await;
    assert!(!house.server.is_finished());
    release.send(true).unwrap();
    check_watcher(&within(begun).await.unwrap(), &json!({"name": "W"}));
    within(house.server).await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_clients_that_have_nothing_to_say() {
    let house = House::open().await;
    check_ok(&house.get("/healthz").await);
    let mut idle = connect(&house, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut first = [0; 8];
    idle.read_exact(&mut first).await.unwrap();
    let begin = Instant::now();
    house.stop.cancel();
    within(house.server).await.unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_stop_waits_a_few_seconds_for_a_request_that_does_not_come() {
    let house = House::open().await;
    let half = connect(&house, "GET /healthz HTTP/1.1\r\nHost: ").await;
    // The server has taken the connection that came before this answer.
    check_ok(&house.get("/healthz").await);
    let begin = Instant::now();
    house.stop.cancel();
    within(house.server).await.unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    drop(half);
}
