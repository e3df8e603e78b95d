//! Reading `nights-watch.ini`.
//!
//! One `key = value` (or `key: value`) a line, under a `[section]`; a line that begins with `#` or `;` is a
//! comment. A value is what stands behind the separator, to the end of the line and without the white space
//! around it. Nothing in it means anything: no quotes, no escapes, no comments, no `%`.

use std::path::Path;

use super::ConfigError;
use super::sources::{self, Known, Source};

/// Reads the `text` of the file at `path`.
///
/// # Errors
///
/// A line of another shape, a section or key that there is not, or one that stands there twice.
pub(super) fn parse(path: &Path, text: &str) -> Result<Source, ConfigError> {
    let file = path.display().to_string();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut source = Source::file(file.clone());
    let mut section: Option<&'static Known> = None;
    // By how much the last setting of the section was indented.
    let mut last_indent = None;
    for (index, line) in text.lines().enumerate() {
        let at_line = |problem| ConfigError::new(format!("{file}: line {}", index + 1), problem);
        match read(line).map_err(at_line)? {
            Line::Nothing => {}
            Line::Section(name) => {
                let place = format!("{file}: [{name}]");
                let known = sources::SECTIONS
                    .iter()
                    .find(|section| section.name == name);
                let known =
                    known.ok_or_else(|| ConfigError::new(&place, sources::no_such_section()))?;
                if !source.add_section(known.name) {
                    return Err(ConfigError::new(&place, "stands there twice"));
                }
                (section, last_indent) = (Some(known), None);
            }
            Line::Setting {
                indent,
                key: written,
                value,
            } => {
                let Some(section) = section else {
                    return Err(at_line("stands outside of any [section]"));
                };
                if last_indent.is_some_and(|last| indent > last) {
                    return Err(at_line(
                        "is indented: a value cannot go on in a second line",
                    ));
                }
                last_indent = Some(indent);
                let place = format!("{file}: [{}] {written}", section.name);
                let key = section
                    .key(written)
                    .ok_or_else(|| ConfigError::new(&place, section.no_such_key()))?;
                if !source.add(section.name, key, value) {
                    return Err(ConfigError::new(&place, "is set twice"));
                }
            }
        }
    }
    Ok(source)
}

enum Line<'a> {
    Nothing,
    Section(&'a str),
    Setting {
        indent: usize,
        key: &'a str,
        value: &'a str,
    },
}

/// What `line` says, or what is wrong with it. A complaint shows nothing of the line: it may hold a secret.
fn read(line: &str) -> Result<Line<'_>, &'static str> {
    let indent = line.len() - line.trim_start().len();
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(Line::Nothing);
    }
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("has a control character in it");
    }
    if let Some(rest) = line.strip_prefix('[') {
        let name = rest
            .strip_suffix(']')
            .map(str::trim)
            .filter(|name| is_word(name));
        return name.map(Line::Section).ok_or("is not a [section]");
    }
    match line.split_once(['=', ':']) {
        Some((key, value)) if is_word(key.trim_end()) => Ok(Line::Setting {
            indent,
            key: key.trim_end(),
            value: value.trim_start(),
        }),
        _ => Err("is neither a [section] nor key = value nor a comment"),
    }
}

fn is_word(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !text.is_empty() && text.chars().all(is_allowed)
}
