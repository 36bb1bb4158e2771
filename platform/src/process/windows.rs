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
pub use super::identity::{age, check_view, has_open, notify, pid_space};
use super::{Identity, Program, identity::with_process};

/// Windows limits no file sizes.
pub const fn outlive_file_limit() {}

/// A child in a job object that ends with this process.
#[derive(Debug)]
pub struct Supervised {
    child: Box<dyn ChildWrapper>,
    id: u32,
}

impl Supervised {
    /// Starts `program` with its standard streams piped or empty; the job object ends it should this process be killed.
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

    /// The child's standard output and error, once.
    pub fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout().take(), self.child.stderr().take())
    }

    /// Waits until the child itself has ended. Can be cancelled and called again.
    ///
    /// # Errors
    /// When the system cannot be asked.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        // The wrapper would also wait for the child's own children.
        self.child.inner_mut().wait().await
    }

    /// Asks the whole group to end (CTRL_BREAK).
    ///
    /// # Errors
    /// When there is no console to send it through; then it can only be killed.
    pub fn ask_to_end(&mut self) -> io::Result<()> {
        #[expect(unsafe_code, reason = "console calls")]
        // SAFETY: the calls take plain numbers. The child's console is borrowed only where it is not ours too.
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
    // SAFETY: the call takes nothing and gives a number, which is zero without a console.
    let code_page = unsafe { GetConsoleCP() };
    code_page != 0
}

/// Nothing on Windows: the job object does its work.
#[derive(Debug)]
pub struct Guard;

impl Guard {
    /// `program` is not started.
    #[must_use]
    pub fn new(_program: Program) -> Self {
        Self
    }

    /// Nothing is inherited: no child outlives its job.
    #[must_use]
    pub fn with_inherited(self, _file: File) -> Self {
        self
    }
}

/// Nothing on Windows.
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

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system cannot be asked.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }
}

/// Starts `program` so that it survives the end of this process and of the terminal, with no input, its output appended
/// to `log`, and nothing else of ours open.
///
/// Windows needs no `reaper`: an ended process need not be waited for.
///
/// # Errors
/// When the program cannot be started.
pub fn start_detached(program: &Program, _reaper: Option<&str>, log: &File) -> io::Result<Detached> {
    keep_inherited_handles();
    // A console without a window, shared with the child, so that the child can be sent CTRL_BREAK.
    let flags = CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP;
    let start = |flags: PROCESS_CREATION_FLAGS| -> io::Result<Detached> {
        let mut command = program.command();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?);
        command.creation_flags(flags.0).spawn().map(Detached)
    };
    // The terminal may run us in a job that ends with it; some jobs can be left, some forbid it.
    start(flags | CREATE_BREAKAWAY_FROM_JOB).or_else(|_| start(flags))
}

/// The reaper's own work on Unix: runs `program`, waits for it, and gives the exit status to end with.
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

/// On Unix replaces this process with `program`; Windows cannot, so nothing happens.
///
/// # Errors
/// None.
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
pub fn become_program(_program: &Program) -> io::Result<()> {
    Ok(())
}

/// Keeps our own standard streams from passing on: a pipe that the detached process held would never end for its reader.
fn keep_inherited_handles() {
    let streams = [
        io::stdin().as_raw_handle(),
        io::stdout().as_raw_handle(),
        io::stderr().as_raw_handle(),
    ];
    for stream in streams.into_iter().filter(|stream| !stream.is_null()) {
        #[expect(unsafe_code, reason = "the flag has no safe wrapper")]
        // SAFETY: the handle is one of our standard streams; a bad one only makes the call fail.
        let _ = unsafe { SetHandleInformation(HANDLE(stream), HANDLE_FLAG_INHERIT.0, HANDLE_FLAGS(0)) };
    }
}

/// The identity of the process `pid`, unless there is none.
#[must_use]
pub fn identity(pid: u32) -> Option<Identity> {
    runs(pid).then(|| super::identity::identity(pid)).flatten()
}

/// An ended process can still be looked up while a handle to it is open.
fn runs(pid: u32) -> bool {
    #[expect(unsafe_code, reason = "the handle has no safe wrapper")]
    // SAFETY: a handle that was opened is ours alone and is closed by its owner.
    let process = unsafe { OpenProcess(PROCESS_SYNCHRONIZE, false, pid).map(|h| OwnedHandle::from_raw_handle(h.0)) };
    // Another user's process may not be opened; it is looked up anyway.
    process.map_or(true, |process| wait(&process, 0) == WAIT_TIMEOUT.0)
}

fn wait(handle: &OwnedHandle, milliseconds: u32) -> u32 {
    #[expect(unsafe_code, reason = "the call has no safe wrapper")]
    // SAFETY: the handle is open for as long as it is borrowed.
    unsafe {
        WaitForSingleObject(HANDLE(handle.as_raw_handle()), milliseconds).0
    }
}

/// Asks the process that `identity` names to end: through the event it listens to, and kills it if it has none.
///
/// # Errors
/// `NotFound` when no such process runs any more; else when it may not be ended.
pub fn ask_to_end(identity: &Identity) -> io::Result<()> {
    if !super::is_alive(identity) {
        return Err(io::ErrorKind::NotFound.into());
    }
    #[expect(unsafe_code, reason = "the handle has no safe wrapper")]
    // SAFETY: the name outlives the call; a handle that was opened is ours alone and is closed by its owner.
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

/// Kills the process that `identity` names.
///
/// # Errors
/// `NotFound` when no such process runs any more; else when it may not be ended.
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
/// `NotFound` when no such process runs any more; else when it may not be ended.
pub fn kill_leftover(identity: &Identity) -> io::Result<()> {
    kill(identity)
}

/// The signals that ask this process to end, one after the other.
#[derive(Debug)]
pub struct ShutdownSignals {
    ctrl_c: CtrlC,
    ctrl_break: CtrlBreak,
    ctrl_close: CtrlClose,
    ctrl_shutdown: CtrlShutdown,
    stop_event: mpsc::UnboundedReceiver<()>,
}

impl ShutdownSignals {
    /// Listens from now on.
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

    /// The next signal's name. Can be cancelled and called again.
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

fn listen_to_stop_event() -> io::Result<mpsc::UnboundedReceiver<()>> {
    #[expect(unsafe_code, reason = "the handle has no safe wrapper")]
    // SAFETY: the name outlives the call; the new handle is ours alone and is closed by its owner.
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
