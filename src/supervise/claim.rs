//! The right to serve a home: one server at a time, known to everybody who looks for it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gem_platform::process::{Identity, identity, kill_leftover, listener_on};

use super::pid::PidFile;
use super::status::{ChildRecord, Running, ServerIdentity, ServerRecord, observe, unix_seconds};
use super::{OWN_SOURCE, files, log::Log};
use crate::error::{Explain, Kind};
use crate::layout::Layout;

/// Why a home cannot be served by us.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A supervisor serves it already.
    #[error(
        "cannot serve `{}` on port {}: gem-setup (pid {}) serves it on port {} with `{}`{}",
        home.display(), wanted.port, record.process.pid, record.server.port, record.server.runtime,
        describe_difference(wanted, &record.server)
    )]
    Serving {
        /// Which home.
        home: PathBuf,
        /// What was asked for.
        wanted: Box<ServerIdentity>,
        /// What is there.
        record: Box<ServerRecord>,
    },
    /// Somebody holds the lock and does not say who it is.
    #[error("cannot serve `{}`: another gem-setup holds `{}`", home.display(), lock.display())]
    Locked {
        /// Which home.
        home: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// Gemini CLI started a runtime by itself.
    #[error("cannot serve `{}`: a runtime that Gemini CLI started (pid {pid}) listens on port {port}", home.display())]
    Bare {
        /// Which home.
        home: PathBuf,
        /// Its process id.
        pid: u32,
        /// Its port.
        port: u16,
    },
    /// Somebody else listens on the port.
    #[error("cannot listen on port {port}: {}", describe_holder(holder.as_ref()))]
    PortTaken {
        /// Which port.
        port: u16,
        /// Who, where the system says it.
        holder: Option<Identity>,
    },
    /// A file of the home cannot be used.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What a server that cannot bind `port` on the loopback should say.
    #[must_use]
    pub fn port_taken(port: u16) -> Self {
        let holder = listener_on(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
            .map(|listening| (listening.pid, listening.name))
            .map(|(pid, name)| {
                identity(pid).unwrap_or(Identity {
                    pid,
                    start_time: 0,
                    command: vec![name],
                })
            });
        Self::PortTaken { port, holder }
    }

    /// The server that is already what was asked for, if that is why; then there is nothing to do.
    #[must_use]
    pub fn as_asked(&self) -> Option<&ServerRecord> {
        match self {
            Self::Serving { wanted, record, .. } if record.server.satisfies(wanted) => Some(record),
            _ => None,
        }
    }
}

/// What port and runtime do not show.
fn describe_difference(wanted: &ServerIdentity, found: &ServerIdentity) -> String {
    if found.is_alike(wanted) {
        " and with other options".to_owned()
    } else if found.model != wanted.model {
        format!(" and the model `{}`", found.model)
    } else if found.direct {
        " and without a gateway".to_owned()
    } else {
        String::new()
    }
}

fn describe_holder(holder: Option<&Identity>) -> String {
    holder.map_or_else(
        || "it is taken by another process".to_owned(),
        |holder| format!("it is taken by `{}` (pid {})", holder.command.join(" "), holder.pid),
    )
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { .. } => Kind::Unexpected,
            _ => Kind::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Serving { wanted, record, .. } if record.server.is_alike(wanted) => {
                "run `gem-setup restart` with the options that are wanted".to_owned()
            }
            Self::Serving { .. } | Self::Locked { .. } | Self::Bare { .. } => {
                "run `gem-setup stop` first, or `gem-setup status` to see who serves".to_owned()
            }
            Self::PortTaken { .. } => "end that process, or choose another port with `--port`".to_owned(),
            Self::Io { .. } => "check that the folder exists, is yours and is writable".to_owned(),
        })
    }
}

/// A lock that is held, or a record that is about to be written, for so long is somebody's for good.
const PATIENCE: Duration = Duration::from_millis(500);

/// Held for as long as this process serves the home. Dropped, the pid file and the server file are gone with it.
#[derive(Debug)]
pub struct Claim {
    layout: Layout,
    record: Mutex<ServerRecord>,
    log: Log,
    /// Locked until it is closed, whichever way the process ends.
    _lock: File,
}

impl Claim {
    /// Takes the home of `layout` for this process, ends a child that a killed predecessor left behind, and publishes
    /// pid file and server file. `binary` is what the pid file names: the program as Gemini CLI would start it.
    ///
    /// # Errors
    /// When somebody else serves the home, or its files cannot be used.
    pub fn acquire(layout: &Layout, server: &ServerIdentity, binary: &Path, log: &Log) -> Result<Self, Error> {
        let lock_path = layout.server_lock_file();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        let lock = open_lock(&lock_path).map_err(failed(&lock_path))?;
        lock_or_explain(&lock, layout, server)?;

        let server_file = layout.server_file();
        let ours = std::process::id();
        match observe(layout).map_err(failed(&layout.pid_file()))? {
            Running::Bare { pid, port } if pid != ours => {
                return Err(Error::Bare {
                    home: layout.home().to_owned(),
                    pid,
                    port,
                });
            }
            _ => {}
        }
        let previous = ServerRecord::read(&server_file).map_err(failed(&server_file))?;
        if let Some(child) = previous.as_ref().and_then(end_leftover) {
            let command = child.command.join(" ");
            let text = format!(
                "ended `{command}` (pid {}), left behind by an earlier server",
                child.pid
            );
            log.line(&OWN_SOURCE.into(), text);
        }
        let process = identity(ours).ok_or_else(|| Error::Io {
            path: server_file.clone(),
            source: io::Error::other("this process cannot be looked up"),
        })?;
        let claim = Self {
            layout: layout.clone(),
            record: Mutex::new(ServerRecord {
                process,
                server: server.clone(),
                since: unix_seconds(),
                ready: false,
                child: None,
            }),
            log: log.clone(),
            _lock: lock,
        };
        claim.publish(false, None);
        claim.write_pid_file(binary);
        Ok(claim)
    }

    fn write_pid_file(&self, binary: &Path) {
        let file = {
            let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            PidFile {
                pid: record.process.pid,
                binary_path: Some(binary.to_owned()),
                port: Some(record.server.port),
                start_time: Some(record.process.start_time),
            }
        };
        self.survive("pid file", file.write(&self.layout.pid_file()));
    }

    /// Publishes the state of the server and its child.
    pub(super) fn publish(&self, ready: bool, child: Option<ChildRecord>) {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.ready = ready;
        record.child = child;
        self.survive("server file", record.write(&self.layout.server_file()));
    }

    /// A full disk must not keep the server from serving.
    fn survive(&self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.log
                .line(&OWN_SOURCE.into(), format!("cannot write the {what}: {error}"));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let pid = std::process::id();
        let _ = PidFile::remove_if(&self.layout.pid_file(), pid);
        let _ = files::remove(&self.layout.server_file());
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

fn lock_or_explain(lock: &File, layout: &Layout, wanted: &ServerIdentity) -> Result<(), Error> {
    let step = PATIENCE / 20;
    for _ in 0..20 {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => {
                let path = layout.server_lock_file();
                return Err(Error::Io { path, source });
            }
            Err(TryLockError::WouldBlock) => {}
        }
        let record = ServerRecord::read(&layout.server_file()).ok().flatten();
        if let Some(record) = record.filter(ServerRecord::is_alive) {
            return Err(Error::Serving {
                home: layout.home().to_owned(),
                wanted: Box::new(wanted.clone()),
                record: Box::new(record),
            });
        }
        // The holder is about to say who it is, or about to end.
        std::thread::sleep(step);
    }
    Err(Error::Locked {
        home: layout.home().to_owned(),
        lock: layout.server_lock_file(),
    })
}

/// Ends the child of a server that was killed, if it is proven to be that very child: by pid, start time and command line.
/// Gives the child that was ended.
pub(super) fn end_leftover(previous: &ServerRecord) -> Option<&Identity> {
    let child = previous.child.as_ref()?.process.as_ref()?;
    (identity(child.pid).as_ref() == Some(child) && kill_leftover(child).is_ok()).then_some(child)
}
