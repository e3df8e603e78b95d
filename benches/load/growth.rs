//! What depends on the number of watchers, side by side.

use std::fmt::Write;

use crate::Bench;
use crate::alerts::alerts;
use crate::figures::{ms, percentile};
use crate::standing::starts;
use crate::throughput::in_turns;

/// A table in Markdown with a line for each number of watchers. The programs run at the same time and take turns.
pub(crate) fn table(bench: &Bench) -> String {
    let sizes = &bench.scale.growth;
    let fill = |watchers: &usize| bench.database(&format!("growth-{watchers}"), *watchers, 1);
    let mut databases: Vec<_> = sizes.iter().map(fill).collect();
    let starts: Vec<_> = databases.iter().map(|it| starts(bench, it)).collect();
    let programs: Vec<_> = databases.iter().map(|it| bench.start(it)).collect();
    let speeds = in_turns(bench, &mut databases, &programs, || ());
    let mut text =
        "| watchers | triggers/s | their p99 | disk, each | alert p50 | alert p99 | memory | start |\n\
                    | --- | --- | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for (place, program) in programs.into_iter().enumerate() {
        let (database, speed) = (&mut databases[place], speeds[place]);
        let kib = program.written() / database.acknowledged() as f64;
        let delays = alerts(bench, &program, database, speed.rate / 2.0).delays;
        let memory = program.memory();
        bench.kill_under_load(program, database);
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.2} ms | {kib:.1} KiB | {:.1} ms | {:.1} ms | {memory:.0} MiB | {:.3} s |",
            sizes[place],
            speed.rate,
            speed.p99_ms,
            ms(percentile(&delays, 500)),
            ms(percentile(&delays, 990)),
            starts[place],
        );
    }
    text
}
