//! A download's limit on the disk.

use std::io;
use std::path::Path;

use gem_platform::probe::{available_space, total_space};

use super::error::Error;

/// The longest file without a size in the catalog: a server could send bytes without end.
const LONGEST: u64 = 8 << 30;
/// The bytes that a download leaves free for other programs; on a small disk, only a part of it.
const KEPT_FREE: u64 = 64 << 20;
const KEPT_FREE_PART: u64 = 16;

pub(super) struct Limits {
    /// The longest file, in bytes.
    longest: u64,
    kept_free: u64,
}

impl Limits {
    /// For a file of `size` bytes (0 = unknown) that is downloaded to `path`.
    pub(super) fn new(path: &Path, size: u64) -> Self {
        Self {
            longest: if size > 0 { size } else { LONGEST },
            kept_free: total_space(path).map_or(0, |disk| KEPT_FREE.min(disk / KEPT_FREE_PART)),
        }
    }

    /// Whether the file at `path` may grow by `more` bytes to `length` in all; `missing` is the number of bytes still to come, if known.
    ///
    /// # Errors
    /// When it would be too long, or the disk too full.
    pub(super) fn check(&self, path: &Path, length: u64, more: u64, missing: Option<u64>) -> Result<(), Error> {
        if length > self.longest {
            let (path, longest) = (path.to_owned(), self.longest);
            return Err(Error::TooLong { path, longest });
        }
        match available_space(path) {
            Ok(free) if free < more.saturating_add(self.kept_free) => {
                Err(Error::file("write", path, io::ErrorKind::StorageFull.into(), missing))
            }
            // If the system does not report the free space, the write itself will fail.
            _ => Ok(()),
        }
    }
}
