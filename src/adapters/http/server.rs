//! Connections: taking them, bounding them, ending them.

use std::convert::Infallible;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use poem::http::uri::Scheme;
use poem::http::{HeaderValue, header};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::unread::Enveloping;
use crate::app::trouble::Trouble;

/// How long a client may take over the head of a request, and stay without a next one.
const HEAD: Duration = Duration::from_secs(10);
/// The same while another client waits for its place.
const HEAD_IF_CROWDED: Duration = Duration::from_secs(1);
/// How long a client may leave an answer lying.
const STALLED_WRITE: Duration = Duration::from_secs(20);
/// What is read of a head at most. It is more than the site allows, so that the site can say so.
const BUFFER: usize = 64 * 1024;
/// How long clients get to hear that the connection ends, when the program stops.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long requests that were begun get to finish when the program stops.
const LAST_CALL: Duration = Duration::from_secs(5);
/// How long nothing is accepted after accepting failed, for want of descriptors for example.
const RETRY: Duration = Duration::from_millis(100);

/// Serves `site` on `listener`, on at most `connections` at a time, until `stop`.
///
/// When they are all taken and one more client comes, those who have asked for nothing for a second make room.
///
/// Then each client is told with its next answer that the connection ends, connections that wait to be
/// accepted are served too, and half a second later those that say nothing are closed. Requests that were
/// begun by then have five seconds more.
pub async fn serve<E>(listener: TcpListener, site: E, connections: usize, stop: CancellationToken)
where
    E: Endpoint<Output = Response> + 'static,
{
    let site = Arc::new(site);
    let permits = Arc::new(Semaphore::new(connections));
    let (accepting, full) = (
        Trouble::new("accepting connections"),
        Trouble::new("taking more"),
    );
    let (crowded, is_crowded) = watch::channel(false);
    let crowded = |is| {
        crowded.send_if_modified(|was| mem::replace(was, is) != is);
    };
    let mut was_full: Option<Instant> = None;
    let mut open = JoinSet::new();
    let tracker = TaskTracker::new();
    let end = async {
        stop.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::pin!(end);
    loop {
        while open.try_join_next().is_some() {}
        let accepted = async {
            let accepted = listener.accept().await?;
            let is_full = permits.available_permits() == 0;
            if is_full {
                crowded(true);
                full.is_on(&io::Error::other(format!(
                    "{connections} connections are open"
                )));
            }
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            if is_full {
                crowded(false);
                was_full = Some(Instant::now());
            } else if was_full.is_none_or(|was_full| was_full.elapsed() > HEAD) {
                full.is_over();
            }
            Ok((permit, accepted))
        };
        let accepted: io::Result<_> = tokio::select! {
            biased;
            accepted = accepted => accepted,
            () = &mut end => break,
        };
        match accepted {
            Ok((permit, (stream, remote))) => {
                accepting.is_over();
                let connection = converse(
                    stream,
                    remote,
                    HeadTimer(is_crowded.clone()),
                    Arc::clone(&site),
                    tracker.clone(),
                    stop.clone(),
                );
                open.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                accepting.is_on(&error);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    drop(listener);
    tracker.close();
    let all = async {
        while open.join_next().await.is_some() {}
        tracker.wait().await;
    };
    if tokio::time::timeout(LAST_CALL, all).await.is_err() {
        tracing::warn!(
            connections = open.len(),
            "connections that did not end were broken off"
        );
    }
}

async fn converse<E>(
    stream: TcpStream,
    remote: SocketAddr,
    timer: HeadTimer,
    site: Arc<E>,
    tracker: TaskTracker,
    stop: CancellationToken,
) where
    E: Endpoint<Output = Response> + 'static,
{
    // An answer is small and complete, so it need not wait for more to come.
    let _ = stream.set_nodelay(true);
    let local = LocalAddr(stream.local_addr().map(Into::into).unwrap_or_default());
    let remote = RemoteAddr(remote.into());
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALLED_WRITE));
    let service = service_fn(|request| {
        let request = (request, local.clone(), remote.clone(), Scheme::HTTP).into();
        let (site, stop) = (Arc::clone(&site), stop.clone());
        let answer = async move {
            let mut response = site.get_response(request).await;
            if stop.is_cancelled() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(hyper::Response::from(response))
        };
        Unbroken {
            answer: Some(Box::pin(answer)),
            tracker: tracker.clone(),
        }
    });
    let connection = http1::Builder::new()
        .timer(timer)
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Enveloping::new(Box::pin(stream))), service);
    tokio::pin!(connection);
    // What goes wrong on a connection is the client's to see; each request has its line in the log.
    tokio::select! {
        _ = &mut connection => {}
        () = async { stop.cancelled().await; tokio::time::sleep(FAREWELL).await } => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// An answer in the making that goes on in a task of its own when the connection has gone: a client that hangs
/// up must not cut a change off from what follows it.
struct Unbroken<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    /// `None` once it is made.
    answer: Option<Pin<Box<F>>>,
    tracker: TaskTracker,
}

impl<F> Future for Unbroken<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(answer) = &mut self.answer else {
            return Poll::Pending;
        };
        let made = ready!(answer.as_mut().poll(context));
        self.answer = None;
        Poll::Ready(made)
    }
}

impl<F> Drop for Unbroken<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn drop(&mut self) {
        // Without a runtime the program has ended.
        if let (Some(answer), Ok(runtime)) = (self.answer.take(), Handle::try_current()) {
            self.tracker.spawn_on(answer, &runtime);
        }
    }
}

/// Ends the wait for a head when it has lasted too long, or quite long while the place is wanted by others.
#[derive(Clone, Debug)]
struct HeadTimer(watch::Receiver<bool>);

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let mut is_crowded = self.0.clone();
        Box::pin(Wait(Box::pin(async move {
            tokio::time::sleep(HEAD_IF_CROWDED).await;
            let give_way = async {
                // It fails when nobody is accepted any more.
                if is_crowded.wait_for(|crowded| *crowded).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => {}
                () = give_way => {}
            }
        })))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

struct Wait(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl Sleep for Wait {}
