//! The description of the interface that lies in `openapi/`.

use std::collections::BTreeSet;

use nights_watch::adapters::http::openapi_document;
use serde_json::{Value, json};

const COMMITTED: &str = include_str!("../../openapi/nights-watch.json");

fn document() -> Value {
    serde_json::from_str(&openapi_document()).unwrap()
}

/// Each operation of the document: its path, its method and its description.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations: Vec<_> = paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect();
    assert_eq!(operations.len(), 13, "each of them is to be looked at");
    operations
}

fn is_said(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

#[test]
fn the_committed_document_is_the_one_that_the_program_prints() {
    assert!(
        COMMITTED == openapi_document(),
        "openapi/nights-watch.json is out of date; renew it with \
         `cargo run -- openapi > openapi/nights-watch.json`"
    );
}

#[test]
fn every_operation_has_an_identifier_of_its_own_a_summary_and_a_tag() {
    let document = document();
    let mut identifiers = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        assert!(is_said(&operation["operationId"]), "{method} {path}");
        assert!(is_said(&operation["summary"]), "{method} {path}");
        let tags = operation["tags"].as_array().map(Vec::as_slice);
        assert!(
            matches!(tags, Some([tag]) if is_said(tag)),
            "{method} {path}"
        );
        let identifier = operation["operationId"].as_str();
        assert!(identifiers.insert(identifier), "{method} {path}");
    }
}

#[test]
fn every_parameter_has_a_description_and_a_schema() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = &parameter["name"];
            assert!(
                is_said(&parameter["description"]),
                "{method} {path}: {name}"
            );
            let schema = &parameter["schema"];
            let named = schema["$ref"].as_str().map(|name| &name[1..]);
            let schema = named.map_or(Some(schema), |name| document.pointer(name));
            assert!(
                schema.is_some_and(|schema| is_said(&schema["type"])),
                "{method} {path}: {name}"
            );
        }
    }
}

#[test]
fn every_answer_has_a_description_and_a_schema_that_exists() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses {
            let place = format!("{method} {path}: {status}");
            assert!(is_said(&response["description"]), "{place}");
            let schema = &response["content"]["application/json"]["schema"]["$ref"];
            let schema = schema.as_str().unwrap_or_else(|| panic!("{place}"));
            let pointer = schema.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{place}: {schema}");
        }
    }
}

#[test]
fn no_answer_of_what_only_looks_says_that_something_was_done() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        if operation["tags"] == json!(["Queries"]) || operation["tags"] == json!(["Operation"]) {
            let description = &operation["responses"]["200"]["description"];
            assert_ne!(description, "It was done.", "{method} {path}");
        }
    }
    let not_ready = document["paths"]["/readyz"]["get"]["responses"]["503"].to_string();
    assert!(not_ready.contains("reason"), "{not_ready}");
    assert!(!not_ready.contains("changed"), "{not_ready}");
}

#[test]
fn every_error_is_the_same_typed_answer() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let content = &response["content"]["application/json"];
            let is_error = content["schema"]["$ref"] == "#/components/schemas/ErrorAnswer";
            assert_eq!(is_error, status != "200", "{method} {path}: {status}");
            let word = if is_error { "error" } else { "ok" };
            assert_eq!(
                content["example"]["status"], word,
                "{method} {path}: {status}"
            );
        }
    }
}

#[test]
fn every_operation_declares_success_a_wrong_request_and_failure() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let responses = operation["responses"].as_object().unwrap();
        let place = format!("{method} {path}");
        let mut expected = vec!["200", "400", "405", "414", "431", "500", "503"];
        if path.starts_with("/nights-watch/") && !path.ends_with("/trigger") {
            let keys = json!([{ "authKey": [] }, { "bearer": [] }]);
            assert_eq!(operation["security"], keys, "{place}");
            expected.extend(["401", "429"]);
        } else {
            assert_eq!(operation["security"], json!([]), "{place}");
        }
        if operation["tags"] == json!(["Triggers"]) {
            expected.push("429");
        }
        for status in expected {
            assert!(responses.contains_key(status), "{place}: {status}");
        }
    }
}

#[test]
fn no_path_can_be_taken_for_a_short_trigger_url() {
    let document = document();
    let is_letters = |path: &str| path.len() == 8 && path.bytes().all(|b| b.is_ascii_lowercase());
    for (path, ..) in operations(&document) {
        assert!(!is_letters(path.trim_start_matches('/')), "{path}");
    }
}
