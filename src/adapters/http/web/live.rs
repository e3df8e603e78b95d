//! Pages that go on by themselves: what has changed is sent as it does (server-sent events).
//!
//! The address of such a page is that of the stream too; what is accepted tells them apart.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::unfold;
use poem::http::{HeaderName, StatusCode, header};
use poem::{Body, Request, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::scenes::{Scene, Shown};
use super::sessions::Visitor;
use super::{House, Rejection, views};

const MEDIA_TYPE: &str = "text/event-stream";
/// How often it is looked whether something has changed.
const PERIOD: Duration = Duration::from_millis(500);
/// Where looking takes long it is done less often: it is followed by so many times as long a pause, up to a limit.
const REST: u32 = 3;
const LONGEST_REST: Duration = Duration::from_secs(3);
/// How often a page hears something at least, so that it knows when it hears nothing.
const ALIVE: Duration = Duration::from_secs(3);
/// After how long a page is drawn anew although nothing has changed, for time goes by on it.
const REDRAWN: Duration = Duration::from_secs(20);
/// How long a stream lasts. Browsers begin the next one by themselves, which shows whether they still may.
const LIFETIME: Duration = Duration::from_mins(10);

/// Says how soon the next stream is to begin when one has ended: browsers take seconds otherwise.
const RETRY: &str = "retry: 1000\n";

/// Whether a request asks for the stream of a page, not for the page.
pub(super) fn is_asked_for(request: &Request) -> bool {
    request
        .header(header::ACCEPT)
        .is_some_and(|accepted| accepted.contains(MEDIA_TYPE))
}

struct Stream {
    house: Arc<House>,
    visitor: Visitor,
    scene: Scene,
    /// What the page shows, without its history, and since when.
    shown: Option<(Shown, Instant)>,
    /// When it heard something.
    heard: Instant,
    begun: Instant,
    /// Whether there is nothing more to be seen.
    is_over: bool,
    /// How long to wait before the next look.
    pause: Duration,
    _place: OwnedSemaphorePermit,
}

/// The stream of a page, for as long as its visitor may see it.
///
/// # Errors
///
/// If there are too many of them already.
pub(super) fn stream(
    house: Arc<House>,
    visitor: Visitor,
    scene: Scene,
) -> Result<Response, Rejection> {
    let place = Arc::clone(&house.streams).try_acquire_owned();
    let place = place.map_err(|_| {
        let message = "too many pages are open that go on by themselves; this one can be reloaded";
        Rejection::new(StatusCode::SERVICE_UNAVAILABLE, message)
    })?;
    let now = Instant::now();
    let stream = Stream {
        house,
        visitor,
        scene,
        shown: None,
        heard: now,
        begun: now,
        is_over: false,
        pause: Duration::ZERO,
        _place: place,
    };
    let events = unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<_, io::Error>(event), stream))
    });
    Ok(Response::builder()
        .header(header::CONTENT_TYPE, MEDIA_TYPE)
        // Proxies are not to collect events until there are many.
        .header(HeaderName::from_static("x-accel-buffering"), "no")
        .body(Body::from_bytes_stream(events)))
}

impl Stream {
    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            tokio::select! {
                () = self.house.stop.cancelled() => return None,
                () = tokio::time::sleep(self.pause) => {}
            }
            let is_over = self.is_over || self.begun.elapsed() > LIFETIME;
            if is_over || !self.house.sessions.holds(&self.visitor) {
                return None;
            }
            let look = Instant::now();
            let shown = Shown::load(&self.house.watch, &self.scene, PERIOD).await;
            self.pause = (look.elapsed() * REST).clamp(PERIOD, LONGEST_REST);
            let event = match shown {
                Ok(shown) => self.draw(shown),
                // What was shown is shown on, and told to be old.
                Err(rejection) if rejection.status() == StatusCode::SERVICE_UNAVAILABLE => None,
                Err(_) => {
                    self.is_over = true;
                    Some(event("gone", ""))
                }
            };
            if event.is_some() {
                self.heard = Instant::now();
                return event;
            }
        }
    }

    /// What the page has to hear now that this is there to be seen.
    fn draw(&mut self, shown: Shown) -> Option<String> {
        let is_same = self
            .shown
            .as_ref()
            .is_some_and(|(before, since)| shown.is_like(before) && since.elapsed() < REDRAWN);
        if is_same {
            let is_silent = self.heard.elapsed() > ALIVE;
            return is_silent.then(|| event("alive", ""));
        }
        let now = self.house.clock.now();
        let markup = views::living(&self.scene, &shown, now).into_string();
        let is_first = self.shown.is_none();
        self.shown = Some((shown.without_history(), Instant::now()));
        let retry = if is_first { RETRY } else { "" };
        Some(format!("{retry}{}", event("scene", &markup)))
    }
}

/// An event as the stream has it: each line of its data on a line of its own.
fn event(name: &str, data: &str) -> String {
    let mut event = format!("event: {name}\n");
    for line in data.replace('\r', "&#13;").split('\n') {
        event += "data: ";
        event += line;
        event += "\n";
    }
    event + "\n"
}
