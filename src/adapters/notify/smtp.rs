//! Notices as mails.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::address::Address;
use lettre::message::header::{self, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::domain::NoticeKind;
use crate::ports::{Clock, Message, Notifier, NotifyError};

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

/// Hands mails to one SMTP server, one recipient and one connection for each.
///
/// So a recipient that the server refuses, or hangs over, costs no other recipient anything.
pub struct SmtpNotifier {
    sender: Mailbox,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
    encryption: Encryption,
    tls: Option<TlsParameters>,
    hello: ClientId,
    clock: Arc<dyn Clock>,
}

type Cause = Box<dyn Error + Send + Sync>;

impl SmtpNotifier {
    /// How long it may take to reach the server.
    const CONNECT: Duration = Duration::from_secs(10);
    /// How long the whole dialogue may take.
    const DIALOGUE: Duration = Duration::from_mins(1);
    /// How long the server may take to say good-bye, once it has taken the mail.
    const FAREWELL: Duration = Duration::from_secs(5);

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
            tls,
            hello: ClientId::default(),
            clock,
        })
    }

    fn compose(&self, message: &Message, to: Address) -> Result<Vec<u8>, Cause> {
        let notice = &message.notice;
        let id = |id| format!("<{id}@{}>", self.sender.email.domain());
        let now = u64::try_from(self.clock.now().millis()).unwrap_or(0);
        let mut mail = Mail::builder()
            .from(self.sender.clone())
            .to(Mailbox::new(None, to))
            .subject(notice.subject())
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(now))
            .message_id(Some(id(notice.id)))
            .header(AutoSubmitted)
            .header(header::ContentType::TEXT_PLAIN);
        if let NoticeKind::Resumed {
            late: Some(late), ..
        } = notice.kind
        {
            mail = mail.in_reply_to(id(late)).references(id(late));
        }
        Ok(mail.body(notice.body(&message.events))?.formatted())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Cause> {
        let connection = async {
            if self.encryption == Encryption::Tls {
                let server = (self.host.as_str(), self.port);
                let tls = self.tls.clone();
                return Ok(AsyncSmtpConnection::connect_tokio1(
                    server,
                    None,
                    &self.hello,
                    tls,
                    None,
                )
                .await?);
            }
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            // A mail is written in small pieces, each of which would wait for the one before it to be
            // acknowledged.
            stream.set_nodelay(true)?;
            let mut connection =
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello).await?;
            if let Some(tls) = &self.tls {
                connection.starttls(tls.clone(), &self.hello).await?;
            }
            Ok::<_, Cause>(connection)
        };
        let mut connection = timeout(Self::CONNECT, connection)
            .await
            .map_err(|_| format!("{}:{} did not answer in time", self.host, self.port))??;
        if let Some(credentials) = &self.credentials {
            connection
                .auth(&[Mechanism::Plain, Mechanism::Login], credentials)
                .await?;
        }
        Ok(connection)
    }

    /// The dialogue. What goes wrong before the server has heard of the recipient says nothing about the
    /// recipient, so it can be tried again, whatever the server says.
    async fn hand_over(&self, to: Address, mail: &[u8]) -> Result<(), NotifyError> {
        let mut connection = self.connect().await.map_err(NotifyError::TryAgain)?;
        let server = connection.server_info();
        let mut parameters = Vec::new();
        if !to.to_string().is_ascii() {
            if !server.supports_feature(Extension::SmtpUtfEight) {
                let reason = "the mail server does not take addresses with such letters";
                return Err(NotifyError::Refused(reason.into()));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !mail.is_ascii() {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let from = MailFrom::new(Some(self.sender.email.clone()), parameters);
        connection
            .command(from)
            .await
            .map_err(|error| NotifyError::TryAgain(error.into()))?;
        connection
            .command(Rcpt::new(to, Vec::new()))
            .await
            .map_err(about_recipient)?;
        connection.command(Data).await.map_err(about_recipient)?;
        connection.message(mail).await.map_err(about_recipient)?;
        // The mail is theirs now. How they say good-bye changes nothing, and nobody waits for it.
        tokio::spawn(async move { timeout(Self::FAREWELL, connection.quit()).await });
        Ok(())
    }
}

fn about_recipient(error: lettre::transport::smtp::Error) -> NotifyError {
    if error.is_permanent() {
        NotifyError::Refused(error.into())
    } else {
        NotifyError::TryAgain(error.into())
    }
}

#[async_trait]
impl Notifier for SmtpNotifier {
    async fn deliver(&self, message: &Message) -> Result<(), NotifyError> {
        let to: Address =
            message.recipient.as_str().parse().map_err(
                |error: lettre::address::AddressError| NotifyError::Refused(error.into()),
            )?;
        let mail = self
            .compose(message, to.clone())
            .map_err(NotifyError::Refused)?;
        timeout(Self::DIALOGUE, self.hand_over(to, &mail))
            .await
            .unwrap_or_else(|_| Err(NotifyError::TryAgain("the mail server hangs".into())))
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
