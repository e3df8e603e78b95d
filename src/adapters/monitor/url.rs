//! Another monitor that is told by a URL, such as the trigger URL of a watcher on another Night's Watch.

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

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
        let parsed: Uri = url.expose_secret().parse().map_err(|_| InvalidUrl)?;
        let has_host = parsed.host().is_some_and(|host| !host.is_empty());
        if !has_host || !matches!(parsed.scheme_str(), Some("http" | "https")) {
            return Err(InvalidUrl);
        }
        let trusted = rustls_native_certs::load_native_certs().certs;
        let trusted = trusted
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(trusted.collect::<Vec<_>>().into()));
        let agent = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("nights-watch/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build();
        Ok(Self {
            url,
            agent: agent.into(),
        })
    }
}

#[async_trait]
impl Heartbeat for Url {
    async fn beat(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let asked = move || agent.get(url.expose_secret()).call().map(drop);
        tokio::task::spawn_blocking(asked)
            .await?
            .map_err(|error| match error {
                // The others may show the URL.
                ureq::Error::StatusCode(_)
                | ureq::Error::Io(_)
                | ureq::Error::Timeout(_)
                | ureq::Error::HostNotFound
                | ureq::Error::ConnectionFailed
                | ureq::Error::Rustls(_)
                | ureq::Error::TooManyRedirects => error.into(),
                _ => "the answer makes no sense".into(),
            })
    }
}
