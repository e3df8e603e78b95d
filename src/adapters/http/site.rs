//! What is served where, and what all answers share.

use std::sync::Arc;
use std::time::Instant;

use hyper::body::Bytes;
use poem::endpoint::{EndpointExt, make_sync};
use poem::http::{Method, StatusCode, header};
use poem::middleware::CatchPanic;
use poem::{Endpoint, IntoResponse, Request, Response, Route, get};
use poem_openapi::{LicenseObject, OpenApiService};
use secrecy::SecretString;

use super::api::Api;
use super::errors::{Rejection, envelope};
use super::guard::{Guarded, with_known_method};
use super::guesses::Guesses;
use crate::app::config::Networks;
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
    /// What tells how fast somebody guesses.
    pub clock: Arc<dyn Clock>,
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
        } = self;
        let api = Api {
            watch,
            health: Arc::clone(&health),
        };
        let api = service(Guarded::new(api, auth_key, Guesses::new(clock, proxies)));
        // Shared by all answers: the docs are large.
        let document = Bytes::from(pretty_document(&api.spec()));
        let docs = Bytes::from(api.swagger_ui_html());
        let scrape = (health, Arc::clone(&metrics));
        Route::new()
            .at("/openapi.json", get(page("application/json", document)))
            .at("/docs", get(page("text/html; charset=utf-8", docs)))
            .at("/metrics", get(make_metrics(scrape)))
            .nest("/", api)
            .before(|request| async { within_limits(with_known_method(request)) })
            .catch_all_error(|error| async { envelope(error) })
            .with(CatchPanic::new().with_handler(|_| Rejection::internal()))
            .around(move |endpoint, request| logged(Arc::clone(&metrics), endpoint, request))
    }
}

fn service<A: poem_openapi::OpenApi>(api: A) -> OpenApiService<A, ()> {
    OpenApiService::new(api, "Night's Watch", env!("CARGO_PKG_VERSION"))
        .description(
            "Notices when a scheduled task goes silent, and tells people. Every operation is a GET request; \
             every answer is JSON with a `status`, which is `ok` or `error`. Timestamps are in UTC.",
        )
        .license(LicenseObject::new("Apache-2.0").url("https://www.apache.org/licenses/LICENSE-2.0"))
        .server("/")
}

/// The OpenAPI document, as it is served and as it lies in `openapi/`.
#[must_use]
pub fn openapi_document() -> String {
    struct Described;

    impl poem_openapi::OpenApi for Described {
        fn meta() -> Vec<poem_openapi::registry::MetaApi> {
            Guarded::<Api>::meta()
        }

        fn register(registry: &mut poem_openapi::registry::Registry) {
            Guarded::<Api>::register(registry);
        }

        fn add_routes(
            self,
            _: &mut std::collections::HashMap<
                String,
                std::collections::HashMap<Method, poem::endpoint::BoxEndpoint<'static>>,
            >,
        ) {
        }
    }

    pretty_document(&service(Described).spec())
}

fn pretty_document(spec: &str) -> String {
    let mut text = spec.trim_end().to_owned();
    text.push('\n');
    text
}

fn page(media_type: &'static str, text: Bytes) -> impl Endpoint {
    make_sync(move |_| {
        Response::builder()
            .header(header::CONTENT_TYPE, media_type)
            .body(text.clone())
    })
}

fn make_metrics((health, metrics): (Arc<Health>, Arc<Metrics>)) -> impl Endpoint {
    poem::endpoint::make(move |_| {
        let (health, metrics) = (Arc::clone(&health), Arc::clone(&metrics));
        async move {
            let readiness = health.readiness().await;
            let census = health.census().await;
            let text = metrics.encode(census.as_ref(), &readiness);
            let text = text.map_err(|_| Rejection::internal())?;
            let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            Ok::<_, poem::Error>(
                Response::builder()
                    .header(header::CONTENT_TYPE, media_type)
                    .body(text),
            )
        }
    })
}

fn within_limits(request: Request) -> poem::Result<Request> {
    let uri = request.original_uri().path_and_query();
    if uri.is_some_and(|uri| uri.as_str().len() > LONGEST_URI) {
        let message = format!("the path and query are longer than {LONGEST_URI} bytes");
        return Err(Rejection::new(StatusCode::URI_TOO_LONG, message).into());
    }
    let headers = request.headers().iter();
    let length: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if length > LONGEST_HEADERS {
        let message = format!("the headers are longer than {LONGEST_HEADERS} bytes");
        return Err(Rejection::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message).into());
    }
    Ok(request)
}

/// One line for each request. The query stays out of it: the key may be there.
async fn logged<E: Endpoint>(
    metrics: Arc<Metrics>,
    endpoint: Arc<E>,
    request: Request,
) -> poem::Result<Response> {
    let begin = Instant::now();
    let method = request.method().clone();
    let mut path = request.original_uri().path().to_owned();
    path.truncate(path.floor_char_boundary(LOGGED_PATH));
    let response = endpoint.get_response(request).await.into_response();
    let status = response.status().as_u16();
    metrics.request(status);
    // To the microsecond.
    let duration_ms = begin.elapsed().as_micros() as f64 / 1_000.0;
    tracing::info!(%method, path, status, duration_ms, "request");
    Ok(response)
}
