//! From settings to a running program: the one file that picks adapters.

use std::io::{self, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::{Config, Heartbeat, Storage, Tls, Wsgi};
use super::health::Health;
use super::heartbeat::{Condition, HeartbeatLoop};
use super::import::{self, ImportError, Imported};
use super::metrics::Metrics;
use super::outage::Vigil;
use super::use_cases::{Bells, NightsWatch};
use super::{DeliveryLoop, Scheduler, version};
use crate::adapters::clock::SystemClock;
use crate::adapters::http::{self, Site};
use crate::adapters::monitor::systemd::{self, Watchdog};
use crate::adapters::monitor::url::{InvalidUrl, Url};
use crate::adapters::notify::log::LogNotifier;
use crate::adapters::notify::smtp::{Encryption, InvalidSettings, SmtpNotifier, SmtpSettings};
use crate::adapters::storage::mongodb::{MongoSettings, MongoStore, OpenError as MongoError};
use crate::adapters::storage::sqlite::{OpenError, SqliteStore};
use crate::adapters::storage::timed::TimedStore;
use crate::ports::{self, Clock, Notifier, WatcherStore};

pub use crate::adapters::http::openapi_document;

/// Why the program does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The SQLite database cannot be used.
    #[error("[sqlite] path")]
    Sqlite(#[source] OpenError),
    /// The MongoDB database cannot be used.
    #[error("[mongodb]")]
    MongoDb(#[source] MongoError),
    /// There is nothing to copy.
    #[error("cannot read {}", .0.display())]
    NoFile(PathBuf, #[source] io::Error),
    /// A store is to be copied into itself.
    #[error("{} is the store that is configured: there is nothing to import", .0.display())]
    ImportSelf(PathBuf),
    /// The database that is to be copied cannot be used.
    #[error("nothing can be imported")]
    ImportFrom(#[source] OpenError),
    /// The watchers of another store were not copied.
    #[error("cannot import {}", .0.display())]
    Import(PathBuf, #[source] ImportError),
    /// No mail could ever be sent.
    #[error("[email]")]
    Email(#[source] InvalidSettings),
    /// Nobody could ever be told that the program does its work.
    #[error("[monitor] heartbeat_url")]
    Heartbeat(#[source] InvalidUrl),
    /// The port cannot be had.
    #[error("[wsgi] host, port: cannot listen on {address}")]
    Listen {
        /// Where the program was to listen.
        address: String,
        /// Why it cannot.
        #[source]
        cause: io::Error,
    },
    /// The system does not let the program hear when it is to stop.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

/// How many threads are to serve requests and drive the loops: one for each core that the program may use. Of several
/// cores SQLite's writer gets one, since its thread is as busy as they are; with a worker for that core as well, commits
/// wait for the processor.
#[must_use]
pub fn worker_threads(storage: &Storage) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    match storage {
        Storage::Sqlite { .. } => (cores - 1).max(1),
        Storage::MongoDb(_) => cores,
    }
}

/// Runs the service until it is told to stop by SIGTERM, SIGINT or SIGHUP. Then it finishes what it has accepted,
/// within about ten seconds, and leaves the store tidy.
///
/// # Errors
///
/// [`StartError`] if it cannot begin; once it serves it returns `Ok`.
pub async fn run(config: Config) -> Result<(), StartError> {
    let stop = stop_on_signals().map_err(StartError::Signals)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Arc::new(Metrics::default());
    let other = open_monitor(config.monitor.heartbeat.as_ref())?;
    let notifier = open_notifier(&config, &clock, &metrics)?;
    let connections = share_of_descriptors();
    let listener = listen(&config.wsgi).await?;
    metrics.start(clock.now());
    let (store, poll) = open_store(&config, Arc::clone(&metrics)).await?;
    let store: Arc<dyn WatcherStore> = Arc::new(TimedStore::new(store, metrics.clone()));

    let bells = Arc::new(Bells::default());
    let health = Arc::new(Health::new(
        Arc::clone(&store),
        Arc::clone(&clock),
        config.monitor.max_notice_age,
    ));
    let grace = config.monitor.outage_grace;
    let vigil = Arc::new(Vigil::new(Arc::clone(&store), grace));
    let watch = Arc::new(NightsWatch::new(
        Arc::clone(&store),
        Arc::clone(&clock),
        Arc::clone(&bells),
        Arc::clone(&metrics),
        Arc::clone(&vigil),
    ));
    let scheduler = Scheduler {
        vigil,
        watch: Arc::clone(&watch),
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        bells: Arc::clone(&bells),
        pulse: Arc::clone(&health.scheduler),
        poll,
    };
    let delivery = DeliveryLoop {
        store: Arc::clone(&store),
        notifier,
        clock: Arc::clone(&clock),
        bells,
        metrics: Arc::clone(&metrics),
        pulse: Arc::clone(&health.delivery),
        poll,
    };
    let heartbeats = heartbeats(other, &health, &clock);
    if config.wsgi.auth_key.is_none() {
        // NIGHTS_WATCH_AUTH_KEY is the client's, and easily taken for this one.
        tracing::warn!(
            "[wsgi] auth_key (NIGHTS_WATCH_WSGI_AUTH_KEY) is not set: whoever reaches the port can change watchers"
        );
    }
    let address = listener.local_addr();
    let address = address.map_or_else(|_| String::new(), |address| address.to_string());
    let site = Site {
        watch,
        health,
        metrics,
        auth_key: config.wsgi.auth_key,
        proxies: config.wsgi.trusted_proxies,
        clock,
        base_url: config.web.base_url,
        stop: stop.clone(),
    }
    .into_endpoint();

    if !grace.is_zero() {
        scheduler.catch_up(&stop).await;
    }
    // The loops stop after the requests, since those give them work.
    let stop_loops = CancellationToken::new();
    let mut loops = vec![
        ("scheduler", tokio::spawn(scheduler.run(stop_loops.clone()))),
        (
            "delivery loop",
            tokio::spawn(delivery.run(stop_loops.clone())),
        ),
    ];
    for heartbeat in heartbeats {
        let task = tokio::spawn(heartbeat.run(stop_loops.clone()));
        loops.push(("heartbeat", task));
    }
    let loops: Vec<_> = loops
        .into_iter()
        .map(|(name, task)| tokio::spawn(supervise(name, task)))
        .collect();
    tracing::info!(address, version = version::FULL, "serving");
    // Nobody may be there to read it, which is no reason to stop.
    let _ = writeln!(
        io::stdout(),
        "nights-watch serves on http://{address}/ (pages at http://{address}/ui/, docs at http://{address}/docs)"
    );

    systemd::ready();
    http::serve(listener, site, connections, stop).await;
    systemd::stopping();
    tracing::info!("stopping");
    stop_loops.cancel();
    for task in loops {
        let _ = task.await;
    }
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Copies the watchers of the SQLite database `file` into the store of `config`, as [`import::import`] says.
///
/// # Errors
///
/// [`StartError`] if a store cannot be opened, or the watchers cannot be copied.
pub async fn import(
    config: &Config,
    file: &Path,
    without_notices: bool,
) -> Result<Imported, StartError> {
    let source = std::fs::canonicalize(file);
    let source = source.map_err(|cause| StartError::NoFile(file.to_owned(), cause))?;
    if let Storage::Sqlite { path } = &config.storage
        && std::fs::canonicalize(path).is_ok_and(|path| path == source)
    {
        return Err(StartError::ImportSelf(file.to_owned()));
    }
    let from = SqliteStore::open(file, config.history.policy).map_err(StartError::ImportFrom)?;
    let (to, _) = open_store(config, Arc::default()).await?;
    let done = import::import(&from, &*to, without_notices).await;
    from.close().await;
    to.close().await;
    done.map_err(|cause| StartError::Import(file.to_owned(), cause))
}

/// The store, and how often the loops have to look at it if others may change it.
async fn open_store(
    config: &Config,
    metrics: Arc<Metrics>,
) -> Result<(Arc<dyn WatcherStore>, Option<Duration>), StartError> {
    const POLL: Duration = Duration::from_secs(1);
    let policy = config.history.policy;
    match &config.storage {
        Storage::Sqlite { path } => {
            let store = SqliteStore::open_observed(path, policy, metrics);
            let store = store.map_err(StartError::Sqlite)?;
            tracing::info!(path = %absolute(path).display(), "storing in SQLite");
            Ok((Arc::new(store), None))
        }
        Storage::MongoDb(settings) => {
            let settings = MongoSettings {
                hosts: settings.hosts.clone(),
                database: settings.database.clone(),
                username: settings.username.clone(),
                password: settings.password.clone(),
                replica_set: settings.replica_set.clone(),
                options: settings.options.clone(),
            };
            let store = MongoStore::open(&settings, policy).await;
            let store = store.map_err(StartError::MongoDb)?;
            tracing::info!("storing in MongoDB");
            Ok((Arc::new(store), Some(POLL)))
        }
    }
}

fn open_notifier(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<Arc<dyn Notifier>, StartError> {
    let Some(email) = &config.email else {
        tracing::warn!("[email] is not set: notices go to this log and to nobody else");
        return Ok(Arc::new(LogNotifier));
    };
    let settings = SmtpSettings {
        sender: email.sender.clone(),
        host: email.host.clone(),
        port: email.port,
        login: email
            .login
            .as_ref()
            .map(|login| (login.username.clone(), login.password.clone())),
        encryption: match email.tls {
            Tls::None => Encryption::None,
            Tls::StartTls => Encryption::StartTls,
            Tls::Tls => Encryption::Tls,
        },
        base_url: config.web.base_url.clone(),
    };
    let notifier = SmtpNotifier::new(settings, Arc::clone(clock)).map_err(StartError::Email)?;
    metrics.stages(&SmtpNotifier::STAGES);
    tracing::info!(host = email.host, port = email.port, "mailing notices");
    Ok(Arc::new(notifier))
}

/// Another monitor, and how often it is told.
fn open_monitor(heartbeat: Option<&Heartbeat>) -> Result<Option<(Url, Duration)>, StartError> {
    let open = |heartbeat: &Heartbeat| Ok((Url::new(heartbeat.url.clone())?, heartbeat.interval));
    heartbeat
        .map(open)
        .transpose()
        .map_err(StartError::Heartbeat)
}

/// A loop for another monitor, and one for systemd's watchdog, if they are there.
fn heartbeats(
    other: Option<(Url, Duration)>,
    health: &Arc<Health>,
    clock: &Arc<dyn Clock>,
) -> Vec<HeartbeatLoop> {
    let beating = |heartbeat: Arc<dyn ports::Heartbeat>, every, condition| HeartbeatLoop {
        heartbeat,
        health: Arc::clone(health),
        clock: Arc::clone(clock),
        every,
        condition,
    };
    let mut loops = Vec::new();
    if let Some((url, interval)) = other {
        loops.push(beating(Arc::new(url), interval, Condition::Ready));
    }
    if let Some(patience) = Watchdog::patience() {
        loops.push(beating(
            Arc::new(Watchdog),
            patience / 2,
            Condition::Turning,
        ));
    }
    loops
}

/// Without a host: every interface, by IPv6 and IPv4 where there are both.
async fn listen(wsgi: &Wsgi) -> Result<TcpListener, StartError> {
    const BACKLOG: i32 = 4_096;
    let port = wsgi.port;
    let bound = match &wsgi.host {
        Some(host) => TcpListener::bind((host.as_str(), port)).await,
        None => match TcpListener::bind(("::", port)).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(("0.0.0.0", port)).await
            }
            bound => bound,
        },
    };
    let host = wsgi.host.as_deref().unwrap_or("*");
    let listener = bound.map_err(|cause| StartError::Listen {
        address: format!("{host}:{port}"),
        cause,
    })?;
    // Tasks come at the full minute, all at once: the system is to keep more of them waiting than it usually does.
    let _ = rustix::net::listen(&listener, BACKLOG);
    Ok(listener)
}

/// How many connections may be open: half of the descriptors that the process may have, so that the store
/// and the mails always find one.
fn share_of_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    const MOST: u64 = 8_192;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(2 * MOST).min(2 * MOST);
    let raised = Rlimit {
        current: Some(limit.current.unwrap_or(wanted).max(wanted)),
        ..limit
    };
    // If it cannot be raised, what there is will do.
    let _ = setrlimit(Resource::Nofile, raised);
    let current = getrlimit(Resource::Nofile).current.unwrap_or(2 * MOST);
    usize::try_from((current / 2).clamp(16, MOST)).unwrap_or(16)
}

fn stop_on_signals() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // A file that may not grow is a write that fails, as on a full disk. Nobody needs to hear the signal, but
    // unheard it would end the program.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
        stopping.cancel();
    });
    Ok(stop)
}

/// Reports the death of a loop. Its pulse has stopped by then, which takes the readiness down.
async fn supervise(name: &'static str, task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "the {name} has died; restart the service");
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
