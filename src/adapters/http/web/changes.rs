//! Forms about watchers: shown, sent, and shown again if they cannot be done.

use poem::http::StatusCode;
use poem::{Request, Response};

use super::forms::{Complaints, Entries, Form};
use super::rooms::{Act, Room, path};
use super::views::{self, WatcherForm};
use super::{Access, House, Rejection, no_such_page, page, see};
use crate::app::UseCaseError;
use crate::domain::{Refusal, Slug};

impl House {
    pub(super) fn show_create(
        &self,
        access: Access,
        entries: &Entries,
        complaints: &Complaints,
    ) -> Response {
        let frame = self.frame(access, complaints.title("New watcher"));
        let form = views::form(&frame, &WatcherForm::Create, entries, complaints);
        page(complaints.status(), form)
    }

    /// `shown` is what the form showed before somebody typed `entries`.
    pub(super) fn show_edit(
        &self,
        access: Access,
        slug: &Slug,
        shown: &Entries,
        entries: &Entries,
        complaints: &Complaints,
    ) -> Response {
        let title = complaints.title(&format!("Edit {}", shown.name));
        let frame = self.frame(access, title);
        let form = WatcherForm::Edit { shown, slug };
        let form = views::form(&frame, &form, entries, complaints);
        page(complaints.status(), form)
    }

    /// Forms of somebody whose session has ended. What was typed into a long one is not lost.
    pub(super) async fn turn_away(
        &self,
        request: &mut Request,
        access: Access,
        room: Room,
    ) -> Result<Response, Rejection> {
        let complaints = || {
            Complaints::with_form(
                StatusCode::FORBIDDEN,
                "Your session has ended, so nothing was changed. Sign in in another tab, then send this again, and once more if it asks for that.",
            )
        };
        let back = match room {
            Room::Create => {
                let entries = Entries::from(&Form::read(request).await?);
                return Ok(self.show_create(access, &entries, &complaints()));
            }
            Room::Edit(slug) => {
                let form = Form::read(request).await?;
                let (shown, entries) = (Entries::shown(&form), Entries::from(&form));
                return Ok(self.show_edit(access, &slug, &shown, &entries, &complaints()));
            }
            Room::Delete(slug) | Room::Act(slug, _) => path::watcher(&slug),
            _ => path::OVERVIEW.to_owned(),
        };
        Ok(see(&views::sign_in_path(&back)))
    }

    /// Forms that were sent.
    pub(super) async fn change(
        &self,
        request: &mut Request,
        access: Access,
        room: Room,
    ) -> Result<Response, Rejection> {
        let form = Form::read(request).await?;
        let is_ours = is_ours(access, &form);
        match room {
            Room::Create => self.create(access, &form, is_ours).await,
            Room::Edit(slug) => self.edit(access, slug, &form, is_ours).await,
            _ if !is_ours => Err(foreign_form()),
            Room::Delete(slug) => {
                self.watch.delete(&form.watcher(&slug)).await?;
                Ok(see(&format!("{}?done=deleted", path::OVERVIEW)))
            }
            Room::Act(slug, act) => self.act(slug, act, &form).await,
            // These take no forms, or are answered before.
            Room::Overview | Room::Watcher(_) | Room::SignIn | Room::SignOut => Err(no_such_page()),
        }
    }

    async fn create(
        &self,
        access: Access,
        form: &Form,
        is_ours: bool,
    ) -> Result<Response, Rejection> {
        let entries = Entries::from(form);
        if !is_ours {
            return Ok(self.show_create(access, &entries, &send_again()));
        }
        let draft = match entries.draft() {
            Ok(draft) => draft,
            Err(complaints) => return Ok(self.show_create(access, &entries, &complaints)),
        };
        match self.watch.create(draft).await {
            Ok(record) => {
                let page = path::watcher(&record.watcher.slug);
                Ok(see(&format!("{page}?done=created")))
            }
            Err(error) => {
                let complaints = Complaints::of(error)?;
                Ok(self.show_create(access, &entries, &complaints))
            }
        }
    }

    async fn edit(
        &self,
        access: Access,
        slug: Slug,
        form: &Form,
        is_ours: bool,
    ) -> Result<Response, Rejection> {
        let key = form.watcher(&slug);
        let (shown, entries) = (Entries::shown(form), Entries::from(form));
        let again = |complaints| Ok(self.show_edit(access, &slug, &shown, &entries, &complaints));
        if !is_ours {
            return again(send_again());
        }
        let update = match entries.update(&shown) {
            Ok(update) => update,
            Err(complaints) => return again(*complaints),
        };
        match self.watch.update(&key, update).await {
            Ok(record) => {
                let page = path::watcher(&record.watcher.slug);
                Ok(see(&format!("{page}?done=saved")))
            }
            Err(UseCaseError::Refused(Refusal::NothingToUpdate)) => {
                Ok(see(&format!("{}?done=unchanged", path::watcher(&slug))))
            }
            Err(error) => again(Complaints::of(error)?),
        }
    }

    async fn act(&self, slug: Slug, act: Act, form: &Form) -> Result<Response, Rejection> {
        let comment = form.comment()?;
        let page = path::watcher(&slug);
        let key = form.watcher(&slug);
        let done = match act {
            Act::Trigger => self.watch.trigger(&key, comment).await.map(|_| "triggered"),
            Act::Pause => self.watch.pause(&key, comment).await.map(|_| "paused"),
            Act::Unpause => self.watch.unpause(&key, comment).await.map(|_| "unpaused"),
        }?;
        Ok(see(&format!("{page}?done={done}")))
    }
}

/// Whether a form was made by us for this very visitor: other sites can send forms too.
pub(super) fn is_ours(access: Access, form: &Form) -> bool {
    !access.is_new && access.visitor.is_form_token(form.field("token"))
}

/// Something was sent that another site may have made up.
pub(super) fn foreign_form() -> Rejection {
    Rejection::new(
        StatusCode::FORBIDDEN,
        "this form was made for another visit, so nothing was changed; go back, reload the page, and try again",
    )
}

/// The same where what was typed is shown again.
fn send_again() -> Complaints {
    Complaints::with_form(
        StatusCode::FORBIDDEN,
        "This form was made for another visit, so nothing was changed. Please send it again.",
    )
}
