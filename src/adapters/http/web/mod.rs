//! The pages for people, under `/ui/`: a second way to the same use cases.
//!
//! - [`Pages`] below: which path is what, who may, and what all answers share.
//! - `sessions`: cookies; `forms`: what is typed; `live`: pages that go on by themselves.
//! - `scenes`: what a page shows, from the use cases; `views`: how it looks, as HTML.
//! - `assets`: the style sheet, the script and the icons, which are part of the program.
//!
//! A page is whole without its script: links and forms do all there is to do, and the script only refines. Changes
//! come by POST with the token of a form; everything else changes nothing.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use poem::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, Request, Response, Result};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::forms::{Complaints, Entries, Form};
use self::scenes::{Scene, Shown};
use self::sessions::{Sessions, Visitor};
use self::views::{Frame, Icon, WatcherForm};
use super::errors::Rejection;
use super::guesses::{Guesses, Limit};
use crate::app::config::{BaseUrl, Networks};
use crate::app::{NightsWatch, UseCaseError};
use crate::domain::{Refusal, Slug};
use crate::ports::{Clock, Key};

mod assets;
mod forms;
mod live;
mod scenes;
mod sessions;
mod views;

/// What the pages need of the program.
pub(super) struct Needs {
    pub(super) watch: Arc<NightsWatch>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) auth_key: Option<Arc<SecretString>>,
    pub(super) proxies: Networks,
    pub(super) base_url: Option<BaseUrl>,
    pub(super) stop: CancellationToken,
}

/// The pages.
#[derive(Clone)]
pub(super) struct Pages(Arc<House>);

struct House {
    watch: Arc<NightsWatch>,
    clock: Arc<dyn Clock>,
    auth_key: Option<Arc<SecretString>>,
    sessions: Sessions,
    guesses: Guesses,
    base_url: Option<BaseUrl>,
    stop: CancellationToken,
    /// How many pages may go on by themselves at a time: each holds a connection.
    streams: Arc<Semaphore>,
}

/// The paths, as the pages themselves write them.
mod path {
    pub(super) use crate::app::config::page_path as watcher;

    pub(super) const OVERVIEW: &str = "/ui/";
    pub(super) const CREATE: &str = "/ui/create";
    pub(super) const SIGN_IN: &str = "/ui/sign-in";
    pub(super) const SIGN_OUT: &str = "/ui/sign-out";
}

/// What a path leads to.
enum Room {
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
enum Act {
    Trigger,
    Pause,
    Unpause,
}

impl Room {
    /// What `path`, which begins with `/ui/`, leads to.
    fn find(path: &str) -> Option<Self> {
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
    const fn allow(&self) -> &'static str {
        match self {
            Self::Overview | Self::Watcher(_) => "GET, HEAD",
            Self::Create | Self::SignIn | Self::Edit(_) | Self::Delete(_) => "GET, HEAD, POST",
            Self::SignOut | Self::Act(..) => "POST",
        }
    }
}

/// How many watchers a page of the overview has.
const PAGE: usize = 100;
/// How many pages may go on by themselves at a time.
const STREAMS: usize = 256;
/// How many wrong keys may be typed at once, and how soon another one may be.
const SIGN_INS: Limit = Limit::new(10, std::time::Duration::from_secs(10));

impl Pages {
    /// The pages over the use cases.
    pub(super) fn new(needs: Needs) -> Self {
        let Needs {
            watch,
            clock,
            auth_key,
            proxies,
            base_url,
            stop,
        } = needs;
        let is_secure = base_url.as_ref().is_some_and(BaseUrl::is_https);
        Self(Arc::new(House {
            sessions: Sessions::new(auth_key.clone(), Arc::clone(&clock), is_secure),
            guesses: Guesses::new(Arc::clone(&clock), proxies, SIGN_INS),
            watch,
            clock,
            auth_key,
            base_url,
            stop,
            streams: Arc::new(Semaphore::new(STREAMS)),
        }))
    }

    /// Whether a path is a page's.
    pub(super) fn has(path: &str) -> bool {
        path == "/ui" || path.starts_with(path::OVERVIEW)
    }

    /// The way to the pages, for people who know the host only.
    pub(super) fn lead() -> Response {
        see(path::OVERVIEW)
    }

    /// A page that says what went wrong.
    pub(super) fn refusal(rejection: &Rejection) -> Response {
        let mut response = page(rejection.status(), views::refusal(rejection));
        rejection.add_headers(response.headers_mut());
        protect(&mut response);
        response
    }
}

impl Endpoint for Pages {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let answer = self.0.answer(&mut request).await;
        Ok(match answer {
            Ok(mut response) => {
                protect(&mut response);
                response
            }
            Err(rejection) => {
                let mut response = Self::refusal(&rejection);
                let is_for_a_while = rejection.status() == StatusCode::SERVICE_UNAVAILABLE;
                if is_for_a_while && *request.method() == Method::GET {
                    // A screen on the wall finds back by itself.
                    let refresh = HeaderName::from_static("refresh");
                    let headers = response.headers_mut();
                    headers.insert(refresh, HeaderValue::from_static("10"));
                }
                response
            }
        })
    }
}

/// Who asks, and what they may.
#[derive(Clone, Copy)]
struct Access {
    visitor: Visitor,
    /// The cookie that they do not have yet.
    is_new: bool,
}

impl House {
    async fn answer(self: &Arc<Self>, request: &mut Request) -> Result<Response, Rejection> {
        let path = request.uri().path().to_owned();
        if path == "/ui" {
            return Ok(see(path::OVERVIEW));
        }
        if let Some(asset) = assets::find(&path) {
            return match *request.method() {
                Method::GET | Method::HEAD => Ok(asset.answer(request)),
                _ => Err(Rejection::method_not_allowed("GET, HEAD")),
            };
        }
        let room = Room::find(&path).ok_or_else(no_such_page)?;
        let is_post = match *request.method() {
            Method::GET | Method::HEAD if room.allow() != "POST" => false,
            Method::POST if room.allow().ends_with("POST") => true,
            _ => return Err(Rejection::method_not_allowed(room.allow())),
        };
        let access = self.access(request);
        if access.is_new && is_from_elsewhere(request) {
            // The browser has kept the cookie back, so neither is answered with another one.
            return if is_post {
                Err(foreign_form())
            } else {
                Ok(page(StatusCode::OK, views::bounce(&target(request))))
            };
        }
        let is_welcome = self.is_open() || access.visitor.is_signed_in();
        let mut response = match room {
            Room::SignIn if is_post => return self.sign_in(request, access).await,
            Room::SignIn => self.show_sign_in(request, access),
            _ if !is_welcome && live::is_asked_for(request) => {
                let message = "the session has ended; sign in again";
                return Err(Rejection::new(StatusCode::FORBIDDEN, message));
            }
            Room::SignOut if self.is_open() => see(path::OVERVIEW),
            Room::SignOut if !is_welcome => see(path::SIGN_IN),
            Room::SignOut => return self.sign_out(request, access).await,
            room if !is_welcome && is_post => self.turn_away(request, access, room).await?,
            _ if !is_welcome => see(&views::sign_in_path(&target(request))),
            room if is_post => self.change(request, access, room).await?,
            room => self.show(request, access, room).await?,
        };
        self.introduce(access, &mut response);
        Ok(response)
    }

    /// Whether everybody may do everything.
    fn is_open(&self) -> bool {
        self.auth_key.is_none()
    }

    fn access(&self, request: &Request) -> Access {
        match self.sessions.visitor(request) {
            Some(visitor) => Access {
                visitor,
                is_new: false,
            },
            None => Access {
                visitor: Visitor::new(),
                is_new: true,
            },
        }
    }

    fn frame(&self, access: Access, title: impl Into<String>) -> Frame {
        Frame {
            title: title.into(),
            icon: Icon::Calm,
            token: access.visitor.form_token(),
            is_open: self.is_open(),
            is_signed_in: access.visitor.is_signed_in(),
            is_live: false,
            now: self.clock.now(),
        }
    }

    /// Pages that are only looked at.
    async fn show(
        self: &Arc<Self>,
        request: &Request,
        access: Access,
        room: Room,
    ) -> Result<Response, Rejection> {
        let scene = match room {
            Room::Overview => Scene::overview(request)?,
            Room::Watcher(slug) => Scene::watcher(request, slug, self.base_url.as_ref()),
            Room::Create => {
                return Ok(self.show_create(access, &Entries::default(), &Complaints::default()));
            }
            Room::Edit(slug) => {
                let watcher = self.watch.get(&Key::Slug(slug)).await?.watcher;
                let entries = Entries::from(&watcher);
                let complaints = Complaints::default();
                return Ok(self.show_edit(access, &watcher.slug, &entries, &entries, &complaints));
            }
            Room::Delete(slug) => {
                let watcher = self.watch.get(&Key::Slug(slug)).await?.watcher;
                let frame = self.frame(access, format!("Delete {}", watcher.name));
                return Ok(page(StatusCode::OK, views::delete(&frame, &watcher)));
            }
            // These have no other pages.
            Room::SignIn | Room::SignOut | Room::Act(..) => {
                return Err(no_such_page());
            }
        };
        if live::is_asked_for(request) {
            return live::stream(Arc::clone(self), access.visitor, scene);
        }
        let shown = Shown::load(&self.watch, &scene, std::time::Duration::ZERO).await?;
        let mut frame = self.frame(access, shown.title());
        frame.icon = shown.icon();
        frame.is_live = scene.changes();
        let done = forms::query(request, "done");
        let whole = views::scene(&frame, &scene, &shown, done.as_deref());
        Ok(page(StatusCode::OK, whole))
    }

    fn show_create(&self, access: Access, entries: &Entries, complaints: &Complaints) -> Response {
        let frame = self.frame(access, complaints.title("New watcher"));
        let form = views::form(&frame, &WatcherForm::Create, entries, complaints);
        page(complaints.status(), form)
    }

    /// `shown` is what the form showed before somebody typed `entries`.
    fn show_edit(
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
    async fn turn_away(
        &self,
        request: &mut Request,
        access: Access,
        room: Room,
    ) -> Result<Response, Rejection> {
        let complaints = || {
            Complaints::with_form(
                StatusCode::FORBIDDEN,
                "Your session has ended, so nothing was changed. Sign in in another tab, then send this again.",
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
    async fn change(
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
                self.watch.delete(&Key::Slug(slug)).await?;
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
        let key = Key::Slug(slug.clone());
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
        let key = Key::Slug(slug);
        let done = match act {
            Act::Trigger => self.watch.trigger(&key, comment).await.map(|_| "triggered"),
            Act::Pause => self.watch.pause(&key, comment).await.map(|_| "paused"),
            Act::Unpause => self.watch.unpause(&key, comment).await.map(|_| "unpaused"),
        }?;
        Ok(see(&format!("{page}?done={done}")))
    }

    fn show_sign_in(&self, request: &Request, access: Access) -> Response {
        let to = forms::query(request, "to").unwrap_or_default();
        let to = local(&to);
        if self.is_open() || access.visitor.is_signed_in() {
            return see(to);
        }
        let frame = self.frame(access, "Sign in");
        let mut response = page(StatusCode::OK, views::sign_in(&frame, to, None));
        self.introduce(access, &mut response);
        response
    }

    async fn sign_in(&self, request: &mut Request, access: Access) -> Result<Response, Rejection> {
        let form = Form::read(request).await?;
        let to = local(form.field("to"));
        let Some(key) = &self.auth_key else {
            return Ok(see(to));
        };
        let frame = self.frame(access, "Error: Sign in");
        let again = |status, complaint: &str| {
            let mut response = page(status, views::sign_in(&frame, to, Some(complaint)));
            self.introduce(access, &mut response);
            response
        };
        if !is_ours(access, &form) {
            let complaint = "This form was made for another visit. Try again; the browser has to keep cookies for that.";
            return Ok(again(StatusCode::FORBIDDEN, complaint));
        }
        let given = form.field("key").as_bytes();
        let guess = match self.guesses.admit(request, "key", given) {
            Ok(guess) => guess,
            Err(rejection) => {
                let complaint =
                    "Too many wrong keys came from your address. Wait a little, then try again.";
                let mut response = again(rejection.status(), complaint);
                rejection.add_headers(response.headers_mut());
                return Ok(response);
            }
        };
        if !bool::from(given.ct_eq(key.expose_secret().as_bytes())) {
            guess.inspect(|guess| self.guesses.was_wrong(*guess));
            return Ok(again(StatusCode::FORBIDDEN, "This is not the key."));
        }
        guess.inspect(|guess| self.guesses.was_right(*guess));
        let visitor = self.sessions.sign_in();
        let mut response = see(to);
        let cookie = self.sessions.cookie(&visitor);
        response.headers_mut().insert(header::SET_COOKIE, cookie);
        Ok(response)
    }

    async fn sign_out(&self, request: &mut Request, access: Access) -> Result<Response, Rejection> {
        let form = Form::read(request).await?;
        if !is_ours(access, &form) {
            return Err(foreign_form());
        }
        self.sessions.sign_out(access.visitor);
        let mut response = see(path::SIGN_IN);
        let farewell = self.sessions.farewell();
        response.headers_mut().insert(header::SET_COOKIE, farewell);
        Ok(response)
    }

    /// Gives somebody new a cookie, and a session that was used its whole lifetime again.
    fn introduce(&self, access: Access, response: &mut Response) {
        let visitor = if access.is_new {
            Some(access.visitor)
        } else {
            self.sessions.renewed(access.visitor)
        };
        if let Some(visitor) = visitor {
            let cookie = self.sessions.cookie(&visitor);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
    }
}

/// Whether a form was made by us for this very visitor: other sites can send forms too.
fn is_ours(access: Access, form: &Form) -> bool {
    !access.is_new && access.visitor.is_form_token(form.field("token"))
}

fn no_such_page() -> Rejection {
    Rejection::new(StatusCode::NOT_FOUND, "there is no such page")
}

/// Something was sent that another site may have made up.
fn foreign_form() -> Rejection {
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

/// Whether a link or a form of another site, or of a mail that is read in a browser, led here. The browser keeps our
/// cookies back then, so who asks is known only after a step that is our own.
fn is_from_elsewhere(request: &Request) -> bool {
    let says = |name: &str, value| request.header(name) == Some(value);
    says("sec-fetch-site", "cross-site") && says("sec-fetch-mode", "navigate")
}

/// The path and query that were asked for.
fn target(request: &Request) -> String {
    let target = request.uri().path_and_query();
    target.map_or_else(|| path::OVERVIEW.to_owned(), ToString::to_string)
}

/// `to`, if it is one of our pages: nobody is to be led elsewhere by a sign-in.
fn local(to: &str) -> &str {
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

/// Leads to another page, which is got whatever the method was.
fn see(path: &str) -> Response {
    Response::builder()
        .status(StatusCode::SEE_OTHER)
        .header(header::LOCATION, path)
        .finish()
}

fn page(status: StatusCode, markup: maud::Markup) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
        .body(markup.into_string())
}

/// What browsers are told to refuse, whatever a page may have been made to hold.
fn protect(response: &mut Response) {
    const HEADERS: [(HeaderName, &str); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // The address of a page names a watcher.
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}
