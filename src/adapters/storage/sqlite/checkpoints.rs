//! Moving what was committed from the journal into the tables, beside the writer.
//!
//! Two things must not make the writer wait, and an alert with it. One is the work itself: a thread of its own does it.
//! The other is the disk: a write that has to be durable waits behind all that was handed to the disk before it, so
//! the thread moves little at a time, and sees it on the disk before it moves more.
//!
//! The journal begins anew only when all of it has been moved, which never happens while somebody writes on. So when it
//! has become long, the thread makes several passes, each over what was written during the one before it, and when
//! almost nothing is left the writer moves the rest itself. What that has to make durable is almost nothing, too.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

use super::schema;
use crate::app::trouble::Trouble;

/// The writer's side. Dropping it ends the thread.
pub(super) struct Checkpoints {
    /// Changes since the thread was called last.
    pending: usize,
    crowd: Crowd,
    /// Wakes the thread; `None` once that is to end.
    bell: Option<SyncSender<()>>,
    /// Set by the thread when the writer can move the rest.
    is_almost_done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// The thread is called after so many changes. Each may have a page of its own somewhere, and a commit that comes
    /// meanwhile waits until the disk has taken them all.
    const EVERY: usize = 64;
    /// The same in a crowd: each call costs something, and what is in a hurry waits behind the crowd anyway. Many of so
    /// many changes have hit the same pages, or neighbouring ones, which are written once: even among a million watchers
    /// there are two changes to each page of timings. The journal is some 70 MB long by then.
    const EVERY_IN_CROWD: usize = 65_536;

    /// Starts the thread for the database at `path`, which is open as `file`.
    pub(super) fn start(path: &Path, file: Arc<File>) -> io::Result<Self> {
        let (bell, calls) = sync_channel(1);
        let is_almost_done = Arc::new(AtomicBool::new(false));
        let (path, almost_done) = (path.to_owned(), Arc::clone(&is_almost_done));
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".to_owned())
            .spawn(move || run(&path, &file, &calls, &almost_done))?;
        Ok(Self {
            pending: 0,
            crowd: Crowd::default(),
            bell: Some(bell),
            is_almost_done,
            thread: Some(thread),
        })
    }

    /// Calls the thread if enough has changed since the last time, and moves what it has left.
    pub(super) fn after_commit(&mut self, connection: &Connection, changes: usize, waiting: usize) {
        self.pending += changes;
        let every = if self.crowd.is_there(changes + waiting) {
            Self::EVERY_IN_CROWD
        } else {
            Self::EVERY
        };
        if self.is_almost_done.swap(false, Ordering::Relaxed) {
            // If that fails, the next round of the thread says so.
            let _ = pass(connection);
        } else if self.pending >= every {
            self.pending = 0;
            if let Some(bell) = &self.bell {
                // If it cannot be heard, the thread has been called already.
                let _ = bell.try_send(());
            }
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.bell = None;
        if let Some(thread) = self.thread.take() {
            // One that has panicked has reported that itself.
            let _ = thread.join();
        }
    }
}

/// Whether many change something at once.
#[derive(Default)]
struct Crowd {
    /// How many there were of late, on average and `SLOWNESS` times as much.
    of_late: usize,
}

impl Crowd {
    /// More than so many at once, on average, are a crowd.
    const MANY: usize = 24;
    /// A crowd does not come to each commit in the same number, after many come few; and where there is no crowd, many
    /// may wait for once because the disk was slow. So each commit counts for one part in so many: a crowd of 64 is some
    /// 40 on average, half of that load some 17, and over a few commits only there would be no telling the two apart.
    const SLOWNESS: usize = 128;

    /// Notes how many have shared a commit or waited behind it.
    fn is_there(&mut self, at_once: usize) -> bool {
        self.of_late = self.of_late - self.of_late / Self::SLOWNESS + at_once;
        self.of_late > Self::MANY * Self::SLOWNESS
    }
}

/// The priority of what can wait.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;
/// So many pages make a long journal.
const LONG: i64 = 16_384;
/// So few of them the writer moves itself.
const FEW: i64 = 256;
/// How many passes are made of one call, at most. Each is shorter than the one before it, unless the disk is slow.
const PASSES: usize = 8;

fn run(path: &Path, file: &File, calls: &Receiver<()>, is_almost_done: &AtomicBool) {
    // On Linux this is for the thread alone. Whoever has just waited for the disk, such as the writer, goes first.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, LOWEST);
    let trouble = Trouble::new("moving the journal into the database");
    let mut connection = None;
    while calls.recv().is_ok() {
        match passes(path, file, &mut connection) {
            Ok(is_done) => {
                trouble.is_over();
                is_almost_done.store(is_done, Ordering::Relaxed);
            }
            Err(error) => trouble.is_on(&*error),
        }
    }
}

/// Moves what there is, and returns whether the journal is long, and the writer has to move the rest, which is little
/// unless the disk is slow.
fn passes(
    path: &Path,
    file: &File,
    connection: &mut Option<Connection>,
) -> Result<bool, Box<dyn Error>> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(schema::open_checkpointer(path)?),
    };
    let mut moved = 0;
    for _ in 0..PASSES {
        let before = moved;
        moved = pass(connection)?;
        file.sync_data()?;
        if moved < LONG {
            // Also if it has begun anew meanwhile.
            return Ok(false);
        }
        if moved - before < FEW {
            break;
        }
    }
    Ok(true)
}

/// Moves what was committed before it began, without waiting for anybody. Returns how many pages of the journal
/// have been moved since that began anew.
fn pass(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?
        .query_row([], |row| row.get(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crowd after so many commits with each of these numbers in turn.
    fn crowd_after(rounds: usize, numbers: &[usize]) -> Crowd {
        let mut crowd = Crowd::default();
        for at_once in numbers.repeat(rounds) {
            crowd.is_there(at_once);
        }
        crowd
    }

    #[test]
    fn a_crowd_is_one_also_while_few_of_it_are_there() {
        let uneven = [60, 4, 50, 3, 60, 20, 2, 50];
        let mut crowd = crowd_after(100, &uneven);
        for at_once in uneven {
            assert!(crowd.is_there(at_once), "{at_once}");
        }
    }

    #[test]
    fn many_who_have_waited_for_once_are_no_crowd() {
        let mut crowd = crowd_after(1_000, &[12]);
        for at_once in [64, 64, 64, 12] {
            assert!(!crowd.is_there(at_once), "{at_once}");
        }
    }

    #[test]
    fn a_crowd_is_over_some_commits_after_it_has_gone() {
        let mut crowd = crowd_after(1_000, &[64]);
        let still = (0..1_000).take_while(|_| crowd.is_there(1)).count();
        assert!((1..=200).contains(&still), "{still}");
    }
}
