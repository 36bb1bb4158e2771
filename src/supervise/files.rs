//! Small files that come and go.

use std::fs;
use std::io;
use std::path::Path;

use crate::place;

/// The text in `path`, `None` when there is no such file.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    let bytes = place::read_if_present(path)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Removes `path` if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
