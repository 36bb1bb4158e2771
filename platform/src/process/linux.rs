//! Linux: parent-death signals, identities from `/proc`, signals through process file descriptors, systemd.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::{
    PidfdFlags, Signal, getpid, getppid, kill_process, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::process::Child;
use tokio::runtime::Handle;

pub use super::unix::*;

use super::Identity;

/// A command to start, the runtime for the child's events, and the channel that receives the child.
type Request = (Command, Handle, mpsc::SyncSender<io::Result<Child>>);

static SPAWNER: Mutex<Option<mpsc::Sender<Request>>> = Mutex::new(None);

/// Starts the child so that the kernel kills it when this process dies.
///
/// That signal depends on the thread that forked, not on the process. So one thread, which never ends, starts all
/// children.
pub(super) fn spawn_child(mut command: Command) -> io::Result<Child> {
    let parent = getpid();
    #[expect(unsafe_code, reason = "the signal must be asked for between fork and exec")]
    // SAFETY: prctl and getppid are async-signal-safe, and nothing is allocated: the error carries only a number.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() != Some(parent) {
                return Err(rustix::io::Errno::SRCH.into());
            }
            Ok(())
        });
    }
    let (reply, child) = mpsc::sync_channel(1);
    let gone = |_| io::Error::other("the thread that starts children has ended");
    spawner()?
        .send((command, Handle::current(), reply))
        .map_err(|_| io::Error::other("the thread that starts children has ended"))?;
    child.recv().map_err(gone)?
}

fn spawner() -> io::Result<mpsc::Sender<Request>> {
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = spawner.as_ref() {
        return Ok(sender.clone());
    }
    let (sender, requests) = mpsc::channel::<Request>();
    std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
        for (command, runtime, reply) in requests {
            let _entered = runtime.enter();
            // The caller may have been cancelled; the child then ends when it is dropped.
            let _ = reply.send(tokio::process::Command::from(command).kill_on_drop(true).spawn());
        }
    })?;
    *spawner = Some(sender.clone());
    Ok(sender)
}

/// The identity of the process `pid`, unless there is none or it is a zombie.
#[must_use]
pub fn identity(pid: u32) -> Option<Identity> {
    for _ in 0..EXEC_TRIES {
        let found = look_up(pid)?;
        if !found.command.is_empty() {
            return Some(found);
        }
        std::thread::sleep(EXEC_PAUSE);
    }
    look_up(pid)
}

/// A process lacks a command line for a moment while it executes another program (even after its parent sees the
/// success), and while it ends. Kernel threads never have one.
const EXEC_TRIES: u32 = 20;
const EXEC_PAUSE: Duration = Duration::from_millis(1);

fn look_up(pid: u32) -> Option<Identity> {
    let fields = stat_fields(&format!("/proc/{pid}/stat"))?;
    if matches!(fields.first().map(String::as_str), None | Some("Z" | "X")) {
        return None;
    }
    // Field 22 of the line. The list begins at field 3, the state.
    let start_time: u64 = fields.get(19)?.parse().ok()?;
    let start_time = start_time.wrapping_add_signed(-boot_offset().saturating_mul(ticks()));
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = command.split_inclusive(|byte| *byte == 0).map(|argument| {
        let argument = argument.strip_suffix(b"\0").unwrap_or(argument);
        String::from_utf8_lossy(argument).into_owned()
    });
    Some(Identity {
        pid,
        start_time,
        command: arguments.collect(),
    })
}

/// Whether the process `pid` is suspended, as by Ctrl-Z.
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    let fields = stat_fields(&format!("/proc/{pid}/stat"));
    fields.is_some_and(|fields| matches!(fields.first().map(String::as_str), Some("T" | "t")))
}

/// Whether the process `pid` has the file at `path` open; `None` where the system does not show it.
#[must_use]
pub fn has_open(pid: u32, path: &Path) -> Option<bool> {
    let wanted = fs::metadata(path).ok()?;
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    is_among(
        files.map(|file| fs::metadata(file.path())),
        (wanted.dev(), wanted.ino()),
    )
}

/// Whether the `wanted` device and inode are among the open `files`. From another user namespace the files can be listed, but not
/// looked at.
fn is_among(files: impl Iterator<Item = io::Result<fs::Metadata>>, wanted: (u64, u64)) -> Option<bool> {
    let mut is_hidden = false;
    for file in files {
        match file {
            Ok(found) if (found.dev(), found.ino()) == wanted => return Some(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => is_hidden = true,
            Ok(_) | Err(_) => {}
        }
    }
    (!is_hidden).then_some(false)
}

/// The executable of the process `pid`. If the file was replaced, its former name.
pub(super) fn executable(pid: u32) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?.into_os_string();
    let path = path.as_bytes();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    Some(OsStr::from_bytes(path).into())
}

/// How long ago the process `identity` was started, by a clock that cannot be set.
#[must_use]
pub fn age(identity: &Identity) -> Option<Duration> {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = now.tv_sec.saturating_sub(boot_offset());
    let now = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(now.tv_nsec).ok()?);
    let started = Duration::from_millis(identity.start_time.saturating_mul(1000) / clock_ticks_per_second());
    now.checked_sub(started)
}

fn ticks() -> i64 {
    i64::try_from(clock_ticks_per_second()).unwrap_or(100)
}

/// How much later the boot clock of this process's time namespace is than the machine's, in seconds (time_namespaces(7)). The system
/// shows all start times with it, and they would differ between namespaces.
fn boot_offset() -> i64 {
    static OFFSET: OnceLock<i64> = OnceLock::new();
    *OFFSET.get_or_init(|| {
        let own = fs::read_link("/proc/self/ns/time").ok();
        // The file has the offsets for children, which may be in another namespace.
        let is_own = own.is_some() && own == fs::read_link("/proc/self/ns/time_for_children").ok();
        let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        let line = offsets.lines().find_map(|line| line.strip_prefix("boottime"));
        let seconds = line.filter(|_| is_own).and_then(|line| line.split_whitespace().next());
        seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
    })
}

/// The fields of a process's `stat` file from the third one (the state) on.
pub(super) fn stat_fields(path: &str) -> Option<Vec<String>> {
    let stat = fs::read(path).ok()?;
    // The name is in parentheses and may contain spaces and parentheses (proc_pid_stat(5)).
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Signals exactly the process `identity`: the process is pinned first and compared afterwards.
pub(super) fn signal_process(identity: &Identity, signal: Signal) -> io::Result<()> {
    let pid = pid_of(identity.pid).ok_or(io::ErrorKind::NotFound)?;
    let pinned = pidfd_open(pid, PidfdFlags::empty());
    if !super::is_alive(identity) {
        return Err(io::ErrorKind::NotFound.into());
    }
    match pinned {
        Ok(pinned) => Ok(pidfd_send_signal(pinned, signal)?),
        // The kernel is older than 5.3, or a sandbox forbids the call.
        Err(_) => Ok(kill_process(pid, signal)?),
    }
}

/// Whether processes can be seen from here.
///
/// # Errors
/// When `/proc` is not mounted, as in some containers and build environments.
pub fn check_view() -> io::Result<()> {
    let look = fs::metadata("/proc/self/stat");
    look.map(drop)
        .map_err(|error| io::Error::new(error.kind(), "no process can be seen: `/proc` is not mounted"))
}

/// Identifies the namespace in which this process's ids are valid: the boot and the process namespace. Empty if the
/// system does not say.
#[must_use]
pub fn pid_space() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    match (boot.trim(), namespace.to_string_lossy()) {
        ("", _) => String::new(),
        (boot, namespace) => format!("{boot} {namespace}"),
    }
}

/// Sends `message` to the service manager's `socket` (`$NOTIFY_SOCKET`, sd_notify(3)).
///
/// # Errors
/// When the message cannot be sent.
pub fn notify(socket: &OsStr, message: &str) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    // A service manager that does not read must not block the service.
    sender.set_nonblocking(true)?;
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    sender.send_to_addr(message.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_among_hidden_ones_is_unknown() {
        let (ours, other) = (Path::new("/proc/self/stat"), Path::new("/"));
        let wanted = fs::metadata(ours).map(|file| (file.dev(), file.ino())).unwrap();
        let hidden = || Err(io::ErrorKind::PermissionDenied.into());
        let closed = || Err(io::ErrorKind::NotFound.into());
        for (files, expected) in [
            (vec![closed(), fs::metadata(other)], Some(false)),
            (vec![hidden(), fs::metadata(other)], None),
            (vec![hidden(), fs::metadata(ours)], Some(true)),
        ] {
            assert_eq!(is_among(files.into_iter(), wanted), expected);
        }
    }
}
