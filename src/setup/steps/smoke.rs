//! The smoke test as a step: run once for each combination of runtime, version, model and port.

use jiff::Timestamp;

use crate::error::Failure;
use crate::setup::records::SmokeRecord;
use crate::setup::step::Inspection;
use crate::setup::{Setup, smoke};

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
        _ => Inspection::needed("send a prompt and two routing probes", Vec::new()),
    }
}

pub(super) async fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let outcome = smoke(&setup.site, &setup.wanted, &setup.state, setup.tools.progress).await?;
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
