//! Notices as mails.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::address::Address;
use lettre::message::header::{self, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail, MultiPart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Severity;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connections::{Connection, Idle};
use super::html;
use crate::app::config::BaseUrl;
use crate::domain::{NoticeKind, Timestamp};
use crate::ports::{Clock, Message, Notifier, NotifyError, Progress};

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all.
    None,
    /// By an upgrade that must succeed before anything is sent.
    StartTls,
    /// From the first byte.
    Tls,
}

/// Where and as whom mail is handed over.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    /// Who mails come from: an address, or `Name <address>`.
    pub sender: String,
    /// The mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Name and password, if the server wants them.
    pub login: Option<(String, SecretString)>,
    /// How the connection is protected.
    pub encryption: Encryption,
    /// Where the pages are that mails link to; without it they have no links.
    pub base_url: Option<BaseUrl>,
}

/// Why no mail could be sent with some settings, whatever the server says.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// The sender is not an address.
    #[error("the sender is not an e-mail address")]
    Sender(#[source] lettre::address::AddressError),
    /// The host cannot be the name in a certificate, or no trusted certificates were found.
    #[error("encryption cannot be set up")]
    Encryption(#[source] lettre::transport::smtp::Error),
}

/// Hands mails to one SMTP server, a dialogue for each recipient, and a connection for each dialogue while it lasts.
///
/// So a recipient that the server refuses, or hangs over, costs no other recipient anything. A connection whose
/// dialogue came to its good end waits a while for the next one; all others are closed.
pub struct SmtpNotifier {
    sender: Mailbox,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
    encryption: Encryption,
    base_url: Option<BaseUrl>,
    tls: Option<TlsParameters>,
    hello: ClientId,
    clock: Arc<dyn Clock>,
    /// How many name look-ups may be under way. Each has a thread, also after nobody waits for it any more.
    lookups: Arc<Semaphore>,
    idle: Arc<Idle>,
}

/// What a notifier of mails is about, and so what its failures are counted by.
mod stage {
    pub(super) const COMPOSING: &str = "composing";
    pub(super) const CONNECTING: &str = "connecting";
    pub(super) const LOGGING_IN: &str = "logging in";
    pub(super) const SENDER: &str = "naming the sender";
    pub(super) const RECIPIENT: &str = "naming the recipient";
    pub(super) const BEGINNING: &str = "beginning the mail";
    pub(super) const HANDING_OVER: &str = "handing over the mail";
}

type Cause = Box<dyn Error + Send + Sync>;

const OUT_OF_STEP: &str = "the answer does not fit the command";

impl SmtpNotifier {
    /// The stages of an attempt, in their order.
    pub const STAGES: [&str; 7] = [
        stage::COMPOSING,
        stage::CONNECTING,
        stage::LOGGING_IN,
        stage::SENDER,
        stage::RECIPIENT,
        stage::BEGINNING,
        stage::HANDING_OVER,
    ];
    /// How long it may take to reach the server.
    const CONNECT: Duration = Duration::from_secs(10);
    /// How long the whole dialogue may take.
    const DIALOGUE: Duration = Duration::from_mins(1);
    /// How long the server may take for its first answer on a connection that has waited, which it or a firewall
    /// may have forgotten.
    const FIRST_ANSWER: Duration = Duration::from_secs(3);

    /// A notifier with these settings, which dates its mails by `clock`. It does not connect yet.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings`] if mails could never be sent.
    pub fn new(settings: SmtpSettings, clock: Arc<dyn Clock>) -> Result<Self, InvalidSettings> {
        let tls = match settings.encryption {
            Encryption::None => None,
            Encryption::StartTls | Encryption::Tls => {
                let tls = TlsParameters::new(settings.host.clone());
                Some(tls.map_err(InvalidSettings::Encryption)?)
            }
        };
        Ok(Self {
            sender: settings.sender.parse().map_err(InvalidSettings::Sender)?,
            host: settings.host,
            port: settings.port,
            credentials: settings.login.map(|(name, password)| {
                Credentials::new(name, password.expose_secret().to_owned())
            }),
            encryption: settings.encryption,
            base_url: settings.base_url,
            tls,
            hello: ClientId::default(),
            clock,
            lookups: Arc::new(Semaphore::new(4)),
            idle: Idle::new(),
        })
    }

    fn compose(&self, message: &Message, to: Address) -> Result<String, Cause> {
        let notice = &message.notice;
        let id = |id| format!("<{id}@{}>", self.sender.email.domain());
        let now = u64::try_from(self.clock.now().millis()).unwrap_or(0);
        let mut mail = Mail::builder()
            .from(self.sender.clone())
            .to(Mailbox::new(None, to))
            // What looks like an encoded word is not to be decoded.
            .subject(notice.subject().replace("=?", "= ?"))
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(now))
            .message_id(Some(id(notice.id)))
            .header(AutoSubmitted);
        if let NoticeKind::Resumed {
            late: Some(late), ..
        } = notice.kind
        {
            mail = mail.in_reply_to(id(late)).references(id(late));
        }
        let base_url = self.base_url.as_ref();
        let page = base_url.map(|url| url.page_of(&message.slug));
        let content = notice.content(&message.events, page);
        let text = content.plain_text();
        let mail = if content.page.is_some() {
            let html = html::document(notice, &content);
            mail.multipart(MultiPart::alternative_plain_html(text, html))
        } else {
            mail.header(header::MIME_VERSION_1_0)
                .header(header::ContentType::TEXT_PLAIN)
                .body(text)
        };
        Ok(String::from_utf8(mail?.formatted())?)
    }

    /// The server's addresses. The look-up goes on when the caller no longer waits, and keeps its place.
    async fn look_up(&self) -> Result<Vec<SocketAddr>, Cause> {
        let place = Arc::clone(&self.lookups).acquire_owned().await?;
        let (host, port) = (self.host.clone(), self.port);
        let lookup = tokio::spawn(async move {
            let addresses = lookup_host((host.as_str(), port)).await;
            drop(place);
            addresses.map(Iterator::collect)
        });
        Ok(lookup.await??)
    }

    /// A new connection on which the server has greeted us, and when our first byte left on it.
    async fn connect(&self) -> Result<(AsyncSmtpConnection, Timestamp), Cause> {
        let server = self.look_up().await?;
        let server = server.as_slice();
        if self.encryption == Encryption::Tls {
            let tls = self.tls.clone();
            let connection =
                AsyncSmtpConnection::connect_tokio1(server, None, &self.hello, tls, None);
            let connection = connection.await?;
            // The handshake began with our byte, so this is later than that.
            return Ok((connection, self.clock.now()));
        }
        let stream = TcpStream::connect(server).await?;
        // What follows the end of a handshake would wait until that is acknowledged.
        stream.set_nodelay(true)?;
        // The server speaks first, and is answered at once.
        stream.readable().await?;
        let begun = self.clock.now();
        let mut connection =
            AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello).await?;
        if let Some(tls) = &self.tls {
            connection.starttls(tls.clone(), &self.hello).await?;
        }
        Ok((connection, begun))
    }

    /// The dialogue. What goes wrong before the server has heard of the recipient says nothing about the
    /// recipient, so it can be tried again, whatever the server says.
    async fn hand_over(
        &self,
        to: Address,
        mail: &str,
        progress: &mut Progress,
    ) -> Result<(), NotifyError> {
        let mut connection = self.begin(&to, mail, progress).await?;
        let wire = &mut connection.wire;
        progress.stage = stage::RECIPIENT;
        let recipient = wire.command(Rcpt::new(to, Vec::new())).await;
        recipient.map_err(|cause| self.about_recipient(progress.stage, cause))?;
        progress.stage = stage::BEGINNING;
        let begun = wire.command(Data).await;
        let begun = begun.map_err(|cause| self.about_recipient(progress.stage, cause))?;
        // This answer is like no other. If it is another then somebody gave an answer too many, and the next ones
        // would be taken for what they are not, up to a success that is none.
        if !begun.has_code(354) {
            return Err(self.try_again(progress.stage, OUT_OF_STEP));
        }
        progress.stage = stage::HANDING_OVER;
        let taken = wire.command(Content(mail)).await;
        let taken = taken.map_err(|cause| self.about_recipient(progress.stage, cause))?;
        if taken.code().severity != Severity::PositiveCompletion {
            return Err(self.try_again(progress.stage, OUT_OF_STEP));
        }
        // The mail is theirs now.
        if taken.has_code(250) {
            self.idle.keep(connection);
        } else {
            self.idle.part_with(connection);
        }
        Ok(())
    }

    /// A connection on which the server has accepted the sender.
    ///
    /// Until then nothing was handed over. So if that fails on a connection that has waited, in whatever way, a new
    /// one takes its place, and nobody is told.
    async fn begin(
        &self,
        to: &Address,
        mail: &str,
        progress: &mut Progress,
    ) -> Result<Connection, NotifyError> {
        if let Some(mut connection) = self.idle.take() {
            progress.begun = Some(self.clock.now());
            let named = self.name_sender(&mut connection, to, mail, progress);
            if let Ok(Ok(())) = timeout(Self::FIRST_ANSWER, named).await {
                return Ok(connection);
            }
            progress.begun = None;
        }
        progress.stage = stage::CONNECTING;
        let wire = timeout(Self::CONNECT, self.connect()).await;
        let wire = wire.unwrap_or_else(|_| Err("no answer in time".into()));
        let (mut wire, begun) = wire.map_err(|cause| self.try_again(progress.stage, cause))?;
        progress.begun = Some(begun);
        if let Some(credentials) = &self.credentials {
            progress.stage = stage::LOGGING_IN;
            let login = wire.auth(&[Mechanism::Plain, Mechanism::Login], credentials);
            login
                .await
                .map_err(|cause| self.try_again(progress.stage, cause))?;
        }
        let mut connection = Connection::new(wire);
        self.name_sender(&mut connection, to, mail, progress)
            .await?;
        Ok(connection)
    }

    async fn name_sender(
        &self,
        connection: &mut Connection,
        to: &Address,
        mail: &str,
        progress: &mut Progress,
    ) -> Result<(), NotifyError> {
        progress.stage = stage::SENDER;
        let wire = &mut connection.wire;
        let mut parameters = Vec::new();
        if !to.to_string().is_ascii() {
            if !wire.server_info().supports_feature(Extension::SmtpUtfEight) {
                let reason = "the mail server does not take addresses with such letters";
                return Err(NotifyError::Refused(reason.into()));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !mail.is_ascii() {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let from = MailFrom::new(Some(self.sender.email.clone()), parameters);
        let from = wire.command(from).await;
        from.map_err(|cause| self.try_again(progress.stage, cause))?;
        Ok(())
    }

    fn about_recipient(
        &self,
        stage: &'static str,
        cause: lettre::transport::smtp::Error,
    ) -> NotifyError {
        if cause.is_permanent() {
            NotifyError::Refused(Box::new(self.failure(stage, cause)))
        } else {
            self.try_again(stage, cause)
        }
    }

    fn try_again(&self, stage: &'static str, cause: impl Into<Cause>) -> NotifyError {
        NotifyError::TryAgain(Box::new(self.failure(stage, cause)))
    }

    fn failure(&self, stage: &'static str, cause: impl Into<Cause>) -> Failure {
        Failure {
            host: self.host.clone(),
            port: self.port,
            stage,
            cause: cause.into(),
        }
    }
}

/// Where in the dialogue with which server something went wrong.
#[derive(Debug, thiserror::Error)]
#[error("{stage} at {host}:{port} failed")]
struct Failure {
    host: String,
    port: u16,
    stage: &'static str,
    #[source]
    cause: Cause,
}

#[async_trait]
impl Notifier for SmtpNotifier {
    async fn deliver(&self, message: &Message, progress: &mut Progress) -> Result<(), NotifyError> {
        progress.stage = stage::COMPOSING;
        let to: Address =
            message.recipient.as_str().parse().map_err(
                |error: lettre::address::AddressError| NotifyError::Refused(error.into()),
            )?;
        let mail = self
            .compose(message, to.clone())
            .map_err(NotifyError::Refused)?;
        let handed = timeout(Self::DIALOGUE, self.hand_over(to, &mail, progress)).await;
        handed.unwrap_or_else(|_| Err(self.try_again(progress.stage, "it took too long")))
    }
}

/// A mail and what ends it, as one piece: in two the second one would wait until the first was acknowledged, for which
/// many systems take 40 ms.
struct Content<'a>(&'a str);

impl fmt::Display for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Lines that begin with a dot get another one, which the server takes away (RFC 5321, 4.5.2).
        let first = if self.0.starts_with('.') { "." } else { "" };
        let rest = self.0.replace("\r\n.", "\r\n..");
        write!(f, "{first}{rest}\r\n.\r\n")
    }
}

/// Tells other programs not to answer: no vacation notes, no bounces of bounces (RFC 3834).
#[derive(Clone, Copy, Debug)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Cause> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
