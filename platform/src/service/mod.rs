//! Runs a program at login: a systemd user unit, a launchd agent, a Windows scheduled task.
//!
//! All three consist of data and calls of the system's own tool, so all three exist on every host. Each definition can
//! be shown and tested anywhere, and the calls go through a [`Runner`] that a test can replace.
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
//!     stop_within: Duration::from_secs(30),
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
use crate::file::{Readers, ReplaceError, is_absence, read_regular, write_atomic};

/// A service manager: the part of the system that starts other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// systemd's instance for one user.
    Systemd,
    /// systemd itself: runs the program for the whole machine, as a user of its own.
    SystemdMachine,
    /// macOS's launchd.
    Launchd,
    /// Windows' Task Scheduler.
    TaskScheduler,
}

impl Kind {
    /// The service manager of `os` for one user.
    #[must_use]
    pub const fn of(os: Os) -> Self {
        match os {
            Os::Linux => Self::Systemd,
            Os::Macos => Self::Launchd,
            Os::Windows => Self::TaskScheduler,
        }
    }

    /// The service manager of `os` for the whole machine, where that is supported.
    #[must_use]
    pub const fn of_machine(os: Os) -> Option<Self> {
        match os {
            Os::Linux => Some(Self::SystemdMachine),
            Os::Macos | Os::Windows => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Systemd => "systemd user unit",
            Self::SystemdMachine => "systemd unit",
            Self::Launchd => "launchd agent",
            Self::TaskScheduler => "scheduled task",
        })
    }
}

/// A program to run at login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The service's name: ASCII letters, digits, `.`, `-` and `_`.
    pub label: String,
    /// The description for people.
    pub description: String,
    /// The program's absolute path.
    pub program: PathBuf,
    /// The program's arguments.
    ///
    /// For a console program in the foreground, a scheduled task opens a window; so on Windows the arguments should
    /// make the program detach.
    pub args: Vec<String>,
    /// Variables that are set for the program. A scheduled task cannot set any, so the program gets the user's own
    /// there. Values that must hold everywhere belong in the arguments.
    pub environment: BTreeMap<String, String>,
    /// The file to which launchd writes the program's output. systemd uses its journal, and a detached program prints
    /// nothing.
    pub log: PathBuf,
    /// How long the program may be silent before systemd restarts it (`sd_notify(3)`). Other systems do not
    /// limit this.
    pub watchdog: Option<Duration>,
    /// How long the program may take to end after the request. A scheduled task gets no such request.
    pub stop_within: Duration,
    /// Exit statuses after which systemd does not restart the program, because it would fail again.
    pub final_statuses: Vec<u8>,
}

/// The account at whose login the program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account's name; on Windows with its domain, `DOMAIN\user`.
    pub name: String,
    /// The account's numeric id ([`user_id`]); 0 on Windows.
    pub id: u32,
    /// The account's home directory.
    pub home: PathBuf,
    /// The account's configuration directory, if one is set (`$XDG_CONFIG_HOME`); used for systemd.
    pub config: Option<PathBuf>,
    /// The caller's directory for the definition of a scheduled task. Windows reads it once and then keeps a copy.
    pub own: PathBuf,
}

/// The number of the user that this process runs as; 0 on Windows, where users lack numbers.
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
    /// Whether the file is new or has changed.
    pub changed: bool,
}

/// The state of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The file that defines it; the file may not exist.
    pub definition: PathBuf,
    /// Whether the system will start it at login.
    pub installed: bool,
    /// Whether the service is running; `None` if unknown.
    pub running: Option<bool>,
    /// The id of the running process.
    pub pid: Option<u32>,
}

/// Why an operation on a service failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The label contains characters that one of the three systems does not allow.
    #[error("`{0}` cannot name a service: use ASCII letters, digits, `.`, `-` and `_`")]
    Label(String),
    /// A text that a definition cannot hold.
    #[error("cannot put `{value}` into the definition of a service: {reason}")]
    Unwritable {
        /// The text, with invalid bytes replaced.
        value: String,
        /// The reason.
        reason: &'static str,
    },
    /// The system has no such service manager, or this user cannot reach it.
    #[error("no {kind} can be used here: `{command}` {reason}")]
    Unavailable {
        /// The kind of service manager.
        kind: Kind,
        /// The command that was run to find out.
        command: String,
        /// The command's result.
        reason: String,
    },
    /// The service manager refused.
    #[error("`{command}` {reason}")]
    Command {
        /// The command line.
        command: String,
        /// The command's result.
        reason: String,
    },
    /// Somebody else made the definition.
    #[error("`{}` is not the service's file that was written for it", .0.display())]
    Foreign(PathBuf),
    /// The service manager's tool did not end.
    #[error("`{command}` has not answered within {} s", within.as_secs())]
    Silent {
        /// The command line.
        command: String,
        /// The time limit.
        within: Duration,
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
    /// The next step, if one is known.
    #[must_use]
    pub const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable {
                kind: Kind::Systemd, ..
            } => Some(
                "this needs a login session with systemd (containers, chroots and `su` have none): start the server \
                from your \
                 shell's login file instead, or log in as the user directly",
            ),
            Self::Unavailable {
                kind: Kind::SystemdMachine,
                ..
            } => Some(
                "this needs a machine that systemd has started; in a container or chroot, run the server in the \
                foreground with `gem-setup serve`",
            ),
            Self::Unavailable {
                kind: Kind::Launchd, ..
            } => Some("this needs a graphical session: run it in Terminal, not over SSH"),
            Self::Unavailable {
                kind: Kind::TaskScheduler,
                ..
            } => Some(
                "start the Windows service `Task Scheduler`, or put the server's start command into the Startup folder",
            ),
            Self::Silent { .. } => Some(
                "run that command by hand until it answers (it may need a new login or a restart of the machine), \
                then run this one again",
            ),
            Self::Foreign(_) => {
                Some("if nothing needs it, disable the service, delete that file yourself, and run the command again")
            }
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
        Kind::SystemdMachine => systemd::machine_path(label),
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
        Kind::Systemd | Kind::SystemdMachine => systemd::render(kind, spec),
        Kind::Launchd => launchd::render(spec),
        Kind::TaskScheduler => task_scheduler::render(spec, account),
    }
}

/// Whether the installed definition passes `words`, one directly after the other, to its program.
///
/// # Errors
/// When the definition cannot be read. For words that no definition can contain, the result is `false`.
pub fn passes(kind: Kind, label: &str, account: &Account, words: &[&str]) -> Result<bool, Error> {
    let definition = read(kind, &definition_path(kind, label, account))?.unwrap_or_default();
    Ok(match kind {
        Kind::Systemd | Kind::SystemdMachine => systemd::passes(&definition, words),
        Kind::Launchd => launchd::passes(&definition, words),
        Kind::TaskScheduler => task_scheduler::passes(&definition, words),
    }
    .unwrap_or(false))
}

/// The definition at `path` as text; `None` if there is no regular file.
fn read(kind: Kind, path: &Path) -> Result<Option<String>, Error> {
    match read_regular(path) {
        Ok(bytes) if kind == Kind::TaskScheduler => Ok(Some(text::of_utf16_file(&bytes))),
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(_) if !path.is_file() => Ok(None),
        Err(source) => Err(Error::File {
            operation: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// The file that defines the service `label`, which may be missing. A definition counts as ours if it is a regular file
/// and passes `words` to its program.
///
/// # Errors
/// When the definition is not ours, or cannot be read.
pub fn own_definition(kind: Kind, label: &str, account: &Account, words: &[&str]) -> Result<PathBuf, Error> {
    let path = definition_path(kind, label, account);
    match path.symlink_metadata() {
        Ok(found) if !found.is_file() || !passes(kind, label, account, words)? => Err(Error::Foreign(path)),
        _ => Ok(path),
    }
}

/// Checks that there is a service manager that this user can reach. Changes nothing.
///
/// # Errors
/// [`Error::Unavailable`] when there is none.
pub fn probe(kind: Kind, account: &Account, runner: &dyn Runner) -> Result<(), Error> {
    let tool = command::Tool::new(kind, runner);
    match kind {
        Kind::Systemd | Kind::SystemdMachine => systemd::probe(&tool),
        Kind::Launchd => launchd::probe(&tool, account),
        Kind::TaskScheduler => task_scheduler::probe(&tool),
    }
}

/// Defines the service, makes it start at every login, and starts it now. A second call changes nothing.
///
/// # Errors
/// When the service manager is missing or refuses, or the definition cannot be written.
pub fn install(kind: Kind, spec: &Spec, account: &Account, runner: &dyn Runner) -> Result<Installed, Error> {
    let path = definition_path(kind, &spec.label, account);
    let bytes = bytes_of(kind, spec, account)?;
    let changed = read_regular(&path).map_or(true, |present| present != bytes);
    let tool = command::Tool::new(kind, runner).of_program(spec.stop_within);
    let readers = match kind {
        // systemd warns about a unit that only its owner may read.
        Kind::SystemdMachine => Readers::Usual,
        Kind::Systemd | Kind::Launchd | Kind::TaskScheduler => Readers::Owner,
    };
    let write = || {
        if changed {
            write_atomic(&path, &bytes, readers)
        } else {
            Ok(())
        }
    };
    match kind {
        Kind::Systemd | Kind::SystemdMachine => systemd::install(&tool, &spec.label, write, changed)?,
        Kind::Launchd => launchd::install(&tool, &spec.label, account, write, changed)?,
        Kind::TaskScheduler => task_scheduler::install(&tool, &spec.label, &path, write)?,
    }
    Ok(Installed {
        definition: path,
        changed,
    })
}

fn bytes_of(kind: Kind, spec: &Spec, account: &Account) -> Result<Vec<u8>, Error> {
    let definition = render(kind, spec, account)?;
    Ok(match kind {
        Kind::Systemd | Kind::SystemdMachine | Kind::Launchd => definition.into_bytes(),
        Kind::TaskScheduler => text::utf16_file(&definition),
    })
}

/// Whether the file that defines the service has the content that [`install`] would write.
///
/// # Errors
/// Like [`render`].
pub fn is_defined(kind: Kind, spec: &Spec, account: &Account) -> Result<bool, Error> {
    let present = read_regular(&definition_path(kind, &spec.label, account)).ok();
    Ok(present == Some(bytes_of(kind, spec, account)?))
}

/// Whether the services of `account` keep running when its last session ends; `None` where services do not depend on
/// sessions. Without lingering, systemd's instance for a user ends with the user's last session (`loginctl(1)`).
#[must_use]
pub fn lingers(kind: Kind, account: &Account) -> Option<bool> {
    (kind == Kind::Systemd).then(|| Path::new("/var/lib/systemd/linger").join(&account.name).exists())
}

/// Stops the service and removes its definition, which must be ours ([`own_definition`]); `true` if there was one.
///
/// # Errors
/// When the definition is not ours or cannot be removed, or the service manager refuses. A missing service manager is
/// not an error: nothing can be running under it.
pub fn uninstall(
    kind: Kind,
    label: &str,
    account: &Account,
    words: &[&str],
    runner: &dyn Runner,
) -> Result<bool, Error> {
    text::check_label(label)?;
    let path = own_definition(kind, label, account, words)?;
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    let definition = read(kind, &path)?.unwrap_or_default();
    let tool = command::Tool::new(kind, runner).of_program(text::stop_time(&definition));
    let stopped = match kind {
        Kind::Systemd | Kind::SystemdMachine => systemd::stop(&tool, label),
        Kind::Launchd => launchd::stop(&tool, label, account),
        Kind::TaskScheduler => task_scheduler::remove(&tool, label),
    };
    match stopped {
        Ok(()) | Err(Error::Unavailable { .. }) => {}
        Err(error) => return Err(error),
    }
    remove(&path)?;
    if matches!(kind, Kind::Systemd | Kind::SystemdMachine) {
        systemd::forget(&tool);
    }
    Ok(true)
}

/// The state of the service `label`.
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
        Kind::Systemd | Kind::SystemdMachine => systemd::status(&tool, label, definition),
        Kind::Launchd => launchd::status(&tool, label, account, definition),
        Kind::TaskScheduler => task_scheduler::status(&tool, label, definition),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if !is_absence(&source) => Err(Error::File {
            operation: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Arguments of a call, made from texts and paths.
fn args<'a>(args: impl IntoIterator<Item = &'a str>) -> Vec<OsString> {
    args.into_iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests;
