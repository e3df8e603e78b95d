//! The OpenAPI document: most of it comes from the operations, by the framework; the rest is added here.

use std::collections::HashMap;

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{LicenseObject, OpenApi, OpenApiService, ServerObject};
use serde_json::{Value, json};

use super::api::Api;
use super::guard::Guarded;
use crate::app::version;
use crate::domain::Recipient;

const DESCRIPTION: &str = "Notices when a scheduled task goes silent, and tells people.\n\n\
    Every operation answers GET, and triggers answer POST too. Every answer is JSON with a `status`, which is \
    `ok` or `error`; an error has one sentence in `error`, and a request that failed has changed nothing, unless \
    a 503 says that this is not known. Timestamps are in UTC, to the millisecond. Booleans are also taken as \
    `yes` and `1`, or `no`, `0` and empty. A watcher is named by one of `id`, `slug` and `name`; what none could be \
    called is answered 404, as is what none is called.";

/// What the document is of, without what `api` says itself.
pub(super) fn service<A: OpenApi>(api: A) -> OpenApiService<A, ()> {
    let here = ServerObject::new("/").description("The service that this document came from");
    OpenApiService::new(api, "Night's Watch", version::RELEASE)
        .description(DESCRIPTION)
        .license(
            LicenseObject::new("Apache-2.0").url("https://www.apache.org/licenses/LICENSE-2.0"),
        )
        .server(here)
}

/// The OpenAPI document, as it is served and as it lies in `openapi/`.
#[must_use]
pub fn openapi_document() -> String {
    struct Described;

    impl OpenApi for Described {
        fn meta() -> Vec<MetaApi> {
            Guarded::<Api>::meta()
        }

        fn register(registry: &mut Registry) {
            Guarded::<Api>::register(registry);
        }

        fn add_routes(self, _: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
    }

    finished(&service(Described).spec())
}

/// The document that the framework wrote, with what it has no words for: that an operation needs no key, how
/// often a parameter may be given, what an answer means to one operation alone, and an example of each.
pub(super) fn finished(spec: &str) -> String {
    let mut document: Value = serde_json::from_str(spec).expect("the framework writes JSON");
    let paths = document["paths"].as_object_mut();
    let operations = paths
        .into_iter()
        .flat_map(serde_json::Map::values_mut)
        .filter_map(Value::as_object_mut)
        .flat_map(serde_json::Map::values_mut)
        .filter_map(Value::as_object_mut);
    for operation in operations {
        operation.entry("security").or_insert_with(|| json!([]));
        let parameters = operation
            .get_mut("parameters")
            .and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            // The framework has a word for it, but would then also refuse what is more, in words of its own.
            if parameter["name"] == "email" {
                parameter["schema"]["maxItems"] = Recipient::MAX_PER_WATCHER.into();
            }
        }
        let name = operation["operationId"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let responses = operation["responses"].as_object_mut();
        for (status, response) in responses.into_iter().flatten() {
            if let Some(meaning) = meaning(&name, status) {
                response["description"] = meaning.into();
            }
            let media_type = &mut response["content"]["application/json"];
            let schema = media_type["schema"]["$ref"].as_str().unwrap_or_default();
            let schema = schema.rsplit('/').next().unwrap_or_default();
            media_type["example"] = example(schema, &name, status);
        }
    }
    format!("{document:#}\n")
}

/// What an answer means to an operation, if that is not what it means to the others.
fn meaning(operation: &str, status: &str) -> Option<&'static str> {
    match (operation, status) {
        ("getWatcher", "200") => Some("The watcher, with its history."),
        ("listWatchers", "200") => {
            Some("The watchers for which all conditions hold, ordered by slug.")
        }
        ("isAlive", "200") => Some("The process is alive."),
        ("isReady", "200") => Some("The service does its work."),
        ("isReady", "503") => Some("The service does not do its work; `error` is the reason why."),
        _ => None,
    }
}

/// An answer with that schema and status, about the watcher that the documentation is all about.
fn example(schema: &str, operation: &str, status: &str) -> Value {
    match schema {
        "WatcherAnswer" => json!({
            "status": "ok",
            "watcher": {
                "name": "My First Watcher",
                "description": "",
                "id": "fbkvlsby",
                "slug": "my-first-watcher",
                "periodicity": 3600,
                "emails": ["ops@example.com"],
                "late": false,
                "paused": false,
                "deadline": "2015-03-19T02:11:56.408Z",
                "history": [
                    ["2015-03-19T01:11:56.408Z", "Triggered (long form trigger url)"],
                    ["2015-03-19T01:10:42.608Z", "Triggered (short form trigger url)"],
                    ["2015-03-19T01:08:44.885Z", "Watcher created"],
                ],
            },
        }),
        "ListAnswer" => json!({
            "status": "ok",
            "watchers": [{ "name": "My First Watcher", "id": "fbkvlsby" }],
        }),
        "TriggerAnswer" => json!({ "status": "ok", "recovered": false, "unpaused": false }),
        "DoneAnswer" => json!({ "status": "ok" }),
        "ErrorAnswer" => json!({ "status": "error", "error": complaint(operation, status) }),
        _ => unreachable!("there is no example of {schema}"),
    }
}

fn complaint(operation: &str, status: &str) -> &'static str {
    match status {
        "400" => "the parameter \"colour\" is unknown here; known are: id, slug, name",
        "401" => {
            "the parameter \"auth_key\", or the header \"Authorization: Bearer\", is missing or wrong"
        }
        "403" => "this request only prefetches, and so it changed nothing",
        "404" => "there is no such watcher",
        "405" => "this path answers GET, POST only",
        "409" => "there is a watcher with this name already",
        "414" => "the path and query are longer than 16384 bytes",
        "429" => "too many wrong keys came from your address; new ones in 7 s",
        "431" => "the headers are longer than 16384 bytes",
        "503" if operation == "isReady" => "the store does not answer",
        "503" => "the store is not available; nothing was changed, try again later",
        _ => "something went wrong inside; the log knows more",
    }
}
