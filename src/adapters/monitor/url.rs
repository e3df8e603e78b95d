//! Another monitor that is told by a URL, such as the trigger URL of a watcher on another Night's Watch.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use ureq::Agent;

use crate::http_client::{USER_AGENT, is_url, tls};
use crate::ports::Heartbeat;

/// How long one beat may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A URL that is asked for. Whoever knows it can beat in our name, so it is a secret.
pub struct Url {
    url: SecretString,
    agent: Agent,
}

/// Why a URL cannot be asked for; it does not show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a URL that begins with http:// or https:// and names a host")]
pub struct InvalidUrl;

impl Url {
    /// Will ask for `url`, over TLS if it begins with `https`, by the certificates that this machine trusts. Blocks
    /// while it reads those.
    ///
    /// # Errors
    ///
    /// [`InvalidUrl`] if it is none.
    pub fn new(url: SecretString) -> Result<Self, InvalidUrl> {
        if !is_url(url.expose_secret()) {
            return Err(InvalidUrl);
        }
        let agent = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .user_agent(USER_AGENT)
            .tls_config(tls())
            .build();
        Ok(Self {
            url,
            agent: agent.into(),
        })
    }
}

/// Why a beat was not heard.
#[derive(Debug)]
struct Unheard(ureq::Error);

impl Error for Unheard {}

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        f.write_str("[monitor] heartbeat_url: ")?;
        match error {
            ureq::Error::StatusCode(status) => write!(f, "the answer has the status {status}"),
            ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Rustls(_)
            | ureq::Error::TooManyRedirects => error.fmt(f),
            // The others may show the URL.
            _ => f.write_str("the answer makes no sense"),
        }
    }
}

#[async_trait]
impl Heartbeat for Url {
    async fn beat(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let asked = move || agent.get(url.expose_secret()).call().map(drop);
        tokio::task::spawn_blocking(asked)
            .await?
            .map_err(|error| Unheard(error).into())
    }
}
