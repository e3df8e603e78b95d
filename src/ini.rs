//! The form of the files that settings are kept in.
//!
//! One `key = value` (or `key: value`) a line, under a `[section]`; a line that begins with `#` or `;` is a
//! comment. A value is what stands behind the separator, to the end of the line and without the white space
//! around it. Nothing in it means anything: no quotes, no escapes, no comments, no `%`.

/// What a line of settings says.
pub(crate) enum Line<'a> {
    /// `[section]`.
    Section(&'a str),
    /// `key = value`.
    Setting {
        /// How far from the beginning of the line it begins.
        indent: usize,
        key: &'a str,
        value: &'a str,
    },
}

/// The lines of `text` that say something, each with its number from 1 and what it says, or what is wrong with it.
/// A complaint shows nothing of the line: it may hold a secret.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, Result<Line<'_>, &'static str>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().enumerate();
    lines.filter_map(|(index, line)| Some((index + 1, read(line).transpose()?)))
}

fn read(line: &str) -> Result<Option<Line<'_>>, &'static str> {
    let indent = line.len() - line.trim_start().len();
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(None);
    }
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("has a control character in it");
    }
    if let Some(rest) = line.strip_prefix('[') {
        let name = rest
            .strip_suffix(']')
            .map(str::trim)
            .filter(|name| is_word(name));
        let name = name.ok_or("is not a [section]")?;
        return Ok(Some(Line::Section(name)));
    }
    match line.split_once(['=', ':']) {
        Some((key, value)) if is_word(key.trim_end()) => Ok(Some(Line::Setting {
            indent,
            key: key.trim_end(),
            value: value.trim_start(),
        })),
        _ => Err("is neither a [section] nor key = value nor a comment"),
    }
}

fn is_word(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !text.is_empty() && text.chars().all(is_allowed)
}
