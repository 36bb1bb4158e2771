//! Whether a server runs, which its lock decides, and its own record on disk.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gem_platform::process::Owner as PortOwner;
use gem_platform::process::{Identity, Listener, age, check_view, has_open, identity, pid_space, runs_program};
use serde::{Deserialize, Serialize};

use super::files;
use super::pid::{Owner, PidFile};
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::net::{HIDDEN, SafeUrl};
use crate::place::{is_misplaced, read_text, write_private};
use crate::runtime::local::Peer;
use crate::runtime::{EngineState, Instance, Stamp};
use crate::sha256::Sha256;

/// The options of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerIdentity {
    /// The port that clients use.
    pub port: u16,
    /// The runtime's name.
    pub runtime: String,
    /// The local model's name.
    pub model: String,
    /// Without a gateway: the runtime itself listens on the port.
    pub direct: bool,
    /// A digest of the options that the gateway was given; `None` where they do not matter or, from an older version, are not
    /// known. A digest, for an option may hold a secret and this is written to a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Sha256>,
    /// The options that were given to it, one word each, without secrets; [`ServerRecord::given`] adds these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<String>,
    /// The time that open requests get when it is asked to end; an older server did not say.
    #[serde(default = "usual_drain")]
    pub drain: Duration,
    /// The upstream, if its URL holds a secret. It has a file of its own: people attach this record to bug reports.
    #[serde(skip)]
    pub upstream: Option<SafeUrl>,
}

const fn usual_drain() -> Duration {
    Duration::from_secs(5)
}

/// The beginning of the word that names the upstream.
pub const UPSTREAM: &str = "--upstream=";

impl ServerIdentity {
    /// Whether a server with these options is the one that `wanted` asks for.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.is_alike(wanted) && (self.options == wanted.options || self.options.is_none() || wanted.options.is_none())
    }

    /// Whether nothing but the options can differ.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        (self.port, &self.runtime, &self.model, self.direct) == (other.port, &other.runtime, &other.model, other.direct)
    }
}

/// The supervised engine as of the last change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineRecord {
    /// Proof of which process it is; `None` between two engines.
    pub process: Option<Identity>,
    /// The private port it listens on; 0 between two engines.
    pub port: u16,
    /// Its state.
    pub state: EngineState,
    /// How often it was replaced.
    pub restarts: u64,
    /// The state of the executable that it was started from: a later one means that the runtime was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Stamp>,
    /// Why the last one ended.
    pub last_exit: Option<String>,
    /// The missing item while nothing may be sent to the engine, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// The server file. Only the holder of the server's lock writes or removes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerRecord {
    /// Which process serves.
    pub process: Identity,
    /// Where that process's id is valid: which boot of which machine, which process namespace.
    #[serde(default)]
    pub pid_space: String,
    /// The token that proves a server on the port to be this one, and stops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// Its options.
    pub server: ServerIdentity,
    /// Whether the engine answers requests now.
    pub ready: bool,
    /// Whether it was asked to end; it finishes open requests first.
    #[serde(default)]
    pub stopping: bool,
    /// Whether it takes up another release of the runtime by itself once that is current.
    #[serde(default)]
    pub follows: bool,
    /// A change of its files that is not in force, and why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unapplied: Option<String>,
    /// The supervised engine; `None` when the runtime needs none.
    #[serde(rename = "child")]
    pub engine: Option<EngineRecord>,
    /// Whether it left a request over its port unanswered; see [`refresh`](super::refresh).
    #[serde(skip)]
    pub silent: bool,
}

impl ServerRecord {
    /// Reads `path`; `None` when there is no such file or it says nothing.
    ///
    /// # Errors
    /// When the file exists but cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        Ok(files::read(path)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Replaces `path`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, &serde_json::to_vec(self)?)
    }

    /// The options that were given to the server of `layout`, as `restart` needs them.
    ///
    /// # Errors
    /// When the file of a secret cannot be read.
    pub fn given(&self, layout: &Layout) -> Result<Vec<String>, Failure> {
        let mut given = self.server.given.clone();
        let is_hidden = |word: &&mut String| word.starts_with(UPSTREAM) && word.contains(HIDDEN);
        for word in given.iter_mut().filter(is_hidden) {
            let file = layout.upstream_file();
            let url = read_text(&file).map_err(|error| {
                let message = format!("cannot keep the server's upstream: `{}`: {error}", file.display());
                Failure::new(Kind::Unexpected, message)
                    .with_hint("run `gem-setup stop`, then `gem-setup start --upstream URL`")
            })?;
            *word = format!("{UPSTREAM}{url}");
        }
        Ok(given)
    }

    /// Whether the server's process is one of those that this process sees and may signal: the same pid, start time and command
    /// line. A server in another process namespace or on another machine is not.
    #[must_use]
    pub fn is_here(&self) -> bool {
        !self.is_elsewhere() && identity(self.process.pid).as_ref() == Some(&self.process)
    }

    /// The server as the peer of a request. Where its process cannot be seen, its user must be ours.
    #[must_use]
    pub fn peer(&self) -> Peer {
        let owner = if self.is_here() {
            PortOwner::Process(self.process.pid)
        } else {
            PortOwner::User
        };
        // Only a gateway may get the token.
        let instance = self.instance.as_ref().filter(|_| !self.server.direct);
        Peer::new(self.server.port, owner).with_token(instance.and_then(Instance::token))
    }

    /// Whether the ids in this record mean nothing here.
    pub(super) fn is_elsewhere(&self) -> bool {
        !self.pid_space.is_empty() && self.pid_space != pid_space()
    }

    /// For how long it has run, if that can be seen from here.
    #[must_use]
    pub fn uptime(&self) -> Option<Duration> {
        age(&self.process).filter(|_| self.is_here())
    }

    /// Whether its server has the home of `layout`: the lock is held. Where the file system lacks locks, and after the lock was
    /// deleted, the process decides.
    pub(super) fn has_home(&self, layout: &Layout) -> bool {
        let lock = layout.server_lock_file();
        match Lock::is_held(&lock) {
            Ok(is_held) if lock.exists() => is_held,
            _ => self.is_here(),
        }
    }

    /// Whether its process is the one that holds `lock`, as far as the system shows it.
    fn holds(&self, lock: &Path) -> bool {
        has_open(self.process.pid, lock) != Some(false)
    }
}

/// The server of a home, found without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    /// None.
    No,
    /// One of gem-setup's: it holds the lock and wrote this. Its process may be out of reach ([`ServerRecord::is_here`]).
    Supervised(Box<ServerRecord>),
    /// A process holds the lock and has written nothing: the disk may be full.
    Unnamed,
    /// One that Gemini CLI started by itself: a runtime without a supervisor.
    Bare {
        /// Its process id.
        pid: u32,
        /// The port that clients use.
        port: u16,
    },
    /// The pid file names a process that is not known to be a server.
    Foreign(Identity),
}

/// The holder of the lock writes its record right after it took the lock, and takes it for a moment to clear up.
const PATIENCE: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(20);

/// Looks for the server of this home: first by its lock, then whom the pid file names.
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
            // A process in another namespace cannot be seen; its lock shows that it runs.
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

/// Looks for a server by the pid file alone; `is_locked`: a server holds the home's lock.
pub(super) fn observe_pid_file(layout: &Layout, is_locked: bool) -> io::Result<Running> {
    let file = match PidFile::read(&layout.pid_file()) {
        // A directory or a pipe names no process. Those who would write there say so.
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

/// Whether `process` runs the program that `file` names and listens on `port`: anyone can write the words of a server on a command
/// line.
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
