//! One run: servers that come and go, requests, a clock, and a seed that decides what happens next.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nights_watch::adapters::storage::memory::MemoryStore;
use nights_watch::adapters::storage::sqlite::SqliteStore;
use nights_watch::app::outage::Vigil;
use nights_watch::app::use_cases::Bells;
use nights_watch::app::{DeliveryLoop, Metrics, NightsWatch, Scheduler};
use nights_watch::domain::{
    Action, Comment, Description, Draft, Filter, HistoryPolicy, Name, Periodicity, Recipient, Slug,
    Timestamp, Update, WatcherId,
};
use nights_watch::ports::{Clock, Detail, Key, Record, WatcherStore};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, yield_now};
use tokio_util::sync::CancellationToken;

use super::rules::{HISTORY, at, error_word, marks, show};
use super::world::{BEGIN, Caller, Dice, Gate, Port, Verdict, World};

/// How many things happen before all faults stop.
const STEPS: u64 = 250;
/// The loops wait this long after a failure, and between two looks at a store that others share.
const PATIENCE: Duration = Duration::from_secs(1);
/// An attempt ends before its claim does.
const LEASE: Duration = Duration::from_mins(5);

/// What the servers run on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Setting {
    Memory,
    /// Two servers that share a store in memory.
    TwoServers,
    Sqlite,
}

/// What became of a run.
pub(super) struct Outcome {
    pub(super) broken: Option<String>,
    pub(super) trace: Vec<String>,
    /// How many things had happened when it ended.
    pub(super) steps: u64,
}

impl Outcome {
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.trace.hash(&mut hasher);
        hasher.finish()
    }
}

/// Runs `seed`; after `most` steps the faults stop in any case.
pub(super) fn run(setting: Setting, seed: u64, most: u64) -> Outcome {
    let mut run = Run::begin(setting, seed);
    let mut steps = 0;
    while steps < most.min(run.length) && !run.is_broken() {
        steps += 1;
        run.step();
        run.turn();
    }
    if !run.is_broken() {
        run.drain();
    }
    if !run.is_broken() {
        run.compare();
    }
    let mut state = run.world.state();
    Outcome {
        broken: state.broken.take(),
        trace: std::mem::take(&mut state.trace),
        steps,
    }
}

struct Run {
    world: Arc<World>,
    dice: Dice,
    disk: Disk,
    /// `None` while it is down.
    servers: Vec<Option<Server>>,
    length: u64,
    /// How many of a hundred calls of the store fail.
    faults: u64,
    /// How many of a hundred calls of the notifier go wrong in some way.
    refusals: u64,
    requests: u32,
    /// Identifiers that some watcher had.
    known: Vec<WatcherId>,
    /// Until then something may be late because of a fault.
    excused_until: Timestamp,
    /// Whether something has failed since all was quiet.
    faulty: bool,
}

/// What survives the servers.
enum Disk {
    Memory(Arc<MemoryStore>),
    File(TempDir),
}

/// A process: when it is dropped, everything in it is, wherever it stands.
struct Server {
    runtime: Runtime,
    world: Arc<World>,
    name: char,
    store: Arc<dyn WatcherStore>,
    bells: Arc<Bells>,
    metrics: Arc<Metrics>,
    vigil: Arc<Vigil>,
    stop: CancellationToken,
    loops: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
enum Request {
    Create(Draft),
    Change(Key, Action),
    Delete(Key),
    Get(Key),
}

impl Server {
    fn start(world: Arc<World>, name: char, store: Arc<dyn WatcherStore>, shared: bool) -> Self {
        let port = Port {
            world: Arc::clone(&world),
            server: name,
            caller: Caller::Scheduler,
            store: Arc::clone(&store),
        };
        let vigil = Arc::new(Vigil::new(Arc::new(port), world.grace));
        let mut server = Self {
            vigil,
            runtime: Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime"),
            world,
            name,
            store,
            bells: Arc::default(),
            metrics: Arc::default(),
            stop: CancellationToken::new(),
            loops: Vec::new(),
        };
        let poll = shared.then_some(PATIENCE);
        let scheduler = Scheduler {
            vigil: Arc::clone(&server.vigil),
            watch: Arc::new(server.watch(Caller::Scheduler)),
            store: server.port(Caller::Scheduler),
            clock: server.world.clock.clone(),
            bells: Arc::clone(&server.bells),
            pulse: Arc::default(),
            poll,
        };
        let delivery = DeliveryLoop {
            store: server.port(Caller::Delivery),
            notifier: server.port(Caller::Delivery),
            clock: server.world.clock.clone(),
            bells: Arc::clone(&server.bells),
            metrics: Arc::clone(&server.metrics),
            pulse: Arc::default(),
            poll,
        };
        let scheduler = scheduler.run(server.stop.clone());
        server.loops.push(server.runtime.spawn(scheduler));
        let delivery = delivery.run(server.stop.clone());
        server.loops.push(server.runtime.spawn(delivery));
        server
    }

    /// The ports as `caller` has them.
    fn port(&self, caller: Caller) -> Arc<Port> {
        Arc::new(Port {
            world: Arc::clone(&self.world),
            server: self.name,
            caller,
            store: Arc::clone(&self.store),
        })
    }

    /// The use cases as `caller` has them.
    fn watch(&self, caller: Caller) -> NightsWatch {
        let (bells, metrics) = (Arc::clone(&self.bells), Arc::clone(&self.metrics));
        let (clock, vigil) = (self.world.clock.clone(), Arc::clone(&self.vigil));
        NightsWatch::new(self.port(caller), clock, bells, metrics, vigil)
    }

    /// Lets everything in it run until it waits for a gate, the clock or a bell.
    fn turn(&self) {
        self.runtime.block_on(async {
            loop {
                // Each lets every task run that can, and those that it wakes.
                for _ in 0..3 {
                    yield_now().await;
                }
                if self.world.state().inside == 0 {
                    break;
                }
                self.world.back.notified().await;
            }
        });
    }

    fn ask(&self, number: u32, request: Request) {
        let watch = self.watch(Caller::Request(number));
        let world = Arc::clone(&self.world);
        self.runtime.spawn(async move {
            let shown = |record: Record| show(&record.watcher, &record.history);
            let answer = match request {
                Request::Create(draft) => watch.create(draft).await.map(shown),
                Request::Change(key, action) => match action {
                    Action::Trigger(comment) => {
                        let done = watch.trigger(&key, comment).await;
                        done.map(|done| marks(done.recovered, done.unpaused))
                    }
                    Action::Pause(comment) => watch.pause(&key, comment).await.map(shown),
                    Action::Unpause(comment) => watch.unpause(&key, comment).await.map(shown),
                    Action::Update(update) => watch.update(&key, update).await.map(shown),
                    Action::PassDeadline | Action::PassOutage(_) => {
                        unreachable!("nobody asks for that")
                    }
                },
                Request::Delete(key) => watch.delete(&key).await.map(|()| "deleted".to_owned()),
                Request::Get(key) => watch.get(&key).await.map(shown),
            };
            let answer = answer.unwrap_or_else(|error| error_word(&error).to_owned());
            world.note(format_args!("request {number} is answered: {answer}"));
            let mut state = world.state();
            let seen = state.model.answered(number, &answer);
            state.see(seen);
        });
    }
}

impl Run {
    fn begin(setting: Setting, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let disk = match setting {
            Setting::Sqlite => Disk::File(tempfile::tempdir().expect("a folder")),
            Setting::Memory | Setting::TwoServers => {
                Disk::Memory(Arc::new(MemoryStore::new(policy())))
            }
        };
        let length = STEPS / if setting == Setting::Sqlite { 2 } else { 1 };
        let mut run = Self {
            world: World::new(seed),
            disk,
            servers: Vec::new(),
            length: 20 + dice.below(length),
            faults: dice.pick(&[0, 5, 15, 30]),
            refusals: dice.pick(&[0, 10, 30]),
            dice,
            requests: 0,
            known: Vec::new(),
            excused_until: BEGIN,
            faulty: false,
        };
        let servers = if setting == Setting::TwoServers { 2 } else { 1 };
        run.servers.resize_with(servers, || None);
        run.start_all();
        run
    }

    fn is_broken(&self) -> bool {
        self.world.state().broken.is_some()
    }

    /// Whether nothing is excused by a failure any more.
    fn is_strict(&self) -> bool {
        self.world.clock.now() > self.excused_until
    }

    fn ensure(&self, holds: bool, wrong: &str) {
        if !holds {
            self.world.state().see(Err(wrong.to_owned()));
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..55 => {
                for _ in 0..self.dice.pick(&[1, 1, 2, 4, 8, 16]) {
                    self.let_one_go();
                    self.turn();
                }
            }
            55..74 => self.request(),
            74..92 => self.move_clock(),
            92..95 => self.crash_or_start(),
            _ => self.rest(),
        }
    }

    fn turn(&mut self) {
        // One server's doings can give the other something to do.
        for _ in 0..2 {
            for server in self.servers.iter().flatten() {
                server.turn();
                let died = server.loops.iter().any(JoinHandle::is_finished);
                self.ensure(!died, "a loop has died");
            }
        }
    }

    fn let_one_go(&mut self) {
        let waiting = self.world.held_up(false);
        if waiting.is_empty() {
            return;
        }
        let (ticket, gate) = self.dice.pick(&waiting);
        let verdict = self.verdict(gate);
        self.faulty |= gate == Gate::Store && verdict != Verdict::Go;
        self.world.release(ticket, verdict);
    }

    fn verdict(&mut self, gate: Gate) -> Verdict {
        use Verdict::{Fail, Go, Hang, Panic, Refuse};
        let (chance, verdicts): (_, &[_]) = match gate {
            Gate::Store => (self.faults, &[Fail]),
            Gate::Offer => (self.refusals, &[Fail, Fail, Refuse, Refuse, Panic, Hang]),
            Gate::Answer => (self.refusals, &[Fail, Panic, Hang]),
        };
        if self.dice.percent(chance) {
            self.dice.pick(verdicts)
        } else {
            Go
        }
    }

    fn request(&mut self) {
        let number = self.dice.pick(&[0, 1]) % self.servers.len();
        let request = self.draw_request();
        if let Some(server) = &self.servers[number] {
            self.requests += 1;
            let line = format!("{} request {}: {request:?}", server.name, self.requests);
            self.world.note(line);
            server.ask(self.requests, request);
        }
    }

    fn draw_request(&mut self) -> Request {
        for id in self.world.state().model.ids() {
            if !self.known.contains(&id) {
                self.known.push(id);
            }
        }
        if self.known.is_empty() || self.dice.percent(12) {
            return Request::Create(Draft {
                name: self.draw_name(),
                description: Description::default(),
                periodicity: self.draw_periodicity(),
                recipients: self.draw_recipients(),
                paused: self.dice.percent(10),
            });
        }
        let id = self.dice.pick(&self.known);
        let name = self.world.state().model.name_of(id);
        let key = match (self.dice.below(4), name) {
            (0, Some(name)) => Key::Slug(Slug::of(&name)),
            (1, Some(name)) => Key::Name(name),
            _ => Key::Id(id),
        };
        let comment = Caller::Request(self.requests + 1).comment();
        let comment = Comment::parse(&comment).expect("a comment");
        let action = match self.dice.below(20) {
            0..7 => Action::Trigger(comment),
            7..10 => Action::Pause(comment),
            10..12 => Action::Unpause(comment),
            12..17 => Action::Update(Update {
                name: self.dice.percent(25).then(|| self.draw_name()),
                description: None,
                periodicity: self.dice.percent(50).then(|| self.draw_periodicity()),
                recipients: self.dice.percent(30).then(|| self.draw_recipients()),
            }),
            17 => return Request::Delete(key),
            _ => return Request::Get(key),
        };
        Request::Change(key, action)
    }

    fn draw_name(&mut self) -> Name {
        let name = self.dice.pick(&[
            "Backup",
            "backup",
            "Back up",
            "back_up",
            "Mail queue",
            "Rotate",
            "Rotate logs",
        ]);
        Name::parse(name).expect("a name")
    }

    fn draw_periodicity(&mut self) -> Periodicity {
        let seconds = self
            .dice
            .pick(&[0.001, 0.5, 1.0, 2.0, 10.0, 60.0, 600.0, 86_400.0]);
        Periodicity::from_seconds(seconds).expect("a periodicity")
    }

    fn draw_recipients(&mut self) -> Vec<Recipient> {
        let count = self.dice.pick(&[0, 1, 1, 2, 2, 3]);
        let addresses = ["ann@example.org", "bob@example.org", "cid@example.org"];
        (0..count)
            .map(|_| Recipient::parse(self.dice.pick(&addresses)).expect("an address"))
            .collect()
    }

    fn move_clock(&mut self) {
        let now = self.world.clock.now();
        let (deadline, due) = {
            let state = self.world.state();
            (state.model.next_deadline(), state.model.next_due())
        };
        let later = |millis| now.after(Duration::from_millis(millis));
        let to = match self.dice.below(24) {
            0..3 => later(1),
            3 => deadline.unwrap_or(now),
            4..11 => deadline.unwrap_or(now).next(),
            11..15 => due.unwrap_or(now),
            15..17 => later(self.dice.below(3_000)),
            17..19 => later(self.dice.below(120_000)),
            19 => later(self.dice.pick(&[270_000, 299_999, 300_000, 300_001])),
            // The machine was suspended.
            20 => later(self.dice.pick(&[3_600_000, 86_400_000, 600_000_000])),
            21 => now.before(Duration::from_millis(self.dice.below(5_000))),
            22 => now.before(Duration::from_millis(self.dice.below(7_200_000))),
            _ => later(self.dice.below(50)),
        };
        // What the clock is meant to meet may lie behind it.
        let to = if to < now && deadline.into_iter().chain(due).any(|instant| instant <= to) {
            now
        } else {
            to
        };
        self.set_clock(to);
    }

    fn set_clock(&mut self, to: Timestamp) {
        let now = self.world.clock.now();
        self.world
            .note(format_args!("the clock is set to {}", at(to)));
        self.world.clock.set(to);
        self.world.state().model.clock_moved(now, to);
        if to < now {
            // The loops look at once, so what was excused is so from now on.
            self.excused_until = self.excused_until.min(to.after(PATIENCE));
        }
    }

    fn crash_or_start(&mut self) {
        let number = self.dice.pick(&[0, 1]) % self.servers.len();
        let in_order = self.dice.percent(30);
        if in_order {
            self.rest();
        }
        if let Some(server) = self.servers[number].take() {
            let idle = self.world.held_up(true).is_empty() && self.is_strict();
            if in_order && idle {
                self.stop(&server);
            } else {
                self.world.note(format_args!("{} crashes", server.name));
            }
            let name = server.name;
            drop(server);
            self.world.state().model.crashed(name);
            self.faulty = true;
        }
        if self.dice.percent(40) {
            self.start_all();
        }
    }

    /// Ends a server that has nothing in hand.
    fn stop(&self, server: &Server) {
        self.world.note(format_args!("{} is stopped", server.name));
        server.stop.cancel();
        server.turn();
        let ended = server.loops.iter().all(JoinHandle::is_finished);
        self.ensure(ended, "a loop does not end");
        if let Disk::File(_) = self.disk {
            server.runtime.block_on(server.store.close());
        }
    }

    fn start_all(&mut self) {
        for number in 0..self.servers.len() {
            if self.servers[number].is_none() {
                let name = if number == 0 { 'A' } else { 'B' };
                self.world.note(format_args!("{name} starts"));
                let (world, store) = (Arc::clone(&self.world), self.open());
                let shared = self.servers.len() > 1;
                self.servers[number] = Some(Server::start(world, name, store, shared));
            }
        }
    }

    fn open(&self) -> Arc<dyn WatcherStore> {
        match &self.disk {
            Disk::Memory(store) => store.clone(),
            Disk::File(folder) => {
                // The writer's thread outlives the crash for a moment, and has the file until then.
                let begun = Instant::now();
                let store = loop {
                    match SqliteStore::open(&folder.path().join("watch.db"), policy()) {
                        Ok(store) => break store,
                        Err(error) => {
                            assert!(begun.elapsed() < Duration::from_secs(30), "{error:?}");
                        }
                    }
                    std::thread::yield_now();
                };
                self.world.state().model.reopened();
                Arc::new(store)
            }
        }
    }

    /// Lets everybody go on until all wait for the clock; then nothing may be left undone.
    fn rest(&mut self) {
        for _ in 0..2_000 {
            self.turn();
            let waiting = self.world.held_up(false);
            if waiting.is_empty() || self.is_broken() {
                return self.check_rest();
            }
            let (ticket, gate) = self.dice.pick(&waiting);
            let verdict = match gate {
                Gate::Store => Verdict::Go,
                Gate::Offer | Gate::Answer => self.verdict(gate),
            };
            self.world.release(ticket, verdict);
        }
        self.ensure(false, "the loops do not come to rest");
    }

    fn check_rest(&mut self) {
        let now = self.world.clock.now();
        self.world.note("all is quiet");
        if std::mem::take(&mut self.faulty) {
            // The loops may have seen it only now, behind other calls that took their time.
            self.excused_until = now.after(PATIENCE);
        }
        let mut state = self.world.state();
        let hangs = state.waiting.values().filter_map(|waiting| waiting.hangs);
        let hangs: Vec<_> = hangs.collect();
        if !state.model.stepped_back && hangs.iter().any(|since| since.after(LEASE) <= now) {
            state.see(Err("an attempt goes on after its lease".to_owned()));
        }
        if self.is_strict() && self.servers.iter().any(Option::is_some) {
            let seen = state.model.is_done_by(now, hangs.len());
            state.see(seen);
        }
    }

    /// The faults stop: within half an hour all that is owed has to be told.
    fn drain(&mut self) {
        self.world.note("no more faults");
        self.refusals = 0;
        self.start_all();
        let end = self.world.clock.now().after(Duration::from_mins(30));
        loop {
            self.turn();
            for (ticket, _) in self.world.held_up(true) {
                self.world.release(ticket, Verdict::Fail);
            }
            self.rest();
            let now = self.world.clock.now();
            let due = self.world.state().model.next_due();
            if self.is_broken() || due.is_none() && self.is_strict() {
                return;
            }
            self.ensure(now < end, "something is still owed after half an hour");
            let pause = due.map_or(PATIENCE, |due| due.since(now));
            let pause = pause.clamp(PATIENCE, Duration::from_mins(1));
            self.set_clock(now.after(pause).next());
        }
    }

    /// The store holds what was acknowledged, and nothing else.
    fn compare(&self) {
        let Some(server) = self.servers.iter().flatten().next() else {
            return;
        };
        let (held, counts) = server.runtime.block_on(async {
            let filter = Filter::default();
            let held = server.store.list(&filter, None, 1_000, Detail::Full).await;
            (held, server.store.census().await)
        });
        let (held, counts) = (held.expect("a list"), counts.expect("a census"));
        let mut state = self.world.state();
        let seen = state.model.is_held(&held, counts);
        state.see(seen);
    }
}

fn policy() -> HistoryPolicy {
    HistoryPolicy::with_limit(HISTORY).expect("a policy")
}
