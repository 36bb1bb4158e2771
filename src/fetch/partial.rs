//! A partial download on disk: the bytes, and the journal that allows it to continue.
//!
//! `downloads/<sha256>.part` holds the bytes, `<sha256>.json` is the journal, `<sha256>.lock` keeps other processes out. All three are
//! keyed by the file's expected hash, and are deleted when no later run can use them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gem_platform::file::{open_own, open_regular, read_regular};
use same_file::Handle;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::error::Error;
use super::ranges::RangeSet;
use crate::lock::Lock;
use crate::place;
use crate::sha256::Sha256;

/// The age from which unchanged partial downloads are removed.
const OLDEST: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const LOCK_POLL: Duration = Duration::from_millis(50);
const LOCK_LIMIT: Duration = Duration::from_secs(10);
/// The time for which a lock file that cannot be opened is retried: Windows gives the same error for a file that is being removed.
const REMOVAL_LIMIT: Duration = Duration::from_millis(500);

/// The strong validator (RFC 9110 section 8.8) of one version of a file on a server, sent as `If-Range`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Validator {
    /// A strong entity tag, including the quotes.
    Etag(String),
    /// A modification date that lies safely before the response that stated it.
    LastModified(String),
}

impl Validator {
    pub(super) fn if_range(&self) -> &str {
        match self {
            Self::Etag(value) | Self::LastModified(value) => value,
        }
    }
}

/// The server's description of a partly downloaded file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The file's version (`ETag` or `Last-Modified`); without it the partial download cannot be resumed.
    pub(super) validator: Option<Validator>,
    /// The whole file's length in bytes, if known.
    pub(super) length: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    #[serde(flatten)]
    identity: Identity,
    /// The ranges that are in place. Absent while the file's length describes them, so that a download in order does not update the
    /// journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished: Option<Vec<(u64, u64)>>,
}

/// The three locked files of one partial download. Dropping the last clone deletes them if no later run can use them.
#[derive(Clone, Debug)]
pub(super) struct Partial {
    files: Arc<Files>,
}

#[derive(Debug)]
struct Files {
    data: PathBuf,
    sidecar: PathBuf,
    lock: PathBuf,
    /// Holds the lock.
    _locked: File,
}

impl Partial {
    /// Opens the partial download of the file with the hash `sha256`; waits briefly if another process has locked it.
    pub(super) async fn open(downloads: &Path, sha256: &Sha256) -> Result<Self, Error> {
        std::fs::create_dir_all(downloads).map_err(|e| Error::file("create the directory", downloads, e, None))?;
        remove_old(downloads, sha256, SystemTime::now());
        let lock = downloads.join(format!("{sha256}.lock"));
        let files = Files {
            data: downloads.join(format!("{sha256}.part")),
            sidecar: downloads.join(format!("{sha256}.json")),
            _locked: take(&lock).await?,
            lock,
        };
        Ok(Self { files: Arc::new(files) })
    }

    /// The file that holds the bytes.
    pub(super) fn data(&self) -> &Path {
        &self.files.data
    }

    /// The received ranges; empty if the journal and the bytes disagree.
    pub(super) fn contents(&self) -> (Identity, RangeSet) {
        self.files.read().unwrap_or_default()
    }

    /// Opens the bytes once for writing and once for reading; without `keep` the file is emptied.
    pub(super) fn open_data(&self, keep: bool) -> Result<(File, File), Error> {
        let write = open_own(OpenOptions::new().write(true).create(true), &self.files.data)
            .and_then(|file| if keep { Ok(file) } else { file.set_len(0).map(|()| file) })
            .map_err(|e| Error::file("write", &self.files.data, e, None))?;
        let read = open_regular(&self.files.data).map_err(|e| Error::file("read", &self.files.data, e, None))?;
        Ok((write, read))
    }

    /// Writes the journal atomically: a crash leaves the old one or the new one.
    pub(super) fn record(&self, identity: &Identity, finished: Option<&[Range<u64>]>) -> Result<(), Error> {
        let sidecar = Sidecar {
            identity: identity.clone(),
            finished: finished.map(|ranges| ranges.iter().map(|r| (r.start, r.end)).collect()),
        };
        let temporary = self.files.new_sidecar();
        serde_json::to_vec(&sidecar)
            .map_err(io::Error::from)
            .and_then(|text| {
                let mut file = open_own(OpenOptions::new().write(true).create(true), &temporary)?;
                file.set_len(0)?;
                file.write_all(&text)
            })
            .and_then(|()| Ok(gem_platform::file::replace(&temporary, &self.files.sidecar)?))
            .map_err(|e| Error::file("write", &self.files.sidecar, e, None))
    }

    /// Discards the received ranges by deleting the journal.
    pub(super) fn forget(&self) -> Result<(), Error> {
        remove(&self.files.sidecar)
    }

    /// Removes the journal and the bytes.
    pub(super) fn discard(&self) -> Result<(), Error> {
        self.files.discard()
    }
}

impl Files {
    fn read(&self) -> Option<(Identity, RangeSet)> {
        let length = std::fs::metadata(&self.data).ok()?.len();
        let sidecar: Sidecar = serde_json::from_slice(&read_regular(&self.sidecar).ok()?).ok()?;
        let finished: RangeSet = match sidecar.finished {
            None => std::iter::once(0..length).collect(),
            Some(ranges) => ranges.into_iter().map(|(start, end)| start..end).collect(),
        };
        let limit = sidecar.identity.length.unwrap_or(u64::MAX).min(length);
        (finished.end() <= limit).then_some((sidecar.identity, finished))
    }

    fn new_sidecar(&self) -> PathBuf {
        self.sidecar.with_extension("json.new")
    }

    fn discard(&self) -> Result<(), Error> {
        remove(&self.sidecar)?;
        remove(&self.new_sidecar())?;
        remove(&self.data)
    }

    /// Whether a later run can continue from these bytes.
    fn is_of_use(&self) -> bool {
        self.read().is_some_and(|(identity, present)| {
            let is_whole = identity.length == Some(present.run_end(0));
            present.len() > 0 && (identity.validator.is_some() || is_whole)
        })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if !self.is_of_use() && self.discard().is_ok() {
            // Removed while locked: a waiting process checks that its file is still the one at this path.
            let _ = std::fs::remove_file(&self.lock);
        }
    }
}

/// Takes the lock in the file at `path`, waiting briefly for its owner to release it.
async fn take(path: &Path) -> Result<File, Error> {
    let began = Instant::now();
    loop {
        match open_own(OpenOptions::new().write(true).create(true), path) {
            Ok(file) => match file.try_lock() {
                Ok(()) if is_at(&file, path) => return Ok(file),
                // Locked by another process, or removed by its last owner after it was opened here.
                Ok(()) | Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_LIMIT => {}
                Ok(()) | Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: path.to_owned() }),
                Err(TryLockError::Error(e)) => return Err(Error::file("lock", path, e, None)),
            },
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && began.elapsed() < REMOVAL_LIMIT => {}
            Err(e) => return Err(Error::file("create the lock", path, e, None)),
        }
        // The file is closed during the wait: on Windows a removed file exists until the last handle is closed.
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// Whether `file` is still the file at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let ours = file.try_clone().and_then(Handle::from_file);
    ours.is_ok_and(|ours| place::handle(path).is_ok_and(|there| there == ours))
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path, e, None)),
        _ => Ok(()),
    }
}

/// Removes files in `downloads` that were last written more than two weeks before `now`. Keeps the download of `sha256` and those that
/// another process has locked, since the clock may have jumped.
fn remove_old(downloads: &Path, sha256: &Sha256, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(downloads) else {
        return;
    };
    let wanted = sha256.to_string();
    for entry in entries.flatten() {
        let is_ours = entry
            .path()
            .extension()
            .is_some_and(|extension| ["part", "json", "lock", "new"].iter().any(|ours| extension == *ours));
        let is_old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > OLDEST));
        let path = entry.path();
        let is_needed = || name_of(&path).is_some_and(|name| name == wanted) || is_in_hand(&path);
        if is_ours && is_old && !is_needed() {
            // A file that cannot be removed now is tried again next time.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes what a killed process left in `downloads` of files that it had put in place: journals and locks without bytes.
pub(crate) fn sweep(downloads: &Path) {
    for entry in std::fs::read_dir(downloads).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_beside = path.extension().is_some_and(|kind| kind == "json" || kind == "lock");
        let download = name_of(&path).filter(|name| name.parse::<Sha256>().is_ok());
        let has_no_bytes = |name: &str| !downloads.join(format!("{name}.part")).exists();
        if is_beside && download.is_some_and(has_no_bytes) && !is_in_hand(&path) {
            // A file that cannot be removed now is tried again next time.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A file in `downloads` that a process has in hand.
pub(crate) fn in_hand(downloads: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(downloads).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).find(|path| is_in_hand(path))
}

/// Whether a process has locked the partial download that the file `path` belongs to. An unpacked bundle is locked
/// in the same way.
pub(crate) fn is_in_hand(path: &Path) -> bool {
    let lock = name_of(path).map(|name| path.with_file_name(format!("{name}.lock")));
    lock.is_some_and(|lock| Lock::is_held(&lock).unwrap_or(true))
}

/// The name of the download that the file `path` belongs to: it has no dot, and its files may have several.
fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.split('.').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Sha256 {
        Sha256::of([7; 32])
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

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn only_what_can_be_added_to_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let nameless = Identity {
            validator: None,
            length: Some(500),
        };
        for (identity, bytes, kept) in [
            (identity(500), 100, true),
            (identity(500), 0, false),
            (nameless.clone(), 100, false),
            (nameless, 500, true),
        ] {
            let partial = Partial::open(directory.path(), &digest()).await.unwrap();
            std::fs::write(partial.data(), vec![0; bytes]).unwrap();
            partial.record(&identity, None).unwrap();
            // As after a kill during the write of the journal.
            std::fs::write(partial.files.new_sidecar(), "{").unwrap();
            drop(partial);
            assert_eq!(names(directory.path()).is_empty(), !kept, "{identity:?}, {bytes} bytes");
        }
        let partial = Partial::open(directory.path(), &digest()).await.unwrap();
        partial.discard().unwrap();
        drop(partial);
        assert_eq!(names(directory.path()), Vec::<String>::new());
    }

    fn is_held(path: &Path) -> bool {
        matches!(File::open(path).unwrap().try_lock(), Err(TryLockError::WouldBlock))
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_lock_that_is_removed_gets_one_that_keeps_others_out() {
        let directory = tempfile::tempdir().unwrap();
        let first = Partial::open(directory.path(), &digest()).await.unwrap();
        let path = first.files.lock.clone();
        let digest = digest();
        let (second, ()) = tokio::join!(Partial::open(directory.path(), &digest), async {
            tokio::time::sleep(LOCK_POLL * 3).await;
            drop(first);
        });
        assert!(is_held(&path));
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_lock_that_was_opened_before_it_was_removed_is_not_the_one_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let first = Partial::open(directory.path(), &digest()).await.unwrap();
        let path = first.files.lock.clone();
        let stale = File::open(&path).unwrap();
        drop(first);
        assert!(!path.exists());
        stale.try_lock().unwrap();
        let _second = Partial::open(directory.path(), &digest()).await.unwrap();
        assert!(!is_at(&stale, &path));
        assert!(is_held(&path));
    }

    #[tokio::test]
    async fn old_partial_downloads_are_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        for (name, days) in [("a.part", 15), ("a.json", 15), ("b.part", 13), ("notes.txt", 15)] {
            let file = File::create(directory.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60))
                .unwrap();
        }
        remove_old(directory.path(), &digest(), SystemTime::now());
        assert_eq!(names(directory.path()), ["b.part", "notes.txt"]);
    }

    #[tokio::test]
    async fn remains_of_finished_downloads_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let held = Partial::open(directory.path(), &Sha256::of([8; 32])).await.unwrap();
        let begun = format!("{}.part", Sha256::of([9; 32]));
        for name in [
            format!("{}.json", digest()),
            format!("{}.lock", digest()),
            begun.clone(),
            begun.replace("part", "json"),
            "notes.json".to_owned(),
        ] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        sweep(directory.path());
        assert!(directory.path().join("notes.json").exists() && directory.path().join(begun).exists());
        assert_eq!(
            names(directory.path()).len(),
            4,
            "the lock in hand, both files of the begun one, the notes"
        );
        drop(held);
    }

    #[tokio::test]
    async fn a_clock_that_jumps_ahead_costs_no_download_at_work() {
        let directory = tempfile::tempdir().unwrap();
        let [held, own] = [Sha256::of([8; 32]), digest()];
        let partial = Partial::open(directory.path(), &held).await.unwrap();
        std::fs::write(partial.data(), "begun").unwrap();
        std::fs::write(directory.path().join(format!("{own}.part")), "begun").unwrap();
        let later = SystemTime::now() + 2 * OLDEST;
        remove_old(directory.path(), &own, later);
        assert_eq!(names(directory.path()).len(), 3, "two parts and a lock");
        drop(partial);
    }
}
