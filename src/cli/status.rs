//! `status`: the server of this home.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use gem_platform::process::Owner;
use gem_setup::error::{Failure, Kind};
use gem_setup::runtime::local::{self, Peer};
use gem_setup::runtime::{EngineState, RuntimeName};
use gem_setup::setup::Chosen;
use gem_setup::supervise::{self, Running, ServerRecord, observe};
use serde::Serialize;

use super::args::StatusArgs;
use super::session::Session;

/// The pause between two looks of `--wait`.
const POLL: Duration = Duration::from_millis(100);

/// The report that `status --json` prints (docs/contract.md section 2).
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    running: bool,
    ready: bool,
    pid: Option<u32>,
    pub(crate) port: u16,
    runtime: String,
    model: String,
    child: Option<Child>,
    uptime_s: Option<u64>,
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

/// Prints whether the server is running; ends with 0 only if it is ready.
pub(crate) fn run(session: &Session<'_>, args: StatusArgs) -> Result<ExitCode, Failure> {
    let deadline = Instant::now() + Duration::from_secs_f64(args.wait.unwrap_or_default());
    let mut report = examine(session)?;
    while !report.ready && Instant::now() < deadline {
        std::thread::sleep(POLL.min(deadline.saturating_duration_since(Instant::now())));
        report = examine(session)?;
    }
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&report);
    } else {
        print(session, &report);
    }
    Ok(if report.ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Kind::Runtime.exit_status())
    })
}

fn print(session: &Session<'_>, report: &Report) {
    let printer = session.printer;
    if report.running {
        print_running(session, report);
    } else {
        let port = report.port;
        printer.line(&format!("not running; `gem-setup start` starts it on port {port}"));
    }
    if let Some(note) = &report.note {
        printer.line(&format!("  {note}"));
    }
}

fn print_running(session: &Session<'_>, report: &Report) {
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
        let Child {
            state, port, restarts, ..
        } = child;
        let plural = if *restarts == 1 { "" } else { "s" };
        printer.line(&format!(
            "  child {state}: {pid}, private port {port}, {restarts} restart{plural}"
        ));
    }
}

/// The server of this home.
pub(crate) fn look(session: &Session<'_>) -> Result<Running, Failure> {
    observe(&session.layout).map_err(|error| cannot_look(session, &error))
}

/// The server on `port` as the peer of a request.
pub(crate) fn peer(session: &Session<'_>, port: u16) -> Result<Peer, Failure> {
    supervise::peer(&session.layout, port).map_err(|error| cannot_look(session, &error))
}

fn cannot_look(session: &Session<'_>, error: &std::io::Error) -> Failure {
    let home = session.layout.gemini();
    let message = format!("cannot look for the server in `{}`: {error}", home.display());
    Failure::new(Kind::Unexpected, message).with_hint("check that the folder is yours and readable")
}

/// The state of the server of this home.
pub(crate) fn examine(session: &Session<'_>) -> Result<Report, Failure> {
    let chosen = &session.state()?.chosen;
    match look(session)? {
        Running::Supervised(record) if record.is_here() => {
            session.block_on(async { Ok(supervised(&supervise::refresh(*record).await)) })
        }
        Running::Supervised(record) => session.block_on(async { Ok(elsewhere(&record).await) }),
        Running::Unnamed => Ok(Report {
            running: true,
            note: Some(format!(
                "a process holds `{}` without naming itself",
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

/// A server whose process is invisible from here: its port answers for it.
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
        uptime_s: record.uptime().map(|uptime| uptime.as_secs()),
        note: note(record),
    }
}

fn note(record: &ServerRecord) -> Option<String> {
    if record.stopping {
        return Some("it is stopping and finishes open requests".to_owned());
    }
    if record.silent {
        return Some("it does not answer on its port; `gem-setup restart` replaces it".to_owned());
    }
    let blocked = record.child.as_ref()?.blocked.as_deref()?;
    Some(without_model(blocked))
}

/// The remark while the engine waits for a `missing` item.
pub(crate) fn without_model(missing: &str) -> String {
    format!("the built-in classifier answers until the model can: {missing}")
}

/// Whether a runtime without a gateway may get requests: its model is present and its terms are accepted.
fn may_be_asked(session: &Session<'_>, chosen: &Chosen) -> bool {
    let gate = || session.recorded_site()?.gate(chosen, session.state()?);
    let Ok(Some(gate)) = gate() else {
        return false;
    };
    session
        .block_on(async { Ok(gate.open().await.is_ok()) })
        .unwrap_or(false)
}

/// Gemini CLI itself starts `lit`.
fn with_lit(chosen: &Chosen) -> Chosen {
    Chosen {
        runtime: RuntimeName::Lit,
        ..chosen.clone()
    }
}

/// Whether `route` may ask the server of this home: a gateway itself keeps requests from an engine without its model.
pub(crate) fn may_route(session: &Session<'_>) -> Result<bool, Failure> {
    Ok(match look(session)? {
        Running::Supervised(record) => !record.server.direct || may_be_asked(session, &session.state()?.chosen),
        Running::Bare { .. } => may_be_asked(session, &with_lit(&session.state()?.chosen)),
        Running::No | Running::Unnamed | Running::Foreign(_) => true,
    })
}

/// A runtime that Gemini CLI started: it is asked as Gemini CLI asks it (docs/facts.md section 3).
fn bare(session: &Session<'_>, chosen: &Chosen, pid: u32, port: u16) -> Result<Report, Failure> {
    let ready = if may_be_asked(session, &with_lit(chosen)) {
        let path = format!("/v1beta/models/{}:generateContent", chosen.model);
        let peer = Peer::new(port, Owner::Process(pid));
        let answer = session.block_on(async { Ok(local::post(peer, &path, None, Duration::from_secs(5)).await) })?;
        answer.is_ok_and(|answer| answer.status != 404)
    } else {
        false
    };
    Ok(Report {
        running: true,
        ready,
        pid: Some(pid),
        port,
        runtime: RuntimeName::Lit.to_string(),
        ..not_running(chosen)
    })
}
