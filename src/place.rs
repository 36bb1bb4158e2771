//! Reads and writes regular files as a whole. A reader sees the old bytes or the new ones, never a mixture.
//!
//! ```
//! use gem_setup::place::write_atomic;
//!
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("state.json");
//! write_atomic(&path, b"{}")?;
//! write_atomic(&path, br#"{"port":9379}"#)?;
//! assert_eq!(std::fs::read(&path)?, br#"{"port":9379}"#);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gem_platform::Os;
pub use gem_platform::file::read_bounded;
use gem_platform::file::{self, Readers, ReplaceError};
use same_file::Handle;

use crate::shell;

/// The maximum number of symbolic links to follow, the same as Linux's limit.
const MAX_LINKS: usize = 40;

/// Reads the regular file that `path` leads to, up to [`file::LARGEST_FILE`] bytes. Never waits for the writer of a
/// pipe.
///
/// # Errors
/// When the file is not a regular file, cannot be read, or is larger.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    file::read_regular(path)
}

/// Reads at most `limit` bytes from the file or pipe `path`, such as the shell's `<(…)`.
///
/// # Errors
/// When it cannot be read or is larger, or no program writes into the pipe.
pub fn read_given(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_bounded(file::open_given(path)?, limit)
}

/// Like [`read`]; `None` if there is no such file, or if a part of its path is not a directory.
///
/// # Errors
/// Like [`read`].
pub fn read_if_present(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if file::is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the regular file that `path` leads to, to compare it with others. Unlike [`Handle::from_path`], never waits for
/// the writer of a pipe.
///
/// # Errors
/// When the file is not a regular file or cannot be opened.
pub fn handle(path: &Path) -> io::Result<Handle> {
    Handle::from_file(file::open_regular(path)?)
}

/// Whether both paths lead to one regular file, also by hard links.
///
/// # Errors
/// Like [`handle`].
pub fn is_one_file(one: &Path, other: &Path) -> io::Result<bool> {
    Ok(handle(one)? == handle(other)?)
}

/// Whether `error` means that something other than a regular file of ours is at the path.
#[must_use]
pub fn is_misplaced(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput)
}

/// The hint for the file `path`, which could not be read because of `error`.
#[must_use]
pub fn remedy(path: &Path, error: &io::Error) -> String {
    if let Some(directory) = closed_directory(path).filter(|_| error.kind() == io::ErrorKind::PermissionDenied) {
        return format!("{}, then run the command again", opening(directory));
    }
    let is_foreign_here = is_foreign(path) && !is_foreign(parent(path));
    let path = file::circle(path).unwrap_or(path);
    let word = shell::word(Os::Linux, path.as_os_str());
    let path = path.display();
    let first = match error.kind() {
        io::ErrorKind::PermissionDenied if is_foreign_here => {
            format!("make `{path}` yours, which belongs to another user (`sudo chown \"$(id -un)\" {word}`)")
        }
        io::ErrorKind::PermissionDenied => format!("make `{path}` readable for this user"),
        io::ErrorKind::InvalidData => format!("save `{path}` as UTF-8"),
        io::ErrorKind::FileTooLarge => format!("make `{path}` smaller or move it somewhere else"),
        _ if file::is_absence(error) => format!("check that `{path}` exists"),
        _ if is_misplaced(error) => format!("move `{path}` somewhere else"),
        _ => format!("check the disk that holds `{path}`"),
    };
    format!("{first}, then run the command again")
}

/// The directory above `path` that hides its content from this user.
fn closed_directory(path: &Path) -> Option<&Path> {
    let is_denied = |path: &Path| {
        let seen = fs::symlink_metadata(path);
        seen.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    let hidden = path.ancestors().take_while(|path| is_denied(path)).last()?;
    hidden.parent()
}

/// How to open the closed `directory`.
fn opening(directory: &Path) -> String {
    let word = shell::word(Os::Linux, directory.as_os_str());
    if is_foreign(directory) {
        format!("make the directory yours, which belongs to another user (`sudo chown -R \"$(id -un)\" {word}`)")
    } else {
        format!("open the directory for yourself (`chmod u+rwx {word}`)")
    }
}

/// Whether the file or directory `path` belongs to another user.
fn is_foreign(path: &Path) -> bool {
    let owner = fs::metadata(path).ok().and_then(|metadata| file::owner(&metadata));
    owner.is_some_and(|owner| owner != gem_platform::service::user_id())
}

/// Adds the path to the text of `error`, which occurred at `path` or at the link above it that leads in a circle.
#[must_use]
pub fn at(path: &Path, error: &io::Error) -> io::Error {
    let Unfit { path, source } = Unfit::new(path, io::Error::new(error.kind(), error.to_string()));
    let text = source.to_string();
    io::Error::new(error.kind(), At { path, text })
}

/// The path that [`at`] has added to `error`.
#[must_use]
pub fn path_of(error: &io::Error) -> Option<&Path> {
    let at: &At = error.get_ref()?.downcast_ref()?;
    Some(&at.path)
}

#[derive(Debug, thiserror::Error)]
#[error("`{}`: {text}", path.display())]
struct At {
    path: PathBuf,
    text: String,
}

/// Like [`read`], for a text file.
///
/// # Errors
/// Like [`read`], and when the file is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    text(read(path)?)
}

/// `bytes` as text.
///
/// # Errors
/// When they are not UTF-8.
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    let unusable = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    if let Some(encoding) = other_encoding(&bytes) {
        return Err(unusable(format!("it is {encoding}, but must be UTF-8")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        unusable(format!("line {line} has a byte that is not UTF-8"))
    })
}

/// The name of the encoding other than UTF-8 that editors of Windows write, if `bytes` show it: by a mark, or by the zeros in
/// plain text.
#[must_use]
pub fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [a, 0, b, 0, ..] | [0, a, 0, b, ..] if *a > 0 && *b > 0 => Some("UTF-16"),
        _ => None,
    }
}

/// Writes `bytes` to the file `path`; creates its directory if missing.
///
/// The bytes go to a temporary file next to the real file; once they are on the disk, the temporary file is renamed. An
/// existing file keeps its permissions and, where possible, its owner. A symbolic link stays, and the file that it
/// leads to is replaced. A file over which no file can be renamed, such as a mounted file, is written in place. A new
/// file gets the usual permissions.
///
/// # Errors
/// Like [`check`], and when the disk is full; the old bytes are then kept.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_for(path, bytes, Readers::Usual, Names::Separate)
}

/// Like [`write_own`], but only the owner can read a new file.
///
/// # Errors
/// Like [`write_atomic`].
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_for(path, bytes, Readers::Owner, Names::Own)
}

/// Like [`write_atomic`], for a file of the user. If it has other names (hard links), it is written in place, so that
/// they still lead to it.
///
/// # Errors
/// Like [`write_atomic`].
pub fn write_shared(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_for(path, bytes, Readers::Usual, Names::Kept)
}

/// Like [`write_atomic`], for gem-setup's own file. A link at `path` is replaced, and its target stays unchanged.
///
/// # Errors
/// Like [`write_atomic`].
pub fn write_own(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_for(path, bytes, Readers::Usual, Names::Own)
}

/// What happens to the other names of a file: symbolic links and hard links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// All names lead to the new content.
    Kept,
    /// Hard links keep the old content.
    Separate,
    /// All other names keep the old content.
    Own,
}

/// How a file gets its new content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Replace,
    InPlace,
}

fn write_for(path: &Path, bytes: &[u8], readers: Readers, names: Names) -> io::Result<()> {
    let is_replaced = names == Names::Own && is_link(path);
    let target = if is_replaced { path.to_owned() } else { resolve(path)? };
    if !is_replaced && way(&target, names)? == Way::InPlace {
        if names == Names::Own {
            file::check_own(&target)?;
        }
        return file::rewrite(&target, bytes);
    }
    match file::write_atomic(&target, bytes, readers) {
        Ok(()) => Ok(()),
        // The caller adds the path.
        Err(ReplaceError::Write { source, .. }) => Err(source),
        Err(ReplaceError::Move { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => {
            file::rewrite(&target, bytes)
        }
        Err(error) => Err(error.into()),
    }
}

/// A file or directory that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {source}", path.display())]
pub struct Unfit {
    /// The path.
    pub path: PathBuf,
    /// The reason.
    pub source: io::Error,
}

impl Unfit {
    /// `path`, or the link above it that leads in a circle, cannot be used because of `source`.
    #[must_use]
    pub fn new(path: &Path, source: io::Error) -> Self {
        let (path, source) = match file::circle(path) {
            Some(link) => (link, file::metadata(link).err().unwrap_or(source)),
            None => (path, source),
        };
        Self {
            path: path.to_owned(),
            source,
        }
    }
}

/// Checks whether the file `path` can be read and written, as far as that is visible without writing. A missing file
/// can be written if its directory, or the nearest existing one, can be written.
///
/// # Errors
/// When the file is not a regular file, cannot be read or is marked read-only, or when neither it nor its directory may
/// be written.
pub fn check(path: &Path) -> Result<(), Unfit> {
    check_for(path, Names::Separate)
}

/// Like [`check`], for [`write_shared`].
///
/// # Errors
/// Like [`check`].
pub fn check_shared(path: &Path) -> Result<(), Unfit> {
    check_for(path, Names::Kept)
}

/// Like [`check`], for [`write_own`] and [`write_private`].
///
/// # Errors
/// Like [`check`].
pub fn check_own(path: &Path) -> Result<(), Unfit> {
    if !is_link(path) {
        return check_for(path, Names::Own);
    }
    // It is read before it is replaced.
    match read_if_present(path) {
        Ok(_) => check_replaceable(path),
        Err(error) => Err(Unfit::new(path, error)),
    }
}

/// Checks whether a finished file can be moved over `path`.
///
/// # Errors
/// When `path` exists and is neither a file nor a link, when it may not be replaced, or its directory may not be written.
pub fn check_replaceable(path: &Path) -> Result<(), Unfit> {
    file::check_replaceable(path).map_err(|source| Unfit::new(path, source))?;
    check_directory(parent(path))
}

/// Checks whether the directory `path`, if it exists, can be moved away, and files in it be deleted.
///
/// # Errors
/// When `path` exists and is no directory, when it may not be moved, or when it or its directory may not be written.
pub fn check_movable(path: &Path) -> Result<(), Unfit> {
    file::check_movable(path).map_err(|source| Unfit::new(path, source))?;
    check_directory(parent(path))?;
    check_directory(path)
}

fn check_for(path: &Path, names: Names) -> Result<(), Unfit> {
    let unfit = |source| Unfit::new(path, source);
    let target = resolve(path).map_err(unfit)?;
    let way = way(&target, names).map_err(unfit)?;
    if way == Way::InPlace && names == Names::Own {
        file::check_own(&target).map_err(unfit)?;
    }
    match file::open_when_free(&target) {
        Err(error) if way == Way::Replace && file::is_absence(&error) => check_directory(parent(&target)),
        opened => {
            let length = opened.and_then(|file| file.metadata()).map_err(unfit)?.len();
            file::check_length(length).map_err(unfit)
        }
    }
}

/// Checks whether the file `path` can be opened to write, or created.
///
/// # Errors
/// When it may not be written, or is missing and cannot be created.
pub fn check_open(path: &Path) -> Result<(), Unfit> {
    match file::may_write(path) {
        Ok(()) => Ok(()),
        Err(error) if file::is_absence(&error) => check_directory(parent(path)),
        Err(error) => Err(Unfit::new(path, error)),
    }
}

/// Checks whether the file that `path` leads to can be deleted.
///
/// # Errors
/// When its directory may not be written, or it is marked immutable.
pub fn check_deletable(path: &Path) -> Result<(), Unfit> {
    let unfit = |source| Unfit::new(path, source);
    let target = resolve(path).map_err(unfit)?;
    if file::is_mount_point(&target) {
        return check_shared(path);
    }
    file::check_renamable(&target).map_err(unfit)?;
    check_directory(parent(&target))
}

/// Checks whether new files can be created in the directory `path`, or whether it can be created.
///
/// # Errors
/// When something other than a directory is at `path` or in its path, or the directory may not be written.
pub fn check_directory(path: &Path) -> Result<(), Unfit> {
    let found = match file::metadata(path) {
        Ok(metadata) if metadata.is_dir() => file::may_write(path),
        Ok(metadata) => file::check_directory(metadata.file_type()),
        Err(error) if is_link(path) && error.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), "it is a link to a missing file"))
        }
        // A part of the path is missing or is not a directory.
        Err(error) if file::is_absence(&error) => return check_directory(parent(path)),
        Err(error) => Err(error),
    };
    found.map_err(|source| Unfit::new(path, source))
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// How to write the file `target`, which is not a symbolic link.
fn way(target: &Path, names: Names) -> io::Result<Way> {
    let metadata = match file::metadata(target) {
        Ok(metadata) => metadata,
        // The caller then checks the directory.
        Err(error) if file::is_absence(&error) => return Ok(Way::Replace),
        Err(error) => return Err(error),
    };
    file::check_regular(metadata.file_type())?;
    if metadata.permissions().readonly() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is read-only"));
    }
    file::check_changeable(target)?;
    let has_other_names = names == Names::Kept && file::name_count(&metadata) > 1;
    let may_go = || file::check_renamable(target).and_then(|()| file::may_write(parent(target)));
    let is_replaceable = !has_other_names && may_go().is_ok();
    if is_replaceable {
        return Ok(Way::Replace);
    }
    file::may_write(target).map(|()| Way::InPlace)
}

/// Writes `bytes` to a new file `path` with the access rights of the file `model`.
///
/// # Errors
/// `AlreadyExists` when the file exists. When the file cannot be written, nothing is left behind.
pub fn write_new_like(model: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file::keep_access(model, &file)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .inspect_err(|_| drop(fs::remove_file(path)))
}

/// Creates the file `path` in place of a regular file or a symbolic link there; never writes through a link.
///
/// # Errors
/// Like [`remove`], and when the file cannot be created.
pub fn create_afresh(path: &Path) -> io::Result<fs::File> {
    remove(path)?;
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Copies the file `from`, with its permissions, to a new file `to`, like [`create_afresh`].
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_afresh(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = file::open_regular(from)?;
    let mut copy = create_afresh(to)?;
    io::copy(&mut source, &mut copy)?;
    copy.set_permissions(source.metadata()?.permissions())
}

/// Deletes the regular file or the symbolic link `path`, if it exists.
///
/// # Errors
/// When it is anything else, or the system refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {}
        Ok(metadata) => file::check_regular(metadata.file_type())?,
        Err(error) if file::is_absence(&error) => return Ok(()),
        Err(error) => return Err(error),
    }
    match fs::remove_file(path) {
        Err(error) if file::is_absence(&error) => Ok(()),
        result => result,
    }
}

/// Deletes the temporary files that killed processes left in the directory of the file `path`.
pub fn sweep_beside(path: &Path) {
    if let Ok(target) = resolve(path) {
        // A leftover file only uses disk space.
        let _ = file::sweep(parent(&target));
    }
}

/// The file that `path` leads to after all symbolic links; it may be missing.
///
/// # Errors
/// When the links form a circle or a directory in the path cannot be read.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                let link = fs::read_link(&path)?;
                path = parent(&path).join(link);
            }
            Ok(_) => return Ok(path),
            Err(error) if file::is_absence(&error) => return Ok(path),
            Err(error) => return Err(file::metadata(&path).err().unwrap_or(error)),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is a link that leads in a circle",
    ))
}

/// The directory of `path`; the current directory for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
