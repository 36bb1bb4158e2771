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
mod moved;
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

pub use leftover::{is_temporary, sweep};
pub use moved::{check_movable, check_renamable, check_replaceable, move_directory};
pub use regular::{
    LARGEST_FILE, check_device, check_directory, check_length, check_own, check_regular, circle, is_character_device,
    metadata, open_given, open_own, open_regular, read_bounded, read_regular, rewrite,
};
pub use replace::{ReplaceError, open_when_free, persist, replace, wait_until_free};

/// Whether `error` means that there is no such file, or that a part of its path is not a directory.
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

/// Makes the file at `path` readable and executable for all and writable for its owner. A directory can then be entered by all.
/// On Windows the file's name decides, so nothing is set.
///
/// # Errors
/// When the file is not there or is not ours to change.
pub fn make_program(path: &Path) -> io::Result<()> {
    os::make_program(path)
}

/// Makes the file at `path` readable for all, writable for its owner and not executable. On Windows nothing is set.
///
/// # Errors
/// When the file is not there or is not ours to change.
pub fn make_readable(path: &Path) -> io::Result<()> {
    os::make_readable(path)
}

/// Opens the file at `path`, new or existing, so that only its owner can read and write it. On Windows its directory
/// decides that; the directories of a user's profile are private.
///
/// # Errors
/// When the file cannot be opened.
pub fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    os::open_private(options, path)
}

/// Creates the directory `path` and its missing parents. Afterwards only its owner can enter it; a directory of another
/// user stays unchanged. On Windows it gets the rights of its parent.
///
/// # Errors
/// When the directory cannot be made.
pub fn private_dir(path: &Path) -> io::Result<()> {
    os::private_dir(path)
}

/// Whether a user other than owner and group can read the file at `path`, or a user other than the owner can change it.
/// On Windows the directory decides that, and the result is `false`.
///
/// # Errors
/// When the file's metadata cannot be read.
pub fn is_exposed(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|metadata| os::is_exposed(&metadata))
}

/// Makes sure that other users cannot change the files that this process and its children create, and that this user
/// can use them. The umask is not used.
pub fn keep_new_files_ours() {
    os::keep_new_files_ours();
}

/// Whether this user may run the file at `path`, by its permissions (on Windows: by its name).
///
/// # Errors
/// When the file does not exist or its metadata cannot be read.
pub fn is_executable(path: &Path) -> io::Result<bool> {
    os::is_executable(path)
}

/// The attribute that makes macOS's Gatekeeper refuse the file at `path`; `None` if the file lacks it. Other systems
/// lack this attribute.
///
/// # Errors
/// When the file is not there or its attributes cannot be read.
pub fn quarantine(path: &Path) -> io::Result<Option<String>> {
    os::quarantine(path)
}

/// Removes the quarantine attribute from the file at `path`; `true` if the file had it.
///
/// # Errors
/// When the file is not there or is not ours to change.
pub fn strip_quarantine(path: &Path) -> io::Result<bool> {
    os::strip_quarantine(path)
}

/// The path whose name consists of `bytes`. Paths on Windows are text, so other bytes become replacement characters
/// there.
#[must_use]
pub fn path_from(bytes: Vec<u8>) -> PathBuf {
    os::path_from(bytes)
}

/// Whether a program holds the file at `path` open so that it cannot be replaced now. This happens on Windows only.
#[must_use]
pub fn is_locked(path: &Path) -> bool {
    os::is_locked(path)
}

/// Exchanges two files or directories on one file system in one step. Returns `false` if the system or the file system
/// cannot do that.
///
/// # Errors
/// When one of them does not exist or may not be moved.
pub fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    os::exchange(one, other)
}

/// Identifies the file or directory at `path` within its file system, whatever name leads to it; `None` if it does not
/// exist or the file system lacks such an identifier.
#[must_use]
pub fn identity(path: &Path) -> Option<u64> {
    os::identity(path)
}

/// Makes a rename inside the directory `path` survive a power cut.
///
/// Windows cannot open a directory for this, and keeps the order of such changes itself. Some network and user-space
/// file systems do not support the request; that is not an error.
///
/// # Errors
/// When the directory does not exist or the device reports an error.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    os::sync_dir(path)
}

/// Gives `file` the permission bits of the file at `model` and, if this process may, its owner.
///
/// # Errors
/// When `model` does not exist or the permission bits cannot be set.
pub fn keep_access(model: &Path, file: &File) -> io::Result<()> {
    os::keep_access(model, file)
}

/// Whether only root can change the file or directory at `path`. On Windows its access list decides that and is not
/// read.
///
/// # Errors
/// When it is not there.
pub fn is_roots_alone(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|metadata| os::is_roots_alone(&metadata))
}

/// Whether only root can read the file, or enter the directory, at `path`. On Windows its access list decides that and
/// is not read.
///
/// # Errors
/// When it is not there.
pub fn is_hidden_from_users(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|metadata| os::is_hidden_from_users(&metadata))
}

/// Lets every user read the file at `path` and enter its directory.
///
/// # Errors
/// When the permissions cannot be changed.
pub fn publish(path: &Path) -> io::Result<()> {
    os::publish(path)
}

/// Checks, by permissions and file system, that this user may write the file at `path` or, for a directory, create and
/// delete files in it. Changes nothing.
///
/// # Errors
/// The system's reason. On Windows only a read-only attribute counts.
pub fn may_write(path: &Path) -> io::Result<()> {
    check_changeable(path)?;
    os::may_write(path)
}

/// Checks that the file system allows changes to the file or directory at `path`, apart from its permissions.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] if it is marked immutable or append-only.
pub fn check_changeable(path: &Path) -> io::Result<()> {
    match unmark_command(path) {
        Some(_) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is marked immutable or append-only",
        )),
        None => Ok(()),
    }
}

/// Checks that this user may set the permissions of the file at `path`. A missing file is fine.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] if it is marked or belongs to another user.
pub fn may_permit(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::metadata(path) else {
        return Ok(());
    };
    check_changeable(path)?;
    if os::is_own(&metadata) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "it belongs to another user",
    ))
}

/// The command, without the path, that removes the mark which [`check_changeable`] found on `path`; `None` if there is
/// no mark.
#[must_use]
pub fn unmark_command(path: &Path) -> Option<&'static str> {
    os::unmark_command(path)
}

/// Whether the file or directory at `path` is a mount point; no file can be renamed over one.
#[must_use]
pub fn is_mount_point(path: &Path) -> bool {
    os::is_mount_point(path)
}

/// The number of names (hard links) of the file with this `metadata`.
#[must_use]
pub fn name_count(metadata: &Metadata) -> u64 {
    os::name_count(metadata)
}

/// The user id of the owner of the file with this `metadata`; `None` on systems without user ids.
#[must_use]
pub fn owner(metadata: &Metadata) -> Option<u32> {
    os::owner(metadata)
}

/// The largest file that this process may write, in bytes; `None` without a limit.
#[must_use]
pub fn size_limit() -> Option<u64> {
    os::size_limit()
}

/// Whether `error` of the system means that a file would become too large. One that is too large to read has another error.
#[must_use]
pub fn is_limit_of_size(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge && error.raw_os_error().is_some()
}

/// Names the limit that such an error is about.
#[must_use]
pub fn size_limit_reached() -> String {
    match size_limit() {
        Some(limit) => format!("no file may have more than {} kB here (`ulimit -f`)", limit / 1000),
        None => "its file system takes no file of that size".to_owned(),
    }
}

/// The hint for such an error.
pub const RAISE_SIZE_LIMIT: &str =
    "raise the limit (`ulimit -f unlimited`; in a new shell, if this one may not), then run the command again there";

/// Who may read a newly created file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everyone whom the umask allows.
    Usual,
    /// Only its owner.
    Owner,
}

/// Writes `bytes` to `path` atomically: a reader finds either the old or the new content, even after a power cut.
/// Creates missing directories. An existing file keeps its permissions and, where possible, its owner. A new file is
/// readable for `readers`; if root creates it, it belongs to the owner of its directory. A symbolic link at `path` is
/// replaced; its target stays unchanged.
///
/// # Errors
/// When the directory cannot be written to, or another program holds the file open; the old content is then unchanged.
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

/// Puts a copy of `new` in place of `executable`, the program of this process with links followed; its permissions stay.
///
/// # Errors
/// When `new` cannot be read, or nothing can be written beside `executable`, which is unchanged then.
pub fn replace_own_program(executable: &Path, new: &Path) -> io::Result<()> {
    os::replace_own_program(executable, new)
}

/// Puts a copy of the program `from` in place of `to`, which may be running. Where a running program cannot be replaced,
/// it is moved to `old`, and stays there until the next time. Several processes can do this at the same time.
///
/// # Errors
/// When `from` cannot be read, or a file cannot be written or moved; `to` is unchanged then.
pub fn replace_program(from: &Path, to: &Path, old: &Path) -> io::Result<()> {
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut staged = tempfile::Builder::new()
        .prefix(leftover::PREFIX)
        .suffix(leftover::SUFFIX)
        .tempfile_in(dir.unwrap_or(Path::new(".")))?;
    leftover::mark(staged.as_file());
    io::copy(&mut open_regular(from)?, staged.as_file_mut())?;
    // Closed, because a program that is open to write cannot be run.
    let new = staged.into_temp_path();
    make_program(&new)?;
    os::replace_program(&new, to, old)
}

/// Makes root the owner of `dir`, not of its content. systemd gives a service's state directory with all its content to
/// the service's user, but only if the directory itself has another owner (`systemd.exec(5)`, `StateDirectory=`).
///
/// # Errors
/// When `dir` cannot be opened, or this process is not root's. On Windows nothing is done.
pub fn give_to_root(dir: &Path) -> io::Result<()> {
    os::give_to_root(dir)
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
