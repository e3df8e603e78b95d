//! Asking for the settings, and storing them.

use std::io::{self, IsTerminal, Stdin, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;

use super::api::{Failure, UNSENDABLE, is_sendable};
use super::command::Configure;
use super::settings::{DEFAULT_URL, Stored, parse_url, path};
use super::{complain, say};

/// Stores the settings that the options, standard input or somebody at the terminal make.
pub(super) fn run(configure: &Configure) -> Result<(), Failure> {
    let no_home = "there is no place for settings: neither HOME nor XDG_CONFIG_HOME is set";
    let path = path().ok_or(Failure::Usage(no_home))?;
    // What cannot be understood is written anew.
    let stored = Stored::read_own().unwrap_or_else(|failure| {
        complain(&failure.to_string());
        Stored::default()
    });
    let is_told = configure.url.is_some() || configure.auth_key_stdin || configure.no_auth_key;
    if !is_told && !io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "say --url, --auth-key-stdin or --no-auth-key, or run this on a terminal",
        ));
    }
    let present = stored.url.unwrap_or_else(|| DEFAULT_URL.to_owned());
    let url = match &configure.url {
        Some(url) => parse_url("--url", url)?,
        None if is_told => present.clone(),
        None => ask_url(&present)?,
    };
    // A key is for one service.
    let kept = stored.key.filter(|_| url == present);
    let key = if configure.no_auth_key {
        None
    } else if configure.auth_key_stdin {
        Some(ask_key("Key (it is not shown): ")?.ok_or(Failure::Usage(
            "no key came from standard input; --no-auth-key stores none",
        ))?)
    } else if is_told {
        kept
    } else if kept.is_some() {
        ask_key("Key (it is not shown; nothing for the one that is stored): ")?.or(kept)
    } else {
        ask_key("Key (it is not shown; nothing for none): ")?
    };
    let with = if key.is_some() { "with" } else { "without" };
    let new = Stored {
        url: Some(url.clone()),
        key,
    };
    let place = path.display().to_string();
    new.write(&path)
        .map_err(|error| Failure::settings(&place, format!("cannot be written: {error}")))?;
    say(&format!("{place} has {url}, {with} a key"))
}

fn ask_url(present: &str) -> Result<String, Failure> {
    prompt(&format!("URL of the service [{present}]: "))?;
    let line = read_line(&io::stdin())?;
    match line.trim() {
        "" => Ok(present.to_owned()),
        url => parse_url("the URL", url),
    }
}

/// Asks for a key, or reads it if nobody is there to be asked; an empty line is none.
fn ask_key(question: &str) -> Result<Option<SecretString>, Failure> {
    let stdin = io::stdin();
    let line = if stdin.is_terminal() {
        let silence = Silence::on(&stdin)?;
        prompt(question)?;
        let line = read_line(&stdin)?;
        drop(silence);
        // The line feed was not shown either.
        prompt("\n")?;
        line
    } else {
        read_line(&stdin)?
    };
    let key = line.strip_suffix('\n').unwrap_or(&line);
    let key = key.strip_suffix('\r').unwrap_or(key);
    if !is_sendable(key) {
        return Err(Failure::settings("the key", UNSENDABLE));
    }
    // In the file nothing says where white space at its end would end.
    if key.trim() != key {
        return Err(Failure::settings("the key", "has white space around it"));
    }
    Ok((!key.is_empty()).then(|| key.into()))
}

fn prompt(words: &str) -> Result<(), Failure> {
    let mut stderr = io::stderr();
    stderr.write_all(words.as_bytes())?;
    Ok(stderr.flush()?)
}

fn read_line(stdin: &Stdin) -> Result<String, Failure> {
    let mut line = String::new();
    stdin
        .read_line(&mut line)
        .map_err(|error| Failure::settings("standard input", error.to_string()))?;
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence<'a> {
    stdin: &'a Stdin,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn on(stdin: &'a Stdin) -> Result<Self, Failure> {
        let failed =
            |error: rustix::io::Errno| Failure::settings("the terminal", error.to_string());
        let before = tcgetattr(stdin).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin, OptionalActions::Drain, &silent).map_err(failed)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // If the terminal is gone nobody types any more.
        let _ = tcsetattr(self.stdin, OptionalActions::Drain, &self.before);
    }
}
