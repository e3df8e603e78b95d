//! What those have in common who ask others over HTTP.

use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Who asks.
pub(crate) const USER_AGENT: &str = concat!("nights-watch/", env!("CARGO_PKG_VERSION"));

/// Whether `text` is a URL that can be asked for: of HTTP, with TLS or without, and of a host.
pub(crate) fn is_url(text: &str) -> bool {
    let Ok(url) = text.parse::<Uri>() else {
        return false;
    };
    let has_host = url.host().is_some_and(|host| !host.is_empty());
    has_host && matches!(url.scheme_str(), Some("http" | "https"))
}

/// TLS by the certificates that this machine trusts. Blocks while it reads those.
pub(crate) fn tls() -> TlsConfig {
    let trusted = rustls_native_certs::load_native_certs().certs;
    let trusted = trusted
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned());
    let roots = RootCerts::Specific(trusted.collect::<Vec<_>>().into());
    TlsConfig::builder().root_certs(roots).build()
}
