//! What people call a watcher, and the slug that is made of it.

use std::fmt;

/// The name of a watcher: one line, not blank, at most [`Name::MAX_CHARS`] characters, with a slug.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

/// Why a text cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing but white space.
    #[error("is empty")]
    Blank,
    /// Over [`Name::MAX_CHARS`].
    #[error("is longer than {} characters", Name::MAX_CHARS)]
    TooLong,
    /// A line break, NUL or the like: a name is shown in subjects, logs and tables.
    #[error("has a control character in it")]
    ControlCharacter,
    /// No letter, digit, space, hyphen or underscore.
    #[error("has no letter or digit to make a slug of")]
    NoSlug,
}

impl Name {
    /// The longest name, in characters.
    pub const MAX_CHARS: usize = 255;

    /// Reads a name; white space around it is dropped.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] says which of the rules on the type it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let name = text.trim();
        if name.is_empty() {
            return Err(InvalidName::Blank);
        }
        if name.chars().count() > Self::MAX_CHARS {
            return Err(InvalidName::TooLong);
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidName::ControlCharacter);
        }
        let name = Self(name.to_owned());
        if Slug::of(&name).0.is_empty() {
            return Err(InvalidName::NoSlug);
        }
        Ok(name)
    }

    /// A name as a store holds it, which may be one that another program wrote by other rules.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The form of a name that is easy to type in a URL, and unique among watchers.
///
/// The name in lower case; letters and digits (Unicode's) stay, each run of white space, hyphens and
/// underscores becomes one hyphen, and everything else goes, as if it had never been there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(String);

impl Slug {
    /// The slug of `name`.
    #[must_use]
    pub fn of(name: &Name) -> Self {
        let mut slug = String::with_capacity(name.0.len());
        for c in name.0.to_lowercase().chars() {
            if c.is_alphanumeric() {
                slug.push(c);
            } else if (c.is_whitespace() || c == '-' || c == '_') && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        Self(slug)
    }

    /// A slug as somebody names a watcher by it, or as a store holds it.
    #[must_use]
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// The slug as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a watcher is for, in its owner's words; mails show it. May be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description(String);

/// A description over [`Description::MAX_CHARS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is longer than {} characters", Description::MAX_CHARS)]
pub struct InvalidDescription;

impl Description {
    /// The longest description, in characters.
    pub const MAX_CHARS: usize = 4_000;

    /// Reads a description.
    ///
    /// # Errors
    ///
    /// [`InvalidDescription`] if it is too long.
    pub fn parse(text: &str) -> Result<Self, InvalidDescription> {
        if text.chars().count() > Self::MAX_CHARS {
            return Err(InvalidDescription);
        }
        Ok(Self(text.to_owned()))
    }

    /// A description as a store holds it, whatever its length.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The description as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_slug(name: &str, slug: &str) {
        assert_eq!(
            Name::parse(name).map(|name| Slug::of(&name).0),
            Ok(slug.to_owned())
        );
    }

    #[test]
    fn slugs_keep_letters_and_digits_and_join_words_with_one_hyphen() {
        check_slug("My First Watcher", "my-first-watcher");
        check_slug("my_first__watcher", "my-first-watcher");
        check_slug("a - _ b", "a-b");
        check_slug("Rock & Roll", "rock-roll");
        check_slug("It's 100%!", "its-100");
        check_slug("Größe ÄÖ 東京 ٣", "größe-äö-東京-٣");
        check_slug("tab\u{2003}and\u{a0}more", "tab-and-more");
        check_slug("-x-", "-x-");
    }

    #[test]
    fn names_break_no_rule() {
        assert_eq!(
            Name::parse("  spaced  ").map(|name| name.0),
            Ok("spaced".to_owned())
        );
        assert_eq!(Name::parse(""), Err(InvalidName::Blank));
        assert_eq!(Name::parse(" \t"), Err(InvalidName::Blank));
        assert_eq!(Name::parse("!?"), Err(InvalidName::NoSlug));
        assert_eq!(
            Name::parse("a\r\nBcc: b"),
            Err(InvalidName::ControlCharacter)
        );
        assert_eq!(Name::parse("a\0b"), Err(InvalidName::ControlCharacter));
        assert!(Name::parse(&"é".repeat(255)).is_ok());
        assert_eq!(Name::parse(&"é".repeat(256)), Err(InvalidName::TooLong));
    }

    #[test]
    fn descriptions_have_a_limit() {
        assert!(Description::parse(&"é".repeat(4_000)).is_ok());
        assert_eq!(
            Description::parse(&"é".repeat(4_001)),
            Err(InvalidDescription)
        );
    }
}
