//! Forms.

use maud::{Markup, html};

use super::{Frame, badge, framed, token};
use crate::adapters::http::web::forms::{Complaints, Entries};
use crate::adapters::http::web::rooms::path;
use crate::domain::{Comment, Description, Name, Slug, Watcher};

/// What a form about a watcher is for.
pub(in crate::adapters::http::web) enum WatcherForm<'a> {
    Create,
    /// What it shows, before anything is typed.
    Edit {
        shown: &'a Entries,
        slug: &'a Slug,
    },
}

/// A form for all that can be said about a watcher.
pub(in crate::adapters::http::web) fn form(
    frame: &Frame,
    form: &WatcherForm,
    entries: &Entries,
    complaints: &Complaints,
) -> Markup {
    let (action, back) = match form {
        WatcherForm::Create => (path::CREATE.to_owned(), path::OVERVIEW.to_owned()),
        WatcherForm::Edit { slug, .. } => {
            let page = path::watcher(slug);
            (format!("{page}/edit"), page)
        }
    };
    let content = html! {
        @match form {
            WatcherForm::Create => { h1 { "New watcher" } }
            WatcherForm::Edit { shown, .. } => { h1 { "Edit " bdi { (shown.name) } } }
        }
        @if let Some(complaint) = &complaints.form {
            p.complaint role="alert" { (complaint) }
        } @else if !complaints.is_empty() {
            p.complaint role="alert" { "Nothing was saved yet. Something below needs another look." }
        }
        // What is wrong is said here, in the same words everywhere, and not by the browser.
        form.entries method="post" action=(action) novalidate {
            (token(frame))
            @if let WatcherForm::Edit { shown, .. } = form {
                input type="hidden" name="id" value=(shown.id);
                @for (name, value) in shown.fields() {
                    input type="hidden" name=(format!("{}{name}", Entries::SHOWN)) value=(value);
                }
            }
            (field("name", "Name", "What people call it, such as “Nightly backup”.", complaints.name.as_deref(), |described, is_wrong| html! {
                input #name name="name" value=(entries.name) required maxlength=(Name::MAX_CHARS)
                    autocomplete="off" aria-describedby=(described) aria-invalid=[is_wrong];
            }))
            (field("periodicity", "Periodicity", "How long it may stay silent: 90s, 15m, 25h, 7d or 1h30m. Allow some more time than the task’s schedule has.", complaints.periodicity.as_deref(), |described, is_wrong| html! {
                input #periodicity name="periodicity" value=(entries.periodicity) required
                    autocomplete="off" aria-describedby=(described) aria-invalid=[is_wrong];
            }))
            (field("description", "Description", "What it is for, and what to do when it is late. Mails show it.", complaints.description.as_deref(), |described, is_wrong| html! {
                textarea #description name="description" rows="3" maxlength=(Description::MAX_CHARS)
                    aria-describedby=(described) aria-invalid=[is_wrong] { "\n" (entries.description) }
            }))
            (field("addresses", "Addresses", "Who gets a mail when it is late, and when it is back; one on each line.", complaints.addresses.as_deref(), |described, is_wrong| html! {
                textarea #addresses name="addresses" rows="3" autocapitalize="off" spellcheck="false"
                    aria-describedby=(described) aria-invalid=[is_wrong] { "\n" (entries.addresses) }
            }))
            @if let WatcherForm::Create = form {
                p.check {
                    input #paused type="checkbox" name="paused" value="yes" checked[entries.paused];
                    label for="paused" { "Begin paused" }
                }
            }
            p.actions {
                button { @match form {
                    WatcherForm::Create => "Create watcher",
                    WatcherForm::Edit { .. } => "Save",
                } }
                a href=(back) { "Cancel" }
            }
        }
    };
    framed(frame, &content)
}

/// A label, what it is about, what was wrong with it, and the control.
fn field(
    name: &str,
    label: &str,
    hint: &str,
    complaint: Option<&str>,
    control: impl Fn(&str, Option<&str>) -> Markup,
) -> Markup {
    let (hint_id, complaint_id) = (format!("{name}-hint"), format!("{name}-complaint"));
    let described = match complaint {
        Some(_) => format!("{complaint_id} {hint_id}"),
        None => hint_id.clone(),
    };
    html! {
        div.field.wrong[complaint.is_some()] {
            label for=(name) { (label) }
            @if let Some(complaint) = complaint {
                p.complaint #(complaint_id) { (complaint) }
            }
            (control(&described, complaint.map(|_| "true")))
            p.hint #(hint_id) { (hint) }
        }
    }
}

/// The page that asks whether a watcher is really to be deleted.
pub(in crate::adapters::http::web) fn delete(frame: &Frame, watcher: &Watcher) -> Markup {
    let page = path::watcher(&watcher.slug);
    let content = html! {
        h1 { "Delete " bdi { (watcher.name) } "?" }
        p { (badge(watcher.state.standing())) }
        p {
            "Its history goes with it, and whatever was still to be told of it. Its trigger URL stops working. "
            "This cannot be undone."
        }
        form method="post" action=(format!("{page}/delete")) {
            (token(frame))
            input type="hidden" name="id" value=(watcher.id);
            p.actions {
                button.danger { "Delete this watcher" }
                a href=(page) { "Keep it" }
            }
        }
    };
    framed(frame, &content)
}

/// The page that asks for the key.
pub(in crate::adapters::http::web) fn sign_in(
    frame: &Frame,
    to: &str,
    complaint: Option<&str>,
) -> Markup {
    let content = html! {
        div.gate {
            h1 { "Sign in" }
            form method="post" action=(path::SIGN_IN) {
                (token(frame))
                input type="hidden" name="to" value=(to);
                div.field.wrong[complaint.is_some()] {
                    label for="key" { "Key" }
                    @if let Some(complaint) = complaint {
                        p.complaint #key-complaint role="alert" { (complaint) }
                    }
                    input #key type="password" name="key" required autofocus autocomplete="current-password"
                        aria-describedby=(if complaint.is_some() { "key-complaint key-hint" } else { "key-hint" })
                        aria-invalid=[complaint.map(|_| "true")];
                    p.hint #key-hint { "The " code { "auth_key" } " of this service." }
                }
                p.actions { button { "Sign in" } }
            }
        }
    };
    framed(frame, &content)
}

/// A form of one button that does something to a watcher at once, with a comment.
pub(super) fn act(frame: &Frame, watcher: &Watcher, act: &str, label: &str, hint: &str) -> Markup {
    let page = path::watcher(&watcher.slug);
    let id = format!("{act}-comment");
    html! {
        form.act method="post" action=(format!("{page}/{act}")) {
            (token(frame))
            input type="hidden" name="id" value=(watcher.id);
            label.hidden for=(id) { "Comment for: " (label) }
            input #(id) name="comment" placeholder=(hint) maxlength=(Comment::MAX_CHARS) autocomplete="off";
            button { (label) }
        }
    }
}
