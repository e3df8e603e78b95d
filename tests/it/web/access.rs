//! Who may see and do what.

use std::time::Duration;

use reqwest::header::HeaderValue;

use super::*;
use crate::http::{check_error, check_triggered};
use crate::smtp::base_url;

/// How many wrong keys are free, and how many milliseconds each one after that takes.
const FREE: usize = 10;
const EACH: u64 = 10_000;

/// The pages that are there, and are for those who have the key.
const PAGES: [&str; 6] = [
    "/ui/",
    "/ui/?state=late&q=a+%22b",
    "/ui/create",
    "/ui/watchers/awake",
    "/ui/watchers/awake/edit",
    "/ui/watchers/awake/delete",
];

/// What changes something, and needs a form of ours.
const FORMS: [&str; 6] = [
    "/ui/create",
    "/ui/watchers/awake/edit",
    "/ui/watchers/awake/delete",
    "/ui/watchers/awake/trigger",
    "/ui/watchers/awake/pause",
    "/ui/watchers/asleep/unpause",
];

/// What would be good entries for each of the forms.
const ENTRIES: [(&str, &str); 3] = [("name", "New"), ("periodicity", "2h"), ("key", KEY)];

#[tokio::test]
async fn without_a_key_everybody_may_do_everything_and_every_page_says_so() {
    let house = House::open().await;
    house.create("Awake").await;
    let mut visitor = Visitor::of(&house);
    for path in PAGES {
        let page = visitor.page(path).await;
        assert!(page.contains("Open to everybody."), "{path}: {page}");
        assert!(!page.contains("Sign out"), "{path}");
    }
    check_leads(&visitor.get("/ui/sign-in").await, "/ui/");
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::signed_in(&house).await;
    for path in PAGES {
        let page = visitor.page(path).await;
        assert!(!page.contains("Open to everybody."), "{path}");
        assert!(page.contains("Sign out"), "{path}");
    }
}

#[tokio::test]
async fn with_a_key_every_page_leads_to_the_sign_in_and_from_there_back() {
    let (house, _) = locked(None).await;
    for path in PAGES {
        let mut visitor = Visitor::of(&house);
        let reply = visitor.get(path).await;
        let sign_in = reply.header("location").to_owned();
        check_leads(&reply, &sign_in);
        assert!(sign_in.starts_with("/ui/sign-in?to="), "{sign_in}");
        assert_eq!(reply.text, "");
        let page = visitor.page(&sign_in).await;
        assert_eq!(title(&page), "Sign in");
        assert!(!page.contains("wake") || path.contains("awake"), "{page}");
        assert!(page.contains("type=\"password\""), "{page}");
        let to = only(&page, "name=\"to\" value=\"([^\"]*)\"");
        let reply = visitor
            .send(&sign_in, "/ui/sign-in", &[("key", KEY), ("to", &to)])
            .await;
        check_leads(&reply, path);
        assert!(visitor.is_welcome().await);
        // Who is signed in has nothing to do there.
        check_leads(&visitor.get(&sign_in).await, path);
    }
}

#[tokio::test]
async fn who_sends_a_form_without_a_session_comes_back_to_a_page_that_is_there() {
    let (house, _) = locked(None).await;
    let before = everything(&house).await;
    for (path, back) in [
        ("/ui/watchers/awake/delete", "/ui/watchers/awake"),
        ("/ui/watchers/awake/trigger", "/ui/watchers/awake"),
        ("/ui/watchers/awake/pause", "/ui/watchers/awake"),
        ("/ui/watchers/asleep/unpause", "/ui/watchers/asleep"),
    ] {
        let mut visitor = Visitor::of(&house);
        let reply = visitor.post(path, &ENTRIES).await;
        assert_eq!(reply.status, 303, "{path}");
        let sign_in = reply.header("location").to_owned();
        let to = only(
            &visitor.page(&sign_in).await,
            "name=\"to\" value=\"([^\"]*)\"",
        );
        let reply = visitor
            .send(&sign_in, "/ui/sign-in", &[("key", KEY), ("to", &to)])
            .await;
        check_leads(&reply, back);
        visitor.page(back).await;
    }
    let reply = Visitor::of(&house).post("/ui/sign-out", &[]).await;
    check_leads(&reply, "/ui/sign-in");
    assert_eq!(everything(&house).await, before);
}

#[tokio::test]
async fn a_session_that_ends_while_somebody_types_loses_nothing() {
    let (house, _) = locked(None).await;
    for (path, name) in [("/ui/create", "One"), ("/ui/watchers/awake/edit", "Two")] {
        let before = everything(&house).await;
        let mut visitor = Visitor::of(&house);
        let fields = [
            ("name", name),
            ("shown-name", "Awake"),
            ("periodicity", "2h"),
        ];
        let with = |token: &str| encoded(&[&fields[..], &[("token", token)]].concat());
        let typed = |page: &str| only(page, "id=\"name\" name=\"name\" value=\"([^\"]*)\"");
        let reply = visitor.post(path, &fields).await;
        check_says(
            &reply,
            403,
            "Your session has ended, so nothing was changed.",
        );
        assert_eq!(typed(&reply.text), name);
        // After a sign-in in another tab that form is still not one of the session, but the next one is.
        let ended = token(&reply.text);
        assert_eq!(visitor.sign_in(KEY).await.status, 303);
        let request = visitor
            .request(Method::POST, path)
            .header(CONTENT_TYPE, FORM);
        let reply = visitor.ask(request.body(with(&ended))).await;
        check_says(&reply, 403, "Please send it again.");
        assert_eq!(typed(&reply.text), name);
        assert_eq!(everything(&house).await, before);
        let request = visitor
            .request(Method::POST, path)
            .header(CONTENT_TYPE, FORM);
        let reply = visitor.ask(request.body(with(&token(&reply.text)))).await;
        assert_eq!(reply.status, 303, "{}", reply.text);
        assert_ne!(everything(&house).await, before);
    }
}

#[tokio::test]
async fn a_sign_in_leads_to_no_place_but_a_page() {
    let (house, id) = locked(None).await;
    let trigger = format!("/ui/../{id}");
    for to in [
        "",
        "/",
        "/docs",
        "//evil.example/ui/",
        "/\\evil.example/ui/",
        "https://evil.example/ui/",
        "javascript:alert(1)",
        "/ui/\\evil.example",
        "/ui/\r\nset-cookie: a=b",
        "/ui/ x",
        "/ui",
        "/ui/../docs",
        "/ui/%2e%2e/docs",
        "/ui/..//evil.example",
        &trigger,
        "/ui/nothing",
        "/ui/sign-out",
        "/ui/watchers/awake/trigger",
    ] {
        let mut visitor = Visitor::of(&house);
        let sign_in = format!("/ui/sign-in?{}", encoded(&[("to", to)]));
        let page = visitor.page(&sign_in).await;
        assert_eq!(
            only(&page, "name=\"to\" value=\"([^\"]*)\""),
            "/ui/",
            "{to}"
        );
        let reply = visitor
            .send(&sign_in, "/ui/sign-in", &[("key", KEY), ("to", to)])
            .await;
        check_leads(&reply, "/ui/");
        check_leads(&visitor.get(&sign_in).await, "/ui/");
    }
}

#[tokio::test]
async fn a_wrong_key_signs_nobody_in() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::of(&house);
    for key in [
        "",
        "hunter2",
        &KEY[1..],
        &format!("{KEY} "),
        &KEY.to_uppercase(),
    ] {
        let fields = [("key", key), ("to", "/ui/create")];
        let reply = visitor.send("/ui/sign-in", "/ui/sign-in", &fields).await;
        check_says(&reply, 403, "This is not the key.");
        // The next try leads to the same place.
        assert_eq!(
            only(&reply.text, "name=\"to\" value=\"([^\"]*)\""),
            "/ui/create"
        );
        assert!(
            key.is_empty() || !reply.text.contains(&escaped(key)),
            "{}",
            reply.text
        );
        assert!(!visitor.is_welcome().await, "{key}");
    }
    assert_eq!(visitor.sign_in(KEY).await.status, 303);
    assert!(visitor.is_welcome().await);
}

#[tokio::test]
async fn who_guesses_keys_has_to_wait_while_triggers_and_programs_go_on() {
    let (house, id) = locked(None).await;
    let mut guesser = Visitor::of(&house);
    guesser.address = Some("198.51.100.7");
    // The first one over those that are free is answered too: it costs the wait.
    for n in 0..=FREE {
        assert_eq!(guesser.sign_in(&format!("wrong {n}")).await.status, 403);
    }
    for key in ["another", KEY] {
        let reply = guesser.sign_in(key).await;
        check_says(&reply, 429, "Too many wrong keys came from your address.");
        assert_eq!(reply.header("retry-after"), "10");
        assert!(!guesser.is_welcome().await);
    }
    // A wrong one that is tried again tells nothing new.
    assert_eq!(guesser.sign_in("wrong 3").await.status, 403);

    let trigger = guesser.request(Method::GET, &format!("/{id}"));
    check_triggered(&Reply::to(trigger).await, false, false);
    let list = guesser.request(Method::GET, &path("list", &[("auth_key", KEY)]));
    assert_eq!(Reply::to(list).await.status, 200);
    let wrong = guesser.request(Method::GET, &format!("{API}/list?auth_key=wrong"));
    check_error(&Reply::to(wrong).await, 401, "auth_key");
    let mut neighbour = Visitor::of(&house);
    neighbour.address = Some("198.51.100.8");
    assert_eq!(neighbour.sign_in(KEY).await.status, 303);

    house.advance_millis(EACH - 1);
    let reply = guesser.sign_in(KEY).await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.header("retry-after"), "1");
    house.advance_millis(1);
    assert_eq!(guesser.sign_in("the last").await.status, 403);
    assert_eq!(guesser.sign_in(KEY).await.status, 429);
    house.advance_millis(EACH);
    assert_eq!(guesser.sign_in(KEY).await.status, 303);
    assert!(guesser.is_welcome().await);
}

#[tokio::test]
async fn a_cookie_is_kept_from_scripts_from_other_sites_and_from_other_paths() {
    for (url, is_secure) in [
        (None, false),
        (Some("http://watch.example.org"), false),
        (Some("https://watch.example.org"), true),
    ] {
        let (house, _) = locked(url.and_then(base_url)).await;
        let mut visitor = Visitor::of(&house);
        let visit = visitor.get("/ui/").await;
        let sign_in = visitor.sign_in(KEY).await;
        let sign_out = visitor.send("/ui/", "/ui/sign-out", &[]).await;
        check_leads(&sign_out, "/ui/sign-in");
        assert_eq!(visitor.cookie, None);
        let week = 7 * 24 * 60 * 60;
        for (reply, age) in [(visit, week), (sign_in, week), (sign_out, 0)] {
            let cookie = reply.header("set-cookie");
            let (_, said) = cookie.split_once(';').unwrap();
            let mut said: Vec<_> = said.split(';').map(str::trim).collect();
            said.sort_unstable();
            let age = format!("Max-Age={age}");
            let mut expected = vec!["HttpOnly", &age, "Path=/ui", "SameSite=Strict"];
            expected.extend(is_secure.then_some("Secure"));
            assert_eq!(said, expected);
        }
    }
}

#[tokio::test]
async fn an_altered_cookie_is_none() {
    let (house, _) = locked(None).await;
    let visitor = Visitor::signed_in(&house).await;
    let claims = visitor.claims();
    let cookie = |claims: &[String]| format!("nights_watch={}", claims.join("."));
    let is_welcome = async |cookie: &str| Visitor::with_cookie(&house, cookie).is_welcome().await;
    assert!(is_welcome(&cookie(&claims)).await);
    // Beside cookies of others, and of ours that do not hold.
    let among = format!("a=b; nights_watch=x; {}; c=d", cookie(&claims));
    assert!(is_welcome(&among).await);
    for part in 0..claims.len() {
        for place in 0..claims[part].len() {
            let mut claims = claims.clone();
            let old = claims[part].as_bytes()[place];
            let new = if old == b'1' { "2" } else { "1" };
            claims[part].replace_range(place..=place, new);
            assert!(!is_welcome(&cookie(&claims)).await, "{claims:?}");
        }
    }
    let [session, until, signature] = claims.clone();
    let later = format!("{}", until.parse::<i64>().unwrap() + 1);
    for forged in [
        vec![session.clone(), later, signature.clone()],
        vec![session.clone(), until.clone(), String::new()],
        vec![session.clone(), until.clone()],
        vec![session.clone(), signature.clone()],
        vec![session.to_uppercase() + ".", until, signature],
        vec![session],
        vec![],
    ] {
        assert!(!is_welcome(&cookie(&forged)).await, "{forged:?}");
    }
    // Cookies of others need not be text, and hide none of ours.
    let mut visitor = Visitor::of(&house);
    let among = [b"other=J\xfcrgen; ".as_slice(), cookie(&claims).as_bytes()].concat();
    let request = visitor.request(Method::GET, "/ui/");
    let request = request.header(COOKIE, HeaderValue::from_bytes(&among).unwrap());
    assert_eq!(visitor.ask(request).await.status, 200);
}

#[tokio::test]
async fn nothing_that_the_key_could_be_guessed_from_is_given_to_strangers() {
    // The same stranger would get the same from a service with another key.
    let (house, _) = locked(None).await;
    let other = House::locked_by("another").await;
    let mut stranger = Visitor::of(&house);
    let page = stranger.page("/ui/sign-in").await;
    assert_eq!(stranger.cookie, None);
    let mut same = Visitor::of(&other);
    same.visit = stranger.visit.clone();
    assert_eq!(token(&same.page("/ui/sign-in").await), token(&page));
    assert_eq!(same.visit, stranger.visit);
    // And what strangers have is no session, whatever it is called.
    let number = stranger.visit.unwrap();
    let number = number
        .strip_prefix("nights_watch_visit=")
        .unwrap()
        .to_owned();
    for cookie in [&number, &format!("{number}.9999999999999.{}", token(&page))] {
        let cookie = format!("nights_watch={cookie}");
        assert!(!Visitor::with_cookie(&house, &cookie).is_welcome().await);
    }
}

#[tokio::test]
async fn who_has_signed_in_meanwhile_is_led_on_from_a_sign_in_form() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::of(&house);
    let page = visitor.page("/ui/sign-in").await;
    assert_eq!(visitor.sign_in(KEY).await.status, 303);
    let session = visitor.cookie.clone();
    // In the other tab, rightly or wrongly.
    for key in [KEY, "wrong"] {
        let fields = [("key", key), ("to", "/ui/create"), ("token", &token(&page))];
        check_leads(&visitor.post("/ui/sign-in", &fields).await, "/ui/create");
        assert_eq!(visitor.cookie, session);
    }
}

#[tokio::test]
async fn where_there_is_no_key_visits_last_as_long_as_they_are_used() {
    let house = House::open().await;
    let mut visitor = Visitor::of(&house);
    visitor.page("/ui/").await;
    let visit = visitor.visit.clone();
    let reply = visitor.get("/ui/").await;
    assert!(reply.header("set-cookie").contains("Max-Age=604800"));
    assert_eq!(visitor.visit, visit);
}

#[tokio::test]
async fn no_form_is_taken_from_another_site_whatever_it_knows() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::signed_in(&house).await;
    let token = token(&visitor.page("/ui/create").await);
    let fields = [&ENTRIES[..], &[("token", &*token)]].concat();
    let before = everything(&house).await;
    for (site, status) in [
        ("cross-site", 403),
        ("same-site", 403),
        ("same-origin", 303),
    ] {
        assert_eq!(everything(&house).await, before);
        let request = visitor.request(Method::POST, "/ui/create");
        let request = request
            .header("sec-fetch-site", site)
            .header(CONTENT_TYPE, FORM);
        let reply = visitor.ask(request.body(encoded(&fields))).await;
        assert_eq!(reply.status, status, "{site}");
    }
}

#[tokio::test]
async fn a_session_ends_a_week_after_it_was_used() {
    let (house, _) = locked(None).await;
    let cookie = Visitor::signed_in(&house).await.cookie.unwrap();
    house.advance_millis(7 * DAY - 1);
    assert!(Visitor::with_cookie(&house, &cookie).is_welcome().await);
    house.advance_millis(1);
    assert!(!Visitor::with_cookie(&house, &cookie).is_welcome().await);
}

#[tokio::test]
async fn a_session_that_is_used_goes_on() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::signed_in(&house).await;
    let first = visitor.claims();
    house.advance_millis(HOUR);
    let reply = visitor.get("/ui/").await;
    assert_eq!(reply.header("set-cookie"), "");
    house.advance_millis(1);
    let reply = visitor.get("/ui/").await;
    assert_ne!(reply.header("set-cookie"), "");
    let renewed = visitor.claims();
    assert_eq!(renewed[0], first[0]);
    let until = |claims: &[String; 3]| claims[1].parse::<u64>().unwrap();
    assert_eq!(until(&renewed) - until(&first), HOUR + 1);
    for _ in 0..4 {
        house.advance_millis(6 * DAY);
        assert!(visitor.is_welcome().await);
        assert_eq!(visitor.claims()[0], first[0]);
    }
}

#[tokio::test]
async fn who_signs_out_ends_every_copy_of_the_session() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::signed_in(&house).await;
    let old = visitor.cookie.clone().unwrap();
    house.advance_millis(2 * HOUR);
    assert!(visitor.is_welcome().await);
    let renewed = visitor.cookie.clone().unwrap();
    assert_ne!(renewed, old);
    let mut other = Visitor::signed_in(&house).await;

    let reply = visitor.send("/ui/", "/ui/sign-out", &[]).await;
    check_leads(&reply, "/ui/sign-in");
    for cookie in [&old, &renewed] {
        assert!(!Visitor::with_cookie(&house, cookie).is_welcome().await);
    }
    assert!(other.is_welcome().await);
    // Not even when those are forgotten that have ended meanwhile.
    house.advance_millis(7 * DAY - 1);
    let mut third = Visitor::signed_in(&house).await;
    third.send("/ui/", "/ui/sign-out", &[]).await;
    assert!(!Visitor::with_cookie(&house, &renewed).is_welcome().await);
}

#[tokio::test]
async fn a_session_holds_wherever_the_key_is_the_same_and_nowhere_else() {
    let (first, _) = locked(None).await;
    let (same, _) = locked(None).await;
    let other = House::locked_by("another").await;
    let open = House::open().await;
    let cookie = Visitor::signed_in(&first).await.cookie.unwrap();
    assert!(Visitor::with_cookie(&same, &cookie).is_welcome().await);
    assert!(!Visitor::with_cookie(&other, &cookie).is_welcome().await);
    // Nor does what was given to a visitor of a service without a key.
    let mut visitor = Visitor::of(&open);
    visitor.page("/ui/").await;
    assert_eq!(visitor.cookie, None);
    assert!(
        !Visitor::with_cookie(&first, &visitor.visit.unwrap())
            .is_welcome()
            .await
    );
    // Nor does anything where there is no key.
    assert!(Visitor::with_cookie(&open, &cookie).is_welcome().await);
}

#[tokio::test]
async fn a_session_that_somebody_else_has_begun_is_not_the_one_that_is_signed_in() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::of(&house);
    visitor.page("/ui/sign-in").await;
    let begun = visitor.visit.clone().unwrap();
    assert_eq!(visitor.sign_in(KEY).await.status, 303);
    let number = begun.strip_prefix("nights_watch_visit=").unwrap();
    assert_ne!(visitor.claims()[0], number);
    assert!(!Visitor::with_cookie(&house, &begun).is_welcome().await);
}

#[tokio::test]
async fn a_form_that_was_not_made_for_the_session_changes_nothing() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::signed_in(&house).await;
    let mut other = Visitor::signed_in(&house).await;
    let foreign = token(&other.page("/ui/create").await);
    let right = token(&visitor.page("/ui/create").await);
    assert_ne!(foreign, right);
    let wrong = right.replace(['0', '1'], "2");
    let before = everything(&house).await;
    let longer = format!("{right}0");
    let forged = ["", &wrong, &foreign, &longer, &visitor.claims()[2]];
    for token in forged.map(|token| ("token", token)) {
        for path in FORMS {
            let fields = [&ENTRIES[..], &[token]].concat();
            let reply = visitor.post(path, &fields).await;
            check_says(
                &reply,
                403,
                "made for another visit, so nothing was changed",
            );
            let reply = visitor.post(path, &ENTRIES).await;
            check_page(&reply, 403);
            // A token counts in the form alone.
            let reply = visitor
                .post(&format!("{path}?token={right}"), &fields)
                .await;
            check_page(&reply, 403);
            assert_eq!(everything(&house).await, before, "{path}");
        }
        check_page(&visitor.post("/ui/sign-out", &[token]).await, 403);
        assert!(visitor.is_welcome().await);
        let mut stranger = Visitor::of(&house);
        stranger.page("/ui/sign-in").await;
        let fields = [&ENTRIES[..], &[token]].concat();
        let reply = stranger.post("/ui/sign-in", &fields).await;
        check_says(&reply, 403, "This form was made for another visit.");
        assert!(!stranger.is_welcome().await);
    }
    // What was typed is there still.
    let reply = visitor.post("/ui/create", &ENTRIES).await;
    assert_eq!(only(&reply.text, "name=\"name\" value=\"([^\"]*)\""), "New");
    // The same forms with the right token are taken.
    for path in [
        "/ui/watchers/awake/trigger",
        "/ui/watchers/asleep/unpause",
        "/ui/create",
    ] {
        let fields = [&ENTRIES[..], &[("token", &*right)]].concat();
        assert_eq!(visitor.post(path, &fields).await.status, 303, "{path}");
    }
}

#[tokio::test]
async fn without_a_cookie_no_form_is_taken_not_even_where_there_is_no_key() {
    let house = House::open().await;
    house.create("Awake").await;
    house
        .create_with(&[("name", "Asleep"), ("periodicity", "60"), ("paused", "1")])
        .await;
    let mut other = Visitor::of(&house);
    let token = token(&other.page("/ui/create").await);
    let before = house.everything().await;
    for path in FORMS {
        let fields = [&ENTRIES[..], &[("token", &*token)]].concat();
        let reply = Visitor::of(&house).post(path, &fields).await;
        check_says(
            &reply,
            403,
            "made for another visit, so nothing was changed",
        );
        assert_eq!(house.everything().await, before, "{path}");
    }
    // There is nobody to be signed out.
    let reply = Visitor::of(&house).post("/ui/sign-out", &[]).await;
    check_leads(&reply, "/ui/");
}

#[tokio::test]
async fn the_key_opens_pages_at_the_sign_in_alone_and_stands_on_none() {
    let (house, _) = locked(None).await;
    for path in PAGES.iter().chain(&FORMS) {
        let sign = if path.contains('?') { '&' } else { '?' };
        let by_query = format!(
            "{path}{sign}{}",
            encoded(&[("auth_key", KEY), ("key", KEY)])
        );
        let mut visitor = Visitor::of(&house);
        for request in [
            visitor.request(Method::GET, &by_query),
            visitor.request(Method::GET, path).bearer_auth(KEY),
            visitor.request(Method::GET, path).basic_auth("", Some(KEY)),
            visitor.request(Method::POST, path).bearer_auth(KEY),
        ] {
            let reply = visitor.ask(request).await;
            // What is no form is none, whoever sends it.
            assert!(
                [303, 405, 415].contains(&reply.status),
                "{path}: {}",
                reply.text
            );
            assert!(!visitor.is_welcome().await, "{path}");
        }
    }
    let mut visitor = Visitor::of(&house);
    let mut seen = vec![visitor.get("/ui/sign-in").await];
    seen.push(visitor.sign_in("wrong").await);
    seen.push(visitor.post("/ui/sign-in", &[("key", KEY)]).await);
    seen.push(visitor.sign_in(KEY).await);
    for path in PAGES {
        seen.push(visitor.get(path).await);
    }
    seen.push(visitor.post("/ui/create", &ENTRIES).await);
    for reply in seen {
        let all = reply.everything();
        assert!(!all.contains(KEY) && !all.contains(&escaped(KEY)), "{all}");
    }
}

#[tokio::test]
async fn a_clock_that_steps_back_ends_no_session() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::signed_in(&house).await;
    house
        .clock
        .set(crate::support::BEGIN.before(Duration::from_hours(1)));
    assert!(visitor.is_welcome().await);
}
