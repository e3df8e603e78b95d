//! The floors of the house: what each folder of `src` may name. One crate means that the compiler does not
//! see to it, so this does.
//!
//! It reads source text, not types: comments and the insides of strings are left out, `use` groups are
//! spread, and `self` and `super` are followed. What a macro would put together goes unseen.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A part of `src`, and the parts of ours that its files may name.
struct Layer {
    /// A folder, or a file.
    place: &'static str,
    /// Modules, as paths from the crate's root.
    knows: &'static [&'static str],
}

/// From the most special to the most general: the first that fits a file is the one that counts.
const LAYERS: [Layer; 15] = [
    Layer {
        place: "domain",
        knows: &["domain"],
    },
    Layer {
        place: "ports",
        knows: &["domain", "ports"],
    },
    // What picks the adapters is one file.
    Layer {
        place: "app/wiring.rs",
        knows: &["domain", "ports", "app", "adapters"],
    },
    Layer {
        place: "app",
        knows: &["domain", "ports", "app", "ini"],
    },
    Layer {
        place: "adapters/mod.rs",
        knows: &[],
    },
    Layer {
        place: "adapters/clock.rs",
        knows: &["domain", "ports", "app", "adapters::clock"],
    },
    Layer {
        place: "adapters/storage",
        knows: &["domain", "ports", "app", "adapters::storage"],
    },
    Layer {
        place: "adapters/notify",
        knows: &["domain", "ports", "app", "adapters::notify"],
    },
    Layer {
        place: "adapters/monitor",
        knows: &["domain", "ports", "app", "adapters::monitor", "http_client"],
    },
    // The pages ask the use cases, and no store.
    Layer {
        place: "adapters/http/web",
        knows: &[
            "domain",
            "ports::Census",
            "ports::Clock",
            "ports::DeliveryReport",
            "ports::DeliveryState",
            "ports::Key",
            "ports::Record",
            "ports::Told",
            "app",
            "adapters::http::errors",
            "adapters::http::guesses",
            "adapters::http::web",
        ],
    },
    Layer {
        place: "adapters/http",
        knows: &["domain", "ports", "app", "adapters::http"],
    },
    // As far from the service as any other client: of its rules, it knows what a duration is.
    Layer {
        place: "client",
        knows: &[
            "client",
            "domain::Periodicity",
            "domain::InvalidPeriodicity",
            "http_client",
            "ini",
        ],
    },
    Layer {
        place: "cli.rs",
        knows: &["cli", "app::config", "app::version", "client"],
    },
    Layer {
        place: "http_client.rs",
        knows: &["http_client"],
    },
    Layer {
        place: "ini.rs",
        knows: &["ini"],
    },
];

/// Files that stand above all layers: the map of the house, and the program.
const ABOVE: [&str; 2] = ["lib.rs", "main.rs"];

/// Crates that only one place may name.
const ONE_PLACE: [(&str, &str); 6] = [
    ("poem", "adapters/http"),
    ("poem_openapi", "adapters/http"),
    ("rusqlite", "adapters/storage/sqlite"),
    ("mongodb", "adapters/storage/mongodb"),
    ("lettre", "adapters/notify"),
    ("maud", "adapters"),
];

/// What the domain names nowhere: it computes, and does nothing else. Each is a run of path segments.
const NOT_IN_DOMAIN: [&str; 17] = [
    "async",
    "await",
    "async_trait",
    "futures_util",
    "poem",
    "rand",
    "serde",
    "serde_json",
    "tokio",
    "Utc::now",
    "Local::now",
    "SystemTime",
    "Instant",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
];

#[test]
fn every_layer_names_only_what_it_may() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut visited = BTreeSet::new();
    let mut found = Vec::new();
    for file in files_under(&source) {
        let place = file.strip_prefix(&source).expect("it is under src");
        let place = place.to_str().expect("a name in Unicode");
        let text = fs::read_to_string(&file).expect("it can be read");
        visited.extend(layer_of(place).map(|layer| layer.place));
        found.extend(violations(place, &text));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let expected: BTreeSet<_> = LAYERS.iter().map(|layer| layer.place).collect();
    let missing: Vec<_> = expected.difference(&visited).collect();
    assert!(missing.is_empty(), "no file was found of {missing:?}");
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn layer_of(place: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| is_within(place, layer.place))
}

fn is_within(place: &str, folder: &str) -> bool {
    place
        .strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What the file at `place` under `src` names and must not.
fn violations(place: &str, text: &str) -> Vec<String> {
    let paths = paths_in(&tokens_of(text), module_of(place));
    let mut found = Vec::new();
    for (krate, home) in ONE_PLACE {
        if !is_within(place, home) && paths.iter().any(|path| path.of_others(krate)) {
            found.push(format!("src/{place} names {krate}, which is for {home}"));
        }
    }
    if ABOVE.contains(&place) {
        return found;
    }
    let Some(layer) = layer_of(place) else {
        found.push(format!("src/{place} is in no layer"));
        return found;
    };
    for path in &paths {
        match path {
            Named::Ours(ours) => {
                let joined = ours.join("::");
                let is_within =
                    |known: &&str| format!("{joined}::").starts_with(&format!("{known}::"));
                if !layer.knows.iter().any(is_within) {
                    found.push(format!("src/{place} names crate::{joined}"));
                }
            }
            Named::Others(others) if layer.place == "domain" => {
                let joined = format!("::{}::", others.join("::"));
                for forbidden in NOT_IN_DOMAIN {
                    if joined.contains(&format!("::{forbidden}::")) {
                        found.push(format!("src/{place} names {forbidden}"));
                    }
                }
            }
            Named::Others(_) => {}
        }
    }
    found
}

/// The module that a file is, as a path from the crate's root.
fn module_of(place: &str) -> Vec<String> {
    let place = place.trim_end_matches(".rs");
    let mut module: Vec<String> = place.split('/').map(str::to_owned).collect();
    if matches!(
        module.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        module.pop();
    }
    module
}

/// A path that a file names.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    /// One of ours, from the crate's root; a glob ends with an asterisk.
    Ours(Vec<String>),
    /// Any other one, as it is written; keywords are among these.
    Others(Vec<String>),
}

impl Named {
    fn of_others(&self, krate: &str) -> bool {
        matches!(self, Self::Others(path) if path[0] == krate)
    }
}

/// The names and signs of a text, without its comments and without what stands in its literals.
fn tokens_of(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character_or_lifetime(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the comment that `text` begins with; such comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of the raw string that `text` begins with, if it does.
fn raw_string(text: &str) -> Option<usize> {
    let body = ["r", "br", "cr"]
        .iter()
        .filter_map(|prefix| text.strip_prefix(prefix))
        .find(|body| body.trim_start_matches('#').starts_with('"'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let opening = text.len() - body.len() + hashes + 1;
    let closing = format!("\"{}", "#".repeat(hashes));
    let inside = text[opening..].find(&closing);
    Some(inside.map_or(text.len(), |inside| opening + inside + closing.len()))
}

/// The length of the literal between quotes that `text` begins with.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the character literal that `text` begins with, or of the quote of a lifetime.
fn character_or_lifetime(text: &str) -> usize {
    let mut inside = text.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 1,
    }
}

/// The paths among `tokens`, which are a file that is the module `module`.
fn paths_in(tokens: &[String], mut module: Vec<String>) -> Vec<Named> {
    let mut paths = Vec::new();
    // How deep in braces each inline module around the present token is.
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "mod" if tokens.get(at + 2).is_some_and(|token| token == "{") => {
                module.push(tokens[at + 1].clone());
                depth += 1;
                inline.push(depth);
                at += 3;
            }
            "{" => {
                depth += 1;
                at += 1;
            }
            "}" => {
                if inline.last() == Some(&depth) {
                    inline.pop();
                    module.pop();
                }
                depth = depth.saturating_sub(1);
                at += 1;
            }
            // A module of ours may be called like a crate: its declaration names no crate.
            "mod" if tokens.get(at + 2).is_some_and(|token| token == ";") => at += 3,
            // How far something is visible names nothing.
            "pub" if tokens.get(at + 1).is_some_and(|token| token == "(") => {
                let closing = tokens[at..].iter().position(|token| token == ")");
                at += closing.map_or(1, |closing| closing + 1);
            }
            _ if begins_path(token) => {
                let mut written = Vec::new();
                at = read_path(tokens, at, &mut Vec::new(), &mut written);
                paths.extend(written.into_iter().map(|path| resolve(path, &module)));
            }
            _ => at += 1,
        }
    }
    paths
}

fn begins_path(token: &str) -> bool {
    token == "::" || is_name(token)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads the path at `at`, spreads its groups, and returns where it ends.
fn read_path(
    tokens: &[String],
    mut at: usize,
    before: &mut Vec<String>,
    written: &mut Vec<Vec<String>>,
) -> usize {
    let outer = before.len();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("::") => at += 1,
            Some("{") if is_after_colons(tokens, at) => {
                at += 1;
                while let Some(token) = tokens.get(at)
                    && token != "}"
                {
                    at = if begins_path(token) || token == "*" || token == "{" {
                        read_path(tokens, at, before, written)
                    } else {
                        at + 1
                    };
                }
                at += 1;
                break;
            }
            Some("*") if at == 0 || is_after_colons(tokens, at) || is_in_group(tokens, at) => {
                before.push("*".to_owned());
                written.push(before.clone());
                at += 1;
                break;
            }
            Some(name) if is_name(name) => {
                if name != "self" || before.is_empty() {
                    before.push(name.to_owned());
                }
                at += 1;
                if tokens.get(at).is_none_or(|token| token != "::") {
                    written.push(before.clone());
                    // A new name for the crate's root would hide what is taken from it.
                    if tokens.get(at).is_some_and(|token| token == "as") {
                        at += 2;
                    }
                    break;
                }
            }
            _ => {
                // Such as the type arguments after `::`; what they name are paths of their own.
                written.push(before.clone());
                break;
            }
        }
    }
    before.truncate(outer);
    at
}

fn is_after_colons(tokens: &[String], at: usize) -> bool {
    at > 0 && tokens[at - 1] == "::"
}

fn is_in_group(tokens: &[String], at: usize) -> bool {
    at > 0 && matches!(tokens[at - 1].as_str(), "{" | ",")
}

/// Follows `crate`, `self` and `super` from `module`.
fn resolve(written: Vec<String>, module: &[String]) -> Named {
    let mut from = match written.first().map(String::as_str) {
        Some("crate" | "nights_watch") => Vec::new(),
        // A `self` alone is a method's.
        Some("self" | "super") if written.len() > 1 => module.to_vec(),
        _ => return Named::Others(written),
    };
    for segment in &written {
        match segment.as_str() {
            "crate" | "nights_watch" | "self" => {}
            "super" => drop(from.pop()),
            name => from.push(name.to_owned()),
        }
    }
    Named::Ours(from)
}

#[track_caller]
fn check_caught(place: &str, text: &str, expected: &[&str]) {
    let found = violations(place, text);
    for expected in expected {
        assert!(
            found.iter().any(|found| found.ends_with(expected)),
            "{expected} in {text}: {found:?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
}

#[test]
fn planted_violations_are_caught() {
    let upward = "names crate::adapters::storage::memory";
    for text in [
        "use crate::adapters::storage::memory;",
        "use crate::{\n    domain::{Name, Slug},\n    adapters::{\n        storage::{memory},\n    },\n};",
        "use super::super::adapters::storage::memory as domain;",
        "use super::{super::{adapters::storage::memory}, Name};",
        "fn f() { let x = crate::adapters::storage::memory; }",
        "fn f() { g::<crate::adapters::storage::memory>('\"') }",
        "mod tests { use super::super::super::adapters::storage::memory; } use super::Name;",
        "mod tests { mod more {} } use super::super::adapters::storage::memory;",
        "use nights_watch::adapters::storage::memory;",
    ] {
        check_caught("domain/watcher.rs", text, &[upward]);
        check_caught("ports/store.rs", text, &[upward]);
        check_caught("app/scheduler.rs", text, &[upward]);
        if !text.contains("super") {
            check_caught("adapters/clock.rs", text, &[upward]);
        }
        check_caught("app/wiring.rs", text, &[]);
    }
    check_caught(
        "domain/mod.rs",
        "use super::ports::Clock;",
        &["names crate::ports::Clock"],
    );
    check_caught("domain/mod.rs", "use super::*;", &["names crate::*"]);
    check_caught(
        "ports/mod.rs",
        "use crate::{domain::*, *};",
        &["names crate::*"],
    );
    check_caught("ports/mod.rs", "use crate as house;", &["names crate::"]);
    check_caught("ports/mod.rs", "use crate::app;", &["names crate::app"]);
    check_caught(
        "ports/mod.rs",
        "use crate::apples;",
        &["names crate::apples"],
    );
    check_caught(
        "adapters/storage/sqlite/mod.rs",
        "use super::super::notify;",
        &["names crate::adapters::notify"],
    );
    check_caught(
        "adapters/storage/sqlite/mod.rs",
        "use super::super::super::notify;",
        &["names crate::notify"],
    );
    check_caught(
        "adapters/storage/mod.rs",
        "use super::notify::Smtp; use super::clock::SystemClock;",
        &[
            "names crate::adapters::notify::Smtp",
            "names crate::adapters::clock::SystemClock",
        ],
    );
    check_caught(
        "adapters/http/mod.rs",
        "use crate::adapters;",
        &["names crate::adapters"],
    );
    check_caught(
        "client/api.rs",
        "use crate::domain::Periodicity; use crate::domain::Name; use crate::app::trouble;",
        &["names crate::domain::Name", "names crate::app::trouble"],
    );
    check_caught("adapters/queue.rs", "", &["is in no layer"]);
}

#[test]
fn the_domain_is_caught_at_whatever_is_not_pure() {
    for (text, forbidden) in [
        ("async fn f() {}", "async"),
        ("use tokio::sync::Mutex;", "tokio"),
        ("#[derive(serde::Serialize)] struct S;", "serde"),
        ("use ::serde_json::Value;", "serde_json"),
        ("let now = chrono::Utc::now();", "Utc::now"),
        ("use std::{fmt, time::{Duration, Instant}};", "Instant"),
        ("fn f(t: std::time::SystemTime) {}", "SystemTime"),
        ("use std::{collections::HashMap, env};", "std::env"),
        ("fn f() { std::fs::read(\"x\") }", "std::fs"),
        ("use rand::random;", "rand"),
    ] {
        check_caught("domain/name.rs", text, &[&format!("names {forbidden}")]);
    }
}

#[test]
fn crates_for_one_place_are_caught_elsewhere() {
    for (place, text, krate) in [
        ("app/mod.rs", "use poem::Route;", "poem"),
        ("main.rs", "fn main() { poem_openapi::f() }", "poem_openapi"),
        (
            "adapters/storage/memory.rs",
            "use {rusqlite::Row};",
            "rusqlite",
        ),
        ("adapters/http/mod.rs", "use lettre::Message;", "lettre"),
        ("domain/notice.rs", "use maud::html;", "maud"),
        (
            "adapters/storage/sqlite/mod.rs",
            "use mongodb::Client;",
            "mongodb",
        ),
    ] {
        let found = violations(place, text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains(&format!("names {krate},")), "{found:?}");
    }
    check_caught("adapters/storage/sqlite/rows.rs", "use rusqlite::Row;", &[]);
    check_caught("adapters/http/mod.rs", "use poem::Route;", &[]);
}

#[test]
fn what_only_looks_like_a_violation_is_let_be() {
    for text in [
        "//! See [`crate::adapters`] and tokio::spawn.\n/// `std::fs`",
        "/* crate::app /* nested */ tokio::spawn */",
        "const S: &str = \"crate::app \\\" tokio::spawn\";",
        "const S: &str = r#\"crate::app \" tokio::spawn\"#;",
        "const C: char = '\\''; fn f<'a>(x: &'a str) -> &'a str { x } // crate::app",
        "use super::{Name, watcher::{self, Watcher}}; use crate::domain::*;",
        "mod tests { use super::*; use super::super::Name; }",
        "pub(crate) fn f(&self) { self.app() } pub(in crate::app) struct S;",
        "use std::{fmt, time::Duration}; use chrono::{DateTime, Utc};",
        "let asynchronous = instant * tokio_like;",
        "pub mod tokio;",
    ] {
        check_caught("domain/watcher.rs", text, &[]);
    }
}
