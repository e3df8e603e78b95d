//! A history as pictures: when the watcher stood how, and how long its intervals were.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::{Wording, every, span, time, utc};
use crate::adapters::http::web::scenes::code;
use crate::domain::{Interval, Standing, Stretch, Timeline, Timestamp, Watcher};

/// How wide the pictures are, in units of their own.
const WIDTH: i64 = 1_000;
/// How many intervals are shown: more would be thinner than a line.
const INTERVALS: usize = 60;
/// How high the strip of intervals is, and how much of that a periodicity takes.
const STRIP: u64 = 60;
const PERIODICITY: u64 = 40;

/// The pictures, with what they show in words.
pub(super) fn section(timeline: &Timeline, watcher: &Watcher) -> Markup {
    html! {
        section aria-labelledby="timeline" {
            h2 #timeline { "Timeline" }
            (band(timeline))
            (strip(&timeline.intervals, watcher))
        }
    }
}

/// From the oldest event to the deadline ahead, or to the present.
fn band(timeline: &Timeline) -> Markup {
    let ahead = timeline
        .deadline
        .filter(|deadline| *deadline > timeline.now);
    let scale = Scale {
        from: timeline.from,
        until: ahead.unwrap_or(timeline.now),
    };
    let late = |stretch: &&Stretch| stretch.standing == Standing::Late;
    let times_late = timeline.stretches.iter().filter(late).count();
    let label = format!(
        "From {} to {}. Triggers: {}. Latenesses: {times_late}.",
        utc(timeline.from),
        utc(timeline.now),
        timeline.triggers.len(),
    );
    html! {
        svg.band viewBox=(format!("0 0 {WIDTH} 64")) preserveAspectRatio="none" role="img" aria-label=(label) {
            defs {
                pattern #hatched width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect.hatch width="3" height="8" {}
                }
                pattern #dotted width="8" height="8" patternUnits="userSpaceOnUse" {
                    circle.dot cx="2" cy="2" r="1.5" {}
                }
            }
            rect.ahead x=(scale.at(timeline.now)) y="24" height="24" width=(scale.width(timeline.now, scale.until)) {}
            @for stretch in &timeline.stretches {
                g.(code(stretch.standing)) {
                    title {
                        (stretch.standing.words()) " from " (utc(stretch.from)) " to " (utc(stretch.until))
                        " (" (span(stretch.until.since(stretch.from))) ")"
                    }
                    @let (x, width) = (scale.at(stretch.from), scale.width(stretch.from, stretch.until));
                    rect.ground x=(x) y="24" height="24" width=(width) {}
                    rect.texture x=(x) y="24" height="24" width=(width) {}
                }
            }
            path.triggers d=(ticks(&timeline.triggers, scale)) {}
            @if ahead.is_some() {
                path.now d=(format!("M{} 16v40", scale.at(timeline.now))) {}
            }
            @if let Some(deadline) = timeline.deadline {
                path.deadline d=(format!("M{} 8v48", scale.at(deadline))) { title { "deadline " (utc(deadline)) } }
            }
        }
        p.scale {
            span { (time(timeline.from, Wording::Clock)) }
            @if let Some(deadline) = ahead {
                span { "due " (time(deadline, Wording::Clock)) }
            } @else {
                span { "now" }
            }
        }
        ul.legend aria-hidden="true" {
            li.on-time { "on time" }
            li.late { "late" }
            li.paused { "paused" }
            li.trigger { "trigger" }
            li.deadline { "deadline" }
        }
    }
}

/// Where instants lie in the picture.
#[derive(Clone, Copy)]
struct Scale {
    from: Timestamp,
    until: Timestamp,
}

impl Scale {
    fn at(self, instant: Timestamp) -> i64 {
        let (from, until) = (self.from.millis(), self.until.millis());
        let whole = (until - from).max(1);
        (instant.millis().clamp(from, until.max(from)) - from) * WIDTH / whole
    }

    /// At least so wide that it can be seen.
    fn width(self, from: Timestamp, until: Timestamp) -> i64 {
        (self.at(until) - self.at(from)).max(1)
    }
}

/// A tick for each trigger; those in the same place are one.
fn ticks(triggers: &[Timestamp], scale: Scale) -> String {
    let mut places: Vec<i64> = triggers.iter().map(|at| scale.at(*at)).collect();
    places.dedup();
    let mut path = String::new();
    for x in places {
        let _ = write!(path, "M{x} 16v40");
    }
    path
}

/// The newest intervals as bars, against what was expected: a drift shows before it is a lateness.
fn strip(intervals: &[Interval], watcher: &Watcher) -> Markup {
    let newest = &intervals[intervals.len().saturating_sub(INTERVALS)..];
    let Some(longest) = newest.iter().map(|interval| interval.length).max() else {
        return html! {
            p.muted { "The intervals between triggers are shown here as soon as there are two." }
        };
    };
    let mut lengths: Vec<_> = newest.iter().map(|interval| interval.length).collect();
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    let periodicity = watcher.periodicity.span();
    let height = |interval: &Interval| {
        let part = interval.length.as_millis() * u128::from(PERIODICITY) / periodicity.as_millis();
        u64::try_from(part).unwrap_or(STRIP).clamp(1, STRIP)
    };
    let count = newest.len();
    html! {
        h3 { "Intervals between triggers" }
        svg.strip viewBox=(format!("0 0 {} {STRIP}", count * 10)) preserveAspectRatio="none" role="img"
            aria-label=(format!("The newest {count} intervals: median {}, longest {}, expected at most {}.", span(median), span(longest), every(watcher.periodicity))) {
            @for (index, interval) in newest.iter().enumerate() {
                @let height = height(interval);
                rect.over[interval.length > periodicity] x=(index * 10 + 1) y=(STRIP - height) width="8" height=(height) {
                    title { (span(interval.length)) ", until " (utc(interval.until)) }
                }
            }
            path.limit d=(format!("M0 {}H{}", STRIP - PERIODICITY, count * 10)) {}
        }
        p.scale {
            span { "median " (span(median)) ", longest " (span(longest)) }
            span { "line: " (every(watcher.periodicity)) }
        }
    }
}
