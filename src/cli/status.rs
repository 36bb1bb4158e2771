//! The command `status`: the server of this home.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use gem_platform::process::{Owner, has_open};
use gem_setup::error::{Failure, Kind};
use gem_setup::net::{LOOPBACK_DOWN, RAISE_LOOPBACK, is_loopback_down};
use gem_setup::runtime::local::{self, Peer};
use gem_setup::runtime::{EngineState, RuntimeName};
use gem_setup::setup::{self, Chosen, Offer};
use gem_setup::supervise::{self, EngineRecord, Running, ServerRecord, observe};
use serde::Serialize;

use super::args::StatusArgs;
use super::news;
use super::session::Session;
use crate::report::signals;

/// The interval at which `--wait` checks the server.
const POLL: Duration = Duration::from_millis(100);

/// The report that `status --json` prints (docs/contract.md section 2).
#[derive(Debug, Default, Serialize)]
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
    /// Whether another program listens on the port.
    #[serde(skip)]
    is_taken: bool,
    /// Whether another gem-setup works on this home.
    #[serde(skip)]
    is_busy: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    upgrades: Vec<Offer>,
}

#[derive(Debug, Serialize)]
struct Child {
    pid: Option<u32>,
    port: u16,
    state: EngineState,
    restarts: u64,
}

/// Prints whether the server is running; ends with 0 only if it is ready.
pub(crate) fn run(session: &Session<'_>, args: &StatusArgs) -> Result<ExitCode, Failure> {
    // Without a server to ask there is no event loop that would notice a signal.
    signals::end_at_once(session.printer);
    let deadline = Instant::now() + Duration::from_secs_f64(args.wait.unwrap_or_default());
    let mut report = examine(session)?;
    let shown = session.printer.meanwhile("waiting until the server is ready");
    while !report.ready && Instant::now() < deadline {
        std::thread::sleep(POLL.min(deadline.saturating_duration_since(Instant::now())));
        report = examine(session)?;
    }
    drop(shown);
    note_stranger(session, &mut report)?;
    note_smoke(session, &mut report);
    let other = session.other().map(|other| format!("{other}; {}", other.remedy()));
    report.is_busy = other.is_some();
    report.upgrades = news::offers(session, &args.news);
    let is_cut_off = is_loopback_down();
    report.ready &= !is_cut_off;
    let cut_off = is_cut_off.then(|| format!("{LOOPBACK_DOWN}; {RAISE_LOOPBACK}"));
    let notes = [
        other,
        cut_off,
        report.note.take(),
        news::last_failure(session, &args.news),
    ];
    let notes: Vec<String> = notes.into_iter().flatten().collect();
    report.note = (!notes.is_empty()).then(|| notes.join("; "));
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&report);
    } else {
        print(session, &report)?;
    }
    news::look_up(session, &args.news);
    Ok(if report.ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Kind::Runtime.exit_status())
    })
}

/// Notes a program that listens on the port while the installed server is not running.
fn note_stranger(session: &Session<'_>, report: &mut Report) -> Result<(), Failure> {
    if report.running || !session.is_installed() {
        return Ok(());
    }
    // Without a readable record there is no advice here; other commands report the fault.
    let Ok(site) = session.recorded_site() else {
        return Ok(());
    };
    let taken = session.block_on(async { Ok(setup::taken_port(&site, report.port).await) })?;
    if let Some(taken) = taken {
        report.is_taken = true;
        report.note = Some(format!("{}; {}", taken.message, taken.hint.unwrap_or_default()));
    }
    Ok(())
}

/// Notes that the model did not answer the last test: the built-in classifier answers in its place.
fn note_smoke(session: &Session<'_>, report: &mut Report) {
    let state = session.state().ok().filter(|_| report.running);
    if let Some(fault) = state.and_then(|state| state.smoke_fault.as_ref()) {
        let test = format!(
            "the last test failed on {:.0}: {}; `gem-setup doctor` says what to do",
            fault.time, fault.message
        );
        let note = report.note.take();
        report.note = Some(note.map_or_else(|| test.clone(), |note| format!("{note}; {test}")));
    }
}

fn print(session: &Session<'_>, report: &Report) -> Result<(), Failure> {
    let printer = session.printer;
    if report.running {
        print_running(session, report);
    } else if !session.is_installed() {
        let text = match &report.note {
            // The note names the gem-setup that is at work.
            Some(_) if report.is_busy => "not installed yet".to_owned(),
            _ => session.not_installed()?,
        };
        printer.prose(&text, 2);
    } else if report.is_taken || report.is_busy {
        printer.line("not running");
    } else {
        let start = if session.layout.is_of_system() {
            "systemctl start gem-setup"
        } else {
            "gem-setup start"
        };
        printer.prose(&format!("not running; `{start}` starts it"), 2);
    }
    if let Some(note) = &report.note {
        printer.prose(&printer.tilde(&format!("  {note}")), 2);
    }
    for offer in &report.upgrades {
        printer.prose(&format!("  {}", offer.in_words("")), 2);
    }
    Ok(())
}

fn print_running(session: &Session<'_>, report: &Report) {
    let printer = session.printer;
    let readiness = if report.ready { "ready" } else { "not ready" };
    let pid = report.pid.map_or_else(String::new, |pid| format!("pid {pid}, "));
    let uptime = report
        .uptime_s
        .map_or_else(String::new, |seconds| format!(", for {seconds} s"));
    printer.prose(
        &format!("running and {readiness}: {pid}port {}{uptime}", report.port),
        2,
    );
    if report.runtime == RuntimeName::Builtin.as_str() {
        printer.prose(&format!("  runtime {}, which has no model", report.runtime), 2);
    } else {
        printer.prose(
            &format!("  runtime {} with the model {}", report.runtime, report.model),
            2,
        );
    }
    if let Some(child) = &report.child {
        let pid = child
            .pid
            .map_or_else(|| "no process".to_owned(), |pid| format!("pid {pid}"));
        let Child {
            state, port, restarts, ..
        } = child;
        let plural = if *restarts == 1 { "" } else { "s" };
        let port = match port {
            0 => String::new(),
            port => format!(", private port {port}"),
        };
        printer.prose(&format!("  engine {state}: {pid}{port}, {restarts} restart{plural}"), 2);
    }
}

/// The server of this home.
pub(crate) fn look(session: &Session<'_>) -> Result<Running, Failure> {
    observe(&session.layout).map_err(|error| cannot_look(session, &error))
}

/// The server on `port`, as the receiver of a request.
pub(crate) fn peer(session: &Session<'_>, port: u16) -> Result<Peer, Failure> {
    supervise::peer(&session.layout, port).map_err(|error| cannot_look(session, &error))
}

fn cannot_look(session: &Session<'_>, error: &std::io::Error) -> Failure {
    let home = session.layout.gemini();
    let action = format_args!("look for the server in `{}`", home.display());
    Failure::cannot(action, error).with_hint(supervise::remedy(error))
}

/// The state of the server of this home.
pub(crate) fn examine(session: &Session<'_>) -> Result<Report, Failure> {
    // A running server can be examined without the recorded choices.
    let chosen = || session.chosen();
    match look(session)? {
        Running::Supervised(record) if record.is_here() => {
            session.block_on(async { Ok(supervised(&supervise::refresh(*record).await)) })
        }
        Running::Supervised(record) => session.block_on(async { Ok(elsewhere(&record).await) }),
        Running::Unnamed => Ok(Report {
            running: true,
            note: Some(format!(
                "an unknown process holds `{}`",
                session.layout.server_lock_file().display()
            )),
            ..not_running(&chosen()?)
        }),
        Running::Bare { pid, port } => bare(session, &chosen()?, pid, port),
        Running::No | Running::Foreign(_) => Ok(not_running(&chosen()?)),
    }
}

fn not_running(chosen: &Chosen) -> Report {
    Report {
        port: chosen.port,
        runtime: chosen.runtime.to_string(),
        model: chosen.model.to_string(),
        ..Report::default()
    }
}

/// A server whose process cannot be seen from here; its port shows whether it answers.
async fn elsewhere(record: &ServerRecord) -> Report {
    let place = "its process is in another process namespace or on another machine";
    let answer = supervise::ask(record).await;
    let note = match &answer {
        Some(_) => "it answers on its port",
        None => "its port does not answer here; stop it where it was started",
    };
    Report {
        ready: answer.is_some_and(|answer| answer.ready),
        note: Some(format!("{place}; {note}")),
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
        child: record.engine.as_ref().map(|child| Child {
            pid: child.process.as_ref().map(|process| process.pid),
            port: child.port,
            state: child.state,
            restarts: child.restarts,
        }),
        uptime_s: record.uptime().map(|uptime| uptime.as_secs()),
        note: note(record),
        ..Report::default()
    }
}

fn note(record: &ServerRecord) -> Option<String> {
    if record.stopping {
        return Some("it is stopping; open requests may finish first".to_owned());
    }
    if record.silent {
        return Some("it does not answer on its port; `gem-setup restart` replaces it".to_owned());
    }
    let engine = record.engine.as_ref();
    let blocked = engine.and_then(|engine| engine.blocked.as_deref());
    let outdated = record.outdated();
    let notes: Vec<String> = blocked
        .map(without_model)
        .into_iter()
        .chain(engine.and_then(fault))
        .chain(record.unapplied.clone())
        .chain(outdated.map(|other| format!("it runs {other}: run `gem-setup restart`")))
        .collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Why the engine does not answer, if that is known.
fn fault(engine: &EngineRecord) -> Option<String> {
    let last = || {
        let is_failing = engine.state == EngineState::CrashLoop;
        let last = engine.last_exit.as_ref().filter(|_| is_failing)?;
        Some(format!("the engine is being tried again; the last one: {last}"))
    };
    engine.fault.clone().or_else(last)
}

/// The remark for an engine that waits for its model: `missing` names the missing item.
pub(crate) fn without_model(missing: &str) -> String {
    format!("the built-in classifier answers until the model is usable: {missing}")
}

/// Whether requests may be sent to a runtime without a gateway: its model is present and its terms are accepted.
fn may_be_asked(session: &Session<'_>, chosen: &Chosen) -> bool {
    let gate = || session.site_to_read()?.gate(chosen, session.state()?);
    let Ok(Some(gate)) = gate() else {
        return false;
    };
    session
        .block_on(async { Ok(gate.open().await.is_ok()) })
        .unwrap_or(false)
}

/// The choices for a server process `pid` without a record: it is a `lit` that Gemini CLI started.
fn unrecorded(session: &Session<'_>, chosen: &Chosen, pid: u32) -> Chosen {
    let mut chosen = chosen.clone();
    if !is_supervised(session, pid) {
        chosen.runtime = RuntimeName::Lit;
    }
    chosen
}

/// Whether the process `pid` is gem-setup's own server, whose record is missing until the server writes it again.
fn is_supervised(session: &Session<'_>, pid: u32) -> bool {
    has_open(pid, &session.layout.server_lock_file()) == Some(true)
}

/// The port and the runtime of the server `running`; if there is none, those of the installation.
pub(crate) fn served(session: &Session<'_>, running: &Running) -> Result<(u16, String), Failure> {
    let chosen = &session.chosen()?;
    Ok(match running {
        Running::Supervised(record) => (record.server.port, record.server.runtime.clone()),
        Running::Bare { pid, port } => (*port, unrecorded(session, chosen, *pid).runtime.to_string()),
        _ => (chosen.port, chosen.runtime.to_string()),
    })
}

/// Whether `route` may ask the server `running`. A gateway itself holds requests back while the model is missing.
pub(crate) fn may_route(session: &Session<'_>, running: &Running) -> Result<bool, Failure> {
    Ok(match running {
        Running::Supervised(record) => !record.server.direct || may_be_asked(session, &session.state()?.chosen),
        Running::Bare { pid, .. } if is_supervised(session, *pid) => true,
        Running::Bare { pid, .. } => may_be_asked(session, &unrecorded(session, &session.state()?.chosen, *pid)),
        Running::No | Running::Unnamed | Running::Foreign(_) => true,
    })
}

/// A server without a record. If Gemini CLI started its runtime, it gets Gemini CLI's own probe (docs/facts.md section
/// 3).
fn bare(session: &Session<'_>, chosen: &Chosen, pid: u32, port: u16) -> Result<Report, Failure> {
    let chosen = &unrecorded(session, chosen, pid);
    let ready = if is_supervised(session, pid) {
        session.block_on(async { Ok(supervise::is_ready(port, pid).await) })?
    } else if may_be_asked(session, chosen) {
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
        ..not_running(chosen)
    })
}
