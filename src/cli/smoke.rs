//! `smoke`.

use std::process::ExitCode;

use gem_setup::error::Failure;
use gem_setup::setup::{self, Smoke, Wanted};

use super::session::Session;
use crate::report::Events;

/// Sends the joke prompt and the routing probes to the installed server.
pub(crate) fn run(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let outcome = send(session);
    if printer.json() {
        match &outcome {
            Ok(outcome) => printer.json_line(outcome),
            Err(_) => printer.json_line(&serde_json::json!({"ok": false, "joke": null, "probes": []})),
        }
    }
    let outcome = outcome?;
    if printer.json() {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some((joke, latency)) = outcome.joke.zip(outcome.joke_latency_ms) {
        printer.line(&format!("{}\n  ({latency} ms)", joke.trim()));
    }
    for probe in &outcome.probes {
        let agreement = if probe.got == probe.expected {
            "as expected"
        } else {
            "unlike the rubric"
        };
        printer.line(&format!(
            "{:<5} {agreement}, in {} ms by {}: {}",
            probe.got, probe.latency_ms, probe.answered_by, probe.request
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn send(session: &Session<'_>) -> Result<Smoke, Failure> {
    let state = session.state()?;
    let site = session.recorded_site()?;
    let wanted = Wanted::from(state.chosen.clone());
    session.block_on(setup::smoke(&site, &wanted, state, &Events::remarks(session.printer)))
}
