//! A log file that is put aside when it is full, and found again when somebody else puts it aside.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Appends whole lines to a file, and puts it aside before a line would make it too large: `log` becomes
/// `log.1`, `log.1` becomes `log.2` and so on, up to the number that is kept.
///
/// Each call of `write` is one line, which is never split between two files; a line that is too large by
/// itself gets a file of its own. When the file is moved or removed by somebody else, such as logrotate, the
/// file is opened anew within a second. Whatever goes wrong, it neither fails nor panics: it writes to what it
/// has, and says so on standard error, once until all is well again.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// In bytes; `None` if the file may grow without end.
    max_size: Option<u64>,
    backup_count: u32,
    looked: Instant,
    complained: bool,
}

impl RotatingFile {
    /// How often it looks whether its file is still where it was.
    const LOOK: Duration = Duration::from_secs(1);

    /// Opens the file at `path` for appending, or makes it, readable for its owner and group only. It is put
    /// aside at `max_size` bytes, what is in it already included, and `backup_count` old ones are kept; with
    /// 0 it is emptied instead. With `None` it is left alone, as is what is not a plain file (`/dev/stdout`).
    ///
    /// # Errors
    ///
    /// What the system says, if the file cannot be opened.
    pub(super) fn open(
        path: PathBuf,
        max_size: Option<u64>,
        backup_count: u32,
    ) -> io::Result<Self> {
        let file = open(&path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            path,
            file,
            size: metadata.len(),
            max_size: max_size.filter(|_| metadata.is_file()),
            backup_count,
            looked: Instant::now(),
            complained: false,
        })
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let found = self.find_again();
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let is_full = |max| self.size > 0 && self.size.saturating_add(length) > max;
        let rotated = if self.max_size.is_some_and(is_full) {
            self.rotate()
        } else {
            Ok(())
        };
        self.file.write_all(line)?;
        self.size = self.size.saturating_add(length);
        found.and(rotated)
    }

    /// Opens the file anew if another one, or none, is where it was.
    fn find_again(&mut self) -> io::Result<()> {
        if self.looked.elapsed() < Self::LOOK {
            return Ok(());
        }
        let ours = self.file.metadata()?;
        let is_ours = |there: fs::Metadata| (there.dev(), there.ino()) == (ours.dev(), ours.ino());
        if !fs::metadata(&self.path).is_ok_and(is_ours) {
            self.reopen()?;
        }
        self.looked = Instant::now();
        Ok(())
    }

    /// Puts the file aside and begins a new one. Safe to try again wherever it stopped: a file is moved only
    /// to a number that is free, the last one apart, so that no second attempt pushes out what is kept.
    fn rotate(&mut self) -> io::Result<()> {
        if self.backup_count == 0 {
            self.file.set_len(0)?;
            self.size = 0;
            return Ok(());
        }
        if self.path.exists() {
            let free = (1..self.backup_count).find(|number| !self.backup(*number).exists());
            for number in (1..free.unwrap_or(self.backup_count)).rev() {
                fs::rename(self.backup(number), self.backup(number + 1))?;
            }
            fs::rename(&self.path, self.backup(1))?;
        }
        self.reopen()
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = file;
        Ok(())
    }

    fn backup(&self, number: u32) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(format!(".{number}"));
        path.into()
    }

    fn complain(&mut self, error: &io::Error) {
        if !self.complained {
            self.complained = true;
            let path = self.path.display();
            // If standard error is gone as well, there is nobody left to tell.
            let _ = writeln!(
                io::stderr(),
                "{path}: trouble with the log file, which goes on as it can: {error}"
            );
        }
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.write_line(line) {
            Ok(()) => self.complained = false,
            Err(error) => self.complain(&error),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    struct Scene {
        directory: TempDir,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn open(&self, max_size: u64, backup_count: u32) -> RotatingFile {
            RotatingFile::open(self.path("log"), Some(max_size), backup_count).unwrap()
        }

        /// Checks that these files are there with these contents, and no others.
        #[track_caller]
        fn check(&self, files: &[(&str, &str)]) {
            let mut found: Vec<(String, String)> = fs::read_dir(self.directory.path())
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|entry| {
                    let name = entry.file_name().into_string().unwrap();
                    let text = fs::read_to_string(entry.path());
                    (name, text.unwrap_or_else(|_| "a directory".to_owned()))
                })
                .collect();
            found.sort();
            let expected: Vec<(String, String)> = files
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[track_caller]
    fn write(file: &mut RotatingFile, lines: &[&str]) {
        for line in lines {
            assert_eq!(file.write(line.as_bytes()).unwrap(), line.len());
        }
    }

    /// Makes the next write look for the file, as if a second had passed.
    fn look_again(file: &mut RotatingFile) {
        file.looked = Instant::now()
            .checked_sub(RotatingFile::LOOK)
            .unwrap_or(file.looked);
    }

    #[test]
    fn a_file_is_put_aside_before_it_is_too_large() {
        let scene = Scene::new();
        let mut file = scene.open(8, 2);
        write(&mut file, &["aaa\n", "bbb\n"]);
        scene.check(&[("log", "aaa\nbbb\n")]);
        write(&mut file, &["c\n"]);
        scene.check(&[("log", "c\n"), ("log.1", "aaa\nbbb\n")]);
        write(&mut file, &["ddddddd\n", "eeeeeee\n"]);
        scene.check(&[
            ("log", "eeeeeee\n"),
            ("log.1", "ddddddd\n"),
            ("log.2", "c\n"),
        ]);
    }

    #[test]
    fn a_line_is_never_split() {
        let scene = Scene::new();
        let mut file = scene.open(4, 3);
        write(&mut file, &["a long line\n", "b\n", "another long line\n"]);
        scene.check(&[
            ("log", "another long line\n"),
            ("log.1", "b\n"),
            ("log.2", "a long line\n"),
        ]);
    }

    #[test]
    fn one_backup_or_none_is_a_count_too() {
        let scene = Scene::new();
        let mut file = scene.open(2, 1);
        write(&mut file, &["a\n", "b\n", "c\n"]);
        scene.check(&[("log", "c\n"), ("log.1", "b\n")]);

        let scene = Scene::new();
        let mut file = scene.open(4, 0);
        write(&mut file, &["a\n", "b\n", "c\n"]);
        scene.check(&[("log", "c\n")]);
    }

    #[test]
    fn what_is_there_at_the_start_is_kept_and_counted() {
        let scene = Scene::new();
        fs::write(scene.path("log"), "old\n").unwrap();
        let mut file = scene.open(8, 5);
        write(&mut file, &["new\n"]);
        scene.check(&[("log", "old\nnew\n")]);
        drop(file);
        write(&mut scene.open(8, 5), &["x\n"]);
        scene.check(&[("log", "x\n"), ("log.1", "old\nnew\n")]);
    }

    #[test]
    fn without_a_size_a_file_grows() {
        let scene = Scene::new();
        let mut file = RotatingFile::open(scene.path("log"), None, 5).unwrap();
        write(&mut file, &["a\n"; 1_000]);
        scene.check(&[("log", &"a\n".repeat(1_000))]);
    }

    #[test]
    fn others_cannot_read_it() {
        let scene = Scene::new();
        let mut file = scene.open(2, 1);
        write(&mut file, &["a\n", "b\n"]);
        for name in ["log", "log.1"] {
            let mode = fs::metadata(scene.path(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o137, 0, "{name}: {mode:o}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_is_written_on() {
        let scene = Scene::new();
        fs::create_dir(scene.path("log.1")).unwrap();
        fs::write(scene.path("log.1/x"), "").unwrap();
        let mut file = scene.open(2, 1);
        write(&mut file, &["a\n", "b\n", "c\n"]);
        assert!(file.complained);
        scene.check(&[("log", "a\nb\nc\n"), ("log.1", "a directory")]);

        fs::remove_dir_all(scene.path("log.1")).unwrap();
        write(&mut file, &["d\n"]);
        assert!(!file.complained);
        scene.check(&[("log", "d\n"), ("log.1", "a\nb\nc\n")]);
    }

    #[test]
    fn attempts_in_vain_push_no_backup_out() {
        let scene = Scene::new();
        let mut file = scene.open(2, 3);
        write(&mut file, &["a\n", "b\n", "c\n"]);
        // The file cannot be made anew: its name is a link to where nothing can be.
        write(&mut file, &["d\n"]);
        fs::rename(scene.path("log"), scene.path("gone")).unwrap();
        std::os::unix::fs::symlink("/proc/nowhere/log", scene.path("log")).unwrap();
        write(&mut file, &["e\n", "f\n", "g\n"]);
        assert!(file.complained);
        fs::remove_file(scene.path("log")).unwrap();
        scene.check(&[
            ("gone", "d\ne\nf\ng\n"),
            ("log.1", "c\n"),
            ("log.2", "b\n"),
            ("log.3", "a\n"),
        ]);
    }

    #[test]
    fn a_directory_that_is_gone_stops_nothing() {
        let scene = Scene::new();
        fs::create_dir(scene.path("logs")).unwrap();
        let path = scene.path("logs/log");
        let mut file = RotatingFile::open(path.clone(), Some(2), 2).unwrap();
        write(&mut file, &["a\n"]);
        fs::remove_dir_all(scene.path("logs")).unwrap();
        write(&mut file, &["b\n", "c\n"]);
        assert!(file.complained);

        fs::create_dir(scene.path("logs")).unwrap();
        write(&mut file, &["d\n"]);
        assert!(!file.complained);
        assert_eq!(fs::read_to_string(path).unwrap(), "d\n");
    }

    #[test]
    fn a_full_disk_stops_nothing() {
        let mut file = RotatingFile::open("/dev/full".into(), Some(2), 2).unwrap();
        assert_eq!(file.max_size, None, "a device is not put aside");
        write(&mut file, &["a\n", "b\n"]);
        assert!(file.complained);
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let scene = Scene::new();
        let mut file = RotatingFile::open(scene.path("log"), None, 0).unwrap();
        write(&mut file, &["a\n"]);
        fs::rename(scene.path("log"), scene.path("moved")).unwrap();
        look_again(&mut file);
        write(&mut file, &["b\n"]);
        look_again(&mut file);
        write(&mut file, &["c\n"]);
        scene.check(&[("log", "b\nc\n"), ("moved", "a\n")]);
    }
}
