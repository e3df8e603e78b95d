//! What load the program bears: `cargo bench --bench load`.
//!
//! It starts the real program on a temporary database, drives it over sockets of this machine, and prints what came of
//! it beside what it is to be. `-- --help` shows what can be chosen. Time is measured, never judged: it fails only if the
//! program answers wrongly, tells somebody twice or not at all, or has lost something that it had acknowledged when it
//! was killed. Without `--bench`, which `cargo bench` passes, each row is run for a moment only, to see that it works.

mod driver;
mod mail_sink;
mod program;

mod bare;
mod database;
mod figures;
mod machine;
mod table;

mod alerts;
mod growth;
mod standing;
mod throughput;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

use crate::database::{Database, Identifier};
use crate::driver::{CONNECTIONS, Pace, Phase, connect, drive};
use crate::mail_sink::MailSink;
use crate::program::Program;
use crate::table::Table;

#[derive(Parser)]
#[command(about = "Measures what load Night's Watch bears, against what it is to bear.")]
struct Options {
    /// How many watchers are many.
    #[arg(long, default_value_t = 1_000_000)]
    watchers: usize,
    /// How many seconds one speed is measured; those that are compared take turns three times as long in all.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Which rows to measure, such as 1,3; all, if neither this nor --growth is given.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=9))]
    rows: Vec<u8>,
    /// Show what depends on the number of watchers.
    #[arg(long)]
    growth: bool,
    /// Another build of the program.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_nights-watch"))]
    program: PathBuf,
    /// Run everything for a moment only, with few watchers: the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// What cargo passes when it wants figures.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Subcommand)]
enum Other {
    /// Be the server that the program is compared with.
    #[command(name = bare::SUBCOMMAND, hide = true)]
    BareServer,
}

/// How much of everything there is.
struct Scale {
    /// In rows 2 and 4 to 9.
    watchers: usize,
    /// In row 1.
    few: usize,
    /// How long one speed is measured.
    round: Duration,
    /// How many turns each has where speeds are compared.
    turns: u32,
    /// In row 3, with histories of these lengths.
    with_history: usize,
    long_history: u32,
    short_history: u32,
    /// Single deadlines, and the time over which they spread.
    alerts: usize,
    window: Duration,
    /// Deadlines in the same instant.
    crowd: usize,
    starts: u32,
    /// How long memory may grow.
    soak: Duration,
    idle: Duration,
    /// The numbers of watchers that are compared.
    growth: Vec<usize>,
}

/// What all measurements share.
struct Bench {
    scale: Scale,
    program: PathBuf,
    /// Where the databases are.
    directory: TempDir,
    /// Of one thread: the load and the program share the processor.
    runtime: Runtime,
    sink: MailSink,
}

fn main() {
    let options = Options::parse();
    if let Some(Other::BareServer) = options.other {
        return bare::serve();
    }
    let is_quick = options.quick || !options.bench;
    let bench = Bench {
        scale: if is_quick {
            Scale::quick()
        } else {
            Scale::full(options.watchers, options.seconds)
        },
        program: options.program.canonicalize().expect("the program"),
        directory: tempfile::tempdir().expect("a temporary directory"),
        runtime: runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime"),
        sink: MailSink::start(),
    };
    let has_chosen = options.growth || !options.rows.is_empty();
    let wants = |row: u8| options.rows.contains(&row) || !has_chosen;
    println!("{}\n", machine::description(bench.directory.path()));
    if is_quick {
        println!("Only to see whether it works: the figures mean nothing.\n");
    }
    if (1..=9).any(wants) {
        println!("{}", bench.rows(wants));
    }
    if options.growth || is_quick && !has_chosen {
        println!("{}", growth::table(&bench));
    }
}

impl Scale {
    fn full(watchers: usize, seconds: f64) -> Self {
        let round = Duration::from_secs_f64(seconds);
        Self {
            watchers,
            few: watchers.min(10_000),
            round,
            turns: 15,
            with_history: 1_000,
            long_history: 1_000,
            short_history: 10,
            alerts: 500,
            window: round * 2,
            crowd: 10_000,
            starts: 5,
            soak: round * 6,
            idle: round * 2,
            growth: [1_000, 10_000, 100_000, 1_000_000]
                .into_iter()
                .filter(|size| *size <= watchers)
                .collect(),
        }
    }

    fn quick() -> Self {
        let round = Duration::from_millis(200);
        Self {
            watchers: 300,
            few: 100,
            round,
            turns: 5,
            with_history: 20,
            long_history: 100,
            short_history: 10,
            alerts: 20,
            window: round * 2,
            crowd: 100,
            starts: 1,
            soak: round,
            idle: round,
            growth: vec![50, 300],
        }
    }

    /// How long a turn lasts: short, since the machine is slower for seconds on end, and that has to fall on all that
    /// are compared.
    fn turn(&self) -> Duration {
        self.round / 5
    }
}

impl Bench {
    /// The rows that are wanted. Those among many watchers share a database, the ones last that make many late.
    fn rows(&self, wants: impl Fn(u8) -> bool) -> Table {
        let mut table = Table::default();
        let wants_many = wants(2) || (4..=9).any(&wants);
        let mut many = wants_many.then(|| self.database("many", self.scale.watchers, 1));
        if wants(1) || wants(2) {
            throughput::watchers(self, &mut table, many.as_mut().filter(|_| wants(2)));
        }
        if wants(3) {
            throughput::histories(self, &mut table);
        }
        let Some(many) = &mut many else { return table };
        if wants(7) {
            standing::memory(self, &mut table, many);
        }
        if wants(6) {
            standing::start(self, &mut table, many);
        }
        if wants(9) {
            standing::idle(self, &mut table, many);
        }
        if wants(8) {
            standing::lists(self, &mut table, many);
        }
        if wants(4) {
            alerts::single(self, &mut table, many);
        }
        if wants(5) {
            alerts::crowd(self, &mut table, many);
        }
        table
    }

    /// A new database with so many watchers, each with a history of `events`.
    fn database(&self, name: &str, watchers: usize, events: u32) -> Database {
        let begin = Instant::now();
        let database = Database::fill(self.directory.path(), name, watchers, events);
        let took = begin.elapsed().as_secs_f64();
        eprintln!("{watchers} watchers with {events} events each, made in {took:.1} s");
        database
    }

    /// The program over `database`.
    fn start(&self, database: &Database) -> Program {
        Program::start(&self.program, &database.directory, self.sink.port)
    }

    /// Drives `server` for as long as `lasting`.
    fn drive(
        &self,
        server: SocketAddr,
        targets: &Arc<[Identifier]>,
        pace: Pace,
        lasting: Duration,
    ) -> Phase {
        self.runtime.block_on(async {
            let connections = connect(server).await;
            drive(connections, targets, pace, lasting).await
        })
    }

    /// Triggers watchers of `database` by way of `program`, for as long as `lasting`.
    fn trigger(
        &self,
        program: &Program,
        database: &mut Database,
        pace: Pace,
        lasting: Duration,
    ) -> Phase {
        let phase = self.drive(program.address(), &database.watchers, pace, lasting);
        assert!(phase.in_doubt.is_empty(), "it hung up");
        database.note(&phase);
        phase
    }

    /// Kills `program` in the midst of triggers, and checks that each one is kept that it has ever acknowledged.
    fn kill_under_load(&self, mut program: Program, database: &mut Database) {
        let delay = self.scale.round / 10;
        let phase = self.runtime.block_on(async {
            let connections = connect(program.address()).await;
            // It is over long before.
            let lasting = delay + Duration::from_mins(1);
            let load = drive(connections, &database.watchers, Pace::Full, lasting);
            let kill = async {
                tokio::time::sleep(delay).await;
                program.kill();
            };
            tokio::join!(load, kill).0
        });
        assert_eq!(phase.in_doubt.len(), CONNECTIONS, "it lives on");
        database.note(&phase);
        let kept = database.check();
        eprintln!(
            "killed: all {} acknowledged triggers are there, and {} of {} that were never answered",
            kept.acknowledged, kept.unanswered, kept.in_doubt
        );
    }
}
