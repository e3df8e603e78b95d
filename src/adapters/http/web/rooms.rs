//! What the paths lead to.

use percent_encoding::percent_decode_str;
use poem::Request;

use crate::domain::Slug;

/// The paths, as the pages themselves write them.
pub(super) mod path {
    pub(in crate::adapters::http::web) use crate::app::config::page_path as watcher;

    pub(in crate::adapters::http::web) const OVERVIEW: &str = "/ui/";
    pub(in crate::adapters::http::web) const CREATE: &str = "/ui/create";
    pub(in crate::adapters::http::web) const SIGN_IN: &str = "/ui/sign-in";
    pub(in crate::adapters::http::web) const SIGN_OUT: &str = "/ui/sign-out";
}

/// What a path leads to.
pub(super) enum Room {
    Overview,
    Create,
    SignIn,
    SignOut,
    Watcher(Slug),
    Edit(Slug),
    Delete(Slug),
    Act(Slug, Act),
}

/// What is done to a watcher by one button.
#[derive(Clone, Copy)]
pub(super) enum Act {
    Trigger,
    Pause,
    Unpause,
}

impl Room {
    /// What `path`, which begins with `/ui/`, leads to.
    pub(super) fn find(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix(path::OVERVIEW)?.split('/').collect();
        let slug = |slug: &str| {
            let slug = percent_decode_str(slug).decode_utf8().ok()?;
            Some(Slug::from_text(slug.into_owned()))
        };
        Some(match parts[..] {
            [""] => Self::Overview,
            ["create"] => Self::Create,
            ["sign-in"] => Self::SignIn,
            ["sign-out"] => Self::SignOut,
            ["watchers", of] => Self::Watcher(slug(of)?),
            ["watchers", of, "edit"] => Self::Edit(slug(of)?),
            ["watchers", of, "delete"] => Self::Delete(slug(of)?),
            ["watchers", of, "trigger"] => Self::Act(slug(of)?, Act::Trigger),
            ["watchers", of, "pause"] => Self::Act(slug(of)?, Act::Pause),
            ["watchers", of, "unpause"] => Self::Act(slug(of)?, Act::Unpause),
            _ => return None,
        })
    }

    /// The methods that it answers, as in the header `Allow`.
    pub(super) const fn allow(&self) -> &'static str {
        match self {
            Self::Overview | Self::Watcher(_) => "GET, HEAD",
            Self::Create | Self::SignIn | Self::Edit(_) | Self::Delete(_) => "GET, HEAD, POST",
            Self::SignOut | Self::Act(..) => "POST",
        }
    }
}

/// The path and query that were asked for.
pub(super) fn target(request: &Request) -> String {
    let target = request.uri().path_and_query();
    target.map_or_else(|| path::OVERVIEW.to_owned(), ToString::to_string)
}

/// `to`, if it is one of our pages: nobody is to be led elsewhere by a sign-in.
pub(super) fn local(to: &str) -> &str {
    // Browsers take backslashes for slashes, and make `/docs` of `/ui/../docs`.
    let is_plain = |c: char| c.is_ascii_graphic() && c != '\\';
    let path = to.split(['?', '#']).next().unwrap_or_default();
    let is_page = Room::find(path).is_some_and(|room| room.allow() != "POST");
    if is_page && to.chars().all(is_plain) {
        to
    } else {
        path::OVERVIEW
    }
}
