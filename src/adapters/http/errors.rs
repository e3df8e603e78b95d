//! Refusals, all in one envelope.

use std::error::Error as _;
use std::marker::PhantomData;
use std::time::Duration;

use poem::error::{MethodNotAllowedError, NotFoundError, ParsePathError};
use poem::http::{HeaderMap, HeaderValue, StatusCode, header};
use poem::{Error, IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use poem_openapi::{Enum, Object};
use serde::Serialize;

use super::views::Answer;
use crate::app::UseCaseError;
use crate::domain::Refusal;
use crate::ports::StoreError;

/// A request that was not done, and why, in the words that the client gets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Rejection {
    status: StatusCode,
    message: String,
    allow: Option<String>,
    /// In how many seconds it may be done after all.
    retry_after: Option<u64>,
}

/// A request that was not done, and why.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "ErrorAnswer")]
struct ErrorView {
    status: ErrorStatus,
    /// What was wrong, in one sentence.
    error: String,
}

/// The word of every answer that is an error.
#[derive(Debug, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
enum ErrorStatus {
    Error,
}

impl Rejection {
    /// A rejection with `status`, for the reason in `message`.
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            allow: None,
            retry_after: None,
        }
    }

    /// The request itself is wrong.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is nothing at the path.
    #[must_use]
    pub(super) fn no_such_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "there is no such path; /docs describes those that there are",
        )
    }

    /// The method is not one of `allow`, a list as in the header `Allow`.
    #[must_use]
    pub(super) fn method_not_allowed(allow: &str) -> Self {
        Self {
            allow: Some(allow.to_owned()),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("this path answers {allow} only"),
            )
        }
    }

    /// The client was wrong too often, and has to wait.
    #[must_use]
    pub(super) fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1_000);
        let message = format!(
            "too many names of watchers that there are not, or wrong keys, came from your address; those that \
             were right before are still taken, new ones in {seconds} s"
        );
        Self {
            retry_after: u64::try_from(seconds).ok(),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, message)
        }
    }

    /// Something went wrong inside, which is no business of the client's.
    #[must_use]
    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "something went wrong inside; the log knows more",
        )
    }
}

impl Rejection {
    fn view(&self) -> ErrorView {
        ErrorView {
            status: ErrorStatus::Error,
            error: self.message.clone(),
        }
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Adds what headers tell about it, in whatever form the answer is.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        if let Some(allow) = &self.allow
            && let Ok(allow) = HeaderValue::from_str(allow)
        {
            headers.insert(header::ALLOW, allow);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    /// The body of the answer.
    pub(super) fn to_json(&self) -> String {
        Answer(self.view()).to_json().unwrap_or_default()
    }
}

impl From<UseCaseError> for Rejection {
    fn from(error: UseCaseError) -> Self {
        let status = match &error {
            UseCaseError::NotFound => StatusCode::NOT_FOUND,
            UseCaseError::NameTaken
            | UseCaseError::Refused(Refusal::AlreadyPaused | Refusal::NotPaused) => {
                StatusCode::CONFLICT
            }
            UseCaseError::Refused(Refusal::NothingToUpdate) => StatusCode::BAD_REQUEST,
            UseCaseError::SearchTooLong => {
                return Self::bad_request(format!("the parameter \"search\" is wrong: {error}"));
            }
            UseCaseError::Store(StoreError::Unavailable(_)) => {
                return Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the store is not available; nothing was changed, try again later",
                );
            }
            UseCaseError::Store(StoreError::OutcomeUnknown(_)) => {
                return Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the store was lost in the middle of this; it may have been done or not, look before you \
                     do it again",
                );
            }
            UseCaseError::Store(StoreError::Corrupt(_)) => return Self::internal(),
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let mut response = Answer(self.view()).into_response();
        response.set_status(self.status);
        self.add_headers(response.headers_mut());
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::from_response(rejection.into_response())
    }
}

/// Puts into the envelope what no handler of ours has answered.
pub(super) fn envelope(error: Error) -> Response {
    if error.is_from_response() {
        return error.into_response();
    }
    // A path that is not percent-encoded UTF-8 is none of ours.
    if error.is::<NotFoundError>() || error.is::<ParsePathError>() {
        return Rejection::no_such_path().into_response();
    }
    if error.is::<MethodNotAllowedError>() {
        // Whatever else a path answers, it answers GET.
        return Rejection::method_not_allowed("GET").into_response();
    }
    let status = error.status();
    if status.is_client_error() {
        return Rejection::new(status, error.to_string()).into_response();
    }
    tracing::error!(%error, source = error.source().map(ToString::to_string), "a request failed inside");
    Rejection::internal().into_response()
}

/// Which errors an operation can answer with, for its description.
pub(super) trait Statuses: Send + Sync + 'static {
    /// The codes, in ascending order.
    const CODES: &'static [u16];
}

/// A [`Rejection`] by an operation that answers with the codes of `S`.
#[derive(Debug)]
pub(super) struct Failure<S> {
    rejection: Rejection,
    statuses: PhantomData<S>,
}

impl<S, E: Into<Rejection>> From<E> for Failure<S> {
    fn from(error: E) -> Self {
        Self {
            rejection: error.into(),
            statuses: PhantomData,
        }
    }
}

impl<S: Statuses> From<Failure<S>> for Error {
    fn from(failure: Failure<S>) -> Self {
        debug_assert!(
            S::CODES.contains(&failure.rejection.status.as_u16()),
            "the description of this operation does not have {:?}",
            failure.rejection
        );
        failure.rejection.into()
    }
}

impl<S: Statuses> ApiResponse for Failure<S> {
    fn meta() -> MetaResponses {
        let response = |code: &u16| MetaResponse {
            description: describe(*code),
            status: Some(*code),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: Answer::<ErrorView>::CONTENT_TYPE,
                schema: Answer::<ErrorView>::schema_ref(),
            }],
            headers: headers(*code),
        };
        MetaResponses {
            responses: S::CODES.iter().map(response).collect(),
        }
    }

    fn register(registry: &mut Registry) {
        <Answer<ErrorView> as Payload>::register(registry);
    }
}

fn headers(code: u16) -> Vec<MetaHeader> {
    let header = |name: header::HeaderName, description: &str, schema| MetaHeader {
        name: name.as_str().to_owned(),
        description: Some(description.to_owned()),
        required: true,
        deprecated: false,
        schema,
    };
    match code {
        401 => vec![header(
            header::WWW_AUTHENTICATE,
            "How to give the key.",
            String::schema_ref(),
        )],
        405 => vec![header(
            header::ALLOW,
            "The methods that the path takes, separated by commas.",
            String::schema_ref(),
        )],
        429 => vec![header(
            header::RETRY_AFTER,
            "In how many seconds new names and keys are taken again.",
            i64::schema_ref(),
        )],
        _ => Vec::new(),
    }
}

fn describe(code: u16) -> &'static str {
    match code {
        400 => "A parameter is missing, malformed, unknown or contradictory; the error names it.",
        401 => "The key is missing or wrong.",
        403 => "The request only prefetches, which must not change anything.",
        404 => "There is no such watcher.",
        405 => "The path does not take this method.",
        409 => "The watcher is not in a state that allows this, or its name is taken.",
        414 => "The path and query are too long.",
        429 => "Too many unknown watchers were named, or wrong keys given, from this address.",
        431 => "The headers are too long.",
        500 => "Something went wrong inside.",
        503 => {
            "The service cannot do this now. Nothing was changed, unless the error says that this is not known."
        }
        _ => "An error.",
    }
}
