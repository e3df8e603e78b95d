//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::app::config::Options;
use crate::app::version;

const LONG_ABOUT: &str = "\
Notices when a scheduled task goes silent, and says so by mail.

Without a command it serves in the foreground. Settings come from nights-watch.ini, then from the \
environment (NIGHTS_WATCH_<SECTION>_<KEY>, such as NIGHTS_WATCH_WSGI_AUTH_KEY), then from the options here; \
what comes later wins.";

/// Notices when a scheduled task goes silent, and says so by mail
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "nights-watch", version = version::FULL, long_about = LONG_ABOUT)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// What it says about settings.
    #[command(flatten)]
    pub options: Options,
}

/// What the program can do apart from serving.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Copy all watchers of an SQLite database, with identifiers and histories, into the store that is
    /// configured, and exit
    Import {
        /// The database, which no service may have open
        file: PathBuf,
        /// Copy although some notices are still owed, which are not copied
        #[arg(long)]
        without_notices: bool,
    },
    /// Print the OpenAPI document of the HTTP interface, and exit
    Openapi,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[track_caller]
    fn parse(arguments: &[&str]) -> Cli {
        Cli::try_parse_from([&["nights-watch"], arguments].concat()).unwrap()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        let cli = parse(&["--host", "::1", "--port", "0", "--database", "w.db"]);
        assert_eq!(cli.command, None);
        assert_eq!(cli.options.overrides.host.as_deref(), Some("::1"));
        assert_eq!(cli.options.overrides.port, Some(0));
        assert_eq!(cli.options.overrides.database.as_deref(), Some("w.db"));
        assert_eq!(parse(&["openapi"]).command, Some(Command::Openapi));
        let import = Command::Import {
            file: PathBuf::from("old.db"),
            without_notices: true,
        };
        let arguments = ["import", "old.db", "--without-notices"];
        assert_eq!(parse(&arguments).command, Some(import));
        assert_eq!(
            parse(&["--config", "a.ini"]).options.config,
            Some(PathBuf::from("a.ini"))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            &["--port", "65536"][..],
            &["--port", "http"],
            &["--database", ""],
            &["--prot", "80"],
            &["serve"],
            &["import"],
        ] {
            let arguments = [&["nights-watch"], wrong].concat();
            assert!(Cli::try_parse_from(arguments).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn help_names_options_and_defaults() {
        let help = Cli::command().render_help().to_string();
        for words in [
            "openapi",
            "--config <FILE>",
            "/usr/local/etc/nights-watch.ini",
            "[default: all interfaces]",
            "[default: 80]",
            "[default: nights-watch.db]",
            "--version",
        ] {
            assert!(help.contains(words), "{words} is missing:\n{help}");
        }
    }
}
