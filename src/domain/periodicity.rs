//! How long a watcher may stay silent.

use std::time::Duration;

use super::Timestamp;

/// The longest time between two triggers before a watcher is late: between a millisecond and a hundred
/// years, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Periodicity(u64);

/// Why a text or number is not a periodicity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeriodicity {
    /// Not a number at all.
    #[error("is not a number of seconds")]
    NotANumber,
    /// Zero, negative, or less than can be told apart.
    #[error("must be greater than 0, and at least a millisecond (0.001)")]
    TooShort,
    /// Over [`Periodicity::MAX`].
    #[error("is longer than {} seconds (a hundred years)", Periodicity::MAX.0 / 1_000)]
    TooLong,
}

impl Periodicity {
    /// The longest periodicity: a hundred years of 365.25 days. Added to any date of ours it stays a date.
    pub const MAX: Self = Self(3_155_760_000_000);

    /// Reads a number of seconds, with or without a fraction; what is finer than a millisecond is rounded.
    ///
    /// # Errors
    ///
    /// [`InvalidPeriodicity`] if it is not a number or out of range.
    pub fn parse(text: &str) -> Result<Self, InvalidPeriodicity> {
        let seconds: f64 = text
            .trim()
            .parse()
            .map_err(|_| InvalidPeriodicity::NotANumber)?;
        Self::from_seconds(seconds)
    }

    /// The periodicity of `seconds`; what is finer than a millisecond is rounded.
    ///
    /// # Errors
    ///
    /// [`InvalidPeriodicity`] if it is not finite or out of range.
    pub fn from_seconds(seconds: f64) -> Result<Self, InvalidPeriodicity> {
        if !seconds.is_finite() {
            return Err(InvalidPeriodicity::NotANumber);
        }
        let millis = (seconds * 1_000.0).round();
        if millis < 1.0 {
            return Err(InvalidPeriodicity::TooShort);
        }
        if millis > Self::MAX.0 as f64 {
            return Err(InvalidPeriodicity::TooLong);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was checked"
        )]
        Ok(Self(millis as u64))
    }

    /// The periodicity of `millis` milliseconds, as a store holds it.
    ///
    /// # Errors
    ///
    /// [`InvalidPeriodicity`] if it is out of range.
    pub fn from_millis(millis: u64) -> Result<Self, InvalidPeriodicity> {
        match millis {
            0 => Err(InvalidPeriodicity::TooShort),
            _ if millis > Self::MAX.0 => Err(InvalidPeriodicity::TooLong),
            _ => Ok(Self(millis)),
        }
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Seconds, with a fraction if it has one.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1_000.0
    }

    /// The same as a span of time.
    #[must_use]
    pub const fn span(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// When a watcher that was heard from at `instant` has to be heard from again.
    #[must_use]
    pub fn after(self, instant: Timestamp) -> Timestamp {
        instant.after(self.span())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_positive_number_of_seconds() {
        for (text, millis) in [
            ("3600", 3_600_000),
            ("0.25", 250),
            ("1.5", 1_500),
            ("1e2", 100_000),
        ] {
            assert_eq!(Periodicity::parse(text), Ok(Periodicity(millis)), "{text}");
        }
        assert_eq!(Periodicity::parse("3155760000"), Ok(Periodicity::MAX));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "x", "nan", "inf", "-inf", "1h", "1,5", "0x10"] {
            assert_eq!(
                Periodicity::parse(text),
                Err(InvalidPeriodicity::NotANumber),
                "{text}"
            );
        }
        for text in ["0", "-1", "-0.0", "0.0004", "1e-300"] {
            assert_eq!(
                Periodicity::parse(text),
                Err(InvalidPeriodicity::TooShort),
                "{text}"
            );
        }
        for text in ["3155760001", "1e300"] {
            assert_eq!(
                Periodicity::parse(text),
                Err(InvalidPeriodicity::TooLong),
                "{text}"
            );
        }
        assert_eq!(
            Periodicity::from_millis(0),
            Err(InvalidPeriodicity::TooShort)
        );
        assert_eq!(
            Periodicity::from_millis(u64::MAX),
            Err(InvalidPeriodicity::TooLong)
        );
    }
}
