//! Running a program at login: a systemd user unit, a launchd agent, a Windows scheduled task.
//!
//! All three are data plus calls of the system's own tool, so all three exist on every host: the definition of each can be
//! shown and tested anywhere, and the calls go through a [`Runner`] that a test can replace.
//!
//! ```
//! use std::time::Duration;
//!
//! use gem_platform::service::{Account, Kind, Spec, render};
//!
//! let spec = Spec {
//!     label: "gem-setup".to_owned(),
//!     description: "Local model routing".to_owned(),
//!     program: "/usr/bin/gem-setup".into(),
//!     args: vec!["serve".to_owned()],
//!     environment: Default::default(),
//!     log: "/tmp/service.log".into(),
//!     watchdog: Some(Duration::from_secs(30)),
//!     final_statuses: vec![2],
//! };
//! let account = Account { name: "ada".to_owned(), id: 1000, home: "/home/ada".into(), config: None, own: "/home/ada".into() };
//! let unit = render(Kind::Systemd, &spec, &account)?;
//! assert!(unit.contains("ExecStart="));
//! # Ok::<(), gem_platform::service::Error>(())
//! ```

mod command;
mod launchd;
mod systemd;
mod task_scheduler;
mod text;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use command::{Output, Runner, Tools};

use crate::Os;
use crate::file::{Readers, ReplaceError, write_atomic};

/// The program of the system that starts other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// systemd's instance for one user.
    Systemd,
    /// macOS's launchd.
    Launchd,
    /// Windows' Task Scheduler.
    TaskScheduler,
}

impl Kind {
    /// The one that `os` has.
    #[must_use]
    pub const fn of(os: Os) -> Self {
        match os {
            Os::Linux => Self::Systemd,
            Os::Macos => Self::Launchd,
            Os::Windows => Self::TaskScheduler,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Systemd => "systemd user unit",
            Self::Launchd => "launchd agent",
            Self::TaskScheduler => "scheduled task",
        })
    }
}

/// A program to run at login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The name it is known under: ASCII letters, digits, `.`, `-` and `_`.
    pub label: String,
    /// What it is, for people.
    pub description: String,
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    ///
    /// A scheduled task opens a window for a console program that stays in the foreground, so there the arguments should be
    /// those that make it detach.
    pub args: Vec<String>,
    /// Variables set for it. A scheduled task cannot set any: there the program gets the user's own, so what must hold
    /// everywhere belongs into the arguments.
    pub environment: BTreeMap<String, String>,
    /// Where launchd puts what the program prints. systemd has its journal, and a detached program prints nothing.
    pub log: PathBuf,
    /// How long the program may go without a sign of life before systemd restarts it (`sd_notify(3)`); others do not ask.
    pub watchdog: Option<Duration>,
    /// Exit statuses that a restart would only repeat; systemd then leaves the program stopped.
    pub final_statuses: Vec<u8>,
}

/// Whose login it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account's name; on Windows with its domain, `DOMAIN\user`.
    pub name: String,
    /// The account's number where it has one: [`user_id`].
    pub id: u32,
    /// The account's home directory.
    pub home: PathBuf,
    /// Where the account keeps configuration if that was chosen (`$XDG_CONFIG_HOME`), used for systemd.
    pub config: Option<PathBuf>,
    /// A directory of the caller's own for the definition of a scheduled task, which Windows reads once and then keeps a copy of.
    pub own: PathBuf,
}

/// The number of the user this process runs as; 0 on Windows, which has none.
#[must_use]
pub fn user_id() -> u32 {
    #[cfg(unix)]
    return rustix::process::getuid().as_raw();
    #[cfg(windows)]
    return 0;
}

/// A service after [`install`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The file that defines it.
    pub definition: PathBuf,
    /// Whether that file is new or has changed.
    pub changed: bool,
}

/// How a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The file that defines it; it may not exist.
    pub definition: PathBuf,
    /// Whether the system will start it at login.
    pub installed: bool,
    /// Whether it is running; `None` if unknown.
    pub running: Option<bool>,
    /// The process that runs.
    pub pid: Option<u32>,
}

/// Why a service is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The label has other characters than the three systems take.
    #[error("`{0}` cannot name a service: use ASCII letters, digits, `.`, `-` and `_`")]
    Label(String),
    /// A text that a definition cannot hold.
    #[error("cannot put `{value}` into the definition of a service: {reason}")]
    Unwritable {
        /// The text, with invalid bytes replaced.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// There is no such service manager here, or none that answers this user.
    #[error("no {kind} can be used here: `{command}` {reason}")]
    Unavailable {
        /// Which kind was wanted.
        kind: Kind,
        /// What was run to find out.
        command: String,
        /// What came of it.
        reason: String,
    },
    /// The service manager refused.
    #[error("`{command}` {reason}")]
    Command {
        /// What was run.
        command: String,
        /// What came of it.
        reason: String,
    },
    /// The definition could not be written.
    #[error("cannot write the definition of a service")]
    Write(#[from] ReplaceError),
    /// The definition could not be read or removed.
    #[error("cannot {operation} `{}`", path.display())]
    File {
        /// `read` or `remove`.
        operation: &'static str,
        /// The definition.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Error {
    /// What to do next, if anything is known to help.
    #[must_use]
    pub const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable {
                kind: Kind::Systemd, ..
            } => Some(
                "this takes a login session with systemd (containers, chroots and `su` have none): start the server from your \
                 shell's login file instead, or log in as the user directly",
            ),
            Self::Unavailable {
                kind: Kind::Launchd, ..
            } => Some("this takes a session at the screen: run it in Terminal rather than over SSH"),
            Self::Unavailable {
                kind: Kind::TaskScheduler,
                ..
            } => Some(
                "start the Windows service `Task Scheduler`, or put the server's start command into the Startup folder",
            ),
            Self::Command { .. } | Self::Label(_) | Self::Unwritable { .. } | Self::Write(_) | Self::File { .. } => {
                None
            }
        }
    }
}

/// The file that defines the service `label`.
#[must_use]
pub fn definition_path(kind: Kind, label: &str, account: &Account) -> PathBuf {
    match kind {
        Kind::Systemd => systemd::path(label, account),
        Kind::Launchd => launchd::path(label, account),
        Kind::TaskScheduler => task_scheduler::path(label, account),
    }
}

/// The definition of the service as text.
///
/// # Errors
/// When the label or a text in `spec` cannot be part of a definition.
pub fn render(kind: Kind, spec: &Spec, account: &Account) -> Result<String, Error> {
    text::check_label(&spec.label)?;
    match kind {
        Kind::Systemd => systemd::render(spec),
        Kind::Launchd => launchd::render(spec),
        Kind::TaskScheduler => task_scheduler::render(spec, account),
    }
}

/// Whether the service that is defined hands `words` to its program, one right after the other.
///
/// # Errors
/// When there is a definition that cannot be read. Words that no definition can hold are in none.
pub fn passes(kind: Kind, label: &str, account: &Account, words: &[&str]) -> Result<bool, Error> {
    let path = definition_path(kind, label, account);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => {
            return Err(Error::File {
                operation: "read",
                path,
                source,
            });
        }
    };
    Ok(match kind {
        Kind::Systemd => systemd::passes(&String::from_utf8_lossy(&bytes), words),
        Kind::Launchd => launchd::passes(&String::from_utf8_lossy(&bytes), words),
        Kind::TaskScheduler => task_scheduler::passes(&text::of_utf16_file(&bytes), words),
    }
    .unwrap_or(false))
}

/// Makes sure that there is a service manager which answers this user; changes nothing.
///
/// # Errors
/// [`Error::Unavailable`] when there is none.
pub fn probe(kind: Kind, account: &Account, runner: &dyn Runner) -> Result<(), Error> {
    let tool = command::Tool::new(kind, runner);
    match kind {
        Kind::Systemd => systemd::probe(&tool),
        Kind::Launchd => launchd::probe(&tool, account),
        Kind::TaskScheduler => task_scheduler::probe(&tool),
    }
}

/// Defines the service, makes it start at every login, and starts it now; does nothing twice.
///
/// # Errors
/// When the service manager is missing or refuses, or the definition cannot be written.
pub fn install(kind: Kind, spec: &Spec, account: &Account, runner: &dyn Runner) -> Result<Installed, Error> {
    let definition = render(kind, spec, account)?;
    let path = definition_path(kind, &spec.label, account);
    let bytes = match kind {
        Kind::Systemd | Kind::Launchd => definition.into_bytes(),
        Kind::TaskScheduler => text::utf16_file(&definition),
    };
    let changed = std::fs::read(&path).map_or(true, |present| present != bytes);
    let tool = command::Tool::new(kind, runner);
    let write = || {
        if changed {
            write_atomic(&path, &bytes, Readers::Owner)
        } else {
            Ok(())
        }
    };
    match kind {
        Kind::Systemd => systemd::install(&tool, &spec.label, write, changed)?,
        Kind::Launchd => launchd::install(&tool, &spec.label, account, write, changed)?,
        Kind::TaskScheduler => task_scheduler::install(&tool, &spec.label, &path, write)?,
    }
    Ok(Installed {
        definition: path,
        changed,
    })
}

/// Stops the service and removes its definition; `true` if there was one.
///
/// # Errors
/// When the service manager refuses or the definition cannot be removed. That the service manager is not there is no error:
/// nothing can be running under it.
pub fn uninstall(kind: Kind, label: &str, account: &Account, runner: &dyn Runner) -> Result<bool, Error> {
    text::check_label(label)?;
    let path = definition_path(kind, label, account);
    if !path.exists() {
        return Ok(false);
    }
    let tool = command::Tool::new(kind, runner);
    let stopped = match kind {
        Kind::Systemd => systemd::stop(&tool, label),
        Kind::Launchd => launchd::stop(&tool, label, account),
        Kind::TaskScheduler => task_scheduler::remove(&tool, label),
    };
    match stopped {
        Ok(()) | Err(Error::Unavailable { .. }) => {}
        Err(error) => return Err(error),
    }
    remove(&path)?;
    if kind == Kind::Systemd {
        systemd::forget(&tool);
    }
    Ok(true)
}

/// How the service `label` is.
///
/// # Errors
/// When the service manager is missing or does not answer.
pub fn status(kind: Kind, label: &str, account: &Account, runner: &dyn Runner) -> Result<Status, Error> {
    text::check_label(label)?;
    let tool = command::Tool::new(kind, runner);
    let definition = definition_path(kind, label, account);
    if !definition.exists() {
        return Ok(Status {
            definition,
            installed: false,
            running: Some(false),
            pid: None,
        });
    }
    match kind {
        Kind::Systemd => systemd::status(&tool, label, definition),
        Kind::Launchd => launchd::status(&tool, label, account, definition),
        Kind::TaskScheduler => task_scheduler::status(&tool, label, definition),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::File {
            operation: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// The arguments of a call, of text and paths.
fn args<'a>(args: impl IntoIterator<Item = &'a str>) -> Vec<OsString> {
    args.into_iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests;
