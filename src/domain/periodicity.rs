//! How long a watcher may stay silent.

use std::fmt;
use std::time::Duration;

use super::Timestamp;

/// The units in which people say how long something is, from large to small, and their milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
];

/// The longest time between two triggers before a watcher is late: between a millisecond and a hundred
/// years, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Periodicity(u64);

/// Why a text or number is not a periodicity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeriodicity {
    /// Neither a number nor anything like a duration.
    #[error("is neither a number of seconds nor a duration such as 90s, 15m, 25h or 1h30m")]
    NotADuration,
    /// A number with something behind it that is no unit.
    #[error("has the unknown unit {0:?}: there are w, d, h, m and s")]
    UnknownUnit(String),
    /// A number of a duration with no unit behind it.
    #[error("has no unit behind {0:?}: there are w, d, h, m and s")]
    NoUnit(String),
    /// A unit behind one that is not larger.
    #[error(
        "has {unit} behind {before}: units go from large to small, w d h m s, and each stands there once"
    )]
    Order {
        /// The unit that comes too late.
        unit: &'static str,
        /// The one before it.
        before: &'static str,
    },
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

    /// Reads a number of seconds, or a duration as people write it: numbers with units, from large to small,
    /// as in `1h30m`. Any number may have a fraction; what is finer than a millisecond is rounded.
    ///
    /// # Errors
    ///
    /// [`InvalidPeriodicity`] if it is neither, or out of range.
    pub fn parse(text: &str) -> Result<Self, InvalidPeriodicity> {
        let text = text.trim();
        match text.parse() {
            Ok(seconds) => Self::from_seconds(seconds),
            Err(_) => Self::from_seconds(seconds_in_units(text)?),
        }
    }

    /// The periodicity of `seconds`; what is finer than a millisecond is rounded.
    ///
    /// # Errors
    ///
    /// [`InvalidPeriodicity`] if it is not finite or out of range.
    pub fn from_seconds(seconds: f64) -> Result<Self, InvalidPeriodicity> {
        if !seconds.is_finite() {
            return Err(InvalidPeriodicity::NotADuration);
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

/// As [`Periodicity::parse`] reads it, in days, hours, minutes and seconds: `7d`, `1h30m`, `0.25s`.
impl fmt::Display for Periodicity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        // A week is said as seven days: a backup is made daily, and looked for after so many days.
        for (unit, millis) in &UNITS[1..4] {
            if rest >= *millis {
                write!(f, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        if rest > 0 {
            write!(f, "{}s", rest as f64 / 1_000.0)?;
        }
        Ok(())
    }
}

/// The seconds that numbers with units make together.
fn seconds_in_units(text: &str) -> Result<f64, InvalidPeriodicity> {
    let is_of_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut millis = 0.0;
    let mut before: Option<usize> = None;
    let mut rest = text;
    while !rest.is_empty() || before.is_none() {
        let (number, behind) = rest.split_at(rest.find(|c| !is_of_number(c)).unwrap_or(rest.len()));
        let (unit, behind) = behind.split_at(behind.find(is_of_number).unwrap_or(behind.len()));
        let count: f64 = number
            .parse()
            .map_err(|_| InvalidPeriodicity::NotADuration)?;
        let unit = unit.trim();
        if unit.is_empty() {
            return Err(InvalidPeriodicity::NoUnit(number.to_owned()));
        }
        let index = UNITS.iter().position(|(name, _)| *name == unit);
        let index = index.ok_or_else(|| InvalidPeriodicity::UnknownUnit(unit.to_owned()))?;
        if let Some(before) = before.filter(|before| *before >= index) {
            let (unit, before) = (UNITS[index].0, UNITS[before].0);
            return Err(InvalidPeriodicity::Order { unit, before });
        }
        millis += count * UNITS[index].1 as f64;
        (before, rest) = (Some(index), behind);
    }
    Ok(millis / 1_000.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_duration(text: &str, seconds: f64) {
        let parsed = Periodicity::parse(text).map(Periodicity::seconds);
        assert_eq!(parsed, Ok(seconds), "{text}");
    }

    #[track_caller]
    fn check_complaint(text: &str, complaint: &str) {
        let refused = Periodicity::parse(text).map_err(|error| error.to_string());
        let refused = refused.expect_err(text);
        assert!(refused.starts_with(complaint), "{text}: {refused}");
    }

    #[test]
    fn durations_mean_what_they_say() {
        check_duration("90", 90.0);
        check_duration("90s", 90.0);
        check_duration("15m", 900.0);
        check_duration("25h", 90_000.0);
        check_duration("7d", 604_800.0);
        check_duration("2w", 1_209_600.0);
        check_duration("1h30m", 5_400.0);
        check_duration("1w2d3h4m5.5s", 788_645.5);
        check_duration("1.5h", 5_400.0);
        check_duration("0.25s", 0.25);
        check_duration("0h90s", 90.0);
        check_duration(" 1 h 30 m ", 5_400.0);
    }

    #[test]
    fn a_complaint_names_what_is_wrong() {
        check_complaint("1x", "has the unknown unit \"x\"");
        check_complaint("5min", "has the unknown unit \"min\"");
        check_complaint("1H", "has the unknown unit \"H\"");
        check_complaint("1e2s", "has the unknown unit \"e\"");
        check_complaint("1,5h", "has the unknown unit \",\"");
        check_complaint("1h30", "has no unit behind \"30\"");
        check_complaint("30m1h", "has h behind m: ");
        check_complaint("1h1h", "has h behind h: ");
        check_complaint("1.2.3h", "is neither a number");
        check_complaint("-1h", "is neither a number");
        check_complaint("h", "is neither a number");
        check_complaint(".s", "is neither a number");
        check_complaint("0s", "must be greater than 0");
        check_complaint("0.0004s", "must be greater than 0");
        check_complaint("36526d", "is longer than");
        check_complaint(&format!("{}w", "9".repeat(400)), "is neither a number");
    }

    proptest! {
        #[test]
        fn every_periodicity_is_read_as_it_is_written(millis in 1..=Periodicity::MAX.0) {
            let periodicity = Periodicity(millis);
            prop_assert_eq!(Periodicity::parse(&periodicity.to_string()), Ok(periodicity));
            prop_assert_eq!(Periodicity::parse(&periodicity.seconds().to_string()), Ok(periodicity));
        }

        #[test]
        fn units_add_up(counts in prop::array::uniform5(0..1_000_u32)) {
            let parts = UNITS.iter().zip(counts);
            let text: Vec<_> = parts.clone().map(|((unit, _), count)| format!("{count}{unit}")).collect();
            let text = text.concat();
            let millis = parts.map(|((_, worth), count)| u64::from(count) * worth).sum();
            prop_assert_eq!(Periodicity::parse(&text), Periodicity::from_millis(millis));
        }

        #[test]
        fn no_text_is_too_odd(text in prop_oneof![any::<String>(), "([0-9.]{0,9}[wdhmsx \u{e9}]{0,2}){0,6}"]) {
            if let Ok(periodicity) = Periodicity::parse(&text) {
                prop_assert!(periodicity.0 > 0 && periodicity <= Periodicity::MAX);
            }
        }
    }

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
        for text in ["", "x", "nan", "inf", "-inf", "hour"] {
            assert_eq!(
                Periodicity::parse(text),
                Err(InvalidPeriodicity::NotADuration),
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
