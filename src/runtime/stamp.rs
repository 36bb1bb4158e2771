//! Size, time and inode of a file: they identify its state without reading it.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The stamp of a file. Stamps are only compared for equality, because the clock may have been set between two writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    length: u64,
    /// The time of the last write, in nanoseconds since 1970.
    modified: u64,
}

impl Stamp {
    /// The current stamp of the file at `path`; `None` if the file is missing.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let since = metadata.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH);
        Some(Self {
            length: metadata.len(),
            modified: since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        })
    }

    /// Whether both files have the same time of writing. One of them is then the other file, a copy of it, or a damaged
    /// copy.
    #[must_use]
    pub const fn is_of_one_time(self, other: Self) -> bool {
        self.modified == other.modified
    }
}
