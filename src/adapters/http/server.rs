//! Connections: taking them, bounding them, ending them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use super::unread::Enveloping;
use crate::app::trouble::Trouble;

/// How long a client may take over the head of a request, and stay without a next one.
const HEAD: Duration = Duration::from_secs(10);
/// How long a client may leave an answer lying.
const STALLED_WRITE: Duration = Duration::from_secs(20);
/// What is read of a head at most. It is more than the site allows, so that the site can say so.
const BUFFER: usize = 64 * 1024;
/// How long requests that were begun get to finish when the program stops.
const LAST_CALL: Duration = Duration::from_secs(5);
/// How long nothing is accepted after accepting failed, for want of descriptors for example.
const RETRY: Duration = Duration::from_millis(100);

/// Serves `site` on `listener`, on at most `connections` at a time, until `stop`; then finishes the requests
/// that were begun, for at most five seconds.
pub async fn serve<E>(listener: TcpListener, site: E, connections: usize, stop: CancellationToken)
where
    E: Endpoint<Output = Response> + 'static,
{
    let site = Arc::new(site);
    let permits = Arc::new(Semaphore::new(connections));
    let trouble = Trouble::new("accepting connections");
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let accepted = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, remote)) => {
                trouble.is_over();
                let connection = converse(stream, remote, Arc::clone(&site), stop.clone());
                open.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                trouble.is_on(&error);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_CALL, all).await.is_err() {
        tracing::warn!(
            connections = open.len(),
            "connections that did not end were broken off"
        );
    }
}

async fn converse<E>(stream: TcpStream, remote: SocketAddr, site: Arc<E>, stop: CancellationToken)
where
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
        async move { Ok::<_, Infallible>(hyper::Response::from(site.get_response(request).await)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .writev(false)
        .serve_connection(TokioIo::new(Enveloping::new(Box::pin(stream))), service);
    tokio::pin!(connection);
    // What goes wrong on a connection is the client's to see; each request has its line in the log.
    tokio::select! {
        _ = &mut connection => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
