//! Files: permission bits, quarantine, replacing files in use, durable changes.
//!
//! ```
//! use gem_platform::file::{Readers, is_executable, make_program, write_atomic};
//!
//! let path = std::env::temp_dir().join(format!("gem-platform-{}.exe", std::process::id()));
//! write_atomic(&path, b"#!/bin/sh\n", Readers::Owner)?;
//! make_program(&path)?;
//! assert!(is_executable(&path)?);
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(any(target_os = "macos", all(test, unix)))]
mod attribute;
mod leftover;
#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(target_os = "macos", path = "macos.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod os;
mod regular;
mod replace;
#[cfg(unix)]
mod unix;

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use leftover::sweep;
pub use regular::{
    LARGEST_FILE, check_own, check_regular, is_character_device, metadata, open_own, open_regular, read_bounded,
    read_regular, rewrite,
};
pub use replace::{ReplaceError, persist, replace, wait_until_free};

/// Whether `error` says that there is no such file, be it because something other than a directory is on the way to it.
#[must_use]
pub fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Makes the file at `path` executable for every user who may read it. On Windows the file's name decides, so nothing is set.
///
/// # Errors
/// When the file is not there or is not ours to change.
pub fn make_executable(path: &Path) -> io::Result<()> {
    os::make_executable(path)
}

/// Makes the file at `path` readable and executable for all and writable for its owner. On Windows the file's name decides, so
/// nothing is set.
///
/// # Errors
/// When the file is not there or is not ours to change.
pub fn make_program(path: &Path) -> io::Result<()> {
    os::make_program(path)
}

/// Opens the file at `path` so that only its owner can read and write it, whether it is new or was there. On Windows the folder
/// decides that, and the folders of a user's profile are the user's own.
///
/// # Errors
/// When the file cannot be opened.
pub fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    os::open_private(options, path)
}

/// Creates the directory `path`, and those above it, if missing. Only its owner can enter it afterwards; a directory of
/// another user stays as it is. On Windows it gets the rights of the directory above it.
///
/// # Errors
/// When the directory cannot be made.
pub fn private_dir(path: &Path) -> io::Result<()> {
    os::private_dir(path)
}

/// Whether users other than the owner and the group can read the file at `path`, or others than the owner can change it. On
/// Windows the folder decides that, and nothing is checked.
///
/// # Errors
/// When the file cannot be looked at.
pub fn is_exposed(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|metadata| os::is_exposed(&metadata))
}

/// Keeps other users from changing the files that this process and its children will make, and lets this user use them,
/// independently of the umask.
pub fn keep_new_files_ours() {
    os::keep_new_files_ours();
}

/// Whether this user may run the file at `path`, by its permissions (on Windows: by its name).
///
/// # Errors
/// When the file is not there or cannot be looked at.
pub fn is_executable(path: &Path) -> io::Result<bool> {
    os::is_executable(path)
}

/// The mark that makes macOS's Gatekeeper refuse the file at `path`, or `None` without one. Other systems lack this
/// mark.
///
/// # Errors
/// When the file is not there or its attributes cannot be read.
pub fn quarantine(path: &Path) -> io::Result<Option<String>> {
    os::quarantine(path)
}

/// Takes the quarantine mark off the file at `path`; `true` if there was one.
///
/// # Errors
/// When the file is not there or is not ours to change.
pub fn strip_quarantine(path: &Path) -> io::Result<bool> {
    os::strip_quarantine(path)
}

/// The path whose name consists of `bytes`. Windows has paths of text alone; there other bytes become replacement characters.
#[must_use]
pub fn path_from(bytes: Vec<u8>) -> PathBuf {
    os::path_from(bytes)
}

/// Whether some program holds the file at `path` so that it cannot be replaced now. Only Windows lets a program do that.
#[must_use]
pub fn is_locked(path: &Path) -> bool {
    os::is_locked(path)
}

/// Exchanges two files or directories on one file system in one step. False where the system, or the file system, cannot do that.
///
/// # Errors
/// When one of them is not there, or may not be moved.
pub fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    os::exchange(one, other)
}

/// What tells the file or directory at `path` from others of its file system, under every name; `None` where nothing does, or where there
/// is none.
#[must_use]
pub fn identity(path: &Path) -> Option<u64> {
    os::identity(path)
}

/// Makes a rename inside the directory `path` outlast a power cut.
///
/// Windows opens no directory for this and keeps the order of such changes itself; file systems that know no such request
/// (some network and user-space ones) answer that they don't, which is no failure of the rename.
///
/// # Errors
/// When the directory is not there or the device reports a fault.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    os::sync_dir(path)
}

/// Gives `file` the permission bits of the file at `model` and, where this process may, its owner.
///
/// # Errors
/// When `model` is not there or `file` does not take the permission bits.
pub fn keep_access(model: &Path, file: &File) -> io::Result<()> {
    os::keep_access(model, file)
}

/// Whether root alone can change the file or directory at `path`; on Windows its access list would say, and is not read.
///
/// # Errors
/// When it is not there.
pub fn is_roots_alone(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|metadata| os::is_roots_alone(&metadata))
}

/// Whether root alone can read the file, or enter the directory, at `path`; on Windows its access list would say, and is not read.
///
/// # Errors
/// When it is not there.
pub fn is_hidden_from_users(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|metadata| os::is_hidden_from_users(&metadata))
}

/// Lets every user read the file at `path`, and enter its directory.
///
/// # Errors
/// When the permissions cannot be changed.
pub fn publish(path: &Path) -> io::Result<()> {
    os::publish(path)
}

/// Checks, by permissions and file system, that this user may write the file at `path`, or create and delete files in the
/// directory there. Changes nothing.
///
/// # Errors
/// The reason, as the system gives it; on Windows only a read-only mark counts.
pub fn may_write(path: &Path) -> io::Result<()> {
    check_changeable(path)?;
    os::may_write(path)
}

/// Fails if the file system refuses changes of the file or directory at `path` whatever its permissions are.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] for one that is marked immutable or append-only.
pub fn check_changeable(path: &Path) -> io::Result<()> {
    match unmark_command(path) {
        Some(_) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is marked immutable or append-only",
        )),
        None => Ok(()),
    }
}

/// The command that takes the mark of [`check_changeable`] off `path`, without the path; `None` if there is no mark.
#[must_use]
pub fn unmark_command(path: &Path) -> Option<&'static str> {
    os::unmark_command(path)
}

/// Whether the file or directory at `path` is a mount point, so that no file can be renamed over it.
#[must_use]
pub fn is_mount_point(path: &Path) -> bool {
    os::is_mount_point(path)
}

/// How many names the file of `metadata` has.
#[must_use]
pub fn name_count(metadata: &Metadata) -> u64 {
    os::name_count(metadata)
}

/// The user id of the owner of the file of `metadata`; `None` where files have no such owner.
#[must_use]
pub fn owner(metadata: &Metadata) -> Option<u32> {
    os::owner(metadata)
}

/// Who may read a file that was not there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Whom the process lets read any file it makes.
    Usual,
    /// Its owner alone.
    Owner,
}

/// Writes `bytes` to `path` so that a reader, or a power cut, finds the old content or the new and nothing between. Directories
/// on the way are made; a file that was there keeps its permissions and, where possible, its owner, a new one is for `readers`
/// and, if root makes it, for the owner of its directory. A symbolic link at `path` is replaced, and what it leads to stays as
/// it is.
///
/// # Errors
/// When the directory cannot be written to, or another program holds the file; the old content is then still there.
pub fn write_atomic(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), ReplaceError> {
    let error = |source| ReplaceError::Write {
        path: path.to_owned(),
        source,
    };
    let dir = match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
        Some(dir) => dir,
        None => return Err(error(io::Error::from(io::ErrorKind::InvalidFilename))),
    };
    std::fs::create_dir_all(dir).map_err(error)?;
    let mut staged = tempfile::Builder::new()
        .prefix(leftover::PREFIX)
        .suffix(leftover::SUFFIX)
        .make_in(dir, |path| create_new(path, readers))
        .map_err(error)?;
    leftover::mark(staged.as_file());
    if path.exists() && !path.is_symlink() {
        keep_access(path, staged.as_file()).map_err(error)?;
    } else {
        os::give_to_owner(dir, staged.as_file()).map_err(error)?;
    }
    staged.write_all(bytes).map_err(error)?;
    staged.as_file().sync_all().map_err(error)?;
    persist(staged, path)?;
    sync_dir(dir).map_err(error)
}

fn create_new(path: &Path, readers: Readers) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    match readers {
        Readers::Usual => options.open(path),
        Readers::Owner => open_private(&mut options, path),
    }
}

#[cfg(test)]
mod tests;
