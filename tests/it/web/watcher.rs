//! The page of a watcher.

use super::*;
use crate::smtp::base_url;
use crate::support::eventually;

const PAGE: &str = "/ui/watchers/nightly-dump";

/// The events that a page lists.
fn listed(page: &str) -> Vec<String> {
    all(page, "</time></td><td><bdi>([^<]*)</bdi></td>")
}

#[tokio::test]
async fn a_page_tells_all_about_its_watcher() {
    let house = House::open().await;
    house
        .create_with(&[
            ("name", "Nightly Dump"),
            ("periodicity", "5400"),
            ("description", "Dumps db1.\nAsk Ann & Bob."),
            ("email", "ops@example.com"),
            ("email", "root@localhost"),
        ])
        .await;
    let mut visitor = Visitor::of(&house);
    let page = visitor.page(PAGE).await;
    assert_eq!(title(&page), "Nightly Dump (on time)");
    let description = "<p class=\"description\">Dumps db1.\nAsk Ann &amp; Bob.</p>";
    assert!(page.contains(description), "{page}");
    let facts = only(&page, "(?s)(<dl class=\"facts\">.*?</dl>)");
    let times = all(&facts, "<time datetime=\"([^\"]*)\"");
    let expected = ["2015-03-19T02:38:44.885Z", "2015-03-19T01:08:44.885Z"];
    assert_eq!(times, expected);
    assert!(facts.contains("<dt>Due</dt>"), "{facts}");
    assert!(facts.contains("<dd>1 h 30 min</dd>"), "{facts}");
    let addresses = all(&facts, "<li><bdi>([^<]*)</bdi></li>");
    assert_eq!(addresses, ["ops@example.com", "root@localhost"]);
    assert_eq!(listed(&page), ["Watcher created"]);

    house
        .call("update", &[("slug", "nightly-dump"), ("email", "-")])
        .await;
    house.call("pause", &[("slug", "nightly-dump")]).await;
    let page = visitor.page(PAGE).await;
    assert_eq!(title(&page), "Nightly Dump (paused)");
    let facts = only(&page, "(?s)(<dl class=\"facts\">.*?</dl>)");
    assert!(facts.contains("nobody"), "{facts}");
    assert!(facts.contains("not while it is paused"), "{facts}");
}

#[tokio::test]
async fn a_timeline_shows_how_a_watcher_stood_whatever_its_state() {
    let house = House::open().await;
    house
        .create_with(&[("name", "Nightly Dump"), ("periodicity", "60")])
        .await;
    let mut visitor = Visitor::of(&house);
    let stretches = |page: &str| all(page, "<g class=\"([a-z-]*)\">");
    let triggers = |page: &str| only(page, "<path class=\"triggers\" d=\"([^\"]*)\">");
    let band = |page: &str| only(page, "<svg class=\"band\"[^>]* aria-label=\"([^\"]*)\"");

    let created = visitor.page(PAGE).await;
    assert!(band(&created).ends_with("Triggers: 0. Latenesses: 0."));
    assert_eq!(triggers(&created), "");
    assert!(created.contains("<path class=\"now\""), "{created}");
    assert!(created.contains("shown here as soon as there are two"));

    let scheduler = house.start_scheduler();
    house.advance_millis(30_000);
    house.call("trigger", &[("slug", "nightly-dump")]).await;
    house.advance_millis(90_000);
    eventually(async || house.names(&[("late", "true")]).await.len() == 1).await;
    scheduler.stop().await;
    let late = visitor.page(PAGE).await;
    assert_eq!(title(&late), "Nightly Dump (late)");
    assert!(late.contains("<dt>Was due</dt>"), "{late}");
    assert_eq!(stretches(&late), ["on-time", "late"]);
    assert!(band(&late).ends_with("Triggers: 1. Latenesses: 1."));
    // A quarter of the whole has passed at the trigger, three quarters at the deadline.
    assert_eq!(triggers(&late), "M250 16v40");
    assert_eq!(
        only(&late, "<path class=\"deadline\" d=\"([^\"]*)\">"),
        "M750 8v48"
    );
    assert!(!late.contains("<path class=\"now\""), "{late}");

    house.call("trigger", &[("slug", "nightly-dump")]).await;
    house.call("pause", &[("slug", "nightly-dump")]).await;
    house.advance_millis(120_000);
    let paused = visitor.page(PAGE).await;
    assert_eq!(stretches(&paused), ["on-time", "late", "paused"]);
    assert!(!paused.contains("<path class=\"deadline\""), "{paused}");
    let strip = only(&paused, "<svg class=\"strip\"[^>]* aria-label=\"([^\"]*)\"");
    let expected =
        "The newest 1 intervals: median 1 min 30 s, longest 1 min 30 s, expected at most 1 min.";
    assert_eq!(strip, expected);
    assert_eq!(all(&paused, "<rect class=\"(over)\"").len(), 1);
}

#[tokio::test]
async fn fifty_events_are_listed_and_all_if_somebody_wants_them() {
    let house = House::open().await;
    house.create("Nightly Dump").await;
    let mut visitor = Visitor::of(&house);
    let trigger = |n: u32| {
        let comment = n.to_string();
        house.call(
            "trigger",
            &[("slug", "nightly-dump"), ("comment", &comment)],
        )
    };
    for n in 1..50 {
        trigger(n).await;
    }
    let page = visitor.page(PAGE).await;
    assert_eq!(listed(&page).len(), 50);
    assert!(!page.contains("history=all"), "{page}");
    for n in 50..=60 {
        trigger(n).await;
    }
    let newest: Vec<_> = (11..=60)
        .rev()
        .map(|n| format!("Triggered ({n})"))
        .collect();
    let page = visitor.page(PAGE).await;
    assert_eq!(listed(&page), newest);
    let link = only(&page, "<a href=\"([^\"]*)\">All 61 events</a>");
    let page = visitor.page(&link).await;
    assert_eq!(listed(&page), events(&house, "nightly-dump").await);
    assert_eq!(listed(&page).len(), 61);
    assert!(!page.contains("61 events"), "{page}");
}

#[tokio::test]
async fn the_trigger_url_is_the_one_by_which_the_page_was_reached() {
    let house = House::open().await;
    let id = house.create("Nightly Dump").await;
    let mut visitor = Visitor::of(&house);
    let shown = |page: &str| only(page, "<code id=\"trigger-url\">([^<]*)</code>");
    let page = visitor.page(PAGE).await;
    let url = shown(&page);
    assert_eq!(url, format!("http://{}/{id}", house.address));
    // All lines that are there to be copied have it in them.
    let lines = all(&page, "<code id=\"lines-\\d\">([^<]*)</code>");
    assert_eq!(lines.len(), 5);
    assert!(lines.iter().all(|line| line.contains(&url)), "{lines:?}");
    assert!(!page.contains("?done="));

    let by_name = visitor.request(Method::GET, PAGE);
    let by_name = by_name.header(HOST, "watch.example.com:8080");
    let reply = visitor.ask(by_name).await;
    check_page(&reply, 200);
    assert_eq!(
        shown(&reply.text),
        format!("http://watch.example.com:8080/{id}")
    );

    let hostile = visitor.request(Method::GET, PAGE);
    let reply = visitor.ask(hostile.header(HOST, "a&lt;<b>\"'")).await;
    if reply.status == 200 {
        check_html(&reply.text);
        assert_eq!(shown(&reply.text), format!("http://a&lt;<b>\"'/{id}"));
    }
}

#[tokio::test]
async fn the_trigger_url_is_at_the_base_url_if_that_is_known() {
    let plan = Plan {
        base_url: base_url("https://watch.example.org/"),
        ..Plan::default()
    };
    let house = House::by(plan).await;
    let id = house.create("Nightly Dump").await;
    let mut visitor = Visitor::of(&house);
    let request = visitor.request(Method::GET, PAGE);
    let reply = visitor.ask(request.header(HOST, "10.0.0.7")).await;
    let url = only(&reply.text, "<code id=\"trigger-url\">([^<]*)</code>");
    assert_eq!(url, format!("https://watch.example.org/{id}"));
    assert!(!reply.text.contains("10.0.0.7"), "{}", reply.text);
}

#[tokio::test]
async fn a_watcher_that_there_is_not_has_no_page() {
    let house = House::open().await;
    house.create("W").await;
    let mut visitor = Visitor::of(&house);
    for end in ["", "?history=all", "/edit", "/delete"] {
        let reply = visitor.get(&format!("/ui/watchers/x{end}")).await;
        check_says(&reply, 404, "There is no such watcher");
        assert_eq!(title(&reply.text), "Not found");
    }
    for path in [
        "/ui/x",
        "/ui//",
        "/ui/watchers",
        "/ui/watchers/",
        "/ui/watchers/w/",
        "/ui/watchers/w/other",
        "/ui/watchers/w/edit/x",
        "/ui/watchers/%ff",
        "/ui/style.css/x",
    ] {
        check_page(&visitor.get(path).await, 404);
    }
}

#[tokio::test]
async fn a_slug_may_have_any_letters_in_it() {
    let house = House::open().await;
    house.create("Größe 東京").await;
    let mut visitor = Visitor::of(&house);
    let overview = visitor.page("/ui/").await;
    let link = only(&overview, "<a href=\"(/ui/watchers/[^\"]*)\">");
    assert_eq!(link, "/ui/watchers/gr%C3%B6%C3%9Fe-%E6%9D%B1%E4%BA%AC");
    let page = visitor.page(&link).await;
    assert_eq!(title(&page), "Größe 東京 (on time)");
    let reply = visitor.send(&link, &format!("{link}/trigger"), &[]).await;
    check_leads(&reply, &format!("{link}?done=triggered"));
    assert_eq!(events(&house, "größe-東京").await[0], "Triggered");
    let edit = format!("{link}/edit");
    let entries = [("name", "Größe 大阪"), ("periodicity", "1h")];
    let reply = visitor.send(&edit, &edit, &entries).await;
    let renamed = "/ui/watchers/gr%C3%B6%C3%9Fe-%E5%A4%A7%E9%98%AA?done=saved";
    check_leads(&reply, renamed);
}
