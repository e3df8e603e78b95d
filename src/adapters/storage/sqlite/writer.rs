//! Group commit: one thread writes, and many callers share each commit.
//!
//! Jobs wait in a queue. The thread takes what has gathered there while it was busy, runs it all in one
//! transaction, commits, and only then answers anybody. So nothing is acknowledged before it is on disk, and
//! the more callers there are, the less each of them pays for the disk.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::ports::StoreError;

/// How many jobs may wait. Callers beyond that wait to be let in.
const QUEUE: usize = 4_096;
/// How many jobs share a commit, at most.
const BATCH: usize = 512;
/// How long a caller waits to be let into the queue before it is turned away.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sending side: what callers have of the writer.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Message>);

enum Message {
    Job(Box<dyn Job>),
    Close,
}

/// A piece of work inside a shared transaction.
trait Job: Send {
    /// Does the work. An error here fails the whole transaction, so a job reads and checks before it
    /// writes, and reports what it finds wrong as its result.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    /// Answers the caller, once it is known what became of the transaction.
    fn finish(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>);
}

/// What is done along with the jobs.
pub(super) trait Housekeeping: Send + 'static {
    /// Is called at the end of each transaction, with the number of jobs in it, and may write along with them. It
    /// reports its own failures: they are not the jobs'.
    fn before_commit(&mut self, connection: &Connection, jobs: usize);
    /// Is called after each commit, with the number of jobs that shared it and of those that wait.
    fn after_commit(&mut self, connection: &Connection, jobs: usize, waiting: usize);
    /// Is called before the connection is closed.
    fn after_last_commit(self, connection: &Connection);
}

struct Task<F, T, A> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    after: A,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T, A> Job for Task<F, T, A>
where
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    T: Send,
    A: FnOnce(&T) + Send,
{
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        match work(connection) {
            Ok(value) => self.result = Some(Ok(value)),
            // Rows are understood before anything is written, so this spoils nobody else's work.
            Err(error) if is_corruption(&error) => self.result = Some(Err(corrupt(&error))),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>) {
        let result = match (committed, self.result) {
            (Ok(()), Some(result)) => result.inspect(self.after),
            (Ok(()), None) => Err(StoreError::unavailable(
                "the transaction ended before this job",
            )),
            (Err(error), _) => Err(StoreError::unavailable(error)),
        };
        // A caller that has gone away needs no answer.
        let _ = self.reply.send(result);
    }
}

pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    if is_corruption(&error) {
        corrupt(&error)
    } else {
        StoreError::unavailable(error)
    }
}

/// Whether a row was read that this program did not write, or that somebody has changed since.
pub(super) fn is_corruption(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    matches!(
        error,
        Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..)
            | Error::QueryReturnedNoRows
    )
}

fn corrupt(error: &rusqlite::Error) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

impl Writer {
    /// Starts the thread, which keeps `lock` until it has closed the connection.
    pub(super) fn start(
        connection: Connection,
        lock: Arc<File>,
        housekeeping: impl Housekeeping,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || {
                run(&connection, receiver, housekeeping);
                drop(connection);
                drop(lock);
            })?;
        Ok((Self(sender), thread))
    }

    /// Runs `work` in a transaction, and returns what it returned once that is on disk.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run_then(work, |_| ()).await
    }

    /// Runs `work` as [`Writer::run`] does, and `after` as soon as that is on disk, whether or not the caller still
    /// waits for it.
    pub(super) async fn run_then<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        after: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Task {
            work: Some(work),
            result: None,
            after,
            reply,
        });
        let place = match self.0.try_reserve() {
            Ok(place) => place,
            // In a box: there is nearly always room, so it is not made for a timer in all that waits for an answer.
            Err(_) => Box::pin(self.wait_for_room()).await?,
        };
        place.send(Message::Job(job));
        answer
            .await
            .unwrap_or_else(|_| Err(StoreError::unavailable("the writer has stopped")))
    }

    async fn wait_for_room(&self) -> Result<mpsc::Permit<'_, Message>, StoreError> {
        match tokio::time::timeout(PATIENCE, self.0.reserve()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(StoreError::unavailable("the store is closed")),
            Err(_) => Err(StoreError::unavailable("too many writes are waiting")),
        }
    }

    /// Lets the thread end once it has done what was queued before.
    pub(super) async fn close(&self) {
        let _ = self.0.send(Message::Close).await;
    }
}

fn run(
    connection: &Connection,
    mut queue: mpsc::Receiver<Message>,
    mut housekeeping: impl Housekeeping,
) {
    let mut closing = false;
    while !closing {
        let Some(first) = queue.blocking_recv() else {
            break;
        };
        let mut jobs = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Job(job) => jobs.push(job),
                Message::Close => {
                    // Jobs that came before the closing are still done, later ones are not let in.
                    queue.close();
                    closing = true;
                }
            }
            next = if jobs.len() < BATCH {
                queue.try_recv().ok()
            } else {
                None
            };
        }
        commit(connection, &mut jobs, &queue, &mut housekeeping);
        while closing && let Ok(message) = queue.try_recv() {
            if let Message::Job(job) = message {
                commit(connection, &mut vec![job], &queue, &mut housekeeping);
            }
        }
    }
    housekeeping.after_last_commit(connection);
}

fn commit(
    connection: &Connection,
    jobs: &mut Vec<Box<dyn Job>>,
    queue: &mpsc::Receiver<Message>,
    housekeeping: &mut impl Housekeeping,
) {
    if jobs.is_empty() {
        return;
    }
    let outcome = transaction(connection, jobs, housekeeping).map_err(|error| {
        if !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
        Arc::new(error)
    });
    // Whoever is answered may have more to say at once, which has not waited for this.
    let (count, waiting) = (jobs.len(), queue.len());
    for job in jobs.drain(..) {
        job.finish(outcome.clone());
    }
    if outcome.is_ok() {
        housekeeping.after_commit(connection, count, waiting);
    }
}

fn transaction(
    connection: &Connection,
    jobs: &mut [Box<dyn Job>],
    housekeeping: &mut impl Housekeeping,
) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for job in &mut *jobs {
        job.run(connection)?;
    }
    housekeeping.before_commit(connection, jobs.len());
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::mpsc::channel;

    use super::*;

    struct Nothing;

    impl Housekeeping for Nothing {
        fn before_commit(&mut self, _: &Connection, _: usize) {}
        fn after_commit(&mut self, _: &Connection, _: usize, _: usize) {}
        fn after_last_commit(self, _: &Connection) {}
    }

    async fn change(writer: Writer) -> Result<(), StoreError> {
        writer.run(|_| Ok(())).await
    }

    fn cause(error: &StoreError) -> String {
        error.source().map(ToString::to_string).unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_for_it_but_not_for_ever() {
        let connection = Connection::open_in_memory().expect("a database");
        let lock = Arc::new(tempfile::tempfile().expect("a file"));
        let (writer, thread) = Writer::start(connection, lock, Nothing).expect("a thread");
        let (release, held) = channel::<()>();
        let (begin, has_begun) = oneshot::channel();
        let slow = writer.clone();
        let slow = tokio::spawn(async move {
            let work = move |_: &Connection| {
                let _ = (begin.send(()), held.recv());
                Ok(())
            };
            slow.run(work).await
        });
        has_begun.await.expect("the thread is at work");
        let mut waiting: Vec<_> = (0..QUEUE)
            .map(|_| tokio::spawn(change(writer.clone())))
            .collect();
        while writer.0.capacity() > 0 {
            tokio::task::yield_now().await;
        }

        let refused = change(writer.clone()).await.expect_err("there is no room");
        assert_eq!(cause(&refused), "too many writes are waiting");

        // What follows takes as long as the thread does.
        tokio::time::resume();
        waiting.push(tokio::spawn(change(writer.clone())));
        tokio::task::yield_now().await;
        release.send(()).expect("the thread is still at work");
        waiting.push(slow);
        for change in waiting {
            change.await.expect("no panic").expect("a commit");
        }
        writer.close().await;
        thread.join().expect("no panic");
        let refused = change(writer).await.expect_err("the thread has ended");
        assert_eq!(cause(&refused), "the store is closed");
    }
}
