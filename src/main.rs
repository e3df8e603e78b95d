//! The program `nights-watch`: settings, the log, and then the service.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use nights_watch::app::config::{Cli, Command, Config};
use nights_watch::app::trouble::chain;
use nights_watch::app::{logging, wiring};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Openapi) = cli.command {
        print!("{}", wiring::openapi_document());
        return ExitCode::SUCCESS;
    }
    match serve(&cli) {
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
    Ok(runtime.block_on(wiring::run(config))?)
}
