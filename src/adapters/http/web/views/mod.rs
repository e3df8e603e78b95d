//! How pages look, as HTML. Templates are checked when the program is compiled, and escape whatever they show.

mod form;
mod overview;
mod timeline;
mod watcher;

use std::time::Duration;

use maud::{DOCTYPE, Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub(super) use self::form::{WatcherForm, delete, form, sign_in};
use super::rooms::path;
use super::scenes::{Scene, Shown, code};
use super::{Rejection, assets};
use crate::app::version;
use crate::domain::{Periodicity, Standing, Timestamp};

/// What stands around every page.
pub(super) struct Frame {
    /// What the page is called; the program's name comes after it.
    pub(super) title: String,
    pub(super) icon: Icon,
    /// The token of forms.
    pub(super) token: String,
    /// Whether everybody may do everything.
    pub(super) is_open: bool,
    pub(super) is_signed_in: bool,
    /// Whether the page goes on by itself.
    pub(super) is_live: bool,
    pub(super) now: Timestamp,
}

/// What the icon of a page tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Icon {
    Calm,
    Late,
}

impl Icon {
    fn path(self) -> &'static str {
        match self {
            Self::Calm => &assets::CALM.path,
            Self::Late => &assets::LATE.path,
        }
    }
}

/// The sign-in page that leads back to `to`.
pub(super) fn sign_in_path(to: &str) -> String {
    let to = utf8_percent_encode(to, NON_ALPHANUMERIC);
    format!("{}?to={to}", path::SIGN_IN)
}

/// A scene, in its frame. `done` is what has just been done to it, in a word of ours.
pub(super) fn scene(frame: &Frame, scene: &Scene, shown: &Shown, done: Option<&str>) -> Markup {
    let done = done.and_then(said);
    let content = html! {
        @if let Some(done) = done {
            p.notice role="status" { (done) }
        }
        @match (scene, shown) {
            (Scene::Overview { selection, words }, Shown::Overview { .. }) => {
                (overview::tools(selection, words))
                (live(scene, shown, frame.now))
            }
            (Scene::Watcher { base, .. }, Shown::Watcher { record, .. }) => {
                (live(scene, shown, frame.now))
                (watcher::tools(frame, base, &record.watcher))
                (past(scene, shown))
            }
            _ => {}
        }
    };
    framed(frame, &content)
}

/// All parts of a scene that go on by themselves.
pub(super) fn living(scene: &Scene, shown: &Shown, now: Timestamp) -> Markup {
    html! {
        (live(scene, shown, now))
        (past(scene, shown))
    }
}

/// The part of a scene that tells of the present.
fn live(scene: &Scene, shown: &Shown, now: Timestamp) -> Markup {
    html! {
        div #live .part data-title=(whole_title(&shown.title())) data-icon=(shown.icon().path())
            data-standing=[shown.standing().map(code)] data-now=(now.millis()) {
            @match (scene, shown) {
                (Scene::Overview { selection, words }, Shown::Overview { overview, counts }) => {
                    (overview::list(selection, words, overview, counts))
                }
                (_, Shown::Watcher { record, .. }) => (watcher::state(record, now)),
                _ => {}
            }
        }
    }
}

/// The part of a scene that tells of what was.
fn past(scene: &Scene, shown: &Shown) -> Markup {
    html! {
        @if let (Scene::Watcher { is_whole, .. }, Shown::Watcher { record, deliveries }) = (scene, shown) {
            div #past .part {
                (watcher::notices(record, deliveries, *is_whole))
                (watcher::history(record, *is_whole))
            }
        }
    }
}

/// A page that says why something was not done.
pub(super) fn refusal(rejection: &Rejection) -> Markup {
    let status = rejection.status();
    let title = match status.as_u16() {
        404 => "Not found",
        503 => "Not available",
        500 => "Something went wrong",
        _ => "This was not done",
    };
    let content = html! {
        h1 { (title) }
        p { (sentence(rejection)) }
        p { a href=(path::OVERVIEW) { "All watchers" } }
    };
    document(
        title,
        Icon::Calm,
        None,
        &html! {
            (masthead(None))
            main #main tabindex="-1" { (content) }
        },
    )
}

/// A page that asks for itself once more, from here.
pub(super) fn bounce(to: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content=(format!("0; url={to}"));
                title { "Night’s Watch" }
                link rel="icon" type="image/svg+xml" href=(assets::CALM.path);
            }
            body { main { p { a href=(to) { "Go on to Night’s Watch" } } } }
        }
    }
}

/// What can be told to have been done; addresses can say what they want.
fn said(done: &str) -> Option<&'static str> {
    Some(match done {
        "created" => "Created. Let the task call the trigger URL whenever it ran.",
        "saved" => "Saved.",
        "unchanged" => "Everything was so already.",
        "triggered" => "Triggered.",
        "paused" => "Paused. Nobody is told anything until it is unpaused or triggered.",
        "unpaused" => "Unpaused. It has the whole periodicity from now.",
        "deleted" => "Deleted.",
        _ => return None,
    })
}

/// A rejection as a sentence: those of the interface begin small and end without a full stop.
pub(super) fn sentence(rejection: &Rejection) -> String {
    let text = rejection.to_string();
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(letters).collect();
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

fn whole_title(title: &str) -> String {
    if title.is_empty() {
        "Night’s Watch".to_owned()
    } else {
        format!("{title} · Night’s Watch")
    }
}

fn framed(frame: &Frame, content: &Markup) -> Markup {
    let body = html! {
        (masthead(Some(frame)))
        @if frame.is_open {
            aside.open aria-label="Warning" {
                strong { "Open to everybody. " }
                "Whoever reaches this address can change watchers, since no " code { "auth_key" } " is set."
            }
        }
        p #lost .lost role="alert" hidden { "The connection is lost. What you see may be outdated." }
        main #main tabindex="-1" { (content) }
        footer {
            p { "Times are in " span #zone { "UTC" } "." }
            p { "Night’s Watch " (version::FULL) " · " a href="/docs" { "API" } }
        }
    };
    document(&frame.title, frame.icon, Some(frame), &body)
}

fn document(title: &str, icon: Icon, frame: Option<&Frame>, body: &Markup) -> Markup {
    let is_live = frame.is_some_and(|frame| frame.is_live);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (whole_title(title)) }
                link #icon rel="icon" type="image/svg+xml" href=(icon.path()) data-lost=(assets::LOST.path);
                link rel="stylesheet" href=(assets::STYLE.path);
                script src=(assets::SCRIPT.path) defer {}
            }
            body data-live[is_live] { (body) }
        }
    }
}

fn masthead(frame: Option<&Frame>) -> Markup {
    let may = frame.is_some_and(|frame| frame.is_open || frame.is_signed_in);
    html! {
        a.skip href="#main" { "Skip to the content" }
        header {
            a.brand href=(path::OVERVIEW) { (moon()) "Night’s Watch" }
            @if let Some(frame) = frame.filter(|_| may) {
                nav aria-label="Main" {
                    a href=(path::OVERVIEW) { "Watchers" }
                    a href=(path::CREATE) { "New watcher" }
                    @if frame.is_signed_in && !frame.is_open {
                        form method="post" action=(path::SIGN_OUT) {
                            (token(frame))
                            button.plain { "Sign out" }
                        }
                    }
                }
            }
        }
    }
}

fn token(frame: &Frame) -> Markup {
    html! { input type="hidden" name="token" value=(frame.token); }
}

fn moon() -> Markup {
    html! {
        svg.moon viewBox="0 0 24 24" aria-hidden="true" {
            path d="M20.4 14.6A9 9 0 1 1 9.4 3.6a7.2 7.2 0 0 0 11 11z" {}
        }
    }
}

/// A standing by shape, word and colour.
fn badge(standing: Standing) -> Markup {
    let shape = match standing {
        Standing::Late => "M12 2 23 21H1zM12 9v5.5M12 17.6v.4",
        Standing::OnTime => "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zM7.5 12.5l3 3 6-6.5",
        Standing::Paused => "M3 3h18v18H3zM9.5 8v8M14.5 8v8",
    };
    html! {
        span.badge.(code(standing)) {
            svg viewBox="0 0 24 24" aria-hidden="true" { path d=(shape) {} }
            (standing.words())
        }
    }
}

/// How the script words an instant.
#[derive(Clone, Copy)]
enum Wording {
    /// As date and time.
    Clock,
    /// As how long ago it was.
    Ago,
    /// As how long there is left, or how long it has been due.
    Left,
}

/// An instant: in UTC here, and in the visitor's zone where the script has its way.
fn time(at: Timestamp, wording: Wording) -> Markup {
    let wording = match wording {
        Wording::Clock => "clock",
        Wording::Ago => "ago",
        Wording::Left => "left",
    };
    html! {
        time datetime=(at) data-wording=(wording) title=(utc(at)) { (utc(at)) }
    }
}

/// An instant in UTC, to the second, for people.
fn utc(at: Timestamp) -> String {
    let whole = at.to_string().replacen('T', " ", 1);
    let seconds = whole.split('.').next().unwrap_or(&whole);
    format!("{} UTC", seconds.trim_end_matches('Z'))
}

/// A span for people, in its largest two units.
fn span(span: Duration) -> String {
    in_units(span, 2)
}

/// A periodicity for people, with nothing left out.
fn every(periodicity: Periodicity) -> String {
    in_units(periodicity.span(), usize::MAX)
}

/// The same words as those of the script, which counts on.
fn in_units(span: Duration, most: usize) -> String {
    const UNITS: [(&str, u128); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("min", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut rest = span.as_millis();
    let first = UNITS.iter().position(|(_, size)| rest >= *size);
    let mut parts = Vec::new();
    for (unit, size) in UNITS.iter().skip(first.unwrap_or(4)).take(most) {
        if rest / size > 0 {
            parts.push(format!("{} {unit}", rest / size));
        }
        rest %= size;
    }
    if parts.is_empty() {
        return "0 s".to_owned();
    }
    parts.join(" ")
}
