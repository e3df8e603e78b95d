//! Log lines: where they go, and that writing them holds nobody up.
//!
//! Lines go through a bounded queue to a thread that writes them, to standard error or to a file. When the
//! disk or the reader of a pipe is too slow for that, lines are lost rather than the service stopped.

mod rotating;

use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::path::PathBuf;
use std::{env, thread};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt, registry};

use self::rotating::RotatingFile;
use super::config::{LogFormat, Logging};

/// How many lines wait to be written before more are lost: some megabytes.
const MAX_WAITING_LINES: usize = 16_384;

/// Which lines are written, as [`Targets`] reads it: `debug`, or `warn,nights_watch=trace`.
const FILTER_VARIABLE: &str = "RUST_LOG";

/// Lets the last lines be written: dropping it waits for them, a second or so at most.
#[derive(Debug)]
#[must_use = "what is logged after it is dropped is lost"]
pub struct Guard {
    _worker: WorkerGuard,
}

/// Why logging cannot begin. Its `Display` is one line.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The log file cannot be opened for writing.
    #[error("[logging] file: cannot write {}: {reason}", path.display())]
    File {
        /// The log file.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// The process logs to somewhere else already.
    #[error("logging cannot be set up twice")]
    Twice(#[source] TryInitError),
}

/// Begins to log, for the whole process: lines of level INFO and above, or those that `RUST_LOG` asks for,
/// with times in UTC. From then on a panic is a line in the log, too.
///
/// # Errors
///
/// [`LoggingError::File`] if the file cannot be opened for appending, [`LoggingError::Twice`] if it was called
/// before.
pub fn init(config: &Logging) -> Result<Guard, LoggingError> {
    let (writer, ansi): (Box<dyn Write + Send>, bool) = match &config.file {
        Some(path) => (Box::new(open(path.clone(), config)?), false),
        None => (Box::new(io::stderr()), io::stderr().is_terminal()),
    };
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_WAITING_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(writer);
    let (filter, complaint) = filter(env::var(FILTER_VARIABLE).ok());
    let lines = fmt::layer().with_writer(writer).with_ansi(ansi);
    let lines = match config.format {
        LogFormat::Text => lines.boxed(),
        // What is a field in a line for people is a member of the object.
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(LoggingError::Twice)?;
    panic::set_hook(Box::new(log_panic));
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
    Ok(Guard { _worker: worker })
}

fn open(path: PathBuf, config: &Logging) -> Result<RotatingFile, LoggingError> {
    let max_size = config.rotate.then_some(config.max_size);
    RotatingFile::open(path.clone(), max_size, config.backup_count)
        .map_err(|reason| LoggingError::File { path, reason })
}

/// The filter that `text` asks for, or the usual one and what is wrong with `text`. The variable is not ours
/// alone, so a form of it that other programs know must not keep us from starting.
fn filter(text: Option<String>) -> (Targets, Option<String>) {
    let usual = Targets::new().with_default(LevelFilter::INFO);
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return (usual, None);
    };
    match text.parse() {
        Ok(filter) => (filter, None),
        Err(error) => {
            let complaint = format!("{FILTER_VARIABLE}: {text:?} is not a filter: {error}");
            (usual, Some(complaint))
        }
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = one_line(panic.payload_as_str().unwrap_or("no message"));
    let location = panic.location().map(tracing::field::display);
    let thread = thread::current();
    tracing::error!(location, thread = thread.name(), "panic: {message}");
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_file_that_cannot_be_written_is_one_clear_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing").join("watch.log");
        let config = Logging {
            file: Some(path.clone()),
            ..Logging::default()
        };
        let error = init(&config).unwrap_err();
        let line = format!(
            "[logging] file: cannot write {}: No such file or directory (os error 2)",
            path.display()
        );
        assert_eq!(error.to_string(), line);
    }

    #[test]
    fn the_filter_is_info_unless_somebody_asks_for_another() {
        let usual = Targets::new().with_default(LevelFilter::INFO);
        assert_eq!(filter(None), (usual.clone(), None));
        assert_eq!(filter(Some(String::new())), (usual.clone(), None));
        let asked = Targets::new()
            .with_default(LevelFilter::WARN)
            .with_target("nights_watch", LevelFilter::TRACE);
        let text = "warn,nights_watch=trace".to_owned();
        assert_eq!(filter(Some(text)), (asked, None));
        let (filter, complaint) = filter(Some("nights_watch=loud".to_owned()));
        assert_eq!(filter, usual);
        assert!(
            complaint.is_some_and(|line| line.starts_with("RUST_LOG: \"nights_watch=loud\" is"))
        );
    }

    #[test]
    fn messages_of_panics_fit_on_a_line() {
        let message = "assertion `left == right` failed\n  left: 1\n right: 2";
        assert_eq!(
            one_line(message),
            "assertion `left == right` failed left: 1 right: 2"
        );
    }
}
