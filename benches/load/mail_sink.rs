//! A mail server that takes everything at once, and knows when each mail began to arrive.

use std::net::TcpListener as StdListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use std::{mem, thread};

use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::figures::now;

/// The server, on a thread of its own for as long as the benchmark runs.
pub(crate) struct MailSink {
    pub(crate) port: u16,
    mails: Receiver<Mail>,
}

/// A mail that was taken. Instants are in microseconds since 1970.
pub(crate) struct Mail {
    pub(crate) to: String,
    /// When its connection said its first word, if this was the first mail on it.
    hello: Option<i64>,
    /// When its own first word came.
    from: i64,
    /// When it had come wholly.
    pub(crate) taken: i64,
}

impl Mail {
    /// When the client began with this mail, that became due at `due`: with the greeting, if it connected for it.
    pub(crate) fn begun(&self, due: i64) -> i64 {
        self.hello.filter(|hello| *hello > due).unwrap_or(self.from)
    }
}

impl MailSink {
    pub(crate) fn start() -> Self {
        let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("a socket").port();
        let (taken, mails) = channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, taken));
        });
        Self { port, mails }
    }

    /// Waits until `count` mails have come, but not for ever: if that takes too long, those that have.
    pub(crate) fn wait_for(&self, count: usize, patience: Duration) -> Vec<Mail> {
        let end = Instant::now() + patience;
        let mut mails = Vec::with_capacity(count);
        while mails.len() < count
            && let left = end.saturating_duration_since(Instant::now())
            && let Ok(mail) = self.mails.recv_timeout(left)
        {
            mails.push(mail);
        }
        mails
    }

    /// All that have come by now.
    pub(crate) fn rest(&self) -> Vec<Mail> {
        self.mails.try_iter().collect()
    }
}

async fn serve(listener: StdListener, taken: Sender<Mail>) {
    let listener = TcpListener::from_std(listener).expect("a socket");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        // A client that hangs up in the middle shows as a mail that is missing.
        tokio::spawn(converse(stream, taken.clone()));
    }
}

/// What is known of a mail that is on its way.
#[derive(Default)]
struct Envelope {
    hello: Option<i64>,
    from: i64,
    to: String,
}

async fn converse(mut stream: TcpStream, taken: Sender<Mail>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 localhost ESMTP\r\n").await?;
    let mut envelope = Envelope::default();
    let mut waiting = Vec::new();
    let mut line_begun = 0;
    let mut in_data = false;
    loop {
        let mut bytes = [0; 4_096];
        let read = stream.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        let read_at = now();
        if waiting.is_empty() {
            line_begun = read_at;
        }
        waiting.extend_from_slice(&bytes[..read]);
        let mut replies = String::new();
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            let line = String::from_utf8_lossy(line.trim_ascii_end());
            let begun = mem::replace(&mut line_begun, read_at);
            if in_data {
                if line == "." {
                    in_data = false;
                    let Envelope { hello, from, to } = mem::take(&mut envelope);
                    let taken_at = now();
                    replies.push_str("250 2.0.0 taken\r\n");
                    // Nobody listens any more when the benchmark ends.
                    let _ = taken.send(Mail {
                        to,
                        hello,
                        from,
                        taken: taken_at,
                    });
                }
                continue;
            }
            let verb = line.split([' ', ':']).next().unwrap_or_default();
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => {
                    envelope.hello = Some(begun);
                    replies.push_str("250-localhost\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
                }
                "MAIL" => {
                    envelope.from = begun;
                    replies.push_str("250 2.1.0 ok\r\n");
                }
                "RCPT" => {
                    envelope.to = address(&line);
                    replies.push_str("250 2.1.5 ok\r\n");
                }
                "DATA" => {
                    in_data = true;
                    replies.push_str("354 go on\r\n");
                }
                "RSET" | "NOOP" => replies.push_str("250 2.0.0 ok\r\n"),
                "QUIT" => {
                    stream.write_all(b"221 2.0.0 bye\r\n").await?;
                    return Ok(());
                }
                _ => replies.push_str("502 5.5.1 unknown\r\n"),
            }
        }
        stream.write_all(replies.as_bytes()).await?;
    }
}

/// The address in `RCPT TO:<address>`.
fn address(line: &str) -> String {
    let address = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    address.expect("an address").0.to_owned()
}
