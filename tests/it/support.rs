//! A whole service within the test: a clock that stands still, loops that start when asked, and a real
//! server on loopback.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use nights_watch::adapters::clock::ManualClock;
use nights_watch::adapters::http::{Site, serve};
use nights_watch::adapters::storage::memory::MemoryStore;
use nights_watch::app::config::{BaseUrl, Networks};
use nights_watch::app::heartbeat::{Condition, HeartbeatLoop};
use nights_watch::app::outage::Vigil;
use nights_watch::app::use_cases::Bells;
use nights_watch::app::{DeliveryLoop, Health, Metrics, NightsWatch, Scheduler};
use nights_watch::domain::{Action, Filter, HistoryPolicy, Slug, Timestamp, WatcherId};
use nights_watch::ports::{
    Census, Claim, DeliveryKey, DeliveryReport, Detail, Heartbeat, InsertError, Key, Message,
    Notifier, NotifyError, Outcome, Progress, Record, StoreError, TransactError, Transacted,
    WatcherStore,
};
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Url};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// When the clock of each house begins: 2015-03-19T01:08:44.885Z.
pub(crate) const BEGIN: Timestamp = Timestamp::from_millis(1_426_727_324_885);
/// The folder of the operations on watchers.
pub(crate) const API: &str = "/nights-watch/v1/watcher";
/// How many connections a house takes at a time.
pub(crate) const CONNECTIONS: usize = 80;
/// How long anything may take before the test gives it up. Nothing takes that long unless it hangs.
const GUARD: Duration = Duration::from_secs(30);

/// A service, and a client of it.
pub(crate) struct House {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) address: SocketAddr,
    /// Stops the server.
    pub(crate) stop: CancellationToken,
    pub(crate) server: JoinHandle<()>,
    client: Client,
    store: Arc<dyn WatcherStore>,
    bells: Arc<Bells>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    watch: Arc<NightsWatch>,
    /// How often the loops look although nobody rings.
    pub(crate) poll: Option<Duration>,
    vigil: Arc<Vigil>,
}

/// What is different about a house.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    /// The key that it demands.
    pub(crate) key: Option<&'a str>,
    /// Where people are told that they reach it.
    pub(crate) base_url: Option<BaseUrl>,
    /// How long watchers have after an outage.
    pub(crate) grace: Duration,
    /// How many connections it takes at a time, if not [`CONNECTIONS`].
    pub(crate) connections: Option<usize>,
}

/// A loop of a house that runs until it is stopped.
pub(crate) struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// An answer that has arrived as a whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl House {
    /// A service that demands no key, over a store in memory.
    pub(crate) async fn open() -> Self {
        Self::over(Arc::new(MemoryStore::new(HistoryPolicy::default()))).await
    }

    /// A service that demands no key, over `store`.
    pub(crate) async fn over(store: Arc<dyn WatcherStore>) -> Self {
        Self::build(store, Plan::default()).await
    }

    /// The same, where there is a grace after an outage.
    pub(crate) async fn with_grace(store: Arc<dyn WatcherStore>, grace: Duration) -> Self {
        let plan = Plan {
            grace,
            ..Plan::default()
        };
        Self::build(store, plan).await
    }

    /// A service that demands `key`.
    pub(crate) async fn locked_by(key: &str) -> Self {
        let plan = Plan {
            key: Some(key),
            ..Plan::default()
        };
        Self::by(plan).await
    }

    /// A service over a store in memory, by a plan.
    pub(crate) async fn by(plan: Plan<'_>) -> Self {
        let store = MemoryStore::new(HistoryPolicy::default());
        Self::build(Arc::new(store), plan).await
    }

    async fn build(store: Arc<dyn WatcherStore>, plan: Plan<'_>) -> Self {
        let clock = Arc::new(ManualClock::at(BEGIN));
        let bells = Arc::new(Bells::default());
        let metrics = Arc::new(Metrics::default());
        let oldest = Some(Duration::from_hours(1));
        let health = Arc::new(Health::new(Arc::clone(&store), clock.clone(), oldest));
        let vigil = Arc::new(Vigil::new(Arc::clone(&store), plan.grace));
        let watch = Arc::new(NightsWatch::new(
            Arc::clone(&store),
            clock.clone(),
            Arc::clone(&bells),
            Arc::clone(&metrics),
            Arc::clone(&vigil),
        ));
        let stop = CancellationToken::new();
        let site = Site {
            watch: Arc::clone(&watch),
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            auth_key: plan.key.map(Into::into),
            proxies: Networks::loopback(),
            clock: clock.clone(),
            base_url: plan.base_url,
            stop: stop.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(
            listener,
            site.into_endpoint(),
            plan.connections.unwrap_or(CONNECTIONS),
            stop.clone(),
        ));
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .timeout(GUARD);
        let client = client.build().unwrap();
        Self {
            clock,
            address,
            stop,
            server,
            client,
            store,
            bells,
            metrics,
            health,
            watch,
            poll: None,
            vigil,
        }
    }

    /// Starts the loop that sees deadlines pass.
    pub(crate) fn start_scheduler(&self) -> Running {
        let scheduler = Scheduler {
            vigil: Arc::clone(&self.vigil),
            watch: Arc::clone(&self.watch),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            bells: Arc::clone(&self.bells),
            pulse: Arc::clone(&self.health.scheduler),
            poll: self.poll,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(scheduler.run(stop.clone()));
        Running { stop, task }
    }

    /// Starts the loop that delivers notices, and returns where they arrive.
    pub(crate) fn start_delivery(&self) -> (Running, Inbox) {
        let (sender, inbox) = mpsc::unbounded_channel();
        (
            self.start_delivery_by(Arc::new(Recorder(sender))),
            Inbox(inbox),
        )
    }

    /// Starts the loop that delivers notices, by `notifier`.
    pub(crate) fn start_delivery_by(&self, notifier: Arc<dyn Notifier>) -> Running {
        let delivery = DeliveryLoop {
            store: Arc::clone(&self.store),
            notifier,
            clock: self.clock.clone(),
            bells: Arc::clone(&self.bells),
            metrics: Arc::clone(&self.metrics),
            pulse: Arc::clone(&self.health.delivery),
            poll: self.poll,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(delivery.run(stop.clone()));
        Running { stop, task }
    }

    /// Starts a loop that tells `heartbeat`.
    pub(crate) fn start_heartbeat(
        &self,
        heartbeat: Arc<dyn Heartbeat>,
        every: Duration,
        condition: Condition,
    ) -> Running {
        let beating = HeartbeatLoop {
            heartbeat,
            health: Arc::clone(&self.health),
            clock: self.clock.clone(),
            every,
            condition,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(beating.run(stop.clone()));
        Running { stop, task }
    }

    /// Moves the clock forward.
    pub(crate) fn advance_millis(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    /// A request for `path`, which is sent as it stands.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.address))
    }

    /// Gets `path`. The future borrows nothing, so that it can race with others.
    pub(crate) fn get(&self, path: &str) -> impl Future<Output = Reply> + Send + use<> {
        Reply::to(self.request(Method::GET, path))
    }

    /// Calls an operation on watchers; `parameters` are encoded.
    pub(crate) fn call(
        &self,
        operation: &str,
        parameters: &[(&str, &str)],
    ) -> impl Future<Output = Reply> + Send + use<> {
        self.get(&path(operation, parameters))
    }

    /// Creates a watcher with a periodicity of an hour, and returns its identifier.
    pub(crate) async fn create(&self, name: &str) -> String {
        self.create_with(&[("name", name), ("periodicity", "3600")])
            .await
    }

    /// Creates a watcher, and returns its identifier.
    pub(crate) async fn create_with(&self, parameters: &[(&str, &str)]) -> String {
        let reply = self.call("create", parameters).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.watcher()["id"].as_str().unwrap().to_owned()
    }

    /// What there is to know of all watchers, as one text.
    pub(crate) async fn everything(&self) -> String {
        let reply = self.call("list", &[("verbose", "true")]).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.text
    }

    /// The names in a list with these conditions, in its order.
    pub(crate) async fn names(&self, conditions: &[(&str, &str)]) -> Vec<String> {
        let reply = self.call("list", conditions).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let json = reply.json();
        let watchers = json["watchers"].as_array().unwrap().iter();
        watchers
            .map(|watcher| watcher["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Running {
    /// Ends the loop at once, wherever it is, as the death of the process would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = within(self.task).await;
    }

    /// Stops the loop and waits for its end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        within(self.task).await.unwrap();
    }
}

impl Reply {
    /// Sends a request and waits for the whole answer.
    pub(crate) async fn to(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.expect("the whole answer"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {:?}", self.text))
    }

    /// The member `watcher` of the answer.
    pub(crate) fn watcher(&self) -> Value {
        self.json()["watcher"].clone()
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// All that the client sees, as one text.
    pub(crate) fn everything(&self) -> String {
        let mut all = self.text.clone();
        for (name, value) in &self.headers {
            let _ = write!(
                all,
                "\n{name}: {}",
                String::from_utf8_lossy(value.as_bytes())
            );
        }
        all
    }
}

/// The path of an operation on watchers with encoded parameters.
pub(crate) fn path(operation: &str, parameters: &[(&str, &str)]) -> String {
    let base = format!("http://localhost{API}/{operation}");
    let url = Url::parse_with_params(&base, parameters).unwrap();
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

/// Waits for `future`, but not for ever.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(GUARD, future)
        .await
        .expect("it should not have taken so long")
}

/// Waits until `condition` holds, but not for ever.
pub(crate) async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let all = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(all).await;
}

/// Where notices arrive.
pub(crate) struct Inbox(mpsc::UnboundedReceiver<String>);

impl Inbox {
    /// Waits for the next notice: its recipient and its subject.
    pub(crate) async fn next(&mut self) -> String {
        within(self.0.recv()).await.expect("the notifier lives")
    }

    /// Waits for `count` notices, and returns them sorted.
    pub(crate) async fn sorted(&mut self, count: usize) -> Vec<String> {
        let mut notices = Vec::new();
        for _ in 0..count {
            notices.push(self.next().await);
        }
        notices.sort();
        notices
    }
}

/// A notifier that passes on who was told what.
struct Recorder(mpsc::UnboundedSender<String>);

#[async_trait]
impl Notifier for Recorder {
    async fn deliver(&self, message: &Message, _: &mut Progress) -> Result<(), NotifyError> {
        let line = format!("{}: {}", message.recipient, message.notice.subject());
        // A test that has seen enough may have dropped the inbox.
        let _ = self.0.send(line);
        Ok(())
    }
}

/// The calls of a store that a test can interfere with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Insert,
    Transact,
    Find,
    FirstPage,
    LaterPage,
    Delete,
    Ping,
    Census,
    Loops,
    Deliveries,
    KeepWatch,
}

type Hook = dyn Fn(Call) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync;

/// A store in memory that asks a hook before each call: the hook may fail, wait or panic instead. If it says
/// that the outcome is unknown, an insertion or a change is made all the same.
pub(crate) struct HookedStore {
    inner: MemoryStore,
    hook: Box<Hook>,
}

impl HookedStore {
    /// A store whose calls wait for the future that `hook` returns, and fail if it does.
    pub(crate) fn new<F, W>(hook: F) -> Arc<Self>
    where
        F: Fn(Call) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        Arc::new(Self {
            inner: MemoryStore::new(HistoryPolicy::default()),
            hook: Box::new(move |call| Box::pin(hook(call))),
        })
    }

    /// A store whose calls fail as `error` says.
    pub(crate) fn failing(
        error: impl Fn(Call) -> Option<StoreError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::new(move |call| std::future::ready(error(call).map_or(Ok(()), Err)))
    }
}

#[async_trait]
impl WatcherStore for HookedStore {
    async fn insert(&self, record: &Record) -> Result<(), InsertError> {
        let hooked = (self.hook)(Call::Insert).await;
        if let Err(StoreError::OutcomeUnknown(_)) = hooked {
            self.inner.insert(record).await?;
        }
        hooked?;
        self.inner.insert(record).await
    }

    async fn transact(
        &self,
        key: &Key,
        action: &Action,
        now: Timestamp,
        detail: Detail,
    ) -> Result<Transacted, TransactError> {
        let hooked = (self.hook)(Call::Transact).await;
        if let Err(StoreError::OutcomeUnknown(_)) = hooked {
            self.inner.transact(key, action, now, detail).await?;
        }
        hooked?;
        self.inner.transact(key, action, now, detail).await
    }

    async fn find(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        (self.hook)(Call::Find).await?;
        self.inner.find(key).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&Slug>,
        limit: usize,
        detail: Detail,
    ) -> Result<Vec<Record>, StoreError> {
        let call = after.map_or(Call::FirstPage, |_| Call::LaterPage);
        (self.hook)(call).await?;
        self.inner.list(filter, after, limit, detail).await
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        (self.hook)(Call::Delete).await?;
        self.inner.delete(key).await
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>, StoreError> {
        (self.hook)(Call::Loops).await?;
        self.inner.next_deadline().await
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<WatcherId>, StoreError> {
        (self.hook)(Call::Loops).await?;
        self.inner.overdue(now, limit).await
    }

    async fn set_aside(
        &self,
        id: &WatcherId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        (self.hook)(Call::Loops).await?;
        self.inner.set_aside(id, now, until).await
    }

    async fn next_delivery(&self) -> Result<Option<Timestamp>, StoreError> {
        (self.hook)(Call::Loops).await?;
        self.inner.next_delivery().await
    }

    async fn claim(
        &self,
        now: Timestamp,
        lease_end: Timestamp,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        (self.hook)(Call::Loops).await?;
        self.inner.claim(now, lease_end, limit).await
    }

    async fn settle(
        &self,
        claim: &DeliveryKey,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        (self.hook)(Call::Loops).await?;
        self.inner.settle(claim, outcome, now).await
    }

    async fn keep_watch(&self, now: Timestamp) -> Result<(), StoreError> {
        (self.hook)(Call::KeepWatch).await?;
        self.inner.keep_watch(now).await
    }

    async fn last_watch(&self) -> Result<Option<Timestamp>, StoreError> {
        (self.hook)(Call::Loops).await?;
        self.inner.last_watch().await
    }

    async fn deliveries(&self, watcher: &WatcherId) -> Result<Vec<DeliveryReport>, StoreError> {
        (self.hook)(Call::Deliveries).await?;
        self.inner.deliveries(watcher).await
    }

    async fn oldest_notice(&self) -> Result<Option<Timestamp>, StoreError> {
        (self.hook)(Call::Census).await?;
        self.inner.oldest_notice().await
    }

    async fn census(&self) -> Result<Census, StoreError> {
        (self.hook)(Call::Census).await?;
        self.inner.census().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        (self.hook)(Call::Ping).await?;
        self.inner.ping().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
