//! Listening sockets from `/proc/self/net/tcp`, their owners from `/proc/PID/fd`. `/proc/net` leads to the same directory, but a
//! `/proc` of processes alone (`subset=pid`) lacks it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{Owner, most_specific};
use crate::process::os::stat_fields;

/// The length of a table row. The kernel would walk through the whole table to fill a longer buffer.
const ROW: usize = 150;

/// The listening sockets at an address.
#[derive(Debug)]
pub(super) enum Evidence {
    /// Sockets, each with the open file of the process that owns it.
    Files(Vec<(PathBuf, OsString)>),
    /// Sockets of this process's user, by number.
    Ours(SocketAddr, Vec<u64>),
}

pub(super) fn find(owner: Owner, address: SocketAddr) -> io::Result<Option<Evidence>> {
    let sockets = sockets_at(address)?;
    if sockets.is_empty() {
        return Ok(None);
    }
    let us = rustix::process::geteuid().as_raw();
    match owner {
        // Another user namespace hides the process's files, so only the user can be compared.
        Owner::Process(pid) if !hides_files(pid) => find_files(pid, &sockets),
        _ if sockets.iter().all(|socket| socket.user == us) => Ok(Some(Evidence::Ours(address, numbers(&sockets)))),
        _ => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// Whether the open files of the process `pid` can be listed, but not read.
fn hides_files(pid: u32) -> bool {
    let mut files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let link = files.next().map(|file| fs::read_link(file.path()));
    matches!(link, Some(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied)
}

fn numbers(sockets: &[Socket]) -> Vec<u64> {
    sockets.iter().map(|socket| socket.inode).collect()
}

fn find_files(owner: u32, sockets: &[Socket]) -> io::Result<Option<Evidence>> {
    let mut missing: BTreeSet<OsString> = sockets
        .iter()
        .map(|socket| format!("socket:[{}]", socket.inode).into())
        .collect();
    let mut held = Vec::new();
    take_held(owner, &mut missing, &mut held);
    if !missing.is_empty() {
        for pid in descendants(owner)? {
            take_held(pid, &mut missing, &mut held);
        }
    }
    if missing.is_empty() {
        Ok(Some(Evidence::Files(held)))
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// The kernel does not reuse a socket's number, and a socket listens until its last file is closed.
pub(super) fn still_holds(evidence: &Evidence) -> bool {
    match evidence {
        Evidence::Files(files) => {
            let mut files = files.iter();
            files.all(|(file, socket)| fs::read_link(file).is_ok_and(|now| now.as_os_str() == socket))
        }
        Evidence::Ours(address, sockets) => sockets_at(*address).is_ok_and(|now| numbers(&now) == *sockets),
    }
}

fn take_held(pid: u32, missing: &mut BTreeSet<OsString>, held: &mut Vec<(PathBuf, OsString)>) {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return;
    };
    for file in files.flatten() {
        if let Ok(target) = fs::read_link(file.path())
            && let Some(socket) = missing.take(target.as_os_str())
        {
            held.push((file.path(), socket));
        }
    }
}

/// The processes that `root` started, directly or indirectly, and those of its process group, which includes orphans.
fn descendants(root: u32) -> io::Result<BTreeSet<u32>> {
    let mut parents = BTreeMap::new();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Some((parent, group)) = parent_and_group(&entry.path()) else {
            continue;
        };
        parents.insert(pid, parent);
        if group == root && pid != root {
            found.insert(pid);
        }
    }
    loop {
        let children = parents
            .iter()
            .filter(|(_, parent)| **parent == root || found.contains(*parent));
        let children: BTreeSet<u32> = children
            .map(|(pid, _)| *pid)
            .filter(|pid| !found.contains(pid))
            .collect();
        if children.is_empty() {
            return Ok(found);
        }
        found.extend(children);
    }
}

fn parent_and_group(process: &Path) -> Option<(u32, u32)> {
    let fields = stat_fields(process.join("stat").to_str()?)?;
    Some((fields.get(1)?.parse().ok()?, fields.get(2)?.parse().ok()?))
}

struct Socket {
    inode: u64,
    user: u32,
}

/// The sockets to which the system hands a connection to `address`.
fn sockets_at(address: SocketAddr) -> io::Result<Vec<Socket>> {
    let mut rows = Vec::new();
    if address.is_ipv4() {
        read_listening(File::open("/proc/self/net/tcp")?, address.port(), &mut rows)?;
        let found = most_specific(address, std::mem::take(&mut rows));
        if !found.is_empty() {
            return Ok(found);
        }
    }
    match File::open("/proc/self/net/tcp6") {
        Ok(file) => read_listening(file, address.port(), &mut rows)?,
        // The system lacks IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(most_specific(address, rows))
}

/// Adds the sockets that listen on `port`. Linux lists listening sockets before all others, of which there may be thousands.
fn read_listening(table: File, port: u16, rows: &mut Vec<(SocketAddr, Socket)>) -> io::Result<()> {
    let before = rows.len();
    for row in BufReader::with_capacity(ROW, table).lines().skip(1) {
        match listening(&row?) {
            Some(found) if found.0.port() == port => rows.push(found),
            None if rows.len() > before => break,
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// Parses a table row that shows a listening socket.
fn listening(row: &str) -> Option<(SocketAddr, Socket)> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = row.split_ascii_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let address = SocketAddr::new(ip_of(ip)?, u16::from_str_radix(port, 16).ok()?);
    let socket = Socket {
        user: fields.get(7)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    };
    Some((address, socket))
}

/// Each 32-bit word of an address is printed as a number in the machine's byte order.
fn ip_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words = [word(0)?, word(8)?, word(16)?, word(24)?];
    let bytes: [u8; 16] = words.concat().try_into().ok()?;
    Some(Ipv6Addr::from(bytes).into())
}
