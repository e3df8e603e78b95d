//! Where settings come from, and how they are laid over each other.
//!
//! Whatever its source, a setting is text until its section reads it: nothing guesses that a password of
//! digits is a number. Each keeps the place it was made in, which is what a complaint about it begins with.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use secrecy::SecretString;

use super::ConfigError;
use super::options::Overrides;

/// What the name of an environment variable of ours begins with.
pub(super) const PREFIX: &str = "NIGHTS_WATCH_";

/// The variables of the project's own tests begin with this, behind the prefix.
const TESTS: &str = "TEST_";

/// The variable that stands for `--config`, behind the prefix.
const CONFIG: &str = "CONFIG";

/// The variables of the client, behind the prefix.
const CLIENT: [&str; 2] = ["URL", "AUTH_KEY"];

/// A section that there is, and its keys.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) keys: &'static [&'static str],
    /// Whether keys that are not listed are taken as they are.
    open: bool,
}

/// All sections that there are.
pub(super) const SECTIONS: [Known; 8] = [
    Known {
        name: "logging",
        keys: &["file", "format", "rotate", "max_size", "backup_count"],
        open: false,
    },
    Known {
        name: "mongodb",
        keys: &["hosts", "database", "username", "password", "replicaSet"],
        open: true,
    },
    Known {
        name: "sqlite",
        keys: &["path"],
        open: false,
    },
    Known {
        name: "email",
        keys: &["sender", "host", "port", "username", "password", "tls"],
        open: false,
    },
    Known {
        name: "wsgi",
        keys: &["host", "port", "auth_key", "trusted_proxies"],
        open: false,
    },
    Known {
        name: "web",
        keys: &["base_url"],
        open: false,
    },
    Known {
        name: "history",
        keys: &["limit"],
        open: false,
    },
    Known {
        name: "monitor",
        keys: &[
            "outage_grace",
            "max_notice_age",
            "heartbeat_url",
            "heartbeat_interval",
        ],
        open: false,
    },
];

impl Known {
    /// The key that `written` means, whatever its case; `None` if the section has no such key.
    pub(super) fn key<'a>(&self, written: &'a str) -> Option<&'a str> {
        self.listed(written)
            .or_else(|| self.open.then_some(written))
    }

    pub(super) fn no_such_key(&self) -> String {
        let keys = self.keys.join(", ");
        format!("no such key; [{}] has {keys}", self.name)
    }

    fn listed(&self, written: &str) -> Option<&'static str> {
        self.keys
            .iter()
            .copied()
            .find(|key| key.eq_ignore_ascii_case(written))
    }
}

pub(super) fn no_such_section() -> String {
    let names = SECTIONS.map(|section| format!("[{}]", section.name));
    format!("no such section; there are {}", names.join(", "))
}

/// Some settings from one place: a file, a variable or an option.
pub(super) struct Source {
    name: String,
    is_file: bool,
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

impl Source {
    /// A file, as yet without settings.
    pub(super) fn file(name: String) -> Self {
        Self {
            name,
            is_file: true,
            sections: BTreeMap::new(),
        }
    }

    /// One setting, made by the variable or option called `name`.
    pub(super) fn single(name: &str, section: &str, key: &str, value: &str) -> Self {
        let mut source = Self {
            is_file: false,
            ..Self::file(name.to_owned())
        };
        source.add(section, key, value);
        source
    }

    /// Adds a section without settings; `false` if it is there already.
    pub(super) fn add_section(&mut self, section: &str) -> bool {
        self.sections
            .insert(section.to_owned(), BTreeMap::new())
            .is_none()
    }

    /// Adds a setting; `false` if it is there already. Names of options, which are not listed, count as the
    /// same in any case, as they do in MongoDB.
    pub(super) fn add(&mut self, section: &str, key: &str, value: &str) -> bool {
        let keys = self.sections.entry(section.to_owned()).or_default();
        let is_new = !keys.keys().any(|known| known.eq_ignore_ascii_case(key));
        keys.insert(key.to_owned(), value.to_owned());
        is_new
    }

    fn has(&self, section: &str, key: &str) -> bool {
        self.sections
            .get(section)
            .is_some_and(|keys| keys.contains_key(key))
    }

    /// How this source spells a key, if it has it in any case.
    fn spelling(&self, section: &str, key: &str) -> Option<&str> {
        self.sections
            .get(section)?
            .keys()
            .map(String::as_str)
            .find(|known| known.eq_ignore_ascii_case(key))
    }
}

impl Provider for Source {
    fn metadata(&self) -> Metadata {
        let name = self.name.clone();
        let is_file = self.is_file;
        Metadata::named(name.clone()).interpolater(move |_, keys| match keys {
            [section, key] if is_file => format!("{name}: [{section}] {key}"),
            _ => name.clone(),
        })
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let sections = self.sections.iter();
        let dict = sections.map(|(name, keys)| (name.clone(), Value::from(keys.clone())));
        Ok(Profile::Default.collect(dict.collect()))
    }
}

/// The settings in the environment, one source each; `file` tells how it spells the options of MongoDB.
///
/// # Errors
///
/// A variable with our prefix that means nothing, or the same as another.
pub(super) fn environment(
    env: impl IntoIterator<Item = (String, String)>,
    file: Option<&Source>,
) -> Result<Vec<Source>, ConfigError> {
    let mut sources: Vec<Source> = Vec::new();
    // In the order of their names, so that the same mistakes always give the same complaint.
    let env: BTreeMap<String, String> = env.into_iter().collect();
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let is_other = rest == CONFIG || CLIENT.contains(&rest) || rest.starts_with(TESTS);
        if is_other || is_of_kubernetes(rest, &value) {
            continue;
        }
        let (section, key) = variable(&name, rest, file)?;
        if let Some(other) = sources.iter().find(|source| source.has(section, &key)) {
            let problem = format!("is set as {} as well", other.name);
            return Err(ConfigError::new(name, problem));
        }
        sources.push(Source::single(&name, section, &key, &value));
    }
    Ok(sources)
}

/// Whether a variable is one of those that Kubernetes gives to every container beside a service that is
/// called `nights-watch`, such as `NIGHTS_WATCH_PORT_80_TCP_ADDR`.
fn is_of_kubernetes(rest: &str, value: &str) -> bool {
    let is_address = rest == "PORT" && value.contains("://");
    is_address || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

/// The section and key that a variable is for, by the `rest` of its name behind the prefix.
///
/// An option of MongoDB is taken in small letters and without underscores, or as the file spells it:
/// MongoDB reads the names of options in any case, and none has an underscore.
fn variable(
    name: &str,
    rest: &str,
    file: Option<&Source>,
) -> Result<(&'static str, String), ConfigError> {
    let (section, key) = rest
        .split_once('_')
        .and_then(|(section, key)| {
            let known = |known: &&Known| known.name.eq_ignore_ascii_case(section);
            Some((SECTIONS.iter().find(known)?, key))
        })
        .ok_or_else(|| {
            let names = SECTIONS.map(|section| section.name).join(", ");
            let problem =
                format!("no such setting; {PREFIX}<SECTION>_<KEY> has the sections {names}");
            ConfigError::new(name, problem)
        })?;
    let key = if section.open {
        key.replace('_', "").to_ascii_lowercase()
    } else {
        key.to_owned()
    };
    let key = section
        .listed(&key)
        .or_else(|| file?.spelling(section.name, &key))
        .or_else(|| section.key(&key).filter(|key| !key.is_empty()))
        .ok_or_else(|| ConfigError::new(name, section.no_such_key()))?;
    Ok((section.name, key.to_owned()))
}

/// The settings on the command line, one source each.
pub(super) fn flags(overrides: &Overrides) -> Vec<Source> {
    let port = overrides.port.map(|port| port.to_string());
    [
        ("--host", "wsgi", "host", &overrides.host),
        ("--port", "wsgi", "port", &port),
        ("--database", "sqlite", "path", &overrides.database),
    ]
    .into_iter()
    .filter_map(|(flag, section, key, value)| {
        let value = value.as_deref()?;
        Some(Source::single(flag, section, key, value))
    })
    .collect()
}

/// All sources, one over the other.
pub(super) struct Settings(Figment);

impl Settings {
    /// Lays `sources` over each other: of two that make the same setting the later wins.
    pub(super) fn merge(sources: impl IntoIterator<Item = Source>) -> Self {
        Self(sources.into_iter().fold(Figment::new(), Figment::merge))
    }

    /// The section called `name`, if any source has it.
    pub(super) fn section(&self, name: &'static str) -> Option<Section> {
        let section = self.0.find_value(name).ok()?;
        let origin = self.0.get_metadata(section.tag())?.name.to_string();
        let settings = section
            .into_dict()?
            .into_iter()
            .filter_map(|(key, value)| {
                let metadata = self.0.get_metadata(value.tag())?;
                let place = metadata.interpolate(&Profile::Default, &[name, &key]);
                let text = value.into_string()?;
                Some((key, Setting { place, text }))
            })
            .collect();
        Some(Section {
            name,
            origin,
            settings,
        })
    }

    /// The section called `name`, or an empty one.
    pub(super) fn section_or_empty(&self, name: &'static str) -> Section {
        self.section(name).unwrap_or(Section {
            name,
            origin: String::new(),
            settings: BTreeMap::new(),
        })
    }
}

struct Setting {
    place: String,
    text: String,
}

/// One section, as all sources together make it. An empty text counts as none at all.
pub(super) struct Section {
    name: &'static str,
    origin: String,
    settings: BTreeMap<String, Setting>,
}

impl Section {
    pub(super) fn text(&self, key: &str) -> Option<String> {
        let setting = self.settings.get(key)?;
        (!setting.text.is_empty()).then(|| setting.text.clone())
    }

    pub(super) fn secret(&self, key: &str) -> Option<SecretString> {
        self.text(key).map(SecretString::from)
    }

    /// What `read` makes of a setting that is no secret, or the complaint that it is not `expected`.
    pub(super) fn value<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(Setting { place, text }) = self.settings.get(key) else {
            return Ok(None);
        };
        match read(text) {
            Some(value) => Ok(Some(value)),
            None => Err(ConfigError::new(
                place,
                format!("{text:?} is not {expected}"),
            )),
        }
    }

    /// The settings that are none of the listed ones, by their names as written.
    pub(super) fn others(&self) -> BTreeMap<String, SecretString> {
        let is_listed = |key: &str| {
            let mut sections = SECTIONS.iter();
            sections.any(|known| known.name == self.name && known.listed(key).is_some())
        };
        self.settings
            .iter()
            .filter(|(key, _)| !is_listed(key))
            .map(|(key, setting)| (key.clone(), SecretString::from(setting.text.clone())))
            .collect()
    }

    /// A complaint about a setting.
    pub(super) fn wrong(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        match self.settings.get(key) {
            Some(setting) => ConfigError::new(&setting.place, problem),
            None => self.broken(problem),
        }
    }

    /// A complaint about the section, which names what made it.
    pub(super) fn broken(&self, problem: impl Into<String>) -> ConfigError {
        let problem: String = problem.into();
        ConfigError::new(&self.origin, format!("[{}] {problem}", self.name))
    }
}
