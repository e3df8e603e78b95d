//! The command line.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::app::config::Options;
use crate::app::version;
use crate::client;

const LONG_ABOUT: &str = "\
Notices when a scheduled task goes silent, and says so by mail.

Without a command it serves in the foreground. Settings come from nights-watch.ini, then from the \
environment (NIGHTS_WATCH_<SECTION>_<KEY>, such as NIGHTS_WATCH_WSGI_AUTH_KEY), then from the options here; \
what comes later wins.

The commands that talk to a service find it by --url, NIGHTS_WATCH_URL or what `configure` has stored, in this order.";

/// Notices when a scheduled task goes silent, and says so by mail
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "nights-watch", version = version::FULL, long_about = LONG_ABOUT, after_long_help = client::EXIT_STATUS)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// What it says about settings.
    #[command(flatten)]
    pub options: Options,
}

/// What the program can do apart from serving.
#[derive(Clone, Debug, Subcommand)]
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
    /// Something that is asked of a service.
    #[command(flatten)]
    Client(client::Command),
    /// Print what makes a shell complete these commands, and exit
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, and exit
    Man,
}

impl Cli {
    /// What makes `shell` complete the command line.
    #[must_use]
    pub fn completions(shell: Shell) -> Vec<u8> {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Self::command(), "nights-watch", &mut text);
        text
    }

    /// The manual page, in the language of `man`: one for all commands, and of a release, whatever the commit.
    ///
    /// # Errors
    ///
    /// None but those of writing to memory.
    pub fn manual() -> io::Result<Vec<u8>> {
        let mut whole = Self::command().version(version::RELEASE);
        whole.build();
        let page = Man::new(whole.clone()).manual("Night's Watch");
        let mut text = Vec::new();
        page.render_title(&mut text)?;
        page.render_name_section(&mut text)?;
        page.render_synopsis_section(&mut text)?;
        page.render_description_section(&mut text)?;
        page.render_options_section(&mut text)?;
        for command in whole.get_subcommands() {
            if command.get_name() == "help" {
                continue;
            }
            let page = Man::new(command.clone());
            let mut part = Vec::new();
            page.render_synopsis_section(&mut part)?;
            page.render_description_section(&mut part)?;
            page.render_options_section(&mut part)?;
            writeln!(text, ".SH \"{}\"", command.get_name().to_uppercase())?;
            for line in String::from_utf8_lossy(&part).lines() {
                // What begins each section of a page of its own is a part of a section here.
                if let Some(title) = line.strip_prefix(".SH ") {
                    writeln!(text, ".SS {title}")?;
                } else if !line.contains(".ds Aq ") {
                    writeln!(text, "{line}")?;
                }
            }
        }
        writeln!(text, ".SH \"EXIT STATUS\"\n.nf")?;
        writeln!(text, "{}\n.fi", client::EXIT_STATUS)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
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
        assert!(cli.command.is_none());
        assert_eq!(cli.options.overrides.host.as_deref(), Some("::1"));
        assert_eq!(cli.options.overrides.port, Some(0));
        assert_eq!(cli.options.overrides.database.as_deref(), Some("w.db"));
        let openapi = parse(&["openapi"]).command;
        assert!(matches!(openapi, Some(Command::Openapi)));
        let Some(Command::Import {
            file,
            without_notices: true,
        }) = parse(&["import", "old.db", "--without-notices"]).command
        else {
            panic!("an import");
        };
        assert_eq!(file, PathBuf::from("old.db"));
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
