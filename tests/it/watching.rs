//! What operators watch the program by: its metrics, as Prometheus' own parsers read them, and the alert rules and
//! the dashboard that are made of them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;

use nights_watch::adapters::http::openapi_document;
use nights_watch::app::version;
use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::program::{PATIENCE, Program, directory, mail_settings};
use crate::python;
use crate::smtp_server::SmtpServer;

const PACKAGES: &[&str] = &[
    "prometheus-client==0.26.0",
    "promql-parser==0.12.0",
    "PyYAML==6.0.3",
];
const RULES: &str = "deploy/prometheus/nights-watch.rules.yml";
const RULES_TEST: &str = "deploy/prometheus/nights-watch.rules.test.yml";

/// What the file at `path` says, read as `what`: `openmetrics`, `classic` or `yaml`.
pub(crate) async fn read_as(what: &str, path: &Path) -> Value {
    let python = python::with_packages("watching-venv", PACKAGES).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/watching.py");
    let output = Command::new(python)
        .arg(script)
        .arg(what)
        .arg(path)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, output).await.expect("it ends");
    let output = output.expect("it starts");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaints}", path.display());
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

/// A file of the repository.
pub(crate) fn in_repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program to which something of each kind has happened, and what it runs with.
async fn busy() -> (Program, TempDir, SmtpServer) {
    let (directory, server) = (directory(), SmtpServer::start().await);
    let program = Program::start(directory.path(), &mail_settings(server.port())).await;
    let addresses = ["good@example.org", "refused@example.org"];
    let id = program.create("Late", "0.2", &addresses).await;
    program.create("On time", "3600", &[]).await;
    program.create("Paused", "3600", &[]).await;
    program.done("pause", &[("name", "Paused")]).await;
    let attempts = "nights_watch_delivery_attempts_total";
    for result in ["delivered", "refused"] {
        let line = format!("{attempts}{{kind=\"late\",result=\"{result}\"}}");
        program.until_metric(&line, 1.0).await;
    }
    program.done("trigger", &[("id", &id)]).await;
    let line = format!("{attempts}{{kind=\"resumed\",result=\"delivered\"}}");
    program.until_metric(&line, 1.0).await;
    program.done("list", &[("verbose", "1")]).await;
    let (status, _) = program.ask("trigger", &[("id", "zzzzzzzz")]).await;
    assert_eq!(status, 404);
    for path in [&id, "readyz", "no/such/path", "openapi.json"] {
        let answer = program.client.get(program.at(path)).send().await;
        answer.expect("an answer");
    }
    (program, directory, server)
}

/// What a scrape with this header says, as `format` is read.
async fn scrape(program: &Program, directory: &Path, accept: &str, format: &str) -> Vec<Value> {
    let request = program.client.get(program.at("metrics"));
    let answer = request.header("accept", accept).send().await;
    let answer = answer.expect("an answer");
    let media_type = answer.headers()["content-type"].to_str().expect("text");
    let expected = match format {
        "openmetrics" => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        _ => "text/plain; version=0.0.4; charset=utf-8",
    };
    assert_eq!(media_type, expected);
    let file = directory.join(format);
    std::fs::write(&file, answer.text().await.expect("text")).expect("a writable directory");
    let families = read_as(format, &file).await;
    families.as_array().expect("a list").clone()
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member]
        .as_str()
        .unwrap_or_else(|| panic!("{member} of {value}"))
}

fn samples(families: &[Value]) -> impl Iterator<Item = &Value> {
    let samples = families.iter().map(|family| family["samples"].as_array());
    samples.flat_map(|samples| samples.expect("a list"))
}

/// The samples that there are, without their values.
fn series(families: &[Value]) -> BTreeSet<String> {
    samples(families)
        .map(|sample| {
            // The two parsers write the bounds of buckets, which are numbers, each in its way.
            let labels = sample["labels"].as_object().expect("an object").iter();
            let labels = labels.map(|(name, value)| {
                let value = value.as_str().expect("text");
                match value.parse::<f64>() {
                    Ok(number) if name == "le" => format!("{name}={number}"),
                    _ => format!("{name}={value}"),
                }
            });
            let labels: BTreeSet<_> = labels.collect();
            format!("{} {labels:?}", text(sample, "name"))
        })
        .collect()
}

/// The values that a label has among the samples called `name`.
fn values<'a>(families: &'a [Value], name: &str, label: &str) -> BTreeSet<&'a str> {
    samples(families)
        .filter(|sample| text(sample, "name") == name)
        .map(|sample| text(&sample["labels"], label))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_parsers_read_the_metrics_and_find_its_conventions_kept() {
    let (program, directory, server) = busy().await;
    // What Prometheus asks for.
    let accept = "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
                  text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
    let open = scrape(&program, directory.path(), accept, "openmetrics").await;
    let refusing = "application/openmetrics-text; q=0, */*";
    let classic = scrape(&program, directory.path(), refusing, "classic").await;
    // The first scrape asked the store for nothing that had not been asked before, so both have the same.
    assert_eq!(series(&open), series(&classic));

    let name = Regex::new("^(nights_watch|process)(_[a-z]+)+$").unwrap();
    for family in open.iter().chain(&classic) {
        let called = text(family, "name");
        assert!(name.is_match(called), "{called}");
        assert!(text(family, "help").len() > 10, "{called} has no help");
        assert!(
            ["counter", "gauge", "histogram"].contains(&text(family, "type")),
            "{family}"
        );
        let odd_units = [
            "_ms", "_millis", "_minutes", "_kb", "_percent", "_count", "_total",
        ];
        assert!(
            !odd_units.iter().any(|unit| called.ends_with(unit)),
            "{called}"
        );
        let is_time = ["_delay", "_duration", "_time", "_age", "_memory"];
        assert!(
            !is_time.iter().any(|end| called.ends_with(end)),
            "{called} has no unit"
        );
        let counts = text(family, "type") == "counter";
        for sample in family["samples"].as_array().expect("a list") {
            assert_eq!(text(sample, "name").ends_with("_total"), counts, "{sample}");
            for value in sample["labels"].as_object().expect("an object").values() {
                let value = value.as_str().expect("text");
                assert!(
                    !value.contains('/') && value != "zzzzzzzz",
                    "{sample}: labels have no end"
                );
            }
        }
    }
    for family in &open {
        let (name, unit) = (text(family, "name"), text(family, "unit"));
        for known in ["seconds", "bytes"] {
            assert_eq!(
                name.ends_with(&format!("_{known}")),
                unit == known,
                "{name}"
            );
        }
    }
    for family in &classic {
        // This parser takes the name of a counter's description apart; what has none is `untyped`.
        assert_ne!(text(family, "type"), "unknown", "{family}");
    }

    let build = "nights_watch_build_info";
    assert_eq!(values(&open, build, "version"), [version::RELEASE].into());
    assert_eq!(values(&open, build, "commit"), [version::COMMIT].into());
    let document: Value = serde_json::from_str(&openapi_document()).expect("JSON");
    let operations = document["paths"].as_object().expect("an object").values();
    let operations = operations.flat_map(|path| path.as_object().expect("an object").values());
    let mut operations: BTreeSet<_> = operations.map(|of| text(of, "operationId")).collect();
    operations.insert("none");
    let duration = "nights_watch_http_request_duration_seconds_count";
    let timed = values(&open, duration, "operation");
    assert!(timed.is_subset(&operations), "{timed:?}");
    for operation in [
        "createWatcher",
        "triggerWatcher",
        "triggerById",
        "isReady",
        "none",
    ] {
        assert!(timed.contains(operation), "{operation} in {timed:?}");
    }
    let calls = "nights_watch_store_call_duration_seconds_count";
    for call in [
        "insert", "transact", "list", "claim", "settle", "census", "ping",
    ] {
        assert!(values(&open, calls, "operation").contains(call), "{call}");
    }
    let states = values(&open, "nights_watch_watchers", "state");
    assert_eq!(states, ["late", "on_time", "paused"].into());

    // What happens for the first time is only seen if it stood at zero before.
    let (fresh_place, attempts) = (self::directory(), "nights_watch_delivery_attempts_total");
    let fresh = Program::start(fresh_place.path(), &mail_settings(server.port())).await;
    let fresh = scrape(&fresh, fresh_place.path(), accept, "openmetrics").await;
    for (name, label) in [
        (attempts, "result"),
        (attempts, "kind"),
        ("nights_watch_notices_total", "kind"),
        ("nights_watch_delivery_errors_total", "stage"),
    ] {
        assert_eq!(
            values(&fresh, name, label),
            values(&open, name, label),
            "{name}"
        );
    }
}

/// What the expressions of a file ask for, each of which has to be valid `PromQL`: names of metrics, with labels.
async fn selectors(expressions: &[String], directory: &Path) -> Vec<Value> {
    let file = directory.join("expressions");
    let text = serde_json::to_string(expressions).expect("JSON");
    std::fs::write(&file, text).expect("a writable directory");
    let read = read_as("promql", &file).await;
    let read = read.as_array().expect("a list");
    assert_eq!(read.len(), expressions.len());
    let each = read
        .iter()
        .map(|selectors| selectors.as_array().expect("a list"));
    each.zip(expressions)
        .flat_map(|(selectors, expression)| {
            assert!(!selectors.is_empty(), "{expression} asks for nothing");
            selectors.clone()
        })
        .collect()
}

/// The expressions of the dashboard, with what Grafana puts in place of its variables.
fn dashboard_expressions(dashboard: &Value) -> Vec<String> {
    let targets = dashboard["panels"].as_array().expect("a list").iter();
    let targets = targets.flat_map(|panel| panel["targets"].as_array().expect("a list"));
    let label = Regex::new(r"^label_values\((.*), [a-z]+\)$").unwrap();
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    let queries = variables
        .iter()
        .filter_map(|variable| variable["query"]["query"].as_str());
    let queries = queries.map(|query| {
        let found = label.captures(query).expect("a query for labels");
        found.get(1).expect("an expression").as_str()
    });
    targets
        .map(|target| text(target, "expr"))
        .chain(queries)
        .map(|expression| expression.replace("$__rate_interval", "5m"))
        .collect()
}

fn check_rules(rules: &[Value]) {
    let mut names = BTreeSet::new();
    for rule in rules {
        assert!(names.insert(text(rule, "alert")), "{rule} is there twice");
        let levels = ["critical", "warning", "info"];
        assert!(
            levels.contains(&text(&rule["labels"], "severity")),
            "{rule}"
        );
        for annotation in ["summary", "description"] {
            assert!(text(&rule["annotations"], annotation).len() > 20, "{rule}");
        }
    }
}

fn check_places(dashboard: &Value) {
    let (mut places, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("a list") {
        assert!(ids.insert(panel["id"].as_u64()), "{panel} is there twice");
        assert!(!text(panel, "title").is_empty(), "{panel}");
        let number = |member: &str| panel["gridPos"][member].as_u64().expect("a number");
        for x in number("x")..number("x") + number("w") {
            for y in number("y")..number("y") + number("h") {
                assert!(x < 24 && places.insert((x, y)), "{panel} lies on another");
            }
        }
        let targets = panel["targets"].as_array().expect("a list");
        assert!(!targets.is_empty(), "{panel}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_rules_and_dashboard_ask_for_metrics_that_there_are() {
    let (program, directory, _server) = busy().await;
    let families = scrape(&program, directory.path(), "text/plain", "classic").await;
    let rules = read_as("yaml", &in_repository(RULES)).await;
    let rules = rules[0]["groups"][0]["rules"].as_array().expect("a list");
    check_rules(rules);
    let dashboard = std::fs::read(in_repository("deploy/grafana/nights-watch.json"));
    let dashboard: Value = serde_json::from_slice(&dashboard.expect("a file")).expect("JSON");
    check_places(&dashboard);

    let mut expressions = dashboard_expressions(&dashboard);
    expressions.extend(rules.iter().map(|rule| text(rule, "expr").to_owned()));
    for selector in selectors(&expressions, directory.path()).await {
        let name = text(&selector, "name");
        let labels = &selector["labels"];
        match name {
            // Prometheus' own: whether it reaches a target, and which alerts there are.
            "up" => {}
            "ALERTS" => {
                let other = text(labels, "alertname");
                assert!(rules.iter().any(|rule| text(rule, "alert") == other));
            }
            _ => {
                let named = samples(&families).filter(|sample| text(sample, "name") == name);
                let named: Vec<_> = named.collect();
                assert!(!named.is_empty(), "there is no {name}");
                // A bucket that there is not would be as good as empty.
                let bound = &labels["le"];
                let has_bound = named.iter().any(|sample| sample["labels"]["le"] == *bound);
                assert!(bound.is_null() || has_bound, "{name} has no {bound}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_rule_has_a_case_in_which_it_fires() {
    let rules = read_as("yaml", &in_repository(RULES)).await;
    let rules = rules[0]["groups"][0]["rules"].as_array().expect("a list");
    let rules: BTreeSet<_> = rules.iter().map(|rule| text(rule, "alert")).collect();
    let cases = read_as("yaml", &in_repository(RULES_TEST)).await;
    let cases = cases[0]["tests"].as_array().expect("a list").iter();
    let alerts = cases.flat_map(|case| case["alert_rule_test"].as_array().expect("a list"));
    let fires = |alert: &&Value| !alert["exp_alerts"].as_array().expect("a list").is_empty();
    let firing: BTreeSet<_> = alerts
        .filter(fires)
        .map(|alert| text(alert, "alertname"))
        .collect();
    assert_eq!(firing, rules);

    // Prometheus' own tool is on no package registry, so this runs where it is installed.
    let run = Command::new("promtool")
        .args(["test", "rules"])
        .arg(in_repository(RULES_TEST))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(PATIENCE, run).await.expect("it ends") {
        Ok(output) => {
            let complaints = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{complaints}");
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
    }
}
