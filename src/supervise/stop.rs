//! Stops the server of a home, and no other process.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use gem_platform::process::{Identity, ask_to_end, identity, is_alive, kill};
use tokio::time::{Instant, sleep};

use super::claim::end_leftover;
use super::files;
use super::pid::PidFile;
use super::remote;
use super::status::{Running, ServerRecord, observe, observe_pid_file};
use crate::error::{Explain, Kind};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::place;

/// The result of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// No server was running; stale files were removed.
    NotRunning,
    /// The server ended after it was asked to.
    Gracefully {
        /// The server's process id.
        pid: u32,
    },
    /// The server did not end in time and was killed.
    Killed {
        /// The server's process id.
        pid: u32,
    },
}

/// Why the server was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This user may not signal the server.
    #[error("cannot stop the server (pid {pid})")]
    Signal {
        /// The server's process id.
        pid: u32,
        /// The reason.
        source: io::Error,
    },
    /// The server was killed but has not ended.
    #[error("cannot stop the server: pid {pid} was killed and has not ended")]
    Immortal {
        /// The server's process id.
        pid: u32,
    },
    /// The server's process cannot be seen from here, and its port does not answer.
    #[error(
        "cannot stop the server: its process (pid {pid}) is in another process namespace or on another machine, and port {port} \
         does not answer for it"
    )]
    OutOfReach {
        /// The server's process id in its namespace.
        pid: u32,
        /// The port for clients.
        port: u16,
    },
    /// The server was asked over its port but keeps running.
    #[error(
        "cannot stop the server: pid {pid}, in another process namespace, was asked over port {port} and has not ended"
    )]
    Deaf {
        /// The server's process id in its namespace.
        pid: u32,
        /// The port for clients.
        port: u16,
    },
    /// A process holds the server's lock but has not written its record.
    #[error("cannot stop the server: a process holds `{}` but has not written its process id", lock.display())]
    Unnamed {
        /// The lock file.
        lock: PathBuf,
    },
    /// Another server claims the home each time one is stopped.
    #[error("cannot keep the server stopped: another one keeps starting")]
    Restarted,
    /// A file of the home cannot be read or removed.
    #[error("cannot look for the server in `{}`", path.display())]
    Files {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Signal { .. } | Self::OutOfReach { .. } | Self::Unnamed { .. } | Self::Restarted => Kind::Conflict,
            Self::Immortal { .. } | Self::Deaf { .. } => Kind::Runtime,
            Self::Files { .. } => Kind::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Signal { .. } => "stop it as the user who started it".to_owned(),
            Self::OutOfReach { .. } => {
                "run `gem-setup stop` where the server was started: outside this container, or on that machine"
                    .to_owned()
            }
            Self::Deaf { .. } => "run `gem-setup stop` where the server was started".to_owned(),
            Self::Unnamed { .. } => {
                "wait until the other gem-setup is done; if its disk is full, free some space and end the server by \
                its pid"
                    .to_owned()
            }
            Self::Restarted => {
                "stop the program that starts it: `gem-setup service uninstall`, or Gemini CLI".to_owned()
            }
            Self::Immortal { .. } => "the system may be stuck on a device or a disk; try again later".to_owned(),
            Self::Files { source, .. } => files::remedy(source),
        })
    }
}

/// How long the server may take to end its engine (5 s) and itself, after its open requests.
pub const GRACE: Duration = Duration::from_secs(7);
const AFTER_KILL: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// The number of attempts if another server claims the home while this one clears up.
const TRIES: u32 = 5;

/// A home without a server: none can start while this value exists.
#[derive(Debug)]
pub struct Vacancy {
    _lock: Option<Lock>,
}

/// Stops the server of this home. Asks it to end, waits for its open requests as long as its options say and then up to
/// `grace`, and finally kills it. Only a process that is proven to be the server is signalled. A server that cannot be
/// signalled from here is asked over its port. A server that is already stopping is not asked again, because a second
/// signal would cut off its open requests. An engine that survives its server is ended too. The server's files are
/// removed unless another server has claimed the home.
///
/// # Errors
/// When the server is out of reach, may not be signalled, or does not end.
pub async fn stop(layout: &Layout, grace: Duration) -> Result<Stopped, Error> {
    let stopped = match observe(layout).map_err(|error| files_failed(layout, error))? {
        // A process that a pid file names by mistake must not be stopped.
        Running::No | Running::Foreign(_) => Stopped::NotRunning,
        Running::Unnamed => return Err(unnamed(layout)),
        Running::Bare { pid, .. } => match identity(pid) {
            Some(process) => {
                ask(&process)?;
                end(&process, grace).await?
            }
            None => Stopped::NotRunning,
        },
        Running::Supervised(record) if record.is_here() => {
            if !record.stopping {
                ask(&record.process)?;
            }
            end(&record.process, record.server.drain + grace).await?
        }
        Running::Supervised(record) => end_elsewhere(layout, &record, record.server.drain + grace).await?,
    };
    match clear(layout) {
        // Remaining files do no harm: the lock decides whether a server is running.
        Err(error) if !may_not_change(&error) => Err(files_failed(layout, error)),
        _ => Ok(stopped),
    }
}

/// Whether `error` means that files cannot be changed there, for example because the system has made the disk
/// read-only.
fn may_not_change(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

/// Stops the server of this home, and keeps others from starting until the [`Vacancy`] is dropped.
///
/// # Errors
/// Like [`stop`], and when other servers keep starting.
pub async fn vacate(layout: &Layout, grace: Duration) -> Result<(Stopped, Vacancy), Error> {
    let mut stopped = Stopped::NotRunning;
    for _ in 0..TRIES {
        let outcome = stop(layout, grace).await?;
        if outcome != Stopped::NotRunning {
            stopped = outcome;
        }
        if let Some(vacancy) = try_vacancy(layout).map_err(|error| files_failed(layout, error))? {
            return Ok((stopped, vacancy));
        }
        sleep(POLL).await;
    }
    Err(Error::Restarted)
}

/// Checks whether [`stop`] could end the server of this home, without trying it.
///
/// # Errors
/// The reason why it could not.
pub async fn check_stoppable(layout: &Layout) -> Result<(), Error> {
    match observe(layout).map_err(|error| files_failed(layout, error))? {
        Running::Unnamed => Err(unnamed(layout)),
        Running::Supervised(record) if !record.is_here() => match remote::ask(&record).await {
            Some(_) => Ok(()),
            None => Err(out_of_reach(&record)),
        },
        _ => Ok(()),
    }
}

fn files_failed(layout: &Layout, source: io::Error) -> Error {
    Error::Files {
        path: layout.gemini(),
        source,
    }
}

fn unnamed(layout: &Layout) -> Error {
    Error::Unnamed {
        lock: layout.server_lock_file(),
    }
}

fn out_of_reach(record: &ServerRecord) -> Error {
    Error::OutOfReach {
        pid: record.process.pid,
        port: record.server.port,
    }
}

/// Ends a server whose process cannot be signalled from here; its lock shows when it has ended.
async fn end_elsewhere(layout: &Layout, record: &ServerRecord, grace: Duration) -> Result<Stopped, Error> {
    let is_asked = record.stopping || (remote::ask(record).await.is_some() && remote::shut_down(record).await);
    if !is_asked {
        return Err(out_of_reach(record));
    }
    let pid = record.process.pid;
    let deadline = Instant::now() + grace;
    while holds(layout, record).map_err(|error| files_failed(layout, error))? {
        if Instant::now() >= deadline {
            let port = record.server.port;
            return Err(Error::Deaf { pid, port });
        }
        sleep(POLL).await;
    }
    Ok(Stopped::Gracefully { pid })
}

/// Whether the server of `record` still has the home.
fn holds(layout: &Layout, record: &ServerRecord) -> io::Result<bool> {
    let now = ServerRecord::read(&layout.server_file())?;
    let is_same = now.is_none_or(|now| now.instance == record.instance);
    Ok(is_same && Lock::is_held(&layout.server_lock_file())?)
}

/// Asks the process to end.
fn ask(server: &Identity) -> Result<(), Error> {
    unless_gone(server, ask_to_end(server))
}

fn unless_gone(server: &Identity, signalled: io::Result<()>) -> Result<(), Error> {
    let pid = server.pid;
    match signalled {
        Err(source) if source.kind() != io::ErrorKind::NotFound && is_alive(server) => {
            Err(Error::Signal { pid, source })
        }
        _ => Ok(()),
    }
}

/// Waits for a process that was asked to end, and kills it after `grace`.
async fn end(server: &Identity, grace: Duration) -> Result<Stopped, Error> {
    let pid = server.pid;
    if ended(server, grace).await {
        return Ok(Stopped::Gracefully { pid });
    }
    unless_gone(server, kill(server))?;
    if ended(server, AFTER_KILL).await {
        return Ok(Stopped::Killed { pid });
    }
    Err(Error::Immortal { pid })
}

async fn ended(process: &Identity, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while is_alive(process) {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(POLL).await;
    }
    true
}

/// The right to change the files of a server that has ended; `None` while another server has the home.
fn try_vacancy(layout: &Layout) -> io::Result<Option<Vacancy>> {
    let path = layout.server_lock_file();
    if !path.exists() {
        // There was never a server here, and looking for one must not create files.
        return Ok(Some(Vacancy { _lock: None }));
    }
    match Lock::try_acquire(&path).map_err(|error| place::at(&path, &error)) {
        // A server cannot start if it cannot write its record.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            Ok((!Lock::is_held(&path)?).then_some(Vacancy { _lock: None }))
        }
        taken => Ok(taken?.map(|lock| Vacancy { _lock: Some(lock) })),
    }
}

/// Removes the files of a server that has ended, and ends its engine if the server was killed. If another server has
/// claimed the home since, it has already done this.
fn clear(layout: &Layout) -> io::Result<()> {
    let Some(_vacancy) = try_vacancy(layout)? else {
        return Ok(());
    };
    let previous = ServerRecord::read(&layout.server_file())?;
    if layout.engine_lock_file().exists() {
        end_leftover(layout, previous.as_ref());
    }
    files::remove(&layout.server_file())?;
    files::remove_if_file(&layout.upstream_file())?;
    let pid_file = layout.pid_file();
    let is_of_nobody = match observe_pid_file(layout, false)? {
        // A server creates neither a pipe nor a circular link, so these are kept.
        Running::No => !PidFile::read(&pid_file).is_err_and(|error| place::is_misplaced(&error)),
        // A bare number of a running process may have been written by any program.
        Running::Foreign(_) => PidFile::read(&pid_file)?.is_none_or(|file| file.binary_path.is_some()),
        _ => false,
    };
    if is_of_nobody {
        files::remove_if_file(&pid_file)
    } else {
        Ok(())
    }
}
