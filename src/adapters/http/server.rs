//! Connections: taking them, bounding them, ending them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::http::uri::Scheme;
use poem::http::{HeaderValue, header};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::unread::Enveloping;
use crate::app::trouble::Trouble;

/// How long a client may take over the head of a request, and stay without a next one.
const HEAD: Duration = Duration::from_secs(10);
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
            if permits.available_permits() == 0 {
                full.is_on(&io::Error::other(format!(
                    "{connections} connections are open"
                )));
            }
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            full.is_over();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            accepted = accepted => accepted,
            () = &mut end => break,
        };
        match accepted {
            Ok((stream, remote)) => {
                accepting.is_over();
                let connection = converse(
                    stream,
                    remote,
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
        let site = Arc::clone(&site);
        // In a task of its own: a client that hangs up must not cut a change off from what follows it.
        let answer = tracker.spawn(async move { site.get_response(request).await });
        let stop = stop.clone();
        async move {
            let mut response = answer.await?;
            if stop.is_cancelled() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, JoinError>(hyper::Response::from(response))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
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
