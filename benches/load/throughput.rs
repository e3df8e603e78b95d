//! How many triggers it takes, and what that depends on.

use std::borrow::BorrowMut;

use crate::Bench;
use crate::bare;
use crate::database::Database;
use crate::driver::{self, Pace, Phase};
use crate::figures::median;
use crate::program::Program;
use crate::table::Table;

/// The medians of some turns.
#[derive(Clone, Copy)]
pub(crate) struct Speed {
    /// Triggers acknowledged a second.
    pub(crate) rate: f64,
    pub(crate) p99_ms: f64,
}

/// Rows 1 and 2: triggers among a few watchers, against a server that does nothing, and among `many`, in turns.
pub(crate) fn watchers(bench: &Bench, table: &mut Table, many: Option<&mut Database>) {
    let bare = bare::start();
    let mut few = bench.database("few", bench.scale.few, 1);
    let targets = few.watchers.clone();
    let mut databases: Vec<_> = [&mut few].into_iter().chain(many).collect();
    let programs: Vec<_> = databases.iter().map(|it| bench.start(it)).collect();
    let target = targets[0];
    let theirs = bench.runtime.block_on(driver::answer(bare.address, target));
    let ours = bench
        .runtime
        .block_on(driver::answer(programs[0].address(), target));
    assert_eq!(theirs, ours, "the two do not answer the same");
    databases[0].note(&Phase::of_one(0));

    let mut bare_turns = Vec::new();
    let speeds = in_turns(bench, &mut databases, &programs, || {
        let phase = bench.drive(bare.address, &targets, Pace::Full, bench.scale.turn());
        bare_turns.push(Speed::of(&phase));
    });
    drop(bare);
    for (database, program) in databases.into_iter().zip(programs) {
        bench.kill_under_load(program, database);
    }

    let bare = Speed::median(&bare_turns[1..]);
    let few = speeds[0];
    let share = few.rate / bare.rate;
    table.add(
        1,
        format!(
            "triggers/s among {}: half of those of a bare handler",
            bench.scale.few
        ),
        format!("{:.0}/s, {share:.2} of {:.0}/s", few.rate, bare.rate),
        share >= 0.5,
    );
    let factor = few.p99_ms / bare.p99_ms;
    table.add(
        1,
        "their p99: up to 5 times that of a bare handler",
        format!(
            "{:.2} ms, {factor:.1} times {:.2} ms",
            few.p99_ms, bare.p99_ms
        ),
        factor <= 5.0,
    );
    if let Some(many) = speeds.get(1) {
        let share = many.rate / few.rate;
        table.add(
            2,
            format!("triggers/s among {}: 0.7 of row 1", bench.scale.watchers),
            format!(
                "{:.0}/s, {share:.2} of row 1; p99 {:.2} ms",
                many.rate, many.p99_ms
            ),
            share >= 0.7,
        );
    }
}

/// Row 3: triggers of watchers with long histories, against those with short ones, in turns.
pub(crate) fn histories(bench: &Bench, table: &mut Table) {
    let (long, short) = (bench.scale.long_history, bench.scale.short_history);
    let mut databases = [("long", long), ("short", short)]
        .map(|(name, events)| bench.database(name, bench.scale.with_history, events));
    let programs = databases.each_ref().map(|database| bench.start(database));
    let speeds = in_turns(bench, &mut databases, &programs, || ());
    for (database, program) in databases.iter_mut().zip(programs) {
        bench.kill_under_load(program, database);
    }
    let (with_long, with_short) = (speeds[0].rate, speeds[1].rate);
    let factor = with_short / with_long;
    table.add(
        3,
        format!("cost of a trigger after {long} events: up to 1.1 times that after {short}"),
        format!("{factor:.2} times ({with_long:.0}/s and {with_short:.0}/s)"),
        factor <= 1.1,
    );
}

/// How many triggers each of `programs` takes, over its database. They take turns, and `begin` goes before each round of
/// them.
pub(crate) fn in_turns(
    bench: &Bench,
    databases: &mut [impl BorrowMut<Database>],
    programs: &[Program],
    mut begin: impl FnMut(),
) -> Vec<Speed> {
    let mut speeds = vec![Vec::new(); programs.len()];
    // The first turn of each warms it up and does not count.
    for _ in 0..=bench.scale.turns {
        begin();
        for ((database, program), speeds) in databases.iter_mut().zip(programs).zip(&mut speeds) {
            let (database, turn) = (database.borrow_mut(), bench.scale.turn());
            let phase = bench.trigger(program, database, Pace::Full, turn);
            speeds.push(Speed::of(&phase));
        }
    }
    let medians = speeds.iter().map(|speeds| Speed::median(&speeds[1..]));
    medians.collect()
}

/// The speed of `program` for some time after it was warmed up.
pub(crate) fn measure(bench: &Bench, program: &Program, database: &mut Database) -> Phase {
    bench.trigger(program, database, Pace::Full, bench.scale.turn());
    bench.trigger(program, database, Pace::Full, bench.scale.round)
}

impl Speed {
    fn of(phase: &Phase) -> Self {
        Self {
            rate: phase.rate,
            p99_ms: phase.p99_ms(),
        }
    }

    fn median(turns: &[Self]) -> Self {
        Self {
            rate: median(turns.iter().map(|speed| speed.rate)),
            p99_ms: median(turns.iter().map(|speed| speed.p99_ms)),
        }
    }
}
