//! The sections: what each of them may say, and what it says when it says nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use email_address::{EmailAddress, Options};
use secrecy::SecretString;

use super::ConfigError;
use super::base_url::BaseUrl;
use super::networks::Networks;
use super::sources::{Section, Settings};
use crate::domain::HistoryPolicy;

const BOOLEAN: &str = "true or false (nor yes, no, on, off, 1, 0)";
const OPEN_PORT: &str = "a port number (0 to 65535)";
const NETWORKS: &str = "addresses or networks separated by commas, such as 10.0.0.0/8";
const PORT: &str = "a port number (1 to 65535)";

/// `[logging]`: where log lines go.
#[derive(Clone, Debug)]
pub struct Logging {
    /// The log file, which is appended to; without one, standard error.
    pub file: Option<PathBuf>,
    /// How they are written.
    pub format: LogFormat,
    /// Whether the file is put aside when it gets too large.
    pub rotate: bool,
    /// How large the file may get before it is put aside, in bytes; more than 0.
    pub max_size: u64,
    /// How many files that were put aside are kept; with 0 the file is emptied instead.
    pub backup_count: u32,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: each line is a JSON object.
    Json,
}

impl LogFormat {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

impl Logging {
    /// The largest file before it is put aside, where nobody sets another: a mebibyte.
    pub const DEFAULT_MAX_SIZE: u64 = 1_048_576;
    /// The number of files that were put aside and are kept, where nobody sets another.
    pub const DEFAULT_BACKUP_COUNT: u32 = 5;

    pub(super) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let section = settings.section_or_empty("logging");
        let size = section.value("max_size", "a number of bytes (1 or more)", |text| {
            number(text).filter(|size| *size > 0)
        })?;
        let count = section.value("backup_count", "a number of files (0 or more)", number)?;
        let format = section.value("format", "text or json", LogFormat::parse)?;
        Ok(Self {
            file: section.text("file").map(PathBuf::from),
            format: format.unwrap_or_default(),
            rotate: section
                .value("rotate", BOOLEAN, boolean)?
                .unwrap_or_default(),
            max_size: size.unwrap_or(Self::DEFAULT_MAX_SIZE),
            backup_count: count.unwrap_or(Self::DEFAULT_BACKUP_COUNT),
        })
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            file: None,
            format: LogFormat::default(),
            rotate: false,
            max_size: Self::DEFAULT_MAX_SIZE,
            backup_count: Self::DEFAULT_BACKUP_COUNT,
        }
    }
}

/// `[sqlite]` or `[mongodb]`: where watchers are kept.
#[derive(Clone, Debug)]
pub enum Storage {
    /// A database in a file, made if it is not there; the choice without a section.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A database on a server.
    MongoDb(MongoDb),
}

/// `[mongodb]`: how the server is reached.
#[derive(Clone, Debug)]
pub struct MongoDb {
    /// A connection string, or `host` and `host:port` separated by commas, as written. Not empty. A secret,
    /// since a connection string may hold a password.
    pub hosts: SecretString,
    /// The name of the database, if it is given here.
    pub database: Option<String>,
    /// Who connects, if anybody in particular.
    pub username: Option<String>,
    /// The password, if there is one; only with a user name.
    pub password: Option<SecretString>,
    /// The name of the replica set, if the server is one.
    pub replica_set: Option<String>,
    /// All other keys of the section, for the driver: their names as the file has them (those from the
    /// environment in small letters), in any case. Secrets, since some are.
    pub options: BTreeMap<String, SecretString>,
}

impl Storage {
    /// The database where nobody names another.
    pub const DEFAULT_PATH: &str = "nights-watch.db";

    pub(super) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let sqlite = settings.section("sqlite");
        let Some(section) = settings.section("mongodb") else {
            let path = sqlite.and_then(|section| section.text("path"));
            return Ok(Self::Sqlite {
                path: path.unwrap_or_else(|| Self::DEFAULT_PATH.into()).into(),
            });
        };
        if let Some(sqlite) = sqlite {
            return Err(sqlite.broken("and [mongodb] are both set: only one storage can be used"));
        }
        MongoDb::read(&section).map(Self::MongoDb)
    }
}

impl MongoDb {
    fn read(section: &Section) -> Result<Self, ConfigError> {
        let Some(hosts) = section.secret("hosts") else {
            return Err(section.broken(
                "hosts is missing: host names separated by commas, or a connection string",
            ));
        };
        let username = section.text("username");
        let password = section.secret("password");
        if password.is_some() && username.is_none() {
            return Err(section.wrong("password", "needs a username too"));
        }
        Ok(Self {
            hosts,
            database: section.text("database"),
            username,
            password,
            replica_set: section.text("replicaSet"),
            options: section.others(),
        })
    }
}

/// `[email]`: how notices are mailed.
#[derive(Clone, Debug)]
pub struct Email {
    /// Who the mail comes from: an address, or `Name <address>`.
    pub sender: String,
    /// The mail server.
    pub host: String,
    /// Its port; not 0.
    pub port: u16,
    /// Whether and how the connection is encrypted.
    pub tls: Tls,
    /// Who logs in, if anybody does. Over an unencrypted connection only to this very machine.
    pub login: Option<Login>,
}

/// Who logs in to the mail server.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user name; not empty.
    pub username: String,
    /// The password; not empty.
    pub password: SecretString,
}

/// How a connection to the mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    None,
    /// It begins in the clear and is encrypted before anything is said; required, not just tried.
    StartTls,
    /// From the first byte.
    Tls,
}

impl Tls {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Some(Self::None),
            "starttls" => Some(Self::StartTls),
            "tls" => Some(Self::Tls),
            _ => None,
        }
    }

    const fn of_port(port: u16) -> Self {
        match port {
            465 => Self::Tls,
            587 => Self::StartTls,
            _ => Self::None,
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::None => 25,
            Self::StartTls => 587,
            Self::Tls => 465,
        }
    }
}

impl Email {
    pub(super) fn read(settings: &Settings) -> Result<Option<Self>, ConfigError> {
        let Some(section) = settings.section("email") else {
            return Ok(None);
        };
        if section.text("sender").is_none() {
            return Err(section.broken("sender is missing: an address such as watch@example.com"));
        }
        let sender = section.value("sender", "an address or Name <address>", sender)?;
        let host = section.value("host", "a host name", host)?;
        let port = section.value("port", PORT, port)?;
        let tls = section.value("tls", "none, starttls or tls", Tls::parse)?;
        let tls = tls.unwrap_or_else(|| port.map_or(Tls::None, Tls::of_port));
        let email = Self {
            sender: sender.unwrap_or_default(),
            host: host.unwrap_or_else(|| "localhost".to_owned()),
            port: port.unwrap_or(tls.port()),
            tls,
            login: Login::read(&section)?,
        };
        if email.login.is_some() && email.tls == Tls::None && !is_this_machine(&email.host) {
            return Err(section.wrong(
                "password",
                format!(
                    "would go to {} unencrypted; set tls to starttls or tls",
                    email.host
                ),
            ));
        }
        Ok(Some(email))
    }
}

impl Login {
    fn read(section: &Section) -> Result<Option<Self>, ConfigError> {
        match (section.text("username"), section.secret("password")) {
            (None, None) => Ok(None),
            (Some(username), Some(password)) => Ok(Some(Self { username, password })),
            (Some(_), None) => Err(section.wrong("username", "needs a password too")),
            (None, Some(_)) => Err(section.wrong("password", "needs a username too")),
        }
    }
}

/// `[wsgi]`: where the program listens. The name is older than the program.
#[derive(Clone, Debug)]
pub struct Wsgi {
    /// The address or name to listen on; without one, all interfaces.
    pub host: Option<String>,
    /// The port; 0 takes any that is free.
    pub port: u16,
    /// What callers have to know; without one, everybody may do everything. Not empty.
    pub auth_key: Option<SecretString>,
    /// Whose `X-Forwarded-For` is believed; without any, this machine's.
    pub trusted_proxies: Networks,
}

impl Wsgi {
    /// The port where nobody sets another.
    pub const DEFAULT_PORT: u16 = 80;

    pub(super) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let section = settings.section_or_empty("wsgi");
        let port = section.value("port", OPEN_PORT, number)?;
        let proxies = section.value("trusted_proxies", NETWORKS, |text| match text {
            "" => Some(Networks::loopback()),
            text => Networks::parse(text),
        })?;
        Ok(Self {
            host: section.text("host"),
            port: port.unwrap_or(Self::DEFAULT_PORT),
            auth_key: section.secret("auth_key"),
            trusted_proxies: proxies.unwrap_or_else(Networks::loopback),
        })
    }
}

/// `[web]`: where people find the program's pages.
#[derive(Clone, Debug)]
pub struct Web {
    /// Under which URL people reach the program; without one, no mail has a link.
    pub base_url: Option<BaseUrl>,
}

impl Web {
    pub(super) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let section = settings.section_or_empty("web");
        let url = section.text("base_url");
        let url = url.map(|text| BaseUrl::parse(&text)).transpose();
        Ok(Self {
            base_url: url.map_err(|problem| section.wrong("base_url", problem))?,
        })
    }
}

/// `[history]`: how much of a watcher's history is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    /// The rule, with the limit that was set.
    pub policy: HistoryPolicy,
}

impl History {
    pub(super) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let section = settings.section_or_empty("history");
        let expected = format!("a number of events (1 to {})", HistoryPolicy::MAX_LIMIT);
        let policy = section.value("limit", &expected, |text| {
            number(text).and_then(HistoryPolicy::with_limit)
        })?;
        Ok(Self {
            policy: policy.unwrap_or_default(),
        })
    }
}

/// `[monitor]`: what the program does about itself, since nobody else may.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// How long watchers whose deadline passed while nobody watched have to report; nothing if zero.
    pub outage_grace: Duration,
    /// How long a notice may be owed before the program is not ready any more; `None` for however long.
    pub max_notice_age: Option<Duration>,
    /// Whoever is told that the program does its work, if anybody.
    pub heartbeat: Option<Heartbeat>,
}

/// Another monitor, which is told regularly that the program does its work.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// What to ask for. A secret: whoever knows it can do the same.
    pub url: SecretString,
    /// How often; at least a second.
    pub interval: Duration,
}

impl Monitor {
    /// How long a notice may be owed where nobody says otherwise.
    pub const DEFAULT_MAX_NOTICE_AGE: Duration = Duration::from_hours(1);
    /// How often a heartbeat goes out where nobody says otherwise.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_mins(1);

    pub(super) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let section = settings.section_or_empty("monitor");
        let seconds = |key, expected, least: Duration| {
            section.value(key, expected, |text| {
                seconds_up_to_a_year(text).filter(|seconds| *seconds >= least)
            })
        };
        let any = "a number of seconds (0 to 31536000)";
        let grace = seconds("outage_grace", any, Duration::ZERO)?;
        let age = seconds("max_notice_age", any, Duration::ZERO)?;
        let some = "a number of seconds (1 to 31536000)";
        let interval = seconds("heartbeat_interval", some, Duration::from_secs(1))?;
        let heartbeat = section.secret("heartbeat_url").map(|url| Heartbeat {
            url,
            interval: interval.unwrap_or(Self::DEFAULT_INTERVAL),
        });
        if heartbeat.is_none() && interval.is_some() {
            return Err(section.wrong("heartbeat_interval", "needs a heartbeat_url too"));
        }
        Ok(Self {
            outage_grace: grace.unwrap_or_default(),
            max_notice_age: Some(age.unwrap_or(Self::DEFAULT_MAX_NOTICE_AGE))
                .filter(|age| !age.is_zero()),
            heartbeat,
        })
    }
}

fn seconds_up_to_a_year(text: &str) -> Option<Duration> {
    const YEAR: u64 = 365 * 24 * 3_600;
    number(text)
        .filter(|seconds| *seconds <= YEAR)
        .map(Duration::from_secs)
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A number of nothing but digits.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

fn port(text: &str) -> Option<u16> {
    number(text).filter(|port| *port > 0)
}

fn host(text: &str) -> Option<String> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    (!text.is_empty() && !text.contains(is_odd)).then(|| text.to_owned())
}

/// An address that any mail library reads: in a name with commas, brackets and the like these stand between
/// quotes, and the domain is a name.
fn sender(text: &str) -> Option<String> {
    let options = Options::default()
        .with_display_text()
        .without_domain_literal();
    EmailAddress::parse_with_options(text, options).ok()?;
    let name = text.rsplit_once('<').map_or("", |(name, _)| name.trim());
    let is_quoted = |name: &str| {
        let inside = name
            .strip_prefix('"')
            .and_then(|name| name.strip_suffix('"'));
        inside.is_some_and(|inside| !inside.contains(['"', '\\']))
    };
    let is_clean = !text.chars().any(char::is_control)
        && (is_quoted(name) || !name.contains(['(', ')', '[', ']', ':', ';', '@', ',', '"', '\\']));
    is_clean.then(|| text.to_owned())
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}
