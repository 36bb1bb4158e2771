//! Replaces a file, which may be in use, with a finished one.
//!
//! Virus scanners, indexers and editors open files briefly after a change; on Windows this makes a rename fail.
//! The rename is therefore repeated for a while before it counts as a conflict.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::os;
use super::regular::open_regular;
use crate::Backoff;

/// With these values the pauses add up to between one and two seconds.
const ATTEMPTS: u32 = 9;
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_millis(400);

/// Why a file could not be replaced. The old file is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// Another program has it open (Windows only).
    #[error("cannot replace `{}`: another program holds it open", path.display())]
    InUse {
        /// The file that could not be replaced.
        path: PathBuf,
        /// The system's last error.
        source: io::Error,
    },
    /// The move failed for any other reason.
    #[error("cannot move `{}` to `{}`", from.display(), to.display())]
    Move {
        /// The finished file.
        from: PathBuf,
        /// The target.
        to: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The new content could not be written next to the old.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file that was to get the new content.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// `ResourceBusy` for a file in use, else the system's kind. The text always names the paths.
impl From<ReplaceError> for io::Error {
    fn from(error: ReplaceError) -> Self {
        let kind = match &error {
            ReplaceError::InUse { .. } => io::ErrorKind::ResourceBusy,
            ReplaceError::Move { source, .. } | ReplaceError::Write { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

/// Moves the file `from` over `to`, both on one file system: a reader finds the old file or the new, never a part of one.
///
/// Waits at most two seconds for a program that holds `to`, and blocks the thread.
///
/// # Errors
/// [`ReplaceError::InUse`] if the file stays in use, [`ReplaceError::Move`] for everything else; `from` is kept.
pub fn replace(from: &Path, to: &Path) -> Result<(), ReplaceError> {
    let rename = || std::fs::rename(from, to);
    retry(rename, os::is_use_conflict, thread::sleep).map_err(|source| {
        if os::is_use_conflict(&source) && (os::is_locked(to) || os::is_locked(from)) {
            ReplaceError::InUse {
                path: to.to_owned(),
                source,
            }
        } else {
            ReplaceError::Move {
                from: from.to_owned(),
                to: to.to_owned(),
                source,
            }
        }
    })
}

/// Moves the finished temporary file over `to`, like [`replace`]; removes it if that fails.
///
/// # Errors
/// Like [`replace`]; [`ReplaceError::Write`] if the file cannot be kept.
pub fn persist(temporary: NamedTempFile, to: &Path) -> Result<(), ReplaceError> {
    // Closed before the move: Windows would count our own handle as a use. Kept, so that it is no longer deleted as a
    // temporary file.
    let from = temporary.into_temp_path().keep().map_err(|kept| ReplaceError::Write {
        path: to.to_owned(),
        source: kept.error,
    })?;
    replace(&from, to).inspect_err(|_| {
        // Only the failed move is reported; a leftover temporary file matters less.
        let _ = std::fs::remove_file(&from);
    })
}

/// Waits, at most as long as [`replace`], until no program holds the file at `path` open. For a caller that replaces
/// several files and wants to replace all or none.
///
/// # Errors
/// [`ReplaceError::InUse`] if the file stays in use.
pub fn wait_until_free(path: &Path) -> Result<(), ReplaceError> {
    let look = || {
        if os::is_locked(path) {
            Err(io::ErrorKind::ResourceBusy.into())
        } else {
            Ok(())
        }
    };
    let is_passing = |error: &io::Error| error.kind() == io::ErrorKind::ResourceBusy;
    retry(look, is_passing, thread::sleep).map_err(|source| ReplaceError::InUse {
        path: path.to_owned(),
        source,
    })
}

/// Opens the regular file `path` to read it. Waits, at most as long as [`replace`], for a program that holds it.
///
/// # Errors
/// Like [`open_regular`].
pub fn open_when_free(path: &Path) -> io::Result<File> {
    let is_passing = |error: &io::Error| os::is_use_conflict(error) && os::is_locked(path);
    retry(|| open_regular(path), is_passing, thread::sleep)
}

/// Runs `action` until it succeeds, fails with a permanent error, or has been tried [`ATTEMPTS`] times.
fn retry<T>(
    mut action: impl FnMut() -> io::Result<T>,
    is_passing: impl Fn(&io::Error) -> bool,
    mut sleep: impl FnMut(Duration),
) -> io::Result<T> {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    for _ in 1..ATTEMPTS {
        match action() {
            Err(error) if is_passing(&error) => sleep(backoff.fail(fastrand::f64())),
            done => return done,
        }
    }
    action()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> io::Error {
        io::Error::from(io::ErrorKind::ResourceBusy)
    }

    fn is_busy(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::ResourceBusy
    }

    #[test]
    fn a_file_that_is_let_go_is_replaced() {
        let (mut calls, mut waits) = (0, Vec::new());
        let action = || {
            calls += 1;
            if calls < 4 { Err(busy()) } else { Ok(()) }
        };
        retry(action, is_busy, |wait| waits.push(wait)).unwrap();
        assert_eq!((calls, waits.len()), (4, 3));
        assert!(waits[0] >= FIRST_WAIT / 2 && waits[0] <= FIRST_WAIT, "{waits:?}");
    }

    #[test]
    fn waiting_for_a_file_is_bounded() {
        let (mut calls, mut waited) = (0, Duration::ZERO);
        let action = || {
            calls += 1;
            Err::<(), _>(busy())
        };
        assert!(is_busy(&retry(action, is_busy, |wait| waited += wait).unwrap_err()));
        assert_eq!(calls, ATTEMPTS);
        assert!(waited <= Duration::from_secs(2), "{waited:?}");
    }

    #[test]
    fn what_no_wait_can_mend_is_tried_once() {
        let mut calls = 0;
        let action = || {
            calls += 1;
            Err::<(), _>(io::Error::from(io::ErrorKind::NotFound))
        };
        retry(action, is_busy, |_| panic!("waited")).unwrap_err();
        assert_eq!(calls, 1);
    }
}
