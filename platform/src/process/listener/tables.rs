//! Listening sockets and their owners as the system lists them: libproc on macOS, `GetExtendedTcpTable` on Windows.

use std::io;
use std::net::SocketAddr;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::{Owner, listening_sockets, most_specific};
use crate::process::os::is_wine;

/// Listing the sockets is cheap, so they are listed again for each check.
#[derive(Debug)]
pub(super) struct Evidence(Owner, SocketAddr);

pub(super) fn find(owner: Owner, address: SocketAddr) -> io::Result<Option<Evidence>> {
    // Wine does not report the owners of sockets.
    if is_wine() {
        return Ok(Some(Evidence(owner, address)));
    }
    let rows = listening_sockets().map(|listener| (listener.socket, listener.process.pid));
    let pids = most_specific(address, rows.collect());
    if pids.is_empty() {
        return Ok(None);
    }
    if owns(owner, &pids)? {
        Ok(Some(Evidence(owner, address)))
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

pub(super) fn still_holds(Evidence(owner, address): &Evidence) -> bool {
    find(*owner, *address).is_ok_and(|found| found.is_some())
}

fn owns(owner: Owner, pids: &[u32]) -> io::Result<bool> {
    if let Owner::Process(owner) = owner
        && pids.iter().all(|pid| *pid == owner)
    {
        return Ok(true);
    }
    let system = all_processes(ProcessRefreshKind::nothing().with_user(UpdateKind::Always))?;
    Ok(pids.iter().all(|pid| match owner {
        Owner::Process(root) => descends_from(&system, root, *pid),
        Owner::User => is_of_our_user(&system, *pid),
    }))
}

fn all_processes(wanted: ProcessRefreshKind) -> io::Result<System> {
    let mut system = System::new().map_err(io::Error::other)?;
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
    Ok(system)
}

fn is_of_our_user(system: &System, pid: u32) -> bool {
    let user = |pid: u32| system.process(Pid::from_u32(pid)).and_then(|process| process.user_id());
    user(pid).is_some_and(|theirs| user(std::process::id()) == Some(theirs))
}

fn descends_from(system: &System, root: u32, pid: u32) -> bool {
    let mut process = system.process(Pid::from_u32(pid));
    for _ in 0..system.processes().len() {
        let Some(child) = process else { return false };
        if child.pid().as_u32() == root {
            return true;
        }
        // A parent that has ended may have passed its id to a younger process.
        process = child.parent().and_then(|parent| system.process(parent));
        process = process.filter(|parent| parent.start_time() <= child.start_time());
    }
    false
}
