//! `start`, `stop` and `restart`: the detached server.

use std::cell::Cell;
use std::process::ExitCode;
use std::time::Duration;

use gem_setup::error::{Failure, Kind};
use gem_setup::progress::waiting;
use gem_setup::setup::{self, SERVICE};
use gem_setup::supervise::{self, GRACE, Running, StartRequest, Started, Stopped};

use tokio::time::sleep;

use super::server::Server;
use super::session::Session;
use super::status::{examine, look, without_model};
use crate::report::Events;

/// The interval at which a server is observed that was asked to end.
const POLL: Duration = Duration::from_millis(2);

/// Starts the server in the background.
pub(crate) fn start(session: &Session<'_>, server: &Server<'_>) -> Result<ExitCode, Failure> {
    leave_to_system(session, "start")?;
    server.check(session)?;
    let is_needed = matches!(look(session)?, Running::No | Running::Foreign(_));
    let started = session.block_on_until_signal(async {
        if is_needed {
            check_beforehand(session, server, "start").await?;
        }
        begin(session, server).await
    })?;
    report(session, &started)?;
    Ok(ExitCode::SUCCESS)
}

/// Stops the server and starts it again. Refuses if the start is certain to fail.
pub(crate) fn restart(session: &Session<'_>, server: &Server<'_>) -> Result<ExitCode, Failure> {
    leave_to_system(session, "restart")?;
    server.check(session)?;
    let started = session.block_on_until_signal(async {
        check_beforehand(session, server, "restart").await?;
        replace(session, server).await
    })?;
    report(session, &started)?;
    Ok(ExitCode::SUCCESS)
}

/// Checks that there is a runtime to start: `serve` would report a missing one only in its log.
pub(super) fn check_installed(session: &Session<'_>, server: &Server<'_>) -> Result<(), Failure> {
    let engine = server.engine(session);
    engine
        .map(|_| ())
        .map_err(|failure| session.or_not_installed("start the server", failure))
}

/// Finds all that would keep the server from starting, before a process is started or stopped.
async fn check_beforehand(session: &Session<'_>, server: &Server<'_>, verb: &str) -> Result<(), Failure> {
    check_installed(session, server)?;
    setup::check_server(&session.layout)?;
    server.check_direct(session).await?;
    server.site.check_executable(&server.spec.chosen)?;
    check_port(session, server, verb).await
}

/// A server that is to move to a port that it cannot use stays where it is.
async fn check_port(session: &Session<'_>, server: &Server<'_>, verb: &str) -> Result<(), Failure> {
    let wanted = server.spec.chosen.port;
    let current = match look(session)? {
        Running::Supervised(record) => Some(record.server.port),
        Running::Bare { port, .. } => Some(port),
        Running::Unnamed => return Ok(()),
        // The new server ends an engine that a killed one left behind on the port.
        Running::No | Running::Foreign(_) if server.spec.chosen.direct => return Ok(()),
        Running::No | Running::Foreign(_) => None,
    };
    if current == Some(wanted) {
        return Ok(());
    }
    match setup::unusable_port(&server.site, wanted).await {
        Some(unusable) => Err(Failure {
            message: format!("cannot {verb} the server: {}", unusable.message),
            ..unusable
        }),
        None => Ok(()),
    }
}

/// A server started by root would not be the service's, and its files would belong to root.
fn leave_to_system(session: &Session<'_>, verb: &str) -> Result<(), Failure> {
    if !session.layout.is_of_system() {
        return Ok(());
    }
    let failure = Failure::new(
        Kind::Conflict,
        format!("cannot {verb} the server: the system runs it, for all users"),
    );
    Err(failure.with_hint(format!("run `systemctl {verb} {SERVICE}`")))
}

/// Ends the server, and starts the new one once that has begun: it takes over the port, so that clients wait for it instead of being
/// refused. What can be done before is not done in between.
async fn replace(session: &Session<'_>, server: &Server<'_>) -> Result<Started, Failure> {
    let request = prepare(session, server).await?;
    let is_over = Cell::new(false);
    let ending = async {
        end(session).await?;
        is_over.set(true);
        Ok::<(), Failure>(())
    };
    let beginning = async {
        while !is_over.get() && !is_ending(session)? {
            sleep(POLL).await;
        }
        launch(session, &request).await
    };
    // A server that cannot be ended keeps the home, so a start would fail too. The server ends even if no other begins.
    let ((), begun) = tokio::try_join!(ending, async { Ok(beginning.await) })?;
    begun
}

/// Whether gem-setup's own server is ending. Its successor can begin meanwhile; a server that Gemini CLI started must end first.
fn is_ending(session: &Session<'_>) -> Result<bool, Failure> {
    Ok(matches!(look(session)?, Running::Supervised(record) if record.stopping && record.is_here()))
}

async fn begin(session: &Session<'_>, server: &Server<'_>) -> Result<Started, Failure> {
    launch(session, &prepare(session, server).await?).await
}

/// Does what a start needs apart from the process.
async fn prepare(session: &Session<'_>, server: &Server<'_>) -> Result<StartRequest, Failure> {
    server.warn_of_idle_options(session.printer, false);
    server.check_direct(session).await?;
    server.site.check_executable(&server.spec.chosen)?;
    // The server also runs without the copies; `doctor` names the files that are still elsewhere.
    let _ = setup::adopt_recorded(&session.layout).await;
    let mut request = server.spec.request(&server.site);
    request.program.path = setup::keep_program(&session.layout, &server.site.program)?;
    Ok(request)
}

async fn launch(session: &Session<'_>, request: &StartRequest) -> Result<Started, Failure> {
    let starting = supervise::start(&session.layout, request);
    let events = Events::remarks(session.printer);
    Ok(waiting(&events, "server", supervise::STARTING, starting).await?)
}

fn report(session: &Session<'_>, started: &Started) -> Result<(), Failure> {
    let report = examine(session)?;
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&report);
    } else {
        let state = match started {
            Started { already: true, .. } => "already running",
            Started { blocked: Some(_), .. } => "running",
            _ => "ready",
        };
        let (pid, port) = (started.pid, report.port);
        printer.prose(&format!("the server is {state}: pid {pid}, port {port}"), 2);
    }
    remark_other_port(session, report.port);
    if let Some(missing) = &started.blocked {
        printer.remark_in_prose(&without_model(missing), 2);
    }
    Ok(())
}

/// Says how Gemini CLI learns of a `port` that is not the one of its settings.
fn remark_other_port(session: &Session<'_>, port: u16) {
    let recorded = session.state().ok().filter(|_| session.is_installed());
    if let Some(state) = recorded.filter(|state| state.chosen.port != port) {
        let asked = state.chosen.port;
        let remark = format!(
            "Gemini CLI still asks port {asked}: `gem-setup install --port {port}` changes its settings, `gem-setup \
             restart --port {asked}` returns to that port"
        );
        session.printer.remark_in_prose(&remark, 2);
    }
}

/// Ends the server. This may take as long as its open requests.
async fn end(session: &Session<'_>) -> Result<Stopped, Failure> {
    let stopping = supervise::stop(&session.layout, GRACE);
    let events = Events::remarks(session.printer);
    Ok(waiting(&events, "server", "waiting for the server to end", stopping).await?)
}

/// Stops the server.
pub(crate) fn stop(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let stopped = session.block_on_until_signal(end(session))?;
    let (pid, text) = match stopped {
        Stopped::NotRunning if session.is_installed() => (None, "no server is running".to_owned()),
        Stopped::NotRunning => (None, format!("no server is running; {}", session.not_installed()?)),
        Stopped::Gracefully { pid } => (Some(pid), format!("stopped the server (pid {pid})")),
        Stopped::Killed { pid } => (
            Some(pid),
            format!("killed the server (pid {pid}), which did not end in time"),
        ),
    };
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&serde_json::json!({"stopped": pid.is_some(), "pid": pid}));
    } else {
        printer.prose(&text, 2);
    }
    Ok(ExitCode::SUCCESS)
}
