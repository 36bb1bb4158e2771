//! Moves a verified file to its place atomically.

use std::io;
use std::path::Path;

use gem_platform::file::{self, ReplaceError};

use super::error::Error;
use crate::place::parent;

/// Checks, before anything is downloaded, that a file can be put at `place`; creates the directories above it.
pub(super) fn prepare(place: &Path) -> Result<(), Error> {
    if place.is_dir() {
        return Err(Error::Occupied { path: place.to_owned() });
    }
    let directory = parent(place);
    std::fs::create_dir_all(directory).map_err(|e| Error::file("create the directory", directory, e, None))?;
    tempfile::NamedTempFile::new_in(directory)
        .map(drop)
        .map_err(|e| Error::file("write in the directory", directory, e, None))
}

/// Moves `staged`, which is on disk and flushed, to `place`, and replaces the old file in one step.
pub(super) fn put(staged: &Path, place: &Path) -> Result<(), Error> {
    match file::replace(staged, place) {
        Ok(()) => {}
        Err(ReplaceError::Move { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => {
            copy(staged, place)?;
            // The copy is in place; the next clean-up removes a leftover.
            let _ = std::fs::remove_file(staged);
        }
        Err(error) => return Err(Error::replace(error)),
    }
    // The file itself is already flushed; not all file systems can flush the rename too.
    let _ = file::sync_dir(parent(place));
    Ok(())
}

/// Copies `from` into the directory of `place`, then renames the copy.
fn copy(from: &Path, place: &Path) -> Result<(), Error> {
    let error = |e| Error::file("write", place, e, from.metadata().ok().map(|m| m.len()));
    let mut staged = tempfile::Builder::new()
        .prefix(".gem-setup-")
        .tempfile_in(parent(place))
        .map_err(error)?;
    file::open_regular(from)
        .and_then(|mut from| io::copy(&mut from, &mut staged))
        .and_then(|_| file::keep_access(from, staged.as_file()))
        .and_then(|()| staged.as_file().sync_all())
        .map_err(error)?;
    file::persist(staged, place).map_err(Error::replace)
}

/// Waits, with a limit, until the file at `place` is not in use and can be replaced.
pub(super) fn wait_until_free(place: &Path) -> Result<(), Error> {
    file::wait_until_free(place).map_err(Error::replace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_the_way_is_named_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let error = prepare(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&directory.path().display().to_string()), "{error}");
    }

    #[test]
    fn a_copy_replaces_what_was_there_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let (from, place) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::write(&from, "new").unwrap();
        std::fs::write(&place, "old").unwrap();
        copy(&from, &place).unwrap();
        assert_eq!(std::fs::read(&place).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
