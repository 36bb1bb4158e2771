//! Windows: job objects, console control events, and a named event that replaces SIGTERM between processes.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::os::windows::process::CommandExt;
use std::process::{ExitStatus, Stdio};
use std::task::Poll;

use process_wrap::tokio::{ChildWrapper, CommandWrap, CreationFlags, JobObject, KillOnDrop};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};
use tokio::sync::mpsc;
use windows::Win32::Foundation::{HANDLE, HANDLE_FLAG_INHERIT, HANDLE_FLAGS, SetHandleInformation, WAIT_TIMEOUT};
use windows::Win32::System::Console::{
    AttachConsole, CTRL_BREAK_EVENT, FreeConsole, GenerateConsoleCtrlEvent, GetConsoleCP,
};
use windows::Win32::System::Threading::{
    CREATE_BREAKAWAY_FROM_JOB, CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, CreateEventW, EVENT_MODIFY_STATE, INFINITE,
    OpenEventW, OpenProcess, PROCESS_CREATION_FLAGS, PROCESS_SYNCHRONIZE, SetEvent, WaitForSingleObject,
};
use windows::core::HSTRING;

pub(super) use super::identity::executable;
pub use super::identity::{age, check_view, has_open, is_stopped, notify, pid_space};
use super::{Identity, Program, identity::with_process};

/// Windows lacks signals.
pub const fn set_signals() {}

/// Windows does not know root.
#[must_use]
pub const fn is_root() -> bool {
    false
}

/// A child in a job object that ends with this process.
#[derive(Debug)]
pub struct Supervised {
    child: Box<dyn ChildWrapper>,
    id: u32,
}

impl Supervised {
    /// Starts `program` with its standard streams piped or empty. If this process is killed, the job object ends the
    /// child.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the program cannot be started or put into a job object.
    pub fn spawn(program: &Program, _guard: &Guard) -> io::Result<Self> {
        let mut command = program.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Without a console of our own the child would open a window.
        let window = if has_console() {
            PROCESS_CREATION_FLAGS(0)
        } else {
            CREATE_NO_WINDOW
        };
        let child = CommandWrap::from(tokio::process::Command::from(command))
            .wrap(CreationFlags(CREATE_NEW_PROCESS_GROUP | window))
            .wrap(KillOnDrop)
            .wrap(JobObject)
            .spawn()?;
        let id = child
            .id()
            .ok_or_else(|| io::Error::other("the child has no process id"))?;
        Ok(Self { child, id })
    }

    /// The child's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The child's standard output and standard error. Only the first call returns them.
    pub fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout().take(), self.child.stderr().take())
    }

    /// Waits until the child itself has ended. Can be cancelled and called again.
    ///
    /// # Errors
    /// When the system cannot answer.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        // The wrapper's `wait` would also wait for the child's own children.
        self.child.inner_mut().wait().await
    }

    /// Asks the whole group to end (CTRL_BREAK).
    ///
    /// # Errors
    /// When there is no console to send it through; the child can then only be killed.
    pub fn ask_to_end(&mut self) -> io::Result<()> {
        #[expect(unsafe_code, reason = "console calls")]
        // SAFETY: the calls have only numbers as arguments. The child's console is attached only if it is not ours too.
        unsafe {
            if GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, self.id).is_ok() {
                return Ok(());
            }
            AttachConsole(self.id)?;
            let sent = GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, self.id);
            let _ = FreeConsole();
            Ok(sent?)
        }
    }

    /// Kills the rest of the job, including the child's own children.
    pub fn kill_group(&mut self, _guard: &Guard) {
        let _ = self.child.start_kill();
    }
}

fn has_console() -> bool {
    #[expect(unsafe_code, reason = "console calls")]
    // SAFETY: the call is without arguments and returns a number, which is zero without a console.
    let code_page = unsafe { GetConsoleCP() };
    code_page != 0
}

/// Does nothing on Windows: the job object ends the children.
#[derive(Debug)]
pub struct Guard;

impl Guard {
    /// Does not start `program`.
    #[must_use]
    pub fn new(_program: Program) -> Self {
        Self
    }

    /// Does nothing: no child outlives its job.
    #[must_use]
    pub fn with_inherited(self, _file: File) -> Self {
        self
    }
}

/// Whether the program runs under Wine instead of Windows.
pub(super) fn is_wine() -> bool {
    let Ok(ntdll) = libloading::os::windows::Library::open_already_loaded("ntdll.dll") else {
        return false;
    };
    #[expect(unsafe_code, reason = "a symbol's type cannot be checked")]
    // SAFETY: the function is looked for, and not called.
    let version = unsafe { ntdll.get::<unsafe extern "C" fn()>(b"wine_get_version\0") };
    version.is_ok()
}

/// Does nothing on Windows.
pub fn guard(_input: impl BufRead) {}

/// A process that has left our console.
#[derive(Debug)]
pub struct Detached(std::process::Child);

impl Detached {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    /// When the system cannot answer.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }
}

/// Starts `program` without input so that it survives the end of this process and of the terminal. Its output is
/// appended to `log`; it inherits no other open file.
///
/// Windows ignores `reaper`: it does not know zombies.
///
/// # Errors
/// When the program cannot be started.
pub fn start_detached(program: &Program, _reaper: Option<&str>, log: &File) -> io::Result<Detached> {
    keep_inherited_handles();
    // The child gets a console without a window that we share, so that it can be sent CTRL_BREAK.
    let flags = CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP;
    let start = |flags: PROCESS_CREATION_FLAGS| -> io::Result<Detached> {
        let mut command = program.command();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?);
        command.creation_flags(flags.0).spawn().map(Detached)
    };
    // The terminal may run us in a job that ends with the terminal. Some jobs let a process leave, some do not.
    start(flags | CREATE_BREAKAWAY_FROM_JOB).or_else(|_| start(flags))
}

/// The counterpart of the reaper on Unix: runs `program`, waits for it, and returns its exit status.
///
/// # Errors
/// When the program cannot be started or waited for.
pub fn reap(program: &Program) -> io::Result<u8> {
    let status = program.command().status()?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX))
}

/// Does nothing: unlike Unix, Windows cannot replace this process with `program`.
///
/// # Errors
/// None.
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
pub fn become_program(_program: &Program) -> io::Result<()> {
    Ok(())
}

/// Keeps children from inheriting our standard streams. If a detached process held a pipe, its reader would never see
/// the end.
fn keep_inherited_handles() {
    let streams = [
        io::stdin().as_raw_handle(),
        io::stdout().as_raw_handle(),
        io::stderr().as_raw_handle(),
    ];
    for stream in streams.into_iter().filter(|stream| !stream.is_null()) {
        #[expect(unsafe_code, reason = "the flag has no safe wrapper")]
        // SAFETY: the handle is one of our standard streams; if it is invalid, the call only fails.
        let _ = unsafe { SetHandleInformation(HANDLE(stream), HANDLE_FLAG_INHERIT.0, HANDLE_FLAGS(0)) };
    }
}

/// The identity of the process `pid`; `None` if there is none.
#[must_use]
pub fn identity(pid: u32) -> Option<Identity> {
    runs(pid).then(|| super::identity::identity(pid)).flatten()
}

/// An ended process can still be looked up while a handle to it is open.
fn runs(pid: u32) -> bool {
    #[expect(unsafe_code, reason = "the handle has no safe wrapper")]
    // SAFETY: the opened handle belongs to us alone, and its owner closes it.
    let process = unsafe { OpenProcess(PROCESS_SYNCHRONIZE, false, pid).map(|h| OwnedHandle::from_raw_handle(h.0)) };
    // We may lack the right to open another user's process; it is looked up anyway.
    process.map_or(true, |process| wait(&process, 0) == WAIT_TIMEOUT.0)
}

fn wait(handle: &OwnedHandle, milliseconds: u32) -> u32 {
    #[expect(unsafe_code, reason = "the call has no safe wrapper")]
    // SAFETY: the handle is open for as long as it is borrowed.
    unsafe {
        WaitForSingleObject(HANDLE(handle.as_raw_handle()), milliseconds).0
    }
}

/// Asks the process `identity` to end through the event that it listens to. A process without that event is killed.
///
/// # Errors
/// `NotFound` when it is no longer running; other errors when it may not be ended.
pub fn ask_to_end(identity: &Identity) -> io::Result<()> {
    if !super::is_alive(identity) {
        return Err(io::ErrorKind::NotFound.into());
    }
    #[expect(unsafe_code, reason = "the handle has no safe wrapper")]
    // SAFETY: the name outlives the call; the opened handle belongs to us alone, and its owner closes it.
    let event = unsafe {
        OpenEventW(EVENT_MODIFY_STATE, false, &stop_event(identity.pid)).map(|h| OwnedHandle::from_raw_handle(h.0))
    };
    let Ok(event) = event else {
        return kill(identity);
    };
    #[expect(unsafe_code, reason = "the call has no safe wrapper")]
    // SAFETY: the handle is open until the end of this function.
    Ok(unsafe { SetEvent(HANDLE(event.as_raw_handle())) }?)
}

fn stop_event(pid: u32) -> HSTRING {
    HSTRING::from(format!("Local\\gem-platform-stop-{pid}"))
}

/// Kills the process `identity`.
///
/// # Errors
/// `NotFound` when it is no longer running; other errors when it may not be ended.
pub fn kill(identity: &Identity) -> io::Result<()> {
    let killed = with_process(identity.pid, |process| {
        (process.start_time() == identity.start_time).then(|| process.kill())
    });
    match killed.flatten() {
        Some(true) => Ok(()),
        Some(false) => Err(io::ErrorKind::PermissionDenied.into()),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Kills a supervised child that outlived its supervisor.
///
/// # Errors
/// `NotFound` when it is no longer running; other errors when it may not be ended.
pub fn kill_leftover(identity: &Identity) -> io::Result<()> {
    kill(identity)
}

/// The signals that ask this process to end.
#[derive(Debug)]
pub struct ShutdownSignals {
    ctrl_c: CtrlC,
    ctrl_break: CtrlBreak,
    ctrl_close: CtrlClose,
    ctrl_shutdown: CtrlShutdown,
    stop_event: mpsc::UnboundedReceiver<()>,
}

impl ShutdownSignals {
    /// Starts to listen.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            ctrl_c: ctrl_c()?,
            ctrl_break: ctrl_break()?,
            ctrl_close: ctrl_close()?,
            ctrl_shutdown: ctrl_shutdown()?,
            stop_event: listen_to_stop_event()?,
        })
    }

    /// Waits for the next signal and returns its name. Can be cancelled and called again.
    pub async fn recv(&mut self) -> &'static str {
        std::future::poll_fn(|context| {
            if self.ctrl_c.poll_recv(context).is_ready() {
                Poll::Ready("CTRL_C")
            } else if self.ctrl_break.poll_recv(context).is_ready() {
                Poll::Ready("CTRL_BREAK")
            } else if self.ctrl_close.poll_recv(context).is_ready() {
                Poll::Ready("CTRL_CLOSE")
            } else if self.ctrl_shutdown.poll_recv(context).is_ready() {
                Poll::Ready("CTRL_SHUTDOWN")
            } else if self.stop_event.poll_recv(context).is_ready() {
                Poll::Ready("stop event")
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

/// Ctrl-Z, which this system has only as a character.
#[derive(Debug)]
pub struct StopSignals;

impl StopSignals {
    /// Does nothing.
    ///
    /// # Errors
    /// None.
    pub const fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits forever.
    pub async fn recv(&mut self) -> bool {
        std::future::pending().await
    }
}

/// Does nothing.
pub const fn stop() {}

fn listen_to_stop_event() -> io::Result<mpsc::UnboundedReceiver<()>> {
    #[expect(unsafe_code, reason = "the handle has no safe wrapper")]
    // SAFETY: the name outlives the call; the new handle belongs to us alone, and its owner closes it.
    let event = unsafe {
        let handle = CreateEventW(None, false, false, &stop_event(std::process::id()))?;
        OwnedHandle::from_raw_handle(handle.0)
    };
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::Builder::new()
        .name("stop-event".to_owned())
        .spawn(move || {
            // Zero means that the event was set.
            while wait(&event, INFINITE) == 0 && sender.send(()).is_ok() {}
        })?;
    Ok(receiver)
}
