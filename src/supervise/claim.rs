//! The right to serve a home: only one server has it, and other processes can find that server.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gem_platform::process::{Identity, has_open, identity, kill_leftover, listener_on, pid_space};

use super::pid::PidFile;
use super::status::{EngineRecord, Running, ServerIdentity, ServerRecord, observe_pid_file};
use super::{OWN_SOURCE, OwnProgram, files, log::Log};
use crate::error::{Explain, Kind};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::place::{is_misplaced, write_private};
use crate::runtime::{EngineState, Instance, RuntimeName};
use crate::text::one_line;

/// Why this process cannot serve a home.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server already serves the home.
    #[error(
        "cannot serve `{}` on port {}: gem-setup (pid {}) serves it on port {} with `{}`{}",
        home.display(), wanted.port, record.process.pid, record.server.port, record.server.runtime,
        describe_difference(wanted, &record.server)
    )]
    Serving {
        /// The home.
        home: PathBuf,
        /// The wanted server.
        wanted: Box<ServerIdentity>,
        /// The record of the running server.
        record: Box<ServerRecord>,
    },
    /// A process holds the lock but has not written its record.
    #[error("cannot serve `{}`: another gem-setup holds `{}`", home.display(), lock.display())]
    Locked {
        /// The home.
        home: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// Gemini CLI itself started a runtime.
    #[error("cannot serve `{}`: a runtime that Gemini CLI started (pid {pid}) listens on port {port}", home.display())]
    Bare {
        /// The home.
        home: PathBuf,
        /// The runtime's process id.
        pid: u32,
        /// The runtime's port.
        port: u16,
    },
    /// Another program listens on the port.
    #[error("cannot listen on port {port}: {}", describe_holder(holder.as_ref()))]
    PortTaken {
        /// The port.
        port: u16,
        /// The other program, if the system names it.
        holder: Option<Identity>,
    },
    /// A file of the home cannot be used.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file's path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Error {
    /// The error if the server cannot bind `port` on loopback.
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

    /// The running server, if it is the wanted one, so that there is nothing to do.
    #[must_use]
    pub fn as_asked(&self) -> Option<&ServerRecord> {
        match self {
            Self::Serving { wanted, record, .. } if !record.stopping && record.server.satisfies(wanted) => Some(record),
            _ => None,
        }
    }
}

/// The differences apart from port and runtime.
fn describe_difference(wanted: &ServerIdentity, found: &ServerIdentity) -> String {
    if found.is_alike(wanted) {
        " and with other options".to_owned()
    } else if found.model != wanted.model && found.runtime == RuntimeName::Builtin.as_str() {
        // It is without a model, and only known by the name that clients give theirs.
        format!(" under the name `{}`", found.model)
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
        |holder| {
            format!(
                "it is taken by `{}` (pid {})",
                one_line(&holder.command.join(" ")),
                holder.pid
            )
        },
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
                "give these options to `gem-setup restart` to replace the running server by one that has them"
                    .to_owned()
            }
            Self::Serving { .. } | Self::Locked { .. } | Self::Bare { .. } => {
                "run `gem-setup stop` first, or `gem-setup status` to see the running server".to_owned()
            }
            Self::PortTaken { port, .. } => match free_port_after(*port) {
                Some(free) => format!(
                    "end that process, or run `gem-setup install --port {free}`, which also changes the port in \
                    Gemini CLI's settings"
                ),
                None => "end that process".to_owned(),
            },
            Self::Io { path, source } if is_misplaced(source) => {
                format!("move `{}` somewhere else, then run the command again", path.display())
            }
            Self::Io { .. } => {
                "check that the home exists, belongs to you and is writable, or name another with `--home DIR`"
                    .to_owned()
            }
        })
    }
}

/// A port after `port`, or else after Gemini CLI's usual one, that this user may use and that is free on both loopback
/// addresses. Only a few ports are tried.
pub fn free_port_after(port: u16) -> Option<u16> {
    let is_free = |address: IpAddr, port: u16| {
        use io::ErrorKind::{AddrInUse, PermissionDenied};

        let bound = TcpListener::bind((address, port));
        !matches!(bound, Err(error) if matches!(error.kind(), AddrInUse | PermissionDenied))
    };
    let after = |port: u16| {
        (port.saturating_add(1)..=u16::MAX)
            .take(100)
            .filter(move |other| *other > port)
    };
    after(port)
        .chain(after(USUAL_PORT - 1))
        .find(|port| is_free(Ipv4Addr::LOCALHOST.into(), *port) && is_free(Ipv6Addr::LOCALHOST.into(), *port))
}

/// The port in Gemini CLI's defaults.
const USUAL_PORT: u16 = 9379;
/// How long a process may hold the lock without a record before it must have written one or released the lock.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a stopping server may take after its open requests, because it waits for its engine to end.
const STOPPING_PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(25);
/// The time within which a killed engine ends, unless the system itself hangs.
const KILL_TIME: Duration = Duration::from_secs(2);
/// The interval at which a server checks that its lock file still exists.
const LOOK: Duration = Duration::from_secs(1);

/// Exists as long as this process serves the home, including open requests. Dropping it removes the pid file and the
/// server file.
#[derive(Debug)]
pub struct Claim {
    layout: Layout,
    record: Mutex<ServerRecord>,
    log: Log,
    lock: Lock,
    /// Inherited by every engine. `None` while an engine of an earlier server holds the lock, or if there are no locks.
    engine: Option<Lock>,
}

impl Claim {
    /// Claims the home of `layout` for this process, ends an engine that a killed server left behind, and writes pid
    /// file and server file. Waits for a server that is stopping. `binary` goes into the pid file: the program as
    /// Gemini CLI would start it.
    ///
    /// # Errors
    /// When another server has the home, or its files cannot be used.
    pub fn acquire(layout: &Layout, server: &ServerIdentity, binary: &Path, log: &Log) -> Result<Self, Error> {
        let lock = lock_or_explain(layout, server)?;
        let process = this_process(layout)?;
        let server_file = layout.server_file();
        let previous = ServerRecord::read(&server_file).map_err(failed(&server_file))?;
        let mut claim = Self {
            layout: layout.clone(),
            record: Mutex::new(ServerRecord {
                process,
                pid_space: pid_space(),
                instance: Instance::random(),
                program: Some(OwnProgram::of_this_process()),
                server: server.clone(),
                ready: false,
                stopping: false,
                follows: true,
                unapplied: None,
                engine: None,
                silent: false,
            }),
            log: log.clone(),
            lock,
            engine: None,
        };
        // Before the record is replaced: it alone names the engine that an earlier server may have left behind.
        claim.take_engine_lock(previous.as_ref());
        // Removed first, because a replaced file keeps its permissions, and this file must be readable only for its
        // owner.
        files::remove(&server_file).map_err(failed(&server_file))?;
        claim.write_upstream();
        claim.publish(EngineState::Starting, None);
        claim.write_pid_file(binary);
        Ok(claim)
    }

    /// Ends the engine of the `previous` server, and takes the engines' lock.
    fn take_engine_lock(&mut self, previous: Option<&ServerRecord>) {
        let (ended, lock) = end_leftover(&self.layout, previous);
        if let Some(engine) = ended {
            let (command, pid) = (engine.command.join(" "), engine.pid);
            self.note(&format!(
                "ended `{command}` (pid {pid}), left behind by an earlier server"
            ));
        }
        if lock.is_none() {
            let path = self.layout.engine_lock_file();
            self.note(&format!(
                "an engine of an earlier server is still running: it holds `{}`",
                path.display()
            ));
        }
        self.engine = lock;
    }

    /// The token that proves that this server wrote the server file; `None` if the system provides no random numbers.
    #[must_use]
    pub fn instance(&self) -> Option<Instance> {
        self.record().instance.clone()
    }

    /// Writes the server file with the options of `server`, if they are in force, and with the change that is
    /// `unapplied`.
    pub fn renew(&self, server: Option<&ServerIdentity>, unapplied: Option<String>) {
        let mut record = self.record();
        if let Some(server) = server {
            record.server.options.clone_from(&server.options);
            record.server.drain = server.drain;
        }
        record.unapplied = unapplied;
        if self.lock.is_current() {
            self.log_write_failure("server file", record.write(&self.layout.server_file()));
        }
    }

    /// The longest time from the shutdown request to the end.
    pub(super) fn ends_within(&self) -> Duration {
        self.record().server.drain + STOPPING_PATIENCE
    }

    /// Waits until the lock file is deleted or replaced. Then this server cannot be found any more, and another may
    /// claim the home.
    pub async fn displaced(&self) {
        while self.lock.is_current() {
            self.restore();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Writes the server file again if it was deleted or damaged. Without it, commands see a server but have no
    /// information about it.
    fn restore(&self) {
        let path = self.layout.server_file();
        let record = self.record();
        let is_lost = match ServerRecord::read(&path) {
            Ok(found) => found.is_none_or(|found| found.process != record.process),
            // Something else is in its place.
            Err(_) => false,
        };
        if is_lost {
            self.log_write_failure("server file", record.write(&path));
        }
    }

    fn record(&self) -> MutexGuard<'_, ServerRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_pid_file(&self, binary: &Path) {
        let file = {
            let record = self.record();
            PidFile {
                pid: record.process.pid,
                binary_path: Some(binary.to_owned()),
                port: Some(record.server.port),
                start_time: Some(record.process.start_time),
            }
        };
        self.log_write_failure("pid file", file.write(&self.layout.pid_file()));
    }

    fn write_upstream(&self) {
        let path = self.layout.upstream_file();
        let written = match &self.record().server.upstream {
            Some(url) => write_private(&path, url.expose().as_str().as_bytes()),
            None => files::remove(&path),
        };
        self.log_write_failure("upstream", written);
    }

    /// Writes the state of the server and its engine to the server file.
    pub(super) fn publish(&self, state: EngineState, engine: Option<EngineRecord>) {
        let mut record = self.record();
        record.ready = state == EngineState::Ready;
        record.stopping = state == EngineState::Stopping;
        record.engine = engine;
        if self.lock.is_current() {
            self.log_write_failure("server file", record.write(&self.layout.server_file()));
        }
    }

    /// A full disk must not stop the server.
    fn log_write_failure(&self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.note(&format!("cannot write the {what}: {error}"));
        }
    }

    fn note(&self, text: &str) {
        self.log.line(&OWN_SOURCE.into(), text);
    }

    /// The file that every engine must keep open; `None` if there is no lock to inherit.
    pub(super) fn engine_file(&self) -> Option<File> {
        self.engine.as_ref()?.share().ok()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // If there is a new lock file, the other files belong to another server.
        if self.lock.is_current() {
            let _ = PidFile::remove_if(&self.layout.pid_file(), std::process::id());
            let _ = files::remove(&self.layout.server_file());
            let _ = files::remove(&self.layout.upstream_file());
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Io { path, source }
}

/// The identity of this process. Fails if the pid file names a runtime that Gemini CLI started.
fn this_process(layout: &Layout) -> Result<Identity, Error> {
    let ours = std::process::id();
    let pid_file = layout.pid_file();
    // If the pid file cannot be read, it cannot be written either, and Gemini CLI would not find the server.
    PidFile::read(&pid_file).map_err(failed(&pid_file))?;
    match observe_pid_file(layout, false).map_err(failed(&pid_file))? {
        Running::Bare { pid, port } if pid != ours => {
            let home = layout.home().to_owned();
            Err(Error::Bare { home, pid, port })
        }
        _ => identity(ours).ok_or_else(|| {
            let fault = io::Error::other("this process cannot be looked up");
            failed(&layout.server_file())(fault)
        }),
    }
}

fn lock_or_explain(layout: &Layout, wanted: &ServerIdentity) -> Result<Lock, Error> {
    let path = layout.server_lock_file();
    let begun = Instant::now();
    let mut silent_since = begun;
    loop {
        if let Some(lock) = Lock::try_acquire(&path).map_err(failed(&path))? {
            return Ok(lock);
        }
        let record = ServerRecord::read(&layout.server_file()).ok().flatten();
        let is_over = match &record {
            Some(record) if record.stopping => {
                // The process removes its record before it releases the lock.
                silent_since = Instant::now();
                begun.elapsed() >= record.server.drain + STOPPING_PATIENCE
            }
            Some(record) if record.is_here() => true,
            // The process may be out of reach, or the record may come from an earlier server.
            _ => silent_since.elapsed() >= PATIENCE,
        };
        if is_over {
            return Err(held_by(record, layout, wanted));
        }
        std::thread::sleep(POLL);
    }
}

/// How long a server of `layout` that is stopping may take; `None` if none is. The record alone is no proof, because a
/// killed server leaves it behind.
#[must_use]
pub fn ends_within(layout: &Layout) -> Option<Duration> {
    let record = ServerRecord::read(&layout.server_file()).ok().flatten()?;
    (record.stopping && record.has_home(layout)).then(|| record.server.drain + STOPPING_PATIENCE)
}

fn held_by(record: Option<ServerRecord>, layout: &Layout, wanted: &ServerIdentity) -> Error {
    match record {
        Some(record) if record.is_here() || record.is_elsewhere() => Error::Serving {
            home: layout.home().to_owned(),
            wanted: Box::new(wanted.clone()),
            record: Box::new(record),
        },
        _ => Error::Locked {
            home: layout.home().to_owned(),
            lock: layout.server_lock_file(),
        },
    }
}

/// Ends the engine that a killed server left behind, if it is proven to be that process. Takes the engines' lock unless
/// another process holds it. Returns the engine that was ended.
///
/// The record alone is no proof, because it may be a copy or a forgery. Every engine holds the lock as long as it runs,
/// so only a process that holds the lock is ended.
pub(super) fn end_leftover<'a>(
    layout: &Layout,
    previous: Option<&'a ServerRecord>,
) -> (Option<&'a Identity>, Option<Lock>) {
    let path = layout.engine_lock_file();
    if let Some(lock) = Lock::try_acquire(&path).unwrap_or_default() {
        return (None, Some(lock));
    }
    // If the record comes from another machine or namespace, a process with the same id here is a different one.
    let record = previous.filter(|record| !record.is_elsewhere());
    let engine = record.and_then(|record| record.engine.as_ref()?.process.as_ref());
    let is_leftover = |engine: &&Identity| {
        identity(engine.pid).as_ref() == Some(*engine) && has_open(engine.pid, &path) != Some(false)
    };
    let ended = engine
        .filter(is_leftover)
        .filter(|engine| kill_leftover(engine).is_ok());
    let deadline = Instant::now() + KILL_TIME;
    loop {
        match Lock::try_acquire(&path) {
            Ok(None) if ended.is_some() && Instant::now() < deadline => std::thread::sleep(POLL),
            tried => return (ended, tried.unwrap_or_default()),
        }
    }
}
