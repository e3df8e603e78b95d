//! What is typed and sent.

use std::sync::Arc;

use nights_watch::adapters::storage::memory::MemoryStore;
use nights_watch::domain::{
    Description, Draft, HistoryPolicy, Name, Periodicity, Recipient, Slug, Watcher, WatcherId,
};
use nights_watch::ports::{Record, WatcherStore};
use serde_json::json;

use super::*;
use crate::support::BEGIN;

const CREATE: &str = "/ui/create";

/// What a form has in its fields: the name, the periodicity, the description and the addresses. Line ends of
/// texts are as browsers send them.
fn entries(page: &str) -> [String; 4] {
    let value = |name: &str| only(page, &format!("name=\"{name}\" value=\"([^\"]*)\""));
    // The first line end in it is the parser's.
    let text = |name: &str| {
        let text = only(
            page,
            &format!("<textarea [^>]*name=\"{name}\"[^>]*>\n([^<]*)<"),
        );
        let text = text.replace("\r\n", "\n").replace(['\r', '\n'], "\r\n");
        text.replace('\0', "\u{fffd}")
    };
    // Fields of one line drop its ends.
    let line = |name: &str| value(name).replace(['\r', '\n'], "");
    [
        line("name"),
        line("periodicity"),
        text("description"),
        text("addresses"),
    ]
}

/// The fields that a form complains about.
fn complaints(page: &str) -> Vec<String> {
    let complaints = all(page, "<p class=\"complaint\" id=\"([a-z]*)-complaint\">");
    for field in &complaints {
        let described =
            format!("aria-describedby=\"{field}-complaint {field}-hint\" aria-invalid=\"true\"");
        assert!(page.contains(&described), "{field} in {page}");
    }
    complaints
}

fn fields([name, periodicity, description, addresses]: [&str; 4]) -> [(&str, &str); 4] {
    [
        ("name", name),
        ("periodicity", periodicity),
        ("description", description),
        ("addresses", addresses),
    ]
}

/// Fills in the form at `form`, and sends it.
async fn save(visitor: &mut Visitor<'_>, form: &str, entries: [&str; 4]) -> Reply {
    visitor.send(form, form, &fields(entries)).await
}

#[tokio::test]
async fn a_watcher_is_created_with_everything_that_was_typed() {
    let house = House::open().await;
    let mut visitor = Visitor::of(&house);
    let addresses =
        "a@example.com, b@example.com;c@example.com\r\n\r\n d@example.com e@example.com\r\n";
    let typed = fields([
        " Nightly_Dump ",
        "1h 30m",
        "Dumps db1.\r\nAsk Ann.",
        addresses,
    ]);
    let reply = visitor.send(CREATE, CREATE, &typed).await;
    check_leads(&reply, "/ui/watchers/nightly-dump?done=created");
    let watcher = watcher(&house, "nightly-dump").await;
    assert_eq!(watcher["name"], "Nightly_Dump");
    assert_eq!(watcher["periodicity"], 5_400);
    assert_eq!(watcher["description"], "Dumps db1.\nAsk Ann.");
    assert_eq!(watcher["paused"], false);
    let expected = ["a", "b", "c", "d", "e"].map(|letter| format!("{letter}@example.com"));
    assert_eq!(watcher["emails"], json!(expected));
    let page = visitor.page(reply.header("location")).await;
    assert!(
        page.contains("<p class=\"notice\" role=\"status\">Created. "),
        "{page}"
    );
}

#[tokio::test]
async fn a_watcher_may_begin_paused_and_needs_no_more_than_a_name_and_a_duration() {
    let house = House::open().await;
    let mut visitor = Visitor::of(&house);
    for (typed, seconds) in [
        ("90s", 90.0),
        ("25h", 90_000.0),
        ("7d", 604_800.0),
        ("0.5", 0.5),
    ] {
        let name = format!("W {seconds}");
        let typed = [("name", &*name), ("periodicity", typed), ("paused", "yes")];
        let reply = visitor.send(CREATE, CREATE, &typed).await;
        assert_eq!(reply.status, 303, "{}", reply.text);
        let got = house.call("get", &[("name", &name)]).await.watcher();
        assert_eq!(got["periodicity"].as_f64(), Some(seconds));
        assert_eq!(got["paused"], true);
        assert_eq!(got["emails"], json!([]));
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_said_at_once_beside_its_field_and_what_was_typed_stays() {
    let house = House::open().await;
    house.create("W").await;
    let before = house.everything().await;
    let mut visitor = Visitor::of(&house);
    let long = "<d>".repeat(1_334);
    for edit in [false, true] {
        let form = if edit { "/ui/watchers/w/edit" } else { CREATE };
        let typed = ["<!>", "30m1h", &long, "a@example.com\r\nno \"body\""];
        let typed_fields = [&fields(typed)[..], &[("paused", "yes")]].concat();
        let reply = visitor.send(form, form, &typed_fields).await;
        check_says(&reply, 422, "Nothing was saved yet.");
        let all = ["name", "periodicity", "description", "addresses"];
        assert_eq!(complaints(&reply.text), all);
        assert_eq!(entries(&reply.text), typed);
        assert_eq!(reply.text.contains(" checked"), !edit);
        check_says(&reply, 422, "This has h behind m");
        check_says(&reply, 422, "This is longer than 4000 characters.");
        check_says(&reply, 422, "not an e-mail address: no.");
        assert_eq!(house.everything().await, before);
    }
}

#[tokio::test]
async fn a_form_complains_about_no_more_than_is_wrong() {
    let house = House::open().await;
    let mut visitor = Visitor::of(&house);
    let many = (0..=100)
        .map(|n| format!("a{n}@example.com"))
        .collect::<Vec<_>>();
    let many = many.join("\r\n");
    for (typed, wrong, why) in [
        (["", "1h", "", ""], "name", "This is empty."),
        (["a\tb", "1h", "", ""], "name", "control character"),
        (["W", "", "", ""], "periodicity", "This is neither a number"),
        (["W", "1y", "", ""], "periodicity", "unknown unit \"y\""),
        (["W", "-1", "", ""], "periodicity", "greater than 0"),
        (
            ["W", "1h", "", &many],
            "addresses",
            "more than 100 addresses",
        ),
    ] {
        let reply = visitor.send(CREATE, CREATE, &fields(typed)).await;
        check_says(&reply, 422, why);
        assert_eq!(complaints(&reply.text), [wrong]);
        assert_eq!(entries(&reply.text), typed);
    }
    assert!(house.names(&[]).await.is_empty());
}

#[tokio::test]
async fn a_name_that_is_taken_is_said_beside_the_name() {
    let house = House::open().await;
    house.create("My Watcher").await;
    house.create("Other").await;
    let before = house.everything().await;
    let mut visitor = Visitor::of(&house);
    for form in [CREATE, "/ui/watchers/other/edit"] {
        let typed = ["MY_watcher!", "2h", "about", "a@example.com"];
        let reply = visitor.send(form, form, &fields(typed)).await;
        check_says(&reply, 409, "Another watcher has this name");
        assert_eq!(complaints(&reply.text), ["name"]);
        assert_eq!(entries(&reply.text), typed);
        assert_eq!(house.everything().await, before);
    }
}

#[tokio::test]
async fn an_edit_changes_what_was_touched_and_leads_to_the_page() {
    let house = House::open().await;
    house
        .create_with(&[
            ("name", "Old"),
            ("periodicity", "5400"),
            ("description", "\nfirst\nsecond"),
            ("email", "a@example.com"),
            ("email", "b@example.com"),
        ])
        .await;
    let mut visitor = Visitor::of(&house);
    let form = "/ui/watchers/old/edit";
    let page = visitor.page(form).await;
    let shown = entries(&page);
    let [name, periodicity, description, addresses] = shown.each_ref().map(|text| &**text);
    assert_eq!([name, periodicity], ["Old", "1h30m"]);
    assert_eq!(description, "\r\nfirst\r\nsecond");
    assert_eq!(addresses, "a@example.com\r\nb@example.com");

    let before = house.everything().await;
    let reply = save(
        &mut visitor,
        form,
        [name, periodicity, description, addresses],
    )
    .await;
    check_leads(&reply, "/ui/watchers/old?done=unchanged");
    assert_eq!(house.everything().await, before);
    let page = visitor.page("/ui/watchers/old?done=unchanged").await;
    assert!(page.contains("Everything was so already."), "{page}");

    let reply = save(&mut visitor, form, [name, "2h", description, addresses]).await;
    check_leads(&reply, "/ui/watchers/old?done=saved");
    let reply = save(
        &mut visitor,
        form,
        [name, "2h", description, "c@example.com"],
    )
    .await;
    check_leads(&reply, "/ui/watchers/old?done=saved");
    let reply = save(&mut visitor, form, [name, "2h", "third", ""]).await;
    check_leads(&reply, "/ui/watchers/old?done=saved");
    let reply = save(&mut visitor, form, ["New", "2h", "third", ""]).await;
    check_leads(&reply, "/ui/watchers/new?done=saved");
    let watcher = watcher(&house, "new").await;
    assert_eq!(watcher["name"], "New");
    assert_eq!(watcher["periodicity"], 7_200);
    assert_eq!(watcher["description"], "third");
    assert_eq!(watcher["emails"], json!([]));
    check_page(&visitor.get("/ui/watchers/old").await, 404);
    let page = visitor.page("/ui/watchers/new?done=saved").await;
    assert!(page.contains(">Saved.<"), "{page}");
}

#[tokio::test]
async fn an_edit_leaves_what_somebody_else_has_changed_meanwhile() {
    let house = House::open().await;
    let old = [("name", "Old"), ("periodicity", "60"), ("description", "a")];
    house.create_with(&old).await;
    let mut visitor = Visitor::of(&house);
    let form = "/ui/watchers/old/edit";
    let token = token(&visitor.page(form).await);
    let elsewhere = [
        ("slug", "old"),
        ("periodicity", "90"),
        ("email", "a@x.example"),
    ];
    house.call("update", &elsewhere).await;
    let fields = [
        ("token", &*token),
        ("name", "Old"),
        ("shown-name", "Old"),
        ("periodicity", "1m"),
        ("shown-periodicity", "1m"),
        ("description", "b"),
        ("shown-description", "a"),
        ("addresses", ""),
        ("shown-addresses", ""),
    ];
    let reply = visitor.post(form, &fields).await;
    check_leads(&reply, "/ui/watchers/old?done=saved");
    let watcher = watcher(&house, "old").await;
    assert_eq!(watcher["periodicity"], 90);
    assert_eq!(watcher["emails"], json!(["a@x.example"]));
    assert_eq!(watcher["description"], "b");
}

#[tokio::test]
async fn a_form_is_about_the_watcher_that_it_showed_whatever_is_called_so_by_now() {
    let house = House::open().await;
    house.create("Old").await;
    let mut visitor = Visitor::of(&house);
    let edit = visitor.page("/ui/watchers/old/edit").await;
    let page = visitor.page("/ui/watchers/old").await;
    let delete = visitor.page("/ui/watchers/old/delete").await;
    let ids: Vec<_> = [&edit, &page, &delete]
        .map(|page| all(page, "name=\"id\" value=\"([a-z]{8})\"").remove(0))
        .into();
    let token = token(&edit);
    house
        .call("update", &[("slug", "old"), ("name", "Moved")])
        .await;
    house.create("Old").await;
    let other = watcher(&house, "old").await;

    let fields = [("token", &*token), ("id", &ids[0])];
    let shown = [
        ("name", "Old"),
        ("shown-name", "Old"),
        ("periodicity", "3h"),
    ];
    let reply = visitor
        .post("/ui/watchers/old/edit", &[&fields[..], &shown].concat())
        .await;
    check_leads(&reply, "/ui/watchers/moved?done=saved");
    assert_eq!(watcher(&house, "moved").await["periodicity"], 10_800);
    let fields = [("token", &*token), ("id", &ids[1])];
    assert_eq!(
        visitor.post("/ui/watchers/old/pause", &fields).await.status,
        303
    );
    assert_eq!(watcher(&house, "moved").await["paused"], true);
    let fields = [("token", &*token), ("id", &ids[2])];
    assert_eq!(
        visitor
            .post("/ui/watchers/old/delete", &fields)
            .await
            .status,
        303
    );
    check_page(&visitor.get("/ui/watchers/moved").await, 404);
    assert_eq!(watcher(&house, "old").await, other);
}

#[tokio::test]
async fn the_longest_texts_can_be_edited() {
    let house = House::open().await;
    let description = "\u{1f319}".repeat(4_000);
    house.create("Old").await;
    let mut visitor = Visitor::of(&house);
    let form = "/ui/watchers/old/edit";
    let domain = ["b", "c", "d"].map(|letter| letter.repeat(60)).join(".");
    let addresses: Vec<_> = (0..100)
        .map(|n| format!("{}{n}@{domain}.example", "a".repeat(50)))
        .collect();
    let addresses = addresses.join("\n");
    let fields = fields(["Old", "1m", &description, &addresses]);
    let reply = visitor.send(form, form, &fields).await;
    check_leads(&reply, "/ui/watchers/old?done=saved");
    let again = [&fields[..1], &[("periodicity", "2m")], &fields[2..]].concat();
    let reply = visitor.send(form, form, &again).await;
    check_leads(&reply, "/ui/watchers/old?done=saved");
}

#[tokio::test]
async fn what_was_not_touched_stays_even_if_nobody_could_type_it() {
    let store = Arc::new(MemoryStore::new(HistoryPolicy::default()));
    let draft = Draft {
        name: Name::from_stored("One\r\nTwo".to_owned()),
        description: Description::from_stored(format!("a\r\nb\rc\nd\0{}", "e".repeat(5_000))),
        periodicity: Periodicity::from_millis(3_600_000).unwrap(),
        recipients: vec![
            Recipient::from_stored("nobody at all".to_owned()),
            Recipient::from_stored("x@example.com".to_owned()),
        ],
        paused: false,
    };
    let id = WatcherId::parse("abcdefgh").unwrap();
    let (mut stored, event) = Watcher::create(id, draft, BEGIN);
    stored.slug = Slug::from_text("odd one/two?".to_owned());
    store.insert(&Record::from((stored, event))).await.unwrap();
    let house = House::over(store).await;
    let mut visitor = Visitor::of(&house);
    let page = visitor.page("/ui/").await;
    let link = only(&page, "<a href=\"(/ui/watchers/[^\"]*)\">");
    let form = format!("{link}/edit");
    let before = watcher(&house, "odd one/two?").await;

    let page = visitor.page(&form).await;
    let shown = entries(&page);
    let [name, periodicity, description, addresses] = shown.each_ref().map(|text| &**text);
    let reply = save(
        &mut visitor,
        &form,
        [name, periodicity, description, addresses],
    )
    .await;
    check_leads(&reply, &format!("{link}?done=unchanged"));
    assert_eq!(watcher(&house, "odd one/two?").await, before);
    let reply = save(&mut visitor, &form, [name, "2h", description, addresses]).await;
    check_leads(&reply, &format!("{link}?done=saved"));
    let after = watcher(&house, "odd one/two?").await;
    assert_eq!(after["periodicity"], 7_200);
    for member in ["name", "description", "emails"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    // What is touched is read as ever.
    let addresses = format!("{addresses}\r\ny@example.com");
    let reply = visitor
        .send(&form, &form, &fields([name, "2h", description, &addresses]))
        .await;
    check_page(&reply, 422);
    assert_eq!(complaints(&reply.text), ["addresses"]);
}

#[tokio::test]
async fn buttons_trigger_pause_and_unpause_with_a_comment() {
    let house = House::open().await;
    house.create("W").await;
    let mut visitor = Visitor::of(&house);
    for (act, comment, event, done) in [
        (
            "trigger",
            " by <hand> ",
            "Triggered (by <hand>)",
            "Triggered.",
        ),
        ("pause", "moving", "Paused (moving)", "Paused."),
        ("unpause", "", "Unpaused", "Unpaused."),
        ("pause", "", "Paused", "Paused."),
        ("trigger", "", "Triggered", "Triggered."),
    ] {
        let to = format!("/ui/watchers/w/{act}");
        let reply = visitor
            .send("/ui/watchers/w", &to, &[("comment", comment)])
            .await;
        let past = if act == "trigger" { "ed" } else { "d" };
        check_leads(&reply, &format!("/ui/watchers/w?done={act}{past}"));
        assert_eq!(events(&house, "w").await[0], event);
        let page = visitor.page(reply.header("location")).await;
        let notice = only(&page, "<p class=\"notice\" role=\"status\">([^<]*)</p>");
        assert!(notice.starts_with(done), "{notice}");
        assert!(
            page.contains(&format!("<bdi>{}</bdi>", escaped(event))),
            "{page}"
        );
    }
    // What an address says is shown only if we would say it.
    let page = visitor.page("/ui/watchers/w?done=%3Cb%3Ehacked").await;
    assert!(
        !page.contains("class=\"notice\"") && !page.contains("hacked"),
        "{page}"
    );
}

#[tokio::test]
async fn what_cannot_be_done_is_said_on_a_page() {
    let house = House::open().await;
    house.create("W").await;
    let mut visitor = Visitor::of(&house);
    let reply = visitor
        .send("/ui/watchers/w", "/ui/watchers/w/unpause", &[])
        .await;
    check_says(&reply, 409, "The watcher is not paused.");
    visitor
        .send("/ui/watchers/w", "/ui/watchers/w/pause", &[])
        .await;
    let before = house.everything().await;
    let reply = visitor
        .send("/ui/watchers/w", "/ui/watchers/w/pause", &[])
        .await;
    check_says(&reply, 409, "The watcher is already paused.");
    assert!(reply.text.contains("href=\"/ui/\""), "{}", reply.text);
    let long = "x".repeat(1_001);
    for act in ["trigger", "unpause"] {
        let to = format!("/ui/watchers/w/{act}");
        let reply = visitor
            .send("/ui/watchers/w", &to, &[("comment", &long)])
            .await;
        check_says(&reply, 400, "The comment is longer than 1000 characters.");
    }
    let token = token(&visitor.page(CREATE).await);
    for act in ["trigger", "pause", "unpause", "delete", "edit"] {
        let reply = visitor
            .post(&format!("/ui/watchers/x/{act}"), &[("token", &token)])
            .await;
        check_says(&reply, 404, "There is no such watcher");
    }
    assert_eq!(house.everything().await, before);
}

#[tokio::test]
async fn a_watcher_is_deleted_by_sending_the_form_and_not_by_looking_at_it() {
    let house = House::open().await;
    house.create("W").await;
    house.create("Other").await;
    let before = house.everything().await;
    let mut visitor = Visitor::of(&house);
    let to = "/ui/watchers/w/delete";
    let page = visitor.page(to).await;
    assert!(page.contains("This cannot be undone."), "{page}");
    let token = token(&page);
    visitor.page(&format!("{to}?token={token}")).await;
    for act in ["trigger", "pause", "unpause"] {
        let reply = visitor
            .get(&format!("/ui/watchers/w/{act}?token={token}"))
            .await;
        check_page(&reply, 405);
        assert_eq!(reply.header("allow"), "POST");
    }
    assert_eq!(house.everything().await, before);
    let reply = visitor.send(to, to, &[]).await;
    check_leads(&reply, "/ui/?done=deleted");
    assert_eq!(house.names(&[]).await, ["Other"]);
    let page = visitor.page("/ui/?done=deleted").await;
    assert!(page.contains(">Deleted.<"), "{page}");
    check_page(&visitor.post(to, &[("token", &token)]).await, 404);
}

#[tokio::test]
async fn a_body_that_is_no_form_or_too_large_is_refused() {
    let house = House::open().await;
    let mut visitor = Visitor::of(&house);
    let token = token(&visitor.page(CREATE).await);
    let body = encoded(&[("name", "W"), ("periodicity", "1h"), ("token", &token)]);
    for media_type in [
        "",
        "application/json",
        "text/plain",
        "multipart/form-data; boundary=x",
    ] {
        let request = visitor.request(Method::POST, CREATE);
        let request = request.header(CONTENT_TYPE, media_type).body(body.clone());
        let reply = visitor.ask(request).await;
        check_says(&reply, 415, "This is not sent as a form");
    }
    let padded = |length: usize| format!("{body}&x={}", "x".repeat(length - body.len() - 3));
    for (length, status) in [(256 * 1024 + 1, 413), (256 * 1024, 303)] {
        let request = visitor.request(Method::POST, CREATE);
        let media_type = "Application/X-WWW-Form-Urlencoded; charset=UTF-8";
        let request = request
            .header(CONTENT_TYPE, media_type)
            .body(padded(length));
        let reply = visitor.ask(request).await;
        assert_eq!(reply.status, status, "{}", reply.text);
        if status == 413 {
            check_says(&reply, 413, "The form is larger than 262144 bytes.");
        }
        let names = usize::from(status != 413);
        assert_eq!(house.names(&[]).await.len(), names);
    }
}
