//! What is made of many measurements.

use std::time::{SystemTime, UNIX_EPOCH};

use nights_watch::domain::Timestamp;

/// What `permille` of a thousand of these are not above.
pub(crate) fn percentile<T: Copy>(sorted: &[T], permille: usize) -> T {
    assert!(!sorted.is_empty(), "nothing was measured");
    sorted[(sorted.len() - 1) * permille / 1_000]
}

/// The middle one.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 500)
}

/// The time, in microseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "deadlines are wall-clock time, and the program under test has the system's"
)]
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.expect("a clock that is right").as_micros();
    i64::try_from(micros).expect("a clock that is right")
}

/// The time, as the program tells it.
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::from_millis(now() / 1_000)
}

/// Microseconds as milliseconds, for people.
pub(crate) fn ms(micros: i64) -> f64 {
    micros as f64 / 1_000.0
}
