//! Copies of the files that options name, so that what is installed runs without the medium they came from.

use std::path::Path;

use crate::error::{Failure, Kind};
use crate::place;

/// Whether `copy` says what `given` says.
pub(super) fn is_kept(given: &Path, copy: &Path) -> bool {
    match (std::fs::read(given), std::fs::read(copy)) {
        (Ok(given), Ok(copy)) => given == copy,
        _ => false,
    }
}

/// Makes `copy` say what `given` says.
///
/// # Errors
/// When `given` cannot be read or `copy` cannot be written.
pub(super) fn keep(given: &Path, copy: &Path) -> Result<(), Failure> {
    if given == copy || is_kept(given, copy) {
        return Ok(());
    }
    let failed = |error: std::io::Error| {
        let message = format!("cannot copy `{}` to `{}`: {error}", given.display(), copy.display());
        Failure::new(Kind::Unexpected, message).with_hint(
            "check that the file can be read, and that the directory is yours and has room, then run the command again",
        )
    };
    let bytes = std::fs::read(given).map_err(failed)?;
    place::write_atomic(copy, &bytes).map_err(failed)
}
