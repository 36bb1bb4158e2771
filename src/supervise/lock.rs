//! The lock that a server holds for its whole life. Whether it is held decides whether a server runs; everything that is
//! written down only says more about it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use same_file::Handle;

/// A lock file may be deleted between opening and locking it; more often than this, something else is wrong.
const TRIES: u32 = 10;

/// The lock, held until this is dropped or the process ends, however that comes.
#[derive(Debug)]
pub(super) struct ServerLock {
    path: PathBuf,
    file: Handle,
}

impl ServerLock {
    /// Takes the lock in the file `path`, which is created if need be; `None` while another process holds it.
    ///
    /// # Errors
    /// When the file cannot be created or locked.
    pub(super) fn try_acquire(path: &Path) -> io::Result<Option<Self>> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        for _ in 0..TRIES {
            let mut options = OpenOptions::new();
            let file = options.create(true).truncate(false).write(true).open(path)?;
            if !is_taken_by(file.try_lock())? {
                return Ok(None);
            }
            let lock = Self {
                path: path.to_owned(),
                file: Handle::from_file(file)?,
            };
            if lock.is_current() {
                return Ok(Some(lock));
            }
        }
        Err(io::Error::other("the lock file is deleted again and again"))
    }

    /// Whether some process holds the lock in the file `path`.
    ///
    /// # Errors
    /// When the file is there and cannot be opened, or the file system has no locks.
    pub(super) fn is_held(path: &Path) -> io::Result<bool> {
        match File::open(path) {
            Ok(file) => Ok(!is_taken_by(file.try_lock_shared())?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the path still leads to the locked file: after its deletion others would lock another one.
    pub(super) fn is_current(&self) -> bool {
        match Handle::from_path(&self.path) {
            Ok(now) => now == self.file,
            // A network file system that does not answer for a moment says nothing.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

fn is_taken_by(attempt: Result<(), TryLockError>) -> io::Result<bool> {
    match attempt {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/server.lock");
        assert!(!ServerLock::is_held(&path).unwrap());
        let lock = ServerLock::try_acquire(&path).unwrap().unwrap();
        assert!(ServerLock::is_held(&path).unwrap());
        assert!(ServerLock::try_acquire(&path).unwrap().is_none());
        drop(lock);
        assert!(!ServerLock::is_held(&path).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn a_deleted_lock_file_is_noticed_by_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.lock");
        let lock = ServerLock::try_acquire(&path).unwrap().unwrap();
        assert!(lock.is_current());
        std::fs::remove_file(&path).unwrap();
        assert!(!lock.is_current());
        let next = ServerLock::try_acquire(&path).unwrap().unwrap();
        assert!(!lock.is_current() && next.is_current());
    }
}
