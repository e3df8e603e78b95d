//! Answers for people.
//!
//! Instants are in UTC, as in mails and in the log of the service; how long ago they are is said by the service's
//! clock. Texts that others wrote reach no terminal as they are.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use chrono::{DateTime, TimeDelta, Utc};
use rustix::termios::tcgetwinsize;
use serde::Deserialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::domain::Periodicity;

/// How many events are shown.
const EVENTS: usize = 15;

/// A watcher as the service shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Watcher {
    name: String,
    description: String,
    id: String,
    slug: String,
    periodicity: f64,
    emails: Vec<String>,
    #[serde(flatten)]
    state: State,
    history: Vec<(String, String)>,
}

/// The state of a watcher as the service shows it.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) late: bool,
    pub(super) paused: bool,
    pub(super) deadline: Option<String>,
}

/// Standard output.
pub(super) struct Paper {
    out: BufWriter<StdoutLock<'static>>,
    colours: bool,
    /// How many columns there are, on a terminal.
    pub(super) columns: Option<usize>,
}

/// What draws the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    Bold,
    Red,
    Green,
    Yellow,
}

impl Paper {
    /// Standard output, in colours if it is a terminal and nobody minds.
    pub(super) fn stdout() -> Self {
        let out = io::stdout().lock();
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let is_terminal = out.is_terminal();
        let size = tcgetwinsize(&out).ok();
        let columns = size.map(|size| usize::from(size.ws_col));
        Self {
            colours: is_terminal && !is_dumb && !is_set("NO_COLOR"),
            columns: columns.filter(|columns| is_terminal && *columns > 0),
            out: BufWriter::new(out),
        }
    }

    /// Writes `text` in `ink`.
    pub(super) fn draw(&mut self, ink: Ink, text: &str) -> io::Result<()> {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Red => "31",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Plain => "",
        };
        if !self.colours || ink == Ink::Plain {
            return write!(self.out, "{text}");
        }
        write!(self.out, "\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Sees to it that all of it is written.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl State {
    /// The state in a word or two.
    pub(super) fn word(&self) -> (Ink, &'static str) {
        match (self.late, self.paused) {
            (true, _) => (Ink::Red, "late"),
            (_, true) => (Ink::Yellow, "paused"),
            _ => (Ink::Green, "on time"),
        }
    }

    /// When it is due as seen from `now`; nothing while it is paused.
    pub(super) fn due(&self, now: Option<DateTime<Utc>>) -> Option<String> {
        let deadline = self.deadline.as_deref()?;
        let Some(left) = instant(deadline).zip(now).map(|(at, now)| at - now) else {
            return Some(clean(deadline));
        };
        Some(if self.late || left < TimeDelta::zero() {
            format!("{} overdue", span(-left))
        } else {
            format!("in {}", span(left))
        })
    }
}

/// Writes what there is to know of a watcher, but for its history.
pub(super) fn facts(
    paper: &mut Paper,
    watcher: &Watcher,
    base: &str,
    now: Option<DateTime<Utc>>,
) -> io::Result<()> {
    paper.draw(Ink::Bold, &clean(&watcher.name))?;
    writeln!(paper)?;
    let (ink, word) = watcher.state.word();
    write!(paper, "  State        ")?;
    paper.draw(ink, word)?;
    writeln!(paper)?;
    let mut fact = |what: &str, value: &dyn Display| writeln!(paper, "  {what:<13}{value}");
    if let Some(deadline) = &watcher.state.deadline {
        let due = watcher.state.due(now).unwrap_or_default();
        fact("Due", &format!("{}, {due}", clean(deadline)))?;
    }
    let periodicity = Periodicity::from_seconds(watcher.periodicity);
    match periodicity {
        Ok(periodicity) => fact("Expected", &format!("every {periodicity}"))?,
        Err(_) => fact("Expected", &format!("every {} s", watcher.periodicity))?,
    }
    fact("Slug", &clean(&watcher.slug))?;
    fact("Identifier", &clean(&watcher.id))?;
    fact("Trigger URL", &format!("{base}/{}", clean(&watcher.id)))?;
    let told = clean(&watcher.emails.join(", "));
    let told = if told.is_empty() { "nobody" } else { &told };
    fact("Told", &told)?;
    for (index, line) in watcher.description.lines().enumerate() {
        fact(["Description", ""][index.min(1)], &clean(line))?;
    }
    Ok(())
}

/// Writes the newest events of a watcher.
pub(super) fn events(
    paper: &mut Paper,
    watcher: &Watcher,
    now: Option<DateTime<Utc>>,
) -> io::Result<()> {
    writeln!(paper, "\nNewest events, in UTC:\n")?;
    let ago: Vec<_> = watcher
        .history
        .iter()
        .take(EVENTS)
        .map(|(at, _)| since(at, now).unwrap_or_default())
        .collect();
    let widest = ago.iter().map(String::len).max().unwrap_or_default();
    for ((at, text), ago) in watcher.history.iter().zip(&ago) {
        let at = clean(at);
        writeln!(paper, "  {at}  {ago:>widest$}  {}", clean(text))?;
    }
    match watcher.history.len().checked_sub(EVENTS) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(paper, "  and {more} more, which --json shows"),
    }
}

/// How long ago an event was.
pub(super) fn since(at: &str, now: Option<DateTime<Utc>>) -> Option<String> {
    Some(format!("{} ago", span(now? - instant(at)?)))
}

fn instant(text: &str) -> Option<DateTime<Utc>> {
    let instant = DateTime::parse_from_rfc3339(text).ok()?;
    Some(instant.to_utc())
}

/// A span in the two largest units that it fills, rounded. It is known to the second, and what should lie ahead and
/// does not is no time at all.
pub(super) fn span(span: TimeDelta) -> String {
    let seconds = match span.num_seconds() {
        ..0 => 0,
        seconds @ ..3_600 => seconds,
        seconds @ ..86_400 => seconds + 30,
        seconds => seconds + 1_800,
    };
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let two = |first: i64, unit: &str, second: i64, next: &str| match second {
        0 => format!("{first}{unit}"),
        _ => format!("{first}{unit} {second}{next}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => two(minutes, "m", seconds % 60, "s"),
        (0, ..) => two(hours, "h", minutes, "m"),
        _ => two(days, "d", hours, "h"),
    }
}

/// `text` in one line, without anything that steers a terminal or turns around what follows it.
pub(super) fn clean(text: &str) -> String {
    let steers = |c: char| {
        let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        c.is_control() || turns
    };
    text.chars()
        .map(|c| if steers(c) { '\u{fffd}' } else { c })
        .collect()
}

/// How many columns `text` takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// As much of `text` as fits into so many columns.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or_default();
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_two_units() {
        for (seconds, said) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m 59s"),
            (3_600, "1h"),
            (3_661, "1h 1m"),
            (3_629, "1h"),
            (3_630, "1h 1m"),
            (86_399, "1d"),
            (89_999, "1d 1h"),
            (90_061, "1d 1h"),
            (864_000_000, "10000d"),
        ] {
            assert_eq!(span(TimeDelta::seconds(seconds)), said);
        }
    }

    #[test]
    fn texts_are_cut_by_what_they_take_on_a_screen() {
        assert_eq!(cut("Backup", 6), "Backup");
        assert_eq!(cut("Backups", 6), "Backu…");
        assert_eq!(cut("東京大阪", 8), "東京大阪");
        assert_eq!(cut("東京大阪", 7), "東京大…");
        assert_eq!(cut("東京大阪", 6), "東京…");
        assert_eq!(cut("x", 0), "…");
    }

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\nc\u{9b}d\u{202e}e"), "a�[2Jb��c�d�e");
        assert_eq!(clean("Größe 東京 👍"), "Größe 東京 👍");
    }
}
