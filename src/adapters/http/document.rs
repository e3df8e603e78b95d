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

const DESCRIPTION: &str = "Notices when a scheduled task goes silent, and tells people.\n\n\
    Every operation answers GET, and triggers answer POST too. Every answer is JSON with a `status`, which is \
    `ok` or `error`; an error has one sentence in `error`, and a request that failed has changed nothing, unless \
    a 503 says that this is not known. Timestamps are in UTC, to the millisecond. Booleans are also taken as \
    `yes` and `1`, or `no`, `0` and empty. A watcher is named by one of `id`, `slug` and `name`.";

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

/// The document that the framework wrote, with what it has no words for: that an operation needs no key, and
/// an example of each answer.
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
        let responses = operation["responses"].as_object_mut();
        for (status, response) in responses.into_iter().flatten() {
            let media_type = &mut response["content"]["application/json"];
            let schema = media_type["schema"]["$ref"].as_str().unwrap_or_default();
            let schema = schema.rsplit('/').next().unwrap_or_default();
            media_type["example"] = example(schema, status);
        }
    }
    format!("{document:#}\n")
}

/// An answer with that schema and status, about the watcher that the documentation is all about.
fn example(schema: &str, status: &str) -> Value {
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
        "ErrorAnswer" => json!({ "status": "error", "error": complaint(status) }),
        _ => unreachable!("there is no example of {schema}"),
    }
}

fn complaint(status: &str) -> &'static str {
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
        "503" => "the store is not available; nothing was changed, try again later",
        _ => "something went wrong inside; the log knows more",
    }
}
