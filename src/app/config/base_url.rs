//! Where people reach the program with a browser.

use hyper::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::Slug;

/// The URL under which people reach the program, which is not what it listens on if it is behind a proxy.
///
/// It is of HTTP, with TLS or without, names a host, and ends without a slash. It has no path: pages and trigger
/// URLs are at the root, wherever that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Reads such a URL; slashes at its end are dropped.
    ///
    /// # Errors
    ///
    /// What is wrong with it. It does not show the text, in which there may be a password.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(['?', '#']) {
            return Err("has a query or a fragment (? or #)");
        }
        let scheme = text
            .split_once("://")
            .map(|(scheme, _)| scheme.to_ascii_lowercase())
            .filter(|scheme| matches!(scheme.as_str(), "http" | "https"))
            .ok_or("does not begin with http:// or https://")?;
        let url: Uri = text.parse().map_err(|_| "is not a URL")?;
        let authority = url
            .authority()
            .filter(|authority| !authority.host().is_empty())
            .ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("has a user in it, whom each mail would show");
        }
        if authority.as_str() != authority.host() && authority.port_u16().is_none() {
            return Err("has a port that is none");
        }
        if !url.path().bytes().all(|byte| byte == b'/') {
            return Err("has a path, but pages and trigger URLs are at the root of their host");
        }
        Ok(Self(format!("{scheme}://{authority}")))
    }

    /// Where the page of a watcher is.
    #[must_use]
    pub fn page_of(&self, slug: &Slug) -> String {
        format!("{}{}", self.0, page_path(slug))
    }

    /// Whether browsers come over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// The URL as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The path of a watcher's page.
#[must_use]
pub fn page_path(slug: &Slug) -> String {
    const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    let slug = utf8_percent_encode(slug.as_str(), SEGMENT);
    format!("/ui/watchers/{slug}")
}
