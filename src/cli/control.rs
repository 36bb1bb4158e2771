//! `start`, `stop` and `restart`: the detached server.

use std::process::ExitCode;

use gem_setup::error::Failure;
use gem_setup::progress::waiting;
use gem_setup::setup;
use gem_setup::supervise::{self, GRACE, Started, Stopped};

use super::server::Server;
use super::session::Session;
use super::status::{examine, without_model};
use crate::report::Events;

/// Starts the server in the background.
pub(crate) fn start(session: &Session<'_>, server: &Server<'_>) -> Result<ExitCode, Failure> {
    server.check(session)?;
    let started = session.block_on_until_signal(begin(session, server))?;
    report(session, &started)?;
    Ok(ExitCode::SUCCESS)
}

/// Stops the server and starts it again, unless the start is bound to fail.
pub(crate) fn restart(session: &Session<'_>, server: &Server<'_>) -> Result<ExitCode, Failure> {
    server.check(session)?;
    server.engine(session)?;
    let started = session.block_on_until_signal(async {
        server.check_direct(session).await?;
        setup::check_executable(&server.site, &server.spec.chosen)?;
        supervise::stop(&session.layout, GRACE).await?;
        begin(session, server).await
    })?;
    report(session, &started)?;
    Ok(ExitCode::SUCCESS)
}

async fn begin(session: &Session<'_>, server: &Server<'_>) -> Result<Started, Failure> {
    server.warn_of_idle_options(session.printer);
    server.check_direct(session).await?;
    setup::check_executable(&server.site, &server.spec.chosen)?;
    // The server runs without the copies too; `doctor` names the files that are still elsewhere.
    let _ = setup::adopt_recorded(&session.layout).await;
    let request = server.spec.request(&server.site);
    let starting = supervise::start(&session.layout, &request);
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
        printer.line(&format!("the server is {state}: pid {pid}, port {port}"));
    }
    if let Some(missing) = &started.blocked {
        printer.remark(&without_model(missing));
    }
    Ok(())
}

/// Stops the server.
pub(crate) fn stop(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let stopped = session.block_on_until_signal(async { Ok(supervise::stop(&session.layout, GRACE).await?) })?;
    let (pid, text) = match stopped {
        Stopped::NotRunning => (None, "no server is running".to_owned()),
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
        printer.line(&text);
    }
    Ok(ExitCode::SUCCESS)
}
