//! What can be said to the client on the command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::SecretString;

use crate::domain::{InvalidPeriodicity, Periodicity};

/// The exit statuses of the client, for the help.
pub const EXIT_STATUS: &str = "\
Exit status of the commands that talk to a service:
  0  it was done
  1  the service refused it, or anything else went wrong
  2  the command line is wrong
  3  there is no such watcher
  4  the key is missing or wrong
  5  the service cannot be reached, or cannot do it now: try again later
  6  the name is taken, or the watcher is already paused, or not paused
`exec` has the status of the command that it ran: 128 and the number of the
signal if one ended it, 127 if it was not found, 126 if it could not be started.";

/// What the client can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Create a watcher, and show it with its trigger URL
    Create(Create),
    /// Show a watcher and its newest events
    Get(Object),
    /// Show watchers in a table: state, when each is due, and what happened last
    List(List),
    /// Change a watcher; what is not given stays
    Update(Update),
    /// Delete a watcher, with its history
    Delete(Object),
    /// Report that the task of a watcher ran; needs no key
    Trigger(Remark),
    /// Pause a watcher: it has no deadline until it is unpaused or triggered
    Pause(Remark),
    /// Unpause a watcher: it has its whole periodicity from now
    Unpause(Remark),
    /// Run a command, and trigger a watcher when it succeeded
    #[command(long_about = EXEC)]
    Exec(Exec),
    /// Ask whether the service is alive; for health checks of containers, and needs no key
    Health(Health),
    /// Store which service is meant, and the key to it, in a file that only you can read
    #[command(long_about = CONFIGURE)]
    Configure(Configure),
}

const EXEC: &str = "\
Run a command, and trigger a watcher when it succeeded

The command is started at once; the service is asked for nothing before it has ended. It has the standard input, \
output and error of this program, and gets the signals that this program gets. When it has succeeded, the watcher is \
triggered with a comment such as \"succeeded in 12.3 s\"; when it has failed, it is not, so that the watcher will be late. \
The exit status is the command's, also if the report fails: that is one line on standard error.";

const CONFIGURE: &str = "\
Store which service is meant, and the key to it, in a file that only you can read

The file is nights-watch/client.ini in $XDG_CONFIG_HOME, or in ~/.config. Without options it asks, on a terminal. \
--url and NIGHTS_WATCH_URL, --auth-key and NIGHTS_WATCH_AUTH_KEY stand above the file; its key is sent only to the URL that it was \
stored with.";

const URL: &str = "The service [default: NIGHTS_WATCH_URL, else what `configure` has stored, else http://localhost]";

const AUTH_KEY: &str = "\
The key. Other users of this machine can see it here: better is NIGHTS_WATCH_AUTH_KEY, or what `configure` stores";

/// Which service.
#[derive(Args, Clone, Debug)]
pub struct Address {
    /// Its URL.
    #[arg(long, value_name = "URL", help_heading = "Service", help = URL)]
    pub url: Option<String>,
}

/// Which service, and the key to it.
#[derive(Args, Clone, Debug)]
pub struct Access {
    /// Which service.
    #[command(flatten)]
    pub address: Address,
    /// The key.
    #[arg(long, value_name = "KEY", help_heading = "Service", help = AUTH_KEY)]
    pub auth_key: Option<SecretString>,
}

/// How answers are shown.
#[derive(Args, Clone, Debug)]
pub struct Output {
    /// Print the JSON of the service as it is
    #[arg(long)]
    pub json: bool,
}

/// A watcher, named in one way.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The watcher with this name
    #[arg(long)]
    pub name: Option<String>,
    /// The watcher with this slug
    #[arg(long)]
    pub slug: Option<String>,
    /// The watcher with this identifier
    #[arg(long)]
    pub id: Option<String>,
}

/// A watcher with which something is done.
#[derive(Args, Clone, Debug)]
pub struct Object {
    /// Which one.
    #[command(flatten)]
    pub which: Which,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
    /// Which service.
    #[command(flatten)]
    pub service: Access,
}

/// Something that is done with a watcher and can be commented.
#[derive(Args, Clone, Debug)]
pub struct Remark {
    /// What there is to say, up to 1000 characters; kept in the history
    #[arg(long, allow_hyphen_values = true)]
    pub comment: Option<String>,
    /// Which one, and how it is shown.
    #[command(flatten)]
    pub object: Object,
}

/// A new watcher.
#[derive(Args, Clone, Debug)]
pub struct Create {
    /// What people call it
    pub name: String,
    /// How long it may stay silent: seconds, or such as 90s, 15m, 25h, 7d or 1h30m
    #[arg(value_parser = Periodicity::parse, allow_hyphen_values = true)]
    pub periodicity: Periodicity,
    /// What it is for; mails show it
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub description: Option<String>,
    /// Who is told; give it several times for several addresses
    #[arg(long, value_name = "ADDRESS")]
    pub email: Vec<String>,
    /// Begin paused
    #[arg(long)]
    pub paused: bool,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
    /// Which service.
    #[command(flatten)]
    pub service: Access,
}

/// The changes of a watcher.
#[derive(Args, Clone, Debug)]
pub struct Update {
    /// Which one.
    #[command(flatten)]
    pub target: Target,
    /// What becomes different.
    #[command(flatten)]
    pub changes: Changes,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
    /// Which service.
    #[command(flatten)]
    pub service: Access,
}

/// The watcher that is changed.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// The watcher with this slug
    #[arg(long)]
    pub slug: Option<String>,
    /// The watcher with this identifier
    #[arg(long)]
    pub id: Option<String>,
}

/// What becomes different.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub struct Changes {
    /// Call it so from now on; the slug changes with the name
    #[arg(long, value_name = "NAME")]
    pub new_name: Option<String>,
    /// How long it may stay silent from its newest event on: seconds, or such as 15m, 25h or 1h30m
    #[arg(long, value_parser = Periodicity::parse, allow_hyphen_values = true)]
    pub periodicity: Option<Periodicity>,
    /// What it is for; an empty text for nothing
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub description: Option<String>,
    /// Who is told instead of those who are now; give it several times for several addresses
    #[arg(long, value_name = "ADDRESS")]
    pub email: Vec<String>,
    /// Tell nobody any more
    #[arg(long, conflicts_with = "email")]
    pub no_emails: bool,
}

/// Which watchers are listed.
#[derive(Args, Clone, Debug)]
pub struct List {
    /// In which state they are.
    #[command(flatten)]
    pub state: States,
    /// Only those in whose name, slug, identifier or addresses this regular expression is found
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub search: Option<String>,
    /// Only names and identifiers, which is quicker among very many
    #[arg(long)]
    pub brief: bool,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
    /// Which service.
    #[command(flatten)]
    pub service: Access,
}

/// In which state a watcher is.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub struct States {
    /// Only those that are late
    #[arg(long)]
    pub late: bool,
    /// Only those that are paused
    #[arg(long)]
    pub paused: bool,
    /// Only those that are neither late nor paused
    #[arg(long)]
    pub on_time: bool,
}

/// A job, and who is told of it.
#[derive(Args, Clone, Debug)]
pub struct Exec {
    /// Which one.
    #[command(flatten)]
    pub which: Which,
    /// Also trigger when the command failed, with a comment that says so: the watcher counts that as a
    /// report, so nobody is told of the failure
    #[arg(long)]
    pub report_failure: bool,
    /// For how long to ask again, once the command has ended, if the service does not answer; 0 for not at all
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = patience)]
    pub retry_for: Duration,
    /// Which service.
    #[command(flatten)]
    pub service: Address,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What is asked of the service itself.
#[derive(Args, Clone, Debug)]
pub struct Health {
    /// Ask whether it does its work, not only whether it lives
    #[arg(long)]
    pub ready: bool,
    /// Which service.
    #[command(flatten)]
    pub service: Address,
}

/// What is stored.
#[derive(Args, Clone, Debug)]
pub struct Configure {
    /// Store this URL of the service
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Read the key from standard input, and store it
    #[arg(long)]
    pub auth_key_stdin: bool,
    /// Store no key
    #[arg(long, conflicts_with = "auth_key_stdin")]
    pub no_auth_key: bool,
}

/// How long to try, which may be not at all.
fn patience(text: &str) -> Result<Duration, InvalidPeriodicity> {
    let is_zero = |text: &str| text.parse() == Ok(0.0);
    // Any zero, with a unit or without.
    if is_zero(text.trim().trim_end_matches(['w', 'd', 'h', 'm', 's'])) {
        return Ok(Duration::ZERO);
    }
    Periodicity::parse(text).map(Periodicity::span)
}
