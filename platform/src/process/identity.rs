//! Identities where the system is asked through `sysinfo`.

use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

use super::Identity;

/// Looks `pid` up, and hands the entry to `then` if it is a process that runs.
pub(super) fn with_process<T>(pid: u32, then: impl FnOnce(&sysinfo::Process) -> T) -> Option<T> {
    let pid = Pid::from_u32(pid);
    let mut system = System::new().ok()?;
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        true,
        ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always),
    );
    let process = system.process(pid)?;
    let gone = matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
    (!gone).then(|| then(process))
}

/// The identity of the process `pid`, unless there is none or it is a zombie.
pub(super) fn identity(pid: u32) -> Option<Identity> {
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
