//! A partial download on disk: the bytes, and beside them what must be known to go on.
//!
//! `downloads/<sha256>.part` holds the bytes, `<sha256>.json` the rest, `<sha256>.lock` keeps other processes out. All three
//! are keyed by the hash that the whole must have.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::ranges::RangeSet;
use crate::catalog::Sha256;

/// Partial downloads that nobody touched for so long are removed.
const OLDEST: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const LOCK_POLL: Duration = Duration::from_millis(50);
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// What names one version of a file on a server, strongly (RFC 9110 section 8.8): the value for `If-Range`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Validator {
    /// A strong entity tag, quotes included.
    Etag(String),
    /// A modification date that lies safely before the answer that gave it.
    LastModified(String),
}

impl Validator {
    pub(super) fn if_range(&self) -> &str {
        match self {
            Self::Etag(value) | Self::LastModified(value) => value,
        }
    }
}

/// What the server said of the file that the partial download holds a part of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Which version of the file it is; without one the partial download cannot be resumed.
    pub(super) validator: Option<Validator>,
    /// The whole file's length in bytes, if it was told.
    pub(super) length: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    #[serde(flatten)]
    identity: Identity,
    /// The bytes that are in place; absent while they are simply all that the file holds, so that a download
    /// which arrives in order need not keep books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished: Option<Vec<(u64, u64)>>,
}

/// The three files of one partial download, locked.
#[derive(Clone, Debug)]
pub(super) struct Partial {
    data: PathBuf,
    sidecar: PathBuf,
    _lock: Arc<File>,
}

impl Partial {
    /// Opens the partial download of what hashes to `sha256`, waiting a little for another process to let go of it.
    pub(super) async fn open(downloads: &Path, sha256: &Sha256) -> Result<Self, Error> {
        std::fs::create_dir_all(downloads).map_err(|e| Error::file("create the directory", downloads, e, None))?;
        remove_old(downloads, SystemTime::now());
        let path = downloads.join(format!("{sha256}.lock"));
        let lock = File::create(&path).map_err(|e| Error::file("create the lock", &path, e, None))?;
        let give_up = tokio::time::Instant::now() + LOCK_LIMIT;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < give_up => {
                    tokio::time::sleep(LOCK_POLL).await;
                }
                Err(TryLockError::WouldBlock) => return Err(Error::Busy { path }),
                Err(TryLockError::Error(e)) => return Err(Error::file("lock", &path, e, None)),
            }
        }
        Ok(Self {
            data: downloads.join(format!("{sha256}.part")),
            sidecar: downloads.join(format!("{sha256}.json")),
            _lock: Arc::new(lock),
        })
    }

    /// The file that holds the bytes.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// What is there: nothing unless the books and the bytes agree.
    pub(super) fn contents(&self) -> (Identity, RangeSet) {
        self.read().unwrap_or_default()
    }

    fn read(&self) -> Option<(Identity, RangeSet)> {
        let length = std::fs::metadata(&self.data).ok()?.len();
        let sidecar: Sidecar = serde_json::from_slice(&std::fs::read(&self.sidecar).ok()?).ok()?;
        let finished: RangeSet = match sidecar.finished {
            None => std::iter::once(0..length).collect(),
            Some(ranges) => ranges.into_iter().map(|(start, end)| start..end).collect(),
        };
        let limit = sidecar.identity.length.unwrap_or(u64::MAX).min(length);
        (finished.end() <= limit).then_some((sidecar.identity, finished))
    }

    /// Opens the bytes for writing, and a second time for reading; `keep` says whether those that are there stay.
    pub(super) fn files(&self, keep: bool) -> Result<(File, File), Error> {
        let write = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(!keep)
            .open(&self.data)
            .map_err(|e| Error::file("write", &self.data, e, None))?;
        let read = File::open(&self.data).map_err(|e| Error::file("read", &self.data, e, None))?;
        Ok((write, read))
    }

    /// Writes the books: atomically, so that a crash leaves the old ones or the new ones.
    pub(super) fn record(&self, identity: &Identity, finished: Option<&[Range<u64>]>) -> Result<(), Error> {
        let sidecar = Sidecar {
            identity: identity.clone(),
            finished: finished.map(|ranges| ranges.iter().map(|r| (r.start, r.end)).collect()),
        };
        let temporary = self.sidecar.with_extension("json.new");
        serde_json::to_vec(&sidecar)
            .map_err(io::Error::from)
            .and_then(|text| std::fs::write(&temporary, text))
            .and_then(|()| Ok(gem_platform::file::replace(&temporary, &self.sidecar)?))
            .map_err(|e| Error::file("write", &self.sidecar, e, None))
    }

    /// Forgets what is there: without books the bytes count for nothing.
    pub(super) fn forget(&self) -> Result<(), Error> {
        remove(&self.sidecar)
    }

    /// Removes books and bytes. The lock file stays: a process that waits for it must find the same one.
    pub(super) fn discard(&self) -> Result<(), Error> {
        self.forget()?;
        remove(&self.data)
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path, e, None)),
        _ => Ok(()),
    }
}

/// Removes files in `downloads` that were last written more than two weeks before `now`. A partial download that
/// somebody works on has been written to since.
fn remove_old(downloads: &Path, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(downloads) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry
            .path()
            .extension()
            .is_some_and(|extension| ["part", "json", "lock", "new"].iter().any(|ours| extension == *ours));
        let is_old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > OLDEST));
        if is_ours && is_old {
            // A file that cannot be removed now can be removed next time.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Sha256 {
        Sha256::from_bytes([7; 32])
    }

    fn identity(length: u64) -> Identity {
        Identity {
            validator: Some(Validator::Etag("\"a\"".into())),
            length: Some(length),
        }
    }

    #[tokio::test]
    async fn what_was_recorded_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let partial = Partial::open(directory.path(), &digest()).await.unwrap();
        assert_eq!(partial.contents(), (Identity::default(), RangeSet::default()));
        std::fs::write(partial.data(), [0; 100]).unwrap();
        partial.record(&identity(500), None).unwrap();
        assert_eq!(partial.contents(), (identity(500), std::iter::once(0..100).collect()));
        partial.record(&identity(500), Some(&[0..10, 50..60])).unwrap();
        assert_eq!(partial.contents().1, [0..10, 50..60].into_iter().collect());
    }

    #[tokio::test]
    async fn books_that_claim_more_than_is_there_are_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let partial = Partial::open(directory.path(), &digest()).await.unwrap();
        std::fs::write(partial.data(), [0; 100]).unwrap();
        for (length, ranges) in [(500, Some(&[0..10, 20..101][..])), (99, None)] {
            partial.record(&identity(length), ranges).unwrap();
            assert_eq!(partial.contents().1, RangeSet::default());
        }
        std::fs::write(directory.path().join(format!("{}.json", digest())), "{").unwrap();
        assert_eq!(partial.contents().1, RangeSet::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_download_of_the_same_file_waits_and_then_names_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let first = Partial::open(directory.path(), &digest()).await.unwrap();
        let error = Partial::open(directory.path(), &digest()).await.unwrap_err();
        assert!(matches!(&error, Error::Busy { path } if path.ends_with(format!("{}.lock", digest()))));
        drop(first);
        Partial::open(directory.path(), &digest()).await.unwrap();
    }

    #[tokio::test]
    async fn old_partial_downloads_are_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        for (name, days) in [("a.part", 15), ("a.json", 15), ("b.part", 13), ("notes.txt", 15)] {
            let file = File::create(directory.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60))
                .unwrap();
        }
        remove_old(directory.path(), SystemTime::now());
        let mut left: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["b.part", "notes.txt"]);
    }
}
