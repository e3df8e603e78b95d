//! What each source may say, what wins, and every complaint in full.

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::domain::{HistoryPolicy, Slug};

const FILE: &str = "/etc/nights-watch.ini";

fn from(ini: &str, env: &[(&str, &str)], flags: &Overrides) -> Result<Config, ConfigError> {
    let file = (!ini.is_empty()).then(|| (PathBuf::from(FILE), ini.to_owned()));
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_sources(file, env, flags)
}

#[track_caller]
fn ini(text: &str) -> Config {
    from(text, &[], &Overrides::default()).unwrap()
}

#[track_caller]
fn env(variables: &[(&str, &str)]) -> Config {
    from("", variables, &Overrides::default()).unwrap()
}

/// The complaint about a file, without the name of the file in front.
#[track_caller]
fn check_ini(text: &str, complaint: &str) {
    let error = from(text, &[], &Overrides::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("{FILE}: {complaint}"), "{text}");
}

#[track_caller]
fn check_env(variables: &[(&str, &str)], complaint: &str) {
    let error = from("", variables, &Overrides::default()).unwrap_err();
    assert_eq!(error.to_string(), complaint);
}

fn email(text: &str) -> Email {
    ini(&format!("[email]\nsender = a@example.com\n{text}"))
        .email
        .unwrap()
}

fn mongo_settings(config: Config) -> MongoDb {
    match config.storage {
        Storage::MongoDb(settings) => settings,
        Storage::Sqlite { path } => panic!("SQLite at {}", path.display()),
    }
}

fn sqlite(config: Config) -> PathBuf {
    match config.storage {
        Storage::Sqlite { path } => path,
        Storage::MongoDb(settings) => panic!("{settings:?}"),
    }
}

fn auth_key(config: &Config) -> Option<&str> {
    config
        .wsgi
        .auth_key
        .as_ref()
        .map(ExposeSecret::expose_secret)
}

#[test]
fn nothing_need_be_said() {
    for text in [
        "",
        "\n",
        "[logging]\n[sqlite]\n[wsgi]\n[web]\n[history]\n[monitor]",
    ] {
        let config = ini(text);
        assert_eq!(config.logging.file, None);
        assert!(!config.logging.rotate);
        assert_eq!(config.logging.max_size, 1_048_576);
        assert_eq!(config.logging.backup_count, 5);
        assert!(config.email.is_none());
        assert_eq!(config.wsgi.host, None);
        assert_eq!(config.wsgi.port, 80);
        assert!(config.wsgi.auth_key.is_none());
        assert!(config.web.base_url.is_none());
        assert_eq!(config.history.policy, HistoryPolicy::default());
        assert!(config.monitor.outage_grace.is_zero());
        assert_eq!(sqlite(config), PathBuf::from("nights-watch.db"));
    }
}

#[test]
fn an_empty_text_is_none() {
    let config = ini(
        "[logging]\nfile =\n[sqlite]\npath=\n[wsgi]\nhost=\nauth_key =\n\
         [email]\nsender = a@example.com\nusername=\npassword =",
    );
    assert_eq!(config.logging.file, None);
    assert_eq!(config.wsgi.host, None);
    assert!(config.wsgi.auth_key.is_none());
    assert!(
        config
            .email
            .as_ref()
            .is_some_and(|email| email.login.is_none())
    );
    assert_eq!(sqlite(config), PathBuf::from("nights-watch.db"));
}

#[test]
fn logging_says_where_and_how_much() {
    let logging =
        ini("[logging]\nfile = /var/log/watch.log\nrotate = true\nmax_size = 1\nbackup_count = 0")
            .logging;
    assert_eq!(logging.file, Some(PathBuf::from("/var/log/watch.log")));
    assert!(logging.rotate);
    assert_eq!(logging.max_size, 1);
    assert_eq!(logging.backup_count, 0);
    for (text, expected) in [
        ("true", true),
        ("YES", true),
        ("On", true),
        ("1", true),
        ("false", false),
        ("No", false),
        ("off", false),
        ("0", false),
    ] {
        let logging = ini(&format!("[logging]\nrotate = {text}")).logging;
        assert_eq!(logging.rotate, expected, "{text}");
    }
    check_ini(
        "[logging]\nrotate = maybe",
        r#"[logging] rotate: "maybe" is not true or false (nor yes, no, on, off, 1, 0)"#,
    );
    for wrong in ["0", "-1", "1 MB", "1.5", "", "18446744073709551616"] {
        check_ini(
            &format!("[logging]\nmax_size = {wrong}"),
            &format!("[logging] max_size: {wrong:?} is not a number of bytes (1 or more)"),
        );
    }
    check_ini(
        "[logging]\nbackup_count = +5",
        r#"[logging] backup_count: "+5" is not a number of files (0 or more)"#,
    );
}

#[test]
fn wsgi_says_where_to_listen() {
    let text =
        "[wsgi]\nhost = ::1\nport = 0\nauth_key = open sesame\ntrusted_proxies = 10.0.0.0/8, ::1";
    let config = ini(text);
    let proxies = &config.wsgi.trusted_proxies;
    for (address, is_one) in [("10.1.2.3", true), ("::1", true), ("127.0.0.1", false)] {
        assert_eq!(
            proxies.contain(address.parse().unwrap()),
            is_one,
            "{address}"
        );
    }
    for text in ["", "[wsgi]\ntrusted_proxies ="] {
        assert_eq!(ini(text).wsgi.trusted_proxies, Networks::loopback());
    }
    check_ini(
        "[wsgi]\ntrusted_proxies = proxy.example.com",
        "[wsgi] trusted_proxies: \"proxy.example.com\" is not addresses or networks separated by commas, \
         such as 10.0.0.0/8",
    );
    assert_eq!(config.wsgi.host.as_deref(), Some("::1"));
    assert_eq!(config.wsgi.port, 0);
    assert_eq!(auth_key(&config), Some("open sesame"));
    assert_eq!(ini("[wsgi]\nport = 65535").wsgi.port, 65_535);
    for wrong in ["abc", "65536", "-1", "", "80/tcp"] {
        check_ini(
            &format!("[wsgi]\nport = {wrong}"),
            &format!("[wsgi] port: {wrong:?} is not a port number (0 to 65535)"),
        );
    }
}

#[test]
fn the_web_has_a_base_url() {
    for (text, url) in [
        ("https://watch.example.com", "https://watch.example.com"),
        ("https://watch.example.com/", "https://watch.example.com"),
        ("HTTP://localhost:8080//", "http://localhost:8080"),
        ("http://[::1]:80/", "http://[::1]:80"),
    ] {
        let base_url = ini(&format!("[web]\nbase_url = {text}")).web.base_url;
        let base_url = base_url.expect("a base URL");
        assert_eq!(base_url.as_str(), url);
        assert_eq!(base_url.is_https(), url.starts_with("https"), "{url}");
    }
    assert!(ini("[web]\nbase_url =").web.base_url.is_none());

    let no_scheme = "does not begin with http:// or https://";
    let user = "has a user in it, whom each mail would show";
    let query = "has a query or a fragment (? or #)";
    let port = "has a port that is none";
    let path = "has a path, but pages and trigger URLs are at the root of their host";
    for (text, problem) in [
        ("watch.example.com", no_scheme),
        ("watch.example.com:443", no_scheme),
        ("/ui", no_scheme),
        ("ftp://watch.example.com", no_scheme),
        ("http://", "is not a URL"),
        ("http:///ui", "is not a URL"),
        ("watch.example.com/ui", no_scheme),
        ("http://größe.example.com", "is not a URL"),
        ("http://a b", "is not a URL"),
        ("http://:80", "names no host"),
        ("http://jon:hush@h", user),
        ("http://jon@h", user),
        ("http://h?a=b", query),
        ("http://h/#top", query),
        ("http://h:", port),
        ("http://h:65536", port),
        ("https://h/watch/", path),
        ("http://h/größe", path),
    ] {
        let complaint = format!("[web] base_url: {problem}");
        check_ini(&format!("[web]\nbase_url = {text}"), &complaint);
    }
    check_env(
        &[("NIGHTS_WATCH_WEB_BASE_URL", "localhost")],
        &format!("NIGHTS_WATCH_WEB_BASE_URL: {no_scheme}"),
    );
}

#[test]
fn each_watcher_has_a_page_under_the_base_url() {
    let base_url = ini("[web]\nbase_url = https://h/").web.base_url;
    let base_url = base_url.expect("a base URL");
    for (slug, segment) in [
        ("nightly-backup", "nightly-backup"),
        ("größe", "gr%C3%B6%C3%9Fe"),
        ("a/b?c#d %e", "a%2Fb%3Fc%23d%20%25e"),
    ] {
        let page = base_url.page_of(&Slug::from_text(slug.to_owned()));
        assert_eq!(page, format!("https://h/ui/watchers/{segment}"));
    }
}

#[test]
fn history_has_a_limit() {
    for limit in [1, 10_000] {
        let policy = ini(&format!("[history]\nlimit = {limit}")).history.policy;
        assert_eq!(policy.limit(), limit);
    }
    for wrong in ["0", "10001", "many"] {
        check_ini(
            &format!("[history]\nlimit = {wrong}"),
            &format!("[history] limit: {wrong:?} is not a number of events (1 to 10000)"),
        );
    }
}

#[test]
fn the_monitor_may_be_monitored() {
    for seconds in [0, 600, 31_536_000] {
        let monitor = ini(&format!(
            "[monitor]\noutage_grace = {seconds}\nmax_notice_age = {seconds}"
        ))
        .monitor;
        assert_eq!(monitor.outage_grace.as_secs(), seconds);
        let age = monitor.max_notice_age.map(|age| age.as_secs());
        assert_eq!(age, (seconds > 0).then_some(seconds));
        assert!(monitor.heartbeat.is_none());
    }
    for (key, wrong, least) in [
        ("outage_grace", "-1", 0),
        ("max_notice_age", "31536001", 0),
        ("heartbeat_interval", "0", 1),
        ("heartbeat_interval", "10m", 1),
    ] {
        check_ini(
            &format!("[monitor]\n{key} = {wrong}"),
            &format!("[monitor] {key}: {wrong:?} is not a number of seconds ({least} to 31536000)"),
        );
    }
    let url = "heartbeat_url = http://other.example.com/fbkvlsby";
    let heartbeat = ini(&format!("[monitor]\n{url}")).monitor.heartbeat;
    let heartbeat = heartbeat.expect("a heartbeat");
    assert_eq!(heartbeat.interval.as_secs(), 60);
    assert!(heartbeat.url.expose_secret().ends_with("fbkvlsby"));
    assert!(!format!("{heartbeat:?}").contains("fbkvlsby"));
    let often = ini(&format!("[monitor]\n{url}\nheartbeat_interval = 5")).monitor;
    let interval = often
        .heartbeat
        .map(|heartbeat| heartbeat.interval.as_secs());
    assert_eq!(interval, Some(5));
    check_ini(
        "[monitor]\nheartbeat_interval = 5",
        "[monitor] heartbeat_interval: needs a heartbeat_url too",
    );
}

#[test]
fn sqlite_has_a_path() {
    assert_eq!(
        sqlite(ini("[sqlite]\npath = /var/lib/watch er.db")),
        PathBuf::from("/var/lib/watch er.db")
    );
}

#[test]
fn mongodb_has_hosts_and_may_have_more() {
    let plain = mongo_settings(ini("[mongodb]\nhosts = a, b:27018\nusername =\npassword ="));
    assert_eq!(plain.hosts.expose_secret(), "a, b:27018");
    assert_eq!(plain.database, None);
    assert_eq!(plain.username, None);
    assert!(plain.password.is_none());
    assert_eq!(plain.replica_set, None);
    assert!(plain.options.is_empty());

    let full = mongo_settings(ini(
        "[mongodb]\nhosts: mongodb://a:1,b:2/?w=1\ndatabase = watch\nusername = jon\n\
         password = 0012\nreplicaSet = rs0\ntlsCAFile = /etc/ca.pem\nretryWrites=true",
    ));
    assert_eq!(full.hosts.expose_secret(), "mongodb://a:1,b:2/?w=1");
    assert_eq!(full.database.as_deref(), Some("watch"));
    assert_eq!(full.username.as_deref(), Some("jon"));
    assert_eq!(
        full.password
            .map(|secret| secret.expose_secret().to_owned()),
        Some("0012".to_owned())
    );
    assert_eq!(full.replica_set.as_deref(), Some("rs0"));
    let options: Vec<(&str, &str)> = full
        .options
        .iter()
        .map(|(key, value)| (key.as_str(), value.expose_secret()))
        .collect();
    assert_eq!(
        options,
        [("retryWrites", "true"), ("tlsCAFile", "/etc/ca.pem")]
    );
}

#[test]
fn mongodb_needs_hosts_and_a_user_for_its_password() {
    for text in ["[mongodb]", "[mongodb]\nhosts =\ndatabase = d"] {
        check_ini(
            text,
            "[mongodb] hosts is missing: host names separated by commas, or a connection string",
        );
    }
    check_ini(
        "[mongodb]\nhosts = a\npassword = hush",
        "[mongodb] password: needs a username too",
    );
}

#[test]
fn only_one_storage_can_be_used() {
    let both = "[sqlite] and [mongodb] are both set: only one storage can be used";
    check_ini("[mongodb]\nhosts = a\n[sqlite]", both);
    let text = "[mongodb]\nhosts = a";
    let database = Overrides {
        database: Some("x.db".to_owned()),
        ..Overrides::default()
    };
    let error = from(text, &[], &database).unwrap_err();
    assert_eq!(error.to_string(), format!("--database: {both}"));
    let path = [("NIGHTS_WATCH_SQLITE_PATH", "x.db")];
    let error = from(text, &path, &Overrides::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("NIGHTS_WATCH_SQLITE_PATH: {both}")
    );
}

#[test]
fn email_has_a_sender() {
    for sender in [
        "watch@example.com",
        "root@localhost",
        "Night's Watch <watch@example.com>",
        "\"Watch, Night's\" <watch@example.com>",
    ] {
        let email = ini(&format!("[email]\nsender = {sender}")).email.unwrap();
        assert_eq!(email.sender, sender);
        assert_eq!(email.host, "localhost");
        assert_eq!(email.port, 25);
        assert_eq!(email.tls, Tls::None);
        assert!(email.login.is_none());
    }
    for wrong in [
        "watch",
        "Watch <watch>",
        "a@example.com, b@example.com",
        "Watch, Night's <watch@example.com>",
        "Watch (Night) <watch@example.com>",
        "\"Watch <watch@example.com>",
        "watch@[127.0.0.1]",
    ] {
        check_ini(
            &format!("[email]\nsender = {wrong}"),
            &format!("[email] sender: {wrong:?} is not an address or Name <address>"),
        );
    }
    for text in ["[email]", "[email]\nsender =\nhost = mail"] {
        check_ini(
            text,
            "[email] sender is missing: an address such as watch@example.com",
        );
    }
    check_env(
        &[("NIGHTS_WATCH_EMAIL_SENDER", "a@b\r\nBcc: c@d")],
        r#"NIGHTS_WATCH_EMAIL_SENDER: "a@b\r\nBcc: c@d" is not an address or Name <address>"#,
    );
}

#[test]
fn port_and_encryption_follow_each_other() {
    for (text, port, tls) in [
        ("", 25, Tls::None),
        ("port = 25", 25, Tls::None),
        ("port = 465", 465, Tls::Tls),
        ("port = 587", 587, Tls::StartTls),
        ("port = 2525", 2_525, Tls::None),
        ("tls = none", 25, Tls::None),
        ("tls = STARTTLS", 587, Tls::StartTls),
        ("tls = tls", 465, Tls::Tls),
        ("port = 25\ntls = starttls", 25, Tls::StartTls),
        ("port = 587\ntls = none", 587, Tls::None),
    ] {
        let email = email(text);
        assert_eq!((email.port, email.tls), (port, tls), "{text}");
    }
    let sender = "[email]\nsender = a@example.com\n";
    check_ini(
        &format!("{sender}tls = ssl"),
        r#"[email] tls: "ssl" is not none, starttls or tls"#,
    );
    check_ini(
        &format!("{sender}port = 0"),
        r#"[email] port: "0" is not a port number (1 to 65535)"#,
    );
    for wrong in ["", "smtp://mail", "mail server"] {
        check_ini(
            &format!("{sender}host = {wrong}"),
            &format!("[email] host: {wrong:?} is not a host name"),
        );
    }
}

#[test]
fn a_password_goes_nowhere_in_the_clear() {
    let login = "username = jon\npassword = hush\n";
    for text in [
        "",
        "host = LOCALHOST",
        "host = 127.0.0.2",
        "host = ::1",
        "host = mail.example.com\nport = 465",
        "host = mail.example.com\nport = 587",
        "host = mail.example.com\ntls = starttls",
    ] {
        let login = email(&format!("{login}{text}")).login.unwrap();
        assert_eq!(login.username, "jon");
        assert_eq!(login.password.expose_secret(), "hush");
    }
    for text in ["", "port = 2525", "port = 587\ntls = none"] {
        check_ini(
            &format!("[email]\nsender = a@example.com\nhost = mail.example.com\n{login}{text}"),
            "[email] password: would go to mail.example.com unencrypted; \
             set tls to starttls or tls",
        );
    }
    check_ini(
        "[email]\nsender = a@example.com\nusername = jon",
        "[email] username: needs a password too",
    );
    check_ini(
        "[email]\nsender = a@example.com\npassword = hush",
        "[email] password: needs a username too",
    );
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let text = "[wsgi]\nhost = file\nport = 1\nauth_key = file\n[sqlite]\npath = file.db";
    let variables = [
        ("NIGHTS_WATCH_WSGI_HOST", "env"),
        ("NIGHTS_WATCH_WSGI_PORT", "2"),
        ("NIGHTS_WATCH_SQLITE_PATH", "env.db"),
    ];
    let config = from(text, &variables, &Overrides::default()).unwrap();
    assert_eq!(config.wsgi.host.as_deref(), Some("env"));
    assert_eq!(config.wsgi.port, 2);
    assert_eq!(auth_key(&config), Some("file"));
    assert_eq!(sqlite(config), PathBuf::from("env.db"));

    let flags = Overrides {
        host: Some("flag".to_owned()),
        port: Some(3),
        database: Some("flag.db".to_owned()),
    };
    let config = from(text, &variables, &flags).unwrap();
    assert_eq!(config.wsgi.host.as_deref(), Some("flag"));
    assert_eq!(config.wsgi.port, 3);
    assert_eq!(sqlite(config), PathBuf::from("flag.db"));
}

#[test]
fn a_complaint_names_the_source_that_won() {
    let error = from(
        "[wsgi]\nport = 1",
        &[("NIGHTS_WATCH_WSGI_PORT", "abc")],
        &Overrides::default(),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"NIGHTS_WATCH_WSGI_PORT: "abc" is not a port number (0 to 65535)"#
    );
    // What is overridden is not read.
    let flags = Overrides {
        port: Some(3),
        ..Overrides::default()
    };
    assert_eq!(
        from("[wsgi]\nport = abc", &[], &flags).unwrap().wsgi.port,
        3
    );
}

#[test]
fn the_environment_can_say_everything() {
    let config = env(&[
        ("NIGHTS_WATCH_LOGGING_FILE", "/tmp/log"),
        ("NIGHTS_WATCH_LOGGING_MAX_SIZE", "10"),
        ("NIGHTS_WATCH_LOGGING_BACKUP_COUNT", "1"),
        ("NIGHTS_WATCH_EMAIL_SENDER", "a@example.com"),
        ("NIGHTS_WATCH_WSGI_AUTH_KEY", " p#ss;w%rd "),
        ("NIGHTS_WATCH_wsgi_Host", "::"),
        ("NIGHTS_WATCH_WEB_BASE_URL", "http://[::1]:8080"),
        ("NIGHTS_WATCH_HISTORY_LIMIT", "7"),
        ("NIGHTS_WATCH_CONFIG", "other.ini"),
        ("NIGHTS_WATCH_TEST_MONGODB_URI", "mongodb://x"),
        ("PATH", "/bin"),
        ("nights_watch_wsgi_port", "9"),
    ]);
    assert_eq!(config.logging.file, Some(PathBuf::from("/tmp/log")));
    assert_eq!(config.logging.max_size, 10);
    assert_eq!(config.logging.backup_count, 1);
    assert_eq!(
        config.email.as_ref().map(|email| email.sender.as_str()),
        Some("a@example.com")
    );
    assert_eq!(auth_key(&config), Some(" p#ss;w%rd "));
    assert_eq!(config.wsgi.host.as_deref(), Some("::"));
    assert_eq!(config.wsgi.port, 80);
    let base_url = config.web.base_url.expect("a base URL");
    assert_eq!(base_url.as_str(), "http://[::1]:8080");
    assert_eq!(config.history.policy.limit(), 7);
}

#[test]
fn options_of_mongodb_are_the_same_in_any_case() {
    let variables = [
        ("NIGHTS_WATCH_MONGODB_HOSTS", "a"),
        ("NIGHTS_WATCH_MONGODB_REPLICA_SET", "rs1"),
        ("NIGHTS_WATCH_MONGODB_TLSCAFILE", "/env.pem"),
        ("NIGHTS_WATCH_MONGODB_RETRY_WRITES", "false"),
    ];
    let ini = "[mongodb]\nReplicaSet = rs0\ntlsCAFile = /file.pem";
    let settings = mongo_settings(from(ini, &variables, &Overrides::default()).unwrap());
    assert_eq!(settings.replica_set.as_deref(), Some("rs1"));
    let options: Vec<(&str, &str)> = settings
        .options
        .iter()
        .map(|(key, value)| (key.as_str(), value.expose_secret()))
        .collect();
    assert_eq!(
        options,
        [("retrywrites", "false"), ("tlsCAFile", "/env.pem")]
    );
}

#[test]
fn names_that_mean_nothing_are_mistakes() {
    check_ini(
        "[wsgy]\nport = 80",
        "[wsgy]: no such section; \
         there are [logging], [mongodb], [sqlite], [email], [wsgi], [web], [history], [monitor]",
    );
    check_ini(
        "[wsgi]\nprot = 80",
        "[wsgi] prot: no such key; [wsgi] has host, port, auth_key, trusted_proxies",
    );
    check_env(
        &[("NIGHTS_WATCH_WSGI_PROT", "80")],
        "NIGHTS_WATCH_WSGI_PROT: no such key; [wsgi] has host, port, auth_key, trusted_proxies",
    );
    for name in [
        "NIGHTS_WATCH_",
        "NIGHTS_WATCH_PORT",
        "NIGHTS_WATCH_WSGI",
        "NIGHTS_WATCH_WSGY_PORT",
        "NIGHTS_WATCH_CONFIGURATION",
    ] {
        check_env(
            &[(name, "80")],
            &format!(
                "{name}: no such setting; NIGHTS_WATCH_<SECTION>_<KEY> has the sections \
                 logging, mongodb, sqlite, email, wsgi, web, history, monitor"
            ),
        );
    }
    check_env(
        &[("NIGHTS_WATCH_MONGODB_", "x")],
        "NIGHTS_WATCH_MONGODB_: no such key; \
         [mongodb] has hosts, database, username, password, replicaSet",
    );
}

#[test]
fn variables_that_kubernetes_sets_are_not_ours() {
    let env = [
        ("NIGHTS_WATCH_PORT", "tcp://10.0.0.1:80"),
        ("NIGHTS_WATCH_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("NIGHTS_WATCH_SERVICE_HOST", "10.0.0.1"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::from_sources(None, env, &Overrides::default()).unwrap();
    assert_eq!(config.wsgi.port, 80);
}

#[test]
fn variables_of_the_client_are_not_ours() {
    let config = env(&[
        ("NIGHTS_WATCH_URL", "http://watch.example.com"),
        ("NIGHTS_WATCH_AUTH_KEY", "secret"),
    ]);
    assert!(config.wsgi.auth_key.is_none());
    for name in [
        "NIGHTS_WATCH_URI",
        "NIGHTS_WATCH_AUTHKEY",
        "NIGHTS_WATCH_AUTH_KEYS",
    ] {
        let error = from("", &[(name, "x")], &Overrides::default()).unwrap_err();
        let complaint = format!("{name}: no such setting; ");
        assert!(error.to_string().starts_with(&complaint), "{error}");
    }
}

#[test]
fn what_is_set_twice_is_a_mistake() {
    check_ini("[wsgi]\nport = 1\nport = 1", "[wsgi] port: is set twice");
    check_ini("[wsgi]\nport = 1\nPort = 2", "[wsgi] Port: is set twice");
    check_ini(
        "[mongodb]\nhosts = a\nappName = x\nappname = y",
        "[mongodb] appname: is set twice",
    );
    check_ini("[wsgi]\n[email]\n[wsgi]", "[wsgi]: stands there twice");
    check_env(
        &[
            ("NIGHTS_WATCH_wsgi_port", "1"),
            ("NIGHTS_WATCH_WSGI_PORT", "2"),
        ],
        "NIGHTS_WATCH_wsgi_port: is set as NIGHTS_WATCH_WSGI_PORT as well",
    );
}

#[test]
fn values_stay_as_they_are_written() {
    for value in [
        "p#ss;w%rd",
        "p # ss ; w",
        "12345",
        "0012",
        "\"quoted\"",
        "'quoted'",
        "\"half",
        r"a\b",
        r"a\nb\x41",
        r"ends with \",
        "=a=b:c",
        "[a]",
        "#hash",
        "%(x)s %%",
        "${HOME} {x}",
        "true",
        "a\tb",
        "Größe 東京",
    ] {
        for text in [
            format!("[wsgi]\nauth_key = {value}\nport = 81\n"),
            format!("[wsgi]\r\nauth_key={value}\r\nport=81"),
            format!("[wsgi]\nport=81\nauth_key:{value}"),
        ] {
            let config = ini(&text);
            assert_eq!(auth_key(&config), Some(value), "{text}");
            assert_eq!(config.wsgi.port, 81, "{text}");
        }
        let config = env(&[("NIGHTS_WATCH_WSGI_AUTH_KEY", value)]);
        assert_eq!(auth_key(&config), Some(value));
    }
}

#[test]
fn a_file_may_be_written_in_many_ways() {
    for text in [
        "[wsgi]\nhost=h\nport=81",
        "[wsgi]\r\nhost = h\r\nport = 81\r\n",
        "\u{feff}[wsgi]\nhost = h\nport = 81\n",
        "# one\n; two\n\n  # three [x]\n[wsgi]\n\t; four = x\nhost = h\n# port = 80\nport = 81\n\n",
        "[ wsgi ]\n  host   =   h  \n  port\t:\t81  ",
        "  [wsgi]  \n  HOST: h\n  Port: 81",
        "[email]\nsender = a@b\n[wsgi]\n    host = h\n\n    port = 81",
        "[wsgi]\n    host = h\nport = 81",
    ] {
        let wsgi = ini(text).wsgi;
        assert_eq!(wsgi.host.as_deref(), Some("h"), "{text}");
        assert_eq!(wsgi.port, 81, "{text}");
    }
}

#[test]
fn a_file_with_another_shape_is_a_mistake() {
    for (text, complaint) in [
        ("[wsgi", "line 1: is not a [section]"),
        ("[wsgi] # x", "line 1: is not a [section]"),
        ("[]", "line 1: is not a [section]"),
        ("\n[a]b]", "line 2: is not a [section]"),
        (
            "port = 80\n[wsgi]",
            "line 1: stands outside of any [section]",
        ),
        (
            "[wsgi]\nhost = h\nport 80\n",
            "line 3: is neither a [section] nor key = value nor a comment",
        ),
        (
            "[wsgi]\r\n= 80",
            "line 2: is neither a [section] nor key = value nor a comment",
        ),
        (
            "[wsgi]\nauth key = x",
            "line 2: is neither a [section] nor key = value nor a comment",
        ),
        (
            "[wsgi]\nhost\\= 1",
            "line 2: is neither a [section] nor key = value nor a comment",
        ),
        (
            "[mongodb]\nhosts = a:1,\n  b:2",
            "line 3: is indented: a value cannot go on in a second line",
        ),
        (
            "[wsgi]\nhost = a\rport = 81",
            "line 2: has a control character in it",
        ),
        (
            "[wsgi]\nhost = a\0b",
            "line 2: has a control character in it",
        ),
    ] {
        check_ini(text, complaint);
    }
}

#[test]
fn secrets_are_not_shown() {
    let config = ini(
        "[mongodb]\nhosts = mongodb://jon:hush1@h/\nusername = jon\npassword = hush2\n\
         tlsCertificateKeyFilePassword = hush3\n\
         [email]\nsender = a@example.com\nusername = jon\npassword = hush4\n\
         [wsgi]\nauth_key = hush5",
    );
    let shown = format!("{config:?} {config:#?}");
    assert!(shown.contains("a@example.com"), "{shown}");
    assert!(!shown.contains("hush"), "{shown}");

    // Wherever a secret stands in the wrong way, the complaint does not repeat it.
    for text in [
        "[wsgi]\nauth_key hush",
        "[wsgi]\nauth_key = hush\nauth_key = hush",
        "[wsgi]\nauthkey = hush",
        "auth_key = hush",
        "[wsgi]\nauth_key = hu\0sh",
        "[email]\nsender = a@b\npassword = hush",
        "[email]\nsender = a@b\nusername = j\npassword = hush\nhost = mail",
        "[mongodb]\npassword = hush",
        "[mongodb]\nhosts = mongodb://hush\npassword = hush",
        "[mongodb]\nhosts = mongodb://hush\n[sqlite]",
        "[web]\nbase_url = https://jon:hush@h",
    ] {
        let error = from(text, &[], &Overrides::default()).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hu"), "{shown}");
    }
}

#[test]
fn the_first_file_that_exists_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second, third] = ["1", "2", "3"].map(|name| directory.path().join(name));
    let places = [&first, &second, &third];
    assert_eq!(find(places), Ok(None));
    fs::write(&third, "three").unwrap();
    fs::write(&second, "two").unwrap();
    assert_eq!(find(places), Ok(Some((second, "two".to_owned()))));
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("watch.ini");
    let options = Options {
        config: Some(path.clone()),
        ..Options::default()
    };
    let shown = path.display();
    let complaint = || Config::load(&options).unwrap_err().to_string();
    assert_eq!(
        complaint(),
        format!("{shown}: cannot be read: No such file or directory (os error 2)")
    );
    fs::write(&path, b"[wsgi]\nhost = x\nauth_key = \xff\n").unwrap();
    assert_eq!(complaint(), format!("{shown}: line 3: is not UTF-8 text"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = format!("{shown}: cannot be read: Is a directory (os error 21)");
    assert_eq!(complaint(), error);
    assert_eq!(find([&path]).unwrap_err().to_string(), error);
}

#[cfg(unix)]
#[test]
fn variables_of_ours_have_to_be_text() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let odd = || OsString::from_vec(vec![0xff]);
    assert_eq!(variables([(odd(), odd()), ("X".into(), odd())]), Ok(vec![]));
    let error = variables([("NIGHTS_WATCH_WSGI_AUTH_KEY".into(), odd())]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "NIGHTS_WATCH_WSGI_AUTH_KEY: is not UTF-8 text"
    );
}

/// A file that is almost one of ours: lines of it, and bytes that somebody's editor left.
fn any_file() -> impl Strategy<Value = String> {
    let section = prop_oneof![
        prop::sample::select(&["wsgi", "email", "mongodb", "sqlite", "history", "logging"][..])
            .prop_map(|name| format!("[{name}]")),
        "\\[.{0,8}\\]?",
    ];
    let key = prop_oneof![
        prop::sample::select(
            &[
                "auth_key", "port", "host", "sender", "tls", "limit", "hosts", "path", "username"
            ][..],
        )
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    let setting = (key, "[ \t]{0,2}[=:]?[ \t]{0,2}", ".{0,12}")
        .prop_map(|(key, sign, value)| format!("{key}{sign}{value}"));
    let line = prop_oneof![2 => section, 5 => setting, 1 => any::<String>()];
    prop::collection::vec(
        (line, prop::sample::select(&["\n", "\r\n", "\r", "\0"][..])),
        0..8,
    )
    .prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The complaint may show what a setting that is no secret says, but in one line.
    #[test]
    fn every_file_is_settings_or_one_line_of_complaint(text in any_file()) {
        if let Err(error) = from(&text, &[], &Overrides::default()) {
            let complaint = error.to_string();
            prop_assert!(complaint.starts_with(FILE), "{complaint}");
            prop_assert!(!complaint.contains(char::is_control), "{complaint:?}");
        }
    }

    #[test]
    fn a_secret_is_taken_as_it_is_and_shown_to_nobody(
        secret in "[!-~é€][ -~é€]{8,30}[!-~é€]",
        before in "\\PC{0,3}",
        after in prop::sample::select(&["\n[wsgi]", "\nx", "\nport = x", "\n[email]", "\u{7}", "\n port = 1"][..]),
    ) {
        let text = format!("[wsgi]\nauth_key = {secret}\n");
        let config = ini(&text);
        prop_assert_eq!(auth_key(&config), Some(secret.as_str()));
        let shown = format!("{config:?}");
        prop_assert!(!shown.contains(&secret));
        let broken = format!("[wsgi]\n{before}auth_key = {secret}{after}");
        if let Err(error) = from(&broken, &[], &Overrides::default()) {
            prop_assert!(!error.to_string().contains(&secret), "{error}");
        }
    }
}

/// What the credentials in a folder with these files make of `ini` and `env`, or the complaint without the folder.
fn with_credentials(
    files: &[(&str, &str)],
    ini: &str,
    env: &[(&str, &str)],
) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let in_folder = format!("{}/", folder.path().display());
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let file = Some((PathBuf::from(FILE), ini.to_owned()));
    credentials::read(folder.path())
        .and_then(|found| Config::assemble(file, found, env, &Overrides::default()))
        .map_err(|error| error.to_string().replace(&in_folder, ""))
}

#[test]
fn credentials_stand_between_the_file_and_the_environment() {
    let files = [
        ("wsgi.auth_key", "s3cret = #1 \n"),
        ("email.username", "watch\r\n"),
        ("email.password", "pass"),
        ("wsgi.port", "81"),
        ("logging.format", "json"),
        ("tls-key.pem", "not\nours"),
        ("wsgi", "nor this"),
        ("..data", "nor this"),
    ];
    let ini = "[email]\nsender = a@example.com\npassword = old\n[wsgi]\nport = 80\n";
    let config = with_credentials(&files, ini, &[("NIGHTS_WATCH_WSGI_PORT", "82")]).unwrap();
    let key = config.wsgi.auth_key.unwrap();
    assert_eq!(key.expose_secret(), "s3cret = #1 ");
    let login = config.email.unwrap().login.unwrap();
    assert_eq!(login.username, "watch");
    assert_eq!(login.password.expose_secret(), "pass");
    assert_eq!(config.wsgi.port, 82);
    assert_eq!(config.logging.format, LogFormat::Json);
}

#[test]
fn a_folder_of_credentials_may_be_missing() {
    let missing = Path::new("/nonexistent/credentials");
    assert!(credentials::read(missing).unwrap().is_empty());
}

#[test]
fn mistakes_in_credentials_name_the_file_and_no_secret() {
    let check = |name, text: &str, complaint: &str| {
        let error = with_credentials(&[(name, text)], "", &[]).unwrap_err();
        assert_eq!(error, complaint);
    };
    check(
        "wsgi.auth_kye",
        "s3cret",
        "wsgi.auth_kye: no such key; [wsgi] has host, port, auth_key, trusted_proxies",
    );
    let lines = "is more than one line of text";
    check(
        "wsgi.auth_key",
        "a\nb\n",
        &format!("wsgi.auth_key: {lines}"),
    );
    check(
        "email.password",
        "a\n\n",
        &format!("email.password: {lines}"),
    );
    check("wsgi.auth_key", "\n", "wsgi.auth_key: is empty");
    check(
        "wsgi.port",
        "http",
        "wsgi.port: \"http\" is not a port number (0 to 65535)",
    );
    check(
        "email.password",
        "s3cret",
        "email.password: [email] sender is missing: an address such as watch@example.com",
    );
    check(
        "mongodb.",
        "x",
        "mongodb.: no such key; [mongodb] has hosts, database, username, password, replicaSet",
    );
}

/// The settings that the package installs, with those lines in effect that `wanted` wants of a section, a line, and
/// whether that is an example.
fn packaged(wanted: impl Fn(&str, &str, bool) -> bool) -> String {
    let mut text = String::new();
    let (mut section, mut is_example) = (String::new(), false);
    for line in include_str!("../../../deploy/debian/nights-watch.ini").lines() {
        let setting = line
            .strip_prefix('#')
            .filter(|line| !line.starts_with(' ') && !line.is_empty());
        if let Some(setting) = setting {
            if let Some(name) = setting.strip_prefix('[') {
                section = name.trim_end_matches(']').to_owned();
            }
            if wanted(&section, setting, is_example) {
                text.push_str(setting);
                text.push('\n');
            }
        }
        is_example = line.starts_with("# An example");
    }
    text
}

#[test]
fn the_settings_of_the_package_show_each_key_with_its_default() {
    let all = packaged(|_, _, _| true);
    for section in &sources::SECTIONS {
        let (_, rest) = all
            .split_once(&format!("[{}]\n", section.name))
            .expect(section.name);
        let lines: Vec<_> = rest
            .lines()
            .take_while(|line| !line.starts_with('['))
            .collect();
        let keys = lines.iter().map(|line| line.split(" =").next().unwrap());
        assert_eq!(
            keys.collect::<std::collections::BTreeSet<_>>(),
            section.keys.iter().copied().collect(),
            "{section}",
            section = section.name
        );
    }
    let shown = |text: &str| format!("{:?}", ini(text));
    // As it is installed, it changes nothing.
    let installed = include_str!("../../../deploy/debian/nights-watch.ini");
    assert_eq!(shown(installed), shown(""));
    // Nor does any line of it that is no example, in whichever of the two stores.
    for other in ["mongodb", "sqlite"] {
        let every = packaged(|section, _, _| section != other);
        let examples = packaged(|section, line, is_example| {
            section != other && (is_example || line.starts_with('['))
        });
        assert_eq!(shown(&every), shown(&examples), "{every}");
    }
}
