//! Identifiers of watchers.

use std::fmt;

/// The identifier of a watcher: eight lower-case letters.
///
/// It is also the path of the watcher's trigger URL, and the only thing that protects that URL: whoever
/// creates a watcher draws the letters from a cryptographic generator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId([u8; Self::LENGTH]);

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identifier is eight lower-case letters")]
pub struct InvalidId;

impl WatcherId {
    /// How many letters an identifier has.
    pub const LENGTH: usize = 8;

    /// The identifier with these letters.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] unless each is one of `a` to `z`.
    pub fn from_letters(letters: [u8; Self::LENGTH]) -> Result<Self, InvalidId> {
        if letters.iter().all(u8::is_ascii_lowercase) {
            Ok(Self(letters))
        } else {
            Err(InvalidId)
        }
    }

    /// Reads an identifier.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] unless `text` is eight letters `a` to `z`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        Self::from_letters(text.as_bytes().try_into().map_err(|_| InvalidId)?)
    }

    /// The eight letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for WatcherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for WatcherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WatcherId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_eight_lower_case_letters() {
        assert_eq!(
            WatcherId::parse("fbkvlsby").map(|id| id.to_string()),
            Ok("fbkvlsby".to_owned())
        );
        for wrong in [
            "",
            "fbkvlsb",
            "fbkvlsbyy",
            "Fbkvlsby",
            "fbkvls1y",
            "fbkvlsé",
            "fbkv lsb",
        ] {
            assert_eq!(WatcherId::parse(wrong), Err(InvalidId), "{wrong:?}");
        }
    }
}
