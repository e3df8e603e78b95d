//! Connections to the mail server that wait for their next mail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

/// A connection that the server has greeted and, if need be, let us log in on.
pub(super) struct Connection {
    pub(super) wire: AsyncSmtpConnection,
    mails: u32,
}

impl Connection {
    pub(super) fn new(wire: AsyncSmtpConnection) -> Self {
        Self { wire, mails: 0 }
    }
}

/// The connections on which a mail was handed over and nothing has happened since.
///
/// Whoever speaks on a connection owns it, and only a dialogue that came to its good end gives it back. So one on
/// which something went wrong, or whose dialogue was dropped half-way, is gone, and with it every answer
/// that somebody else could take for his own.
pub(super) struct Idle {
    waiting: Mutex<Waiting>,
    /// How many connections may be saying good-bye.
    farewells: Arc<Semaphore>,
}

struct Waiting {
    /// Each with when it began to wait, the longest first.
    connections: VecDeque<(Instant, Connection)>,
    /// Whether somebody sees to it that they do not wait for too long.
    is_tended: bool,
}

impl Idle {
    /// How many connections wait: each takes a descriptor here, of which there may be few,
    /// and a place at the server.
    const MOST: usize = 8;
    /// How long one waits. Servers have patience for minutes, but their places are few.
    const LONGEST: Duration = Duration::from_secs(15);
    /// How many mails one connection serves: servers set limits to it.
    const MAILS: u32 = 100;
    /// How many may be saying good-bye; others are closed without.
    const FAREWELLS: usize = 32;
    /// How long the server may take to say good-bye.
    const FAREWELL: Duration = Duration::from_secs(5);

    pub(super) fn new() -> Arc<Self> {
        let waiting = Waiting {
            connections: VecDeque::new(),
            is_tended: false,
        };
        Arc::new(Self {
            waiting: Mutex::new(waiting),
            farewells: Arc::new(Semaphore::new(Self::FAREWELLS)),
        })
    }

    /// The connection that has waited for the shortest, so that those that are not needed grow old.
    ///
    /// One on which the server has said something since, or which it has closed, is none: that would be taken
    /// for the answer to what is asked next.
    pub(super) fn take(&self) -> Option<Connection> {
        loop {
            let (_, mut connection) = self.lock().connections.pop_back()?;
            if connection.wire.read_response().now_or_never().is_none() {
                return Some(connection);
            }
        }
    }

    /// Takes back a connection on which the server has just taken a mail, and owes no answer.
    pub(super) fn keep(self: &Arc<Self>, mut connection: Connection) {
        connection.mails += 1;
        let mut waiting = self.lock();
        if connection.mails >= Self::MAILS || waiting.connections.len() >= Self::MOST {
            drop(waiting);
            return self.part_with(connection);
        }
        waiting.connections.push_back((Instant::now(), connection));
        if !std::mem::replace(&mut waiting.is_tended, true) {
            tokio::spawn(tend(Arc::downgrade(self)));
        }
    }

    /// Says good-bye. How the server answers changes nothing, and nobody waits for it.
    pub(super) fn part_with(&self, mut connection: Connection) {
        if let Ok(place) = Arc::clone(&self.farewells).try_acquire_owned() {
            tokio::spawn(async move {
                let _ = timeout(Self::FAREWELL, connection.wire.quit()).await;
                drop(place);
            });
        }
    }

    /// Parts with those that have waited for too long. Returns when the next one will have, if any are left.
    fn part_with_old(&self) -> Option<Instant> {
        loop {
            let mut waiting = self.lock();
            let next = waiting.connections.front();
            let next = next.map(|(since, _)| *since + Self::LONGEST);
            let is_due = next.is_some_and(|next| next <= Instant::now());
            if !is_due {
                waiting.is_tended = next.is_some();
                return next;
            }
            let old = waiting.connections.pop_front();
            drop(waiting);
            if let Some((_, connection)) = old {
                self.part_with(connection);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parts with connections that wait for too long, until none waits. It does not keep them open by itself: they
/// are closed when their owner is gone.
async fn tend(idle: Weak<Idle>) {
    let mut next = Instant::now() + Idle::LONGEST;
    loop {
        sleep_until(next).await;
        let Some(idle) = idle.upgrade() else { return };
        let Some(at) = idle.part_with_old() else {
            return;
        };
        next = at;
    }
}
