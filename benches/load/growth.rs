//! What depends on the number of watchers, side by side.

use std::fmt::Write;

use crate::Bench;
use crate::alerts::alerts;
use crate::figures::{ms, percentile};
use crate::standing::starts;
use crate::throughput::measure;

/// A table in Markdown with a line for each number of watchers.
pub(crate) fn table(bench: &Bench) -> String {
    let mut text =
        "| watchers | triggers/s | their p99 | alert p50 | alert p99 | memory | start |\n\
                    | --- | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for watchers in &bench.scale.growth {
        let mut database = bench.database(&format!("growth-{watchers}"), *watchers, 1);
        let start = starts(bench, &database);
        let program = bench.start(&database);
        let phase = measure(bench, &program, &mut database);
        let delays = alerts(bench, &program, &mut database, phase.rate / 2.0).delays;
        let memory = program.memory();
        bench.kill_under_load(program, &mut database);
        let line = format!(
            "| {watchers} | {:.0} | {:.2} ms | {:.1} ms | {:.1} ms | {memory:.0} MiB | {start:.3} s |",
            phase.rate,
            phase.p99_ms(),
            ms(percentile(&delays, 500)),
            ms(percentile(&delays, 990)),
        );
        eprintln!("{line}");
        let _ = writeln!(text, "{line}");
    }
    text
}
