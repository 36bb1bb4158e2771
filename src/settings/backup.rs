//! Backups of settings files before a change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::error::Error;
use crate::place;

/// How many copies are kept.
const KEPT: usize = 10;
const PREFIX: &str = "settings.json.";

/// Copies `bytes`, the content of `path`, into the directory `backups` under the time `now`, with the file's own access
/// rights; then the oldest copies go that are too many.
pub(super) fn back_up(path: &Path, bytes: &[u8], backups: &Path, now: Timestamp) -> Result<PathBuf, Error> {
    let copy = || {
        fs::create_dir_all(backups)?;
        let copy = write_copy(path, bytes, backups, now)?;
        prune(backups, &copy)?;
        gem_platform::sync_dir(backups)?;
        Ok(copy)
    };
    copy().map_err(|source: io::Error| Error::Backup {
        path: path.to_owned(),
        backups: backups.to_owned(),
        source,
    })
}

fn write_copy(path: &Path, bytes: &[u8], backups: &Path, mut now: Timestamp) -> io::Result<PathBuf> {
    loop {
        let copy = backups.join(format!("{PREFIX}{}", now.strftime("%Y%m%dT%H%M%S.%6fZ")));
        match place::write_new_like(path, &copy, bytes) {
            // Another copy of the same instant: the next microsecond is as good and keeps the order.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                now = now
                    .saturating_add(SignedDuration::from_micros(1))
                    .map_err(io::Error::other)?;
            }
            done => return done.map(|()| copy),
        }
    }
}

/// Deletes the oldest copies but never `newest`, even if the clock was once ahead of what it says now.
fn prune(backups: &Path, newest: &Path) -> io::Result<()> {
    let mut copies: Vec<_> = fs::read_dir(backups)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    copies.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) && path != newest
    });
    copies.sort();
    let surplus = (copies.len() + 1).saturating_sub(KEPT);
    copies.iter().take(surplus).try_for_each(fs::remove_file)
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
        fs::write(backups.join("notes"), "").unwrap();

        let copies: Vec<_> = (0..13_u8)
            .map(|n| back_up(&path, &[n], &backups, now + SignedDuration::from_secs(n.into())).unwrap())
            .collect();

        assert!(copies[0].ends_with("settings.json.20261121T010203.000004Z"));
        assert!(copies[..3].iter().all(|copy| !copy.exists()));
        for (n, copy) in (0..).zip(&copies).skip(3) {
            assert_eq!(fs::read(copy).unwrap(), [n]);
        }
        assert!(backups.join("notes").exists());
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
        assert!(back_up(&path, b"", &backups, now).unwrap().exists());
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
