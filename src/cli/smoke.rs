//! The command `smoke`.

use std::process::ExitCode;

use gem_platform::Os;
use gem_setup::error::Failure;
use gem_setup::runtime::RuntimeName;
use gem_setup::setup::{self, Chosen, Smoke, Wanted};
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
        printer.prose(&format!("{}\n  ({latency} ms)", joke.trim()), 0);
    }
    for probe in &outcome.probes {
        let agreement = if probe.got == probe.expected {
            "as expected"
        } else {
            "differs from the rubric"
        };
        let text = format!(
            "{:<5} {agreement}, in {} ms by {}: {}",
            probe.got, probe.latency_ms, probe.answered_by, probe.request
        );
        printer.prose(&text, 6);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the joke prompt as a command for each of two shells.
pub(crate) fn print_command(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let (port, runtime) = served(session, &look(session)?)?;
    let chosen = Chosen {
        port,
        ..session.state()?.chosen.clone()
    };
    let (url, body) = setup::joke_request(&chosen);
    let header = "Content-Type: application/json";
    let curl = shell::line(Os::Linux, ["curl", "-sS", &url, "-H", header, "-d", &body]);
    let request = ["Invoke-RestMethod", "-Method", "Post", "-Uri", &url];
    let rest = ["-ContentType", "application/json", "-Body", &body];
    let powershell = shell::line(Os::Windows, request.iter().chain(&rest));
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&serde_json::json!({"curl": curl, "powershell": powershell}));
    } else {
        printer.line(&format!("# curl\n{curl}\n# PowerShell\n{powershell}"));
    }
    if runtime == RuntimeName::Builtin.as_str() {
        let remark = "the runtime `builtin` has no model: it answers only routing requests and refuses this one";
        printer.remark_in_prose(remark, 2);
    }
    Ok(ExitCode::SUCCESS)
}

fn send(session: &Session<'_>) -> Result<Smoke, Failure> {
    let state = session.state()?;
    let site = session.site_to_read()?;
    let wanted = Wanted::from(state.chosen.clone());
    session.block_on(setup::smoke(&site, &wanted, state, &Events::remarks(session.printer)))
}
