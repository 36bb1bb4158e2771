//! The smoke test as a step: run once for each combination of runtime, version, model and port, and again after a
//! change of the runtime, the model or the server.

use jiff::Timestamp;

use crate::error::Failure;
use crate::setup::check::{Check, Fix, Subject};
use crate::setup::records::{SmokeFault, SmokeRecord};
use crate::setup::step::Inspection;
use crate::setup::{Setup, smoke};

/// The check that shows the last test, if it failed, or the one that `doctor --smoke` runs.
pub(in crate::setup) const CHECK: Subject = Subject::new("server.smoke", "answers to real prompts");
/// What the step would do.
pub(in crate::setup) const PLAN: &str = "send a prompt and two routing probes";

pub(super) fn inspect(setup: &Setup<'_>) -> Inspection {
    if !setup.wanted.with_smoke {
        return Inspection::not_needed("no smoke test wanted (--no-smoke)", Vec::new());
    }
    if !setup.wanted.with_server {
        return Inspection::not_needed("there is no server to test (--no-start)", Vec::new());
    }
    match &setup.state.smoke {
        Some(record) if setup.site.is_for_this_machine() && record.subject == setup.subject() => {
            Inspection::in_place(format!("passed on {:.0}", record.time), Vec::new())
        }
        _ => Inspection::needed(PLAN, failed(setup).into_iter().collect()),
    }
}

/// The check for the last test, if it failed. Without a new test nothing would show that the model is unusable: the
/// built-in classifier answers in its place.
fn failed(setup: &Setup<'_>) -> Option<Check> {
    let fault = setup.state.smoke_fault.as_ref();
    let fault = fault.filter(|_| setup.site.is_for_this_machine())?;
    let detail = format!("the last test failed on {:.0}: {}", fault.time, fault.message);
    let otherwise = "correct what `gem-setup logs` shows, then run `gem-setup doctor --fix`, which tests again";
    Some(CHECK.fail(detail, Fix::run_or("install --force", otherwise)))
}

pub(super) async fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let outcome = match smoke(&setup.site, &setup.wanted, &setup.state, setup.tools.progress).await {
        Ok(outcome) => outcome,
        Err(failure) => {
            setup.state.smoke = None;
            setup.state.smoke_fault = Some(SmokeFault {
                time: Timestamp::now(),
                message: failure.message.clone(),
            });
            setup.record()?;
            return Err(failure);
        }
    };
    if let Some(doubts) = outcome.doubts() {
        setup.tools.progress.note("smoke", &format!("warning: {doubts}"));
    }
    setup.state.smoke_fault = None;
    setup.state.smoke = Some(SmokeRecord {
        time: Timestamp::now(),
        subject: setup.subject(),
    });
    let joke = outcome.joke.zip(outcome.joke_latency_ms);
    let joke = joke.map_or_else(String::new, |(text, latency)| {
        format!("“{}” ({latency} ms); ", text.trim())
    });
    let probes: Vec<String> = outcome
        .probes
        .iter()
        .map(|probe| format!("{} in {} ms by {}", probe.got, probe.latency_ms, probe.answered_by))
        .collect();
    Ok(format!("{joke}probes: {}", probes.join(", ")))
}
