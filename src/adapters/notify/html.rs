//! Notices as pages of HTML, for mail programs.
//!
//! Those differ in how much of it they take: each style stands where it counts, and nothing is loaded. A text has a colour
//! only where its ground has one too, so that light and dark are the reader's choice.

use maud::{DOCTYPE, Markup, html};

use crate::domain::{Content, Event, Notice, NoticeKind};

const COLUMN: &str = "max-width: 600px; margin: 0 auto; padding: 24px 16px; \
    font: 15px/1.5 system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; \
    word-break: break-word";
const WORD: &str = "display: inline-block; padding: 2px 10px; border-radius: 4px; \
    font-size: 13px; font-weight: 600; letter-spacing: 0.06em; color: #ffffff";
const NEWS: &str = "margin: 12px 0 0; font-size: 20px; line-height: 1.35; font-weight: 600";
const MORE: &str = "margin: 4px 0 0";
const HEADING: &str = "margin: 28px 0 4px; font-size: 15px; font-weight: 600";
const TABLE: &str = "width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums";
const CELL: &str = "border-bottom: 1px solid rgba(128, 128, 128, 0.35); \
    text-align: left; vertical-align: top; padding: 5px 0";
const LABEL: &str = "; padding-right: 16px; font-weight: 400; white-space: nowrap; opacity: 0.75";
// Small enough for a text beside it on a telephone.
const TIME: &str = "; padding-right: 12px; font-size: 13px; line-height: 22px; white-space: nowrap";
const WIDE: &str = "; width: 100%";
const BUTTON: &str = "display: inline-block; margin: 20px 0 0; padding: 9px 18px; \
    border-radius: 6px; background-color: #1f5fbf; color: #ffffff; \
    font-weight: 600; text-decoration: none";

/// The whole message as a document of its own.
pub(super) fn document(notice: &Notice, content: &Content) -> String {
    let (word, ground) = match notice.kind {
        NoticeKind::Late => ("LATE", "#b42318"),
        NoticeKind::Resumed { .. } => ("RESUMED", "#0b6b3a"),
    };
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                meta name="color-scheme" content="light dark";
                meta name="supported-color-schemes" content="light dark";
                // Programs are not to guess that numbers are for calling.
                meta name="format-detection" content="telephone=no, date=no, address=no";
                title { (notice.subject()) }
            }
            body style="margin: 0; padding: 0" {
                div style=(COLUMN) {
                    span style={ (WORD) "; background-color: " (ground) } { (word) }
                    @if let Some((first, more)) = content.news.split_first() {
                        h1 style=(NEWS) { (with_whole_times(first)) }
                        @for sentence in more { p style=(MORE) { (with_whole_times(sentence)) } }
                    }
                    (facts(&content.facts))
                    @if let Some(page) = &content.page {
                        a href=(page) style=(BUTTON) { "Open the watcher's page" }
                    }
                    (description(&content.description))
                    (events(&content.events))
                }
            }
        }
    };
    document.into_string()
}

/// A text whose times are not broken at their hyphens, where a line ends.
fn with_whole_times(text: &str) -> Markup {
    // A time with the mark that may follow it.
    const LONGEST: usize = "2015-03-19T02:08:44.885Z.".len();
    html! {
        @for (n, word) in text.split(' ').enumerate() {
            @if n > 0 { " " }
            @if word.contains('-') && word.len() <= LONGEST {
                span style="white-space: nowrap" { (word) }
            } @else {
                (word)
            }
        }
    }
}

fn facts(facts: &[(&str, String)]) -> Markup {
    html! {
        table style={ (TABLE) "; margin: 16px 0 0" } {
            @for (label, fact) in facts {
                tr {
                    th scope="row" style={ (CELL) (LABEL) } { (label) }
                    td style={ (CELL) (WIDE) } { (with_whole_times(fact)) }
                }
            }
        }
    }
}

fn description(lines: &[String]) -> Markup {
    html! {
        @if !lines.is_empty() {
            h2 style=(HEADING) { (Content::DESCRIPTION) }
            p style="margin: 0; white-space: pre-wrap" {
                @for (n, line) in lines.iter().enumerate() {
                    @if n > 0 { br; }
                    (line)
                }
            }
        }
    }
}

fn events(events: &[Event]) -> Markup {
    html! {
        @if !events.is_empty() {
            h2 style=(HEADING) { (Content::EVENTS) }
            table style=(TABLE) {
                thead {
                    tr {
                        th scope="col" style={ (CELL) (LABEL) } { "Time" }
                        th scope="col" style={ (CELL) (LABEL) } { "Event" }
                    }
                }
                tbody {
                    @for event in events {
                        tr {
                            td style={ (CELL) (TIME) } { (event.at) }
                            td style={ (CELL) (WIDE) } { (event.text) }
                        }
                    }
                }
            }
        }
    }
}
