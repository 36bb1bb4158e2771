//! Identities from `sysinfo`, and facts about a process that only Linux has.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

use super::Identity;

/// Looks up the process `pid` and passes it to `then`, if it is running.
pub(super) fn with_process<T>(pid: u32, then: impl FnOnce(&sysinfo::Process) -> T) -> Option<T> {
    let pid = Pid::from_u32(pid);
    let mut system = System::new().ok()?;
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        true,
        ProcessRefreshKind::nothing()
            .with_cmd(UpdateKind::Always)
            .with_exe(UpdateKind::Always),
    );
    let process = system.process(pid)?;
    let gone = matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
    (!gone).then(|| then(process))
}

/// The identity of the process `pid`, unless there is none or it is a zombie.
#[cfg_attr(
    windows,
    expect(unreachable_pub, reason = "only macOS exports this function unchanged")
)]
#[must_use]
pub fn identity(pid: u32) -> Option<Identity> {
    with_process(pid, |process| Identity {
        pid,
        start_time: process.start_time(),
        command: process
            .cmd()
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect(),
    })
}

/// The executable of the process `pid`.
pub(super) fn executable(pid: u32) -> Option<PathBuf> {
    with_process(pid, |process| process.exe().map(Into::into)).flatten()
}

/// How long ago the process that `identity` names was started.
#[must_use]
pub fn age(identity: &Identity) -> Option<Duration> {
    with_process(identity.pid, |process| Duration::from_secs(process.run_time()))
}

/// Whether the process `pid` is suspended, as by Ctrl-Z.
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    with_process(pid, |process| process.status() == ProcessStatus::Stop).unwrap_or(false)
}

/// Whether the process `pid` has the file at `path` open: the system does not show it.
#[must_use]
pub const fn has_open(_pid: u32, _path: &Path) -> Option<bool> {
    None
}

/// Whether processes can be seen from here; always true on this system.
///
/// # Errors
/// None.
pub const fn check_view() -> io::Result<()> {
    Ok(())
}

/// Identifies the namespace in which this process's ids are valid. Empty on this system: it has only one, and a start
/// time is a point in time that no later process shares.
#[must_use]
pub const fn pid_space() -> String {
    String::new()
}

/// Does nothing: there is no service manager to notify.
///
/// # Errors
/// None.
pub fn notify(_socket: &OsStr, _message: &str) -> io::Result<()> {
    Ok(())
}
