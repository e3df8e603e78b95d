//! Guessing: how fast a client may try names and keys that turn out to be wrong.
//!
//! A trigger URL is protected by its eight letters alone, so nobody may try letters as fast as a server
//! answers. But a trigger that is refused is a task that seems silent, which is worse than anything that a
//! guesser could do. So in doubt nobody is held up:
//!
//! - Only a *new* wrong guess counts. A forgotten job that asks for the same deleted watcher every second is
//!   answered 404 for ever, and costs those who share its address nothing.
//! - A client that has to wait is still served whatever it was right about before.
//! - What counts is what has turned out wrong, not what is under way: many jobs that start at the same second
//!   do not hinder each other. Guesses that were under way at once count afterwards, all of them.
//! - Who cannot be told from others, behind a proxy that does not say for whom it asks, is not limited.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use poem::Request;
use poem::http::{HeaderMap, HeaderValue};

use super::errors::Rejection;
use crate::app::config::Networks;
use crate::domain::Timestamp;
use crate::ports::Clock;

/// How fast a client may be wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// What a wrong guess costs.
    cost: Duration,
    /// How much a client may owe before it has to wait.
    credit: Duration,
}

impl Limit {
    /// A thousand guesses at once, then ten a second: it takes some 240 days until one of 1000 watchers is hit.
    pub(super) const FOR_PROGRAMS: Self = Self::new(1_000, Duration::from_millis(100));

    /// So many wrong guesses at once, and from then on one more in each `cost`.
    pub(super) const fn new(at_once: u32, cost: Duration) -> Self {
        Self {
            cost,
            credit: cost.saturating_mul(at_once),
        }
    }
}

/// How many clients are remembered at least; of more, those go that were not heard of for longest.
const CLIENTS: usize = 10_000;
/// How many guesses are remembered at least, right ones and wrong ones each.
const GUESSES: usize = 65_536;

/// The header in which proxies say for whom they ask.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The book of what clients have guessed.
pub(super) struct Guesses {
    clock: Arc<dyn Clock>,
    proxies: Networks,
    limit: Limit,
    /// Guesses are kept as numbers that nobody outside can foresee: it bounds their size.
    hasher: RandomState,
    // A std mutex: no await happens under it, and the work under it is short.
    book: Mutex<Book>,
    /// Whether it was said that a proxy is not known as one.
    told: AtomicBool,
}

struct Book {
    debts: Recent<Client, Debt>,
    right: Recent<u64, ()>,
    wrong: Recent<u64, ()>,
}

/// Who is counted as one: an address, or the network that one customer gets in IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client(IpAddr);

/// What a client owes, in time: it passes by itself.
struct Debt {
    owed: Duration,
    at: Timestamp,
}

/// Something that a client has named, before it is known whether there is such a thing.
#[derive(Clone, Copy)]
pub(super) struct Guess {
    client: Client,
    mark: u64,
}

impl Guesses {
    /// An empty book. Of requests that come from `proxies` the client is whom the proxy asks for.
    pub(super) fn new(clock: Arc<dyn Clock>, proxies: Networks, limit: Limit) -> Self {
        Self {
            clock,
            proxies,
            limit,
            hasher: RandomState::new(),
            book: Mutex::new(Book {
                debts: Recent::new(CLIENTS),
                right: Recent::new(GUESSES),
                wrong: Recent::new(GUESSES),
            }),
            told: AtomicBool::new(false),
        }
    }

    /// Lets the client of `request` guess `value` as a `kind` of thing, and returns what to report the
    /// outcome by; `None` if nobody wants to know.
    ///
    /// # Errors
    ///
    /// If it was wrong too often, and has not guessed this before.
    pub(super) fn admit(
        &self,
        request: &Request,
        kind: &str,
        value: &[u8],
    ) -> Result<Option<Guess>, Rejection> {
        let peer = request.remote_addr().as_socket_addr();
        let client = peer.and_then(|peer| self.client(peer.ip(), request.headers()));
        let Some(client) = client else {
            return Ok(None);
        };
        let mark = self.hasher.hash_one((client, kind, value));
        let now = self.clock.now();
        let mut book = self.book();
        let wait = book.owed_by(client, now).saturating_sub(self.limit.credit);
        let is_new = book.right.get(&mark).is_none() && book.wrong.get(&mark).is_none();
        if is_new && !wait.is_zero() {
            return Err(Rejection::too_many(wait));
        }
        Ok(Some(Guess { client, mark }))
    }

    /// The guess was right: it is free for this client from now on.
    pub(super) fn was_right(&self, guess: Guess) {
        self.book().right.put(guess.mark, ());
    }

    /// The guess was wrong.
    pub(super) fn was_wrong(&self, guess: Guess) {
        let now = self.clock.now();
        let mut book = self.book();
        if book.wrong.get(&guess.mark).is_some() {
            return;
        }
        book.wrong.put(guess.mark, ());
        let before = book.owed_by(guess.client, now);
        let owed = before + self.limit.cost;
        book.debts.put(guess.client, Debt { owed, at: now });
        drop(book);
        let credit = self.limit.credit;
        if before <= credit && owed > credit {
            tracing::warn!(client = %guess.client, "wrong names or keys come too fast: new ones are refused");
        }
    }

    /// The client of a request, if it can be told from others: the last one on the way here that is not one
    /// of our proxies.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Client> {
        // A socket for both families shows addresses of IPv4 as some of IPv6, all in one network.
        let peer = peer.to_canonical();
        let named = headers.get_all(FORWARDED_FOR).iter();
        if !self.proxies.contain(peer) {
            if named.count() > 0 && !self.told.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    %peer,
                    "a proxy that [wsgi] trusted_proxies does not name: its clients count as one"
                );
            }
            return Some(Client::at(peer));
        }
        // As bytes: what the client has put before what the proxy adds may be no text.
        let named: Vec<&[u8]> = named.map(HeaderValue::as_bytes).collect();
        let way = named
            .iter()
            .rev()
            .flat_map(|value| value.rsplit(|byte| *byte == b','));
        way.map_while(|hop| address(str::from_utf8(hop).ok()?.trim()))
            .find(|hop| !self.proxies.contain(*hop))
            .map(Client::at)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address as proxies write it, some with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let with_port = || {
        text.parse()
            .ok()
            .map(|address: std::net::SocketAddr| address.ip())
    };
    let address = bare.parse().ok().or_else(with_port)?;
    Some(address.to_canonical())
}

impl Client {
    fn at(address: IpAddr) -> Self {
        const NETWORK: u128 = !0 << 64;
        match address {
            IpAddr::V4(_) => Self(address),
            IpAddr::V6(address) => Self(IpAddr::V6((address.to_bits() & NETWORK).into())),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

impl Book {
    /// What is left of a debt. A clock that has stepped back forgives nothing and adds nothing.
    fn owed_by(&mut self, client: Client, now: Timestamp) -> Duration {
        let Some(debt) = self.debts.get(&client) else {
            return Duration::ZERO;
        };
        let owed = debt.owed.saturating_sub(now.since(debt.at));
        *debt = Debt { owed, at: now };
        owed
    }
}

/// A map that forgets what was not asked for lately: it keeps the newest `most` entries, and fewer than twice
/// as many.
struct Recent<K, V> {
    most: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    fn new(most: usize) -> Self {
        Self {
            most,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    fn get(&mut self, key: &K) -> Option<&mut V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.put(key, value);
        }
        self.young.get_mut(key)
    }

    fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.most && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stopped;

    #[async_trait::async_trait]
    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(0)
        }

        async fn sleep_until(&self, _: Timestamp) {}
    }

    #[test]
    fn the_newest_are_remembered_and_few_others() {
        let mut recent = Recent::new(100);
        recent.put(0, "touched");
        for key in 1..10_000 {
            recent.put(key, "new");
            assert_eq!(recent.get(&0), Some(&mut "touched"), "{key}");
            assert!(recent.young.len() + recent.old.len() <= 200, "{key}");
        }
        for key in 9_901..10_000 {
            assert_eq!(recent.get(&key), Some(&mut "new"), "{key}");
        }
        assert_eq!(recent.get(&1), None);
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        for (text, read) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:443", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
        ] {
            assert_eq!(address(text), read.parse().ok(), "{text}");
        }
        for text in ["", "unknown", "_hidden", "192.0.2", "192.0.2.1, 192.0.2.2"] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn clients_of_a_socket_for_both_families_are_told_apart() {
        let guesses = Guesses::new(Arc::new(Stopped), Networks::loopback(), Limit::FOR_PROGRAMS);
        let client = |peer: &str| guesses.client(peer.parse().expect("one"), &HeaderMap::new());
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("::ffff:192.0.2.1"), client("::ffff:192.0.2.2"));
        assert_eq!(client("::ffff:127.0.0.1"), None);
    }

    #[test]
    fn a_customer_counts_as_one() {
        let client = |text: &str| Client::at(text.parse().expect("an address")).to_string();
        assert_eq!(client("192.0.2.1"), "192.0.2.1");
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    }
}
