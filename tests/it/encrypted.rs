//! Mails on encrypted connections: the real program, and a mail server that speaks TLS.

use std::path::Path;

use crate::certificates::Certificates;
use crate::program::{Program, directory, read_log};
use crate::smtp_server::SmtpServer;

/// The ways of encryption that the program has, by their names in the settings.
const WAYS: [&str; 2] = ["starttls", "tls"];

const FAILED: &str = r#"nights_watch_delivery_errors_total{stage="connecting"}"#;

/// A mail server that wants a login, and TLS before that.
async fn server(way: &str, certificates: &Certificates) -> SmtpServer {
    let (certificate, key) = (certificates.server(), certificates.key());
    let tls = ["--tls", way, "--certificate", &certificate, "--key", &key];
    let options = [&["--auth", "watch:s3:cret"], &tls[..]].concat();
    SmtpServer::start_with(0, &options).await
}

/// The program with that mail server. It trusts nobody but `authority`.
async fn program(place: &Path, way: &str, server: &SmtpServer, authority: &str) -> Program {
    let ini = format!(
        "[email]\nsender = watch@example.org\nhost = localhost\nport = {}\ntls = {way}\n\
         username = watch\npassword = s3:cret\n",
        server.port()
    );
    Program::start_in(place, &ini, &[("SSL_CERT_FILE", authority)]).await
}

#[tokio::test]
async fn mails_and_the_password_go_to_a_server_that_proves_who_it_is() {
    let certificates = Certificates::of(&["localhost"]).await;
    for way in WAYS {
        let (place, server) = (directory(), server(way, &certificates).await);
        let program = program(place.path(), way, &server, &certificates.authority()).await;
        let id = program.create("Backup", "0.5", &["ann@example.com"]).await;
        let late = server.next_message().await;
        let subject = late.header("Subject").expect("a subject");
        assert_eq!(subject, "[LATE] Backup has not reported", "{way}");
        program.done("trigger", &[("id", &id)]).await;
        let resumed = server.next_message().await;
        let subject = resumed.header("Subject").expect("a subject");
        assert!(subject.starts_with("[RESUMED]"), "{way}: {subject}");
        for mail in [late, resumed] {
            assert_eq!(mail.user.as_deref(), Some("watch"), "{way}");
        }
        program
            .until_metric("nights_watch_deliveries_owed", 0.0)
            .await;
        assert!(program.stop().await.success());
    }
}

#[tokio::test]
async fn a_server_that_does_not_prove_who_it_is_gets_nothing() {
    let right = Certificates::of(&["localhost"]).await;
    let unknown = Certificates::of(&["localhost"]).await;
    let other = Certificates::of(&["elsewhere.example"]).await;
    for way in WAYS {
        for (shown, trusted) in [(&unknown, &right), (&other, &other)] {
            let (place, server) = (directory(), server(way, shown).await);
            let program = program(place.path(), way, &server, &trusted.authority()).await;
            program.create("Backup", "0.5", &["ann@example.com"]).await;
            program.until_metric(FAILED, 1.0).await;
            assert_eq!(
                program.metric("nights_watch_deliveries_owed").await,
                Some(1.0)
            );
            let log = read_log(place.path());
            assert!(log.contains("certificate"), "{way}: {log}");
            assert!(!log.contains("s3:cret"), "{way}: {log}");
            assert!(program.stop().await.success());
            assert!(server.try_mail().is_none(), "{way}");
        }
    }
}

#[tokio::test]
async fn what_could_not_go_out_does_once_the_certificate_is_right() {
    let right = Certificates::of(&["localhost"]).await;
    let wrong = Certificates::of(&["localhost"]).await;
    let (place, server) = (directory(), server("starttls", &right).await);
    let first = program(place.path(), "starttls", &server, &wrong.authority()).await;
    first.create("Backup", "0.5", &["ann@example.com"]).await;
    first.until_metric(FAILED, 1.0).await;
    assert!(first.stop().await.success());
    let second = program(place.path(), "starttls", &server, &right.authority()).await;
    assert_eq!(server.next_message().await.to, ["ann@example.com"]);
    assert!(second.stop().await.success());
}
