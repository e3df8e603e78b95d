//! Reading `nights-watch.ini`.
//!
//! One `key = value` (or `key: value`) a line, under a `[section]`; a line that begins with `#` or `;` is a
//! comment. A value is what stands behind the separator, to the end of the line and without the white space
//! around it. Nothing in it means anything: no quotes, no escapes, no comments, no `%`.

use std::path::Path;

use ini::{Ini, ParseOption};

use super::ConfigError;
use super::sources::{self, Source};

/// Reads the `text` of the file at `path`.
///
/// # Errors
///
/// A line of another shape, a section or key that there is not, or one that stands there twice.
pub(super) fn parse(path: &Path, text: &str) -> Result<Source, ConfigError> {
    let file = path.display().to_string();
    let text = plain(&file, text)?;
    let options = ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        ..ParseOption::default()
    };
    let ini = Ini::load_from_str_opt(&text, options)
        .map_err(|error| ConfigError::new(format!("{file}: line {}", error.line), error.msg))?;

    let mut source = Source::file(file.clone());
    for (section, properties) in &ini {
        let Some(written) = section else { continue };
        let place = format!("{file}: [{written}]");
        let section = sources::SECTIONS
            .iter()
            .find(|section| section.name == written)
            .ok_or_else(|| ConfigError::new(&place, sources::no_such_section()))?;
        if !source.add_section(section.name) {
            return Err(ConfigError::new(&place, "stands there twice"));
        }
        for (written, value) in properties {
            let place = format!("{place} {written}");
            let key = section
                .key(written)
                .ok_or_else(|| ConfigError::new(&place, section.no_such_key()))?;
            if !source.add(section.name, key, value) {
                return Err(ConfigError::new(&place, "is set twice"));
            }
        }
    }
    Ok(source)
}

/// The same lines, in the one form that the parser cannot misread.
///
/// Left alone it reads on over the end of a line: for the `=` of a key that has none, for the `]` of a
/// section, and after a value that ends in a backslash (unless the line ends in CR LF). It also drops an
/// indented line without a `=` at the end of the file without a word.
fn plain(file: &str, text: &str) -> Result<String, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut plain = String::with_capacity(text.len());
    let mut lines = Lines::default();
    for (index, line) in text.lines().enumerate() {
        let kept = lines
            .check(line)
            .map_err(|problem| ConfigError::new(format!("{file}: line {}", index + 1), problem))?;
        plain.push_str(kept);
        plain.push_str("\r\n");
    }
    Ok(plain)
}

/// Where in the file the next line stands.
#[derive(Default)]
struct Lines {
    in_section: bool,
    /// By how much the last setting of this section was indented.
    indent: Option<usize>,
}

impl Lines {
    /// What of `line` the parser has to see, or what is wrong with it. A complaint shows nothing of the line:
    /// it may hold a secret.
    fn check<'a>(&mut self, line: &'a str) -> Result<&'a str, &'static str> {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            return Ok("");
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err("has a control character in it");
        }
        if let Some(rest) = line.strip_prefix('[') {
            self.in_section = true;
            self.indent = None;
            return match rest.strip_suffix(']') {
                Some(name) if is_word(name.trim()) => Ok(line),
                _ => Err("is not a [section]"),
            };
        }
        if self.indent.is_some_and(|last| indent > last) {
            return Err("is indented: a value cannot go on in a second line");
        }
        match line.split_once(['=', ':']) {
            Some((key, _)) if is_word(key.trim_end()) => {}
            _ => return Err("is neither a [section] nor key = value nor a comment"),
        }
        if !self.in_section {
            return Err("stands outside of any [section]");
        }
        self.indent = Some(indent);
        Ok(line)
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}
