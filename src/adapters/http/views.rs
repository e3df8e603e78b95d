//! What answers look like.

use std::borrow::Cow;

use futures_util::stream::{BoxStream, once};
use futures_util::{Stream, StreamExt};
use poem::http::{StatusCode, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{
    MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use poem_openapi::{ApiResponse, Enum, Object};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer as JsonSerializer};

use super::params::Text;
use crate::app::use_cases::Triggered;
use crate::domain::{Periodicity, Timestamp, Watcher, WatcherId};
use crate::ports::{Detail, Record};

/// An answer as JSON, indented by four spaces and ended by a line feed.
///
/// Cron jobs look for `"status": "ok"` in it, with the space.
#[derive(Clone, Debug)]
pub(super) struct Answer<T>(pub(super) T);

/// The word of every answer that is not an error.
#[derive(Clone, Copy, Debug, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// It was done.
    Ok,
}

/// It was done.
#[derive(Clone, Debug, Object, Serialize)]
#[oai(rename = "DoneAnswer")]
pub(super) struct DoneView {
    status: Status,
}

/// A watcher.
#[derive(Clone, Debug, Object, Serialize)]
#[oai(rename = "WatcherAnswer")]
pub(super) struct WatcherAnswer {
    status: Status,
    watcher: WatcherView,
}

/// A watcher with its history.
#[derive(Clone, Debug, Object, Serialize)]
#[oai(rename = "Watcher")]
pub(super) struct WatcherView {
    /// What people call it.
    name: String,
    /// What it is for.
    description: String,
    id: Text<WatcherId>,
    /// The name in lower case with hyphens, unique among watchers.
    slug: String,
    /// How many seconds it may stay silent.
    periodicity: Seconds,
    /// Who is told when it is late, and when it is back.
    emails: Vec<String>,
    /// The deadline has passed.
    late: bool,
    /// Nobody waits for it.
    paused: bool,
    /// When it has to report, or had to; absent while it is paused.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Instant>,
    /// What happened, newest first.
    history: Vec<EventView>,
}

/// What a trigger found.
#[derive(Clone, Debug, Object, Serialize)]
#[oai(rename = "TriggerAnswer")]
pub(super) struct TriggerAnswer {
    status: Status,
    /// The watcher was late before.
    recovered: bool,
    /// The watcher was paused before.
    unpaused: bool,
}

/// Watchers, ordered by slug.
#[derive(Clone, Debug, Object, Serialize)]
#[oai(rename = "ListAnswer")]
pub(super) struct ListAnswer {
    status: Status,
    watchers: Vec<ListedView>,
}

/// A watcher in a list: name and identifier, and all the rest if the list is verbose.
#[derive(Clone, Debug, Object, Serialize)]
#[oai(rename = "ListedWatcher", skip_serializing_if_is_none)]
pub(super) struct ListedView {
    /// What people call it.
    name: String,
    id: Text<WatcherId>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The name in lower case with hyphens, unique among watchers.
    #[serde(skip_serializing_if = "Option::is_none")]
    slug: Option<String>,
    /// How many seconds it may stay silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    periodicity: Option<Seconds>,
    /// Who is told when it is late, and when it is back.
    #[serde(skip_serializing_if = "Option::is_none")]
    emails: Option<Vec<String>>,
    /// The deadline has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    late: Option<bool>,
    /// Nobody waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<bool>,
    /// When it has to report, or had to; absent while it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Instant>,
    /// What happened, newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<EventView>>,
}

/// A number of seconds: without a fraction where there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds(Periodicity);

/// An instant in UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant(Timestamp);

/// A line of a history: an instant in UTC and a comment.
#[derive(Clone, Debug)]
pub(super) struct EventView([String; 2]);

impl<T: Serialize> Answer<T> {
    /// The body of the answer.
    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        let mut text = pretty(&self.0)?;
        text.push('\n');
        Ok(text)
    }
}

impl Answer<DoneView> {
    /// It was done.
    #[must_use]
    pub(super) fn done() -> Self {
        Self(DoneView { status: Status::Ok })
    }
}

impl From<Record> for Answer<WatcherAnswer> {
    fn from(record: Record) -> Self {
        Self(WatcherAnswer {
            status: Status::Ok,
            watcher: record.into(),
        })
    }
}

impl From<Triggered> for Answer<TriggerAnswer> {
    fn from(
        Triggered {
            recovered,
            unpaused,
        }: Triggered,
    ) -> Self {
        Self(TriggerAnswer {
            status: Status::Ok,
            recovered,
            unpaused,
        })
    }
}

impl From<Record> for WatcherView {
    fn from(record: Record) -> Self {
        let Watcher {
            id,
            name,
            slug,
            description,
            periodicity,
            recipients,
            state,
            ..
        } = record.watcher;
        let history = record.history.into_iter();
        let history = history.map(|event| EventView([event.at.to_string(), event.text]));
        Self {
            name: name.to_string(),
            description: description.as_str().to_owned(),
            id: id.into(),
            slug: slug.to_string(),
            periodicity: Seconds(periodicity),
            emails: recipients.iter().map(ToString::to_string).collect(),
            late: state.is_late(),
            paused: state.is_paused(),
            deadline: state.deadline().map(Instant),
            history: history.collect(),
        }
    }
}

impl ListedView {
    fn new(record: Record, detail: Detail) -> Self {
        let WatcherView {
            name,
            description,
            id,
            slug,
            periodicity,
            emails,
            late,
            paused,
            deadline,
            history,
        } = record.into();
        let full = detail == Detail::Full;
        Self {
            name,
            id,
            description: full.then_some(description),
            slug: full.then_some(slug),
            periodicity: full.then_some(periodicity),
            emails: full.then_some(emails),
            late: full.then_some(late),
            paused: full.then_some(paused),
            deadline: deadline.filter(|_| full),
            history: full.then_some(history),
        }
    }
}

/// A [`ListAnswer`] that is written while it is read, so that a long one takes no more memory than a short
/// one.
pub(super) struct StreamedList {
    detail: Detail,
    pages: BoxStream<'static, Result<Vec<Record>, std::io::Error>>,
}

impl StreamedList {
    /// The list of the watchers on `pages`. An error on a later page breaks the connection off, so that the
    /// client does not take the part for the whole.
    pub(super) fn new(
        detail: Detail,
        pages: impl Stream<Item = Result<Vec<Record>, std::io::Error>> + Send + 'static,
    ) -> Self {
        Self {
            detail,
            pages: pages.boxed(),
        }
    }
}

impl IntoResponse for StreamedList {
    fn into_response(self) -> Response {
        let Self { detail, pages } = self;
        let text = |text: &'static str| once(async move { Ok(text.as_bytes().to_vec()) });
        let mut any = false;
        let watchers = pages.map(move |page| {
            let mut chunk = Vec::new();
            for record in page? {
                chunk.extend_from_slice(if any { b",\n        " } else { b"\n        " });
                any = true;
                let watcher = pretty(&ListedView::new(record, detail))?;
                // A line feed inside a string is escaped, so these are between the lines.
                chunk.extend_from_slice(watcher.replace('\n', "\n        ").as_bytes());
            }
            Ok::<_, std::io::Error>(chunk)
        });
        let body = text("{\n    \"status\": \"ok\",\n    \"watchers\": [")
            .chain(watchers)
            .chain(text("\n    ]\n}\n"));
        json_response(Body::from_bytes_stream(body))
    }
}

impl ApiResponse for StreamedList {
    fn meta() -> MetaResponses {
        Answer::<ListAnswer>::meta()
    }

    fn register(registry: &mut Registry) {
        <Answer<ListAnswer> as ApiResponse>::register(registry);
    }
}

impl<T: Type> Payload for Answer<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match self.to_json() {
            Ok(text) => json_response(Body::from_string(text)),
            // Serializing into memory fails for maps with keys that are no strings; there are none.
            Err(error) => {
                poem::Error::new(error, StatusCode::INTERNAL_SERVER_ERROR).into_response()
            }
        }
    }
}

impl<T: Type + Serialize> ApiResponse for Answer<T> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "It was done.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: Self::CONTENT_TYPE,
                    schema: Self::schema_ref(),
                }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    let mut text = Vec::with_capacity(256);
    let formatter = PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut JsonSerializer::with_formatter(&mut text, formatter))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn json_response(body: Body) -> Response {
    Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        // Answers are of the moment, and a trigger must reach the server.
        .header(header::CACHE_CONTROL, "no-store")
        .body(body)
}

/// Describes a type that is one JSON value other than an object.
macro_rules! scalar {
    ($type:ty, $name:literal, $schema:expr, $parse:expr, $json:expr) => {
        impl Type for $type {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                $name.into()
            }

            fn schema_ref() -> MetaSchemaRef {
                MetaSchemaRef::Inline(Box::new($schema))
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }

        impl ParseFromJSON for $type {
            fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
                let value = value.unwrap_or_default();
                $parse(&value).ok_or_else(|| ParseError::expected_type(value))
            }
        }

        impl ToJSON for $type {
            fn to_json(&self) -> Option<Value> {
                Some($json(self))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $json(self).serialize(serializer)
            }
        }
    };
}

scalar!(
    Seconds,
    "number_seconds",
    MetaSchema {
        example: Some(3600.into()),
        ..MetaSchema::new_with_format("number", "double")
    },
    |value: &Value| Periodicity::from_seconds(value.as_f64()?).ok().map(Seconds),
    |seconds: &Seconds| -> Value {
        let millis = seconds.0.millis();
        if millis.is_multiple_of(1_000) {
            (millis / 1_000).into()
        } else {
            seconds.0.seconds().into()
        }
    }
);

scalar!(
    Instant,
    "string_date-time",
    MetaSchema {
        example: Some("2015-03-19T02:08:44.885Z".into()),
        ..MetaSchema::new_with_format("string", "date-time")
    },
    |value: &Value| {
        let instant = chrono::DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
        Some(Instant(instant.to_utc().into()))
    },
    |instant: &Instant| Value::from(instant.0.to_string())
);

scalar!(
    EventView,
    "array_event",
    // The two are not of one kind, which this version of OpenAPI cannot say.
    MetaSchema {
        description: Some("When, as a date-time in UTC, and what."),
        example: Some(serde_json::json!([
            "2015-03-19T01:08:44.885Z",
            "Watcher created"
        ])),
        items: Some(Box::new(String::schema_ref())),
        min_items: Some(2),
        max_items: Some(2),
        ..MetaSchema::new("array")
    },
    |value: &Value| Some(EventView(serde_json::from_value(value.clone()).ok()?)),
    |event: &EventView| Value::from(event.0.to_vec())
);
