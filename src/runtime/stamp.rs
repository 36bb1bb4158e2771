//! Size, time and inode: they identify a state of a file without reading it.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The length of a file and the time written with it. Only equality means anything: the clock may have been set between two
/// writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    length: u64,
    /// In nanoseconds since 1970.
    modified: u64,
}

impl Stamp {
    /// The present stamp of the file at `path`; `None` when it is not there.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let since = metadata.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH);
        Some(Self {
            length: metadata.len(),
            modified: since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        })
    }

    /// Whether both files were written at one time: one of them is then the other, or a copy, or a damaged one.
    #[must_use]
    pub const fn is_of_one_time(self, other: Self) -> bool {
        self.modified == other.modified
    }
}
