//! How soon people are told.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::Bench;
use crate::database::Database;
use crate::driver::Pace;
use crate::figures::{ms, now, percentile, timestamp};
use crate::mail_sink::Mail;
use crate::program::Program;
use crate::table::Table;
use crate::throughput;

/// How long people are waited for who have not been told yet.
const PATIENCE: Duration = Duration::from_mins(2);

/// What became of some deadlines under load.
pub(crate) struct Alerts {
    /// From each deadline to the first byte of its mail, sorted, in microseconds.
    pub(crate) delays: Vec<i64>,
    /// How many triggers a second there were meanwhile.
    rate: f64,
}

/// Row 4: single deadlines, at random instants, while triggers come at half of the speed that is possible.
pub(crate) fn single(bench: &Bench, table: &mut Table, database: &mut Database) {
    let program = bench.start(database);
    let full = throughput::measure(bench, &program, database).rate;
    let Alerts { delays, rate } = alerts(bench, &program, database, full / 2.0);
    bench.kill_under_load(program, database);
    let [p50, p99, max] = [500, 990, 1_000].map(|permille| ms(percentile(&delays, permille)));
    table.add(
        4,
        format!(
            "deadline to the mail server's socket among {}, at half of the full rate: p50 3 ms, p99 10 ms",
            bench.scale.watchers
        ),
        format!(
            "p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms; {} mails, each once; {rate:.0} triggers/s",
            delays.len()
        ),
        p50 <= 3.0 && p99 <= 10.0,
    );
}

/// Lets some deadlines pass while triggers come at `rate`.
pub(crate) fn alerts(
    bench: &Bench,
    program: &Program,
    database: &mut Database,
    rate: f64,
) -> Alerts {
    bench.sink.rest();
    let (deadlines, last) = bench.runtime.block_on(create(bench, program));
    let left = Duration::from_micros((last - now()).max(0).unsigned_abs());
    let lasting = left + Duration::from_millis(200);
    let phase = bench.trigger(program, database, Pace::PerSecond(rate), lasting);
    let mails = all_mails(bench, program, deadlines.len());
    check_each_once(&mails, deadlines.keys());
    let delay = |mail: &Mail| mail.begun(deadlines[&mail.to]) - deadlines[&mail.to];
    let mut delays: Vec<_> = mails.iter().map(delay).collect();
    delays.sort_unstable();
    assert!(delays[0] > 0, "somebody was told before the deadline");
    Alerts {
        delays,
        rate: phase.rate,
    }
}

/// Creates watchers, each with a recipient of its own, whose deadlines spread over some time that begins when they are
/// all there. Returns the deadlines by recipient, in microseconds since 1970, and when the last one can be.
async fn create(bench: &Bench, program: &Program) -> (HashMap<String, i64>, i64) {
    let (count, window) = (bench.scale.alerts, bench.scale.window);
    let begin = now() + 500_000 + 10_000 * i64::try_from(count).expect("a few");
    let window = i64::try_from(window.as_micros()).expect("a few seconds");
    let created = stream::iter(0..count).map(|n| async move {
        let to = format!("alert{n:05}@example.org");
        let due = begin + rand::random_range(0..window);
        let periodicity = (due - now()).max(1_000) as f64 / 1e6;
        let path = format!(
            "/nights-watch/v1/watcher/create?name=Alert+{n:05}&periodicity={periodicity:.3}&email={to}"
        );
        let answer: Value = program.get(&path).await.json().await.expect("JSON");
        let deadline = answer["watcher"]["deadline"].as_str();
        let deadline: DateTime<Utc> = deadline.and_then(|text| text.parse().ok()).expect("a time");
        (to, deadline.timestamp_micros())
    });
    (created.buffer_unordered(16).collect().await, begin + window)
}

/// Row 5: many deadlines in the same instant.
pub(crate) fn crowd(bench: &Bench, table: &mut Table, database: &mut Database) {
    bench.sink.rest();
    let count = bench.scale.crowd;
    // Time to insert them and to start the program.
    let lead = Duration::from_millis(500 + 2 * count as u64);
    let deadline = timestamp().after(lead);
    let recipients = database.add_due(count, deadline);
    let program = bench.start(database);
    if timestamp() >= deadline {
        eprintln!(
            "the deadline was over before the program served: what follows is worse than it could be"
        );
    }
    program.forget_peak();
    let mails = all_mails(bench, &program, count);
    let peak = program.peak_memory();
    check_each_once(&mails, &recipients);
    let count_late = program.metric("nights_watch_late_delay_seconds_count");
    let count_late = bench.runtime.block_on(count_late);
    assert!(
        (count_late - count as f64).abs() < 0.5,
        "{count_late} of {count} were marked late"
    );
    // It notes each mark in its log, which is complete when it has ended.
    let log = program.stop();
    let marks = log
        .lines()
        .filter(|line| line.contains("a watcher is late"));
    let marks: Vec<i64> = marks.filter_map(instant).collect();
    if marks.len() < count {
        eprintln!("the log has dropped lines: it shows {} marks", marks.len());
    }

    let due = deadline.millis() * 1_000;
    let since = |last: Option<i64>| ms(last.expect("at least one") - due) / 1_000.0;
    let late = since(marks.into_iter().max());
    let told = since(mails.iter().map(|mail| mail.taken).max());
    table.add(
        5,
        format!("{count} deadlines in the same instant: all marked within 1 s"),
        format!("{late:.2} s"),
        late <= 1.0,
    );
    table.add(
        5,
        "their mails: as fast as the mail server takes them, in less than 250 MiB of memory",
        format!(
            "{told:.2} s, {:.0} mails/s, each once; {peak:.0} MiB at most",
            count as f64 / told
        ),
        peak < 250.0,
    );
}

/// The instant at the beginning of a line of the log, in microseconds since 1970.
fn instant(line: &str) -> Option<i64> {
    let instant: DateTime<Utc> = line.split_whitespace().next()?.parse().ok()?;
    Some(instant.timestamp_micros())
}

/// All mails that the program sends, of which there should be `count`: it owes nothing more in the end.
fn all_mails(bench: &Bench, program: &Program, count: usize) -> Vec<Mail> {
    let mut mails = bench.sink.wait_for(count, PATIENCE);
    assert_eq!(mails.len(), count, "mails are missing");
    bench.runtime.block_on(async {
        let settled = async {
            while program.metric("nights_watch_deliveries_owed").await > 0.0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let settled = tokio::time::timeout(PATIENCE, settled).await;
        settled.expect("what was sent should be settled");
    });
    mails.extend(bench.sink.rest());
    mails
}

fn check_each_once<'a>(mails: &[Mail], recipients: impl IntoIterator<Item = &'a String>) {
    let mut expected: Vec<_> = recipients.into_iter().map(String::as_str).collect();
    let mut told: Vec<_> = mails.iter().map(|mail| mail.to.as_str()).collect();
    expected.sort_unstable();
    told.sort_unstable();
    assert!(told == expected, "not everybody was told once: {told:?}");
}
