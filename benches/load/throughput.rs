//! How many triggers it takes, and what that depends on.

use std::borrow::BorrowMut;
use std::time::Duration;

use crate::Bench;
use crate::bare;
use crate::database::Database;
use crate::driver::{self, Pace, Phase};
use crate::figures::median;
use crate::program::Program;
use crate::table::Table;

/// The medians of some rounds.
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

    let mut bare_rounds = Vec::new();
    let ours = in_turns(bench, &mut databases, &programs, |lasting| {
        let phase = bench.drive(bare.address, &targets, Pace::Full, lasting);
        bare_rounds.push(Speed::of(&phase));
    });
    drop(bare);
    for (database, program) in databases.into_iter().zip(programs) {
        bench.kill_under_load(program, database);
    }

    let bare = Speed::median(&bare_rounds[1..]);
    let few = ours[0];
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
    if let Some(many) = ours.get(1) {
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
    let speeds = in_turns(bench, &mut databases, &programs, |_| ());
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

/// As many triggers as each of `programs` takes, some rounds in turns, so that whatever else the machine does meanwhile
/// falls on all of them. `begin` is called at the beginning of each round with how long a turn lasts in it.
pub(crate) fn in_turns(
    bench: &Bench,
    databases: &mut [impl BorrowMut<Database>],
    programs: &[Program],
    mut begin: impl FnMut(Duration),
) -> Vec<Speed> {
    let mut rounds = vec![Vec::new(); programs.len()];
    // The first round warms everything up and does not count.
    for round in 0..=bench.scale.rounds {
        let lasting = bench.scale.lasting(round);
        begin(lasting);
        for ((database, program), rounds) in databases.iter_mut().zip(programs).zip(&mut rounds) {
            let phase = bench.trigger(program, database.borrow_mut(), Pace::Full, lasting);
            rounds.push(Speed::of(&phase));
        }
    }
    let medians = rounds.iter().map(|rounds| Speed::median(&rounds[1..]));
    medians.collect()
}

/// The speed of `program` for some time after it was warmed up.
pub(crate) fn measure(bench: &Bench, program: &Program, database: &mut Database) -> Phase {
    bench.trigger(program, database, Pace::Full, bench.scale.lasting(0));
    bench.trigger(program, database, Pace::Full, bench.scale.lasting(1))
}

impl Speed {
    fn of(phase: &Phase) -> Self {
        Self {
            rate: phase.rate,
            p99_ms: phase.p99_ms(),
        }
    }

    fn median(rounds: &[Self]) -> Self {
        Self {
            rate: median(rounds.iter().map(|speed| speed.rate)),
            p99_ms: median(rounds.iter().map(|speed| speed.p99_ms)),
        }
    }
}
