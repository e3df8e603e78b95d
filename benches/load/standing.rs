//! What it takes to be there with many watchers: starting, memory, lists, and doing nothing.

use std::time::{Duration, Instant};

use crate::Bench;
use crate::database::Database;
use crate::driver::Pace;
use crate::figures::median;
use crate::program::Program;
use crate::table::Table;

/// Row 6: from the start of the process to its first answer.
pub(crate) fn start(bench: &Bench, table: &mut Table, database: &mut Database) {
    bench.kill_under_load(bench.start(database), database);
    let program = bench.start(database);
    let after_kill = program.took.as_secs_f64();
    program.stop();
    let after_stop = starts(bench, database);
    table.add(
        6,
        format!(
            "start with {} to the first answer: 1 s, files in the page cache",
            bench.scale.watchers
        ),
        format!("{after_stop:.3} s; {after_kill:.3} s after kill -9 under load"),
        after_stop.max(after_kill) < 1.0,
    );
}

/// How many seconds a start takes after an orderly stop.
pub(crate) fn starts(bench: &Bench, database: &Database) -> f64 {
    median((0..bench.scale.starts).map(|_| {
        let program = bench.start(database);
        let took = program.took.as_secs_f64();
        program.stop();
        took
    }))
}

/// Row 7: memory after a while of triggers as fast as they are taken.
pub(crate) fn memory(bench: &Bench, table: &mut Table, database: &mut Database) {
    let program = bench.start(database);
    let lasting = bench.scale.soak;
    let phase = bench.trigger(&program, database, Pace::Full, lasting);
    let (memory, peak) = (program.memory(), program.peak_memory());
    bench.kill_under_load(program, database);
    table.add(
        7,
        format!(
            "resident memory with {} after {lasting:?} of full load: 250 MiB",
            bench.scale.watchers
        ),
        format!(
            "{memory:.0} MiB, {peak:.0} MiB at most, after {} triggers",
            phase.acknowledged.len()
        ),
        memory < 250.0,
    );
}

const LIST: &str = "/nights-watch/v1/watcher/list";
const LATE: usize = 5;

/// Row 8: lists. The only watchers that are late are the few made here.
pub(crate) fn lists(bench: &Bench, table: &mut Table, database: &Database) {
    let program = bench.start(database);
    let watchers = bench.scale.watchers;
    bench.runtime.block_on(async {
        make_late(&program).await;
        let mut times = Vec::new();
        for _ in 0..20 {
            let begin = Instant::now();
            assert_eq!(count_late(&program).await, LATE, "the list is wrong");
            times.push(ms(begin));
        }
        let late = median(times);
        table.add(
            8,
            format!("list of {LATE} late ones among {watchers}, complete: 10 ms"),
            format!("{late:.2} ms"),
            late < 10.0,
        );

        program.forget_peak();
        let before = program.memory();
        let mut times = Vec::new();
        for _ in 0..10 {
            times.push(begin_verbose_list(&program).await);
        }
        let first = median(times);
        let growth = program.peak_memory() - before;
        table.add(
            8,
            format!("verbose list of {watchers}, first byte: 20 ms, memory flat"),
            format!("{first:.2} ms, {growth:.1} MiB more"),
            first < 20.0 && growth < 10.0,
        );
    });
}

async fn make_late(program: &Program) {
    for n in 0..LATE {
        let path = format!("/nights-watch/v1/watcher/create?name=Late+{n}&periodicity=0.001");
        program.get(&path).await;
    }
    let all_are = async {
        while count_late(program).await < LATE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_mins(1), all_are).await;
    in_time.expect("those that are late should be called so");
}

async fn count_late(program: &Program) -> usize {
    let answer = program.get(&format!("{LIST}?late=yes")).await;
    let text = answer.text().await.expect("a complete list");
    text.matches("\"id\": ").count()
}

/// How many milliseconds it takes until a verbose list begins. The rest is not wanted after a thousand lines.
async fn begin_verbose_list(program: &Program) -> f64 {
    let begin = Instant::now();
    let mut answer = program.get(&format!("{LIST}?verbose=yes")).await;
    let mut first = None;
    let mut lines = 0;
    while lines < 1_000
        && let Some(bytes) = answer.chunk().await.expect("a list")
    {
        first.get_or_insert_with(|| ms(begin));
        lines += bytes.split(|byte| *byte == b'\n').count() - 1;
    }
    assert!(lines >= 1_000, "the list has {lines} lines only");
    first.expect("a list")
}

fn ms(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1_000.0
}

/// Row 9: the processor's time while nothing happens.
pub(crate) fn idle(bench: &Bench, table: &mut Table, database: &Database) {
    let program = bench.start(database);
    // What belongs to the start is over by then.
    std::thread::sleep(bench.scale.idle / 20);
    let (begin, before) = (Instant::now(), program.cpu_time());
    std::thread::sleep(bench.scale.idle);
    let used = program.cpu_time().saturating_sub(before);
    let lasted = begin.elapsed();
    let percent = used.as_secs_f64() / lasted.as_secs_f64() * 100.0;
    table.add(
        9,
        format!(
            "processor with {} while nothing is due: 0.5 % of a core",
            bench.scale.watchers
        ),
        format!("{percent:.2} % over {:.1} s", lasted.as_secs_f64()),
        percent < 0.5,
    );
}
