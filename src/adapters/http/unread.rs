//! Requests that cannot even be read: malformed ones, and heads beyond all bounds.
//!
//! The protocol library answers those by itself, with a bare status that no handler sees. On its way to the
//! client such an answer gets the envelope that all our errors have, and a line in the log.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use poem::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::errors::Rejection;

/// A connection on which bare errors are put into the envelope.
pub(super) struct Enveloping<S> {
    stream: S,
    /// What is written in place of a bare error, and how much of it has been.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Enveloping<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            instead: None,
        }
    }
}

/// The status of an answer that is an error without a word about it. None of ours is.
fn bare_error(answer: &[u8]) -> Option<StatusCode> {
    if !answer.starts_with(b"HTTP/1.1 4") {
        return None;
    }
    let head = std::str::from_utf8(answer).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let is_bare = head.ends_with("\r\n\r\n") && head.contains("\r\ncontent-length: 0\r\n");
    let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
    is_bare.then_some(status)
}

fn in_envelope(status: StatusCode) -> Vec<u8> {
    let reason = match status {
        StatusCode::URI_TOO_LONG => "the path and query are too long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "the headers are too long or too many",
        _ => "this is not a request as HTTP has it",
    };
    let body = Rejection::new(status, reason).to_json();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Enveloping<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.instead.is_none() {
            let Some(status) = bare_error(buffer) else {
                return Pin::new(&mut this.stream).poll_write(context, buffer);
            };
            tracing::info!(status = status.as_u16(), "a request could not be read");
            this.instead = Some((in_envelope(status), 0));
        }
        while let Some((answer, written)) = &mut this.instead {
            let rest = &answer[*written..];
            *written += ready!(Pin::new(&mut this.stream).poll_write(context, rest))?;
            if *written == answer.len() {
                this.instead = None;
            }
        }
        Poll::Ready(Ok(buffer.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A bare error is a head and nothing else, so it comes as one piece.
        match buffers {
            [only] => self.poll_write(context, only),
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Enveloping<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
