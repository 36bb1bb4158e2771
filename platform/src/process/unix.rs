//! Code shared by Linux and macOS: process groups, the guard, sessions, signals.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{Pid, Signal, getpgid, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::signal::unix::{SignalKind, signal};

use super::os::{signal_process, spawn_child};
use super::{Identity, Program, null_input, null_output};

/// A child in a process group of its own that ends with this process.
#[derive(Debug)]
pub struct Supervised {
    child: Child,
    group: Pid,
}

impl Supervised {
    /// Starts `program` with its standard streams piped or empty. If this process is killed, `guard` ends the child's
    /// group.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the program or the guard cannot be started.
    pub fn spawn(program: &Program, guard: &Guard) -> io::Result<Self> {
        let mut command = program.command();
        command
            .stdin(null_input()?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(file) = &guard.inherited {
            let_inherit(&mut command, file.as_raw_fd());
        }
        guard.start()?;
        let mut child = spawn_child(command)?;
        let Some(group) = child.id().and_then(pid_of) else {
            return Err(io::Error::other("the child has no process id"));
        };
        if let Err(error) = guard.add(group) {
            // Without the guard the child must not live. The tokio runtime reaps it.
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.start_kill();
            return Err(error);
        }
        Ok(Self { child, group })
    }

    /// The child's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.group.as_raw_nonzero().get().unsigned_abs()
    }

    /// The child's standard output and standard error. Only the first call returns them.
    pub fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Waits until the child itself has ended. Can be cancelled and called again.
    ///
    /// # Errors
    /// When the system cannot answer.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks the whole group to end (SIGTERM).
    ///
    /// # Errors
    /// When no process of the group is left; there is then nothing to wait for.
    pub fn ask_to_end(&mut self) -> io::Result<()> {
        Ok(kill_process_group(self.group, Signal::TERM)?)
    }

    /// Kills the rest of the group, including the child's own children, and removes the group from the guard's list.
    ///
    /// While a member is alive the system does not reuse the group's id.
    pub fn kill_group(&mut self, guard: &Guard) {
        let _ = kill_process_group(self.group, Signal::KILL);
        guard.remove(self.group);
    }
}

/// Lets the program that `command` starts inherit the open file `number`.
fn let_inherit(command: &mut std::process::Command, number: RawFd) {
    #[expect(
        unsafe_code,
        reason = "the flag must be changed in the child alone, between fork and exec"
    )]
    // SAFETY: fcntl is async-signal-safe and allocates nothing; if the number is closed, the call fails without harm.
    unsafe {
        command.pre_exec(move || Ok(fcntl_setfd(BorrowedFd::borrow_raw(number), FdFlags::empty())?));
    }
}

pub(super) fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// A small process that outlives a killed supervisor and kills its child's group.
///
/// It has a session of its own, so that no terminal signal and no group signal reaches it. It reads the groups to kill
/// from a pipe whose other end only the supervisor holds: when the pipe ends, the supervisor has ended.
#[derive(Debug)]
pub struct Guard {
    program: Program,
    process: Mutex<Option<std::process::Child>>,
    inherited: Option<File>,
}

impl Guard {
    /// `program` must call [`guard`] with its standard input.
    #[must_use]
    pub const fn new(program: Program) -> Self {
        Self {
            program,
            process: Mutex::new(None),
            inherited: None,
        }
    }

    /// Every child keeps `file` open as long as it runs: a lock on the file lasts until the last child has ended.
    #[must_use]
    pub fn with_inherited(mut self, file: File) -> Self {
        self.inherited = Some(file);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Option<std::process::Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the guard unless it is running.
    fn start(&self) -> io::Result<()> {
        let mut process = self.lock();
        if let Some(running) = process.as_mut()
            && running.try_wait()?.is_none()
        {
            return Ok(());
        }
        let mut command = self.program.command();
        command
            .stdin(Stdio::piped())
            .stdout(null_output()?)
            .stderr(null_output()?)
            .current_dir("/");
        new_session(&mut command);
        *process = Some(command.spawn()?);
        Ok(())
    }

    fn add(&self, group: Pid) -> io::Result<()> {
        self.tell(&format!("+{}\n", group.as_raw_nonzero()))
    }

    fn remove(&self, group: Pid) {
        // If the guard has ended, there is no list to update.
        let _ = self.tell(&format!("-{}\n", group.as_raw_nonzero()));
    }

    fn tell(&self, line: &str) -> io::Result<()> {
        let mut process = self.lock();
        let input = process.as_mut().and_then(|process| process.stdin.as_mut());
        input.ok_or(io::ErrorKind::BrokenPipe)?.write_all(line.as_bytes())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut process) = self.lock().take() {
            drop(process.stdin.take());
            let _ = process.wait();
        }
    }
}

/// The guard's main function: reads `+GROUP` and `-GROUP` lines until `input` ends, then kills the groups that are
/// left.
pub fn guard(input: impl BufRead) {
    let mut groups = BTreeSet::new();
    for line in input.lines().map_while(Result::ok) {
        if let Some(group) = line.strip_prefix('+').and_then(|id| id.parse::<u32>().ok()) {
            groups.insert(group);
        } else if let Some(group) = line.strip_prefix('-').and_then(|id| id.parse::<u32>().ok()) {
            groups.remove(&group);
        }
    }
    for group in groups.into_iter().filter_map(pid_of) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A process that has left our terminal and session.
#[derive(Debug)]
pub struct Detached {
    reaper: std::process::Child,
    pid: u32,
}

impl Detached {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    /// When the system cannot answer.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.reaper.try_wait()
    }
}

/// Starts `program` without input so that it survives the end of this process and of the terminal. Its output is
/// appended to `log`; it inherits no other open file.
///
/// With a `reaper`, the same executable runs between this process and `program`. It gets that word as its first
/// argument and must then call [`reap`]. An ended process stays a zombie until its parent waits for it, and the first
/// process of a container may never wait.
///
/// # Errors
/// When the program cannot be started.
pub fn start_detached(program: &Program, reaper: Option<&str>, log: &File) -> io::Result<Detached> {
    keep_inherited_files();
    let mut kept = program.clone();
    kept.args.splice(0..0, reaper.map(Into::into));
    let mut command = kept.command();
    command.stdin(null_input()?).stderr(log.try_clone()?);
    new_session(&mut command);
    if reaper.is_none() {
        let process = command.stdout(log.try_clone()?).spawn()?;
        let pid = process.id();
        return Ok(Detached { reaper: process, pid });
    }
    let mut reaper = command.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(said) = reaper.stdout.take() {
        io::BufReader::new(said).read_line(&mut line)?;
    }
    // A process id, or a negative error number.
    let pid = match line.trim().parse::<i32>() {
        Ok(error) if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        Ok(pid) => u32::try_from(pid).map_err(io::Error::other),
        Err(_) => Err(io::Error::other("the process was not started")),
    };
    Ok(Detached { reaper, pid: pid? })
}

/// The reaper's main function: starts `program` with its output going to our standard error, prints its process id to
/// standard output, waits for it, and returns its exit status.
///
/// # Errors
/// When the program cannot be started or waited for.
pub fn reap(program: &Program) -> io::Result<u8> {
    let log = io::stderr().as_fd().try_clone_to_owned()?;
    let child = program
        .command()
        .stdin(null_input()?)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    let mut out = io::stdout();
    match &child {
        Ok(child) => writeln!(out, "{}", child.id())?,
        Err(error) => writeln!(out, "-{}", error.raw_os_error().unwrap_or(libc::EIO))?,
    }
    out.flush()?;
    let status = child?.wait()?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// Sets the signals that this process and its children need, whatever its parent left. A write beyond the file size
/// limit (`ulimit -f`) fails, as on a full disk; the signal would end the process silently. No signal is blocked, SIGTERM
/// ends a process, and a child's end can be waited for.
pub fn set_signals() {
    #[expect(unsafe_code, reason = "the only way to set signals")]
    // SAFETY: no handler is installed, and no other thread is running yet. An all-zero `sigset_t` is a valid value.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Whether this process may do what only root may.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Replaces this process with `program`, which keeps its id and its streams.
///
/// # Errors
/// When that fails; otherwise the function never returns.
pub fn become_program(program: &Program) -> io::Result<()> {
    Err(program.command().exec())
}

/// Keeps children from inheriting the open files that this process inherited. If a detached process held a pipe, its
/// reader would never see the end.
fn keep_inherited_files() {
    let Ok(entries) = std::fs::read_dir("/dev/fd") else {
        return;
    };
    let numbers: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        #[expect(unsafe_code, reason = "the only way to name a file that was inherited")]
        // SAFETY: the number is used only for two fcntl calls, which fail without harm if the file is closed.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        if let Ok(flags) = fcntl_getfd(file) {
            let _ = fcntl_setfd(file, flags | FdFlags::CLOEXEC);
        }
    }
}

fn new_session(command: &mut std::process::Command) {
    #[expect(unsafe_code, reason = "the session must be left between fork and exec")]
    // SAFETY: setsid is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
}

/// Asks the process `identity` to end (SIGTERM).
///
/// # Errors
/// `NotFound` when it is no longer running; other errors when it may not be signalled.
pub fn ask_to_end(identity: &Identity) -> io::Result<()> {
    signal_process(identity, Signal::TERM)
}

/// Kills the process `identity`.
///
/// # Errors
/// `NotFound` when it is no longer running; other errors when it may not be signalled.
pub fn kill(identity: &Identity) -> io::Result<()> {
    signal_process(identity, Signal::KILL)
}

/// Kills a supervised child that has outlived its supervisor, with its group.
///
/// # Errors
/// `NotFound` when it is no longer running; other errors when it may not be signalled.
pub fn kill_leftover(identity: &Identity) -> io::Result<()> {
    let leads_group = pid_of(identity.pid).filter(|pid| getpgid(Some(*pid)).is_ok_and(|group| group == *pid));
    kill(identity)?;
    if let Some(group) = leads_group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    Ok(())
}

/// The signals that ask this process to end.
#[derive(Debug)]
pub struct ShutdownSignals {
    receivers: Vec<(&'static str, tokio::signal::unix::Signal)>,
}

impl ShutdownSignals {
    /// Starts to listen. A signal that was ignored when the program started (`nohup`, a background job) stays ignored.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        let kinds = [
            ("SIGTERM", SignalKind::terminate()),
            ("SIGINT", SignalKind::interrupt()),
            ("SIGHUP", SignalKind::hangup()),
        ];
        let mut receivers = Vec::with_capacity(kinds.len());
        for (name, kind) in kinds {
            if !is_ignored(kind.as_raw_value()) {
                receivers.push((name, signal(kind)?));
            }
        }
        Ok(Self { receivers })
    }

    /// Waits for the next signal and returns its name. Can be cancelled and called again.
    pub async fn recv(&mut self) -> &'static str {
        std::future::poll_fn(|context| {
            for (name, receiver) in &mut self.receivers {
                if receiver.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*name);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Ctrl-Z, and the end of the stop.
#[derive(Debug)]
pub struct StopSignals {
    stop: Option<tokio::signal::unix::Signal>,
    continued: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// Starts to listen. From now on [`stop`] stops this process, not Ctrl-Z itself.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        let is_followed = !is_ignored(libc::SIGTSTP);
        let stop = is_followed.then(|| signal(SignalKind::from_raw(libc::SIGTSTP)));
        Ok(Self {
            stop: stop.transpose()?,
            continued: signal(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }

    /// Waits for the next signal: `true` asks this process to stop, `false` says that it was continued.
    pub async fn recv(&mut self) -> bool {
        std::future::poll_fn(|context| {
            if let Some(stop) = &mut self.stop
                && stop.poll_recv(context).is_ready()
            {
                return std::task::Poll::Ready(true);
            }
            self.continued.poll_recv(context).map(|_| false)
        })
        .await
    }
}

/// Stops this process as Ctrl-Z does by default, until it is continued. Where no shell could continue it, nothing happens.
pub fn stop() {
    #[expect(unsafe_code, reason = "no safe function changes a signal's action")]
    // SAFETY: an all-zero `sigaction` is the default action, and both pointers are valid for the calls.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        let mut ours: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGTSTP, &raw const default, &raw mut ours) == 0 {
            // The signal stops the calling thread before the call returns.
            libc::raise(libc::SIGTSTP);
            libc::sigaction(libc::SIGTSTP, &raw const ours, std::ptr::null_mut());
        }
    }
}

fn is_ignored(signal: i32) -> bool {
    #[expect(unsafe_code, reason = "no safe function reads a signal's action")]
    // SAFETY: an all-zero `sigaction` is a valid value, and the call with a null new action only writes to it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}
