//! What the command line says about settings.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser};

/// Settings that the command line makes, above the file and the environment.
#[derive(Args, Clone, Debug, Default)]
pub struct Overrides {
    /// Listen on this address only [default: all interfaces]
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,

    /// Listen on this port; 0 takes any free one [default: 80]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,

    /// Keep watchers in this SQLite database [default: nights-watch.db]
    #[arg(long, value_name = "FILE", value_parser = NonEmptyStringValueParser::new())]
    pub database: Option<String>,
}

/// What the command line says about settings.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Read this configuration file, which must exist [default: the first of ./nights-watch.ini,
    /// /etc/nights-watch.ini, /usr/local/etc/nights-watch.ini, if there is one]
    // An empty one is a mistake of the service's settings, but no reason not to run a job.
    #[arg(long, value_name = "FILE", env = "NIGHTS_WATCH_CONFIG", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub config: Option<PathBuf>,

    /// Options that stand above the file and the environment.
    #[command(flatten)]
    pub overrides: Overrides,
}
