//! macOS lacks a parent-death signal, so only the guard ends the child of a killed supervisor.

use std::io;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

pub use super::unix::{
    Detached, Guard, ShutdownSignals, StopSignals, Supervised, ask_to_end, become_program, guard, is_root, kill,
    kill_leftover, outlive_file_limit, reap, start_detached, stop,
};

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
    let pid = i32::try_from(identity.pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::NotFound)?;
    if !super::is_alive(identity) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(kill_process(pid, signal)?)
}
