//! What the program is told before it starts.
//!
//! Four sources, each over the one before:
//!
//! 1. a file, `nights-watch.ini`: the one that `--config` names, else the first of [`PLACES`] that exists;
//! 2. the files in the folder that `CREDENTIALS_DIRECTORY` names, each called `<section>.<key>`: what systemd, or
//!    whoever runs containers, hands over as secrets;
//! 3. the environment: `NIGHTS_WATCH_<SECTION>_<KEY>`, such as `NIGHTS_WATCH_WSGI_AUTH_KEY`, in capitals;
//!    a variable makes its section present, as a line in the file does;
//! 4. the command line: [`Overrides`].
//!
//! Names of keys are read in any case. A name that means nothing is a mistake, so that a misspelt key is not
//! silently without effect; only `[mongodb]` takes any key, and hands it to the driver. An empty text is the
//! same as none, an empty number is a mistake. A mistake is one line: where, and what was expected there.

mod base_url;
mod credentials;
mod ini;
mod networks;
mod options;
mod sections;
mod sources;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::{env, fs, io};

pub use self::base_url::{BaseUrl, page_path};
pub use self::networks::Networks;
pub use self::options::{Options, Overrides};
pub use self::sections::{
    Email, Heartbeat, History, LogFormat, Logging, Login, MongoDb, Monitor, Storage, Tls, Web, Wsgi,
};
use self::sources::{Settings, Source};

/// Where a configuration file is looked for, in this order, if none is named.
pub const PLACES: [&str; 3] = [
    "./nights-watch.ini",
    "/etc/nights-watch.ini",
    "/usr/local/etc/nights-watch.ini",
];

/// All settings, read and checked. Secrets stay out of its `Debug` form.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where log lines go.
    pub logging: Logging,
    /// Where watchers are kept.
    pub storage: Storage,
    /// How notices are mailed; `None` if they are not.
    pub email: Option<Email>,
    /// Where the program listens.
    pub wsgi: Wsgi,
    /// Where people find its pages.
    pub web: Web,
    /// How much history is kept.
    pub history: History,
    /// What it does about itself.
    pub monitor: Monitor,
}

/// A mistake in the settings. Its `Display` is one line that says where it is (file, section and key, or
/// environment variable, or option) and what was expected there; it never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    place: String,
    problem: String,
}

impl Config {
    /// Reads the configuration file, the environment and the command line. Blocks while it does.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first mistake found, or a file that is there, or should be, and cannot be read.
    pub fn load(options: &Options) -> Result<Self, ConfigError> {
        let file = match &options.config {
            Some(path) if path.as_os_str().is_empty() => {
                return Err(ConfigError::new("--config", "names no file"));
            }
            Some(path) => Some((path.clone(), read(path)?)),
            None => find(PLACES)?,
        };
        let credentials = match env::var_os(credentials::VARIABLE) {
            Some(folder) => credentials::read(Path::new(&folder))?,
            None => Vec::new(),
        };
        let env = variables(env::vars_os())?;
        Self::assemble(file, credentials, env, &options.overrides)
    }

    /// The settings that these sources make together: the path and text of a file, if there is one, the
    /// variables of the environment, and the command line. Asks nothing else.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first mistake found.
    pub fn from_sources(
        file: Option<(PathBuf, String)>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        Self::assemble(file, Vec::new(), env, overrides)
    }

    fn assemble(
        file: Option<(PathBuf, String)>,
        credentials: Vec<Source>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let file = match file {
            Some((path, text)) => Some(ini::parse(&path, &text)?),
            None => None,
        };
        let env = sources::environment(env, file.as_ref())?;
        let flags = sources::flags(overrides);
        let sources = file.into_iter().chain(credentials).chain(env).chain(flags);
        let settings = Settings::merge(sources);
        Ok(Self {
            logging: Logging::read(&settings)?,
            storage: Storage::read(&settings)?,
            email: Email::read(&settings)?,
            wsgi: Wsgi::read(&settings)?,
            web: Web::read(&settings)?,
            history: History::read(&settings)?,
            monitor: Monitor::read(&settings)?,
        })
    }
}

impl ConfigError {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            problem: problem.into(),
        }
    }
}

/// The first of `places` that exists. One that exists and cannot be read is a mistake, not a reason to go on.
fn find<P: AsRef<Path>>(
    places: impl IntoIterator<Item = P>,
) -> Result<Option<(PathBuf, String)>, ConfigError> {
    for path in places {
        let path = path.as_ref();
        let is_missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        if !path.metadata().is_err_and(is_missing) {
            return Ok(Some((path.to_owned(), read(path)?)));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let file = || path.display().to_string();
    let bytes = fs::read(path)
        .map_err(|error| ConfigError::new(file(), format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        ConfigError::new(format!("{}: line {line}", file()), "is not UTF-8 text")
    })
}

/// The variables that concern us, as text.
fn variables(
    env: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    env.into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(sources::PREFIX))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(ConfigError::new(name, "is not UTF-8 text")),
        })
        .collect()
}
