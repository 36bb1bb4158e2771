//! macOS lacks a parent-death signal, so only the guard ends the child of a killed supervisor.

use std::io;
use std::process::Command;

use rustix::process::{Signal, kill_process};
use tokio::process::Child;

pub use super::unix::*;

pub use super::identity::{age, check_view, has_open, identity, is_stopped, notify, pid_space};

pub(super) use super::identity::executable;

use super::Identity;

pub(super) const fn is_wine() -> bool {
    false
}

pub(super) fn spawn_child(command: Command) -> io::Result<Child> {
    tokio::process::Command::from(command).kill_on_drop(true).spawn()
}

pub(super) fn signal_process(identity: &Identity, signal: Signal) -> io::Result<()> {
    let pid = pid_of(identity.pid).ok_or(io::ErrorKind::NotFound)?;
    if !super::is_alive(identity) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(kill_process(pid, signal)?)
}
