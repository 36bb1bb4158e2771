//! Values from files, which are read again when the files change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::error::AccessError;
use crate::runtime::Stamp;

type Read<T> = Box<dyn Fn() -> Result<T, AccessError> + Send + Sync>;

/// A value from files.
pub(super) struct Fresh<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    read: Read<T>,
    value: RwLock<Arc<T>>,
    /// The files' stamps before the last attempt to read them.
    seen: Mutex<Vec<Option<Stamp>>>,
}

impl<T> Fresh<T> {
    /// Reads the value from `files` for the first time; the log calls the value `what`.
    pub(super) fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, AccessError> + Send + Sync + 'static,
    ) -> Result<Self, AccessError> {
        let seen = stamps(&files);
        let value = read()?;
        Ok(Self {
            what,
            files,
            read: Box::new(read),
            value: RwLock::new(Arc::new(value)),
            seen: Mutex::new(seen),
        })
    }

    /// The value of the last successful read.
    pub(super) fn value(&self) -> Arc<T> {
        Arc::clone(&self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the value again if a file has changed. If that fails, the old value stays.
    pub(super) fn refresh(&self) {
        // Another thread may hold the lock while it waits for a slow file system.
        let Ok(mut seen) = self.seen.try_lock() else { return };
        let now = stamps(&self.files);
        if now == *seen {
            return;
        }
        *seen = now;
        match (self.read)() {
            Ok(value) => {
                *self.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!("read the {} again: its file has changed", self.what);
            }
            Err(error) => {
                let reason = crate::error::chain(&error);
                tracing::warn!("{reason}; the {} that was read before stays in use", self.what);
            }
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| Stamp::of(file)).collect()
}
