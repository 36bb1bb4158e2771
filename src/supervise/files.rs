//! Small files of the server: pid file and server file.

use std::io;
use std::path::Path;

use gem_platform::process::check_view;

use crate::place;

/// The text in `path`; `None` if there is no such file.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    let bytes = place::read_if_present(path).map_err(|error| place::at(path, &error))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The hint if no process can be seen.
pub const MOUNT_PROC: &str = "as root, run `mount -t proc proc /proc`";

/// The hint for a file of the server that could not be read because of `error`, which names it.
#[must_use]
pub fn remedy(error: &io::Error) -> String {
    if check_view().is_err() {
        return MOUNT_PROC.to_owned();
    }
    match place::path_of(error) {
        Some(path) => place::remedy(path, error),
        None => "check that the directory belongs to you and is readable".to_owned(),
    }
}

/// Removes `path` if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    place::remove(path).map_err(|error| place::at(path, &error))
}

/// Removes `path` if it is a file. Anything else at this path does not matter to a server that ends.
pub(super) fn remove_if_file(path: &Path) -> io::Result<()> {
    match remove(path) {
        Err(error) if place::is_misplaced(&error) => Ok(()),
        result => result,
    }
}
