//! `/metrics`, in the format that the reader takes.

use std::collections::HashSet;
use std::sync::Arc;

use poem::endpoint::make;
use poem::http::header;
use poem::{Endpoint, Error, Request, Response};

use super::errors::Rejection;
use crate::app::{Health, Metrics};

const OPEN_METRICS: &str = "application/openmetrics-text";
/// The older format is for whoever does not ask for the newer one: people, and tools such as `promtool check metrics`.
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `/metrics` answers.
pub(super) fn endpoint(
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) -> impl Endpoint<Output = Response> {
    make(move |request: Request| {
        let (health, metrics) = (Arc::clone(&health), Arc::clone(&metrics));
        async move {
            // At once, since each may take as long as a store that hangs is waited for, and a scrape is not.
            let (readiness, census) = tokio::join!(health.readiness(), health.census());
            let text = metrics.encode(census, &readiness);
            let text = text.map_err(|_| Rejection::internal())?;
            let accepted = request.header(header::ACCEPT).unwrap_or_default();
            let response = Response::builder().header(header::VARY, "accept");
            Ok::<_, Error>(if is_open_metrics_taken(accepted) {
                let media_type = format!("{OPEN_METRICS}; version=1.0.0; charset=utf-8");
                response.content_type(media_type).body(text)
            } else {
                response.content_type(CLASSIC).body(classic(&text))
            })
        }
    })
}

/// Whether somebody who sends this as `Accept` asks for `OpenMetrics`, and does not say that it is worth nothing.
fn is_open_metrics_taken(accepted: &str) -> bool {
    accepted.split(',').any(|range| {
        let mut words = range.split(';').map(str::trim);
        let worth = |word: &str| word.strip_prefix("q=")?.parse::<f32>().ok();
        words.next() == Some(OPEN_METRICS) && words.filter_map(worth).all(|worth| worth > 0.0)
    })
}

/// What `text` says, in the older format: counters are described under the name that their samples have, and there
/// are neither units nor a mark at the end.
fn classic(text: &str) -> String {
    let counters: HashSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut classic = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                classic.extend(["# ", what, " ", name, "_total ", rest]);
            }
            _ => classic.push_str(line),
        }
        classic.push('\n');
    }
    classic
}
