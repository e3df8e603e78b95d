//! The pages for people, under `/ui/`: a second way to the same use cases.
//!
//! - [`Pages`] below: who may go where, and what all answers share; `rooms`: which path is what.
//! - `scenes`: what there is to be seen, from the use cases; `live`: as it changes; `views`: how it looks, as HTML.
//! - `changes`: what is done by `forms`; `gate`: signing in and out, by `sessions` in cookies.
//! - `assets`: the style sheet, the script and the icons, which are part of the program.
//!
//! A page is whole without its script: links and forms do all there is to do, and the script only refines. Changes
//! come by POST with the token of a form; everything else changes nothing.

use std::sync::Arc;
use std::time::Duration;

use poem::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, Request, Response, Result};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::changes::foreign_form;
use self::forms::{Complaints, Entries};
use self::gate::SIGN_INS;
use self::rooms::{Room, path, target};
use self::scenes::{Scene, Shown};
use self::sessions::{Sessions, Visitor};
use self::views::{Frame, Icon};
use super::errors::Rejection;
use super::guesses::Guesses;
use crate::app::NightsWatch;
use crate::app::config::{BaseUrl, Networks};
use crate::ports::{Clock, Key};

mod assets;
mod changes;
mod forms;
mod gate;
mod live;
mod rooms;
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

/// How many watchers a page of the overview has.
const PAGE: usize = 100;
/// How many pages may go on by themselves at a time.
const STREAMS: usize = 256;

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
    /// Whether they have no cookie yet.
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
        let site = request.header("sec-fetch-site").unwrap_or_default();
        if is_post && matches!(site, "cross-site" | "same-site") {
            return Err(foreign_form());
        }
        let is_link = request.header("sec-fetch-mode") == Some("navigate");
        if access.is_new && is_link && site == "cross-site" {
            // Led here by another site, or by a mail that is read in a browser. The browser keeps our cookies back
            // then, so who asks is known only after a step that is our own.
            return Ok(page(StatusCode::OK, views::bounce(&target(request))));
        }
        let is_welcome = self.is_open() || access.visitor.is_signed_in();
        let mut response = match room {
            Room::SignIn if is_post => self.sign_in(request, access).await?,
            Room::SignIn => self.show_sign_in(request, access),
            _ if !is_welcome && live::is_asked_for(request) => {
                let message = "the session has ended; sign in again";
                return Err(Rejection::new(StatusCode::FORBIDDEN, message));
            }
            Room::SignOut if self.is_open() => see(path::OVERVIEW),
            Room::SignOut if !is_welcome => see(path::SIGN_IN),
            Room::SignOut => self.sign_out(request, access).await?,
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
        let shown = Shown::load(&self.watch, &scene, Duration::ZERO).await?;
        let mut frame = self.frame(access, shown.title());
        frame.icon = shown.icon();
        frame.is_live = scene.changes();
        let done = forms::query(request, "done");
        let whole = views::scene(&frame, &scene, &shown, done.as_deref());
        Ok(page(StatusCode::OK, whole))
    }

    /// Gives somebody a cookie, or its whole lifetime again to the one that was used; unless the answer has one already.
    fn introduce(&self, access: Access, response: &mut Response) {
        let visitor = if access.visitor.is_signed_in() {
            self.sessions.renewed(access.visitor)
        } else {
            Some(access.visitor)
        };
        if let Some(visitor) = visitor {
            let cookie = self.sessions.cookie(&visitor);
            let headers = response.headers_mut();
            headers.entry(header::SET_COOKIE).or_insert(cookie);
        }
    }
}

fn no_such_page() -> Rejection {
    Rejection::new(StatusCode::NOT_FOUND, "there is no such page")
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
