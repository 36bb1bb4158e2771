//! Locks on files, held by one process at a time: to change a home, to serve it, and to show that an engine is running.
//!
//! ```
//! use std::time::Duration;
//!
//! use gem_setup::lock::{Error, Lock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("lock");
//! let held = Lock::acquire(&path, Duration::ZERO).await?;
//! assert!(matches!(Lock::acquire(&path, Duration::ZERO).await, Err(Error::Held { .. })));
//! drop(held);
//! Lock::acquire(&path, Duration::ZERO).await?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gem_platform::Os;
use gem_platform::file::{self, open_own, private_dir};
use gem_platform::process::{age, identity, is_stopped};
use same_file::Handle;
use tokio::time::{Instant, sleep};

use crate::error::{Explain, Kind};
use crate::place::{self, is_misplaced};

const POLL: Duration = Duration::from_millis(50);
/// A lock file may be deleted between opening and locking. After this many attempts there must be another problem.
const TRIES: u32 = 10;

/// A held lock. It is released when this value is dropped or the process ends. Only the user who created the file can
/// open it and hold the lock.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Handle,
}

/// Why a lock cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the lock.
    #[error("{holder} (it holds `{}`)", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The other process.
        holder: Holder,
    },
    /// The file system does not support locks.
    #[error("cannot lock `{}`: its file system supports no locks", path.display())]
    Unsupported {
        /// The lock file, or the directory for it.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file cannot be opened or locked.
    #[error("cannot use the lock `{}`", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// The global options whose value is the next word.
const WITH_VALUE: [&str; 3] = ["--home", "--config", "--color"];

/// The message while waiting for the lock in the file `path`, with the process that holds it.
#[must_use]
pub fn wait_for(path: &Path) -> String {
    let holder = Holder::of(path).map_or_else(String::new, |holder| holder.process(None));
    format!("waiting for another gem-setup{holder}")
}

/// The process that holds a lock, as far as the system shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pid: Option<u32>,
    command: Option<String>,
    age: Option<Duration>,
    /// Whether it is suspended, as by Ctrl-Z.
    is_stopped: bool,
}

impl Holder {
    /// The process that holds the lock in the file `path`, if another one does.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let holder = Lock::is_held(path).ok()?.then(|| Self::named_in(path))?;
        (holder.pid != Some(std::process::id())).then_some(holder)
    }

    /// The process that the lock file names. In another container its id may belong to another program here.
    fn named_in(path: &Path) -> Self {
        let pid: Option<u32> = holder_in(path).parse().ok();
        let process = pid.and_then(identity).filter(|process| is_gem_setup(&process.command));
        let is_own = pid == Some(std::process::id());
        let pid = pid.filter(|_| is_own || process.is_some());
        Self {
            command: process
                .as_ref()
                .and_then(|process| command_in(&process.command))
                .cloned(),
            age: process.as_ref().and_then(age),
            is_stopped: pid.is_some_and(is_stopped),
            pid,
        }
    }

    /// The process, in parentheses; empty if nothing is known of it.
    fn process(&self, age: Option<Duration>) -> String {
        let pid = self.pid.map(|pid| format!("pid {pid}"));
        let command = self.command.as_ref().map(|command| format!("`{command}`"));
        let age = age.map(|age| format!("for {} s", age.as_secs()));
        let parts: Vec<String> = [pid, command, age].into_iter().flatten().collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!(" ({})", parts.join(", ")),
        }
    }

    /// What to do before the home is free.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self.pid.filter(|_| self.is_stopped) {
            Some(pid) => format!("continue it with `fg` in its terminal or with `kill -CONT {pid}`, or end it"),
            None => "wait until it is done".to_owned(),
        }
    }
}

/// Whether the command line `line` starts gem-setup, under its usual name or this program's.
fn is_gem_setup(line: &[String]) -> bool {
    let own = std::env::current_exe().unwrap_or_default();
    let program = line.first().map(Path::new).and_then(Path::file_name);
    program.is_some_and(|name| name.to_string_lossy().starts_with("gem-setup") || Some(name) == own.file_name())
}

/// The command in the command line `line` of gem-setup: its first word that is no option or value.
fn command_in(line: &[String]) -> Option<&String> {
    let mut words = line.iter().skip(1);
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(&word.as_str()) {
            words.next();
        } else if !word.starts_with('-') {
            return Some(word);
        }
    }
    None
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = self.process(self.age);
        let activity = if self.is_stopped {
            "is suspended in its work"
        } else {
            "is at work"
        };
        write!(f, "another gem-setup{process} {activity} on this home")
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Held { .. } => Kind::Conflict,
            Self::Unsupported { .. } | Self::Io { .. } => Kind::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Held { holder, .. } => return Some(format!("{}, then run the command again", holder.remedy())),
            Self::Unsupported { .. } => {
                "use a home on a local file system (`--home DIR`), or have the network file system mounted with locks"
            }
            Self::Io { source, .. } if is_misplaced(source) => "move that file away, then run the command again",
            Self::Io { .. } => {
                "check that the home exists, belongs to you, is writable and has free space, or name another with `--home DIR`"
            }
        };
        Some(hint.to_owned())
    }
}

impl Lock {
    /// Takes the lock in the file `path`, which is created with its directory if missing; `None` while another process
    /// holds it.
    ///
    /// # Errors
    /// When the file cannot be created or locked.
    pub fn try_acquire(path: &Path) -> io::Result<Option<Self>> {
        if let Some(directory) = path.parent() {
            private_dir(directory)?;
        }
        Self::try_acquire_in(path)
    }

    /// Like [`Self::try_acquire`], in a directory that exists and keeps its access rights.
    ///
    /// # Errors
    /// When the file cannot be created or locked.
    pub fn try_acquire_in(path: &Path) -> io::Result<Option<Self>> {
        for _ in 0..TRIES {
            let mut options = OpenOptions::new();
            let mut file = open_own(options.read(true).write(true).create(true).truncate(false), path)?;
            if !is_taken_by(file.try_lock())? {
                return Ok(None);
            }
            // The text is for people; the lock does not depend on it.
            let _ = file
                .set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| write!(file, "{}", std::process::id()));
            let lock = Self {
                path: path.to_owned(),
                file: Handle::from_file(file)?,
            };
            if lock.is_current() {
                return Ok(Some(lock));
            }
        }
        Err(io::Error::other("the lock file keeps being deleted"))
    }

    /// Takes the lock in the file `path`; waits up to `patience` for its owner.
    ///
    /// # Errors
    /// When it is still held after that time, or the file cannot be used.
    pub async fn acquire(path: &Path, patience: Duration) -> Result<Self, Error> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::try_acquire(path) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) if Instant::now() < deadline => sleep(POLL).await,
                Ok(None) => {
                    return Err(Error::Held {
                        path: path.to_owned(),
                        holder: Holder::named_in(path),
                    });
                }
                Err(source) => return Err(fault(path, source)),
            }
        }
    }

    /// Whether a process holds the lock in the file `path`.
    ///
    /// # Errors
    /// When the file exists but cannot be opened, or the file system does not support locks.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        match open_to_read(path) {
            Ok(file) => Ok(!is_taken_by(file.try_lock_shared())?),
            Err(error) if file::is_absence(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the path still leads to the locked file. After a deletion, other processes would lock a new file.
    #[must_use]
    pub fn is_current(&self) -> bool {
        match place::handle(&self.path) {
            Ok(now) => now == self.file,
            // A network file system may fail for a moment.
            Err(error) => error.kind() != io::ErrorKind::NotFound && !is_misplaced(&error),
        }
    }

    /// Deletes the lock file while it is locked, and releases the lock.
    ///
    /// # Errors
    /// When the file cannot be deleted; the lock is released even then.
    pub fn delete(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    /// Another handle to the locked file. The lock lasts until the last handle, in any process, is closed.
    ///
    /// # Errors
    /// When the system cannot duplicate the handle.
    pub(crate) fn share(&self) -> io::Result<File> {
        self.file.as_file().try_clone()
    }
}

/// Checks that `path`, an existing lock file or directory, can be locked. Does not wait and leaves no lock behind.
///
/// # Errors
/// When it cannot be opened, or its file system does not support locks.
pub fn check(path: &Path) -> Result<(), Error> {
    let opened = match path.is_dir() {
        true => File::open(path),
        false => file::open_regular(path),
    };
    let locked = opened.map(|file| file.try_lock_shared());
    match locked {
        Ok(Err(TryLockError::Error(source))) if is_unsupported(&source) => Err(fault(path, source)),
        // Some file systems can lock files but not directories, and Windows cannot open directories.
        Ok(_) => Ok(()),
        Err(_) if path.is_dir() => Ok(()),
        Err(source) => Err(fault(path, source)),
    }
}

fn fault(path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    if is_unsupported(&source) {
        Error::Unsupported { path, source }
    } else {
        Error::Io { path, source }
    }
}

/// Whether `error` means that the file system does not support locks or that its lock service is not running
/// (`ENOLCK`).
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    const ENOLCK: Option<i32> = match Os::HOST {
        Os::Linux => Some(37),
        Os::Macos => Some(77),
        Os::Windows => None,
    };
    error.kind() == io::ErrorKind::Unsupported || (ENOLCK.is_some() && error.raw_os_error() == ENOLCK)
}

fn is_taken_by(attempt: Result<(), TryLockError>) -> io::Result<bool> {
    match attempt {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open_to_read(path: &Path) -> io::Result<File> {
    open_own(OpenOptions::new().read(true), path)
}

fn holder_in(path: &Path) -> String {
    let mut text = String::new();
    // On Windows no other process can read a locked file; the error then names no process.
    let _ = open_to_read(path).and_then(|file| file.take(64).read_to_string(&mut text));
    text.trim().chars().filter(char::is_ascii_digit).take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/server.lock");
        assert!(!Lock::is_held(&path).unwrap());
        let lock = Lock::try_acquire(&path).unwrap().unwrap();
        assert!(Lock::is_held(&path).unwrap());
        assert!(Lock::try_acquire(&path).unwrap().is_none());
        drop(lock);
        assert!(!Lock::is_held(&path).unwrap());
    }

    #[test]
    fn the_command_is_not_an_option_s_value() {
        for line in [
            "gem-setup --home install bundle create",
            "gem-setup -q --home=x bundle",
            "gem-setup bundle serve",
        ] {
            let line: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert!(is_gem_setup(&line));
            assert_eq!(command_in(&line).unwrap(), "bundle", "{line:?}");
        }
        assert!(!is_gem_setup(&["/sbin/init".to_owned(), "serve".to_owned()]));
        assert!(!is_gem_setup(&[]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_lock_names_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a").join("lock");
        let _first = Lock::acquire(&path, Duration::ZERO).await.unwrap();
        let error = Lock::acquire(&path, Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        if Os::HOST != Os::Windows {
            assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        }
    }
}
