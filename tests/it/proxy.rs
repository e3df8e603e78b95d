//! A line between a program and a server, which a test can cut.

use tokio::io::{copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy on the loopback interface; it ends when this is dropped.
pub(crate) struct Proxy {
    port: u16,
    line: watch::Sender<Line>,
}

/// What the line is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It passes everything on.
    Good,
    /// Every connection ends at once.
    Cut,
    /// It takes everything, and nothing comes out.
    Silent,
    /// Connections that there are fall silent for good, new ones are good: as after a firewall forgot them.
    Forgotten,
}

impl Proxy {
    /// A good line to the server at `target`.
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (line, state) = watch::channel(Line::Good);
        tokio::spawn(accept(listener, target, state));
        Self { port, line }
    }

    /// The port it listens on, at 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens: `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Changes the line, for the connections that there are as well.
    pub(crate) fn becomes(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn accept(listener: TcpListener, target: String, mut line: watch::Receiver<Line>) {
    loop {
        let accepted = listener.accept();
        let is_over = async { while line.changed().await.is_ok() {} };
        tokio::select! {
            Ok((client, _)) = accepted => drop(tokio::spawn(carry(client, target.clone(), line.clone()))),
            () = is_over => return,
        }
    }
}

async fn carry(mut client: TcpStream, target: String, mut line: watch::Receiver<Line>) {
    let now = *line.borrow_and_update();
    if matches!(now, Line::Good | Line::Forgotten) {
        let Ok(mut server) = TcpStream::connect(target).await else {
            return;
        };
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = line.wait_for(|line| *line != now) => {}
        }
    }
    let mut nowhere = sink();
    // What was swallowed is missing, so a connection that was silent is of no use any more.
    tokio::select! {
        _ = copy(&mut client, &mut nowhere) => {}
        _ = line.wait_for(|line| !matches!(line, Line::Silent | Line::Forgotten)) => {}
    }
}
