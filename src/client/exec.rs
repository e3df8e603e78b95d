//! Running a job, and reporting it.
//!
//! The job matters more than the report: whatever is wrong with the settings or with the service, the job runs, at
//! once, and its status is ours. Who sends this program a signal means the job.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use rand::RngExt;
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::api::{Failure, Service};
use super::command::{Exec, Which};
use super::settings::Settings;
use super::{complain, parameters, show};

/// The pause before the first repetition; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The signals that end or steer a job.
const PASSED_ON: [(SignalKind, Signal); 6] = [
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

type Signals = mpsc::UnboundedReceiver<Signal>;

/// Runs the command, reports it, and returns its status.
pub(super) fn run(exec: &Exec) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(run_and_report(exec));
            // An attempt that nobody waits for any more may still be under way.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            complain(&format!("cannot run anything: {error}"));
            ExitCode::from(126)
        }
    }
}

async fn run_and_report(exec: &Exec) -> ExitCode {
    let mut signals = listen();
    let begin = Instant::now();
    let (is_done, what, code) = match spawn(exec) {
        Ok(child) => match supervise(child, &mut signals).await {
            Ok(status) => (status.success(), describe(status), code_of(status)),
            Err(error) => {
                complain(&format!("the command was lost: {error}"));
                (false, "was lost".to_owned(), 1)
            }
        },
        Err(error) => {
            let command = exec.command[0].to_string_lossy();
            complain(&format!("cannot run {command}: {error}"));
            let is_absent = error.kind() == io::ErrorKind::NotFound;
            let code = if is_absent { 127 } else { 126 };
            (false, "could not be started".to_owned(), code)
        }
    };
    if is_done || exec.report_failure {
        let joint = if is_done { "in" } else { "after" };
        let comment = format!("{what} {joint} {}", duration(begin.elapsed()));
        if let Err(failure) = report(exec, &comment, &mut signals).await {
            complain(&format!("it {comment}, which was not reported: {failure}"));
        }
    }
    ExitCode::from(code)
}

/// Listens to the signals that are passed on. One that was ignored when this program was started, as under `nohup`,
/// stays so, for the command as well.
fn listen() -> Signals {
    // Where the end of a child is ignored, as some supervisors have it, nobody is told how it ended. Listening ends that.
    let _ = signal(SignalKind::child());
    let (sender, signals) = mpsc::unbounded_channel();
    let ignored = ignored_signals();
    for (kind, ours) in PASSED_ON {
        if ignored & (1 << (ours.as_raw() - 1)) != 0 {
            continue;
        }
        match signal(kind) {
            Ok(mut arrivals) => {
                let sender = sender.clone();
                tokio::spawn(async move {
                    while arrivals.recv().await.is_some() && sender.send(ours).is_ok() {}
                });
            }
            Err(error) => complain(&format!("cannot listen to signals: {error}")),
        }
    }
    signals
}

/// Which signals are ignored, as bits from the lowest for signal 1. Where the system has no such file it is not known.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

fn spawn(exec: &Exec) -> io::Result<Child> {
    let mut command = Command::new(&exec.command[0]);
    let child = command.args(&exec.command[1..]).spawn()?;
    // Standard input and output are the command's from now on: whoever is at their other ends sees them end with it,
    // and not when the report is through. If that fails they see it later.
    if let Ok(nothing) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&nothing);
        let _ = rustix::stdio::dup2_stdout(&nothing);
    }
    Ok(child)
}

/// Waits for the end of the command, and passes signals on to it.
async fn supervise(mut child: Child, signals: &mut Signals) -> io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            Some(signal) = signals.recv() => {
                let id = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
                if let Some(id) = id.filter(|_| !is_of_terminal(signal)) {
                    // A command that ended meanwhile needs it no more.
                    let _ = kill_process(id, signal);
                }
            }
        }
    }
}

/// Whether a signal has come by a key of the terminal: then the command has it already.
fn is_of_terminal(signal: Signal) -> bool {
    let is_in_front = || {
        let terminal = File::open("/dev/tty").ok()?;
        Some(rustix::termios::tcgetpgrp(terminal).ok()? == getpgrp())
    };
    matches!(signal, Signal::INT | Signal::QUIT) && is_in_front() == Some(true)
}

/// Triggers the watcher, and again while the service does not answer.
async fn report(exec: &Exec, comment: &str, signals: &mut Signals) -> Result<(), Failure> {
    let settings = Settings::find_without_key(&exec.service)?;
    let service = Arc::new(Service::new(settings));
    let begin = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let triggered = trigger(Arc::clone(&service), &exec.which, comment);
        let Err(failure) = until_signal(triggered, signals).await? else {
            return Ok(());
        };
        let left = exec.retry_for.saturating_sub(begin.elapsed());
        if !failure.is_temporary() || left.is_zero() {
            return Err(failure);
        }
        // Jobs that ended in the same minute do not all ask again in the same instant.
        let pause_now = pause.mul_f64(rand::rng().random_range(0.5..1.0)).min(left);
        until_signal(tokio::time::sleep(pause_now), signals).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What `work` comes to, unless a signal ends the waiting.
async fn until_signal<T>(
    work: impl Future<Output = T>,
    signals: &mut Signals,
) -> Result<T, Failure> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            Some(signal) = signals.recv() => {
                if !matches!(signal, Signal::USR1 | Signal::USR2) {
                    return Err(Failure::Stopped);
                }
            }
        }
    }
}

async fn trigger(service: Arc<Service>, which: &Which, comment: &str) -> Result<(), Failure> {
    let (which, comment) = (which.clone(), comment.to_owned());
    let triggered = move || {
        let answer = service.trigger(&parameters(&which, Some(&comment)));
        answer.map(drop)
    };
    let done = tokio::task::spawn_blocking(triggered).await;
    done.unwrap_or(Err(Failure::Stopped))
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "succeeded".to_owned(),
        (Some(code), _) => format!("failed with status {code}"),
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

/// The status as shells have it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn duration(span: Duration) -> String {
    match span.as_millis() {
        millis @ ..1_000 => format!("{millis} ms"),
        ..60_000 => format!("{:.1} s", span.as_secs_f64()),
        _ => show::span(TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_fine_as_they_are_short() {
        for (millis, said) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (12_345, "12.3 s"),
            (60_000, "1m"),
            (3_725_000, "1h 2m"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), said);
        }
    }
}
