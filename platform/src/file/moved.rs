//! Whether a file or directory can be moved, replaced or deleted under its name, as far as that is visible.

use std::fs::Metadata;
use std::io;
use std::path::Path;

use super::{check_changeable, check_directory, check_regular, is_absence, is_mount_point, os};

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
