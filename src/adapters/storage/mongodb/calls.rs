//! Calls of the driver: how long they may take, which are made again, and what their errors mean.

use std::time::Duration;

use mongodb::error::{ErrorKind, WriteFailure};
use rand::RngExt;
use tokio::time::{Instant, sleep, timeout_at};

use crate::ports::StoreError;

/// How long one call of the driver may take. It has no limit of its own once it has sent a command.
pub(super) const CALL: Duration = Duration::from_secs(3);
/// How long one call of the port may take, with all attempts.
pub(super) const TOTAL: Duration = Duration::from_secs(6);

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Codes of the connection, of a server that is no primary now, and of time-outs.
const PASSING: [i32; 18] = [
    6, 7, 50, 64, 79, 89, 91, 134, 189, 202, 262, 9_001, 10_058, 10_107, 11_600, 11_602, 13_435,
    13_436,
];

/// Why a call of the driver failed.
#[derive(Debug)]
pub(super) enum Failure {
    Driver(mongodb::error::Error),
    /// It took too long, and may have taken effect or still take it.
    Silence,
}

impl From<mongodb::error::Error> for Failure {
    fn from(error: mongodb::error::Error) -> Self {
        Self::Driver(error)
    }
}

impl Failure {
    pub(super) fn is_duplicate_key(&self) -> bool {
        self.has_code(&[11_000, 11_001])
    }

    /// A document would have become larger than 16 MiB.
    pub(super) fn is_too_large(&self) -> bool {
        self.has_code(&[10_334, 17_419, 17_420])
    }

    pub(super) fn has_code(&self, codes: &[i32]) -> bool {
        self.code().is_some_and(|code| codes.contains(&code))
    }

    /// No server is there that could be asked.
    pub(super) fn finds_no_server(&self) -> bool {
        matches!(self.kind(), Some(ErrorKind::ServerSelection { .. }))
    }

    fn code(&self) -> Option<i32> {
        match self.kind()? {
            ErrorKind::Command(error) => Some(error.code),
            ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
            ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
            _ => None,
        }
    }

    fn kind(&self) -> Option<&ErrorKind> {
        match self {
            Self::Driver(error) => Some(&error.kind),
            Self::Silence => None,
        }
    }

    /// Whether a change may have been made although it failed with this.
    fn is_ambiguous(&self) -> bool {
        match self.kind() {
            Some(
                ErrorKind::ServerSelection { .. }
                | ErrorKind::Authentication { .. }
                | ErrorKind::InvalidArgument { .. }
                | ErrorKind::Shutdown,
            ) => false,
            // The server has refused it, unless it refuses whatever is under way.
            Some(ErrorKind::Command(_) | ErrorKind::Write(WriteFailure::WriteError(_))) => {
                self.has_code(&PASSING)
            }
            _ => true,
        }
    }

    /// Whether another attempt may fare better: the connection was lost, or the server is no primary now.
    fn may_pass(&self) -> bool {
        match self.kind() {
            None
            | Some(
                ErrorKind::Io(_)
                | ErrorKind::ConnectionPoolCleared { .. }
                // An election takes longer than one selection waits.
                | ErrorKind::ServerSelection { .. }
                | ErrorKind::Write(WriteFailure::WriteConcernError(_)),
            ) => true,
            Some(_) => self.has_code(&PASSING),
        }
    }
}

/// What the port's callers see of a failure: what happened, without the driver's inner details.
impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Driver(error) => Self::unavailable(*error.kind),
            Failure::Silence => Self::unavailable("the server does not answer"),
        }
    }
}

/// How much longer one call of the port may take.
pub(super) struct Patience {
    until: Instant,
    pause: Duration,
    /// A change was sent, and whether it was made is not known.
    sent: bool,
    /// The last failure that said why.
    last: Option<Failure>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self::of(TOTAL)
    }

    pub(super) fn of(total: Duration) -> Self {
        Self::until(Instant::now() + total)
    }

    fn until(until: Instant) -> Self {
        Self {
            until,
            pause: FIRST_PAUSE,
            sent: false,
            last: None,
        }
    }

    /// Patience for a part of the same call of the port: it ends when this does.
    pub(super) fn for_a_part(&self) -> Self {
        Self::until(self.until)
    }

    /// Makes one call of the driver. It goes on if this is dropped: a connection whose answer nobody waits for
    /// would have to be closed.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, Failure> {
        let until = self.until.min(Instant::now() + CALL);
        match tokio::spawn(timeout_at(until, call)).await {
            Ok(Ok(answer)) => answer.map_err(Failure::from),
            Ok(Err(_)) | Err(_) => Err(Failure::Silence),
        }
    }

    /// Makes a call that can be made again at will, until it succeeds or cannot.
    pub(super) async fn insist<T, F>(
        &mut self,
        mut call: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = mongodb::error::Result<T>> + Send + 'static,
    {
        loop {
            match self.call(call()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.another(failure).await?,
            }
        }
    }

    /// After a change failed. Returns whether it may have been made, when it is time to look.
    pub(super) async fn after_sending(&mut self, failure: Failure) -> Result<bool, StoreError> {
        let is_ambiguous = failure.is_ambiguous();
        self.sent |= is_ambiguous;
        self.another(failure).await?;
        Ok(is_ambiguous)
    }

    /// After a failure: returns when it is time for another attempt, or fails if there is to be none.
    pub(super) async fn another(&mut self, failure: Failure) -> Result<(), StoreError> {
        if failure.may_pass() && self.pause().await {
            if let Failure::Driver(_) = failure {
                self.last = Some(failure);
            }
            return Ok(());
        }
        // Silence may just be the end of our patience.
        let failure = match failure {
            Failure::Silence => self.last.take().unwrap_or(Failure::Silence),
            failure @ Failure::Driver(_) => failure,
        };
        let error = StoreError::from(failure);
        Err(match error {
            StoreError::Unavailable(cause) if self.sent => StoreError::OutcomeUnknown(cause),
            error => error,
        })
    }

    /// After somebody else had changed a document first.
    pub(super) async fn after_losing(&mut self) -> Result<(), StoreError> {
        if self.pause().await {
            return Ok(());
        }
        let cause = "others change the same watcher all the time";
        Err(if self.sent {
            StoreError::outcome_unknown(cause)
        } else {
            StoreError::unavailable(cause)
        })
    }

    /// Waits a little longer each time, and by chance, so that those who met do not meet again.
    async fn pause(&mut self) -> bool {
        let pause = self.pause.mul_f64(rand::rng().random_range(0.1..1.0));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let in_time = Instant::now() + pause < self.until;
        if in_time {
            sleep(pause).await;
        }
        in_time
    }

    /// Waits for `future`, and fails if that takes too long.
    pub(super) async fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, StoreError> {
        timeout_at(self.until, future)
            .await
            .map_err(|_| Failure::Silence.into())
    }
}
