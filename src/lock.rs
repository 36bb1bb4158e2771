//! The lock on a home: only one gem-setup changes it at a time.
//!
//! ```
//! use std::time::Duration;
//!
//! use gem_setup::lock::{Error, Lock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("lock");
//! let held = Lock::acquire(&path, Duration::ZERO).await?;
//! assert!(matches!(Lock::acquire(&path, Duration::ZERO).await, Err(Error::Held { .. })));
//! drop(held);
//! Lock::acquire(&path, Duration::ZERO).await?;
//! # Ok(())
//! # }
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gem_platform::file::check_regular;
use same_file::Handle;
use tokio::time::{Instant, sleep};

use crate::error::{Explain, Kind};

/// What a person sees while a lock is waited for.
pub const WAIT: &str = "waiting for another gem-setup that is at work on this home";
const POLL: Duration = Duration::from_millis(50);

/// Keeps the lock until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a lock cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds it.
    #[error("another gem-setup{} is at work on this home (it holds `{}`)", by(holder), path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it: its process id.
        holder: String,
    },
    /// The file system has no locks.
    #[error("cannot lock `{}`: its file system supports no locks", path.display())]
    Unsupported {
        /// The lock file, or the directory that it would be in.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The file cannot be opened or locked.
    #[error("cannot use the lock `{}`", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn by(holder: &str) -> String {
    if holder.is_empty() {
        String::new()
    } else {
        format!(" (pid {holder})")
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
            Self::Held { .. } => "wait until it is done, then run the command again",
            Self::Unsupported { .. } => {
                "use a home on a local file system (`--home DIR`), or have the network file system mounted with locks"
            }
            Self::Io { .. } => "check that the home is yours, is writable and has room",
        };
        Some(hint.to_owned())
    }
}

impl Lock {
    /// Takes the lock in the file `path`, waiting up to `patience` for its holder.
    ///
    /// # Errors
    /// When it is still held by then, or the file cannot be used.
    pub async fn acquire(path: &Path, patience: Duration) -> Result<Self, Error> {
        let failed = |source| fault(path, source);
        let deadline = Instant::now() + patience;
        let mut file = loop {
            let mut file = open(path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, path).map_err(failed)? => break file,
                // It was deleted in the meantime: others would lock another file.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(POLL).await,
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Held {
                        path: path.to_owned(),
                        holder: holder_in(&mut file),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        };
        // The holder's id is for people; the lock does not depend on it.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// Finds out whether `path`, an existing lock file or directory, can be locked; does not wait and leaves no lock behind.
///
/// # Errors
/// When it cannot be opened, or its file system has no locks.
pub fn check(path: &Path) -> Result<(), Error> {
    let locked = File::open(path).map(|file| file.try_lock_shared());
    match locked {
        Ok(Err(TryLockError::Error(source))) if is_unsupported(&source) => Err(fault(path, source)),
        // Some file systems lock files but not directories, and Windows opens no directory.
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

/// Whether `error` is the answer of a file system without locks, or of one whose lock service does not run (`ENOLCK`).
fn is_unsupported(error: &io::Error) -> bool {
    const ENOLCK: i32 = if cfg!(target_os = "macos") { 77 } else { 37 };
    error.kind() == io::ErrorKind::Unsupported || (cfg!(unix) && error.raw_os_error() == Some(ENOLCK))
}

/// Opens the lock file and creates it, with its folder, if it is missing.
fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    check_regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Whether `path` leads to `file`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let opened = Handle::from_file(file.try_clone()?)?;
    match Handle::from_path(path) {
        Ok(now) => Ok(now == opened),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn holder_in(file: &mut File) -> String {
    let mut text = String::new();
    // Windows does not let others read a locked file; then the holder is not named.
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    text.trim().chars().filter(char::is_ascii_digit).take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_held_lock_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a").join("lock");
        let _first = Lock::acquire(&path, Duration::ZERO).await.unwrap();
        let error = Lock::acquire(&path, Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        if cfg!(not(windows)) {
            assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        }
    }

    #[tokio::test]
    async fn a_released_lock_can_be_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        drop(Lock::acquire(&path, Duration::ZERO).await.unwrap());
        assert!(Lock::acquire(&path, Duration::ZERO).await.is_ok());
    }
    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_deleted_lock_file_blocks_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own").join("lock");
        let first = Lock::acquire(&path, Duration::ZERO).await.unwrap();
        let second = async {
            tokio::task::yield_now().await;
            std::fs::remove_dir_all(folder.path().join("own")).unwrap();
            drop(first);
        };
        let (lock, ()) = tokio::join!(Lock::acquire(&path, Duration::from_secs(5)), second);
        let _lock = lock.unwrap();
        assert!(Lock::acquire(&path, Duration::ZERO).await.is_err());
    }
}
