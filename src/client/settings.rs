//! Which service is meant, and the key to it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{env, process};

use secrecy::{ExposeSecret, SecretString};

use super::api::Failure;
use super::command::{Access, Address};
use super::complain;
use crate::http_client::is_url;
use crate::ini::{self, Line};

/// The service where nobody names another: one on this machine, at its default port.
pub(super) const DEFAULT_URL: &str = "http://localhost";

const SECTION: &str = "client";

/// Which service is meant, and the key to it.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) url: String,
    pub(super) key: Option<SecretString>,
    /// The service that the stored key is for, if it is for another one and so is not used.
    pub(super) key_is_for: Option<String>,
}

/// What the file of the user says.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) url: Option<String>,
    pub(super) key: Option<SecretString>,
}

impl Settings {
    /// The settings that the options, the environment and the file of the user make together.
    pub(super) fn find(access: &Access) -> Result<Self, Failure> {
        let url = url(&access.address)?;
        let key = match &access.auth_key {
            Some(key) => Some(key.clone()),
            None => variable("NIGHTS_WATCH_AUTH_KEY")?.map(SecretString::from),
        };
        if let (Some(url), Some(_)) = (&url, &key) {
            let url = url.clone();
            return Ok(Self {
                url,
                key,
                key_is_for: None,
            });
        }
        let stored = Stored::read_own()?;
        let stored_url = stored.url.unwrap_or_else(|| DEFAULT_URL.to_owned());
        let url = url.unwrap_or_else(|| stored_url.clone());
        // A key is for one service: it is not shown to whatever another URL leads to.
        let (stored_key, key_is_for) = match stored.key {
            Some(_) if url != stored_url => (None, Some(stored_url)),
            stored_key => (stored_key, None),
        };
        Ok(Self {
            url,
            key: key.or(stored_key),
            key_is_for,
        })
    }

    /// The same where no key is needed.
    pub(super) fn find_without_key(address: &Address) -> Result<Self, Failure> {
        let url = match url(address)? {
            Some(url) => url,
            None => Stored::read_own()?
                .url
                .unwrap_or_else(|| DEFAULT_URL.to_owned()),
        };
        Ok(Self {
            url,
            key: None,
            key_is_for: None,
        })
    }
}

/// The URL that the options or the environment name.
fn url(address: &Address) -> Result<Option<String>, Failure> {
    if let Some(url) = &address.url {
        return parse_url("--url", url).map(Some);
    }
    let name = "NIGHTS_WATCH_URL";
    let url = variable(name)?;
    url.map(|url| parse_url(name, &url)).transpose()
}

/// A variable of the environment; an empty one is none.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(OsString::into_string)
        .transpose()
        .map_err(|_| Failure::settings(name, "is not UTF-8 text"))
}

/// The URL of a service, without a slash at its end. The complaint does not show it: there may be a password in it.
pub(super) fn parse_url(place: &str, text: &str) -> Result<String, Failure> {
    let text = text.trim();
    let complaint = "is not a URL that begins with http:// or https:// and names a host, and nothing but a path behind it";
    if !is_url(text) || text.contains(['@', '?', '#']) {
        return Err(Failure::settings(place, complaint));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

impl Stored {
    /// Reads the file of the user, if there is one.
    pub(super) fn read_own() -> Result<Self, Failure> {
        path().map_or(Ok(Self::default()), |path| Self::read(&path))
    }

    /// Reads the file at `path`, if there is one.
    fn read(path: &Path) -> Result<Self, Failure> {
        let place = path.display().to_string();
        let unreadable =
            |error: io::Error| Failure::settings(&place, format!("cannot be read: {error}"));
        // In a folder that is closed to us there is no file of ours.
        let is_elsewhere = |error: &io::Error| {
            use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
            matches!(error.kind(), NotADirectory | NotFound | PermissionDenied)
        };
        if fs::metadata(path).is_err_and(|error| is_elsewhere(&error)) {
            return Ok(Self::default());
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            complain(&format!(
                "{place} can be read by others (mode {mode:o}): chmod 600 it"
            ));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&place, &text)
    }

    fn parse(place: &str, text: &str) -> Result<Self, Failure> {
        let mut stored = Self::default();
        let mut section = None;
        for (number, line) in ini::lines(text) {
            let wrong =
                |problem: &str| Failure::settings(&format!("{place}: line {number}"), problem);
            match line.map_err(wrong)? {
                Line::Section(SECTION) => section = Some(SECTION),
                Line::Section(_) => return Err(wrong("there is no section but [client]")),
                Line::Setting { .. } if section.is_none() => {
                    return Err(wrong("stands outside of any [section]"));
                }
                Line::Setting { value: "", .. } => {}
                Line::Setting {
                    key: "url", value, ..
                } => {
                    stored.url = Some(parse_url(&format!("{place}: line {number}"), value)?);
                }
                Line::Setting {
                    key: "auth_key",
                    value,
                    ..
                } => stored.key = Some(value.into()),
                Line::Setting { .. } => {
                    return Err(wrong("no such key; [client] has url, auth_key"));
                }
            }
        }
        Ok(stored)
    }

    /// Writes the file at `path`, and the folders that it needs. At no time can others read it, and whoever reads it
    /// finds the old one or the new one.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let temporary = folder.join(format!(".client.ini.{}", process::id()));
        let written = self
            .write_new(&temporary)
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // What has gone wrong is worth more than what may go wrong now.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        writeln!(file, "# Written by nights-watch configure.\n[{SECTION}]")?;
        if let Some(url) = &self.url {
            writeln!(file, "url = {url}")?;
        }
        if let Some(key) = &self.key {
            writeln!(file, "auth_key = {}", key.expose_secret())?;
        }
        file.sync_all()
    }
}

/// Where the file of the user is, if they have a folder at all.
pub(super) fn path() -> Option<PathBuf> {
    let folder = |name| env::var_os(name).map(PathBuf::from);
    let configuration = folder("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let configuration = configuration.or_else(|| {
        let home = folder("HOME").filter(|path| path.is_absolute());
        Some(home?.join(".config"))
    });
    Some(configuration?.join("nights-watch/client.ini"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_a_host_and_perhaps_a_path() {
        for (text, url) in [
            ("http://watch", "http://watch"),
            ("https://watch.example.com/", "https://watch.example.com"),
            (" http://[::1]:8080 ", "http://[::1]:8080"),
            (
                "http://watch/behind/a/proxy/",
                "http://watch/behind/a/proxy",
            ),
        ] {
            assert_eq!(parse_url("--url", text).unwrap(), url);
        }
        for text in [
            "",
            "watch",
            "watch:8080",
            "/path",
            "ftp://watch",
            "http://",
            "http://user:hunter2@watch",
            "http://watch/?auth_key=hunter2",
            "http://watch/#here",
            "http://wa tch",
        ] {
            let complaint = parse_url("--url", text).unwrap_err().to_string();
            assert!(complaint.starts_with("--url: is not a URL"), "{complaint}");
            assert!(!complaint.contains("hunter2"), "{complaint}");
        }
    }

    #[test]
    fn a_file_of_another_form_is_refused_by_its_line() {
        let stored = "# x\n[client]\nurl = http://watch/\nauth_key = a=b;#c\n";
        let stored = Stored::parse("f", stored).unwrap();
        assert_eq!(stored.url.as_deref(), Some("http://watch"));
        assert_eq!(stored.key.unwrap().expose_secret(), "a=b;#c");
        for (text, complaint) in [
            ("url = http://watch", "f: line 1: stands outside"),
            ("[server]", "f: line 1: there is no section but"),
            ("[client]\n\nkey = hunter2", "f: line 3: no such key"),
            ("[client]\nurl = hunter2", "f: line 2: is not a URL"),
            ("[client]\nhunter2", "f: line 2: is neither"),
        ] {
            let refused = Stored::parse("f", text).unwrap_err().to_string();
            assert!(refused.starts_with(complaint), "{refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
