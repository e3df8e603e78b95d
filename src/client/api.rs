//! Calls to a service, and why they fail.

use std::io::{self, BufReader, Read};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, LOCATION};
use ureq::http::{HeaderValue, Response};
use ureq::{Agent, Body, BodyReader, RequestBuilder, Timeout};

use super::settings::Settings;
use crate::http_client::{USER_AGENT, tls};

const API: &str = "nights-watch/v1/watcher";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take to begin, and to go on.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a trigger may take, from the first byte to the last.
const TRIGGER: Duration = Duration::from_secs(10);
/// How long a health check may take.
const CHECK: Duration = Duration::from_secs(5);
/// What is wrong with a key that a header cannot carry.
pub(super) const UNSENDABLE: &str = "has something but printable ASCII in it";
/// How much is read of an answer that is an error.
const LONGEST_ERROR: u64 = 65_536;

/// A service, over HTTP.
pub(super) struct Service {
    settings: Settings,
    agent: Agent,
}

/// An answer that says that it was done, and is yet to be read.
pub(super) struct Answer {
    /// When the service sent it, by its own clock: ours may go wrong.
    pub(super) now: Option<DateTime<Utc>>,
    pub(super) body: BufReader<BodyReader<'static>>,
    base: String,
}

/// Why something was not done. Its `Display` is one sentence for the user.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The service has answered that it was not done.
    #[error("{sentence}")]
    Refused {
        status: u16,
        /// What the service says about it.
        sentence: String,
    },
    /// There was no answer, or not the whole of it.
    #[error("{base} cannot be reached: {problem}")]
    Unreachable { base: String, problem: String },
    /// Somebody has answered who is not Night's Watch.
    #[error("{base} does not answer as Night's Watch does: {problem}")]
    Stranger { base: String, problem: String },
    /// It is not known whom to ask, or how.
    #[error("{place}: {problem}")]
    Settings { place: String, problem: String },
    /// Somebody wants it to end.
    #[error("it was stopped by a signal")]
    Stopped,
    /// The command line lacks something.
    #[error("{0}")]
    Usage(&'static str),
    /// What there was to show could not be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// A mistake in the settings.
    pub(super) fn settings(place: &str, problem: impl Into<String>) -> Self {
        Self::Settings {
            place: place.to_owned(),
            problem: problem.into(),
        }
    }

    /// The exit status that tells scripts what happened; the help lists them.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Refused { status: 404, .. } => 3,
            Self::Refused { status: 401, .. } => 4,
            Self::Refused { status: 409, .. } => 6,
            _ if self.is_temporary() => 5,
            _ => 1,
        }
    }

    /// Whether it may be different in a while, with nobody doing anything about it here.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 500..),
            _ => false,
        }
    }
}

impl Service {
    /// The service that the settings name. Nothing is asked of it yet.
    pub(super) fn new(settings: Settings) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A key is not carried elsewhere, and a trigger that became something else would be lost.
            .max_redirects(0)
            .user_agent(USER_AGENT)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE));
        if settings.url.starts_with("https") {
            config = config.tls_config(tls());
        }
        let agent = config.build().into();
        Self { settings, agent }
    }

    /// The URL of the service, without a slash at its end.
    pub(super) fn base(&self) -> &str {
        &self.settings.url
    }

    /// Calls an operation on watchers, with the key.
    pub(super) fn call(
        &self,
        operation: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Answer, Failure> {
        let url = format!("{}/{API}/{operation}", self.base());
        let mut request = self.agent.get(url).query_pairs(parameters.iter().copied());
        if let Some(key) = &self.settings.key {
            let bearer = format!("Bearer {}", key.expose_secret());
            let wrong = || Failure::settings("the key", UNSENDABLE);
            let bearer = is_sendable(&bearer).then(|| HeaderValue::from_str(&bearer).ok());
            let mut bearer = bearer.flatten().ok_or_else(wrong)?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        self.settle(request.call())
            .map_err(|failure| match failure {
                Failure::Refused { status: 401, .. } => self.locked(),
                failure => failure,
            })
    }

    /// What it means that the service wants another key than it got: it says that as to a program.
    fn locked(&self) -> Failure {
        let base = self.base();
        let sentence = match (&self.settings.key, &self.settings.key_is_for) {
            (Some(_), _) => format!("{base} does not take this key"),
            (None, Some(other)) => format!(
                "{base} wants a key, and the stored one is for {other}: use that URL, or set NIGHTS_WATCH_AUTH_KEY"
            ),
            (None, None) => format!(
                "{base} wants a key: set NIGHTS_WATCH_AUTH_KEY, or store it by nights-watch configure"
            ),
        };
        Failure::Refused {
            status: 401,
            sentence,
        }
    }

    /// Triggers a watcher, which needs no key, so none is sent.
    pub(super) fn trigger(&self, parameters: &[(&str, &str)]) -> Result<Answer, Failure> {
        let url = format!("{}/{API}/trigger", self.base());
        let request = self.agent.post(url).query_pairs(parameters.iter().copied());
        self.settle(within(TRIGGER, request).send_empty())
    }

    /// Asks a path about the service itself.
    pub(super) fn check(&self, path: &str) -> Result<(), Failure> {
        let request = self.agent.get(format!("{}{path}", self.base()));
        self.settle(within(CHECK, request).call()).map(drop)
    }

    /// What became of a call.
    fn settle(&self, called: Result<Response<Body>, ureq::Error>) -> Result<Answer, Failure> {
        let response = called.map_err(|error| unreachable(self.base(), &error))?;
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name)?.to_str().ok();
        let stranger = |problem: String| Failure::Stranger {
            base: self.base().to_owned(),
            problem,
        };
        if let Some(location) = header(LOCATION) {
            return Err(stranger(format!("it redirects to {location}")));
        }
        let is_json = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
        let now = header(DATE).and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        if status == 200 && is_json {
            return Ok(Answer {
                now: now.map(|now| now.to_utc()),
                body: BufReader::new(response.into_body().into_reader()),
                base: self.base().to_owned(),
            });
        }
        let mut text = String::new();
        let mut body = response.into_body().into_reader().take(LONGEST_ERROR);
        // What cannot be read says nothing about the status, which is known.
        let _ = body.read_to_string(&mut text);
        match serde_json::from_str::<Envelope>(&text) {
            // A path that the service does not have says nothing about watchers.
            Ok(Envelope { error }) if status == 404 && error.contains("no such path") => {
                Err(stranger(error))
            }
            Ok(Envelope { error }) => Err(Failure::Refused {
                status,
                sentence: error,
            }),
            // Proxies speak so for a service that is away.
            Err(_) if matches!(status, 429 | 500..) => Err(Failure::Unreachable {
                base: self.base().to_owned(),
                problem: format!("the status is {status}"),
            }),
            Err(_) => Err(stranger(format!("the status is {status}"))),
        }
    }
}

/// What the service says about an error.
#[derive(Deserialize)]
struct Envelope {
    error: String,
}

impl Answer {
    /// Reads the whole answer.
    pub(super) fn read<T: DeserializeOwned>(mut self) -> Result<T, Failure> {
        serde_json::from_reader(&mut self.body).map_err(|error| self.not_understood(error))
    }

    /// What it means that the answer could not be read to its end.
    pub(super) fn broken_off(&self, error: &io::Error) -> Failure {
        Failure::Unreachable {
            base: self.base.clone(),
            problem: format!("its answer broke off: {error}"),
        }
    }

    /// What it means that the answer could not be read as what it should be.
    pub(super) fn not_understood(&self, error: serde_json::Error) -> Failure {
        if error.is_io() || error.is_eof() {
            return self.broken_off(&error.into());
        }
        Failure::Stranger {
            base: self.base.clone(),
            problem: error.to_string(),
        }
    }
}

/// Whether a header can carry a key.
pub(super) fn is_sendable(key: &str) -> bool {
    key.chars().all(|c| c == ' ' || c.is_ascii_graphic())
}

fn within<B>(patience: Duration, request: RequestBuilder<B>) -> RequestBuilder<B> {
    request.config().timeout_global(Some(patience)).build()
}

fn unreachable(base: &str, error: &ureq::Error) -> Failure {
    let problem = match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            "no connection came about in time".to_owned()
        }
        ureq::Error::Timeout(_) => "it did not answer in time".to_owned(),
        error => error.to_string(),
    };
    Failure::Unreachable {
        base: base.to_owned(),
        problem,
    }
}
