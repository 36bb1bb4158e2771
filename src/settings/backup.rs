//! Backups of settings files before a change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::error::Error;
use crate::place;

/// The number of copies to keep.
const KEPT: usize = 10;
const PREFIX: &str = "settings.json.";
const TIME: &str = "%Y%m%dT%H%M%S.%6fZ";

/// Copies `bytes`, the content of `path`, into the directory `backups` under the time `now` and with the file's access
/// rights.
pub(super) fn back_up(path: &Path, bytes: &[u8], backups: &Path, now: Timestamp) -> Result<PathBuf, Error> {
    let copy = || {
        fs::create_dir_all(backups)?;
        let copy = write_copy(path, bytes, backups, now)?;
        gem_platform::file::sync_dir(backups)?;
        Ok(copy)
    };
    copy().map_err(|source: io::Error| Error::Backup {
        path: path.to_owned(),
        backups: backups.to_owned(),
        source,
    })
}

/// Copies are ordered by name. If the clock was set back, a new copy gets the next instant after the newest one.
fn write_copy(path: &Path, bytes: &[u8], backups: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let newest = copies(backups)?.iter().filter_map(|copy| time_of(copy)).max();
    let mut time = newest.map_or(Ok(now), next).map_or(now, |next| next.max(now));
    loop {
        let copy = backups.join(format!("{PREFIX}{}", time.strftime(TIME)));
        match place::write_new_like(path, &copy, bytes) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                time = next(time).map_err(io::Error::other)?
            }
            done => return done.map(|()| copy),
        }
    }
}

fn next(time: Timestamp) -> Result<Timestamp, jiff::Error> {
    time.saturating_add(SignedDuration::from_micros(1))
}

fn time_of(copy: &Path) -> Option<Timestamp> {
    let name = copy.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    let time = jiff::civil::DateTime::strptime(TIME, name).ok()?;
    time.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|time| time.timestamp())
}

/// The copies in `backups`, oldest first. Other files and directories there are not gem-setup's.
fn copies(backups: &Path) -> io::Result<Vec<PathBuf>> {
    let mut copies: Vec<_> = fs::read_dir(backups)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    copies.retain(|path| time_of(path).is_some() && path.symlink_metadata().is_ok_and(|found| found.is_file()));
    copies.sort();
    Ok(copies)
}

/// Deletes the oldest surplus copies in `backups` that are not `recorded`, as far as it can.
pub(crate) fn prune(backups: &Path, recorded: &[&Path]) {
    let copies = copies(backups).unwrap_or_default();
    let surplus = copies.len().saturating_sub(KEPT);
    let is_recorded = |copy: &&PathBuf| recorded.contains(&copy.as_path());
    for copy in copies.iter().take(surplus).filter(|copy| !is_recorded(copy)) {
        let _ = fs::remove_file(copy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A settings file, an empty directory for its copies, and a time.
    fn fixture() -> (tempfile::TempDir, PathBuf, PathBuf, Timestamp) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.json");
        fs::write(&path, "").unwrap();
        let backups = dir.path().join("backups");
        (dir, path, backups, "2026-11-21T01:02:03.000004Z".parse().unwrap())
    }

    #[test]
    fn the_newest_copies_are_kept_and_foreign_files_too() {
        let (_dir, path, backups, now) = fixture();
        fs::create_dir(&backups).unwrap();
        fs::write(backups.join("settings.json.0mine"), "").unwrap();
        fs::create_dir(backups.join("settings.json.0")).unwrap();

        let copies: Vec<_> = (0..13_u8)
            .map(|n| back_up(&path, &[n], &backups, now + SignedDuration::from_secs(n.into())).unwrap())
            .collect();
        prune(&backups, &[]);

        assert!(copies[0].ends_with("settings.json.20261121T010203.000004Z"));
        assert!(copies[..3].iter().all(|copy| !copy.exists()));
        for (n, copy) in (0..).zip(&copies).skip(3) {
            assert_eq!(fs::read(copy).unwrap(), [n]);
        }
        assert!(backups.join("settings.json.0mine").exists() && backups.join("settings.json.0").exists());
    }

    #[test]
    fn copies_of_one_instant_do_not_replace_each_other() {
        let (_dir, path, backups, now) = fixture();
        let copies = [b"1", b"2"].map(|text| back_up(&path, text, &backups, now).unwrap());
        assert_eq!(copies.map(|copy| fs::read(copy).unwrap()), [b"1", b"2"]);
    }

    #[test]
    fn a_clock_that_was_put_back_costs_no_new_copy() {
        let (_dir, path, backups, now) = fixture();
        for n in 0..KEPT {
            back_up(&path, b"", &backups, now + SignedDuration::from_secs(60 + n as i64)).unwrap();
        }
        let later = [1, 2, 3].map(|_| back_up(&path, b"", &backups, now).unwrap());
        prune(&backups, &[]);
        assert!(
            later.iter().all(|copy| copy.exists()),
            "a copy after it counted as an older one"
        );
        assert_eq!(fs::read_dir(&backups).unwrap().count(), KEPT);
    }

    #[test]
    fn an_unusable_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.json");
        fs::write(&path, "").unwrap();
        let error = back_up(&path, b"", &path.join("backups"), Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(error.to_string().contains("backups"), "{error}");
    }
}
