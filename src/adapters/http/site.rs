//! What is served where, and what all answers share.

use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use poem::endpoint::{BoxEndpoint, DynEndpoint, EndpointExt, make_sync};
use poem::http::{Method, StatusCode, header};
use poem::{Endpoint, IntoEndpoint, IntoResponse, Request, Response, Route, get};
use poem_openapi::OperationId;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::document::{finished, service};
use super::errors::{Rejection, envelope};
use super::guard::{Guarded, know_method};
use super::guesses::{Guesses, Limit};
use super::scrape;
use super::web::{Needs, Pages};
use crate::app::config::{BaseUrl, Networks};
use crate::app::{Health, Metrics, NightsWatch};
use crate::ports::Clock;

/// Everything that the site shows, and the key that it demands.
pub struct Site {
    /// The use cases.
    pub watch: Arc<NightsWatch>,
    /// Whether the program does its work.
    pub health: Arc<Health>,
    /// What the program counts.
    pub metrics: Arc<Metrics>,
    /// The key for everything but triggers, if there is one.
    pub auth_key: Option<SecretString>,
    /// The proxies that say truly for whom they ask.
    pub proxies: Networks,
    /// What tells how fast somebody guesses, and how long sessions last.
    pub clock: Arc<dyn Clock>,
    /// Where people reach the program, if that is known.
    pub base_url: Option<BaseUrl>,
    /// Ends the answers that have no end of their own.
    pub stop: CancellationToken,
}

/// The longest path and query, in bytes.
const LONGEST_URI: usize = 16 * 1024;
/// The longest headers, names and values together, in bytes.
const LONGEST_HEADERS: usize = 16 * 1024;
/// How much of a path stands in the log.
const LOGGED_PATH: usize = 200;

impl Site {
    /// The site as something that answers requests, whatever they are.
    #[must_use]
    pub fn into_endpoint(self) -> impl Endpoint<Output = Response> + 'static {
        let Self {
            watch,
            health,
            metrics,
            auth_key,
            proxies,
            clock,
            base_url,
            stop,
        } = self;
        let auth_key = auth_key.map(Arc::new);
        let web = Pages::new(Needs {
            watch: Arc::clone(&watch),
            clock: Arc::clone(&clock),
            auth_key: auth_key.clone(),
            proxies: proxies.clone(),
            base_url,
            stop,
        });
        let api = Api {
            watch,
            health: Arc::clone(&health),
        };
        let guesses = Guesses::new(clock, proxies, Limit::FOR_PROGRAMS);
        let api = service(Guarded::new(api, auth_key, guesses));
        // Shared by all answers: the docs are large.
        let spec = api.spec();
        let document = finished(&spec);
        let docs = Bytes::from(api.swagger_ui_html().replace(&spec, &document));
        let document = Bytes::from(document);
        let pages = Route::new()
            .at(PAGES[0], get(page("application/json", document)))
            .at(PAGES[1], get(page("text/html; charset=utf-8", docs)))
            .at(
                PAGES[2],
                get(scrape::endpoint(health, Arc::clone(&metrics))),
            );
        Whole {
            pages: pages.boxed(),
            api: api.into_endpoint(),
            web,
            metrics,
        }
    }
}

/// The paths that are no operations.
const PAGES: [&str; 3] = ["/openapi.json", "/docs", "/metrics"];
/// What requests for them, for what there is not, and those over the limits are counted as. Paths have no end.
const NO_OPERATION: &str = "none";

/// All of the site: operations, what stands beside them, the pages for people; and what holds for all.
struct Whole {
    pages: BoxEndpoint<'static>,
    api: BoxEndpoint<'static>,
    web: Pages,
    metrics: Arc<Metrics>,
}

impl Endpoint for Whole {
    type Output = Response;

    /// Answers every request, whatever goes wrong, and logs and counts it. The query stays out of the log: the
    /// key may be there.
    fn call(&self, mut request: Request) -> impl Future<Output = poem::Result<Response>> + Send {
        let begin = Instant::now();
        let method = request.method().clone();
        let mut path = request.original_uri().path().to_owned();
        let is_for_people = Pages::has(&path);
        know_method(&mut request);
        let answer = AssertUnwindSafe(async move { self.answer(request).await }).catch_unwind();
        answer.map(move |answered| {
            let response = match answered {
                Ok(answer) => answer.unwrap_or_else(envelope),
                Err(_) if is_for_people => Pages::refusal(&Rejection::internal()),
                Err(_) => Rejection::internal().into_response(),
            };
            let status = response.status();
            let took = begin.elapsed();
            let operation = response
                .data()
                .map_or(NO_OPERATION, |id: &OperationId| id.0);
            self.metrics.request(operation, status.as_u16(), took);
            // To the microsecond.
            let duration_ms = took.as_micros() as f64 / 1_000.0;
            let is_routine = status.is_success() && is_routine(&path);
            path.truncate(path.floor_char_boundary(LOGGED_PATH));
            let status = status.as_u16();
            if is_routine {
                tracing::debug!(%method, path, status, duration_ms, "request");
            } else {
                tracing::info!(%method, path, status, duration_ms, "request");
            }
            Ok(response)
        })
    }
}

impl Whole {
    /// The answer in the making, in a box: else what the pages need would be made room for, and moved about, with each
    /// trigger too.
    fn answer(&self, request: Request) -> BoxFuture<'_, poem::Result<Response>> {
        let path = request.uri().path();
        let limits = check_limits(&request);
        if Pages::has(path) {
            return match limits {
                Ok(()) => self.web.call(request).boxed(),
                Err(rejection) => Box::pin(ready(Ok(Pages::refusal(&rejection)))),
            };
        }
        if let Err(rejection) = limits {
            return Box::pin(ready(Err(rejection.into())));
        }
        if path == "/" && is_browser(&request) {
            return Box::pin(ready(Ok(Pages::lead())));
        }
        let is_page = PAGES.contains(&path);
        let endpoint = if is_page { &self.pages } else { &self.api };
        DynEndpoint::call(&**endpoint, request)
    }
}

/// Whether a path is what tasks and probes ask for all day: triggers, health, metrics. The log would be full of
/// them, and the rest hard to find. So it would be of pages that are looked at; what is changed there leads on to
/// another page, and so is no mere success.
fn is_routine(path: &str) -> bool {
    path.rfind('/') == Some(0) || path.ends_with("/trigger") || Pages::has(path)
}

/// Whether a person may be looking: programs take whatever there is.
fn is_browser(request: &Request) -> bool {
    let accepted = request.header(header::ACCEPT).unwrap_or_default();
    *request.method() == Method::GET && accepted.contains("text/html")
}

fn page(media_type: &'static str, text: Bytes) -> impl Endpoint {
    make_sync(move |_| {
        Response::builder()
            .header(header::CONTENT_TYPE, media_type)
            .body(text.clone())
    })
}

fn check_limits(request: &Request) -> Result<(), Rejection> {
    let uri = request.original_uri().path_and_query();
    if uri.is_some_and(|uri| uri.as_str().len() > LONGEST_URI) {
        let message = format!("the path and query are longer than {LONGEST_URI} bytes");
        return Err(Rejection::new(StatusCode::URI_TOO_LONG, message));
    }
    let headers = request.headers().iter();
    let length: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if length > LONGEST_HEADERS {
        let message = format!("the headers are longer than {LONGEST_HEADERS} bytes");
        return Err(Rejection::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            message,
        ));
    }
    Ok(())
}
