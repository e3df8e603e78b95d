//! The servers under test, each a process of its own that ends with the benchmark, whatever becomes of that.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Response, StatusCode};
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::field;

/// A server of any kind.
pub(crate) struct Process {
    child: Killed,
    pub(crate) address: SocketAddr,
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, over the database in some directory.
pub(crate) struct Program {
    process: Process,
    log: PathBuf,
    client: Client,
    /// How long it took from its start to the first answer.
    pub(crate) took: Duration,
}

impl Process {
    /// Starts `command` and waits for the line that says where it serves. Without that there is none.
    pub(crate) fn start(command: &mut Command) -> Option<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = Killed(command.spawn().expect("an executable"));
        let stdout = child.0.stdout.take().expect("it is piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        read.expect("a line of text");
        let mut words = line.split_whitespace();
        let url = words.find_map(|word| word.strip_prefix("http://"))?;
        let address = url.trim_end_matches('/').parse();
        Some(Self {
            child,
            address: address.expect("an address"),
        })
    }
}

impl Program {
    /// Starts `binary` as a user would who hands over mails at `smtp_port` of this machine. What it logs goes to a
    /// file by its standard error.
    pub(crate) fn start(binary: &Path, directory: &Path, smtp_port: u16) -> Self {
        let settings = format!(
            "[wsgi]\nhost = 127.0.0.1\nport = 0\n\n\
             [email]\nsender = Night's Watch <watch@example.org>\nhost = 127.0.0.1\nport = {smtp_port}\n"
        );
        fs::write(directory.join("nights-watch.ini"), settings).expect("a writable directory");
        let log = directory.join("log.txt");
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("NIGHTS_WATCH_") || name == "RUST_LOG" {
                command.env_remove(&*name);
            }
        }
        command
            .current_dir(directory)
            .stderr(File::create(&log).expect("a writable directory"));
        let begin = Instant::now();
        let process = Process::start(&mut command);
        let process = process.unwrap_or_else(|| panic!("it does not serve: {}", read(&log)));
        expect_answer(process.address);
        Self {
            took: begin.elapsed(),
            process,
            log,
            client: Client::builder().no_proxy().build().expect("a client"),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.process.address
    }

    /// Asks for a path, and waits for the head of the answer.
    pub(crate) async fn get(&self, path: &str) -> Response {
        let url = format!("http://{}{path}", self.process.address);
        let answer = self.client.get(url).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer
    }

    /// The number in the line of the metrics that begins with `name`.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text().await.expect("text");
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
        value.parse().expect("a number")
    }

    /// Its resident memory, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        self.number("status", "VmRSS") / 1_024.0
    }

    /// The most resident memory that it had since [`Program::forget_peak`], in MiB.
    pub(crate) fn peak_memory(&self) -> f64 {
        self.number("status", "VmHWM") / 1_024.0
    }

    pub(crate) fn forget_peak(&self) {
        // 5 is the kernel's word for that.
        fs::write(self.proc("clear_refs"), "5").expect("a process of ours");
    }

    /// How much it has given the disk to write so far, in KiB: whole pages of memory, each time that one became dirty.
    pub(crate) fn written(&self) -> f64 {
        self.number("io", "write_bytes") / 1_024.0
    }

    /// How long it has computed so far, on all cores together.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).expect("a process of ours");
        // The second field is a name in parentheses; user and system time are the fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let fields = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        // Linux shows a hundred ticks a second on every machine that we know.
        Duration::from_millis(ticks * 10)
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.child.0.kill().expect("it runs");
        self.process.child.0.wait().expect("it ends");
    }

    /// Asks it to end, and waits until it has. Returns what it has logged.
    pub(crate) fn stop(mut self) -> String {
        let pid = i32::try_from(self.process.child.0.id()).ok();
        let pid = pid.and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::TERM).expect("it runs");
        let status = self.process.child.0.wait().expect("it ends");
        let log = read(&self.log);
        assert!(status.success(), "{status}: {log}");
        log
    }

    /// What the kernel says of it in the line `name` of `file`; sizes of memory are in KiB.
    fn number(&self, file: &str, name: &str) -> f64 {
        let value = field(&self.proc(file), name, ':').expect("a process of ours");
        value.trim_end_matches(" kB").parse().expect("a number")
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.process.child.0.id())
    }
}

fn read(log: &Path) -> String {
    fs::read_to_string(log).expect("a log")
}

/// Asks whether the server is alive, by the shortest way.
fn expect_answer(server: SocketAddr) {
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    let mut stream = TcpStream::connect(server).expect("it listens");
    let patience = Some(Duration::from_mins(1));
    stream.set_read_timeout(patience).expect("a socket");
    stream.write_all(request).expect("it reads");
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200 "), "wrong: {answer}");
}
