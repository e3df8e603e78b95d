//! Pages that go on by themselves.

use std::time::Duration;

use reqwest::Response;

use super::*;
use crate::support::within;

/// How long an event may take: less than the time after which a page is drawn anew although nothing has
/// changed.
const SOON: Duration = Duration::from_secs(15);

/// A stream that is read.
struct Stream {
    response: Response,
    read: Vec<u8>,
}

/// An event of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

impl Stream {
    async fn of(visitor: &Visitor<'_>, path: &str) -> Self {
        let request = visitor.request(Method::GET, path);
        let response = request.header(ACCEPT, "text/event-stream").send();
        let response = within(response).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self {
            response,
            read: Vec::new(),
        }
    }

    /// The next event; `None` at an end as HTTP has it.
    async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.read.windows(2).position(|two| two == b"\n\n") {
                let event = self.read.drain(..end + 2).collect();
                let event = String::from_utf8(event).unwrap();
                // The first one says how soon to come back.
                let event = event.strip_prefix("retry: 1000\n").unwrap_or(&event);
                let mut lines = event.trim_end_matches('\n').lines();
                let name = lines.next().unwrap().strip_prefix("event: ").unwrap();
                let data = lines.map(|line| line.strip_prefix("data: ").unwrap());
                let event = Event {
                    name: name.to_owned(),
                    data: data.collect::<Vec<_>>().join("\n"),
                };
                return Some(event);
            }
            let chunk = tokio::time::timeout(SOON, self.response.chunk()).await;
            let chunk = chunk.expect("something to be heard").expect("no break");
            self.read.extend_from_slice(&chunk?);
        }
    }

    /// The next event that is no mere sign of life.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.event().await;
            if event.as_ref().is_none_or(|event| event.name != "alive") {
                return event;
            }
        }
    }

    /// What the page is to show next.
    async fn scene(&mut self) -> String {
        let event = self.next().await.expect("a scene");
        assert_eq!(event.name, "scene");
        // As a part of a page it is held to the same.
        check_html(&format!(
            "<!DOCTYPE html><html lang=\"en\"><title>·</title>{}</html>",
            event.data
        ));
        event.data
    }

    /// The first scene with these words in it. Counts may come a moment after the list.
    async fn scene_with(&mut self, words: &str) -> String {
        let all = async {
            loop {
                let scene = self.scene().await;
                if scene.contains(words) {
                    return scene;
                }
            }
        };
        let found = tokio::time::timeout(SOON, all).await;
        found.unwrap_or_else(|_| panic!("{words:?} in no scene"))
    }
}

/// The title that a scene gives the page.
fn title_of(scene: &str) -> String {
    let title = only(scene, "data-title=\"([^\"]*)\"");
    title
        .trim_end_matches("Night’s Watch")
        .trim_end_matches(" · ")
        .to_owned()
}

#[tokio::test]
async fn a_stream_begins_with_what_the_page_shows() {
    let house = House::open().await;
    house
        .create_with(&[
            ("name", "<b>Nightly</b> \"Dump\""),
            ("periodicity", "60"),
            ("description", "one\r\ntwo\rthree\nevent: gone\n\ndata: x"),
        ])
        .await;
    let mut visitor = Visitor::of(&house);
    let plain = |page: &str| page.replace("&#13;", "\r");
    for path in [
        "/ui/",
        "/ui/watchers/bnightlyb-dump",
        "/ui/?state=paused&q=x",
    ] {
        let page = visitor.page(path).await;
        assert!(page.contains(" data-live>"), "{page}");
        let scene = Stream::of(&visitor, path).await.scene().await;
        let (live, past) = match scene.split_once("<div class=\"part\" id=\"past\">") {
            Some((live, past)) => (live.to_owned(), past.to_owned()),
            None => (scene, String::new()),
        };
        assert!(page.contains(&plain(&live)), "{live}\nis not in\n{page}");
        assert!(page.contains(&plain(&past)), "{past}\nis not in\n{page}");
    }
    for path in ["/ui/create", "/ui/watchers/bnightlyb-dump/edit"] {
        assert!(!visitor.page(path).await.contains("data-live"), "{path}");
    }
}

#[tokio::test]
async fn a_stream_tells_when_a_watcher_becomes_late_and_when_it_is_back() {
    let house = House::open().await;
    house
        .create_with(&[("name", "W"), ("periodicity", "60")])
        .await;
    let scheduler = house.start_scheduler();
    let visitor = Visitor::of(&house);
    let mut overview = Stream::of(&visitor, "/ui/").await;
    let mut page = Stream::of(&visitor, "/ui/watchers/w").await;
    assert_eq!(title_of(&overview.scene().await), "");
    assert_eq!(title_of(&page.scene().await), "W (on time)");

    house.advance_millis(60_001);
    let scene = overview.scene_with("1 late, 0 on time, 0 paused").await;
    assert_eq!(title_of(&scene), "1 late");
    assert!(scene.contains("data-icon=\"/ui/late.svg?v="), "{scene}");
    let scene = page.scene().await;
    assert_eq!(title_of(&scene), "W (late)");
    assert!(scene.contains("data-standing=\"late\""), "{scene}");

    let trigger = [("slug", "w"), ("comment", "back")];
    house.call("trigger", &trigger).await;
    let scene = overview.scene_with("0 late, 1 on time, 0 paused").await;
    assert_eq!(title_of(&scene), "");
    assert!(scene.contains("data-icon=\"/ui/calm.svg?v="), "{scene}");
    let scene = page.scene().await;
    assert_eq!(title_of(&scene), "W (on time)");
    assert!(scene.contains("<bdi>Triggered (back)</bdi>"), "{scene}");

    house.call("pause", &[("slug", "w")]).await;
    overview.scene_with("0 late, 0 on time, 1 paused").await;
    assert_eq!(title_of(&page.scene().await), "W (paused)");
    scheduler.stop().await;
}

#[tokio::test]
async fn a_stream_where_nothing_changes_gives_signs_of_life() {
    let house = House::open().await;
    let visitor = Visitor::of(&house);
    let mut stream = Stream::of(&visitor, "/ui/").await;
    stream.scene().await;
    let expected = Event {
        name: "alive".to_owned(),
        data: String::new(),
    };
    assert_eq!(stream.event().await, Some(expected));
}

#[tokio::test]
async fn a_stream_says_that_its_watcher_is_gone_and_ends() {
    let house = House::open().await;
    house.create("W").await;
    let mut visitor = Visitor::of(&house);
    let mut overview = Stream::of(&visitor, "/ui/").await;
    let mut page = Stream::of(&visitor, "/ui/watchers/w").await;
    overview.scene().await;
    page.scene().await;
    visitor
        .send("/ui/watchers/w/delete", "/ui/watchers/w/delete", &[])
        .await;
    let gone = page.next().await.expect("a last word");
    assert_eq!(gone.name, "gone");
    assert_eq!(page.next().await, None);
    overview.scene_with("There are no watchers yet.").await;
}

#[tokio::test]
async fn a_stream_is_for_those_who_may_and_ends_when_they_sign_out() {
    let (house, _) = locked(None).await;
    let stranger = Visitor::of(&house);
    for path in ["/ui/", "/ui/watchers/awake", "/ui/watchers/nobody"] {
        let request = stranger.request(Method::GET, path);
        let reply = Reply::to(request.header(ACCEPT, "text/event-stream")).await;
        check_says(&reply, 403, "The session has ended; sign in again.");
    }
    let mut visitor = Visitor::signed_in(&house).await;
    let other = Visitor::signed_in(&house).await;
    let mut ends = Stream::of(&visitor, "/ui/").await;
    let mut goes_on = Stream::of(&other, "/ui/").await;
    ends.scene().await;
    goes_on.scene().await;
    visitor.send("/ui/", "/ui/sign-out", &[]).await;
    assert_eq!(ends.next().await, None);
    let pause = [("slug", "awake"), ("auth_key", KEY)];
    house.call("pause", &pause).await;
    goes_on.scene_with("0 on time, 2 paused").await;
    // Nor does it outlast the session.
    house.advance_millis(7 * DAY);
    assert_eq!(goes_on.next().await, None);
}

#[tokio::test]
async fn a_stop_ends_streams_in_order() {
    let house = House::open().await;
    let visitor = Visitor::of(&house);
    let mut stream = Stream::of(&visitor, "/ui/").await;
    stream.scene().await;
    house.stop.cancel();
    // One that goes on is broken off when the program waits no longer, which is an error and no end.
    assert_eq!(stream.next().await, None);
    within(house.server).await.unwrap();
}

#[tokio::test]
async fn so_many_streams_go_on_at_a_time_and_no_more() {
    const STREAMS: usize = 256;
    let plan = Plan {
        connections: Some(2 * STREAMS),
        ..Plan::default()
    };
    let house = House::by(plan).await;
    let mut visitor = Visitor::of(&house);
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(Stream::of(&visitor, "/ui/").await);
    }
    let one_more = visitor.request(Method::GET, "/ui/");
    let one_more = one_more.header(ACCEPT, "text/event-stream");
    let reply = Reply::to(one_more.try_clone().unwrap()).await;
    check_says(
        &reply,
        503,
        "Too many pages are open that go on by themselves",
    );
    // The page itself is shown all the same.
    visitor.page("/ui/").await;
    // Who goes makes room.
    streams.pop();
    let again = async || {
        let again = one_more.try_clone().unwrap().send().await.unwrap();
        again.status() == 200
    };
    crate::support::eventually(again).await;
}
