//! The command `smoke`.

use std::process::ExitCode;

use gem_platform::Os;
use gem_setup::error::Failure;
use gem_setup::runtime::{NO_MODEL, RuntimeName};
use gem_setup::setup::{self, Chosen, Probe, Smoke, Wanted};
use gem_setup::shell;

use super::session::Session;
use super::status::{look, served};
use crate::report::Events;

/// Sends the joke prompt and the routing probes to the installed server.
pub(crate) fn run(session: &Session<'_>) -> Result<ExitCode, Failure> {
    session.settle_swap();
    let printer = session.printer;
    let outcome = send(session);
    if printer.json() {
        match &outcome {
            Ok(outcome) => printer.json_line(outcome),
            Err(_) => printer.json_line(&serde_json::json!({"ok": false, "joke": null, "probes": []})),
        }
    }
    let outcome = outcome.map_err(|failure| session.or_not_installed("send test prompts", failure))?;
    if let Some(doubts) = outcome.doubts() {
        printer.warning(&doubts);
    }
    if printer.json() {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some((joke, latency)) = outcome.joke.zip(outcome.joke_latency_ms) {
        joke.trim().lines().for_each(|line| printer.prose(line, 0));
        printer.line(&format!("  ({latency} ms)"));
    }
    printer.table(&outcome.probes.iter().map(row_of).collect::<Vec<_>>(), 2);
    Ok(ExitCode::SUCCESS)
}

fn row_of(probe: &Probe) -> [String; 2] {
    let agreement = if probe.got == probe.expected {
        "as expected"
    } else {
        "differs from the rubric"
    };
    let (latency, by) = (probe.latency_ms, &probe.answered_by);
    let text = format!("{agreement}, in {latency} ms by {by}: {}", probe.request);
    [probe.got.to_string(), text]
}

/// Prints a request that the server answers as a command for each of two shells.
pub(crate) fn print_command(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let (port, runtime) = served(session, &look(session)?)?;
    let recorded = session.state()?.chosen.runtime;
    let served = RuntimeName::ALL.into_iter().find(|known| known.as_str() == runtime);
    let chosen = Chosen {
        port,
        runtime: served.unwrap_or(recorded),
        ..session.state()?.chosen.clone()
    };
    let (url, body) = setup::sample_request(&chosen);
    let header = "Content-Type: application/json";
    let curl = shell::line(Os::Linux, ["curl", "-sS", &url, "-H", header, "-d", &body]);
    let request = ["Invoke-RestMethod", "-Method", "Post", "-Uri", &url];
    let rest = ["-ContentType", "application/json", "-Body", &body];
    let powershell = shell::line(Os::Windows, request.iter().chain(&rest));
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&serde_json::json!({"curl": curl, "powershell": powershell}));
    } else {
        let lines = ["# curl", &curl, "# PowerShell", &powershell];
        lines.into_iter().for_each(|line| printer.line(line));
    }
    if !chosen.runtime.has_models() {
        printer.remark_in_prose(&format!("{NO_MODEL}: this is a routing request, which it answers"), 2);
    }
    Ok(ExitCode::SUCCESS)
}

fn send(session: &Session<'_>) -> Result<Smoke, Failure> {
    let state = session.state()?;
    let site = session.site_to_read()?;
    let wanted = Wanted::from(session.chosen()?);
    session.block_on(setup::smoke(&site, &wanted, state, &Events::remarks(session.printer)))
}
