//! What holds for every operation, read off the operation's own description.
//!
//! The guard stands around each endpoint, so no way of writing a path leads past it. It answers, in this
//! order: methods that the path does not have; requests that must not change anything, for operations that
//! do; missing or wrong keys; parameters that are unknown, repeated, undecodable or missing.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use poem::endpoint::{BoxEndpoint, DynEndpoint, EndpointExt, make};
use poem::http::{Method, StatusCode, header};
use poem::{Request, Response, Result};
use poem_openapi::registry::{MetaApi, MetaOperation, MetaParamIn, MetaSecurityScheme, Registry};
use poem_openapi::{OpenApi, OperationId, Tags};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::api::Tag;
use super::errors::{Rejection, envelope};
use super::guesses::{Guess, Guesses};
use crate::domain::WatcherId;

/// An API whose every endpoint is guarded.
pub(super) struct Guarded<A> {
    api: A,
    auth_key: Option<Arc<SecretString>>,
    guesses: Arc<Guesses>,
}

impl<A> Guarded<A> {
    /// Guards `api`. With a key, operations that read or change watchers demand it.
    /// Who guesses at that, or at what triggers, gets into the book of `guesses`.
    pub(super) fn new(api: A, auth_key: Option<Arc<SecretString>>, guesses: Guesses) -> Self {
        Self {
            api,
            auth_key,
            guesses: Arc::new(guesses),
        }
    }
}

/// The parameter that carries the key.
const AUTH_KEY: &str = "auth_key";
/// The parameters that name a watcher; the short URL does so too.
const NAMES: [&str; 3] = ["id", "slug", "name"];
/// The names of the two ways to give the key, in the description.
const SCHEMES: [&str; 2] = ["authKey", "bearer"];

/// The methods that a router can know.
const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

/// What is demanded of requests for one operation.
#[derive(Clone)]
struct Rules {
    /// The name of the operation.
    name: &'static str,
    parameters: Vec<Rule>,
    /// The key, if one is demanded.
    key: Option<Arc<SecretString>>,
    /// Whether the operation needs a key where there is one.
    secured: bool,
    changes: bool,
    guesses: Arc<Guesses>,
    /// Whether the path is the short trigger URL, which shares its pattern with paths that there are not.
    short: bool,
}

#[derive(Clone)]
struct Rule {
    name: String,
    required: bool,
    repeatable: bool,
}

fn is_secured(operation: &MetaOperation) -> bool {
    // Whoever forgets a tag gets the strictest guard.
    ![Tag::Triggers, Tag::Operation]
        .iter()
        .any(|tag| operation.tags.contains(&tag.name()))
}

fn changes(operation: &MetaOperation) -> bool {
    ![Tag::Queries, Tag::Operation]
        .iter()
        .any(|tag| operation.tags.contains(&tag.name()))
}

impl<A: OpenApi> OpenApi for Guarded<A> {
    fn meta() -> Vec<MetaApi> {
        let mut apis = A::meta();
        let operations = apis
            .iter_mut()
            .flat_map(|api| &mut api.paths)
            .flat_map(|path| &mut path.operations);
        for operation in operations.filter(|operation| is_secured(operation)) {
            operation.security = SCHEMES
                .map(|scheme| HashMap::from([(scheme, Vec::new())]))
                .to_vec();
        }
        apis
    }

    fn register(registry: &mut Registry) {
        A::register(registry);
        let scheme = MetaSecurityScheme {
            ty: "apiKey",
            description: Some(
                "The key from the configuration; not needed where none is configured.",
            ),
            name: Some(AUTH_KEY),
            key_in: Some("query"),
            scheme: None,
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        let bearer = MetaSecurityScheme {
            ty: "http",
            description: Some("The same key in a header, where it does not end up in logs."),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme(SCHEMES[0], scheme);
        registry.create_security_scheme(SCHEMES[1], bearer);
    }

    fn add_routes(self, routes: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {
        let mut rules = HashMap::new();
        for path in Self::meta().into_iter().flat_map(|api| api.paths) {
            let pattern = shape(&path.path);
            for operation in path.operations {
                let of = self.rules(&pattern, &operation);
                rules.insert((pattern.clone(), operation.method), of);
            }
        }
        let mut inner = HashMap::new();
        self.api.add_routes(&mut inner);
        for (path, methods) in inner {
            let pattern = shape(&path);
            let allow = allow(&pattern, &methods, &rules);
            let guarded = routes.entry(path.clone()).or_default();
            let mut short = false;
            for (method, endpoint) in methods {
                let rules = rules.remove(&(pattern.clone(), method.clone()));
                let rules = rules.expect("each route has a description: both come from one macro");
                short = rules.short;
                guarded.insert(method, Box::new(Operation { rules, endpoint }));
            }
            for method in others(&allow) {
                guarded.insert(method, not_allowed(&allow, short));
            }
        }
    }
}

/// A path without the names of its parameters, which the description and the router write differently.
fn shape(path: &str) -> String {
    let is_parameter = |segment: &str| segment.starts_with([':', '{']);
    let segments = path
        .split('/')
        .map(|segment| if is_parameter(segment) { ":" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

/// The methods of a path, as in the header `Allow`. HEAD goes with a GET that changes nothing.
fn allow(
    pattern: &str,
    methods: &HashMap<Method, BoxEndpoint<'static>>,
    rules: &HashMap<(String, Method), Rules>,
) -> String {
    let mut allow: Vec<&str> = methods.keys().map(Method::as_str).collect();
    allow.sort_unstable();
    let get = rules.get(&(pattern.to_owned(), Method::GET));
    if get.is_some_and(|rules| !rules.changes) {
        allow.push("HEAD");
    }
    allow.join(", ")
}

/// The methods that `allow` does not have.
fn others(allow: &str) -> impl Iterator<Item = Method> {
    let allowed: Vec<String> = allow.split(", ").map(str::to_owned).collect();
    METHODS
        .into_iter()
        .filter(move |method| !allowed.iter().any(|allowed| allowed == method.as_str()))
}

/// A method that nobody has heard of becomes one that no path answers: the router would not find the path by
/// it, and so would not know which methods the path does answer.
pub(super) fn know_method(request: &mut Request) {
    if !METHODS.contains(request.method()) {
        request.set_method(Method::TRACE);
    }
}

fn not_allowed(allow: &str, short: bool) -> BoxEndpoint<'static> {
    let allow = allow.to_owned();
    make(move |request: Request| {
        let allow = allow.clone();
        async move {
            if short && !is_short_url(&request) {
                return Err(Rejection::no_such_path().into());
            }
            Err::<Response, poem::Error>(Rejection::method_not_allowed(&allow).into())
        }
    })
    .map_to_response()
    .boxed()
}

/// An operation, and what is demanded before it is asked.
struct Operation {
    rules: Rules,
    endpoint: BoxEndpoint<'static>,
}

impl DynEndpoint for Operation {
    type Output = Response;

    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response>> {
        // The request goes right on into the box of the endpoint: this one need not have room for it.
        match self.rules.check(&request) {
            Ok(guess) => {
                let answer = self.endpoint.call(request);
                Box::pin(async move {
                    let result = answer.await;
                    if let Some(guess) = guess {
                        let status = result
                            .as_ref()
                            .map_or_else(poem::Error::status, Response::status);
                        self.rules.note(guess, status);
                    }
                    Ok(self.signed(result))
                })
            }
            Err(rejection) => Box::pin(ready(Ok(self.signed(Err(rejection.into()))))),
        }
    }
}

impl Operation {
    /// The answer, and whose it is, for who counts them, those included that the operation itself has not given.
    fn signed(&self, result: Result<Response>) -> Response {
        let mut response = result.unwrap_or_else(envelope);
        response.set_data(OperationId(self.rules.name));
        response
    }
}

impl<A> Guarded<A> {
    fn rules(&self, pattern: &str, operation: &MetaOperation) -> Rules {
        let parameters = operation
            .params
            .iter()
            .filter(|param| param.in_type == MetaParamIn::Query);
        let secured = is_secured(operation);
        Rules {
            name: operation.operation_id.unwrap_or_default(),
            parameters: parameters
                .map(|param| Rule {
                    name: param.name.clone(),
                    required: param.required,
                    repeatable: param.schema.is_array(),
                })
                .collect(),
            key: self.auth_key.clone().filter(|_| secured),
            secured,
            changes: changes(operation),
            guesses: Arc::clone(&self.guesses),
            short: pattern == "/:",
        }
    }
}

impl Rules {
    /// Returns the guess that the request is, if it is one whose outcome the operation knows.
    fn check(&self, request: &Request) -> Result<Option<Guess>, Rejection> {
        if self.short && !is_short_url(request) {
            return Err(Rejection::no_such_path());
        }
        if self.changes && is_prefetch(request) {
            let message = "this request only prefetches, and so it changed nothing";
            return Err(Rejection::new(StatusCode::FORBIDDEN, message));
        }
        let query = request.uri().query().unwrap_or_default();
        let parameters: Vec<_> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(decode)
            .collect();
        self.check_key(request, &parameters)?;
        self.check_parameters(&parameters)?;
        // Where a key is needed it is the key that is guessed, and where none is, there is no secret.
        if self.secured || !self.changes {
            return Ok(None);
        }
        let in_path = request.original_uri().path().get(1..);
        let in_path = in_path.filter(|_| self.short).map(|id| (NAMES[0], id));
        let in_query = parameters.iter().flatten();
        let in_query = in_query.map(|(name, value)| (name.as_str(), value.as_str()));
        match in_path
            .into_iter()
            .chain(in_query)
            .find(|(name, _)| NAMES.contains(name))
        {
            Some((kind, value)) => self.guesses.admit(request, kind, value.as_bytes()),
            None => Ok(None),
        }
    }

    fn note(&self, guess: Guess, status: StatusCode) {
        match status {
            StatusCode::OK => self.guesses.was_right(guess),
            StatusCode::NOT_FOUND => self.guesses.was_wrong(guess),
            // Anything else says nothing of whether there is such a watcher.
            _ => {}
        }
    }

    fn check_key(
        &self,
        request: &Request,
        parameters: &[Result<(String, String), Rejection>],
    ) -> Result<(), Rejection> {
        let Some(key) = &self.key else { return Ok(()) };
        let key = key.expose_secret().as_bytes();
        let given = parameters
            .iter()
            .flatten()
            .filter(|(name, _)| name == AUTH_KEY)
            .map(|(_, value)| value.as_bytes());
        let mut wrong = Vec::new();
        for given in given.chain(bearer(request)) {
            let guess = self.guesses.admit(request, AUTH_KEY, given)?;
            if bool::from(given.ct_eq(key)) {
                guess.inspect(|guess| self.guesses.was_right(*guess));
                return Ok(());
            }
            wrong.extend(guess);
        }
        for guess in wrong {
            self.guesses.was_wrong(guess);
        }
        let message = "the parameter \"auth_key\", or the header \"Authorization: Bearer\", is missing or wrong";
        Err(Rejection::new(StatusCode::UNAUTHORIZED, message))
    }

    fn check_parameters(
        &self,
        parameters: &[Result<(String, String), Rejection>],
    ) -> Result<(), Rejection> {
        let mut seen: Vec<&str> = Vec::new();
        for parameter in parameters {
            let (name, _) = parameter.as_ref().map_err(Rejection::clone)?;
            let rule = self.parameters.iter().find(|rule| rule.name == *name);
            if rule.is_none() && !(self.secured && name == AUTH_KEY) {
                let known: Vec<_> = self
                    .parameters
                    .iter()
                    .map(|rule| rule.name.as_str())
                    .collect();
                let known = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                return Err(Rejection::bad_request(format!(
                    "the parameter {name:?} is unknown here; known are: {known}"
                )));
            }
            if seen.contains(&name.as_str()) && !rule.is_some_and(|rule| rule.repeatable) {
                return Err(Rejection::bad_request(format!(
                    "the parameter {name:?} is given twice"
                )));
            }
            seen.push(name);
        }
        match self
            .parameters
            .iter()
            .find(|rule| rule.required && !seen.contains(&rule.name.as_str()))
        {
            Some(rule) => Err(Rejection::bad_request(format!(
                "the parameter {:?} is missing",
                rule.name
            ))),
            None => Ok(()),
        }
    }
}

/// Reads `name=value` of a query. What the framework reads later is the same, but it does not complain.
fn decode(pair: &str) -> Result<(String, String), Rejection> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let name = decode_part(name).ok_or_else(|| {
        Rejection::bad_request("the name of a parameter is not percent-encoded UTF-8")
    })?;
    match decode_part(value) {
        Some(value) => Ok((name, value)),
        None => Err(Rejection::bad_request(format!(
            "the parameter {name:?} is not percent-encoded UTF-8"
        ))),
    }
}

fn decode_part(text: &str) -> Option<String> {
    let is_complete = |escape: &str| {
        let bytes = escape.as_bytes();
        bytes.len() >= 2 && bytes[..2].iter().all(u8::is_ascii_hexdigit)
    };
    if !text.split('%').skip(1).all(is_complete) {
        return None;
    }
    let text = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&text)
        .decode_utf8()
        .ok()?;
    Some(decoded.into_owned())
}

fn is_short_url(request: &Request) -> bool {
    let path = request.original_uri().path();
    path.strip_prefix('/')
        .is_some_and(|id| WatcherId::parse(id).is_ok())
}

fn is_prefetch(request: &Request) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"]
        .iter()
        .any(|name| {
            let values = request.headers().get_all(*name).iter();
            values.filter_map(|value| value.to_str().ok()).any(|value| {
                let value = value.to_ascii_lowercase();
                value.contains("prefetch")
                    || value.contains("preview")
                    || value.contains("prerender")
            })
        })
}

/// The key in the header. It may have any bytes, as the parameter may.
fn bearer(request: &Request) -> Option<&[u8]> {
    let value = request.headers().get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then_some(key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queries_are_decoded_strictly() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(
            decode("name=My+First%20Watcher%2B"),
            pair("name", "My First Watcher+")
        );
        assert_eq!(decode("verbose"), pair("verbose", ""));
        assert_eq!(decode("a=b=c"), pair("a", "b=c"));
        assert_eq!(decode("a=%C3%A9"), pair("a", "é"));
        for broken in ["a=%", "a=%4", "a=%zz", "a=%ff", "%ff=a", "a=%+1"] {
            assert!(decode(broken).is_err(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn what_clients_encode_is_what_is_decoded(name in ".*", value in ".*") {
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let pair = format!("{}={}", encode(&name), encode(&value));
            prop_assert_eq!(decode(&pair), Ok((name.clone(), value.clone())));
        }

        /// Nothing is read in two ways: what the guard lets pass, the framework reads as the guard did.
        #[test]
        fn what_passes_is_read_the_same_by_the_framework(query in "([a%=+&;]|%C3%A9|%[0-9a-fA-F]{2}|%26|é){0,12}") {
            let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(decode);
            let Ok(pairs) = pairs.collect::<Result<Vec<_>, _>>() else { return Ok(()) };
            let uri = format!("http://localhost/?{query}").parse().expect("a URI");
            let read = Request::builder().uri(uri).finish().params::<Vec<(String, String)>>();
            prop_assert_eq!(read.expect("it is read"), pairs);
        }
    }
}
