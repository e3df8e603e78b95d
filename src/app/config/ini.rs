//! Reading `nights-watch.ini`.

use std::path::Path;

use super::ConfigError;
use super::sources::{self, Known, Source};
use crate::ini::{Line, lines};

/// Reads the `text` of the file at `path`.
///
/// # Errors
///
/// A line of another shape, a section or key that there is not, or one that stands there twice.
pub(super) fn parse(path: &Path, text: &str) -> Result<Source, ConfigError> {
    let file = path.display().to_string();
    let mut source = Source::file(file.clone());
    let mut section: Option<&'static Known> = None;
    // By how much the last setting of the section was indented.
    let mut last_indent = None;
    for (number, line) in lines(text) {
        let at_line = |problem| ConfigError::new(format!("{file}: line {number}"), problem);
        match line.map_err(at_line)? {
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
