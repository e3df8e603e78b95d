//! What all answers under `/ui` have in common, and what stands beside the pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use nights_watch::ports::StoreError;

use super::*;
use crate::http::{Captured, check_error, connect, rest};
use crate::support::{Call, HookedStore};

/// Checks what browsers are told to refuse, and what they may keep.
#[track_caller]
fn check_headers(reply: &Reply) {
    let policy = reply.header("content-security-policy");
    assert!(!policy.contains("unsafe"), "{policy}");
    let directives = policy
        .split(';')
        .filter_map(|part| part.trim().split_once(' '));
    let directives: BTreeMap<_, _> = directives.collect();
    for (directive, value) in [
        ("default-src", "'none'"),
        ("script-src", "'self'"),
        ("style-src", "'self'"),
        ("img-src", "'self'"),
        ("connect-src", "'self'"),
        ("form-action", "'self'"),
        ("base-uri", "'none'"),
        ("frame-ancestors", "'none'"),
    ] {
        assert_eq!(directives.get(directive), Some(&value), "{policy}");
    }
    assert_eq!(directives.len(), 8, "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(reply.header(name), value, "{name}");
    }
    assert_eq!(reply.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn every_answer_says_what_browsers_are_to_refuse_and_not_to_keep() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::signed_in(&house).await;
    let token = token(&visitor.page("/ui/create").await);
    let token = ("token", &*token);
    let huge = "x".repeat(300_000);
    let long = format!("/ui/?q={}", "x".repeat(17_000));
    let stranger = Visitor::of(&house);
    let mut from_elsewhere = stranger.request(Method::GET, "/ui/");
    from_elsewhere = from_elsewhere.header("sec-fetch-site", "cross-site");
    from_elsewhere = from_elsewhere.header("sec-fetch-mode", "navigate");
    let of = |visitor: &Visitor<'_>, method: Method, path: &str, fields: &[(&str, &str)]| {
        let request = visitor.request(method, path);
        request.header(CONTENT_TYPE, FORM).body(encoded(fields))
    };
    let same = [token, ("name", "Awake"), ("periodicity", "1h")];
    for (status, request) in [
        (200, visitor.request(Method::GET, "/ui/")),
        (200, visitor.request(Method::HEAD, "/ui/")),
        (200, visitor.request(Method::GET, "/ui/create")),
        (200, visitor.request(Method::GET, "/ui/watchers/awake")),
        (200, visitor.request(Method::GET, "/ui/watchers/awake/edit")),
        (
            200,
            visitor.request(Method::GET, "/ui/watchers/awake/delete"),
        ),
        (200, stranger.request(Method::GET, "/ui/sign-in")),
        (200, from_elsewhere),
        (303, visitor.request(Method::GET, "/ui")),
        (303, stranger.request(Method::GET, "/ui/")),
        (
            303,
            of(
                &visitor,
                Method::POST,
                "/ui/watchers/awake/trigger",
                &[token],
            ),
        ),
        (400, visitor.request(Method::GET, "/ui/?state=x")),
        (403, of(&visitor, Method::POST, "/ui/create", &[])),
        (
            403,
            of(&visitor, Method::POST, "/ui/watchers/awake/pause", &[]),
        ),
        (
            403,
            stranger
                .request(Method::GET, "/ui/")
                .header(ACCEPT, "text/event-stream"),
        ),
        (403, of(&stranger, Method::POST, "/ui/sign-in", &[])),
        (404, visitor.request(Method::GET, "/ui/watchers/x")),
        (404, stranger.request(Method::GET, "/ui/x")),
        (405, visitor.request(Method::PUT, "/ui/")),
        (
            405,
            visitor.request(Method::from_bytes(b"BREW").unwrap(), "/ui/"),
        ),
        (405, visitor.request(Method::POST, "/ui/style.css")),
        (409, of(&visitor, Method::POST, "/ui/create", &same)),
        (
            413,
            of(&visitor, Method::POST, "/ui/create", &[("x", &huge)]),
        ),
        (414, visitor.request(Method::GET, &long)),
        (415, visitor.request(Method::POST, "/ui/create")),
        (422, of(&visitor, Method::POST, "/ui/create", &[token])),
        (
            431,
            visitor
                .request(Method::GET, "/ui/")
                .header("x-long", &huge[..17_000]),
        ),
    ] {
        let reply = Reply::to(request).await;
        assert_eq!(reply.status, status, "{}", reply.text);
        check_headers(&reply);
        assert_eq!(reply.header("cache-control"), "no-store");
        if status != 303 {
            assert_eq!(reply.header("content-type"), HTML);
        }
        if !reply.text.is_empty() && !reply.text.contains("http-equiv") {
            check_html(&reply.text);
        }
    }
}

#[tokio::test]
async fn what_pages_load_is_there_for_everybody_and_may_be_kept() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::signed_in(&house).await;
    let mut stranger = Visitor::of(&house);
    let mut assets = BTreeSet::new();
    for page in [
        stranger.page("/ui/sign-in").await,
        visitor.page("/ui/").await,
        visitor.page("/ui/watchers/awake").await,
        visitor.get("/ui/x").await.text,
    ] {
        assets.extend(all(&page, "\"(/ui/[^\"]*\\?v=[^\"]*)\""));
        let loaded = all(
            &page,
            "(?:<link [^>]*href|src|data-icon|data-lost)=\"([^\"]*)\"",
        );
        assert!(
            loaded.iter().all(|path| assets.contains(path)),
            "{loaded:?}"
        );
        assert!(loaded.len() >= 3, "{page}");
    }
    assert_eq!(assets.len(), 4, "{assets:?}");
    for path in assets {
        let mut anybody = Visitor::of(&house);
        let reply = anybody.get(&path).await;
        assert_eq!(reply.status, 200, "{path}");
        let (name, _) = path.split_once('?').unwrap();
        let (_, end) = name.rsplit_once('.').unwrap();
        let media_type = match end {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            _ => "image/svg+xml; charset=utf-8",
        };
        assert_eq!(reply.header("content-type"), media_type);
        assert_eq!(
            reply.header("cache-control"),
            "public, max-age=31536000, immutable"
        );
        assert_eq!(reply.header("set-cookie"), "");
        check_headers(&reply);
        let text = reply.text.replace("http://www.w3.org/2000/svg", "");
        let text = text.replace("url(\"#", "");
        for elsewhere in ["http:", "https:", "@import", "url("] {
            assert!(!text.contains(elsewhere), "{elsewhere} in {path}");
        }
        // The mark tells contents apart, not files.
        for other in [name.to_owned(), format!("{name}?v=of-another-release")] {
            let other = anybody.get(&other).await;
            assert_eq!(other.text, reply.text);
            assert_eq!(other.header("cache-control"), "no-cache");
        }
        let head = anybody.request(Method::HEAD, &path);
        let head = anybody.ask(head).await;
        assert_eq!(head.text, "");
        assert_eq!(
            head.header("content-length"),
            reply.header("content-length")
        );
    }
}

#[tokio::test]
async fn a_head_is_answered_as_a_get_without_the_body() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::signed_in(&house).await;
    let before = everything(&house).await;
    for path in [
        "/ui/",
        "/ui/create",
        "/ui/watchers/awake",
        "/ui/watchers/awake/delete",
        "/ui/watchers/x",
    ] {
        let get = visitor.get(path).await;
        let head = visitor.request(Method::HEAD, path);
        let head = visitor.ask(head).await;
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.text, "");
        for header in [
            "content-type",
            "content-length",
            "location",
            "content-security-policy",
        ] {
            assert_eq!(head.header(header), get.header(header), "{path}");
        }
    }
    assert_eq!(everything(&house).await, before);
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_refused_with_those_that_it_has() {
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::signed_in(&house).await;
    let before = everything(&house).await;
    for (path, allow) in [
        ("/ui/", "GET, HEAD"),
        ("/ui/watchers/awake", "GET, HEAD"),
        ("/ui/script.js", "GET, HEAD"),
        ("/ui/create", "GET, HEAD, POST"),
        ("/ui/sign-in", "GET, HEAD, POST"),
        ("/ui/watchers/awake/edit", "GET, HEAD, POST"),
        ("/ui/watchers/awake/delete", "GET, HEAD, POST"),
        ("/ui/sign-out", "POST"),
        ("/ui/watchers/awake/trigger", "POST"),
        ("/ui/watchers/awake/pause", "POST"),
        ("/ui/watchers/awake/unpause", "POST"),
    ] {
        for method in [
            "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW",
        ] {
            if allow.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = visitor.request(method.clone(), path);
            let reply = visitor.ask(request).await;
            assert_eq!(reply.status, 405, "{method} {path}");
            assert_eq!(reply.header("allow"), allow);
            if method != Method::HEAD {
                check_says(&reply, 405, &format!("This path answers {allow} only."));
            }
        }
    }
    assert_eq!(everything(&house).await, before);
}

#[tokio::test]
async fn what_goes_wrong_inside_is_a_page_too_and_shows_nothing_of_the_inside() {
    let mode = Arc::new(AtomicU8::new(0));
    let broken = Arc::clone(&mode);
    let store = HookedStore::new(move |call| {
        let mode = broken.load(Ordering::SeqCst);
        async move {
            match (call, mode) {
                (Call::Find, 1) => Err(StoreError::unavailable("a secret")),
                (Call::Find, 2) => Err(StoreError::Corrupt("a secret".to_owned())),
                (Call::Find, 3) => panic!("a secret"),
                _ => Ok(()),
            }
        }
    });
    let house = House::over(store).await;
    house.create("W").await;
    let mut visitor = Visitor::of(&house);
    for (broken, status, words) in [
        (1, 503, "try again later"),
        (2, 500, "Something went wrong inside"),
        (3, 500, "Something went wrong inside"),
    ] {
        mode.store(broken, Ordering::SeqCst);
        for path in ["/ui/watchers/w", "/ui/watchers/w/edit"] {
            let reply = visitor.get(path).await;
            check_says(&reply, status, words);
            check_headers(&reply);
            assert!(!reply.everything().contains("secret"));
        }
    }
    mode.store(0, Ordering::SeqCst);
    visitor.page("/ui/watchers/w").await;
}

#[tokio::test]
async fn who_comes_from_another_site_is_asked_once_more_from_here() {
    let (house, _) = locked(None).await;
    let signed_in = Visitor::signed_in(&house).await;
    let arrival = |visitor: &Visitor<'_>, method: Method, path: &str| {
        let request = visitor.request(method, path);
        let request = request.header("sec-fetch-site", "cross-site");
        request.header("sec-fetch-mode", "navigate")
    };
    let stranger = Visitor::of(&house);
    for path in [
        "/ui/",
        "/ui/watchers/awake?history=all&x=%27%22%3Cb%3E",
        "/ui/sign-in?to=%2Fui%2Fcreate",
        "/ui/?q=1;url=//evil.example",
    ] {
        let reply = Reply::to(arrival(&stranger, Method::GET, path)).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), HTML);
        assert_eq!(reply.header("set-cookie"), "");
        let to = only(
            &reply.text,
            "http-equiv=\"refresh\" content=\"0; url=([^\"]*)\"",
        );
        assert_eq!(to, path);
        assert_eq!(only(&reply.text, "<a href=\"([^\"]*)\">"), path);
        check_html(&reply.text.replace("<title>Night’s Watch", "<title>·"));
        assert!(!reply.text.contains("Awake"), "{}", reply.text);
    }
    // Whatever else a line of HTTP may hold.
    let raw = "GET /ui/?q='&amp;lt; HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: cross-site\r\n\
        Sec-Fetch-Mode: navigate\r\nConnection: close\r\n\r\n";
    let answer = rest(connect(&house, raw).await).await;
    let page = answer.split_once("\r\n\r\n").unwrap().1;
    let to = only(page, "content=\"0; url=([^\"]*)\"");
    assert_eq!(to, "/ui/?q='&amp;lt;");
    // The cookie came along after all.
    let reply = Reply::to(arrival(&signed_in, Method::GET, "/ui/watchers/awake")).await;
    assert_eq!(title(&reply.text), "Awake (on time)");
    // Nothing else is asked once more.
    let reply = Reply::to(arrival(&stranger, Method::POST, "/ui/create")).await;
    assert_eq!(reply.status, 403);
    assert_eq!(reply.header("set-cookie"), "");
    let image = stranger.request(Method::GET, "/ui/");
    let image = image.header("sec-fetch-site", "cross-site");
    assert_eq!(
        Reply::to(image.header("sec-fetch-mode", "no-cors"))
            .await
            .status,
        303
    );
    let own = stranger.request(Method::GET, "/ui/");
    let own = own.header("sec-fetch-site", "same-origin");
    assert_eq!(
        Reply::to(own.header("sec-fetch-mode", "navigate"))
            .await
            .status,
        303
    );
}

#[tokio::test]
async fn the_pages_are_under_one_path_and_take_no_trigger_url() {
    let house = House::open().await;
    let mut visitor = Visitor::of(&house);
    check_leads(&visitor.get("/ui").await, "/ui/");
    for path in ["/watchers", "/overview", "/sessions", "/ui-pages"] {
        let reply = visitor.get(path).await;
        check_error(&reply, 404, "no such");
    }
    for path in ["/uix", "/UI/", "//ui/"] {
        check_error(&visitor.get(path).await, 404, "no such path");
    }
}

#[tokio::test]
async fn requests_for_pages_are_counted_and_logged_without_what_was_typed() {
    let captured = Captured::default();
    let writer = captured.clone();
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // As in the test of the log beside the one of the key in the interface for programs.
    let _here = tracing::subscriber::set_default(log);
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let (house, _) = locked(None).await;
    let mut visitor = Visitor::of(&house);
    let count = async |status: u16| {
        let line =
            format!("nights_watch_http_requests_total{{operation=\"none\",status=\"{status}\"}} ");
        let metrics = house.get("/metrics").await.text;
        let count = metrics
            .lines()
            .find_map(|metric| metric.strip_prefix(&line)?.parse().ok());
        count.unwrap_or(0_u32)
    };
    let (redirected, shown, refused) = (count(303).await, count(200).await, count(404).await);
    visitor.get("/ui/?q=hushhush").await;
    visitor.sign_in(KEY).await;
    visitor.get("/ui/watchers/awake?q=hushhush").await;
    visitor.get("/ui/watchers/nobody").await;
    assert_eq!(count(303).await - redirected, 2);
    assert!(count(200).await - shown >= 2);
    assert_eq!(count(404).await - refused, 1);

    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    // Pages that are only looked at would fill the log.
    for (level, method, path, status) in [
        ("INFO", "GET", "/ui/", 303),
        ("DEBUG", "GET", "/ui/sign-in", 200),
        ("INFO", "POST", "/ui/sign-in", 303),
        ("DEBUG", "GET", "/ui/watchers/awake", 200),
        ("INFO", "GET", "/ui/watchers/nobody", 404),
    ] {
        let line = format!(
            "{level} nights_watch::adapters::http::site: request method={method} path=\"{path}\" status={status} "
        );
        assert!(log.contains(&line), "{line} in {log}");
    }
    let session = &visitor.claims()[2];
    for hidden in [KEY, "hushhush", &encoded(&[("key", KEY)]), session] {
        let ours = |line: &&str| line.contains("nights_watch") && line.contains(hidden);
        assert_eq!(log.lines().find(ours), None);
    }
}
