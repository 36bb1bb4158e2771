//! Size and time of a file, which identify its state without reading it; of a program also the file itself.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use gem_platform::file;
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
}

/// The stamp of a program, and which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramStamp {
    #[serde(flatten)]
    stamp: Stamp,
    /// Identifies the file to which links lead. Older records do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<u64>,
}

impl ProgramStamp {
    /// The current stamp of the program at `path`; `None` if the file is missing.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        Some(Self {
            stamp: Stamp::of(path)?,
            file: file::identity(&fs::canonicalize(path).ok()?),
        })
    }

    /// Whether both are one program. A new time alone (`touch`) makes no other one.
    #[must_use]
    pub fn is_same(self, other: Self) -> bool {
        self.stamp.length == other.stamp.length && (self.is_of_one_time(other) || self.is_one_file(other))
    }

    /// Whether both are one program, or both are missing.
    #[must_use]
    pub fn are_same(one: Option<Self>, other: Option<Self>) -> bool {
        match (one, other) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// Whether `now`, at the path of this program, is another program. A file with the same time is this one, a copy of it,
    /// or a damaged copy.
    #[must_use]
    pub fn is_replaced_by(self, now: Self) -> bool {
        !self.is_of_one_time(now) && !self.is_same(now)
    }

    const fn is_of_one_time(self, other: Self) -> bool {
        self.stamp.modified == other.stamp.modified
    }

    fn is_one_file(self, other: Self) -> bool {
        self.file.is_some() && self.file == other.file
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Gives the file at `path` another time of writing.
    fn touch(path: &Path) {
        let file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn a_program_is_replaced_by_another_file_and_not_by_a_touch() {
        let program = |length, modified, file| ProgramStamp {
            stamp: Stamp { length, modified },
            file: Some(file),
        };
        let before = program(3, 100, 1);
        let touched = program(3, 160, 1);
        assert!(before.is_same(touched) && !before.is_replaced_by(touched));
        let renamed = program(3, 160, 2);
        assert!(!before.is_same(renamed) && before.is_replaced_by(renamed));
        let rewritten = program(4, 160, 1);
        assert!(!before.is_same(rewritten) && before.is_replaced_by(rewritten));
    }

    #[test]
    fn a_record_without_the_file_goes_by_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("lit");
        fs::write(&program, "one").unwrap();
        let now = ProgramStamp::of(&program).unwrap();
        let text = serde_json::to_string(&now.stamp).unwrap();
        let old: ProgramStamp = serde_json::from_str(&text).unwrap();
        assert!(old.is_same(now) && !old.is_replaced_by(now));
        touch(&program);
        assert!(old.is_replaced_by(ProgramStamp::of(&program).unwrap()));
        let text = serde_json::to_string(&now).unwrap();
        assert_eq!(serde_json::from_str::<ProgramStamp>(&text).unwrap(), now);
        assert_eq!(
            serde_json::from_str::<Stamp>(&text).unwrap(),
            now.stamp,
            "an older version reads it"
        );
    }
}
