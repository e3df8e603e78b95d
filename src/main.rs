//! The program `nights-watch`: settings, the log, and then the service.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nights_watch::app::config::{Cli, Command, Config};
use nights_watch::app::trouble::chain;
use nights_watch::app::{logging, wiring};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Openapi) = cli.command {
        let printed = std::io::stdout().write_all(wiring::openapi_document().as_bytes());
        return end(printed.map_err(Into::into));
    }
    end(serve(&cli))
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

fn serve(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let config = Config::load(cli)?;
    let _flushed_at_the_end = logging::init(&config.logging)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(wiring::run(config));
    // The store is closed by now. What may still run is a name look-up that nobody waits for any more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(result?)
}
