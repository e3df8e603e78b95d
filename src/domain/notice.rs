//! What people are told, and in which words.

use std::fmt::{self, Write as _};
use std::time::Duration;

use uuid::Uuid;

use super::{Description, Event, Name, Periodicity, Recipient, Slug, Timestamp};

/// A change of a watcher that people have to hear of, with all that it takes to tell them later.
///
/// It holds the facts of its own moment: a mail that leaves after a day's retries says what was so then. Only the
/// events that a message shows are looked up when it leaves, as far as the history still has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Tells this notice from every other one; a repeat of the same notice has the same.
    pub id: NoticeId,
    /// What happened.
    pub kind: NoticeKind,
    /// When it was decided.
    pub at: Timestamp,
    /// The watcher's name.
    pub name: Name,
    /// The watcher's description.
    pub description: Description,
    /// How often the watcher was expected to report.
    pub periodicity: Periodicity,
    /// The deadline that was missed.
    pub deadline: Timestamp,
    /// The newest event of the watcher's history: for a resumption by a trigger, that trigger.
    pub last_event: Timestamp,
    /// Everybody who is to be told; each is told, and retried, apart from the others.
    pub recipients: Vec<Recipient>,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// The deadline has passed.
    Late,
    /// The watcher is no longer late.
    Resumed {
        /// The notice of the lateness that has ended; absent if it was told by another program.
        late: Option<NoticeId>,
        /// When the watcher has to be heard from next.
        next_deadline: Timestamp,
    },
}

/// The identity of a notice, the base of a mail's Message-ID.
///
/// It is derived from facts that no two notices share, and the watcher's identifier is not among them:
/// that one must not leave in a mail, since it is what protects the trigger URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NoticeId(Uuid);

impl NoticeId {
    const NAMESPACE: Uuid = Uuid::from_u128(0x6f5b_6d1c_0c3e_4b0a_9a53_2d6e_1f7c_8e24);

    pub(super) fn derive(word: &str, slug: &Slug, deadline: Timestamp, at: Timestamp) -> Self {
        let facts = format!("{word}\n{slug}\n{}\n{}", deadline.millis(), at.millis());
        Self(Uuid::new_v5(&Self::NAMESPACE, facts.as_bytes()))
    }

    /// Reads an identity as [`fmt::Display`] wrote it; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

/// Hexadecimal digits and hyphens only.
impl fmt::Display for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl NoticeKind {
    /// `late` or `resumed`, for logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Resumed { .. } => "resumed",
        }
    }
}

impl Notice {
    /// How many of the newest events a message shows.
    pub const EVENTS_SHOWN: usize = 15;

    /// One line that tells the kind and the watcher: people filter on how it begins.
    #[must_use]
    pub fn subject(&self) -> String {
        let name = one_line(self.name.as_str());
        match self.kind {
            NoticeKind::Late => format!("[LATE] {name} has not reported"),
            NoticeKind::Resumed { .. } => format!("[RESUMED] {name} is reporting again"),
        }
    }

    /// What the message says; `page` is where people find out more, if there is such a place.
    ///
    /// `events` are the newest ones of the history as it was when the notice was decided, newest first.
    #[must_use]
    pub fn content(&self, events: &[Event], page: Option<String>) -> Content {
        let name = one_line(self.name.as_str());
        let every = exactly(self.periodicity.span());
        let mut facts = Vec::new();
        let news = match self.kind {
            NoticeKind::Late => {
                let silence = roughly(self.deadline.since(self.last_event));
                facts.push(("Due by", self.deadline.to_string()));
                facts.push((
                    "Last event",
                    format!("{}, {silence} before", self.last_event),
                ));
                facts.push(("Expected", format!("every {every}")));
                let delay = self.at.since(self.deadline);
                if delay >= Duration::from_secs(1) {
                    facts.push(("Noticed", format!("{}, {} after", self.at, roughly(delay))));
                }
                vec![
                    format!("{name} has not reported."),
                    format!("It was due by {}.", self.deadline),
                ]
            }
            NoticeKind::Resumed { next_deadline, .. } => {
                let late_by = roughly(self.at.since(self.deadline));
                facts.push(("Was due by", format!("{}, {late_by} before", self.deadline)));
                facts.push(("Next due by", next_deadline.to_string()));
                facts.push(("Expected", format!("every {every}")));
                vec![if self.last_event == self.at {
                    format!("{name} is reporting again, since {}.", self.at)
                } else {
                    format!(
                        "{name} is no longer late, since {}: its periodicity was changed.",
                        self.at
                    )
                }]
            }
        };
        let description = self.description.as_str().trim().lines();
        let events = events.iter().take(Self::EVENTS_SHOWN).map(|event| Event {
            at: event.at,
            text: one_line(&event.text),
        });
        Content {
            news,
            facts,
            page,
            description: description.map(one_line).collect(),
            events: events.collect(),
        }
    }
}

/// What a message says, whatever it looks like. No text in it has a line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What happened, in sentences; there is at least one.
    pub news: Vec<String>,
    /// What is to be known about it, each with its label; times are in UTC.
    pub facts: Vec<(&'static str, String)>,
    /// The URL of the watcher's page.
    pub page: Option<String>,
    /// The lines of the watcher's description; none if it is blank.
    pub description: Vec<String>,
    /// The newest events, newest first.
    pub events: Vec<Event>,
}

impl Content {
    /// What the description is headed by.
    pub const DESCRIPTION: &str = "What it is";
    /// What the events are headed by.
    pub const EVENTS: &str = "Newest events, in UTC";

    /// The message as plain text, its lines ended by a line feed.
    #[must_use]
    pub fn plain_text(&self) -> String {
        let mut text = format!("{}\n\n", self.news.join(" "));
        // Nothing may follow a URL on its line: mail programs would take it for a part of the link.
        let page = self.page.as_deref().map(|page| ("Page", page));
        let facts = self
            .facts
            .iter()
            .map(|(label, fact)| (*label, fact.as_str()));
        for (label, fact) in facts.chain(page) {
            let _ = writeln!(text, "  {label:<12} {fact}");
        }
        if !self.description.is_empty() {
            let _ = writeln!(text, "\n{}:\n", Self::DESCRIPTION);
            for line in &self.description {
                let _ = writeln!(text, "  {line}");
            }
        }
        if !self.events.is_empty() {
            let _ = writeln!(text, "\n{}:\n", Self::EVENTS);
            for event in &self.events {
                let _ = writeln!(text, "  {}  {}", event.at, event.text);
            }
        }
        text
    }
}

/// `text` without anything that would break a line or a header, steer a terminal, or turn what follows it
/// around.
fn one_line(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| if steers(c) { ' ' } else { c })
        .collect()
}

/// A span as a person would say it: in the two largest units that it fills.
fn roughly(span: Duration) -> String {
    in_units(span, 2)
}

/// A span with nothing left out.
fn exactly(span: Duration) -> String {
    in_units(span, usize::MAX)
}

fn in_units(span: Duration, most: usize) -> String {
    const UNITS: [(&str, u128); 3] = [("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000)];
    let count_of =
        |count: u128, unit| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    let mut rest = span.as_millis();
    let mut parts = Vec::new();
    for (unit, millis) in UNITS {
        if rest >= millis {
            parts.push(count_of(rest / millis, unit));
        } else if !parts.is_empty() && most != usize::MAX {
            // What comes after a gap is too small to matter beside what comes before it.
            return parts.join(" ");
        }
        rest %= millis;
        if parts.len() == most {
            return parts.join(" ");
        }
    }
    let (seconds, millis) = (rest / 1_000, rest % 1_000);
    if millis > 0 && (parts.is_empty() || most == usize::MAX) {
        let fraction = format!("{millis:03}");
        parts.push(format!(
            "{seconds}.{} seconds",
            fraction.trim_end_matches('0')
        ));
    } else if seconds > 0 || parts.is_empty() {
        parts.push(count_of(seconds, "second"));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late() -> Notice {
        let last_event = Timestamp::from_millis(1_426_727_324_885);
        let deadline = last_event.after(Duration::from_hours(1));
        Notice {
            id: NoticeId(Uuid::nil()),
            kind: NoticeKind::Late,
            at: deadline.next(),
            name: Name::from_stored("Nightly\r\nbackup".to_owned()),
            description: Description::default(),
            periodicity: Periodicity::from_seconds(3600.0).expect("a periodicity"),
            deadline,
            last_event,
            recipients: vec![],
        }
    }

    fn text(notice: &Notice, events: &[Event]) -> String {
        notice.content(events, None).plain_text()
    }

    #[test]
    fn a_late_notice_says_what_was_expected_and_what_came_last() {
        let events = vec![Event {
            at: late().last_event,
            text: "Triggered (a\nb)".to_owned(),
        }];
        let notice = Notice {
            description: Description::from_stored("db1\nask Ann\n".to_owned()),
            ..late()
        };
        assert_eq!(notice.subject(), "[LATE] Nightly  backup has not reported");
        assert_eq!(
            text(&notice, &events),
            "Nightly  backup has not reported. It was due by 2015-03-19T02:08:44.885Z.\n\
             \n\
             \x20 Due by       2015-03-19T02:08:44.885Z\n\
             \x20 Last event   2015-03-19T01:08:44.885Z, 1 hour before\n\
             \x20 Expected     every 1 hour\n\
             \n\
             What it is:\n\
             \n\
             \x20 db1\n\
             \x20 ask Ann\n\
             \n\
             Newest events, in UTC:\n\
             \n\
             \x20 2015-03-19T01:08:44.885Z  Triggered (a b)\n"
        );
    }

    #[test]
    fn a_late_notice_says_so_when_it_was_noticed_late() {
        let at = late().deadline.after(Duration::from_secs(90));
        let body = text(&Notice { at, ..late() }, &[]);
        assert!(
            body.contains("  Noticed      2015-03-19T02:10:14.885Z, 1 minute 30 seconds after\n"),
            "{body}"
        );
    }

    #[test]
    fn a_resumed_notice_says_since_when_and_until_when() {
        let at = late().deadline.after(Duration::from_mins(12));
        let kind = NoticeKind::Resumed {
            late: None,
            next_deadline: at.after(Duration::from_hours(1)),
        };
        let notice = Notice {
            kind,
            at,
            last_event: at,
            ..late()
        };
        assert_eq!(
            notice.subject(),
            "[RESUMED] Nightly  backup is reporting again"
        );
        assert_eq!(
            text(&notice, &[]),
            "Nightly  backup is reporting again, since 2015-03-19T02:20:44.885Z.\n\
             \n\
             \x20 Was due by   2015-03-19T02:08:44.885Z, 12 minutes before\n\
             \x20 Next due by  2015-03-19T03:20:44.885Z\n\
             \x20 Expected     every 1 hour\n"
        );
        let by_update = Notice {
            last_event: late().last_event,
            ..notice
        };
        assert!(text(&by_update, &[]).contains("its periodicity was changed"));
    }

    #[test]
    fn a_link_to_the_page_stands_among_the_facts_and_ends_its_line() {
        let page = "https://watch.example.com/ui/watchers/nightly-backup";
        let notice = Notice {
            description: Description::from_stored("db1".to_owned()),
            ..late()
        };
        assert_eq!(
            notice.content(&[], Some(page.to_owned())).plain_text(),
            "Nightly  backup has not reported. It was due by 2015-03-19T02:08:44.885Z.\n\
             \n\
             \x20 Due by       2015-03-19T02:08:44.885Z\n\
             \x20 Last event   2015-03-19T01:08:44.885Z, 1 hour before\n\
             \x20 Expected     every 1 hour\n\
             \x20 Page         https://watch.example.com/ui/watchers/nightly-backup\n\
             \n\
             What it is:\n\
             \n\
             \x20 db1\n"
        );
    }

    #[test]
    fn at_most_fifteen_events_are_shown() {
        let events = vec![
            Event {
                at: late().at,
                text: "Triggered".to_owned()
            };
            20
        ];
        assert_eq!(text(&late(), &events).matches("Triggered").count(), 15);
    }

    #[test]
    fn spans_are_said_roughly_or_exactly() {
        for (millis, rough, exact) in [
            (0, "0 seconds", "0 seconds"),
            (1, "0.001 seconds", "0.001 seconds"),
            (1_000, "1 second", "1 second"),
            (1_250, "1.25 seconds", "1.25 seconds"),
            (60_000, "1 minute", "1 minute"),
            (61_500, "1 minute 1 second", "1 minute 1.5 seconds"),
            (3_660_000, "1 hour 1 minute", "1 hour 1 minute"),
            (3_601_000, "1 hour", "1 hour 1 second"),
            (90_061_000, "1 day 1 hour", "1 day 1 hour 1 minute 1 second"),
            (172_800_000, "2 days", "2 days"),
        ] {
            let span = Duration::from_millis(millis);
            assert_eq!(
                (roughly(span).as_str(), exactly(span).as_str()),
                (rough, exact),
                "{millis}"
            );
        }
    }

    #[test]
    fn what_turns_text_around_stays_out() {
        let name = Name::from_stored("a\u{202e}b\u{2028}c\u{7}d".to_owned());
        assert_eq!(
            Notice { name, ..late() }.subject(),
            "[LATE] a b c d has not reported"
        );
    }
}
