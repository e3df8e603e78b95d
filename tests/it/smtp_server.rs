//! A real mail server on the loopback interface, in a process of its own: `smtp_server.py`.
//!
//! What a recipient's address begins with decides how the server misbehaves; the script says how.

use std::fmt::Debug;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::python;

const PACKAGES: &[&str] = &["aiosmtpd==1.4.6"];

/// How long anything that a test waits for may take, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; it ends when this is dropped.
pub(crate) struct SmtpServer {
    port: u16,
    mails: Mutex<UnboundedReceiver<Mail>>,
    attempts: Mutex<UnboundedReceiver<String>>,
    process: Child,
    /// Held, not used: the server ends when this is closed, even if the test is killed.
    _stdin: ChildStdin,
}

/// A message that the server accepted.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Mail {
    /// The sender in the envelope.
    pub(crate) from: String,
    /// The recipients in the envelope.
    pub(crate) to: Vec<String>,
    /// Who had logged in, if anybody.
    pub(crate) user: Option<String>,
    /// The message as it was sent.
    pub(crate) data: String,
    /// Names and decoded values of the headers, in order.
    headers: Vec<(String, String)>,
    /// The decoded plain text, its lines ended by a line feed.
    pub(crate) body: String,
    /// The media types and the decoded texts of all parts, in order.
    pub(crate) parts: Vec<(String, String)>,
    /// When the first byte came that its connection had for it, in seconds since 1970.
    pub(crate) at: f64,
    /// When it had come wholly, in seconds since 1970.
    pub(crate) received: f64,
}

impl Mail {
    /// The decoded value of the first header called `name`, in whatever case.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    }
}

impl SmtpServer {
    /// Starts a server on a free port, which offers SMTPUTF8 and asks for no login.
    pub(crate) async fn start() -> Self {
        Self::start_on(0).await
    }

    /// The same on a port of choice, such as that of a server that was stopped.
    pub(crate) async fn start_on(port: u16) -> Self {
        Self::start_with(port, &["--smtputf8"]).await
    }

    /// Starts a server with options of the script, on a port of choice or (0) a free one.
    pub(crate) async fn start_with(port: u16, options: &[&str]) -> Self {
        let python = python::with_packages("test-venv", PACKAGES).await;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/smtp_server.py");
        let mut process = Command::new(python)
            .args([script, "--port", &port.to_string()])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server can be started");
        let stdin = process.stdin.take().expect("it is piped");
        let stdout = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let first = within_patience("the mail server does not start", lines.next_line()).await;
        let first = first.expect("its output can be read");
        let first = first.expect("the mail server ended at once; it has said why above");
        let Line::Port(port) = read_line(&first) else {
            panic!("not a port: {first}");
        };
        let (to_mails, mails) = unbounded_channel();
        let (to_attempts, attempts) = unbounded_channel();
        tokio::spawn(sort(lines, to_mails, to_attempts));
        Self {
            port,
            mails: Mutex::new(mails),
            attempts: Mutex::new(attempts),
            process,
            _stdin: stdin,
        }
    }

    /// The port it listens on, at 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the next message that is accepted.
    pub(crate) async fn next_message(&self) -> Mail {
        let mut mails = self.mails.lock().await;
        let mail = within_patience("no message came", mails.recv()).await;
        mail.expect("the mail server ended while a message was waited for")
    }

    /// The next message, if one has been accepted already.
    pub(crate) fn try_mail(&self) -> Option<Mail> {
        self.mails.try_lock().ok()?.try_recv().ok()
    }

    /// Waits until the next recipient is named to the server, and returns its address. Those that are
    /// refused or left without an answer count as well.
    pub(crate) async fn next_attempt(&self) -> String {
        let mut attempts = self.attempts.lock().await;
        let attempt = within_patience("nobody tried to send", attempts.recv()).await;
        attempt.expect("the mail server ended while an attempt was waited for")
    }

    /// Kills the server, and returns when its port is free.
    pub(crate) async fn stop(mut self) {
        let killed = within_patience("the mail server does not end", self.process.kill()).await;
        killed.expect("the mail server can be killed");
    }
}

/// A line of the script's output.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Port(u16),
    Attempt(String),
    Mail(Box<Mail>),
}

fn read_line(line: &str) -> Line {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

async fn sort(
    mut lines: Lines<BufReader<ChildStdout>>,
    mails: UnboundedSender<Mail>,
    attempts: UnboundedSender<String>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        // A test that is over wants to hear no more.
        let _ = match read_line(&line) {
            Line::Mail(mail) => mails.send(*mail).map_err(drop),
            Line::Attempt(address) => attempts.send(address).map_err(drop),
            Line::Port(_) => Ok(()),
        };
    }
}

async fn within_patience<T: Debug>(otherwise: &str, wanted: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(PATIENCE, wanted).await;
    answer.unwrap_or_else(|_| panic!("{otherwise}, in {PATIENCE:?}"))
}

mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use lettre::message::Mailbox;
    use lettre::message::header::ContentType;
    use lettre::transport::smtp::authentication::Credentials;
    use lettre::transport::smtp::response::Response;
    use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

    use super::*;

    type Transport = AsyncSmtpTransport<Tokio1Executor>;
    type Sent = Result<Response, lettre::transport::smtp::Error>;

    async fn send(server: &SmtpServer, to: &str) -> Sent {
        let transport = Transport::builder_dangerous("127.0.0.1").port(server.port());
        transport.build().send(message(to)).await
    }

    fn message(to: &str) -> Message {
        let to: Address = to.parse().expect("an address");
        Message::builder()
            .from("Watch <watch@example.com>".parse().expect("a mailbox"))
            .to(Mailbox::new(None, to))
            .subject("Größe und mehr, und zwar so viel mehr, dass die Zeile umgebrochen wird")
            .header(ContentType::TEXT_PLAIN)
            .body("Grüße\n.\nund = mehr\n".to_owned())
            .expect("a message")
    }

    /// The code with which the server refused a message, or `None` if it gave no answer.
    async fn refusal(server: &SmtpServer, to: &str) -> Option<u16> {
        let sent = send(server, to).await;
        let error = sent.expect_err("it is not accepted");
        assert_eq!(server.next_attempt().await, to);
        error.status().map(u16::from)
    }

    #[tokio::test]
    async fn it_takes_messages_and_shows_them_decoded() {
        let server = SmtpServer::start().await;
        assert!(server.try_mail().is_none());
        let sent = send(&server, "ann@example.com").await;
        sent.expect("it is accepted");
        assert_eq!(server.next_attempt().await, "ann@example.com");
        let mail = server.next_message().await;
        assert_eq!(mail.from, "watch@example.com");
        assert_eq!(mail.to, ["ann@example.com"]);
        assert_eq!(mail.user, None);
        assert_eq!(
            mail.header("subject").as_deref(),
            Some("Größe und mehr, und zwar so viel mehr, dass die Zeile umgebrochen wird")
        );
        assert_eq!(mail.header("To").as_deref(), Some("ann@example.com"));
        assert_eq!(mail.header("X-Absent"), None);
        assert_eq!(mail.body.trim_end(), "Grüße\n.\nund = mehr");
        assert_eq!(mail.parts, [("text/plain".to_owned(), mail.body.clone())]);
        assert!(mail.data.contains("Subject: =?utf-8?"), "{}", mail.data);
        assert!(mail.at > 1e9 && mail.received >= mail.at, "{mail:?}");
        assert!(server.try_mail().is_none());
    }

    #[tokio::test]
    async fn it_refuses_for_good_and_for_now() {
        let server = SmtpServer::start().await;
        assert_eq!(refusal(&server, "refused.1@example.com").await, Some(550));
        assert_eq!(refusal(&server, "busy@example.com").await, Some(451));
        assert_eq!(refusal(&server, "rejected@example.com").await, Some(554));
        assert_eq!(refusal(&server, "drop@example.com").await, None);
        assert_eq!(refusal(&server, "busyonce@example.com").await, Some(451));
        let again = send(&server, "busyonce@example.com").await;
        again.expect("the second time it is accepted");
        assert_eq!(server.next_message().await.to, ["busyonce@example.com"]);
        assert!(server.try_mail().is_none());
    }

    #[tokio::test]
    async fn it_keeps_silent_on_request() {
        let server = SmtpServer::start().await;
        for to in ["stall@example.com", "stalldata@example.com"] {
            let sent = send(&server, to);
            let answer = tokio::time::timeout(Duration::from_millis(300), sent).await;
            assert!(answer.is_err(), "{to}: {answer:?}");
            assert_eq!(server.next_attempt().await, to);
        }
        // It listens to others meanwhile.
        let sent = send(&server, "ann@example.com").await;
        sent.expect("it is accepted");
        assert_eq!(server.next_message().await.to, ["ann@example.com"]);
    }

    #[tokio::test]
    async fn it_hangs_on_quit_on_request() {
        let server = SmtpServer::start().await;
        for (to, is_answered) in [("ann@example.com", true), ("hangquit@example.com", false)] {
            let script = format!(
                "EHLO me\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<{to}>\r\nDATA\r\n\
                 Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"
            );
            let port = server.port();
            let said = tokio::task::spawn_blocking(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
                let patience = if is_answered {
                    PATIENCE
                } else {
                    Duration::from_millis(500)
                };
                stream.set_read_timeout(Some(patience)).expect("a time-out");
                stream.write_all(script.as_bytes()).expect("it listens");
                let mut said = Vec::new();
                // What came before the time-out is kept.
                let _ = stream.read_to_end(&mut said);
                String::from_utf8_lossy(&said).into_owned()
            });
            let said = said.await.expect("it does not panic");
            assert!(said.contains("250 2.0.0 taken"), "{said}");
            assert_eq!(said.contains("221 "), is_answered, "{said}");
            assert_eq!(server.next_message().await.to, [to]);
        }
    }

    #[tokio::test]
    async fn it_asks_for_a_login() {
        let server = SmtpServer::start_with(0, &["--auth", "watch:s3:cret"]).await;
        assert!(send(&server, "ann@example.com").await.is_err());
        for (password, is_right) in [("wrong", false), ("s3:cret", true)] {
            let transport = Transport::builder_dangerous("127.0.0.1")
                .port(server.port())
                .credentials(Credentials::new("watch".to_owned(), password.to_owned()))
                .build();
            let sent = transport.send(message("ann@example.com")).await;
            assert_eq!(sent.is_ok(), is_right, "{sent:?}");
        }
        assert_eq!(server.next_message().await.user.as_deref(), Some("watch"));
        assert!(server.try_mail().is_none());
    }

    #[tokio::test]
    async fn it_can_be_stopped_and_started_on_the_same_port() {
        let first = SmtpServer::start().await;
        let port = first.port();
        let sent = send(&first, "ann@example.com").await;
        sent.expect("it is accepted");
        first.next_message().await;
        first.stop().await;
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        let second = SmtpServer::start_on(port).await;
        let sent = send(&second, "bob@example.com").await;
        sent.expect("it is accepted");
        assert_eq!(second.next_message().await.to, ["bob@example.com"]);
    }
}
