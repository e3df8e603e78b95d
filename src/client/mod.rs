//! The client: the service from a shell, for administrators and for jobs.
//!
//! It knows the service as any other client does, by its HTTP interface, whichever version answers.
//!
//! - `command`: what can be said on the command line.
//! - `settings`: which service is meant, and the key to it; `configure` writes them down.
//! - `api`: the calls, and why they fail.
//! - `show`: answers for people; `list` among them, which is shown while it is read.
//! - `exec`: runs a job, and reports it.

mod command;

mod settings;

mod configure;

mod api;

mod show;

mod list;

mod exec;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use serde::Deserialize;

use self::api::{Answer, Failure, Service};
use self::command::{Changes, Create, Health, List, Object, Output, Remark, Update, Which};
pub use self::command::{Command, EXIT_STATUS};
use self::settings::Settings;
use self::show::{Paper, Watcher, clean};

#[derive(Deserialize)]
struct WatcherView {
    watcher: Watcher,
}

#[derive(Deserialize)]
struct TriggerView {
    recovered: bool,
    unpaused: bool,
}

/// Does what `command` says. What there is to show goes to standard output, a complaint to standard error.
#[must_use]
pub fn run(command: &Command) -> ExitCode {
    let done = match command {
        Command::Exec(exec) => return exec::run(exec),
        Command::Create(create) => do_create(create),
        Command::Get(object) => show_object("get", object, None, true),
        Command::List(list) => do_list(list),
        Command::Update(update) => do_update(update),
        Command::Delete(object) => do_delete(object),
        Command::Trigger(remark) => do_trigger(remark),
        Command::Pause(remark) => show_object("pause", &remark.object, Some(remark), false),
        Command::Unpause(remark) => show_object("unpause", &remark.object, Some(remark), false),
        Command::Health(health) => do_health(health),
        Command::Configure(configure) => configure::run(configure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            complain(&failure.to_string());
            failure.code().into()
        }
    }
}

/// One line on standard error, in which nothing steers a terminal.
fn complain(sentence: &str) {
    eprintln!("nights-watch: {}", clean(sentence));
}

fn do_create(create: &Create) -> Result<(), Failure> {
    let service = Service::new(Settings::find(&create.service)?);
    let seconds = create.periodicity.seconds().to_string();
    let mut parameters = vec![
        ("name", create.name.as_str()),
        ("periodicity", seconds.as_str()),
    ];
    if let Some(description) = &create.description {
        parameters.push(("description", description));
    }
    parameters.extend(create.email.iter().map(|email| ("email", email.as_str())));
    if create.paused {
        parameters.push(("paused", "true"));
    }
    let answer = service.call("create", &parameters)?;
    show_watcher(answer, &create.output, &service, false)
}

fn do_update(update: &Update) -> Result<(), Failure> {
    let service = Service::new(Settings::find(&update.service)?);
    let Changes {
        new_name,
        periodicity,
        description,
        email,
        no_emails,
    } = &update.changes;
    let seconds = periodicity.map(|periodicity| periodicity.seconds().to_string());
    let mut parameters = Vec::new();
    let texts = [
        ("id", &update.target.id),
        ("slug", &update.target.slug),
        ("name", new_name),
        ("periodicity", &seconds),
        ("description", description),
    ];
    for (name, text) in texts {
        parameters.extend(text.as_deref().map(|text| (name, text)));
    }
    parameters.extend(email.iter().map(|email| ("email", email.as_str())));
    if *no_emails {
        parameters.push(("email", "-"));
    }
    let answer = service.call("update", &parameters)?;
    show_watcher(answer, &update.output, &service, false)
}

/// Calls an operation that answers with the watcher.
fn show_object(
    operation: &str,
    object: &Object,
    remark: Option<&Remark>,
    events: bool,
) -> Result<(), Failure> {
    let service = Service::new(Settings::find(&object.service)?);
    let comment = remark.and_then(|remark| remark.comment.as_deref());
    let answer = service.call(operation, &parameters(&object.which, comment))?;
    show_watcher(answer, &object.output, &service, events)
}

fn show_watcher(
    answer: Answer,
    output: &Output,
    service: &Service,
    events: bool,
) -> Result<(), Failure> {
    if output.json {
        return copy(answer);
    }
    let now = answer.now;
    let WatcherView { watcher } = answer.read()?;
    let mut paper = Paper::stdout();
    show::facts(&mut paper, &watcher, service.base(), now)?;
    if events {
        show::events(&mut paper, &watcher, now)?;
    }
    Ok(paper.finish()?)
}

fn do_list(list: &List) -> Result<(), Failure> {
    let service = Service::new(Settings::find(&list.service)?);
    let mut parameters = Vec::new();
    if !list.brief {
        parameters.push(("verbose", "true"));
    }
    if list.state.late {
        parameters.push(("late", "true"));
    }
    if list.state.paused {
        parameters.push(("paused", "true"));
    }
    if list.state.on_time {
        parameters.extend([("late", "false"), ("paused", "false")]);
    }
    if let Some(search) = &list.search {
        parameters.push(("search", search));
    }
    let answer = service.call("list", &parameters)?;
    if list.output.json {
        return copy(answer);
    }
    list::show(answer, list.brief)
}

fn do_delete(object: &Object) -> Result<(), Failure> {
    let service = Service::new(Settings::find(&object.service)?);
    let answer = service.call("delete", &parameters(&object.which, None))?;
    if object.output.json {
        return copy(answer);
    }
    say("deleted")
}

fn do_trigger(remark: &Remark) -> Result<(), Failure> {
    let object = &remark.object;
    let service = Service::new(Settings::find_without_key(&object.service.address)?);
    let answer = service.trigger(&parameters(&object.which, remark.comment.as_deref()))?;
    if object.output.json {
        return copy(answer);
    }
    let view: TriggerView = answer.read()?;
    say(match (view.recovered, view.unpaused) {
        (true, _) => "triggered; it was late",
        (_, true) => "triggered; it was paused, and is no longer",
        _ => "triggered",
    })
}

fn do_health(health: &Health) -> Result<(), Failure> {
    let service = Service::new(Settings::find_without_key(&health.service)?);
    if health.ready {
        service.check("/readyz")?;
        return say("ready");
    }
    service.check("/healthz")?;
    say("alive")
}

/// The parameters that name a watcher, and the comment.
fn parameters<'a>(which: &'a Which, comment: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let Which { name, slug, id } = which;
    let named = [("name", name), ("slug", slug), ("id", id)];
    let named = named
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.as_deref()?)));
    named
        .chain(comment.map(|comment| ("comment", comment)))
        .collect()
}

fn say(words: &str) -> Result<(), Failure> {
    let mut paper = Paper::stdout();
    writeln!(paper, "{words}")?;
    Ok(paper.finish()?)
}

/// Hands on an answer as it is.
fn copy(mut answer: Answer) -> Result<(), Failure> {
    let mut paper = Paper::stdout();
    let mut part = vec![0; 65_536];
    loop {
        let length = answer
            .body
            .read(&mut part)
            .map_err(|error| answer.broken_off(&error))?;
        if length == 0 {
            return Ok(paper.finish()?);
        }
        paper.write_all(&part[..length])?;
    }
}
