//! `start`, `stop`, `restart` and `status`: the detached server.

use std::process::ExitCode;
use std::time::Duration;

use gem_setup::error::{Failure, Kind};
use gem_setup::progress::waiting;
use gem_setup::runtime::{EngineState, RuntimeName, local};
use gem_setup::setup::{self, Chosen};
use gem_setup::supervise::{self, GRACE, READY_WITHIN, Running, ServerRecord, StartRequest, Started, Stopped, observe};
use serde::Serialize;

use super::args::ServeArgs;
use super::serve;
use super::session::Session;
use crate::report::Events;

/// Starts the server in the background.
pub(crate) fn start(session: &Session<'_>, args: ServeArgs) -> Result<ExitCode, Failure> {
    let started = session.block_on_until_signal(begin(session, args))?;
    tell_started(session, &started)?;
    Ok(ExitCode::SUCCESS)
}

/// Stops the server and starts it again, unless that could only fail.
pub(crate) fn restart(session: &Session<'_>, args: ServeArgs) -> Result<ExitCode, Failure> {
    serve::check_all(session, &args)?;
    let started = session.block_on_until_signal(async {
        supervise::stop(&session.layout, GRACE).await?;
        begin(session, args).await
    })?;
    tell_started(session, &started)?;
    Ok(ExitCode::SUCCESS)
}

async fn begin(session: &Session<'_>, args: ServeArgs) -> Result<Started, Failure> {
    serve::check(session, &args)?;
    serve::check_direct(session, &args).await?;
    // The server runs without the copies too; `doctor` says what is still elsewhere.
    let _ = setup::adopt_recorded(&session.layout).await;
    let request = StartRequest {
        server: serve::identity(session, &args)?,
        program: serve::command(session, &args)?,
        keeper: Some(setup::KEEPER),
        within: READY_WITHIN,
    };
    let events = Events::remarks(session.printer);
    let starting = supervise::start(&session.layout, &request);
    Ok(waiting(&events, "server", supervise::STARTING, starting).await?)
}

fn tell_started(session: &Session<'_>, started: &Started) -> Result<(), Failure> {
    let report = examine(session)?;
    if session.printer.json() {
        session.printer.json_line(&report);
    } else {
        let verb = match started {
            Started { already: true, .. } => "runs already",
            Started { blocked: Some(_), .. } => "runs",
            _ => "is ready",
        };
        session
            .printer
            .line(&format!("the server {verb}: pid {}, port {}", started.pid, report.port));
    }
    if let Some(missing) = &started.blocked {
        session.printer.remark(&serve::without_model(missing));
    }
    Ok(())
}

/// Stops the server.
pub(crate) fn stop(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let stopped = session.block_on_until_signal(async { Ok(supervise::stop(&session.layout, GRACE).await?) })?;
    let (pid, text) = match stopped {
        Stopped::NotRunning => (None, "no server runs".to_owned()),
        Stopped::Gracefully { pid } => (Some(pid), format!("stopped the server (pid {pid})")),
        Stopped::Killed { pid } => (
            Some(pid),
            format!("killed the server (pid {pid}), which did not end in time"),
        ),
    };
    if session.printer.json() {
        session
            .printer
            .json_line(&serde_json::json!({"stopped": pid.is_some(), "pid": pid}));
    } else {
        session.printer.line(&text);
    }
    Ok(ExitCode::SUCCESS)
}

/// What `status --json` prints (docs/contract.md section 2).
#[derive(Debug, Serialize)]
struct Report {
    running: bool,
    ready: bool,
    pid: Option<u32>,
    port: u16,
    runtime: String,
    model: String,
    child: Option<Child>,
    uptime_s: Option<u64>,
    /// What else a person should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Debug, Serialize)]
struct Child {
    pid: Option<u32>,
    port: u16,
    state: EngineState,
    restarts: u64,
}

/// Says whether the server runs.
pub(crate) fn status(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let report = examine(session)?;
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&report);
        return Ok(ExitCode::SUCCESS);
    }
    if report.running {
        tell_running(session, &report);
    } else {
        printer.line(&format!(
            "not running; `gem-setup start` starts it on port {}",
            report.port
        ));
    }
    if let Some(note) = &report.note {
        printer.line(&format!("  {note}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn tell_running(session: &Session<'_>, report: &Report) {
    let printer = session.printer;
    let readiness = if report.ready { "ready" } else { "not ready" };
    let pid = report.pid.map_or_else(String::new, |pid| format!("pid {pid}, "));
    let uptime = report
        .uptime_s
        .map_or_else(String::new, |seconds| format!(", for {seconds} s"));
    printer.line(&format!("running and {readiness}: {pid}port {}{uptime}", report.port));
    printer.line(&format!("  runtime {} with the model {}", report.runtime, report.model));
    if let Some(child) = &report.child {
        let pid = child
            .pid
            .map_or_else(|| "no process".to_owned(), |pid| format!("pid {pid}"));
        printer.line(&format!(
            "  child {}: {pid}, private port {}, {} restarts",
            child.state, child.port, child.restarts
        ));
    }
}

/// The server of this home.
pub(crate) fn look(session: &Session<'_>) -> Result<Running, Failure> {
    observe(&session.layout).map_err(|error| {
        let home = session.layout.gemini();
        Failure::new(
            Kind::Unexpected,
            format!("cannot look for the server in `{}`: {error}", home.display()),
        )
        .with_hint("check that the folder is yours and readable")
    })
}

fn examine(session: &Session<'_>) -> Result<Report, Failure> {
    let chosen = &session.state()?.chosen;
    match look(session)? {
        Running::Supervised(record) if record.is_here() => Ok(supervised(&record)),
        Running::Supervised(record) => session.block_on(async { Ok(elsewhere(&record).await) }),
        Running::Unnamed => Ok(Report {
            running: true,
            note: Some(format!(
                "a process holds `{}` and has not written which one it is",
                session.layout.server_lock_file().display()
            )),
            ..not_running(chosen)
        }),
        Running::Bare { pid, port } => bare(session, chosen, pid, port),
        Running::No | Running::Foreign(_) => Ok(not_running(chosen)),
    }
}

fn not_running(chosen: &Chosen) -> Report {
    Report {
        running: false,
        ready: false,
        pid: None,
        port: chosen.port,
        runtime: chosen.runtime.to_string(),
        model: chosen.model.to_string(),
        child: None,
        uptime_s: None,
        note: None,
    }
}

/// A server whose process cannot be seen from here: it is asked over its port.
async fn elsewhere(record: &ServerRecord) -> Report {
    let place = "its process is in another process namespace or on another machine";
    let (ready, note) = match supervise::ask(record).await {
        Some(answer) => (answer.ready, format!("{place}; it answers on its port")),
        None => (
            false,
            format!("{place}, and its port does not answer here; stop it where it was started"),
        ),
    };
    Report {
        ready,
        note: Some(note),
        ..supervised(record)
    }
}

fn supervised(record: &ServerRecord) -> Report {
    Report {
        running: true,
        ready: record.ready,
        pid: Some(record.process.pid),
        port: record.server.port,
        runtime: record.server.runtime.clone(),
        model: record.server.model.clone(),
        child: record.child.as_ref().map(|child| Child {
            pid: child.process.as_ref().map(|process| process.pid),
            port: child.port,
            state: child.state,
            restarts: child.restarts,
        }),
        uptime_s: Some(record.uptime().as_secs()),
        note: note(record),
    }
}

fn note(record: &ServerRecord) -> Option<String> {
    if record.stopping {
        return Some("it was asked to end and finishes open requests".to_owned());
    }
    let blocked = record.child.as_ref()?.blocked.as_deref()?;
    Some(serve::without_model(blocked))
}

/// Whether the model of a runtime that no gateway guards is there and accepted, so that it may be asked at all.
fn may_be_asked(session: &Session<'_>, chosen: &Chosen) -> bool {
    let gate = || session.recorded_site()?.gate(chosen, session.state()?);
    let Ok(Some(gate)) = gate() else {
        return false;
    };
    session
        .block_on(async { Ok(gate.open().await.is_ok()) })
        .unwrap_or(false)
}

/// What Gemini CLI starts by itself is `lit`.
fn with_lit(chosen: &Chosen) -> Chosen {
    Chosen {
        runtime: RuntimeName::Lit,
        ..chosen.clone()
    }
}

/// Whether `route` may ask the server of this home: a gateway keeps requests from an engine without its model itself.
pub(crate) fn may_route(session: &Session<'_>) -> Result<bool, Failure> {
    Ok(match look(session)? {
        Running::Supervised(record) => !record.server.direct || may_be_asked(session, &session.state()?.chosen),
        Running::Bare { .. } => may_be_asked(session, &with_lit(&session.state()?.chosen)),
        Running::No | Running::Unnamed | Running::Foreign(_) => true,
    })
}

/// A runtime that Gemini CLI started: it is asked as Gemini CLI asks it (docs/facts.md section 3).
fn bare(session: &Session<'_>, chosen: &Chosen, pid: u32, port: u16) -> Result<Report, Failure> {
    let is_ready = if may_be_asked(session, &with_lit(chosen)) {
        let path = format!("/v1beta/models/{}:generateContent", chosen.model);
        let answer = session.block_on(async { Ok(local::post(port, &path, None, Duration::from_secs(5)).await) })?;
        answer.is_ok_and(|answer| answer.status != 404)
    } else {
        false
    };
    Ok(Report {
        running: true,
        ready: is_ready,
        pid: Some(pid),
        port,
        runtime: "lit".to_owned(),
        model: chosen.model.to_string(),
        child: None,
        uptime_s: None,
        note: None,
    })
}
