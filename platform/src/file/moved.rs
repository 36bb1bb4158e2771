//! Whether a file or directory can be moved, replaced or deleted under its name, as far as that is visible.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

use super::leftover::PREFIX;
use super::{check_changeable, check_directory, check_regular, is_absence, is_mount_point, keep_access, os};

/// Checks that a file can be moved over `path`: nothing is there, or a regular file or a symbolic link that may go.
///
/// # Errors
/// Like [`check_regular`] and [`check_renamable`].
pub fn check_replaceable(path: &Path) -> io::Result<()> {
    let Some(metadata) = found(path)? else {
        return Ok(());
    };
    if !metadata.is_symlink() {
        check_regular(metadata.file_type())?;
    }
    check_renamable(path)
}

/// Checks that the directory `path`, if it exists, can be moved away.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a symbolic link; like [`check_directory`] and [`check_renamable`].
pub fn check_movable(path: &Path) -> io::Result<()> {
    let Some(metadata) = found(path)? else {
        return Ok(());
    };
    if metadata.is_symlink() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link"));
    }
    check_directory(metadata.file_type())?;
    check_renamable(path)
}

/// Checks that the name `path`, if it exists, can be given to another file or removed. Its directory is not checked.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] for a mark, or if it is another user's in a sticky directory;
/// [`io::ErrorKind::ResourceBusy`] for a mount point.
pub fn check_renamable(path: &Path) -> io::Result<()> {
    let Some(metadata) = found(path)? else {
        return Ok(());
    };
    os::check_sticky(path, &metadata)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    check_changeable(path)?;
    if is_mount_point(path) {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it is a mount point"));
    }
    Ok(())
}

/// Moves the directory `from` to the path `to`, where nothing is. An overlay does not move a directory of its lower layer; the
/// directory is then copied, and deleted once the copy is complete.
///
/// # Errors
/// When a file cannot be read, written or moved.
pub fn move_directory(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy_whole(from, to)?,
        done => return done,
    }
    std::fs::remove_dir_all(from)
}

/// Copies the directory `from` to `to`, where it appears only when it is complete.
fn copy_whole(from: &Path, to: &Path) -> io::Result<()> {
    let beside = to.parent().unwrap_or(to);
    let staged = tempfile::Builder::new().prefix(PREFIX).tempdir_in(beside)?;
    let copy = staged.path().join("copy");
    copy_directory(from, &copy)?;
    std::fs::rename(&copy, to)
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, path, copy) = (entry.file_type()?, entry.path(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_directory(&path, &copy)?;
        } else if kind.is_symlink() {
            os::symlink(&std::fs::read_link(&path)?, &copy)?;
        } else {
            check_regular(kind)?;
            std::fs::copy(&path, &copy)?;
            let copied = File::open(&copy)?;
            keep_access(&path, &copied)?;
            copied.sync_all()?;
        }
    }
    // Last, because the directory may be read-only.
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())
}

fn found(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_copied_directory_keeps_links_and_modes() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("bin")).unwrap();
        std::fs::write(from.join("bin/program"), "x").unwrap();
        std::fs::set_permissions(from.join("bin/program"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("program", from.join("bin/link")).unwrap();
        copy_whole(&from, &to).unwrap();
        let program = std::fs::metadata(to.join("bin/link")).unwrap();
        assert_eq!(program.permissions().mode() & 0o777, 0o755);
        assert!(to.join("bin/link").is_symlink());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        move_directory(&to, &dir.path().join("moved")).unwrap();
        assert!(!to.exists());
    }

    #[test]
    fn only_files_and_links_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        std::os::unix::fs::symlink(at("directory"), at("link")).unwrap();
        std::os::unix::fs::symlink("/nowhere", at("dangling")).unwrap();
        for (name, is_replaceable, is_movable) in [
            ("missing", true, true),
            ("file", true, false),
            ("directory", false, true),
            ("link", true, false),
            ("dangling", true, false),
        ] {
            assert_eq!(check_replaceable(&at(name)).is_ok(), is_replaceable, "{name}");
            assert_eq!(check_movable(&at(name)).is_ok(), is_movable, "{name}");
        }
    }
}
