//! What is run, and who is running.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// A program with its arguments and what it finds in its environment beyond ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// Variables that are set for it.
    pub env: Vec<(OsString, OsString)>,
}

impl Program {
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// What tells a process from every other one, also from a later one with the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// When it was started, in a unit of the system's own: only equality means anything.
    pub start_time: u64,
    /// Its command line, the program first; parts that are not text are shown with replacement characters.
    pub command: Vec<String>,
}

/// Who listens on a TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The process id.
    pub pid: u32,
    /// The program's name as the system shows it.
    pub name: String,
}

/// The process that listens on `port` at `address`, or at the address that stands for all; `None` when nobody does or
/// the system does not say.
///
/// Walks through the sockets of all processes, so it is for explaining a conflict, not for finding one.
#[must_use]
pub fn listener_on(address: IpAddr, port: u16) -> Option<Listening> {
    let found = listeners::get_all().ok()?.into_iter().find(|listener| {
        let socket = listener.socket;
        listener.protocol == listeners::Protocol::TCP
            && listener.state == listeners::SocketState::Listen
            && socket.port() == port
            && (socket.ip() == address || socket.ip().is_unspecified())
    })?;
    Some(Listening {
        pid: found.process.pid,
        name: found.process.name,
    })
}
