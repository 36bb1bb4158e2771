//! What the running server says of itself on disk: for `status` when the gateway cannot be asked, and for whoever comes
//! after a server that was killed.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use gem_platform::process::{Identity, identity};
use serde::{Deserialize, Serialize};

use super::files;
use super::pid::{Owner, PidFile};
use crate::catalog::Sha256;
use crate::layout::Layout;
use crate::place::write_atomic;
use crate::runtime::EngineState;

/// What a server was asked to be.
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
}

impl ServerIdentity {
    /// Whether a server that was asked to be this is what `wanted` asks for.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.is_alike(wanted) && (self.options == wanted.options || self.options.is_none() || wanted.options.is_none())
    }

    /// Whether nothing but the options can differ.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        (self.port, &self.runtime, &self.model, self.direct) == (other.port, &other.runtime, &other.model, other.direct)
    }
}

/// The supervised child as of the last change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildRecord {
    /// Proof of which process it is; `None` between two children.
    pub process: Option<Identity>,
    /// The private port it listens on; 0 between two children.
    pub port: u16,
    /// Its state.
    pub state: EngineState,
    /// How often it was replaced.
    pub restarts: u64,
    /// Why the last one ended.
    pub last_exit: Option<String>,
}

/// The server file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerRecord {
    /// Which process serves.
    pub process: Identity,
    /// What it was asked to be.
    pub server: ServerIdentity,
    /// When it began, in seconds since 1970.
    pub since: u64,
    /// Whether requests are answered by the runtime now.
    pub ready: bool,
    /// The supervised child; `None` when the runtime needs none.
    pub child: Option<ChildRecord>,
}

impl ServerRecord {
    /// Reads `path`; `None` when there is no such file or it says nothing.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        Ok(files::read(path)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Replaces `path`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_atomic(path, &serde_json::to_vec(self)?)
    }

    /// Whether the server that wrote this still runs: the same pid, start time and command line.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        identity(self.process.pid).as_ref() == Some(&self.process)
    }

    /// For how long it has served.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        Duration::from_secs(unix_seconds().saturating_sub(self.since))
    }
}

/// The time in seconds since 1970.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The server of a home, found without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    /// None.
    No,
    /// One of gem-setup's.
    Supervised(Box<ServerRecord>),
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

/// Looks for the server of this home: first whom the server file names, then whom the pid file names.
///
/// # Errors
/// When a file of the home cannot be read.
pub fn observe(layout: &Layout) -> io::Result<Running> {
    let record = ServerRecord::read(&layout.server_file())?;
    if let Some(record) = record.filter(ServerRecord::is_alive) {
        return Ok(Running::Supervised(Box::new(record)));
    }
    let Some(file) = PidFile::read(&layout.pid_file())? else {
        return Ok(Running::No);
    };
    let Some(process) = identity(file.pid) else {
        return Ok(Running::No);
    };
    Ok(match (file.owner(&process), file.port) {
        (Owner::Ours, Some(port)) => Running::Bare { pid: file.pid, port },
        (Owner::Ours | Owner::Stale, _) => Running::No,
        (Owner::Foreign, _) => Running::Foreign(process),
    })
}
