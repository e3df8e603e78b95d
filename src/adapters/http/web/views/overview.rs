//! All watchers.

use maud::{Markup, html};

use super::{Wording, badge, every, time};
use crate::adapters::http::web::PAGE;
use crate::adapters::http::web::rooms::path;
use crate::adapters::http::web::scenes::code;
use crate::app::{Overview, Place, Selection};
use crate::domain::{Standing, Watcher};
use crate::ports::Census;

/// What stands above the list and stays while it changes.
pub(super) fn tools(selection: &Selection, words: &str) -> Markup {
    html! {
        h1.hidden { "Watchers" }
        form.search role="search" action=(path::OVERVIEW) {
            @if let Some(standing) = selection.standing {
                input type="hidden" name="state" value=(code(standing));
            }
            label.hidden for="q" { "Search in names, addresses and identifiers" }
            input #q type="search" name="q" value=(words) placeholder="Search names and addresses" maxlength="1000";
            button.plain { "Search" }
        }
    }
}

/// The counts and the list.
pub(super) fn list(
    selection: &Selection,
    words: &str,
    overview: &Overview,
    counts: &Census,
) -> Markup {
    let all = counts.late + counts.on_time + counts.paused;
    let of = |standing| match standing {
        Standing::Late => counts.late,
        Standing::OnTime => counts.on_time,
        Standing::Paused => counts.paused,
    };
    let chosen = selection.standing;
    html! {
        p.hidden role="status" { (summary(counts)) }
        nav.filters aria-label="States" {
            a href=(address(None, words, None)) aria-current=[chosen.is_none().then_some("page")] {
                "All " span.count { (all) }
            }
            @for standing in Standing::ALL {
                @let is_chosen = chosen == Some(standing);
                a.(code(standing)).none[of(standing) == 0] href=(address(Some(standing), words, None))
                    aria-current=[is_chosen.then_some("page")] {
                    (badge(standing)) " " span.count { (of(standing)) }
                }
            }
        }
        @if overview.watchers.is_empty() {
            (nothing(selection, words, all))
        } @else {
            (table(&overview.watchers))
        }
        @if selection.after.is_some() || overview.next.is_some() {
            nav.pages aria-label="Pages" {
                @if selection.after.is_some() {
                    a href=(address(chosen, words, None)) { "First page" }
                }
                @if let Some(next) = &overview.next {
                    a rel="next" href=(address(chosen, words, Some(next))) { "Next " (PAGE) }
                }
            }
        }
    }
}

fn table(watchers: &[Watcher]) -> Markup {
    html! {
        table.watchers role="table" {
            caption.hidden { "Watchers, the late ones first" }
            thead role="rowgroup" {
                tr role="row" {
                    th role="columnheader" scope="col" { "State" }
                    th role="columnheader" scope="col" { "Name" }
                    th role="columnheader" scope="col" { "Due" }
                    th role="columnheader" scope="col" { "Last event" }
                    th role="columnheader" scope="col" { "Expected every" }
                }
            }
            tbody role="rowgroup" {
                @for watcher in watchers {
                    (row(watcher))
                }
            }
        }
    }
}

fn row(watcher: &Watcher) -> Markup {
    let standing = watcher.state.standing();
    html! {
        tr.(code(standing)) role="row" data-key=(watcher.slug) {
            td.state role="cell" { (badge(standing)) }
            th.name role="rowheader" scope="row" {
                a href=(path::watcher(&watcher.slug)) { bdi { (watcher.name) } }
            }
            td.due role="cell" {
                @match watcher.state.deadline() {
                    Some(deadline) => (time(deadline, Wording::Left)),
                    None => { span.muted { "not expected" } }
                }
            }
            td.last role="cell" { (time(watcher.last_event, Wording::Ago)) }
            td.every role="cell" { (every(watcher.periodicity)) }
        }
    }
}

/// What is said where there is nothing to list.
fn nothing(selection: &Selection, words: &str, all: u64) -> Markup {
    html! {
        div.empty {
            @if all == 0 {
                p { "There are no watchers yet." }
                p { a.button href=(path::CREATE) { "Create the first one" } }
            } @else if !words.is_empty() {
                p { "No watcher has “" bdi { (words) } "” in its name, its addresses or its identifier." }
                p { a href=(address(selection.standing, "", None)) { "Show all" } }
            } @else {
                p { "There is none of these." }
                p { a href=(path::OVERVIEW) { "Show all" } }
            }
        }
    }
}

/// How it stands, in a sentence that is read out when it changes.
fn summary(counts: &Census) -> String {
    let Census {
        late,
        on_time,
        paused,
        ..
    } = counts;
    format!("{late} late, {on_time} on time, {paused} paused")
}

/// Where a part of the list is.
fn address(standing: Option<Standing>, words: &str, after: Option<&Place>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(standing) = standing {
        query.append_pair("state", code(standing));
    }
    if !words.is_empty() {
        query.append_pair("q", words);
    }
    if let Some(Place { standing, slug }) = after {
        query.append_pair("after", &format!("{}:{slug}", code(*standing)));
    }
    let query = query.finish();
    if query.is_empty() {
        path::OVERVIEW.to_owned()
    } else {
        format!("{}?{query}", path::OVERVIEW)
    }
}
