//! Keeps an engine alive: starts it, watches it, replaces it when it ends or hangs, and stops it on request.

use std::fs::File;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gem_platform::process::{Guard, Program, Supervised, identity};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::OWN_SOURCE;
use super::backoff::{BackoffLimits, Failures};
use super::claim::Claim;
use super::log::Log;
use super::notify::ServiceManager;
use super::output::{EngineOutput, finish, log_output};
use super::probe::ProbeRequest;
use super::readiness::{HealthLimits, Observer, until_hung, until_ready};
use super::shutdown::{Shutdown, reached};
use super::source::CommandSource;
use super::spawn::{describe, spawn};
use super::status::EngineRecord;
use crate::runtime::{
    CommandLine, Endpoint, EngineActivity, EngineState, EngineStatus, ModelGate, ProgramCheck, ProgramStamp,
};

/// The engine to keep alive.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The command that serves the runtime. When it changes, the engine is replaced.
    pub command: CommandSource,
    /// Decides whether an executable may run.
    pub program_check: ProgramCheck,
    /// The model that the runtime must have. The engine is ready as soon as this model is loaded.
    pub model: String,
    /// Closed while no request may be sent to the engine; no engine runs then.
    pub gate: Arc<ModelGate>,
    /// The engine's port (`--direct`); `None` for a new private port for each engine.
    pub port: Option<u16>,
    /// The streams of the engine that are logged.
    pub output: EngineOutput,
    /// gem-setup's own hidden subcommand that runs [`gem_platform::process::guard`] over its standard input.
    pub guard: Program,
    /// The gateway's open requests.
    pub activity: EngineActivity,
    /// The processor time that a process and its descendants have used, if known.
    pub cpu_time: fn(u32) -> Option<Duration>,
    /// Time limits for readiness and health.
    pub health: HealthLimits,
    /// The pauses between engines.
    pub backoff: BackoffLimits,
    /// How long an engine may take to end (5 s).
    pub stop_grace: Duration,
}

/// How long an engine may take to end when it is asked to.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// The time within which a killed process has ended, unless the system itself hangs.
const REAP: Duration = Duration::from_secs(5);

/// The parts of a server other than its gateway.
#[derive(Debug)]
pub struct SuperviseConfig {
    /// The right to serve the home. The gateway holds it too, until the last request is answered.
    pub claim: Arc<Claim>,
    /// The engine; `None` for a runtime without a process, which is ready at once.
    pub engine: Option<EngineConfig>,
    /// The log for everything.
    pub log: Log,
    /// The service manager, notified of the server's state.
    pub service: Option<ServiceManager>,
}

/// Keeps the engine alive until `shutdown` is requested, and returns when the engine has ended. Every change is
/// reported to `status`, the log, the server file and the service manager. `server_shutdown` requests the end of the
/// whole server. This is reported at once, although the gateway may still need the engine for open requests.
pub async fn run(
    config: SuperviseConfig,
    status: watch::Sender<EngineStatus>,
    server_shutdown: watch::Receiver<Shutdown>,
    mut shutdown: watch::Receiver<Shutdown>,
) {
    let changes = status.subscribe();
    let told = status.subscribe();
    let supervised = config.engine.is_some();
    let service = config.service.as_ref();
    tokio::select! {
        () = keep_alive(config.engine, config.claim.engine_file(), &config.log, &status, &mut shutdown) => {}
        () = publish(&config.claim, supervised, changes, server_shutdown.clone()) => {}
        () = follow(service, told) => {}
        () = announce_end(service, &config.claim, server_shutdown) => {}
    }
    config.claim.publish(EngineState::Stopping, None);
    if let Some(service) = service {
        service.stopping(config.claim.ends_within());
    }
    config.log.flush();
}

async fn follow(service: Option<&ServiceManager>, status: watch::Receiver<EngineStatus>) {
    match service {
        Some(service) => service.follow(status).await,
        None => std::future::pending().await,
    }
}

/// Reports to the service manager that the server was asked to end. Never returns.
async fn announce_end(service: Option<&ServiceManager>, claim: &Claim, mut shutdown: watch::Receiver<Shutdown>) {
    reached(&mut shutdown, Shutdown::Graceful).await;
    if let Some(service) = service {
        service.stopping(claim.ends_within());
    }
    std::future::pending().await
}

/// Writes every change to the server file, and also that the server was asked to end. Never returns.
async fn publish(
    claim: &Claim,
    supervised: bool,
    mut status: watch::Receiver<EngineStatus>,
    mut shutdown: watch::Receiver<Shutdown>,
) {
    let mut stopping = false;
    loop {
        let now = status.borrow_and_update().clone();
        let engine = supervised.then(|| EngineRecord {
            process: now.pid.and_then(identity),
            port: now.endpoint.map_or(0, |endpoint| endpoint.port()),
            state: now.state,
            program: now.program,
            restarts: now.restarts,
            last_exit: now.last_exit,
            fault: now.fault,
            blocked: now.blocked,
        });
        claim.publish(if stopping { EngineState::Stopping } else { now.state }, engine);
        tokio::select! {
            changed = status.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
            () = reached(&mut shutdown, Shutdown::Graceful), if !stopping => stopping = true,
        }
    }
}

async fn keep_alive(
    engine: Option<EngineConfig>,
    engine_file: Option<File>,
    log: &Log,
    status: &watch::Sender<EngineStatus>,
    shutdown: &mut watch::Receiver<Shutdown>,
) {
    let reporter = StateReporter {
        log,
        source: OWN_SOURCE.into(),
        status,
    };
    match engine {
        Some(engine) => {
            let guard = Guard::new(engine.guard.clone());
            let supervisor = Supervisor {
                guard: match engine_file {
                    Some(file) => guard.with_inherited(file),
                    None => guard,
                },
                probe: ProbeRequest {
                    model: engine.model.clone(),
                    gate: Arc::clone(&engine.gate),
                },
                config: engine,
                reporter,
            };
            supervisor.keep_alive(shutdown).await;
            supervisor.reporter.change(EngineState::Stopping, |status| {
                status.pid = None;
                status.endpoint = None;
            });
        }
        None => {
            reporter.state(EngineState::Ready);
            reached(shutdown, Shutdown::Graceful).await;
            reporter.state(EngineState::Stopping);
        }
    }
}

/// Reports events to the log and to the watchers of the status.
struct StateReporter<'a> {
    log: &'a Log,
    source: Arc<str>,
    status: &'a watch::Sender<EngineStatus>,
}

impl StateReporter<'_> {
    fn change(&self, state: EngineState, update: impl FnOnce(&mut EngineStatus)) {
        let mut before = state;
        self.status.send_modify(|status| {
            before = status.state;
            if status.state != state {
                status.since = std::time::Instant::now();
                status.blocked = None;
            }
            status.fault = None;
            status.state = state;
            update(status);
        });
        if before != state {
            self.note(&format!("state: {state} (was {before})"));
        }
    }

    fn state(&self, state: EngineState) {
        self.change(state, |_| {});
    }
}

impl Observer for StateReporter<'_> {
    fn note(&self, text: &str) {
        self.log.line(&self.source, format!("engine {text}"));
    }

    fn missed(&self, reason: &str) {
        let since = Timestamp::now();
        let fault =
            format!("the engine has missed health probes since {since:.0}: {reason}; it is replaced if it goes on");
        self.change(EngineState::Unhealthy, |status| status.fault = Some(fault));
    }

    fn recovered(&self) {
        self.state(EngineState::Ready);
    }
}

/// Why an engine ended.
enum Ended {
    OnRequest,
    /// No request may be sent to the engine any more.
    Closed,
    /// Another command has become current.
    Superseded,
    Failed {
        reason: String,
        ready_for: Duration,
    },
}

struct Supervisor<'a> {
    config: EngineConfig,
    guard: Guard,
    probe: ProbeRequest,
    reporter: StateReporter<'a>,
}

impl Supervisor<'_> {
    async fn keep_alive(&self, shutdown: &mut watch::Receiver<Shutdown>) {
        let mut failures = Failures::new(self.config.backoff);
        let mut command = self.config.command.first();
        loop {
            tokio::select! {
                () = reached(shutdown, Shutdown::Graceful) => return,
                () = self.until_open() => {}
            }
            let current = self.config.command.current_or(command.clone());
            let is_other = std::mem::replace(&mut command, current) != command;
            self.reporter
                .status
                .send_modify(|status| status.release += u64::from(is_other));
            let (reason, ready_for) = match self.one_engine(&command, failures.is_loop(), shutdown).await {
                Ended::OnRequest => return,
                Ended::Closed => continue,
                Ended::Superseded => {
                    failures = Failures::new(self.config.backoff);
                    continue;
                }
                Ended::Failed { reason, ready_for } => (reason, ready_for),
            };
            let pause = failures.count(ready_for);
            self.reporter
                .note(&format!("{reason}; the next one starts in {} ms", pause.as_millis()));
            let state = if failures.is_loop() {
                EngineState::CrashLoop
            } else {
                EngineState::Restarting
            };
            let now = Timestamp::now();
            let next = now + SignedDuration::try_from(pause).unwrap_or_default();
            let fault = format!("the engine failed at {now:.0}: {reason}; the next one starts at {next:.0}");
            self.reporter.change(state, |status| {
                status.pid = None;
                status.endpoint = None;
                status.last_exit = Some(reason);
                status.fault = Some(fault);
            });
            tokio::select! {
                () = reached(shutdown, Shutdown::Graceful) => return,
                () = self.config.command.superseded(&command) => failures = Failures::new(self.config.backoff),
                () = sleep(pause) => {}
            }
        }
    }

    /// Waits until the model is present and its terms are accepted; reports the missing item in the meantime.
    async fn until_open(&self) {
        while let Err(closed) = self.config.gate.open().await {
            let missing = closed.in_words();
            self.reporter.note(&format!("waits: {missing}"));
            self.reporter.change(EngineState::Blocked, |status| {
                status.pid = None;
                status.endpoint = None;
                status.blocked = Some(missing);
            });
            self.config.gate.changed().await;
        }
    }

    /// Runs one engine from its start to its end.
    async fn one_engine(
        &self,
        command: &CommandLine,
        in_loop: bool,
        shutdown: &mut watch::Receiver<Shutdown>,
    ) -> Ended {
        let program = ProgramStamp::of(command.program());
        let (mut engine, endpoint) = match self.start(command).await {
            Ok(started) => started,
            Err(reason) => {
                // Anything that waits for this executable learns that it cannot be started.
                self.reporter.status.send_modify(|status| status.program = program);
                let ready_for = Duration::ZERO;
                return Ended::Failed { reason, ready_for };
            }
        };
        self.config.activity.reset();
        let output = log_output(&mut engine, self.config.output, self.reporter.log);
        self.announce(&engine, &endpoint, program, in_loop);
        let ready_at = OnceLock::new();
        let reason = self
            .until_end(command, &mut engine, &endpoint, &ready_at, shutdown)
            .await;
        if !matches!(reason, Err(Ended::OnRequest)) {
            // While the engine's last lines are read, no request may be sent to it.
            self.reporter.state(if in_loop && ready_at.get().is_none() {
                EngineState::CrashLoop
            } else {
                EngineState::Restarting
            });
        }
        engine.kill_group(&self.guard);
        let _ = timeout(REAP, engine.wait()).await;
        finish(output).await;
        match reason {
            Err(ended) => ended,
            Ok(reason) => Ended::Failed {
                reason,
                ready_for: ready_at.get().map_or(Duration::ZERO, Instant::elapsed),
            },
        }
    }

    async fn start(&self, command: &CommandLine) -> Result<(Supervised, Endpoint), String> {
        let (check, program) = (self.config.program_check.clone(), command.program().to_owned());
        let checked = spawn_blocking(move || check.run(&program)).await;
        checked
            .map_err(|error| format!("was not checked: {error}"))?
            .map_err(|failure| failure.to_string())?;
        spawn(command, self.config.port, &self.guard)
    }

    fn announce(&self, engine: &Supervised, endpoint: &Endpoint, program: Option<ProgramStamp>, in_loop: bool) {
        // A crash loop is over when an engine is ready, not when the next one starts.
        let state = if in_loop {
            EngineState::CrashLoop
        } else {
            EngineState::Starting
        };
        self.reporter
            .note(&format!("started with pid {} on port {}", engine.id(), endpoint.port()));
        self.reporter.change(state, |status| {
            status.pid = Some(engine.id());
            status.endpoint = Some(endpoint.clone());
            status.program = program;
            status.restarts = status.generation;
            status.generation += 1;
        });
    }

    /// Waits for the end of `engine`, or stops it; returns the reason of a failure.
    async fn until_end(
        &self,
        command: &CommandLine,
        engine: &mut Supervised,
        endpoint: &Endpoint,
        ready_at: &OnceLock<Instant>,
        shutdown: &mut watch::Receiver<Shutdown>,
    ) -> Result<String, Ended> {
        let pid = engine.id();
        tokio::select! {
            biased;
            () = reached(shutdown, Shutdown::Graceful) => {
                self.stop(engine, EngineState::Stopping, shutdown).await;
                Err(Ended::OnRequest)
            }
            () = self.config.command.superseded(command) => {
                self.reporter.note("will be replaced: another release is current");
                self.stop(engine, EngineState::Restarting, shutdown).await;
                Err(Ended::Superseded)
            }
            closed = self.config.gate.closed() => {
                self.reporter.note(&format!("will be stopped: {closed}"));
                Err(Ended::Closed)
            }
            exit = engine.wait() => Ok(describe(exit)),
            reason = self.watch(pid, endpoint, ready_at) => Ok(reason),
        }
    }

    /// Waits until the engine is ready and watches it; returns the reason why it must be replaced.
    async fn watch(&self, pid: u32, endpoint: &Endpoint, ready_at: &OnceLock<Instant>) -> String {
        let started = Instant::now();
        let refused = match until_ready(&self.probe, endpoint, &self.config.health, &self.reporter).await {
            Ok(refused) => refused,
            Err(reason) => return reason,
        };
        let _ = ready_at.set(Instant::now());
        self.reporter
            .note(&format!("ready after {} ms", started.elapsed().as_millis()));
        let fault = refused.map(|status| {
            format!(
                "the engine answers, but refused its first request with status {status}: the model may not be loaded"
            )
        });
        self.reporter.change(EngineState::Ready, |status| status.fault = fault);
        let reason = until_hung(
            &self.probe,
            endpoint,
            &self.config.health,
            &self.config.activity,
            || (self.config.cpu_time)(pid),
            &self.reporter,
        )
        .await;
        self.reporter.note("is killed");
        reason
    }

    /// Lets the engine answer open requests, then asks it to end. Each of the two takes the grace time at most, and is
    /// skipped when the shutdown is urgent.
    async fn stop(&self, engine: &mut Supervised, state: EngineState, shutdown: &mut watch::Receiver<Shutdown>) {
        self.reporter.state(state);
        let grace = self.config.stop_grace;
        let orderly = async {
            // The gateway ends requests that are still open after this time.
            let _ = timeout(grace, self.config.activity.answered()).await;
            if engine.ask_to_end().is_ok() && timeout(grace, engine.wait()).await.is_err() {
                self.reporter
                    .note(&format!("did not end within {} s and is killed", grace.as_secs()));
            }
        };
        tokio::select! {
            biased;
            () = reached(shutdown, Shutdown::Immediate) => self.reporter.note("is killed on the second request to end"),
            () = orderly => {}
        }
    }
}
