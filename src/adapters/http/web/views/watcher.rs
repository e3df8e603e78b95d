//! One watcher.

use maud::{Markup, html};

use super::form::act;
use super::{Frame, Wording, badge, every, time, timeline};
use crate::adapters::http::web::rooms::path;
use crate::adapters::http::web::scenes::code;
use crate::domain::{Standing, Timeline, Timestamp, Watcher};
use crate::ports::{DeliveryReport, DeliveryState, Record, Told};

/// How many events and deliveries are listed unless somebody wants all.
const EVENTS: usize = 50;
const DELIVERIES: usize = 20;

/// How a watcher stands, and how it stood.
pub(super) fn state(record: &Record, now: Timestamp) -> Markup {
    let watcher = &record.watcher;
    html! {
        div.title {
            h1 { bdi { (watcher.name) } }
            (badge(watcher.state.standing()))
        }
        @if !watcher.description.as_str().trim().is_empty() {
            p.description { (watcher.description.as_str().trim()) }
        }
        (facts(watcher))
        (timeline::section(&Timeline::of(watcher, &record.history, now), watcher))
    }
}

fn facts(watcher: &Watcher) -> Markup {
    let standing = watcher.state.standing();
    html! {
        dl.facts {
            div.due.(code(standing)) {
                @match watcher.state.deadline() {
                    Some(deadline) if standing == Standing::Late => {
                        dt { "Was due" }
                        dd { (time(deadline, Wording::Ago)) }
                    }
                    Some(deadline) => {
                        dt { "Due" }
                        dd { (time(deadline, Wording::Left)) }
                    }
                    None => {
                        dt { "Due" }
                        dd { "not while it is paused" }
                    }
                }
            }
            div { dt { "Last event" } dd { (time(watcher.last_event, Wording::Ago)) } }
            div { dt { "Expected every" } dd { (every(watcher.periodicity)) } }
            div {
                dt { "Mails go to" }
                dd {
                    @if watcher.recipients.is_empty() {
                        "nobody"
                    } @else {
                        ul { @for recipient in &watcher.recipients { li { bdi { (recipient) } } } }
                    }
                }
            }
        }
    }
}

/// The events.
pub(super) fn history(record: &Record, is_whole: bool) -> Markup {
    let all = record.history.len();
    let shown = if is_whole { all } else { all.min(EVENTS) };
    html! {
        section {
            h2 { "History" }
            table.history {
                caption.hidden { "Events, the newest first" }
                thead { tr { th scope="col" { "When" } th scope="col" { "What" } } }
                tbody {
                    @for event in &record.history[..shown] {
                        tr { td { (time(event.at, Wording::Clock)) } td { bdi { (event.text) } } }
                    }
                }
            }
            (rest(record, shown, all, "events"))
        }
    }
}

/// Who was told what, and who is still to be told.
pub(super) fn notices(record: &Record, deliveries: &[DeliveryReport], is_whole: bool) -> Markup {
    let all = deliveries.len();
    let shown = if is_whole { all } else { all.min(DELIVERIES) };
    html! {
        section {
            h2 { "Notices" }
            @if deliveries.is_empty() {
                p.muted { "No notices are known." }
            } @else {
                table.told role="table" {
                    caption.hidden { "Who was told what, the newest notice first" }
                    thead role="rowgroup" {
                        tr role="row" {
                            th role="columnheader" scope="col" { "When" }
                            th role="columnheader" scope="col" { "What" }
                            th role="columnheader" scope="col" { "To" }
                            th role="columnheader" scope="col" { "Delivery" }
                        }
                    }
                    tbody role="rowgroup" {
                        @for report in &deliveries[..shown] {
                            tr role="row" {
                                td.when role="cell" { (time(report.at, Wording::Clock)) }
                                td.what role="cell" {
                                    @match report.told {
                                        Told::Late => (badge(Standing::Late)),
                                        Told::Resumed => (badge(Standing::OnTime)),
                                    }
                                }
                                td.to role="cell" { bdi { (report.recipient) } }
                                td.how role="cell" { (delivery(report)) }
                            }
                        }
                    }
                }
                (rest(record, shown, all, "deliveries"))
            }
        }
    }
}

/// The way to what is not shown, if there is more.
fn rest(record: &Record, shown: usize, all: usize, what: &str) -> Markup {
    html! {
        @if shown < all {
            p {
                a href=(format!("{}?history=all", path::watcher(&record.watcher.slug))) {
                    "All " (all) " " (what)
                }
            }
        }
    }
}

fn delivery(report: &DeliveryReport) -> Markup {
    let tries = match report.attempts {
        0 => "not tried yet".to_owned(),
        1 => "tried once".to_owned(),
        tries => format!("tried {tries} times"),
    };
    html! {
        @match &report.state {
            DeliveryState::Delivered { at } => {
                "sent " (time(*at, Wording::Clock))
                @if report.attempts > 1 { ", " (tries) }
            }
            DeliveryState::Refused { at, reason } => {
                "refused " (time(*at, Wording::Clock)) ", " (tries)
                span.reason { bdi { (reason.as_str()) } }
            }
            DeliveryState::Owed { due, failure } => {
                "still to be sent, " (tries)
                @match due {
                    Some(due) if report.attempts > 0 => { ", next " (time(*due, Wording::Left)) }
                    Some(_) => {}
                    None => { ", after an earlier notice" }
                }
                @if let Some(reason) = failure { span.reason { bdi { (reason.as_str()) } } }
            }
        }
    }
}

/// What can be done with a watcher, and what its task has to call.
pub(super) fn tools(frame: &Frame, base: &str, watcher: &Watcher) -> Markup {
    html! {
        div.columns {
            (actions(frame, watcher))
            (calls(&format!("{base}/{}", watcher.id)))
        }
    }
}

fn actions(frame: &Frame, watcher: &Watcher) -> Markup {
    let page = path::watcher(&watcher.slug);
    html! {
        section.tools aria-labelledby="tools" {
            h2 #tools { "Actions" }
            (act(frame, watcher, "trigger", "Trigger", "What to say of it (optional)"))
            // Which of the two makes sense may change while the page is open, so both are there.
            div.when-running { (act(frame, watcher, "pause", "Pause", "Why it is paused (optional)")) }
            div.when-paused { (act(frame, watcher, "unpause", "Unpause", "Why the pause ends (optional)")) }
            p.actions {
                a.button href=(format!("{page}/edit")) { "Edit" }
                a.button.danger href=(format!("{page}/delete")) { "Delete" }
            }
        }
    }
}

fn calls(url: &str) -> Markup {
    html! {
        section.calls aria-labelledby="calls" {
            h2 #calls { "Trigger URL" }
            p { "The task calls this whenever it ran. Whoever knows it can trigger the watcher, and nothing else." }
            (ready("trigger-url", "trigger URL", url))
            p.hint { "What there is to say may be appended as " code { "?m=…" } ", and appears in the history." }
            @for (index, (name, lines)) in lines(url).iter().enumerate() {
                details {
                    summary { (name) }
                    (ready(&format!("lines-{index}"), name, lines))
                }
            }
        }
    }
}

/// Text that is there to be copied. The button appears where the script can copy.
fn ready(id: &str, name: &str, text: &str) -> Markup {
    html! {
        div.ready {
            pre tabindex="0" role="group" aria-label=(name) { code #(id) { (text) } }
            button.plain type="button" data-copy=(id) hidden { span { "Copy" } span.hidden { " " (name) } }
        }
    }
}

/// How tasks of all sorts call the trigger URL.
fn lines(url: &str) -> [(&'static str, String); 5] {
    let curl = format!("curl -fsS -m 10 --retry 5 --retry-all-errors -o /dev/null {url}");
    [
        (
            "cron",
            format!("0 3 * * *  /usr/local/bin/my-task && {curl}"),
        ),
        (
            "systemd",
            format!(
                "[Service]\nType=oneshot\nExecStart=/usr/local/bin/my-task\n\
                 # Runs only if the task has succeeded.\nExecStartPost=/usr/bin/{curl}"
            ),
        ),
        ("curl", curl),
        (
            "PowerShell",
            format!("Invoke-RestMethod -Uri \"{url}\" -TimeoutSec 10 | Out-Null"),
        ),
        (
            "Python",
            format!(
                "import urllib.request\n\nurllib.request.urlopen(\"{url}\", timeout=10).close()"
            ),
        ),
    ]
}
