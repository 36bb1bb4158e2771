//! Runs an engine on a spare port, to test it before the server uses it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gem_platform::process::{Guard, Owner, Program, Supervised};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::log::Log;
use super::logs::tail;
use super::output::{EngineOutput, finish, log_output};
use super::probe::ProbeRequest;
use super::readiness::{HealthLimits, Observer, until_ready};
use super::spawn::{describe, spawn};
use crate::runtime::local::{self, Peer};
use crate::runtime::{CommandLine, Endpoint, ModelGate};

/// The number of the engine's last lines that are shown with a failure.
const TAIL: usize = 8;
const POLL: Duration = Duration::from_millis(20);

/// The engine to test.
#[derive(Clone, Debug)]
pub struct TrialConfig {
    /// The command that serves the runtime.
    pub command: CommandLine,
    /// The model that the engine must know.
    pub model: String,
    /// If the gate is closed, the engine must listen, but no request is sent to it.
    pub gate: Arc<ModelGate>,
    /// gem-setup's own hidden subcommand that ends the engine of a killed gem-setup.
    pub guard: Program,
    /// The streams of the engine that are logged.
    pub output: EngineOutput,
    /// The file for the engine's output.
    pub log: PathBuf,
}

/// A running engine under test. Dropping this kills it.
pub struct Trial {
    engine: Supervised,
    guard: Guard,
    endpoint: Endpoint,
    readers: JoinSet<()>,
    log: Log,
    file: PathBuf,
}

struct Notes<'a>(&'a Log);

impl Observer for Notes<'_> {
    fn note(&self, text: &str) {
        self.0.line(&"trial".into(), text);
    }

    fn missed(&self, _reason: &str) {}

    fn recovered(&self) {}
}

impl Trial {
    /// Starts the engine on a free port and waits until it is ready; if the gate is closed, until it listens.
    ///
    /// # Errors
    /// The reason why it is not ready, with its last lines.
    pub async fn start(config: &TrialConfig) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot write `{}`: {error}", config.log.display());
        let _ = std::fs::remove_file(&config.log);
        let log = Log::start(&config.log).map_err(failed)?;
        let guard = Guard::new(config.guard.clone());
        let (mut engine, endpoint) = spawn(&config.command, None, &guard)?;
        let readers = log_output(&mut engine, config.output, &log);
        let mut trial = Self {
            engine,
            guard,
            endpoint,
            readers,
            log,
            file: config.log.clone(),
        };
        let endpoint = trial.endpoint.clone();
        let log = trial.log.clone();
        trial.during(ready(config, &endpoint, &log)).await?;
        Ok(trial)
    }

    /// The address at which the engine answers.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer::new(self.endpoint.port(), Owner::Process(self.engine.id()))
    }

    /// The result of `work`, which sends requests to the engine.
    ///
    /// # Errors
    /// The reason why the work failed or the engine ended, with its last lines.
    pub async fn during<T>(&mut self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let reason = tokio::select! {
            biased;
            outcome = work => match outcome {
                Ok(done) => return Ok(done),
                Err(reason) => reason,
            },
            exit = self.engine.wait() => describe(exit),
        };
        self.engine.kill_group(&self.guard);
        finish(std::mem::take(&mut self.readers)).await;
        self.log.flush();
        let said = tail(&self.file, TAIL).unwrap_or_default();
        if said.is_empty() {
            return Err(reason);
        }
        Err(format!("{reason}; last output:\n  {}", said.join("\n  ")))
    }

    /// Ends the engine.
    pub async fn end(mut self) {
        let _ = self.engine.ask_to_end();
        let _ = tokio::time::timeout(super::STOP_GRACE, self.engine.wait()).await;
        self.engine.kill_group(&self.guard);
        finish(self.readers).await;
    }
}

async fn ready(config: &TrialConfig, endpoint: &Endpoint, log: &Log) -> Result<(), String> {
    let limits = HealthLimits::default();
    if config.gate.open().await.is_ok() {
        let probe = ProbeRequest {
            model: config.model.clone(),
            gate: Arc::clone(&config.gate),
        };
        return until_ready(&probe, endpoint, &limits, &Notes(log)).await.map(drop);
    }
    let deadline = Instant::now() + limits.start;
    while !local::is_listening(endpoint.port()).await {
        if Instant::now() >= deadline {
            return Err(format!("does not listen after {} s", limits.start.as_secs()));
        }
        sleep(POLL).await;
    }
    Ok(())
}
