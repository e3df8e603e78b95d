//! Moving what was committed from the journal into the tables, beside the writer.
//!
//! That must not make the writer wait, and an alert with it: a thread of its own does the work, and sees it on the disk
//! before it begins with more. It moves much at a time, since most of the cost lies in writing to the disk what is
//! scattered over the tables, and the more changes are moved at once, the more of them have hit the same page. But the
//! disk gets it little by little, because a commit that comes meanwhile waits for what the disk has already got.
//!
//! The journal begins anew only when all of it has been moved, which never happens while somebody writes on. So when it
//! has become long, the thread makes several passes, each over what was written during the one before it, and when
//! almost nothing is left the writer moves the rest itself. What that has to make durable is almost nothing, too.
//!
//! A disk that has once failed to make something durable may say later that all is well, though it has forgotten that.
//! The journal still has it, so it is kept as it is from then on, and the next start moves all of it anew.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use memmap2::MmapOptions;
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, ffi};

use super::schema;
use crate::app::trouble::{Trouble, chain};

/// The writer's side. Dropping it ends the thread.
pub(super) struct Checkpoints {
    /// The length of the journal in pages, as SQLite tells it with each commit.
    length: Arc<AtomicUsize>,
    /// At what length the thread is to be called.
    call_at: usize,
    /// Wakes the thread; `None` once that is to end.
    bell: Option<SyncSender<()>>,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer and the thread know of each other.
struct State {
    trouble: Trouble,
    /// Set by the thread when the writer can move the rest.
    is_almost_done: AtomicBool,
    /// Set when the disk may lack something that was moved: nothing more is moved then, by nobody.
    is_given_up: AtomicBool,
}

/// Why the journal was not moved.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It can be tried again.
    #[error(transparent)]
    Move(rusqlite::Error),
    /// What was moved may not be on the disk, now or ever.
    #[error(
        "the disk failed, and so the journal is kept and grows until the program is started again"
    )]
    Flush(#[source] Box<dyn Error>),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().map(|error| error.extended_code);
        if code == Some(ffi::SQLITE_IOERR_FSYNC) {
            Self::Flush(error.into())
        } else {
            Self::Move(error)
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Flush(error.into())
    }
}

impl State {
    /// Remembers and logs what `result` says of the disk.
    fn note<T>(&self, result: Result<T, Failure>) -> Option<T> {
        match result {
            Ok(done) => {
                self.trouble.is_over();
                Some(done)
            }
            Err(failure @ Failure::Move(_)) => {
                self.trouble.is_on(&failure);
                None
            }
            Err(failure @ Failure::Flush(_)) => {
                // It is not one more of the failures that pass, of which only the first in a row is logged.
                if !self.is_given_up.swap(true, Ordering::Relaxed) {
                    tracing::error!(error = chain(&failure), "the journal is moved no more");
                }
                None
            }
        }
    }

    fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }
}

impl Checkpoints {
    /// The thread is called after so many pages, some 64 MB: even among a million watchers each page of timings has been
    /// hit twice by then. With smaller steps there was so much more to write that half of all alerts were later.
    const STEP: usize = 65_536;
    /// After so many more it is called again if the journal has not begun anew, for which no reader may be in the way.
    const AGAIN: usize = 16_384;
    /// With so many pages the thread has failed, does not keep up or is held up by readers, and the writer helps it.
    const TOO_LONG: usize = 256_000;

    /// Starts the thread for the database at `path`, which is open as `file` and written to by `connection`.
    pub(super) fn start(
        path: &Path,
        file: Arc<File>,
        connection: &mut Connection,
    ) -> io::Result<Self> {
        let length = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&length);
        // In place of SQLite's own, which makes the writer move the journal every now and then.
        let hook = move |_: &mut Wal, pages| {
            told.store(usize::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        };
        connection.wal_hook(Some(hook)).map_err(io::Error::other)?;
        let (bell, calls) = sync_channel(1);
        let state = Arc::new(State {
            trouble: Trouble::new("moving the journal into the database"),
            is_almost_done: AtomicBool::new(false),
            is_given_up: AtomicBool::new(false),
        });
        let (path, shared) = (path.to_owned(), Arc::clone(&state));
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".to_owned())
            .spawn(move || run(&path, &file, &calls, &shared))?;
        Ok(Self {
            length,
            call_at: Self::STEP,
            bell: Some(bell),
            state,
            thread: Some(thread),
        })
    }

    /// Calls the thread if enough has been written since the last time, and moves what it has left.
    pub(super) fn after_commit(&mut self, connection: &Connection) {
        if self.state.is_given_up() {
            return;
        }
        let length = self.length.load(Ordering::Relaxed);
        if length + Self::AGAIN < self.call_at {
            // It has begun anew.
            self.call_at = Self::STEP;
        }
        let is_almost_done = self.state.is_almost_done.swap(false, Ordering::Relaxed);
        if is_almost_done || length >= Self::TOO_LONG {
            self.state.note(pass(connection));
        }
        if length >= self.call_at {
            self.call_at = length + Self::AGAIN;
            if let Some(bell) = &self.bell {
                // If it cannot be heard, the thread has been called already.
                let _ = bell.try_send(());
            }
        }
    }

    /// Ends the thread, and moves what is left: the next start finds one tidy file. If that fails, it finds the journal
    /// instead, which is as good.
    pub(super) fn finish(mut self, connection: &Connection) {
        self.end_thread();
        let is_tidy = !self.state.is_given_up()
            && connection
                .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
                .is_ok();
        if !is_tidy {
            // Else SQLite would move it when the connection is closed, and delete it. It never refuses this.
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }

    fn end_thread(&mut self) {
        self.bell = None;
        if let Some(thread) = self.thread.take() {
            // One that has panicked has reported that itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.end_thread();
    }
}

/// The priority of what can wait.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;
/// So few pages the writer moves itself: commits hardly notice.
const FEW: i64 = 256;
/// The disk gets at least so many at a time: a commit that comes meanwhile does not wait long for them.
const PIECE: usize = 64;
/// What the disk takes as fast as that if it is in one place, in bytes.
const PLACE: usize = 1 << 18;
/// How long the disk is left to the commits after each piece.
const REST: Duration = Duration::from_micros(500);
/// How many passes are made of one call, at most. Each is shorter than the one before it, unless the disk is slow.
const PASSES: usize = 16;

fn run(path: &Path, file: &File, calls: &Receiver<()>, state: &State) {
    // On Linux this is for the thread alone. Whoever has just waited for the disk, such as the writer, goes first.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, LOWEST);
    let mut connection = None;
    while calls.recv().is_ok() && !state.is_given_up() {
        if state.note(passes(path, file, &mut connection)) == Some(true) {
            // What it was called for meanwhile is done, too. It must not be at work when the writer moves the rest.
            while calls.try_recv().is_ok() {}
            state.is_almost_done.store(true, Ordering::Relaxed);
        }
    }
}

/// Moves what there is, and what comes meanwhile. Returns whether the writer can move the rest, which is little unless the
/// disk is slow. It cannot while a reader needs the tables as they are.
fn passes(path: &Path, file: &File, connection: &mut Option<Connection>) -> Result<bool, Failure> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(schema::open_checkpointer(path)?),
    };
    let mut before = 0;
    for _ in 0..PASSES {
        let Some(Moved { pages, left }) = pass(connection)? else {
            return Ok(false);
        };
        let has_begun_anew = pages < before;
        let moved = if has_begun_anew {
            pages
        } else {
            pages - before
        };
        flush(file, moved, at_a_time(pages))?;
        if moved < FEW {
            return Ok(left < FEW);
        }
        before = pages;
    }
    Ok(true)
}

/// How many pages the disk gets at a time when the journal has so many. With small pieces it takes longer in all, so they
/// are larger when the journal has become longer than it should: four times with two steps, nine times with three.
fn at_a_time(pages: i64) -> usize {
    let steps = usize::try_from(pages).unwrap_or(0) / Checkpoints::STEP;
    PIECE * steps.clamp(1, 8).pow(2)
}

/// Makes durable what has been written to `file`, some `pages`. If these are not few the disk gets them piece by piece,
/// about `at_a_time`, which leaves little for the flush of the whole file after that. (If nobody has committed during the
/// pass, SQLite has made all of it durable already.)
fn flush(file: &File, pages: i64, at_a_time: usize) -> io::Result<()> {
    // Nobody looks into the mapping. It is how the system is told which part of the file is meant. Not every file system
    // can do that; then the disk gets everything at once.
    if pages >= FEW
        && let Ok(map) = MmapOptions::new().map_raw_read_only(file)
    {
        let pieces = usize::try_from(pages).unwrap_or(0) / at_a_time + 1;
        let piece = map.len().div_ceil(pieces).max(PLACE);
        for begin in (0..map.len()).step_by(piece) {
            // An error that is reported here is not reported again.
            map.flush_range(begin, piece.min(map.len() - begin))?;
            thread::sleep(REST);
        }
    }
    file.sync_data()
}

/// How far the journal has been moved since it began anew.
struct Moved {
    pages: i64,
    /// The pages that were committed before the pass began, and could not be moved.
    left: i64,
}

/// Moves what was committed before it began, without waiting for anybody. Returns `None` if another connection does the
/// same.
fn pass(connection: &Connection) -> Result<Option<Moved>, Failure> {
    let moved = connection
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?
        .query_row([], |row| {
            let (length, pages): (i64, i64) = (row.get(1)?, row.get(2)?);
            let left = length - pages;
            Ok((pages >= 0).then_some(Moved { pages, left }))
        })?;
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_a_disk_has_failed_to_keep_is_moved_anew_by_the_next_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("nights-watch.db");
        let journal = path.with_extension("db-wal");
        let length = || fs::metadata(&journal).map_or(0, |journal| journal.len());
        let lock = Arc::new(schema::lock(&path).expect("a file"));
        let mut writer = schema::open_writer(&path).expect("a database");
        // Nothing can be made durable of what is written to this.
        let broken = File::open("/dev/null").expect("a file");
        let mut checkpoints =
            Checkpoints::start(&path, Arc::new(broken), &mut writer).expect("a thread");
        let write = |writer: &Connection, bytes: usize| {
            let sql = "INSERT INTO test VALUES (zeroblob(?1))";
            assert_eq!(writer.execute(sql, [bytes]), Ok(1));
        };
        assert_eq!(
            writer.execute_batch("CREATE TABLE test (bytes BLOB)"),
            Ok(())
        );
        write(&writer, Checkpoints::STEP << 10);
        // If somebody were not in the way of the last change, SQLite would make all of it durable itself.
        let reader = schema::open_reader(&path).expect("a database");
        let snapshot = reader.unchecked_transaction().expect("a snapshot");
        let exists = snapshot
            .prepare("SELECT 1 FROM test")
            .expect("a statement")
            .exists([]);
        assert_eq!(exists, Ok(true));
        write(&writer, 1);
        checkpoints.after_commit(&writer);
        let begin = Instant::now();
        while !checkpoints.state.is_given_up() {
            assert!(
                begin.elapsed() < Duration::from_mins(1),
                "nothing has failed"
            );
            thread::sleep(Duration::from_millis(1));
        }
        snapshot.finish().expect("it ends");
        drop(reader);

        // Whoever moved the rest now would let the journal begin anew, over what the disk lacks.
        let state = Arc::clone(&checkpoints.state);
        state.is_almost_done.store(true, Ordering::Relaxed);
        write(&writer, 1);
        checkpoints.after_commit(&writer);
        let before = length();
        write(&writer, 1);
        assert!(length() > before, "no longer than {before} bytes");
        let before = length();
        checkpoints.finish(&writer);
        writer.close().expect("it is closed");
        assert_eq!(length(), before);

        let mut writer = schema::open_writer(&path).expect("a database");
        let checkpoints =
            Checkpoints::start(&path, Arc::clone(&lock), &mut writer).expect("a thread");
        let count = writer.query_row("SELECT count(*) FROM test", [], |row| row.get(0));
        assert_eq!(count, Ok(4));
        checkpoints.finish(&writer);
        writer.close().expect("it is closed");
        assert!(!journal.exists());
    }
}
