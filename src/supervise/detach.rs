//! Starts a server in the background.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use gem_platform::process::{Detached, Program, ask_to_end, identity, start_detached, start_remedy};
use tokio::time::{Instant, sleep};

use super::claim;
use super::logs::Follower;
use super::remote;
use super::status::{EngineRecord, Running, ServerIdentity, ServerRecord, observe};
use crate::error::{Explain, Kind};
use crate::layout::Layout;
use crate::place::is_misplaced;
use crate::rotation::append;
use crate::runtime::{EngineState, if_blocked_here};

/// How long to wait for a server by default; before it is ready, a model of a gigabyte may be loaded from a cold disk.
pub const READY_WITHIN: Duration = Duration::from_secs(300);

/// The progress text while a server starts.
pub const STARTING: &str = "starting the server and its model";

/// A server to start.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// gem-setup itself with `serve`, `--port=N` and the other options in full, because Gemini CLI recognises the
    /// server by these.
    pub program: Program,
    /// The subcommand of `program` that runs [`gem_platform::process::reap`], if it has one.
    pub reaper: Option<&'static str>,
    /// The wanted server.
    pub server: ServerIdentity,
    /// The time within which the server must be ready.
    pub within: Duration,
}

/// A running server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The server's process id.
    pub pid: u32,
    /// Whether the wanted server was already running.
    pub already: bool,
    /// The obstacle that keeps the engine from starting, with a hint. The gateway answers without the engine.
    pub blocked: Option<String>,
}

/// Why no server is ready. `tail` is the log since the start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process serves the home.
    #[error(transparent)]
    Claim(#[from] claim::Error),
    /// The program or its log cannot be started.
    #[error("cannot start `{}` with its log in `{}`", program.display(), log.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The log.
        log: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The server ended before it was ready.
    #[error("the server ended before it was ready ({status}){}", quote(tail))]
    Ended {
        /// The exit status.
        status: ExitStatus,
        /// The log's last lines.
        tail: Vec<String>,
    },
    /// The server, which another command had started, ended before it was ready.
    #[error("the server (pid {pid}), which another command started, ended before it was ready")]
    Gone {
        /// The server's process id.
        pid: u32,
    },
    /// A service manager was asked to start the server, but no server is running.
    #[error("the system started the server, but it is not running")]
    Absent,
    /// The gateway is running, but the runtime keeps failing.
    #[error(
        "the server (pid {pid}) is running, but its runtime keeps failing: {reason}{}",
        quote_without(reason, tail)
    )]
    CrashLoop {
        /// The server's process id.
        pid: u32,
        /// Why the runtime's last process ended.
        reason: String,
        /// The log's last lines.
        tail: Vec<String>,
    },
    /// The server was ready but no longer answers.
    #[error("the server (pid {pid}) is running, but does not answer on port {port}")]
    Silent {
        /// The server's process id.
        pid: u32,
        /// The server's port.
        port: u16,
    },
    /// The server is running but not ready yet.
    #[error("the server (pid {pid}) was not ready within {} s{}", within.as_secs(), quote(tail))]
    NotReady {
        /// The server's process id.
        pid: u32,
        /// The time limit.
        within: Duration,
        /// The log's last lines.
        tail: Vec<String>,
    },
}

/// The lines that do not only repeat the `reason`.
fn quote_without(reason: &str, tail: &[String]) -> String {
    let others = tail.iter().filter(|line| !line.contains(reason));
    quote(&others.cloned().collect::<Vec<_>>())
}

fn quote(tail: &[String]) -> String {
    if tail.is_empty() {
        return String::new();
    }
    format!("; its log says:\n  {}", tail.join("\n  "))
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Claim(error) => error.kind(),
            Self::Start { .. } => Kind::Unexpected,
            // The request to end was for the server, not for this command.
            Self::Ended { status, .. } if is_stopped(*status) => Kind::Runtime,
            // The server is gem-setup too, so its exit status shows the kind of failure.
            Self::Ended { status, .. } => status.code().and_then(Kind::of_exit_status).unwrap_or(Kind::Runtime),
            Self::CrashLoop { .. } | Self::Silent { .. } | Self::NotReady { .. } | Self::Gone { .. } | Self::Absent => {
                Kind::Runtime
            }
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Claim(error) => return error.hint(),
            Self::Start { log, source, .. } if is_misplaced(source) => {
                format!("move `{}` somewhere else, then run the command again", log.display())
            }
            Self::Start { source, .. } => {
                let usual = "check that the program exists and the log's directory is writable";
                start_remedy(source).unwrap_or(usual).to_owned()
            }
            Self::Ended { status, .. } if is_stopped(*status) => {
                "another command or program stopped it; run `gem-setup start` again".to_owned()
            }
            // The log contains its own hint.
            Self::Ended { tail, .. } if tail.iter().any(|line| line.starts_with("hint: ")) => return None,
            Self::Ended { .. } if self.kind() != Kind::Runtime => {
                "correct the fault shown in its log, then start it again".to_owned()
            }
            Self::CrashLoop { reason, .. } if if_blocked_here(reason).is_some() => {
                if_blocked_here(reason).unwrap_or_default().to_owned()
            }
            Self::Ended { .. } | Self::CrashLoop { .. } => {
                "run `gem-setup doctor` to see the fault, and `gem-setup logs` for the whole log".to_owned()
            }
            Self::Absent => "run `systemctl status gem-setup` to see why".to_owned(),
            Self::Gone { .. } => "run `gem-setup start` again, or `gem-setup logs` to see why it ended".to_owned(),
            Self::Silent { .. } => "run `gem-setup restart` to replace it".to_owned(),
            Self::NotReady { .. } => {
                "it is still loading: run `gem-setup status` to see whether it is ready, or `gem-setup logs -f` to \
                see its output"
                    .to_owned()
            }
        })
    }
}

/// Whether a server that ended with `status` was asked to end.
fn is_stopped(status: ExitStatus) -> bool {
    let kind = status.code().and_then(Kind::of_exit_status);
    matches!(kind, Some(Kind::Interrupted | Kind::Terminated))
}

const FIRST_POLL: Duration = Duration::from_millis(5);
const LONGEST_POLL: Duration = Duration::from_millis(50);
const TAIL: usize = 15;
/// How long a process may hold the lock without a record; it may be deleting files.
const UNNAMED_PATIENCE: Duration = Duration::from_secs(10);

/// Starts the server, unless the wanted one is already running, and waits until it is ready. Waits for a server that is
/// stopping. A server that is not ready in time, or whose runtime keeps failing, keeps running.
///
/// # Errors
/// Why no server is ready.
pub async fn start(layout: &Layout, request: &StartRequest) -> Result<Started, Error> {
    let deadline = Instant::now() + request.within;
    let unnamed_until = Instant::now() + UNNAMED_PATIENCE;
    loop {
        match look(layout, request)? {
            Running::Supervised(record) if !record.stopping => {
                return join(layout, request, *record, deadline).await;
            }
            Running::Supervised(record) if Instant::now() >= deadline => {
                return Err(StartEnd::TooLate.into_error(request, record.process.pid, Vec::new()));
            }
            Running::Unnamed if Instant::now() >= unnamed_until => {
                let home = layout.home().to_owned();
                let lock = layout.server_lock_file();
                return Err(claim::Error::Locked { home, lock }.into());
            }
            Running::Unnamed => sleep(LONGEST_POLL).await,
            Running::Bare { pid, port } => {
                let home = layout.home().to_owned();
                return Err(claim::Error::Bare { home, pid, port }.into());
            }
            // The new server waits for one that is ending, and takes over its port.
            Running::Supervised(_) | Running::No | Running::Foreign(_) => {
                if let Some(started) = launch(layout, request, deadline).await? {
                    return Ok(started);
                }
            }
        }
    }
}

/// Waits until the server that a service manager has started is ready.
///
/// # Errors
/// Like [`start`], and when there is no server.
pub async fn join_running(layout: &Layout, request: &StartRequest) -> Result<Started, Error> {
    let deadline = Instant::now() + request.within;
    let absent_until = Instant::now() + UNNAMED_PATIENCE;
    loop {
        match look(layout, request)? {
            Running::Supervised(record) if !record.stopping => {
                let joined = join(layout, request, *record, deadline).await?;
                return Ok(Started {
                    already: false,
                    ..joined
                });
            }
            _ if Instant::now() >= absent_until => return Err(Error::Absent),
            _ => sleep(LONGEST_POLL).await,
        }
    }
}

fn failed(layout: &Layout, request: &StartRequest, source: io::Error) -> Error {
    Error::Start {
        program: request.program.path.clone(),
        log: layout.log_file(),
        source,
    }
}

fn look(layout: &Layout, request: &StartRequest) -> Result<Running, Error> {
    observe(layout).map_err(|source| failed(layout, request, source))
}

/// Starts a server; `None` if another start was faster.
async fn launch(layout: &Layout, request: &StartRequest, deadline: Instant) -> Result<Option<Started>, Error> {
    let log = layout.log_file();
    let failed = |source| failed(layout, request, source);
    let (mut said, _) = Follower::start(&log, 0).map_err(failed)?;
    let mut process = append(&log)
        .and_then(|file| start_detached(&request.program, request.reaper, &file))
        .map_err(failed)?;
    let pid = process.id();
    let mut successor = Successor { layout, pid: Some(pid) };
    let end = wait(layout, request, pid, Some(&mut process), deadline).await;
    successor.pid = None;
    match end {
        StartEnd::Up { blocked } => Ok(Some(Started {
            pid,
            already: false,
            blocked,
        })),
        StartEnd::Ended(status) => match look(layout, request)? {
            Running::Supervised(record) if !record.stopping => Ok(None),
            _ => Err(Error::Ended {
                status,
                tail: tail(&mut said),
            }),
        },
        outcome => Err(outcome.into_error(request, pid, tail(&mut said))),
    }
}

/// A started server. It is ended if the wait for it is given up while it waits for the former server to end: the caller does not expect it
/// to come up later.
struct Successor<'a> {
    layout: &'a Layout,
    /// Its process id, while it is waited for.
    pid: Option<u32>,
}

impl Drop for Successor<'_> {
    fn drop(&mut self) {
        let Some(pid) = self.pid else { return };
        let former = ServerRecord::read(&self.layout.server_file()).ok().flatten();
        let is_waiting = former.is_some_and(|former| former.process.pid != pid && is_ending(self.layout, &former));
        if let Some(process) = identity(pid).filter(|_| is_waiting) {
            let _ = ask_to_end(&process);
        }
    }
}

/// Whether the server of `record` has the home and was asked to end.
fn is_ending(layout: &Layout, record: &ServerRecord) -> bool {
    record.stopping && record.has_home(layout)
}

/// Waits for a server that another process started, if it is the wanted one.
async fn join(
    layout: &Layout,
    request: &StartRequest,
    record: ServerRecord,
    deadline: Instant,
) -> Result<Started, Error> {
    if !record.server.satisfies(&request.server) {
        let error = claim::Error::Serving {
            home: layout.home().to_owned(),
            wanted: Box::new(request.server.clone()),
            record: Box::new(record),
        };
        return Err(error.into());
    }
    let pid = record.process.pid;
    match wait(layout, request, pid, None, deadline).await {
        StartEnd::Up { blocked } => Ok(Started {
            pid,
            already: true,
            blocked,
        }),
        outcome => Err(outcome.into_error(request, pid, Vec::new())),
    }
}

enum StartEnd {
    /// The server is ready, or as ready as it can be without a person's help.
    Up {
        blocked: Option<String>,
    },
    CrashLoop(String),
    Ended(ExitStatus),
    /// The server was ready but left two consecutive requests unanswered.
    Silent,
    /// A server that another process started has lost the home or is about to release it.
    Gone,
    TooLate,
}

impl StartEnd {
    fn into_error(self, request: &StartRequest, pid: u32, tail: Vec<String>) -> Error {
        match self {
            Self::CrashLoop(reason) => Error::CrashLoop { pid, reason, tail },
            Self::Ended(status) => Error::Ended { status, tail },
            Self::Gone => Error::Gone { pid },
            Self::Silent => Error::Silent {
                pid,
                port: request.server.port,
            },
            Self::Up { .. } | Self::TooLate => Error::NotReady {
                pid,
                within: request.within,
                tail,
            },
        }
    }
}

async fn wait(
    layout: &Layout,
    request: &StartRequest,
    pid: u32,
    mut process: Option<&mut Detached>,
    deadline: Instant,
) -> StartEnd {
    let mut pause = FIRST_POLL;
    let mut was_silent = false;
    loop {
        let record = ServerRecord::read(&layout.server_file()).ok().flatten();
        let record = record.filter(|record| record.process.pid == pid);
        if process.is_none() && !record.as_ref().is_some_and(|record| is_serving(layout, record)) {
            return StartEnd::Gone;
        }
        let record = match record {
            Some(record) => Some(remote::refresh(record).await),
            None => None,
        };
        let is_silent = record.as_ref().is_some_and(|record| record.silent);
        if was_silent && is_silent {
            return StartEnd::Silent;
        }
        was_silent = is_silent;
        if let Some(end) = record.as_ref().and_then(|record| final_state(record.engine.as_ref()?)) {
            return end;
        }
        let ready = match record {
            Some(record) => record.ready,
            // The server file may be missing if the disk is full.
            None => remote::is_ready(request.server.port, pid).await,
        };
        if ready {
            return StartEnd::Up { blocked: None };
        }
        if let Some(status) = process.as_mut().and_then(|process| process.try_wait().ok().flatten()) {
            return StartEnd::Ended(status);
        }
        if Instant::now() >= deadline {
            return StartEnd::TooLate;
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_POLL);
    }
}

/// The result if the server's engine cannot become ready by itself.
fn final_state(engine: &EngineRecord) -> Option<StartEnd> {
    match engine.state {
        EngineState::CrashLoop => Some(StartEnd::CrashLoop(engine.last_exit.clone().unwrap_or_default())),
        EngineState::Blocked => Some(StartEnd::Up {
            blocked: engine.blocked.clone(),
        }),
        _ => None,
    }
}

/// Whether the server of `record` still has the home and is not stopping.
fn is_serving(layout: &Layout, record: &ServerRecord) -> bool {
    !record.stopping && (record.is_here() || record.is_elsewhere()) && record.has_home(layout)
}

fn tail(said: &mut Follower) -> Vec<String> {
    let lines = said.poll().unwrap_or_default();
    let skipped = lines.len().saturating_sub(TAIL);
    lines.into_iter().skip(skipped).collect()
}
