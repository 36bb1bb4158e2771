//! Waits until the running server uses the release that has become current.

use std::time::Duration;

use gem_platform::process::Identity;
use tokio::time::{Instant, sleep};

use crate::error::{Failure, Kind};
use crate::progress::waiting;
use crate::runtime::{ProgramStamp, local};
use crate::setup::records::SmokeRecord;
use crate::setup::release::recorded_catalog;
use crate::setup::step_id::StepId;
use crate::setup::{Setup, smoke, steps};
use crate::supervise::{self, Running, ServerRecord, Taken, observe};

/// The number of restarts by other programs that are waited for.
const RESTARTS: u32 = 3;
const WAIT: &str = "waiting for the server to switch to the other version";
/// The interval between two checks of a server that does not listen, or has not yet noticed its model.
const LOOK: Duration = Duration::from_millis(500);
/// The time limit for a server to listen or to end.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// The engine that ran before the switch.
pub(super) struct Engine {
    program: Option<ProgramStamp>,
    process: Option<Identity>,
    /// Whether the server follows the record: it then switches releases without a restart.
    follows: bool,
}

impl Engine {
    /// The engine of the chosen runtime, if a server runs one.
    pub(super) fn running(setup: &Setup<'_>) -> Option<Self> {
        let Ok(Running::Supervised(record)) = observe(&setup.site.layout) else {
            return None;
        };
        let is_chosen = record.server.runtime == setup.wanted.chosen.runtime.as_str();
        let engine = record.engine.as_ref().filter(|_| is_chosen)?;
        Some(Self {
            program: engine.program,
            process: engine.process.clone(),
            follows: record.follows,
        })
    }
}

/// Waits until the server answers with the current release. A server that does not follow the record is restarted.
pub(super) async fn hand_over(setup: &mut Setup<'_>, engine: Option<&Engine>) -> Result<(), Failure> {
    let Some(engine) = engine else { return Ok(()) };
    let program = setup.runtime()?.program().and_then(ProgramStamp::of);
    taken_up(setup, engine, program).await?;
    if setup.closed().await.is_some() {
        return Ok(());
    }
    if !answers(setup, engine, program).await? {
        return Ok(());
    }
    setup.state.smoke_fault = None;
    setup.state.smoke = Some(SmokeRecord {
        time: jiff::Timestamp::now(),
        subject: setup.subject(),
    });
    Ok(setup.state.write(&setup.site.layout.state_file())?)
}

/// Sends the prompts of the smoke test through the gateway; `false` if the server was stopped meanwhile. A server that another program
/// stops or restarts does not answer for a while; that is no fault of the release.
async fn answers(setup: &mut Setup<'_>, engine: &Engine, program: Option<ProgramStamp>) -> Result<bool, Failure> {
    for _ in 0..RESTARTS {
        let Some(server) = settled(setup).await else {
            return Ok(false);
        };
        let mut wanted = setup.wanted.clone();
        (wanted.chosen.port, wanted.chosen.direct) = (server.server.port, server.server.direct);
        let Err(failure) = smoke(&setup.site, &wanted, &setup.state, setup.tools.progress).await else {
            return Ok(true);
        };
        match settled(setup).await {
            None => return Ok(false),
            Some(now) if now.process == server.process => return Err(failure),
            Some(_) => taken_up(setup, engine, program).await?,
        }
    }
    Ok(false)
}

/// The running server, which may have another port than the recorded one. A server that does not listen is starting or ending: waits until
/// it has done either.
async fn settled(setup: &Setup<'_>) -> Option<Box<ServerRecord>> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let server = serving(setup)?;
        if local::is_listening(server.server.port).await || Instant::now() >= deadline {
            return Some(server);
        }
        sleep(LOOK).await;
    }
}

/// The running server, unless it is stopping.
fn serving(setup: &Setup<'_>) -> Option<Box<ServerRecord>> {
    match observe(&setup.site.layout) {
        Ok(Running::Supervised(record)) if !record.stopping => Some(record),
        _ => None,
    }
}

/// Waits until the server uses the previous release, which is current again. Returns the error for the failure of the new one.
pub(super) async fn return_to(setup: &mut Setup<'_>, engine: Option<&Engine>, failure: Failure) -> Failure {
    let mut message = format!(
        "the new version failed, the previous one is current again: {}",
        failure.message
    );
    if let Some(engine) = engine
        && let program = recorded_program(setup).or(engine.program)
        && !still_runs(setup, engine, program)
        && let Err(other) = taken_up(setup, engine, program).await
    {
        message = format!("{message}; and the server did not return to it: {}", other.message);
    }
    Failure::new(Kind::Runtime, message)
        .with_hint("run `gem-setup status`, and `gem-setup logs` for the runtime's output")
}

/// `failure` of the new version, where `second` kept the one before from becoming current again.
pub(super) fn not_taken_back(failure: Failure, second: &Failure) -> Failure {
    let message = format!(
        "the new version failed: {}; and the one before could not be made current again: {}",
        failure.message, second.message
    );
    Failure { message, ..failure }.with_hint(
        second
            .hint
            .clone()
            .unwrap_or_else(|| "run `gem-setup doctor`".to_owned()),
    )
}

/// Whether the server still runs the engine from before the switch, and that engine was started from `program`.
fn still_runs(setup: &Setup<'_>, engine: &Engine, program: Option<ProgramStamp>) -> bool {
    Engine::running(setup)
        .is_some_and(|now| now.process.is_some() && now.process == engine.process && now.program == program)
}

/// The executable of the current release as it is on disk now: it may differ from the file that the engine was started from.
fn recorded_program(setup: &mut Setup<'_>) -> Option<ProgramStamp> {
    let (site, state) = (&mut setup.site, &setup.state);
    site.catalog = recorded_catalog(&site.layout, state, site.target).ok()?;
    site.directory = state.release_directory(&site.layout);
    let runtime = site.runtime(&state.chosen, state).ok()?;
    runtime.program().and_then(ProgramStamp::of)
}

async fn taken_up(setup: &mut Setup<'_>, engine: &Engine, program: Option<ProgramStamp>) -> Result<(), Failure> {
    if !engine.follows {
        return steps::apply(setup, StepId::Server).await.map(drop);
    }
    let deadline = Instant::now() + supervise::READY_WITHIN;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let taking = supervise::await_engine(&setup.site.layout, program, engine.process.as_ref(), left);
        let taken = waiting(setup.tools.progress, "server", WAIT, taking).await;
        let taken = taken
            .map_err(|reason| Failure::new(Kind::Runtime, format!("the server did not switch to it: {reason}")))?;
        let is_final = taken != Taken::Blocked || setup.closed().await.is_some();
        if is_final || Instant::now() >= deadline {
            return Ok(());
        }
        // The model is present; the server looks for it at intervals.
        sleep(LOOK).await;
    }
}
