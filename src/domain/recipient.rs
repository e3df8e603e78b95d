//! Who is told.

use std::fmt;
use std::str::FromStr;

use email_address::{EmailAddress, Options};

/// Somebody who is told when a watcher is late: an e-mail address, without a display name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient(String);

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an e-mail address")]
pub struct InvalidRecipient;

impl Recipient {
    /// The most addresses that one watcher may have.
    pub const MAX_PER_WATCHER: usize = 100;

    /// Reads an address such as `ops@example.com` or `root@localhost`.
    ///
    /// # Errors
    ///
    /// [`InvalidRecipient`] if it is not one.
    pub fn parse(text: &str) -> Result<Self, InvalidRecipient> {
        let options = Options::default().without_display_text();
        EmailAddress::parse_with_options(text, options).map_err(|_| InvalidRecipient)?;
        if text.chars().any(char::is_control) {
            return Err(InvalidRecipient);
        }
        Ok(Self(text.to_owned()))
    }

    /// An address as a store holds it, which may be one that another program wrote by other rules.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = InvalidRecipient;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_bare_address() {
        for right in [
            "ops@example.com",
            "root@localhost",
            "a+b.c@x.example",
            "jörg@exämple.de",
        ] {
            assert!(Recipient::parse(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "ops",
            "@example.com",
            "ops@",
            "Ops <ops@example.com>",
            "a@example.com,b@example.com",
            "a@example.com\r\nBcc: c@example.com",
            "a b@example.com",
        ] {
            assert_eq!(Recipient::parse(wrong), Err(InvalidRecipient), "{wrong:?}");
        }
    }
}
