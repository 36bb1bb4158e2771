//! Ending the server of a home, and nothing else.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use gem_platform::process::{Identity, ask_to_end, identity, is_alive, kill};
use tokio::time::{Instant, sleep};

use super::claim::end_leftover;
use super::files;
use super::pid::PidFile;
use super::status::{Running, ServerRecord, observe};
use crate::error::{Explain, Kind};
use crate::layout::Layout;

/// What stopping came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// No server ran; stale files were cleared away.
    NotRunning,
    /// The server ended when it was asked to.
    Gracefully {
        /// Its process id.
        pid: u32,
    },
    /// The server did not end in time and was killed.
    Killed {
        /// Its process id.
        pid: u32,
    },
}

/// Why the server was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pid file names a process that is not known to be a server; it was not touched.
    #[error("cannot stop the server: `{}` names pid {}, which is `{}`", pid_file.display(), process.pid, process.command.join(" "))]
    Foreign {
        /// The pid file.
        pid_file: PathBuf,
        /// The process.
        process: Identity,
    },
    /// The server may not be signalled.
    #[error("cannot stop the server (pid {pid})")]
    Signal {
        /// Its process id.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// It was killed and is still there.
    #[error("cannot stop the server: pid {pid} was killed and has not ended")]
    Immortal {
        /// Its process id.
        pid: u32,
    },
    /// A file of the home cannot be read or removed.
    #[error("cannot look for the server in `{}`", path.display())]
    Files {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Foreign { .. } | Self::Signal { .. } => Kind::Conflict,
            Self::Immortal { .. } => Kind::Runtime,
            Self::Files { .. } => Kind::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Foreign { pid_file, .. } => format!(
                "that process is not gem-setup's; if the server is long gone, delete `{}`",
                pid_file.display()
            ),
            Self::Signal { .. } => "stop it as the user who started it".to_owned(),
            Self::Immortal { .. } => "the system may be stuck on a device or a disk; try again later".to_owned(),
            Self::Files { .. } => "check that the folder is yours and readable".to_owned(),
        })
    }
}

/// What the server gets to end its child (5 s) and itself.
pub const GRACE: Duration = Duration::from_secs(7);
const AFTER_KILL: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// Stops the server of this home: asks it, waits up to `grace`, kills it. Only a process that is proven to be the server
/// is signalled; a child that survives it is ended too, and stale files are removed.
///
/// # Errors
/// When the process is not ours, may not be signalled or does not end.
pub async fn stop(layout: &Layout, grace: Duration) -> Result<Stopped, Error> {
    let files_failed = |source| Error::Files {
        path: layout.gemini(),
        source,
    };
    let (server, record) = match observe(layout).map_err(files_failed)? {
        Running::No => {
            // Its supervisor was killed, and whatever should have ended it with it was killed too.
            let previous = ServerRecord::read(&layout.server_file()).map_err(files_failed)?;
            previous.as_ref().and_then(end_leftover);
            clear(layout, None).map_err(files_failed)?;
            return Ok(Stopped::NotRunning);
        }
        Running::Foreign(process) => {
            return Err(Error::Foreign {
                pid_file: layout.pid_file(),
                process,
            });
        }
        Running::Bare { pid, .. } => match identity(pid) {
            Some(process) => (process, None),
            None => {
                clear(layout, Some(pid)).map_err(files_failed)?;
                return Ok(Stopped::NotRunning);
            }
        },
        Running::Supervised(record) => (record.process.clone(), Some(record)),
    };
    let pid = server.pid;
    let asked = end(&server, grace).await?;
    record.as_deref().and_then(end_leftover);
    clear(layout, Some(pid)).map_err(files_failed)?;
    Ok(if asked {
        Stopped::Gracefully { pid }
    } else {
        Stopped::Killed { pid }
    })
}

/// Whether asking was enough.
async fn end(server: &Identity, grace: Duration) -> Result<bool, Error> {
    let failed = |source: io::Error| Error::Signal {
        pid: server.pid,
        source,
    };
    let unless_gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound && is_alive(server) => Err(failed(error)),
        _ => Ok(()),
    };
    unless_gone(ask_to_end(server))?;
    if ended(server, grace).await {
        return Ok(true);
    }
    unless_gone(kill(server))?;
    if ended(server, AFTER_KILL).await {
        return Ok(false);
    }
    Err(Error::Immortal { pid: server.pid })
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

/// Removes the files of a server that has ended: those that name `pid`, or with `None` those that name nobody alive.
fn clear(layout: &Layout, pid: Option<u32>) -> io::Result<()> {
    let pid_file = layout.pid_file();
    match pid {
        Some(pid) => PidFile::remove_if(&pid_file, pid)?,
        None => files::remove(&pid_file)?,
    }
    files::remove(&layout.server_file())
}
