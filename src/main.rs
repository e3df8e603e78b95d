//! The program `nights-watch`: settings, the log, and then the service.

use std::error::Error;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mimalloc::MiMalloc;
use nights_watch::app::config::Config;
use nights_watch::app::trouble::chain;
use nights_watch::app::{logging, wiring};
use nights_watch::cli::{Cli, Command};
use nights_watch::client;

/// With the system's allocator a trigger takes 77,000 instructions, with this one 65,000.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    end(match &cli.command {
        None => run(&cli, async |config| Ok(wiring::run(config).await?)),
        Some(Command::Import {
            file,
            without_notices,
        }) => run(&cli, async |config| {
            let done = wiring::import(&config, file, *without_notices).await?;
            let (copied, present) = (done.copied, done.present);
            let line = format!("{copied} watchers copied, {present} were there already\n");
            print(line.as_bytes())
        }),
        Some(Command::Client(command)) => return client::run(command),
        Some(Command::Openapi) => print(wiring::openapi_document().as_bytes()),
        Some(Command::Completions { shell }) => print(&Cli::completions(*shell)),
        Some(Command::Man) => Cli::manual()
            .map_err(Into::into)
            .and_then(|page| print(&page)),
    })
}

fn print(text: &[u8]) -> Result<(), Box<dyn Error>> {
    match std::io::stdout().write_all(text) {
        // Who reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

fn end(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nights-watch: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(
    cli: &Cli,
    task: impl AsyncFnOnce(Config) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let config = Config::load(&cli.options)?;
    let _flushed_at_the_end = logging::init(&config.logging)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(wiring::worker_threads(&config.storage))
        .enable_all()
        .build()?;
    let result = runtime.block_on(task(config));
    // The store is closed by now. What may still run is a name look-up that nobody waits for any more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}
