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

use same_file::Handle;
use tokio::time::{Instant, sleep};

use crate::error::{Explain, Kind};

/// What a person sees while a lock is waited for.
pub const WAIT: &str = "waiting for another gem-setup that is at work on this home";
const POLL: Duration = Duration::from_millis(50);

/// Held for as long as it lives, however the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("another gem-setup{} is at work on this home (it holds `{}`)", by(holder), path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it: its process id.
        holder: String,
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
            Self::Io { .. } => Kind::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Held { .. } => "wait until it is done, then run the command again",
            Self::Io { .. } => "check that the home is yours, is writable and has room",
        };
        Some(hint.to_owned())
    }
}

impl Lock {
    /// Takes the lock in the file `path`, waiting up to `patience` for whoever has it.
    ///
    /// # Errors
    /// When it is still held by then, or the file cannot be used.
    pub async fn acquire(path: &Path, patience: Duration) -> Result<Self, Error> {
        let failed = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let deadline = Instant::now() + patience;
        let mut file = loop {
            let mut file = open(path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, path).map_err(failed)? => break file,
                // It was deleted meanwhile: others would lock another file.
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
        // Who holds it is for people; the lock itself does not depend on it.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// Opens the lock file, which is made with its folder if it is not there.
fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).open(path)
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
    // Windows does not let others read what is locked; then nobody is named.
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    text.trim().chars().filter(char::is_ascii_digit).take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_second_one_is_told_who_has_the_lock() {
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
    async fn a_lock_that_was_let_go_can_be_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        drop(Lock::acquire(&path, Duration::ZERO).await.unwrap());
        assert!(Lock::acquire(&path, Duration::ZERO).await.is_ok());
    }
    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_deleted_lock_file_locks_nobody_out() {
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
