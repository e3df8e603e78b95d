//! Mails on connections that are used again, against a server that strays from the protocol when told to; and what is
//! in mails, against one that reads them.

use std::sync::Arc;
use std::time::Duration;

use nights_watch::adapters::clock::ManualClock;
use nights_watch::adapters::notify::smtp::{Encryption, SmtpNotifier, SmtpSettings};
use nights_watch::app::config::{BaseUrl, Config, Overrides};
use nights_watch::domain::{
    Description, Event, Name, Notice, NoticeId, NoticeKind, Periodicity, Recipient, Slug,
};
use nights_watch::ports::{Message, Notifier, NotifyError, Progress};
use regex::Regex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use crate::smtp_server::{Mail, SmtpServer};
use crate::support::{BEGIN, within};

/// What the server does instead of what it should.
#[derive(Clone, Copy, Debug)]
enum Stray {
    /// It says something else. Several lines arrive together.
    Say(&'static str),
    /// It ends the connection.
    Close,
    /// It says nothing any more.
    Hang,
    /// It says the first, and the second when the test wants it; it ends the connection if there is no second.
    Later(&'static str, Option<&'static str>),
}

use Stray::{Close, Hang, Later, Say};

/// What happens on a connection, which is counted from zero: `+` when it is opened, the first word of each line,
/// `.` for a whole mail, `-` when it is closed.
type Happening = (usize, String);

type Strays = dyn Fn(usize, &str, usize) -> Option<Stray> + Send + Sync;

/// A mail server, and a notifier that has it.
struct Post {
    notifier: Arc<SmtpNotifier>,
    clock: Arc<ManualClock>,
    port: u16,
    /// Lets the server say what it says later.
    go_on: Arc<Notify>,
    dialogues: mpsc::UnboundedReceiver<Happening>,
    ends: mpsc::UnboundedReceiver<Happening>,
}

/// Where what happens is told: the ends come at any time, the rest before an answer.
#[derive(Clone)]
struct Tell {
    dialogues: mpsc::UnboundedSender<Happening>,
    ends: mpsc::UnboundedSender<Happening>,
}

impl Tell {
    fn tell(&self, connection: usize, word: &str) {
        let is_end = matches!(word, "QUIT" | "-");
        let to = if is_end { &self.ends } else { &self.dialogues };
        // A test that is over wants to hear no more.
        let _ = to.send((connection, word.to_owned()));
    }
}

impl Post {
    /// A server that strays as `strays` says, by the connection, the word, and how often that word was said before
    /// on that connection.
    async fn open(
        strays: impl Fn(usize, &str, usize) -> Option<Stray> + Send + Sync + 'static,
    ) -> Self {
        Self::open_for(settings, strays).await
    }

    /// The same with a notifier whose settings are made from the port.
    async fn open_for(
        settings: impl FnOnce(u16) -> SmtpSettings,
        strays: impl Fn(usize, &str, usize) -> Option<Stray> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (to_dialogues, dialogues) = mpsc::unbounded_channel();
        let (to_ends, ends) = mpsc::unbounded_channel();
        let tell = Tell {
            dialogues: to_dialogues,
            ends: to_ends,
        };
        let go_on = Arc::new(Notify::new());
        let (strays, go) = (Arc::new(strays), Arc::clone(&go_on));
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (strays, go_on, tell) = (Arc::clone(&strays), Arc::clone(&go), tell.clone());
                tokio::spawn(async move {
                    serve(connection, stream, &*strays, &go_on, &tell).await;
                    tell.tell(connection, "-");
                });
            }
        });
        let clock = Arc::new(ManualClock::at(BEGIN));
        let notifier = SmtpNotifier::new(settings(port), clock.clone()).expect("good settings");
        Self {
            notifier: Arc::new(notifier),
            clock,
            port,
            go_on,
            dialogues,
            ends,
        }
    }

    async fn deliver(&self) -> Result<(), NotifyError> {
        self.attempt().await.0
    }

    /// Delivers a mail, and says how far that came.
    async fn attempt(&self) -> (Result<(), NotifyError>, Progress) {
        let mut progress = Progress::default();
        let result = within(self.notifier.deliver(&message(), &mut progress)).await;
        (result, progress)
    }

    /// What has happened since this was last asked, but for the ends.
    fn heard(&mut self) -> String {
        let mut heard = Vec::new();
        while let Ok((connection, word)) = self.dialogues.try_recv() {
            heard.push(format!("{connection}{word}"));
        }
        heard.join(" ")
    }

    /// Waits until `word` is said on any connection.
    async fn hears(&mut self, word: &str) {
        let heard =
            async { while self.dialogues.recv().await.expect("the server runs").1 != word {} };
        within(heard).await;
    }

    /// Waits for a good-bye or the end of a connection.
    async fn end(&mut self) -> String {
        let (connection, word) = within(self.ends.recv()).await.expect("the server runs");
        format!("{connection}{word}")
    }
}

async fn serve(
    connection: usize,
    stream: TcpStream,
    strays: &Strays,
    go_on: &Notify,
    tell: &Tell,
) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut said = Vec::new();
    let mut word = "+".to_owned();
    loop {
        tell.tell(connection, &word);
        let before = said.iter().filter(|said| **said == word).count();
        let usual = match word.as_str() {
            "+" => "220 localhost",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 fine",
        };
        let (answer, later) = match strays(connection, &word, before) {
            None => (usual, None),
            Some(Say(answer)) => (answer, None),
            Some(Later(answer, later)) => (answer, Some(later)),
            Some(Close) => return None,
            Some(Hang) => loop {
                lines.next_line().await.ok()??;
            },
        };
        if !answer.is_empty() {
            let answer = format!("{answer}\r\n");
            write.write_all(answer.as_bytes()).await.ok()?;
        }
        if let Some(later) = later {
            go_on.notified().await;
            let later = format!("{}\r\n", later?);
            write.write_all(later.as_bytes()).await.ok()?;
        }
        let is_mail = answer.starts_with("354");
        said.push(word);
        let mut line = lines.next_line().await.ok()??;
        while is_mail && line != "." {
            line = lines.next_line().await.ok()??;
        }
        let first = line.split([' ', ':']).next();
        word = first.map(str::to_owned)?;
    }
}

fn settings(port: u16) -> SmtpSettings {
    SmtpSettings {
        sender: "watch@example.org".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        login: None,
        encryption: Encryption::None,
        base_url: None,
    }
}

fn message() -> Message {
    let periodicity = Periodicity::from_seconds(60.0).expect("a periodicity");
    let id = NoticeId::parse("6f5b6d1c-0c3e-4b0a-9a53-2d6e1f7c8e24");
    Message {
        notice: Notice {
            id: id.expect("an identity"),
            kind: NoticeKind::Late,
            at: BEGIN,
            name: Name::parse("Backup").expect("a name"),
            description: Description::parse("").expect("a description"),
            periodicity,
            deadline: BEGIN,
            last_event: BEGIN,
            recipients: Vec::new(),
        },
        events: Vec::new(),
        recipient: Recipient::parse("ops@example.org").expect("an address"),
        slug: slug("backup"),
    }
}

fn slug(text: &str) -> Slug {
    Slug::from_text(text.to_owned())
}

/// A mail on a connection that is new.
fn fresh(connection: usize) -> String {
    format!("{connection}+ {connection}EHLO {}", again(connection))
}

/// A mail on a connection that has served before.
fn again(c: usize) -> String {
    format!("{c}MAIL {c}RCPT {c}DATA {c}.")
}

fn by_the_book(_: usize, _: &str, _: usize) -> Option<Stray> {
    None
}

/// A stray at the time that `word` is said for the `n`th time, from zero, on the first connection.
fn once(
    word: &'static str,
    n: usize,
    stray: Stray,
) -> impl Fn(usize, &str, usize) -> Option<Stray> + Send + Sync + 'static {
    move |connection, said, before| ((connection, said, before) == (0, word, n)).then_some(stray)
}

#[tokio::test]
async fn a_connection_serves_one_mail_after_the_other() {
    let mut post = Post::open(by_the_book).await;
    post.deliver().await.expect("it is taken");
    assert_eq!(post.heard(), fresh(0));
    for _ in 0..2 {
        post.deliver().await.expect("it is taken");
        assert_eq!(post.heard(), again(0));
    }
}

#[tokio::test]
async fn mails_at_the_same_time_have_a_connection_each() {
    let mut post = Post::open(by_the_book).await;
    for opened in [2, 0] {
        let (one, other) = tokio::join!(post.deliver(), post.deliver());
        one.and(other).expect("they are taken");
        let heard = post.heard();
        assert_eq!(heard.matches('+').count(), opened, "{heard}");
        for taken in ["0.", "1."] {
            assert_eq!(heard.matches(taken).count(), 1, "{heard}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_has_served_a_hundred_mails_is_closed() {
    let mut post = Post::open(by_the_book).await;
    for _ in 0..100 {
        post.deliver().await.expect("it is taken");
    }
    assert_eq!(post.heard().matches('+').count(), 1);
    post.deliver().await.expect("it is taken");
    assert_eq!(post.heard(), fresh(1));
    assert_eq!(post.end().await, "0QUIT");
}

#[tokio::test]
async fn a_connection_that_nobody_needs_is_closed_politely() {
    let mut post = Post::open(by_the_book).await;
    let (one, other) = tokio::join!(post.deliver(), post.deliver());
    one.and(other).expect("they are taken");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(14)).await;
    // One of the two is needed, and so stays.
    post.heard();
    post.deliver().await.expect("it is taken");
    let heard = post.heard();
    let busy = usize::from(heard.starts_with('1'));
    assert_eq!(heard, again(busy));
    let mut ends = Vec::new();
    while ends.len() < 4 {
        ends.push(post.end().await);
    }
    let quits: Vec<_> = ends
        .into_iter()
        .filter(|end| end.ends_with("QUIT"))
        .collect();
    assert_eq!(quits, [format!("{}QUIT", 1 - busy), format!("{busy}QUIT")]);
    post.deliver().await.expect("it is taken");
    assert_eq!(post.heard(), fresh(2));
}

#[tokio::test]
async fn a_connection_that_is_no_good_any_more_costs_the_next_mail_nothing() {
    let strays = [
        (".", 0, Say("250 taken\r\n421 too idle")),
        (".", 0, Say("250 taken\r\n250 and once more")),
        (".", 0, Later("250 taken", Some("421 too idle"))),
        (".", 0, Later("250 taken", None)),
        ("MAIL", 1, Say("421 going down")),
        ("MAIL", 1, Say("452 enough of you")),
        ("MAIL", 1, Close),
        ("MAIL", 1, Hang),
    ];
    for (word, n, stray) in strays {
        let mut post = Post::open(once(word, n, stray)).await;
        post.deliver().await.expect("it is taken");
        assert_eq!(post.heard(), fresh(0));
        if matches!(stray, Later(..)) {
            post.go_on.notify_one();
            if matches!(stray, Later(_, None)) {
                assert_eq!(post.end().await, "0-");
            }
        }
        if matches!(stray, Hang) {
            // Nothing but the patience with the connection is waited for.
            tokio::time::pause();
        }
        let (result, progress) = post.attempt().await;
        result.unwrap_or_else(|error| panic!("{stray:?}: {error}"));
        assert_eq!(progress.begun, Some(BEGIN));
        let heard = post.heard();
        let rest = heard.strip_prefix("0MAIL ").unwrap_or(&heard);
        assert_eq!(rest, fresh(1), "{stray:?}");
        post.deliver().await.expect("it is taken");
        assert_eq!(post.heard(), again(1), "{stray:?}");
    }
}

#[tokio::test]
async fn an_answer_too_many_is_noticed_before_it_passes_for_a_success() {
    let strays = [
        ("MAIL", 0, Say("250 fine\r\n250 fine")),
        ("MAIL", 1, Say("250 late\r\n250 fine")),
        ("RCPT", 1, Say("250 fine\r\n250 fine")),
        ("DATA", 1, Say("354 go on\r\n354 go on")),
    ];
    for (word, n, stray) in strays {
        let mut post = Post::open(once(word, n, stray)).await;
        for _ in 0..n {
            post.deliver().await.expect("it is taken");
        }
        post.heard();
        let result = post.deliver().await;
        assert!(
            matches!(result, Err(NotifyError::TryAgain(_))),
            "{result:?}"
        );
        assert_eq!(post.end().await, "0-");
        // A mail that the server has would come again.
        let heard = post.heard();
        assert_eq!(heard.contains('.'), word == "DATA", "{heard}");
        post.deliver().await.expect("it is taken");
        assert_eq!(post.heard(), fresh(1), "{word}");
    }
}

#[tokio::test]
async fn what_goes_wrong_once_the_recipient_is_named_is_not_repeated_by_itself() {
    let strays = [
        ("RCPT", Say("550 unknown"), true),
        ("RCPT", Say("451 later"), false),
        ("RCPT", Say("421 going down"), false),
        ("RCPT", Close, false),
        ("DATA", Close, false),
        (".", Say("554 no"), true),
        (".", Say("451 later"), false),
        (".", Close, false),
    ];
    for (word, stray, is_final) in strays {
        let mut post = Post::open(once(word, 1, stray)).await;
        post.deliver().await.expect("it is taken");
        post.heard();
        let result = post.deliver().await;
        let is_refused = matches!(result, Err(NotifyError::Refused(_)));
        assert!(result.is_err() && is_refused == is_final, "{result:?}");
        let heard = post.heard();
        assert!(again(0).starts_with(&heard), "{heard}");
        post.deliver().await.expect("it is taken");
        assert_eq!(post.heard(), fresh(1), "{word} {stray:?}");
    }
}

#[tokio::test]
async fn a_dialogue_that_is_dropped_leaves_no_connection_behind() {
    for (word, n) in [("MAIL", 1), ("RCPT", 1), ("DATA", 1), (".", 1)] {
        let mut post = Post::open(once(word, n, Hang)).await;
        post.deliver().await.expect("it is taken");
        post.heard();
        let notifier = Arc::clone(&post.notifier);
        let delivery = tokio::spawn(async move {
            let _ = notifier.deliver(&message(), &mut Progress::default()).await;
        });
        post.hears(word).await;
        // It hangs over one, and meanwhile takes others.
        post.deliver().await.expect("it is taken");
        assert_eq!(post.heard(), fresh(1));
        delivery.abort();
        assert_eq!(post.end().await, "0-");
        post.deliver().await.expect("it is taken");
        assert_eq!(post.heard(), again(1));
    }
}

#[tokio::test]
async fn connections_are_closed_with_their_notifier() {
    let mut post = Post::open(by_the_book).await;
    post.deliver().await.expect("it is taken");
    assert!(post.ends.try_recv().is_err());
    let other = SmtpNotifier::new(settings(post.port), post.clock.clone()).expect("good settings");
    post.notifier = Arc::new(other);
    assert_eq!(post.end().await, "0-");
}

#[tokio::test]
async fn an_attempt_begins_with_our_first_byte() {
    let second = Duration::from_secs(1);
    let strays = |connection, word: &str, before| match (connection, word, before) {
        (0, "+", _) => Some(Later("", Some("220 good morning"))),
        (0, "RCPT", 2) => Some(Say("550 unknown")),
        (1, "MAIL", 1) => Some(Close),
        (2, "+", _) => Some(Say("421 closed today")),
        _ => None,
    };
    let mut post = Post::open(strays).await;
    let (notifier, clock) = (Arc::clone(&post.notifier), Arc::clone(&post.clock));
    let first = tokio::spawn(async move {
        let mut progress = Progress::default();
        let result = notifier.deliver(&message(), &mut progress).await;
        (result, progress)
    });
    // The server speaks first, and takes its time.
    post.hears("+").await;
    clock.advance(second);
    post.go_on.notify_one();
    let (result, progress) = within(first).await.expect("no panic");
    result.expect("it is taken");
    assert_eq!(progress.begun, Some(BEGIN.after(second)));

    clock.advance(second);
    let (result, progress) = post.attempt().await;
    result.expect("it is taken");
    assert_eq!(progress.begun, Some(BEGIN.after(2 * second)));

    clock.advance(second);
    let (result, progress) = post.attempt().await;
    result.expect_err("it is refused");
    assert_eq!(progress.begun, Some(BEGIN.after(3 * second)));
    assert_eq!(progress.stage, "naming the recipient");

    // What began on a connection that was no good any more is no beginning.
    post.deliver().await.expect("it is taken");
    let (result, progress) = post.attempt().await;
    result.expect_err("nobody is there");
    let expected = Progress {
        stage: "connecting",
        begun: None,
    };
    assert_eq!(progress, expected);
}

#[tokio::test]
async fn a_server_that_does_not_begin_encryption_hears_nothing_of_it_all() {
    let encrypted = |port| SmtpSettings {
        login: Some(("watch".to_owned(), "s3:cret".into())),
        encryption: Encryption::StartTls,
        ..settings(port)
    };
    for (offer, answer, heard) in [
        ("250 fine", "250 fine", "0+ 0EHLO"),
        (
            "250-fine\r\n250 STARTTLS",
            "454 not now",
            "0+ 0EHLO 0STARTTLS",
        ),
    ] {
        let strays = move |_: usize, word: &str, _: usize| match word {
            "EHLO" => Some(Say(offer)),
            "STARTTLS" => Some(Say(answer)),
            _ => None,
        };
        let mut post = Post::open_for(encrypted, strays).await;
        let (result, progress) = post.attempt().await;
        assert!(
            matches!(result, Err(NotifyError::TryAgain(_))),
            "{result:?}"
        );
        assert_eq!(progress.stage, "connecting");
        assert_eq!(post.heard(), heard);
    }
}

/// `[web] base_url` as the settings have it.
pub(crate) fn base_url(url: &str) -> Option<BaseUrl> {
    let variable = ("NIGHTS_WATCH_WEB_BASE_URL".to_owned(), url.to_owned());
    let config = Config::from_sources(None, [variable], &Overrides::default());
    config.expect("good settings").web.base_url
}

/// The mail that a server gets, by a notifier with this base URL.
async fn mail_of(message: &Message, base_url: Option<BaseUrl>) -> Mail {
    let server = SmtpServer::start().await;
    let settings = SmtpSettings {
        base_url,
        ..settings(server.port())
    };
    let clock = Arc::new(ManualClock::at(BEGIN));
    let notifier = SmtpNotifier::new(settings, clock).expect("good settings");
    let mut progress = Progress::default();
    let delivered = within(notifier.deliver(message, &mut progress)).await;
    delivered.expect("it is taken");
    let mail = server.next_message().await;
    // SMTP has a limit for lines, and the server has not been told of anything beyond ASCII.
    assert!(mail.data.is_ascii(), "{}", mail.data);
    assert!(mail.data.split("\r\n").all(|line| line.len() <= 998));
    mail
}

/// The plain text and the HTML of a mail that has both, and nothing else.
#[track_caller]
fn both(mail: &Mail) -> (&str, &str) {
    let kind = mail.header("Content-Type").expect("a type");
    assert!(kind.starts_with("multipart/alternative;"), "{kind}");
    match mail.parts.as_slice() {
        [(plain, text), (rich, html)] if plain == "text/plain" && rich == "text/html" => {
            (text, html)
        }
        parts => panic!("{parts:?}"),
    }
}

/// What people read of a document, with one space between any two texts.
fn visible(html: &str) -> String {
    let tags = Regex::new("<[^>]*>").expect("an expression");
    let text = tags.replace_all(html, " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

/// A message with everything that a message can have.
fn full_message(name: &str, description: &str, event: &str) -> Message {
    let mut message = message();
    message.notice.name = Name::parse(name).expect("a name");
    message.slug = Slug::of(&message.notice.name);
    message.notice.description = Description::parse(description).expect("a description");
    message.events = vec![Event {
        at: BEGIN,
        text: event.to_owned(),
    }];
    message
}

#[tokio::test]
async fn a_mail_with_a_link_says_the_same_as_plain_text_and_as_html() {
    let mut message = full_message("Nightly backup", "Dumps db1.\nAsk Ann.", "Triggered (a)");
    let url = "https://watch.example.com/ui/watchers/nightly-backup";
    let base_url = base_url("https://watch.example.com/");
    let mail = mail_of(&message, base_url.clone()).await;
    let (text, html) = both(&mail);
    let begin = BEGIN.to_string();
    assert_eq!(
        text.trim_end(),
        format!(
            "Nightly backup has not reported. It was due by {begin}.\n\
             \n\
             \x20 Due by       {begin}\n\
             \x20 Last event   {begin}, 0 seconds before\n\
             \x20 Expected     every 1 minute\n\
             \x20 Page         {url}\n\
             \n\
             What it is:\n\
             \n\
             \x20 Dumps db1.\n\
             \x20 Ask Ann.\n\
             \n\
             Newest events, in UTC:\n\
             \n\
             \x20 {begin}  Triggered (a)"
        )
    );
    assert_eq!(
        visible(html),
        format!(
            "[LATE] Nightly backup has not reported \
             LATE Nightly backup has not reported. It was due by {begin}. \
             Due by {begin} Last event {begin}, 0 seconds before Expected every 1 minute \
             Open the watcher's page \
             What it is Dumps db1. Ask Ann. \
             Newest events, in UTC Time Event {begin} Triggered (a)"
        )
    );
    assert_eq!(html.matches("://").count(), 1, "{html}");
    assert!(html.contains(&format!("<a href=\"{url}\"")), "{html}");
    // Nobody needs a program to read the text.
    assert!(
        mail.data.contains(&text.replace('\n', "\r\n")),
        "{}",
        mail.data
    );

    message.notice.kind = NoticeKind::Resumed {
        late: Some(message.notice.id),
        next_deadline: BEGIN.after(Duration::from_mins(1)),
    };
    let mail = mail_of(&message, base_url).await;
    let (text, html) = both(&mail);
    assert!(text.contains(url), "{text}");
    assert!(html.contains(&format!("<a href=\"{url}\"")), "{html}");
    let visible = visible(html);
    assert!(
        visible.contains("RESUMED Nightly backup is reporting again, since"),
        "{visible}"
    );
    assert!(visible.contains("Next due by"), "{visible}");
    for header in [
        "Auto-Submitted",
        "Date",
        "Message-ID",
        "References",
        "In-Reply-To",
    ] {
        assert!(mail.header(header).is_some(), "{header}");
    }
}

#[tokio::test]
async fn without_a_base_url_a_mail_is_plain_text() {
    let mail = mail_of(&message(), None).await;
    let (head, _) = mail.data.split_once("\r\n\r\n").expect("a head and a body");
    let end = "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
               Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit";
    assert!(head.ends_with(end), "{head}");
    assert!(!mail.body.contains("Page"), "{}", mail.body);
}

#[tokio::test]
async fn lines_that_begin_with_a_dot_arrive_as_they_are() {
    // Too long for a line, so it is broken somewhere.
    let description = format!("Größe {}", ".".repeat(300));
    let message = full_message("Backup", &description, "Triggered");
    let mail = mail_of(&message, None).await;
    assert!(mail.data.contains("\r\n."), "{}", mail.data);
    assert!(mail.body.contains(&description), "{}", mail.body);
}

#[tokio::test]
async fn hostile_texts_are_texts_in_html_too() {
    let name = "</title><script>alert('1')</script> & \"Größe\"";
    let description = "</p><img src=//evil.example onerror=alert(1)>\n&lt;b&gt; <!-- ";
    let event = "Triggered (<a href=\"http://evil.example/\" style='position: fixed'>x</a>)";
    let message = full_message(name, description, event);
    let mail = mail_of(&message, base_url("http://watch.example.com")).await;
    let (text, html) = both(&mail);
    let tag = Regex::new("<(/?[a-z0-9]*)").expect("an expression");
    for (_, [tag]) in tag.captures_iter(html).map(|found| found.extract()) {
        let ours = [
            "", "html", "head", "meta", "title", "body", "div", "span", "h1", "h2", "p", "br", "a",
            "table", "thead", "tbody", "tr", "th", "td",
        ];
        assert!(ours.contains(&tag.trim_start_matches('/')), "{html}");
    }
    assert_eq!(html.matches("<a ").count(), 1, "{html}");
    assert!(!html.contains("<!--"), "{html}");
    let visible = visible(html);
    for shown in description.lines().chain([name, event]) {
        let shown = shown.trim();
        assert!(visible.contains(shown), "{shown} in {visible}");
        assert!(text.contains(shown), "{shown} in {text}");
    }
}

#[tokio::test]
async fn the_link_leads_to_where_the_watcher_is_now() {
    let mut message = full_message("Nightly backup", "", "Triggered");
    message.slug = slug("weekly_Backup");
    let mail = mail_of(&message, base_url("http://watch.example.com")).await;
    let (text, html) = both(&mail);
    let url = "http://watch.example.com/ui/watchers/weekly_Backup";
    assert!(text.contains(&format!(" {url}\n")), "{text}");
    assert!(html.contains(&format!("\"{url}\"")), "{html}");
}

#[tokio::test]
async fn a_link_is_as_long_as_it_has_to_be() {
    let message = full_message(&"東".repeat(255), "", "Triggered");
    let mail = mail_of(&message, base_url("http://watch.example.com")).await;
    let (text, html) = both(&mail);
    let slug = "%E6%9D%B1".repeat(255);
    let url = format!("http://watch.example.com/ui/watchers/{slug}");
    assert!(text.contains(&format!(" {url}\n")), "{text}");
    assert!(html.contains(&format!("\"{url}\"")), "{html}");
}
