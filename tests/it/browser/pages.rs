//! What people do with the pages: stories from their point of view, told by what is to be read and clicked.

use serde_json::json;
use tempfile::TempDir;
use thirtyfour::Key;

use super::page as other_site;
use super::session::Browser;
use crate::program::{Program, directory};

const KEY: &str = "s3cret";

/// What an error of the interface leaves in the console, and nothing else does.
async fn was_refused(browser: &Browser, status: u16) {
    let console = browser.console().await;
    let refusal = format!("the server responded with a status of {status} ");
    assert!(
        matches!(&console[..], [line] if line.contains(&refusal)),
        "{status}: {console:?}"
    );
}

/// A program that everybody may use, and a browser.
async fn open() -> (Program, Browser, TempDir) {
    let directory = directory();
    let program = Program::start(directory.path(), "").await;
    (program, Browser::start().await, directory)
}

/// A program with a key, and a browser where somebody has signed in and sees the overview.
async fn signed_in(browser: Browser) -> (Program, Browser, TempDir) {
    let directory = directory();
    let program = Program::start(directory.path(), &format!("[wsgi]\nauth_key = {KEY}\n")).await;
    browser.open(&program.at("ui/")).await;
    browser.fill("Key", KEY).await;
    browser.press("Sign in").await;
    browser.is_titled("Night’s Watch").await;
    (program, browser, directory)
}

/// Marks the document, so that it can be told from the one that a reload would bring.
async fn mark(browser: &Browser) {
    browser.run("document.marked = true").await;
}

async fn is_marked(browser: &Browser) -> bool {
    browser.run("return document.marked === true").await == json!(true)
}

/// Waits until the overview lists these: the state and the name of each.
#[track_caller]
fn lists(browser: &Browser, rows: &[&str]) -> impl Future<Output = ()> {
    let script = "const rows = [...document.querySelectorAll('table.watchers tbody tr')]; \
                  const read = (row) => ['.state', '.name'].map((cell) => row.querySelector(cell).innerText.trim()); \
                  return rows.map((row) => read(row).join(' '))";
    browser.insist(format!("it should list {rows:?}"), async move || {
        Ok((browser.run(script).await == json!(rows)).then_some(()))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_lives_from_sign_in_to_sign_out() {
    let directory = directory();
    let ini = format!("[wsgi]\nauth_key = {KEY}\n");
    let program = Program::start(directory.path(), &ini).await;
    let browser = Browser::start().await;

    // Whoever has not signed in is led back to where they wanted to go.
    browser.open(&program.at("ui/create")).await;
    browser.is_titled("Sign in · Night’s Watch").await;
    browser.is_sound().await;
    browser.fill("Key", "wrong").await;
    browser.press("Sign in").await;
    browser.sees("This is not the key.").await;
    was_refused(&browser, 403).await;
    browser.is_sound().await;
    browser.fill("Key", KEY).await;
    browser.press("Sign in").await;
    browser.is_titled("New watcher · Night’s Watch").await;
    browser.follow("Watchers").await;
    browser.sees("There are no watchers yet.").await;
    browser.is_sound().await;

    browser.follow("Create the first one").await;
    browser.is_sound().await;
    browser.fill("Name", "Nightly backup").await;
    browser.fill("Periodicity", "3s").await;
    browser.fill("Description", "Copies the database.").await;
    browser
        .fill("Addresses", "ops@example.org, dev@example.org")
        .await;
    browser.press("Create watcher").await;
    browser.sees("Created.").await;
    mark(&browser).await;
    browser.sees("Copies the database.").await;
    browser.sees("dev@example.org").await;

    browser.press("Copy trigger URL").await;
    browser.sees("Copied").await;
    let comment = browser.field("Comment for: Trigger").await;
    let paste = Key::Control + "v";
    comment.send_keys(paste).await.expect("a field");
    let pasted = comment.value().await.expect("a field");
    assert_eq!(
        pasted,
        Some(browser.read("#trigger-url").await.expect("a URL"))
    );

    // It turns late while it is looked at.
    browser.reads(".title .badge", "late").await;
    browser
        .is_titled("Nightly backup (late) · Night’s Watch")
        .await;
    browser.has("#icon[href^='/ui/late.svg']").await;
    assert!(is_marked(&browser).await, "the page was reloaded");
    browser.is_sound().await;

    // Where this takes long it is late again by the time that it is looked at, so it may take several times.
    let recovers = browser.insist("it should recover".to_owned(), async || {
        browser.fill("Comment for: Trigger", "by hand").await;
        browser.press("Trigger").await;
        Ok((browser.read(".title .badge").await? == "on time").then_some(()))
    });
    recovers.await;
    browser.sees("Triggered (by hand)").await;

    browser.follow("Edit").await;
    browser
        .is_titled("Edit Nightly backup · Night’s Watch")
        .await;
    browser.is_sound().await;
    browser.fill("Name", "Backup").await;
    browser.fill("Periodicity", "25h").await;
    browser.press("Save").await;
    browser.sees("Saved.").await;
    browser.is_titled("Backup (on time) · Night’s Watch").await;
    browser.has("#icon[href^='/ui/calm.svg']").await;
    assert_eq!(browser.url().await, program.at("ui/watchers/backup"));
    browser.is_sound().await;

    browser.fill("Comment for: Pause", "moving house").await;
    browser.press("Pause").await;
    browser.reads(".title .badge", "paused").await;
    browser.sees("Paused (moving house)").await;
    browser.is_sound().await;
    browser.press("Unpause").await;
    browser.reads(".title .badge", "on time").await;

    browser.follow("Delete").await;
    browser.is_titled("Delete Backup · Night’s Watch").await;
    browser.is_sound().await;
    browser.follow("Keep it").await;
    browser.follow("Delete").await;
    browser.press("Delete this watcher").await;
    browser.sees("Deleted.").await;
    browser.sees("There are no watchers yet.").await;
    let list = program.done("list", &[("auth_key", KEY)]).await;
    assert_eq!(list["watchers"], json!([]));

    browser.press("Sign out").await;
    browser.is_titled("Sign in · Night’s Watch").await;
    browser.open(&program.at("ui/")).await;
    browser.is_titled("Sign in · Night’s Watch").await;
    browser.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_change_while_they_are_looked_at() {
    let (program, browser, _directory) = open().await;
    program.create("Daily", "86400", &[]).await;
    browser.open(&program.at("ui/")).await;
    browser.sees("Open to everybody.").await;
    browser.is_titled("Night’s Watch").await;
    mark(&browser).await;
    // Somebody begins to type, and is not to be disturbed.
    let search = browser.field("Search").await;
    search.send_keys("dai").await.expect("a field");

    // The late ones come first.
    program.create("Swift", "1", &[]).await;
    lists(&browser, &["late Swift", "on time Daily"]).await;
    browser.is_titled("1 late · Night’s Watch").await;
    browser.has("#icon[href^='/ui/late.svg']").await;
    browser.is_sound().await;
    let calmer = [("slug", "swift"), ("periodicity", "86400")];
    program.done("update", &calmer).await;
    browser.is_titled("Night’s Watch").await;
    browser.has("#icon[href^='/ui/calm.svg']").await;
    lists(&browser, &["on time Daily", "on time Swift"]).await;
    assert!(is_marked(&browser).await, "the page was reloaded");

    browser.types("ly" + Key::Enter).await;
    lists(&browser, &["on time Daily"]).await;
    assert_eq!(browser.url().await, program.at("ui/?q=daily"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pages_can_be_open_at_a_time() {
    let (program, browser, _directory) = open().await;
    program.create("Daily", "86400", &[]).await;
    browser.open(&program.at("ui/watchers/daily")).await;
    mark(&browser).await;
    // A browser opens six connections to a host and no more.
    for _ in 0..7 {
        browser.open_tab().await;
        browser.open(&program.at("ui/watchers/daily")).await;
    }
    program.done("pause", &[("name", "Daily")]).await;
    browser.is_titled("Daily (paused) · Night’s Watch").await;
    // What was hidden is up to date when it is seen again.
    browser.return_to_first_tab().await;
    browser.is_titled("Daily (paused) · Night’s Watch").await;
    assert!(is_marked(&browser).await, "the page was reloaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_is_signed_out_of_every_page() {
    let (program, browser, _directory) = signed_in(Browser::start().await).await;
    browser.open_tab().await;
    browser.open(&program.at("ui/")).await;
    browser.press("Sign out").await;
    browser.is_titled("Sign in · Night’s Watch").await;
    browser.return_to_first_tab().await;
    browser.is_titled("Sign in · Night’s Watch").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_twice_is_led_on_twice() {
    let (program, browser, _directory) = signed_in(Browser::start().await).await;
    browser.press("Sign out").await;
    browser.is_titled("Sign in · Night’s Watch").await;
    browser.open_tab().await;
    browser.open(&program.at("ui/")).await;
    browser.fill("Key", KEY).await;
    browser.press("Sign in").await;
    browser.is_titled("Night’s Watch").await;
    // The other tab still asks for the key, and the number that its form was made for is of no account any more.
    browser.return_to_first_tab().await;
    browser.fill("Key", KEY).await;
    browser.press("Sign in").await;
    browser.is_titled("Night’s Watch").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_too_late_can_sign_in_and_go_on() {
    let (program, browser, _directory) = signed_in(Browser::start_without_scripts().await).await;
    let daily = [("auth_key", KEY), ("name", "Daily"), ("periodicity", "1d")];
    program.done("create", &daily).await;
    let page = program.at("ui/watchers/daily");
    for (button, title) in [
        ("Pause", "Daily (on time) · Night’s Watch"),
        ("Sign out", "Night’s Watch"),
    ] {
        browser.open(&page).await;
        browser.forget().await;
        browser.press(button).await;
        browser.fill("Key", KEY).await;
        browser.press("Sign in").await;
        browser.is_titled(title).await;
    }
    assert_eq!(browser.console().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_lead_in_but_change_nothing() {
    let (program, browser, _directory) = signed_in(Browser::start().await).await;
    let page = program.at("ui/watchers/daily");
    program
        .done(
            "create",
            &[("auth_key", KEY), ("name", "Daily"), ("periodicity", "1d")],
        )
        .await;
    // As from a mail that is read in a browser: the cookie, which is for our own pages, is not sent at first.
    browser
        .open(&other_site(&format!("<a href={page}>Look</a>")))
        .await;
    browser.follow("Look").await;
    browser.is_titled("Daily (on time) · Night’s Watch").await;
    browser.is_sound().await;
    for act in ["trigger", "pause", "delete"] {
        let form = format!("<form method=post action={page}/{act}><button>Win</button></form>");
        browser.open(&other_site(&form)).await;
        browser.press("Win").await;
        browser
            .insist("it should leave".to_owned(), async || {
                Ok(browser.url().await.starts_with(program.url()).then_some(()))
            })
            .await;
    }
    let list = program
        .done("list", &[("auth_key", KEY), ("verbose", "1")])
        .await;
    let watcher = &list["watchers"][0];
    assert_eq!(watcher["paused"], false);
    assert_eq!(watcher["history"].as_array().expect("a list").len(), 1);
    // Nor is the visitor signed out.
    browser.open(&program.at("ui/")).await;
    browser.is_titled("Night’s Watch").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_says_when_it_hears_nothing_any_more() {
    let (program, browser, _directory) = open().await;
    program.create("Daily", "86400", &[]).await;
    browser.open(&program.at("ui/watchers/daily")).await;
    mark(&browser).await;
    let lost = "The connection is lost. What you see may be outdated.";
    program.suspend();
    browser.sees(lost).await;
    browser
        .is_titled("(?) Daily (on time) · Night’s Watch")
        .await;
    browser.has("#icon[href^='/ui/lost.svg']").await;
    browser.is_sound().await;
    program.resume();
    browser.is_titled("Daily (on time) · Night’s Watch").await;
    browser.has("#icon[href^='/ui/calm.svg']").await;
    assert!(!browser.text().await.contains(lost));
    assert!(is_marked(&browser).await, "the page was reloaded");

    program.done("delete", &[("name", "Daily")]).await;
    browser.is_titled("Not found · Night’s Watch").await;
    was_refused(&browser, 404).await;
    browser.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_and_a_state_choose_watchers() {
    let (program, browser, _directory) = open().await;
    for name in ["Daily backup", "Weekly backup", "Mail"] {
        program.create(name, "86400", &[]).await;
    }
    program.done("pause", &[("name", "Daily backup")]).await;
    browser.open(&program.at("ui/")).await;
    let all = [
        "on time Mail",
        "on time Weekly backup",
        "paused Daily backup",
    ];
    lists(&browser, &all).await;
    browser.fill("Search", "BACKUP").await;
    browser.press("Search").await;
    lists(&browser, &all[1..]).await;
    browser.follow("paused 1").await;
    lists(&browser, &all[2..]).await;
    let url = browser.url().await;
    assert_eq!(url, program.at("ui/?state=paused&q=BACKUP"));
    // The search goes on within what was chosen.
    browser.fill("Search", "mail").await;
    browser.press("Search").await;
    browser.sees("No watcher has “mail”").await;
    browser.is_sound().await;
    browser.back().await;
    lists(&browser, &all[2..]).await;
    browser.follow("All 3").await;
    browser.fill("Search", "").await;
    browser.press("Search").await;
    lists(&browser, &all).await;
    browser.is_sound().await;
    // Somebody has mistyped an address.
    browser.open(&program.at("ui/?state=asleep")).await;
    browser.sees("is not late, on-time or paused").await;
    was_refused(&browser, 400).await;
    browser.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_says_what_is_wrong_with_it() {
    let (program, browser, _directory) = open().await;
    program.create("Daily", "86400", &[]).await;
    browser.open(&program.at("ui/create")).await;
    browser.fill("Name", "daily").await;
    browser.fill("Periodicity", "often").await;
    browser.fill("Description", "<b>Bold</b>").await;
    browser.fill("Addresses", "ops@example.org nobody").await;
    browser.press("Create watcher").await;
    browser.sees("Nothing was saved yet.").await;
    was_refused(&browser, 422).await;
    browser.is_sound().await;
    // What is wrong is told where it is wrong, also to who does not see it.
    for (label, is_wrong) in [
        ("Name", false),
        ("Periodicity", true),
        ("Description", false),
        ("Addresses", true),
    ] {
        let field = browser.field(label).await;
        let invalid = field.attr("aria-invalid").await.expect("a field");
        assert_eq!(invalid.as_deref(), is_wrong.then_some("true"), "{label}");
        let described = field.attr("aria-describedby").await.expect("a field");
        let described = described.expect("a hint at least");
        for id in described.split(' ') {
            browser.find(&format!("#{id}")).await;
        }
    }
    // Nothing has to be typed again.
    let description = browser.field("Description").await.value().await;
    assert_eq!(
        description.expect("a field").as_deref(),
        Some("<b>Bold</b>")
    );
    browser.fill("Periodicity", "1d").await;
    browser.fill("Addresses", "ops@example.org").await;
    browser.press("Create watcher").await;
    browser.sees("Another watcher has this name").await;
    was_refused(&browser, 409).await;
    browser.is_sound().await;
    browser.fill("Name", "Daily again").await;
    browser
        .field("Begin paused")
        .await
        .click()
        .await
        .expect("a box");
    browser.press("Create watcher").await;
    browser.reads(".title .badge", "paused").await;
    browser.sees("<b>Bold</b>").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_everything_can_be_done() {
    let browser = Browser::start_without_scripts().await;
    let (_program, browser, _directory) = signed_in(browser).await;
    browser.follow("New watcher").await;
    browser.fill("Name", "Daily").await;
    browser.fill("Periodicity", "1d").await;
    browser.press("Create watcher").await;
    browser.reads(".title .badge", "on time").await;
    browser.sees("Created.").await;
    browser.sees("Times are in UTC.").await;
    let times = "const times = [...document.querySelectorAll('time')]; \
                 return times.map((time) => [time.dateTime, time.textContent])";
    for time in browser.run(times).await.as_array().expect("a list") {
        let [at, told] = [0, 1].map(|part| time[part].as_str().expect("text"));
        let utc = format!("{} UTC", at[..19].replace('T', " "));
        assert_eq!(told, utc);
    }

    browser.fill("Comment for: Pause", "moving").await;
    browser.press("Pause").await;
    browser.reads(".title .badge", "paused").await;
    browser.sees("Paused (moving)").await;
    browser.fill("Comment for: Trigger", "back").await;
    browser.press("Trigger").await;
    browser.reads(".title .badge", "on time").await;
    browser.sees("Triggered (back)").await;
    browser.follow("Edit").await;
    browser.fill("Periodicity", "2d").await;
    browser.press("Save").await;
    browser.sees("Saved.").await;

    browser.follow("Watchers").await;
    browser.fill("Search", "nothing").await;
    browser.press("Search").await;
    browser.sees("No watcher has “nothing”").await;
    browser.fill("Search", "ail").await;
    browser.press("Search").await;
    browser.follow("Daily").await;
    browser.follow("Delete").await;
    browser.press("Delete this watcher").await;
    browser.sees("There are no watchers yet.").await;
    browser.press("Sign out").await;
    browser.field("Key").await;
    assert_eq!(browser.console().await, [""; 0]);
}

/// Goes on with the tabulator until what says `text`, or is labelled so, has the focus, which is to be seen.
async fn tab_to(browser: &Browser, text: &str) {
    let script = "const focused = document.activeElement; \
                  const { outlineStyle, outlineWidth } = getComputedStyle(focused); \
                  const label = focused.labels?.[0] ?? focused; \
                  const { left, right } = focused.getBoundingClientRect(); \
                  return [label.innerText.trim(), outlineStyle !== 'none' && parseFloat(outlineWidth) > 0 && right > 0]";
    let mut seen = Vec::new();
    while seen.len() < 50 {
        browser.types(Key::Tab).await;
        let focused = browser.run(script).await;
        let said = focused[0].as_str().expect("text").to_owned();
        assert_eq!(focused[1], true, "nobody sees that “{said}” has the focus");
        if said.starts_with(text) {
            return;
        }
        seen.push(said);
    }
    panic!("“{text}” is not among {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_creates_and_deletes_a_watcher() {
    let (program, browser, _directory) = open().await;
    browser.open(&program.at("ui/")).await;
    browser.types(Key::Tab).await;
    let first = "return document.activeElement.innerText";
    assert_eq!(browser.run(first).await, "Skip to the content");
    browser.types(Key::Enter).await;
    // What comes next is in the content.
    tab_to(&browser, "Search").await;
    tab_to(&browser, "Create the first one").await;
    browser.types(Key::Enter).await;
    browser.is_titled("New watcher · Night’s Watch").await;
    for (label, text) in [
        ("Name", "Daily"),
        ("Periodicity", "1d"),
        ("Addresses", "ops@example.org"),
    ] {
        tab_to(&browser, label).await;
        browser.types(text).await;
    }
    tab_to(&browser, "Begin paused").await;
    browser.types(" ").await;
    tab_to(&browser, "Create watcher").await;
    browser.types(Key::Enter).await;
    browser.is_titled("Daily (paused) · Night’s Watch").await;
    tab_to(&browser, "Unpause").await;
    browser.types(Key::Enter).await;
    browser.is_titled("Daily (on time) · Night’s Watch").await;
    tab_to(&browser, "Delete").await;
    browser.types(Key::Enter).await;
    browser.is_titled("Delete Daily · Night’s Watch").await;
    tab_to(&browser, "Delete this watcher").await;
    browser.types(Key::Enter).await;
    browser.sees("There are no watchers yet.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_told_in_the_zone_of_the_visitor() {
    let (program, browser, _directory) = open().await;
    program.create("Daily", "86400", &[]).await;
    browser.travel("Asia/Tokyo").await;
    browser.open(&program.at("ui/watchers/daily")).await;
    browser.sees("Times are in Asia/Tokyo.").await;
    browser.sees("in 23 h 59 min").await;
    let event = browser.find(".history time").await;
    let at = event.attr("datetime").await.expect("a time");
    let at = at.expect("it is said to programs too");
    let at = at.parse::<chrono::DateTime<chrono::Utc>>();
    // Japan knows no summer time.
    let there = at.expect("RFC 3339") + chrono::TimeDelta::hours(9);
    let told = event.text().await.expect("text");
    assert_eq!(told, there.format("%Y-%m-%d %H:%M:%S").to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_is_shown_as_text_and_breaks_no_page() {
    const SCRIPT: &str = "<script>alert(1)</script>";
    let long = "W".repeat(255);
    let hostile = [
        SCRIPT,
        "\"><img src=x onerror=alert(1)>",
        "</title></textarea></h1><h1>big</h1>&amp;&lt;",
        "\u{202e}sdrawkcab",
        &long,
    ];
    let (program, browser, _directory) = open().await;
    // As narrow as a small phone.
    browser.resize(320, 800).await;
    for text in hostile {
        let whole = text.repeat(3);
        let address = format!("{}@example.org", "a".repeat(64));
        let parameters = [
            ("name", text),
            ("periodicity", "86400"),
            ("description", &whole),
            ("email", &address),
        ];
        let slug = program.done("create", &parameters).await["watcher"]["slug"].clone();
        let slug = slug.as_str().expect("a slug");
        program
            .done("trigger", &[("name", text), ("comment", &whole)])
            .await;
        let page = program.at(&format!("ui/watchers/{slug}"));
        browser.open(&page).await;
        browser.sees(&format!("Triggered ({whole})")).await;
        shows(&browser, text).await;
        for part in ["edit", "delete"] {
            browser.open(&format!("{page}/{part}")).await;
            shows(&browser, text).await;
        }
    }
    browser.open(&program.at("ui/")).await;
    for text in hostile {
        shows(&browser, text).await;
    }
    browser.fill("Search", "\u{202e}<script>").await;
    browser.press("Search").await;
    browser.sees("No watcher has").await;
    shows(&browser, "\u{202e}<script>").await;

    browser.open(&program.at("ui/create")).await;
    for label in ["Name", "Periodicity", "Description", "Addresses"] {
        browser.fill(label, SCRIPT).await;
    }
    browser.press("Create watcher").await;
    browser
        .sees("has something in it that is not an e-mail address")
        .await;
    was_refused(&browser, 422).await;
    shows(&browser, SCRIPT).await;
}

/// Sees to it that `text` is on the page as it is, and has done nothing to the rest.
async fn shows(browser: &Browser, text: &str) {
    let url = browser.url().await;
    let shown = "const fields = [...document.querySelectorAll('input, textarea')]; \
                 return [document.body.innerText, ...fields.map((field) => field.value)].join('\\n')";
    let shown = browser.run(shown).await;
    let shown = shown.as_str().expect("text");
    assert!(shown.contains(text), "{url} has no {text}:\n{shown}");
    let strange = "return document.querySelectorAll('body script, img, h1 ~ h1, [onerror]').length";
    assert_eq!(browser.run(strange).await, 0, "{url}");
    // What turns the direction of writing does so within its own element.
    let loose = "const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); \
                 const loose = []; \
                 while (walker.nextNode()) { \
                   const { data, parentElement } = walker.currentNode; \
                   const { display, unicodeBidi } = getComputedStyle(parentElement); \
                   if (data.includes('\u{202e}') && display === 'inline' && unicodeBidi === 'normal') loose.push(data); \
                 } \
                 return loose";
    assert_eq!(browser.run(loose).await, json!([]), "{url}");
    assert_eq!(browser.faults().await, [""; 0], "{url}");
}
