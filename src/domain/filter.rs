//! Which watchers somebody wants to see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use regex::{Regex, RegexBuilder};

use super::{Standing, Watcher};

/// Conditions on watchers; one that is absent holds for all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those that are late, or only those that are not.
    pub late: Option<bool>,
    /// Only those that are paused, or only those that are not.
    pub paused: Option<bool>,
    /// Only those in which this expression is found.
    pub search: Option<Search>,
}

impl Filter {
    /// Those of one standing in which `search` is found.
    #[must_use]
    pub fn of(standing: Standing, search: Option<Search>) -> Self {
        Self {
            late: Some(standing == Standing::Late),
            paused: Some(standing == Standing::Paused),
            search,
        }
    }

    /// Whether `watcher` meets every condition.
    #[must_use]
    pub fn matches(&self, watcher: &Watcher) -> bool {
        self.allows(watcher.state.is_late(), watcher.state.is_paused())
            && self
                .search
                .as_ref()
                .is_none_or(|search| search.is_found_in(watcher))
    }

    /// Whether a watcher that is late and paused as said can match: what a store may select by before it
    /// reads further.
    #[must_use]
    pub fn allows(&self, late: bool, paused: bool) -> bool {
        self.late.is_none_or(|wanted| wanted == late)
            && self.paused.is_none_or(|wanted| wanted == paused)
    }
}

/// A regular expression that is looked for in a watcher's name, slug, identifier and addresses.
///
/// It takes linear time in what it searches, whatever the expression, and bounded memory. Among very many watchers
/// that may still be long, so it can be given up while it goes on.
#[derive(Clone, Debug)]
pub struct Search {
    expression: Regex,
    is_given_up: Arc<AtomicBool>,
}

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSearch {
    /// Not a regular expression.
    #[error("is not a regular expression: {0}")]
    Syntax(String),
    /// Over [`Search::MAX_CHARS`].
    #[error("is longer than {} characters", Search::MAX_CHARS)]
    TooLong,
    /// Its compiled form would take too much memory.
    #[error("is a regular expression that is too large")]
    TooLarge,
}

impl Search {
    /// The longest expression, in characters.
    pub const MAX_CHARS: usize = 1_000;
    /// The largest compiled expression, in bytes.
    const MAX_SIZE: usize = 256 * 1024;
    /// The most memory that makes it fast, in bytes: with as much as the expression has, counted repetitions
    /// were a thousand times slower.
    const MAX_CACHE: usize = 2 * 1024 * 1024;

    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// [`InvalidSearch`] if it is malformed, too long or too large.
    pub fn parse(expression: &str) -> Result<Self, InvalidSearch> {
        Self::compile(expression, expression)
    }

    /// Looks for `text` as it stands, in capital and small letters alike.
    ///
    /// # Errors
    ///
    /// [`InvalidSearch`] if it is too long or too large.
    pub fn containing(text: &str) -> Result<Self, InvalidSearch> {
        Self::compile(text, &format!("(?i){}", regex::escape(text)))
    }

    /// What was `written`, as an expression.
    fn compile(written: &str, expression: &str) -> Result<Self, InvalidSearch> {
        if written.chars().count() > Self::MAX_CHARS {
            return Err(InvalidSearch::TooLong);
        }
        RegexBuilder::new(expression)
            .size_limit(Self::MAX_SIZE)
            .dfa_size_limit(Self::MAX_CACHE)
            .nest_limit(50)
            .build()
            .map(|expression| Self {
                expression,
                is_given_up: Arc::default(),
            })
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => InvalidSearch::TooLarge,
                // The last line of the report says what is wrong; those before it point at the place.
                error => InvalidSearch::Syntax(
                    error
                        .to_string()
                        .lines()
                        .last()
                        .map(|line| line.trim_start_matches("error: ").to_owned())
                        .unwrap_or_default(),
                ),
            })
    }

    /// From now on it is found nowhere, by any of its clones: nobody waits for the answer any more.
    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    fn is_found_in(&self, watcher: &Watcher) -> bool {
        let is_match =
            |text| !self.is_given_up.load(Ordering::Relaxed) && self.expression.is_match(text);
        is_match(watcher.name.as_str())
            || is_match(watcher.slug.as_str())
            || is_match(watcher.id.as_str())
            || watcher
                .recipients
                .iter()
                .any(|recipient| is_match(recipient.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Description, Draft, Name, Periodicity, Timestamp, WatcherId};

    #[test]
    fn malformed_and_exploding_expressions_are_refused() {
        assert_eq!(
            Search::parse("(").map(|_| ()),
            Err(InvalidSearch::Syntax("unclosed group".to_owned()))
        );
        assert_eq!(
            Search::parse("(a{500}){500}").map(|_| ()),
            Err(InvalidSearch::TooLarge)
        );
        assert!(Search::parse(&"(".repeat(1_000)).is_err());
        assert!(Search::parse(&"é".repeat(1_000)).is_ok());
        assert_eq!(
            Search::parse(&"é".repeat(1_001)).map(|_| ()),
            Err(InvalidSearch::TooLong)
        );
        assert!(Search::parse("(a*)*b").is_ok());
    }

    #[test]
    fn a_text_is_looked_for_as_it_stands() {
        let is_found = |text: &str| {
            let search = Search::containing(text).expect("a text");
            search.expression.is_match("Backup (DB.1)")
        };
        assert!(is_found("backup (d"));
        assert!(!is_found("DB-1"));
        assert!(!is_found("^B"));
        assert!(Search::containing(&"(".repeat(1_000)).is_ok());
        assert!(Search::containing(&"(".repeat(1_001)).is_err());
    }

    #[test]
    fn what_is_given_up_is_found_nowhere() {
        let draft = Draft {
            name: Name::parse("Backup").expect("a name"),
            description: Description::default(),
            periodicity: Periodicity::from_millis(1).expect("a periodicity"),
            recipients: Vec::new(),
            paused: false,
        };
        let id = WatcherId::parse("aaaaaaaa").expect("letters");
        let (watcher, _) = Watcher::create(id, draft, Timestamp::from_millis(0));
        let search = Search::parse("up$").expect("an expression");
        let filter = Filter {
            search: Some(search.clone()),
            ..Filter::default()
        };
        assert!(filter.matches(&watcher));
        search.give_up();
        assert!(!filter.matches(&watcher));
    }
}
