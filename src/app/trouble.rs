//! Saying once that something does not work, and once that it works again.

use std::collections::HashSet;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// One thing that can fail many times in a row, and is logged when that begins and when it ends.
#[derive(Debug)]
pub struct Trouble {
    what: &'static str,
    on: AtomicBool,
}

impl Trouble {
    /// No trouble so far with `what`.
    #[must_use]
    pub const fn new(what: &'static str) -> Self {
        Self {
            what,
            on: AtomicBool::new(false),
        }
    }

    /// It failed. The first time in a row that is logged, with all causes.
    pub fn is_on(&self, error: &(dyn Error + 'static)) {
        if !self.on.swap(true, Ordering::Relaxed) {
            tracing::error!(error = chain(error), "{} fails", self.what);
        }
    }

    /// It worked. If it had failed before, that is logged.
    pub fn is_over(&self) {
        if self.on.load(Ordering::Relaxed) && self.on.swap(false, Ordering::Relaxed) {
            tracing::info!("{} works again", self.what);
        }
    }
}

/// Things that stay wrong until somebody mends them, each of which is logged once.
#[derive(Debug, Default)]
pub struct Complaints(Mutex<HashSet<String>>);

impl Complaints {
    /// How many are remembered; beyond that all are logged anew.
    const MOST: usize = 1_000;

    /// Logs `error`, with all causes, unless it has been logged.
    pub fn add(&self, error: &(dyn Error + 'static)) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= Self::MOST {
            said.clear();
        }
        let error = chain(error);
        if said.insert(error.clone()) {
            tracing::error!(error, "something in the store has to be mended");
        }
    }
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries repeat their source in their own words.
        if !line.ends_with(&text) {
            let _ = write!(line, ": {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use crate::ports::StoreError;

    #[test]
    fn a_chain_is_one_line_without_repeats() {
        let error = StoreError::unavailable(std::io::Error::other("the disk is full"));
        assert_eq!(
            super::chain(&error),
            "the store is not available: the disk is full"
        );
    }
}
