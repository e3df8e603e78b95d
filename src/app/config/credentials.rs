//! Settings that somebody hands over as files: systemd its credentials, an engine of containers its secrets.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::ConfigError;
use super::sources::{SECTIONS, Source};

/// Names the folder where they are.
pub(super) const VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// The settings in `folder`, one source each: a file is called `<section>.<key>`, and holds the value, behind which
/// an end of line does not count. Files with other names are somebody else's, and are not read.
///
/// # Errors
///
/// A file for a key that there is not, one that is empty or no line of text, or one that cannot be read.
pub(super) fn read(folder: &Path) -> Result<Vec<Source>, ConfigError> {
    let unreadable = |path: &Path, error| {
        let problem = format!("cannot be read: {error}");
        ConfigError::new(path.display().to_string(), problem)
    };
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        // An image names the folder whether or not its container is given secrets.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(folder, error)),
    };
    let mut paths = files
        .map(|file| Ok(file?.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(folder, error))?;
    // The same mistakes always give the same complaint.
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some((section, written)) = name.and_then(|name| name.split_once('.')) else {
            continue;
        };
        let Some(section) = SECTIONS.iter().find(|known| known.name == section) else {
            continue;
        };
        let place = path.display().to_string();
        let wrong = |problem: &str| ConfigError::new(&place, problem);
        let key = section.key(written).filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| wrong(&section.no_such_key()))?;
        let value = fs::read(&path).map_err(|error| unreadable(&path, error))?;
        let value = String::from_utf8(value).map_err(|_| wrong("is not UTF-8 text"))?;
        let value = value.strip_suffix('\n').unwrap_or(&value);
        let value = value.strip_suffix('\r').unwrap_or(value);
        if value.contains(['\n', '\r', '\0']) {
            return Err(wrong("is more than one line of text"));
        }
        if value.is_empty() {
            // Whoever hands a secret over does not mean to do without one.
            return Err(wrong("is empty"));
        }
        sources.push(Source::single(&place, section.name, key, value));
    }
    Ok(sources)
}
