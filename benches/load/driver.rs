//! The tasks of the world: triggers over sockets, as many as are taken.
//!
//! It shares the machine with the server that it measures, so it does as little as it can: one thread, requests that
//! lie ready, and answers that are compared instead of understood. All servers are driven by this same code.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::database::Identifier;
use crate::figures::percentile;

/// How many connections there are, each with one request under way at a time.
pub(crate) const CONNECTIONS: usize = 64;

/// What is answered to a trigger of a watcher that is on time.
pub(crate) const BODY: &str =
    "{\n    \"status\": \"ok\",\n    \"recovered\": false,\n    \"unpaused\": false\n}\n";

/// How long an answer may take before the server counts as hung.
const PATIENCE: Duration = Duration::from_mins(1);

/// How fast requests follow each other.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// On each connection the next one as soon as the last one is answered.
    Full,
    /// So many a second over all, whether or not earlier ones are answered, as long as there is a connection free.
    /// Timers tick in milliseconds, so those of one millisecond go together.
    PerSecond(f64),
}

/// What came of driving a server for a while.
pub(crate) struct Phase {
    /// Triggers acknowledged a second.
    pub(crate) rate: f64,
    /// How long each took, sorted, in microseconds.
    pub(crate) latencies: Vec<u32>,
    /// The watcher of each trigger that was acknowledged, as its place among the targets.
    pub(crate) acknowledged: Vec<u32>,
    /// The same of those that were under way when the server went away.
    pub(crate) in_doubt: Vec<u32>,
}

impl Phase {
    /// One trigger of one watcher.
    pub(crate) fn of_one(target: u32) -> Self {
        Self {
            rate: 0.0,
            latencies: Vec::new(),
            acknowledged: vec![target],
            in_doubt: Vec::new(),
        }
    }

    /// What 99 of 100 triggers took at most, in milliseconds.
    pub(crate) fn p99_ms(&self) -> f64 {
        f64::from(percentile(&self.latencies, 990)) / 1_000.0
    }
}

/// All connections to `server`.
pub(crate) async fn connect(server: SocketAddr) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(open(server).await);
    }
    connections
}

/// Triggers random ones of `targets` for as long as `lasting`, or until the server goes away.
pub(crate) async fn drive(
    connections: Vec<TcpStream>,
    targets: &Arc<[Identifier]>,
    pace: Pace,
    lasting: Duration,
) -> Phase {
    let begin = Instant::now();
    let schedule = Arc::new(Schedule {
        begin,
        end: begin + lasting,
        pace,
        next: AtomicU64::new(0),
    });
    let mut clients = JoinSet::new();
    for stream in connections {
        let client = Client::new(stream, Arc::clone(targets));
        clients.spawn(client.run(Arc::clone(&schedule)));
    }
    let mut phase = Phase {
        rate: 0.0,
        latencies: Vec::new(),
        acknowledged: Vec::new(),
        in_doubt: Vec::new(),
    };
    while let Some(client) = clients.join_next().await {
        let client = client.expect("a client that got right answers only");
        for (target, micros) in client.done {
            phase.acknowledged.push(target);
            phase.latencies.push(micros);
        }
        phase.in_doubt.extend(client.in_doubt);
    }
    phase.rate = phase.acknowledged.len() as f64 / begin.elapsed().as_secs_f64();
    phase.latencies.sort_unstable();
    phase
}

/// The lines that the server's answer to a trigger consists of, apart from those that name the hour.
pub(crate) async fn answer(server: SocketAddr, target: Identifier) -> BTreeSet<String> {
    let mut client = Client::new(open(server).await, Arc::new([target]));
    client.trigger(0).await.expect("an answer");
    let text = client.answer();
    let lines = text.lines().map(str::to_ascii_lowercase);
    lines.filter(|line| !line.starts_with("date: ")).collect()
}

async fn open(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// When requests are sent.
struct Schedule {
    begin: Instant,
    end: Instant,
    pace: Pace,
    next: AtomicU64,
}

impl Schedule {
    /// Waits until the next request is to be sent. Returns whether there is one.
    async fn next(&self) -> bool {
        match self.pace {
            Pace::Full => Instant::now() < self.end,
            Pace::PerSecond(rate) => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let at = self.begin + Duration::from_secs_f64(number as f64 / rate);
                if at < self.end {
                    tokio::time::sleep_until(at.into()).await;
                }
                at < self.end
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    targets: Arc<[Identifier]>,
    random: SmallRng,
    request: [u8; 43],
    answer: [u8; 1_024],
    /// How much of the answer there is so far.
    read: usize,
}

/// What a client did.
#[derive(Default)]
struct Done {
    done: Vec<(u32, u32)>,
    in_doubt: Option<u32>,
}

impl Client {
    fn new(stream: TcpStream, targets: Arc<[Identifier]>) -> Self {
        Self {
            stream,
            targets,
            random: SmallRng::from_rng(&mut rand::rng()),
            request: *b"GET /........ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            answer: [0; 1_024],
            read: 0,
        }
    }

    async fn run(mut self, schedule: Arc<Schedule>) -> Done {
        let mut all = Done::default();
        let patience = (schedule.end + PATIENCE).into();
        let triggers = self.keep_triggering(&schedule, &mut all);
        if timeout_at(patience, triggers).await.is_err() {
            let request = String::from_utf8_lossy(&self.request);
            panic!("no answer to {request}but {:?}", self.answer());
        }
        all
    }

    async fn keep_triggering(&mut self, schedule: &Schedule, all: &mut Done) {
        while schedule.next().await {
            let target = self.random.random_range(0..self.targets.len());
            let number = u32::try_from(target).expect("no more targets than that");
            let begin = Instant::now();
            if self.trigger(target).await.is_err() {
                all.in_doubt = Some(number);
                break;
            }
            let micros = begin.elapsed().as_micros().try_into().unwrap_or(u32::MAX);
            all.done.push((number, micros));
        }
    }

    /// Sends a trigger and waits for the whole answer, which has to be the right one.
    async fn trigger(&mut self, target: usize) -> io::Result<()> {
        self.request[5..13].copy_from_slice(&self.targets[target]);
        self.read = 0;
        self.stream.write_all(&self.request).await?;
        // What else may be answered ends in the same way.
        while !self.answer[..self.read].ends_with(b"}\n") {
            match self.stream.read(&mut self.answer[self.read..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => self.read += more,
            }
        }
        let answer = &self.answer[..self.read];
        let is_right = answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(BODY.as_bytes());
        assert!(is_right, "wrong: {}", self.answer());
        Ok(())
    }

    /// What has been read of the latest answer.
    fn answer(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.answer[..self.read])
    }
}
