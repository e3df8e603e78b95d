//! The pages for people as browsers meet them, but for the script: what is in them, what their forms do, who may
//! what, and what is sent by itself.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use nights_watch::app::config::BaseUrl;
use regex::Regex;
use reqwest::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::support::{API, House, Plan, Reply, path};

mod access;
mod answers;
mod forms;
mod live;
mod overview;
mod watcher;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const KEY: &str = "k3y <with> \"signs\" & spaces";
const HTML: &str = "text/html; charset=utf-8";
const FORM: &str = "application/x-www-form-urlencoded";

/// Somebody with a browser: it keeps the cookies, and goes nowhere by itself.
struct Visitor<'a> {
    house: &'a House,
    /// The cookie of the session as the browser sends it back.
    cookie: Option<String>,
    /// The cookie of somebody who has not shown the key.
    visit: Option<String>,
    /// The address that a proxy on this machine names, if one does.
    address: Option<&'static str>,
}

impl<'a> Visitor<'a> {
    fn of(house: &'a House) -> Self {
        Self {
            house,
            cookie: None,
            visit: None,
            address: None,
        }
    }

    /// Somebody who has got hold of a cookie.
    fn with_cookie(house: &'a House, cookie: &str) -> Self {
        Self {
            cookie: Some(cookie.to_owned()),
            ..Self::of(house)
        }
    }

    /// Somebody who has shown the key.
    async fn signed_in(house: &'a House) -> Self {
        let mut visitor = Self::of(house);
        let reply = visitor.sign_in(KEY).await;
        assert_eq!(reply.status, 303, "{}", reply.text);
        visitor
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.house.request(method, path);
        let cookies: Vec<_> = [&self.visit, &self.cookie].into_iter().flatten().collect();
        if let [first, rest @ ..] = &cookies[..] {
            let cookies = rest
                .iter()
                .fold((*first).clone(), |all, one| format!("{all}; {one}"));
            request = request.header(COOKIE, cookies);
        }
        if let Some(address) = self.address {
            request = request.header("x-forwarded-for", address);
        }
        request
    }

    /// Sends a request, and keeps the cookie that may come back.
    async fn ask(&mut self, request: RequestBuilder) -> Reply {
        let reply = Reply::to(request).await;
        match set_cookie(&reply) {
            Some(cookie) if cookie.starts_with("nights_watch_visit=") => self.visit = Some(cookie),
            Some(cookie) => self.cookie = (!cookie.ends_with('=')).then_some(cookie),
            None => {}
        }
        reply
    }

    async fn get(&mut self, path: &str) -> Reply {
        let request = self.request(Method::GET, path);
        self.ask(request).await
    }

    /// Gets a page that is there, and returns its HTML.
    async fn page(&mut self, path: &str) -> String {
        let reply = self.get(path).await;
        check_page(&reply, 200);
        reply.text
    }

    /// Sends a form as it is given.
    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let request = self.request(Method::POST, path);
        let request = request.header(CONTENT_TYPE, FORM).body(encoded(fields));
        self.ask(request).await
    }

    /// Fills in the form of the page `from` that goes to `to`, and sends it.
    async fn send(&mut self, from: &str, to: &str, fields: &[(&str, &str)]) -> Reply {
        let page = self.page(from).await;
        assert!(page.contains(&format!("action=\"{to}\"")), "{to} in {page}");
        let hidden: Vec<_> = all(&page, "type=\"hidden\" name=\"(shown-[a-z]*)\"")
            .into_iter()
            .zip(all(&page, "name=\"shown-[a-z]*\" value=\"([^\"]*)\""))
            .map(|(name, value)| (name, sent(&value)))
            .collect();
        let hidden = hidden.iter().map(|(name, value)| (&**name, &**value));
        let token = token(&page);
        let all: Vec<_> = fields.iter().copied().chain(hidden).collect();
        self.post(to, &[&all[..], &[("token", &token)]].concat())
            .await
    }

    /// Shows a key.
    async fn sign_in(&mut self, key: &str) -> Reply {
        self.send("/ui/sign-in", "/ui/sign-in", &[("key", key)])
            .await
    }

    /// Whether the pages are shown to this visitor.
    async fn is_welcome(&mut self) -> bool {
        match self.get("/ui/").await.status {
            200 => true,
            303 => false,
            status => panic!("{status}"),
        }
    }

    /// The parts of the session's cookie: its number, until when, and the signature.
    fn claims(&self) -> [String; 3] {
        let cookie = self.cookie.as_ref().expect("a cookie");
        let value = cookie.strip_prefix("nights_watch=").expect("our cookie");
        let parts: Vec<_> = value.split('.').map(str::to_owned).collect();
        parts.try_into().expect("three parts")
    }
}

/// A text of a page as browsers send it back.
fn sent(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.replace('\0', "\u{fffd}").replace('\n', "\r\n")
}

fn encoded(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

/// The cookie that an answer sets, without what is said about it.
fn set_cookie(reply: &Reply) -> Option<String> {
    let cookie = reply.header("set-cookie").split(';').next()?;
    (!cookie.is_empty()).then(|| cookie.to_owned())
}

/// What `pattern` finds in a page, or rather the group in it, in the order of the page.
fn all(page: &str, pattern: &str) -> Vec<String> {
    let pattern = Regex::new(pattern).unwrap();
    let found = pattern.captures_iter(page);
    found.map(|found| unescaped(&found[1])).collect()
}

/// The same where it is found once.
#[track_caller]
fn only(page: &str, pattern: &str) -> String {
    let mut found = all(page, pattern);
    assert_eq!(found.len(), 1, "{pattern} in {page}");
    found.remove(0)
}

/// The token of the forms of a page.
#[track_caller]
fn token(page: &str) -> String {
    let tokens = all(page, "name=\"token\" value=\"([0-9a-f]{64})\"");
    let tokens: BTreeSet<_> = tokens.into_iter().collect();
    assert_eq!(tokens.len(), 1, "{page}");
    tokens.into_iter().next().unwrap()
}

/// A text as it stands in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn unescaped(html: &str) -> String {
    html.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

/// What people call the page, without the name of the program.
fn title(page: &str) -> String {
    let title = only(page, "<title>([^<]*·[^<]*)</title>");
    title.strip_suffix(" · Night’s Watch").unwrap().to_owned()
}

/// Checks that an answer is a page with nothing in it that does not belong there.
#[track_caller]
fn check_page(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_eq!(reply.header("content-type"), HTML);
    check_html(&reply.text);
}

/// Checks that a page says something.
#[track_caller]
fn check_says(reply: &Reply, status: u16, words: &str) {
    check_page(reply, status);
    let words = escaped(words);
    assert!(
        reply.text.contains(&words),
        "{words:?} is not in {}",
        reply.text
    );
}

/// Checks where an answer leads.
#[track_caller]
fn check_leads(reply: &Reply, to: &str) {
    assert_eq!(reply.status, 303, "{}", reply.text);
    assert_eq!(reply.header("location"), to);
}

/// Checks that HTML is made of our own elements only, has all script and style in files, and loads and links
/// nothing from elsewhere. Names that would break out of their place make elements or attributes that are none
/// of ours.
#[track_caller]
fn check_html(html: &str) {
    static TAG: LazyLock<Regex> = LazyLock::new(|| Regex::new("<(/?[^\\s<>/]+)([^<>]*)>").unwrap());
    static ATTRIBUTE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("^\\s+([^\\s\"=]+)(?:=\"([^\"]*)\")?").unwrap());
    const ELEMENTS: &str = "!DOCTYPE html head meta title link script body a header nav form input button p \
        strong code main aside span div footer h1 h2 h3 label textarea table caption thead tbody tr th td bdi time svg \
        path section dl dt dd ul li defs pattern rect circle g pre details summary";
    assert!(
        html.starts_with("<!DOCTYPE html><html lang=\"en\">"),
        "{html}"
    );
    for tag in TAG.captures_iter(html) {
        let element = tag[1].trim_start_matches('/');
        let is_known = ELEMENTS.split_whitespace().any(|known| known == element);
        assert!(is_known, "{element} in {html}");
        let mut rest = tag[2].trim_end_matches('/');
        let mut is_loaded = false;
        while let Some(attribute) = ATTRIBUTE.captures(rest) {
            let name = &attribute[1];
            let value = attribute.get(2).map_or("", |value| value.as_str());
            assert!(
                name != "style" && !name.starts_with("on"),
                "{name} in {html}"
            );
            let is_ours = match name {
                "src" => value.starts_with("/ui/"),
                "href" | "action" | "data-icon" | "data-lost" => {
                    ["/ui/", "#"].iter().any(|of| value.starts_with(of)) || value == "/docs"
                }
                "srcset" | "srcdoc" | "formaction" | "xlink:href" | "ping" | "data" => false,
                _ => true,
            };
            assert!(is_ours, "{name}={value} in {html}");
            is_loaded |= name == "src";
            rest = &rest[attribute[0].len()..];
        }
        assert_eq!(
            rest.trim_matches(['\n', ' ']),
            if element == "!DOCTYPE" { rest } else { "" }
        );
        assert!(is_loaded || tag[1] != *"script", "{html}");
    }
    let text = TAG.replace_all(html, "");
    assert!(!text.contains(['<', '>']), "{text}");
    // As many as the page itself has: none came with what it shows.
    assert!(html.matches("<script").count() <= 1, "{html}");
    assert!(html.matches("<title").count() >= 1, "{html}");
}

/// All that there is to know of watchers, with the key.
async fn everything(house: &House) -> String {
    let reply = house.call("list", &[("verbose", "true"), ("auth_key", KEY)]);
    let reply = reply.await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.text
}

/// A watcher as the interface for programs shows it.
async fn watcher(house: &House, slug: &str) -> Value {
    let reply = house
        .call("get", &[("slug", slug), ("auth_key", KEY)])
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.watcher()
}

/// The events of a watcher, newest first, without their instants.
async fn events(house: &House, slug: &str) -> Vec<String> {
    let watcher = watcher(house, slug).await;
    let history = watcher["history"].as_array().unwrap().iter();
    let text = |event: &Value| event[1].as_str().unwrap().to_owned();
    history.map(text).collect()
}

/// A house that demands the key, with the watchers "Awake" and, paused, "Asleep"; and the identifier of the first.
async fn locked(base_url: Option<BaseUrl>) -> (House, String) {
    let plan = Plan {
        key: Some(KEY),
        base_url,
        ..Plan::default()
    };
    let house = House::by(plan).await;
    let mut id = String::new();
    for (name, paused) in [("Asleep", "yes"), ("Awake", "no")] {
        let parameters = [
            ("name", name),
            ("periodicity", "3600"),
            ("paused", paused),
            ("auth_key", KEY),
        ];
        id = house.create_with(&parameters).await;
    }
    (house, id)
}
