//! macOS: no parent-death signal, so the guard alone ends the child of a killed supervisor.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

pub use super::unix::{
    Detached, Guard, ShutdownSignals, Supervised, ask_to_end, become_program, guard, keep, kill, kill_leftover,
    start_detached,
};

pub(super) use super::identity::executable;

use super::Identity;

pub(super) fn spawn_child(command: Command) -> io::Result<Child> {
    tokio::process::Command::from(command).kill_on_drop(true).spawn()
}

/// The identity of the process `pid`, unless there is none or it is a zombie.
#[must_use]
pub fn identity(pid: u32) -> Option<Identity> {
    super::identity::identity(pid)
}

pub(super) fn signal_process(identity: &Identity, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(identity.pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::NotFound)?;
    if !super::is_alive(identity) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(kill_process(pid, signal)?)
}

/// Whether the process `pid` has the file at `path` open: the system does not show it.
#[must_use]
pub const fn has_open(_pid: u32, _path: &Path) -> Option<bool> {
    None
}

/// How long ago the process that `identity` names was started.
#[must_use]
pub fn age(identity: &Identity) -> Option<Duration> {
    super::identity::age(identity)
}

/// Names the space in which this process's ids are valid. Empty here: there is one space, and a start time is a point in
/// time, which no later process shares.
#[must_use]
pub const fn pid_space() -> String {
    String::new()
}

/// Without a service manager to notify, this always succeeds.
///
/// # Errors
/// None.
pub fn notify(_socket: &OsStr, _message: &str) -> io::Result<()> {
    Ok(())
}
