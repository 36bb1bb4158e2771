//! One child, kept alive: started, watched, replaced when it ends or hangs, stopped when that is asked for.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitStatus;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gem_platform::process::{Guard, Owner, Program, Supervised, identity};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::OWN_SOURCE;
use super::backoff::{BackoffLimits, Failures};
use super::claim::Claim;
use super::log::Log;
use super::notify::ServiceManager;
use super::output::{ChildOutput, copy_lines};
use super::probe::ProbeRequest;
use super::readiness::{HealthLimits, Observer, until_hung, until_ready};
use super::shutdown::{Shutdown, reached};
use super::status::ChildRecord;
use crate::runtime::{CommandLine, Endpoint, EngineActivity, EngineState, EngineStatus, ModelGate, Stamp};

/// The engine to keep alive.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// How the runtime is served.
    pub command: CommandLine,
    /// The model that it must know, and that is loaded before it counts as ready.
    pub model: String,
    /// Closed while nothing may be sent to the engine; no child runs then.
    pub gate: Arc<ModelGate>,
    /// The port it listens on (`--direct`); `None` = a fresh private one for each child.
    pub port: Option<u16>,
    /// Which of its streams are logged.
    pub output: ChildOutput,
    /// gem-setup's own hidden subcommand that runs [`gem_platform::process::guard`] over its standard input.
    pub guard: Program,
    /// The gateway's open requests.
    pub activity: EngineActivity,
    /// The processor time that a process and its descendants have used, if known.
    pub cpu_time: fn(u32) -> Option<Duration>,
    /// Readiness and health.
    pub health: HealthLimits,
    /// Pauses between children.
    pub backoff: BackoffLimits,
    /// The time that an engine gets to end (5 s).
    pub stop_grace: Duration,
}

/// How long a child gets to end when it is asked to.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// For the last lines of a child that has ended.
const LAST_LINES: Duration = Duration::from_millis(500);
/// A killed process is gone at once, unless the system itself is stuck.
const REAP: Duration = Duration::from_secs(5);

/// The parts of a server other than its gateway.
#[derive(Debug)]
pub struct SuperviseConfig {
    /// The right to serve the home. The gateway holds it too, until the last request is answered.
    pub claim: Arc<Claim>,
    /// The engine, or `None` for a runtime that needs no process: it is ready at once.
    pub engine: Option<EngineConfig>,
    /// Where everything is logged.
    pub log: Log,
    /// The service manager, notified of the server's state.
    pub service: Option<ServiceManager>,
}

/// Keeps the engine alive until `shutdown` is asked for, and returns when the child has ended. Every change goes to
/// `status`, into the log, into the server file and to the service manager.
pub async fn run(
    config: SuperviseConfig,
    status: watch::Sender<EngineStatus>,
    mut shutdown: watch::Receiver<Shutdown>,
) {
    let changes = status.subscribe();
    let told = status.subscribe();
    let supervised = config.engine.is_some();
    tokio::select! {
        () = keep_alive(config.engine, config.claim.engine_file(), &config.log, &status, &mut shutdown) => {}
        () = publish(&config.claim, supervised, changes) => {}
        () = follow(config.service.as_ref(), told) => {}
    }
    config.claim.publish(EngineState::Stopping, None);
    if let Some(service) = &config.service {
        service.stopping();
    }
    config.log.flush();
}

async fn follow(service: Option<&ServiceManager>, status: watch::Receiver<EngineStatus>) {
    match service {
        Some(service) => service.follow(status).await,
        None => std::future::pending().await,
    }
}

/// Writes every change into the server file; never ends.
async fn publish(claim: &Claim, supervised: bool, mut status: watch::Receiver<EngineStatus>) {
    loop {
        let now = status.borrow_and_update().clone();
        let child = supervised.then(|| ChildRecord {
            process: now.pid.and_then(identity),
            port: now.endpoint.map_or(0, |endpoint| endpoint.port()),
            state: now.state,
            program: now.program,
            restarts: now.restarts,
            last_exit: now.last_exit,
            blocked: now.blocked,
        });
        claim.publish(now.state, child);
        if status.changed().await.is_err() {
            std::future::pending::<()>().await;
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
    let voice = Voice {
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
                voice,
            };
            supervisor.keep_alive(shutdown).await;
            supervisor.voice.change(EngineState::Stopping, |status| {
                status.pid = None;
                status.endpoint = None;
            });
        }
        None => {
            voice.state(EngineState::Ready);
            reached(shutdown, Shutdown::Graceful).await;
            voice.state(EngineState::Stopping);
        }
    }
}

/// Reports events to the log and to the watchers of the status.
struct Voice<'a> {
    log: &'a Log,
    source: Arc<str>,
    status: &'a watch::Sender<EngineStatus>,
}

impl Voice<'_> {
    fn change(&self, state: EngineState, update: impl FnOnce(&mut EngineStatus)) {
        let mut before = state;
        self.status.send_modify(|status| {
            before = status.state;
            if status.state != state {
                status.since = std::time::Instant::now();
                status.blocked = None;
            }
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

impl Observer for Voice<'_> {
    fn note(&self, text: &str) {
        self.log.line(&self.source, format!("engine {text}"));
    }

    fn missed(&self) {
        self.state(EngineState::Unhealthy);
    }

    fn recovered(&self) {
        self.state(EngineState::Ready);
    }
}

/// How a child's time came to its end.
enum Ended {
    OnRequest,
    /// Nothing may be sent to it any more.
    Closed,
    Failed {
        reason: String,
        ready_for: Duration,
    },
}

struct Supervisor<'a> {
    config: EngineConfig,
    guard: Guard,
    probe: ProbeRequest,
    voice: Voice<'a>,
}

impl Supervisor<'_> {
    async fn keep_alive(&self, shutdown: &mut watch::Receiver<Shutdown>) {
        let mut failures = Failures::new(self.config.backoff);
        loop {
            tokio::select! {
                () = reached(shutdown, Shutdown::Graceful) => return,
                () = self.until_open() => {}
            }
            let (reason, ready_for) = match self.one_child(failures.is_loop(), shutdown).await {
                Ended::OnRequest => return,
                Ended::Closed => continue,
                Ended::Failed { reason, ready_for } => (reason, ready_for),
            };
            let pause = failures.count(ready_for);
            self.voice
                .note(&format!("{reason}; the next one starts in {} ms", pause.as_millis()));
            let state = if failures.is_loop() {
                EngineState::CrashLoop
            } else {
                EngineState::Restarting
            };
            self.voice.change(state, |status| {
                status.pid = None;
                status.endpoint = None;
                status.last_exit = Some(reason);
            });
            tokio::select! {
                () = reached(shutdown, Shutdown::Graceful) => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Waits until the model is present and its terms accepted, and reports the missing item meanwhile.
    async fn until_open(&self) {
        while let Err(closed) = self.config.gate.open().await {
            let missing = closed.in_words();
            self.voice.note(&format!("waits: {missing}"));
            self.voice.change(EngineState::Blocked, |status| {
                status.pid = None;
                status.endpoint = None;
                status.blocked = Some(missing);
            });
            self.config.gate.changed().await;
        }
    }

    /// From the start of a child to its end.
    async fn one_child(&self, in_loop: bool, shutdown: &mut watch::Receiver<Shutdown>) -> Ended {
        let program = Stamp::of(self.config.command.program());
        let (mut child, endpoint) = match self.start() {
            Ok(started) => started,
            Err(reason) => {
                let ready_for = Duration::ZERO;
                return Ended::Failed { reason, ready_for };
            }
        };
        self.config.activity.reset();
        let output = self.log_output(&mut child);
        // A loop is over when a child is ready, not when the next one is tried.
        let state = if in_loop {
            EngineState::CrashLoop
        } else {
            EngineState::Starting
        };
        self.voice
            .note(&format!("started with pid {} on port {}", child.id(), endpoint.port()));
        self.voice.change(state, |status| {
            status.pid = Some(child.id());
            status.endpoint = Some(endpoint.clone());
            status.program = program;
            status.restarts = status.generation;
            status.generation += 1;
        });

        let (pid, ready_at) = (child.id(), OnceLock::new());
        let reason = tokio::select! {
            biased;
            () = reached(shutdown, Shutdown::Graceful) => {
                self.stop(&mut child, shutdown).await;
                Err(Ended::OnRequest)
            }
            closed = self.config.gate.closed() => {
                self.voice.note(&format!("is stopped: {closed}"));
                Err(Ended::Closed)
            }
            exit = child.wait() => Ok(describe(exit)),
            reason = self.watch(pid, &endpoint, &ready_at) => Ok(reason),
        };
        if !matches!(reason, Err(Ended::OnRequest)) {
            // While its last lines are read, nothing must be sent to it.
            self.voice.state(if in_loop && ready_at.get().is_none() {
                EngineState::CrashLoop
            } else {
                EngineState::Restarting
            });
        }
        child.kill_group(&self.guard);
        let _ = timeout(REAP, child.wait()).await;
        finish(output).await;
        match reason {
            Err(ended) => ended,
            Ok(reason) => Ended::Failed {
                reason,
                ready_for: ready_at.get().map_or(Duration::ZERO, Instant::elapsed),
            },
        }
    }

    fn start(&self) -> Result<(Supervised, Endpoint), String> {
        let address = free_address(self.config.port)?;
        let program = self.config.command.at_port(address.port());
        let child = Supervised::spawn(&program, &self.guard)
            .map_err(|error| format!("cannot start `{}`: {error}", program.path.display()))?;
        let endpoint = Endpoint::new(address, Owner::Process(child.id()));
        Ok((child, endpoint))
    }

    fn log_output(&self, child: &mut Supervised) -> JoinSet<()> {
        let source: Arc<str> = format!("engine {}", child.id()).into();
        let (stdout, stderr) = child.take_output();
        let mut readers = JoinSet::new();
        if let Some(stdout) = stdout {
            let log = (self.config.output == ChildOutput::All).then(|| self.voice.log.clone());
            let source = Arc::clone(&source);
            readers.spawn(async move { copy_lines(stdout, log.as_ref(), &source).await });
        }
        if let Some(stderr) = stderr {
            let log = self.voice.log.clone();
            readers.spawn(async move { copy_lines(stderr, Some(&log), &source).await });
        }
        readers
    }

    /// Brings the child to ready and watches it; gives the reason why it must be replaced.
    async fn watch(&self, pid: u32, endpoint: &Endpoint, ready_at: &OnceLock<Instant>) -> String {
        let started = Instant::now();
        if let Err(reason) = until_ready(&self.probe, endpoint, &self.config.health, &self.voice).await {
            return reason;
        }
        let _ = ready_at.set(Instant::now());
        self.voice
            .note(&format!("ready after {} ms", started.elapsed().as_millis()));
        self.voice.state(EngineState::Ready);
        let reason = until_hung(
            &self.probe,
            endpoint,
            &self.config.health,
            &self.config.activity,
            || (self.config.cpu_time)(pid),
            &self.voice,
        )
        .await;
        self.voice.note("is killed");
        reason
    }

    /// Lets the child answer open requests, then asks it to end; each takes the grace at most, and neither goes on when it is urgent.
    async fn stop(&self, child: &mut Supervised, shutdown: &mut watch::Receiver<Shutdown>) {
        self.voice.state(EngineState::Stopping);
        let grace = self.config.stop_grace;
        let orderly = async {
            // The gateway ends requests that are not answered by then.
            let _ = timeout(grace, self.config.activity.answered()).await;
            if child.ask_to_end().is_ok() && timeout(grace, child.wait()).await.is_err() {
                self.voice
                    .note(&format!("did not end within {} s and is killed", grace.as_secs()));
            }
        };
        tokio::select! {
            biased;
            () = reached(shutdown, Shutdown::Immediate) => self.voice.note("is killed on the second request to end"),
            () = orderly => {}
        }
    }
}

/// Where the next child is to listen: on `port`, or on one that is free.
fn free_address(port: Option<u16>) -> Result<SocketAddr, String> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
    TcpListener::bind(wanted)
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("cannot listen on {wanted}: {error}"))
}

fn describe(exit: io::Result<ExitStatus>) -> String {
    match exit {
        Ok(status) => format!("ended by itself ({status})"),
        Err(error) => format!("was lost ({error})"),
    }
}

/// Lets the readers of an ended child's output finish; something else that holds the pipe must not keep them.
async fn finish(mut readers: JoinSet<()>) {
    let _ = timeout(LAST_LINES, async { while readers.join_next().await.is_some() {} }).await;
    readers.shutdown().await;
}
