//! Whole lives of the service, drawn by a seed: requests, time, faults and crashes in every order, over the
//! real rules, use cases, loops and stores. A model says what must hold.
//!
//! `NIGHTS_WATCH_SIMULATION_SEEDS=100000` runs that many seeds of each kind, and
//! `NIGHTS_WATCH_SIMULATION_SEED=7` that one, with all that happens.

mod rules;

mod model;

mod world;

mod run;

use std::env;
use std::ops::Range;

use self::run::{Setting, run};

#[test]
fn memory() {
    check("memory", Setting::Memory, 0..2_000);
}

#[test]
fn two_servers() {
    check("two_servers", Setting::TwoServers, 0..1_000);
}

#[test]
fn sqlite() {
    check("sqlite", Setting::Sqlite, 0..300);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for setting in [Setting::Memory, Setting::TwoServers] {
        let hashes = |seed| run(setting, seed, u64::MAX).hash();
        for seed in 0..50 {
            assert_eq!(hashes(seed), hashes(seed), "{setting:?}, seed {seed}");
        }
        assert_ne!(hashes(0), hashes(1));
    }
}

/// Runs the seeds, or those that the environment asks for.
fn check(name: &str, setting: Setting, seeds: Range<u64>) {
    let number = |variable| {
        let text = env::var(variable).ok()?;
        Some(
            text.parse::<u64>()
                .unwrap_or_else(|_| panic!("{variable} is not a number")),
        )
    };
    if let Some(seed) = number("NIGHTS_WATCH_SIMULATION_SEED") {
        let outcome = run(setting, seed, u64::MAX);
        println!("{}", outcome.trace.join("\n"));
        assert!(
            outcome.broken.is_none(),
            "{}",
            outcome.broken.unwrap_or_default()
        );
        return;
    }
    let count = number("NIGHTS_WATCH_SIMULATION_SEEDS").unwrap_or(seeds.end);
    for seed in seeds.start..count {
        let outcome = run(setting, seed, u64::MAX);
        if outcome.broken.is_none() {
            continue;
        }
        // The fewest steps after which it still goes wrong tell the story best.
        let shorter = (1..outcome.steps).map(|most| run(setting, seed, most));
        let outcome = shorter
            .into_iter()
            .find(|shorter| shorter.broken.is_some())
            .unwrap_or(outcome);
        panic!(
            "seed {seed}, after {} steps:\n{}\n\n{}\n\n\
             NIGHTS_WATCH_SIMULATION_SEED={seed} cargo test --test it simulation::{name} -- --nocapture",
            outcome.steps,
            outcome.trace.join("\n"),
            outcome.broken.unwrap_or_default(),
        );
    }
}
