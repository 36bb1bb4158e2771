//! Finds out whether a server is running (its lock decides), and reads its record on disk.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gem_platform::process::Owner as PortOwner;
use gem_platform::process::{Identity, Listener, age, check_view, has_open, identity, pid_space, runs_program};
use serde::{Deserialize, Serialize};

use super::files;
use super::own::OwnProgram;
use super::pid::{Owner, PidFile};
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::net::{HIDDEN, SafeUrl};
use crate::place::{is_misplaced, read_text, write_private};
use crate::runtime::local::Peer;
use crate::runtime::{EngineState, Instance, ProgramStamp};
use crate::sha256::Sha256;

/// The options of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerIdentity {
    /// The port for clients.
    pub port: u16,
    /// The runtime's name.
    pub runtime: String,
    /// The local model's name.
    pub model: String,
    /// Whether the server runs without a gateway: the runtime itself listens on the port.
    pub direct: bool,
    /// A digest of the gateway's options; `None` if they do not matter, or if an older version did not record them.
    /// Only a digest is stored, because an option may contain a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Sha256>,
    /// The server's given options, one word each, without secrets; [`ServerRecord::given`] adds the secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<String>,
    /// How long open requests may continue after a shutdown request. An older server did not record this.
    #[serde(default = "usual_drain")]
    pub drain: Duration,
    /// The upstream, if its URL contains a secret. It is stored in a separate file, because people attach this record
    /// to bug reports.
    #[serde(skip)]
    pub upstream: Option<SafeUrl>,
}

const fn usual_drain() -> Duration {
    Duration::from_secs(5)
}

/// The beginning of the option word for the upstream.
pub const UPSTREAM: &str = "--upstream=";

impl ServerIdentity {
    /// Whether a server with these options is the one that `wanted` describes.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.is_alike(wanted) && (self.options == wanted.options || self.options.is_none() || wanted.options.is_none())
    }

    /// Whether everything but the options is equal.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        (self.port, &self.runtime, &self.model, self.direct) == (other.port, &other.runtime, &other.model, other.direct)
    }
}

/// The supervised engine after its last change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineRecord {
    /// The engine's identity; `None` between two engines.
    pub process: Option<Identity>,
    /// The engine's private port; 0 between two engines.
    pub port: u16,
    /// The engine's state.
    pub state: EngineState,
    /// The number of replaced engines.
    pub restarts: u64,
    /// The stamp of the executable from which the engine was started; a newer one means that the runtime was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<ProgramStamp>,
    /// Why the last engine ended.
    pub last_exit: Option<String>,
    /// While the engine does not answer or the next one waits: what failed, since when, and what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The missing item that keeps requests from the engine, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// The server file. Only the holder of the server's lock writes or removes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerRecord {
    /// The server's process.
    pub process: Identity,
    /// The namespace in which the process's id is valid: a boot of a machine, and a process namespace.
    #[serde(default)]
    pub pid_space: String,
    /// The token that proves that a server on the port is this one, and that stops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// gem-setup's executable; an older server did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<OwnProgram>,
    /// The server's options.
    pub server: ServerIdentity,
    /// Whether the engine answers requests now.
    pub ready: bool,
    /// Whether the server was asked to end; it finishes open requests first.
    #[serde(default)]
    pub stopping: bool,
    /// Whether the server changes to another release of the runtime by itself as soon as that becomes current.
    #[serde(default)]
    pub follows: bool,
    /// A change of the server's files that is not in force, with the reason, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unapplied: Option<String>,
    /// The supervised engine; `None` if the runtime needs none.
    #[serde(rename = "child")]
    pub engine: Option<EngineRecord>,
    /// Whether the server left a request over its port unanswered; see [`refresh`](super::refresh).
    #[serde(skip)]
    pub silent: bool,
}

impl ServerRecord {
    /// What the server runs instead of this gem-setup, in words.
    #[must_use]
    pub fn outdated(&self) -> Option<String> {
        match &self.program {
            Some(program) => program.outdated(),
            None => Some("an older gem-setup".to_owned()),
        }
    }

    /// Reads `path`; `None` if there is no such file or its content is not a server file's.
    ///
    /// # Errors
    /// When the file exists but cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        Ok(files::read(path)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Replaces the file `path`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, &serde_json::to_vec(self)?)
    }

    /// The given options of the server of `layout`, as `restart` needs them.
    ///
    /// # Errors
    /// When the file with a secret cannot be read.
    pub fn given(&self, layout: &Layout) -> Result<Vec<String>, Failure> {
        let mut given = self.server.given.clone();
        let is_hidden = |word: &&mut String| word.starts_with(UPSTREAM) && word.contains(HIDDEN);
        for word in given.iter_mut().filter(is_hidden) {
            let file = layout.upstream_file();
            let url = read_text(&file).map_err(|error| {
                let message = format!("cannot read the server's upstream from `{}`: {error}", file.display());
                Failure::new(Kind::Unexpected, message)
                    .with_hint("run `gem-setup stop`, then `gem-setup start --upstream URL`")
            })?;
            *word = format!("{UPSTREAM}{url}");
        }
        Ok(given)
    }

    /// Whether this process sees the server's process and may signal it: pid, start time and command line agree. This
    /// is false for a server in another process namespace or on another machine.
    #[must_use]
    pub fn is_here(&self) -> bool {
        !self.is_elsewhere() && identity(self.process.pid).as_ref() == Some(&self.process)
    }

    /// The server as the receiver of a request. If its process cannot be seen, it must run as our user.
    #[must_use]
    pub fn peer(&self) -> Peer {
        let owner = if self.is_here() {
            PortOwner::Process(self.process.pid)
        } else {
            PortOwner::User
        };
        // Only a gateway may receive the token.
        let instance = self.instance.as_ref().filter(|_| !self.server.direct);
        Peer::new(self.server.port, owner).with_token(instance.and_then(Instance::token))
    }

    /// Whether the ids in this record are not valid here.
    pub(super) fn is_elsewhere(&self) -> bool {
        !self.pid_space.is_empty() && self.pid_space != pid_space()
    }

    /// How long the server has been running, if its process can be seen from here.
    #[must_use]
    pub fn uptime(&self) -> Option<Duration> {
        age(&self.process).filter(|_| self.is_here())
    }

    /// Whether the record's server has the home of `layout`, which means that the lock is held. If the file system does
    /// not support locks, or the lock was deleted, the process decides.
    pub(super) fn has_home(&self, layout: &Layout) -> bool {
        let lock = layout.server_lock_file();
        match Lock::is_held(&lock) {
            Ok(is_held) if lock.exists() => is_held,
            _ => self.is_here(),
        }
    }

    /// Whether the record's process holds `lock`, as far as the system shows that.
    fn holds(&self, lock: &Path) -> bool {
        has_open(self.process.pid, lock) != Some(false)
    }
}

/// The server of a home, found without sending it a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    /// There is no server.
    No,
    /// A server of gem-setup, which holds the lock and wrote this record. Its process may be out of reach
    /// ([`ServerRecord::is_here`]).
    Supervised(Box<ServerRecord>),
    /// A process holds the lock but has not written a record; the disk may be full.
    Unnamed,
    /// A runtime that Gemini CLI itself started, without a supervisor.
    Bare {
        /// The runtime's process id.
        pid: u32,
        /// The port for clients.
        port: u16,
    },
    /// The pid file names a process that is not known to be a server.
    Foreign(Identity),
}

/// How long the lock may be held without a record: right after it was taken, or for a moment to clear up.
const PATIENCE: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(20);

/// Looks for the server of this home, first by its lock, then by the pid file.
///
/// # Errors
/// When a file of the home cannot be read.
pub fn observe(layout: &Layout) -> io::Result<Running> {
    let deadline = Instant::now() + PATIENCE;
    let lock = layout.server_lock_file();
    loop {
        let record = ServerRecord::read(&layout.server_file())?;
        let is_held = match &record {
            Some(record) => record.has_home(layout),
            None => Lock::is_held(&lock).unwrap_or(false),
        };
        if !is_held {
            return observe_pid_file(layout, false);
        }
        check_view()?;
        match record {
            // A process in another namespace cannot be seen; its lock shows that it is running.
            Some(record) if record.is_elsewhere() || record.is_here() && (record.holds(&lock) || !lock.exists()) => {
                return Ok(Running::Supervised(Box::new(record)));
            }
            _ if Instant::now() < deadline => sleep(POLL),
            _ => {
                return Ok(match observe_pid_file(layout, true)? {
                    bare @ Running::Bare { .. } => bare,
                    _ => Running::Unnamed,
                });
            }
        }
    }
}

/// Looks for a server only by the pid file; `is_locked` says whether a server holds the home's lock.
pub(super) fn observe_pid_file(layout: &Layout, is_locked: bool) -> io::Result<Running> {
    let file = match PidFile::read(&layout.pid_file()) {
        // A directory or a pipe names no process. Commands that would write the file report the problem.
        Err(error) if is_misplaced(&error) => None,
        read => read?,
    };
    let Some(file) = file else {
        return Ok(Running::No);
    };
    let Some(process) = identity(file.pid) else {
        return Ok(Running::No);
    };
    Ok(match (file.owner(&process, is_locked), file.port) {
        (Owner::Ours, Some(port)) if is_server(&file, &process, port) => Running::Bare { pid: file.pid, port },
        (Owner::Stale, _) => Running::No,
        (Owner::Ours | Owner::Foreign, _) => Running::Foreign(process),
    })
}

/// Whether `process` runs the program that `file` names and listens on `port`. The command line is not enough, because
/// anybody can imitate it.
fn is_server(file: &PidFile, process: &Identity, port: u16) -> bool {
    let listens = |ip: IpAddr| {
        let found = Listener::find(PortOwner::Process(process.pid), SocketAddr::new(ip, port));
        found.is_ok_and(|found| found.is_some())
    };
    let runs = file
        .binary_path
        .as_deref()
        .is_some_and(|program| runs_program(process, program));
    runs && (listens(Ipv4Addr::LOCALHOST.into()) || listens(Ipv6Addr::LOCALHOST.into()))
}
