//! Atomic writes: a reader sees the old bytes or the new ones, never a part.
//!
//! ```
//! use gem_setup::place::write_atomic;
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("state.json");
//! write_atomic(&path, b"{}")?;
//! write_atomic(&path, br#"{"port":9379}"#)?;
//! assert_eq!(std::fs::read(&path)?, br#"{"port":9379}"#);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gem_platform::file::{Readers, ReplaceError, write_atomic as write_atomic_at};

/// How many symbolic links lead to a file at most; the limit Linux has.
const MAX_LINKS: usize = 40;

/// Writes `bytes` as the file `path`, creating its directory if need be.
///
/// The bytes go to a temporary file beside the real file and are renamed over it once they are on the disk. A file that is
/// there keeps its permissions and, where possible, its owner; a symbolic link stays and the file it leads to is
/// replaced. A new file gets the permissions the process gives to any file.
///
/// # Errors
/// When the file is a directory or marked read-only, and when the disk or the directory takes no file; the old bytes
/// are then still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_for(Readers::Usual, path, bytes)
}

/// As [`write_atomic`], but only its owner may read a new file.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_for(Readers::Owner, path, bytes)
}

fn write_for(readers: Readers, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = resolve(path)?;
    match fs::metadata(&target) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
        }
        Ok(metadata) if metadata.permissions().readonly() => {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is read-only"));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(_) | Err(_) => {}
    }
    write_atomic_at(&target, bytes, readers).map_err(|error| match error {
        // Whoever asked names the file.
        ReplaceError::Write { source, .. } => source,
        error => error.into(),
    })
}

/// Writes `bytes` as a new file `path` with the access rights of the file `model`.
///
/// # Errors
/// `AlreadyExists` when there is such a file; when the disk or the directory takes no file, nothing is left behind.
pub fn write_new_like(model: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    gem_platform::keep_access(model, &file)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .inspect_err(|_| drop(fs::remove_file(path)))
}

/// The file that `path` stands for once all symbolic links are followed; it need not exist.
///
/// # Errors
/// When the links go round in a circle or a directory on the way cannot be read.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                let link = fs::read_link(&path)?;
                path = parent(&path).join(link);
            }
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// The directory of `path`; the current one for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_and_its_directories_are_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(path.parent().unwrap()), ["file"], "no temporary file stays");
    }

    #[test]
    fn a_new_file_has_the_permissions_of_any_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        let path = dir.path().join("file");
        write_atomic(&path, b"new").unwrap();
        let permissions = |path: &Path| fs::metadata(path).unwrap().permissions();
        assert_eq!(permissions(&path), permissions(&plain));
    }

    #[test]
    fn a_directory_in_place_of_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::create_dir(&path).unwrap();
        let error = write_atomic(&path, b"new").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_read_only_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        let error = write_atomic(&path, b"new").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_file_where_the_directory_should_be_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        assert!(write_atomic(&dir.path().join("a/file"), b"new").is_err());
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn a_copy_never_replaces_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let error = write_new_like(&path, &path, b"new").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
