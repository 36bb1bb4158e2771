//! The place where a bundle is made. Only files from an earlier `bundle create` are replaced or removed there.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use gem_platform::file::{make_program, make_readable};

use super::check::read;
use super::contents::{CATALOG, Found, SUMS, Sums, UNFINISHED, UNFINISHED_LOCK, is_program};
use super::faults::{unreadable, unwritable};
use crate::catalog::Catalog;
use crate::error::{Failure, Kind};
use crate::lock::{Lock, is_unsupported};
use crate::place;
use crate::sha256::Sha256;

/// A directory for a bundle.
pub(super) struct Claim {
    pub(super) root: PathBuf,
    /// The files that an earlier call listed there, and those that this one has completed.
    pub(super) earlier: Sums,
    /// Held while the bundle is made; `None` if the file system has no locks.
    lock: Option<Lock>,
    /// Whether the directory is only needed to write a tar file.
    is_scratch: bool,
    /// The directories that were created for it, the innermost first.
    made: Vec<PathBuf>,
}

impl Drop for Claim {
    /// Leaves no directory behind that has nothing in it for a later call.
    fn drop(&mut self) {
        let is_bare = !self.made.is_empty() && !has_files(&self.root);
        // Another call may have made the directory again.
        let lock = self.lock.take().filter(Lock::is_current);
        // Windows keeps an open file, and so its directory.
        if let Some(lock) = lock.filter(|_| self.is_scratch || is_bare) {
            let _ = lock.delete();
        }
        if is_bare {
            let _ = fs::remove_dir_all(&self.root);
        }
        for directory in &self.made {
            // One with files in it stays.
            let _ = fs::remove_dir(directory);
        }
    }
}

impl Claim {
    /// Creates the directory `root`, or continues in one that an earlier call created.
    pub(super) fn begin(root: PathBuf, is_scratch: bool) -> Result<Self, Failure> {
        earlier(&root)?;
        let missing = root
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        fs::create_dir_all(&root).map_err(|error| unwritable(&root, &error))?;
        let mark = root.join(UNFINISHED);
        let lock = if is_scratch {
            // The mark is gone before the tar file is complete.
            lock(&root, &root.join(UNFINISHED_LOCK))?
        } else {
            lock(&root, &mark)?
        };
        if is_scratch || lock.is_none() {
            place::create_afresh(&mark).map_err(|error| unwritable(&mark, &error))?;
        }
        let claim = Self {
            // Another call may have ended before the lock was free.
            earlier: earlier(&root)?,
            lock,
            made,
            is_scratch,
            root,
        };
        if claim.made.contains(&claim.root) {
            open(&claim.root);
        }
        Ok(claim)
    }

    pub(super) fn unfinished(&self) -> PathBuf {
        self.root.join(UNFINISHED)
    }

    /// Lets every user read the files that `listed` names, whatever the umask and the modes of their originals. A
    /// directory that was there before keeps its mode.
    pub(super) fn share<'a>(&self, listed: impl Iterator<Item = &'a str>) {
        for path in listed {
            let place = self.root.join(path);
            // Some media lack modes.
            let _ = if is_program(path) {
                make_program(&place)
            } else {
                make_readable(&place)
            };
            let above = place.ancestors().skip(1);
            above.take_while(|above| *above != self.root).for_each(open);
        }
    }

    /// Lists the complete file `inside`, so that a later call can continue this one or replace its content.
    pub(super) fn note(&mut self, inside: &str, sha256: Sha256) -> Result<(), Failure> {
        if self.earlier.get(inside) == Some(sha256) {
            return Ok(());
        }
        self.earlier.insert(inside.to_owned(), sha256);
        let list = self.root.join(SUMS);
        place::write_atomic(&list, self.earlier.to_text().as_bytes()).map_err(|error| unwritable(&list, &error))
    }

    /// Deletes the directory, whose tar file is complete.
    pub(super) fn delete_scratch(&mut self) -> Result<(), Failure> {
        // Windows keeps an open file, and so its directory.
        let released = self.lock.take().map_or(Ok(()), Lock::delete);
        let deleted = released.and_then(|()| fs::remove_dir_all(&self.root));
        deleted.map_err(|error| unwritable(&self.root, &error))
    }

    /// Marks the bundle as complete.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        let mark = self.unfinished();
        fs::remove_file(&mark).map_err(|error| unwritable(&mark, &error))
    }
}

/// Takes the lock in the file `path` on making the bundle `root`; `None` if its file system has no locks.
fn lock(root: &Path, path: &Path) -> Result<Option<Lock>, Failure> {
    match Lock::try_acquire_in(path) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => {
            let message = format!("another gem-setup is making a bundle in `{}`", root.display());
            Err(Failure::new(Kind::Conflict, message).with_hint("wait until it is done, or name another place"))
        }
        Err(error) if is_unsupported(&error) => Ok(None),
        Err(error) => Err(unwritable(path, &error)),
    }
}

/// Lets every user enter `directory`, as far as its medium has modes.
fn open(directory: &Path) {
    let _ = make_program(directory);
}

/// Whether `directory` has a file other than the mark, however deep.
fn has_files(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => has_files(&entry.path()),
        _ => [UNFINISHED, UNFINISHED_LOCK]
            .iter()
            .all(|mark| entry.file_name() != *mark),
    })
}

/// Refuses to write a tar file if anything but a bundle is at `place`.
pub(super) fn check_file(place: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unreadable(place, &error)),
        Ok(metadata) if metadata.is_file() => former(place).map(|_| ()),
        Ok(_) => Err(taken(place, "it is not a regular file")),
    }
}

/// The files that an earlier call listed in `root`.
fn earlier(root: &Path) -> Result<Sums, Failure> {
    let mut entries = match fs::read_dir(root) {
        Err(error) if error.kind() == ErrorKind::NotFound && root.is_symlink() => {
            return Err(taken(root, "it is a link to a missing directory"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Sums::default()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Err(taken(root, "it is not a directory")),
        entries => entries.map_err(|error| unreadable(root, &error))?,
    };
    if entries.next().is_none() {
        Ok(Sums::default())
    } else if [UNFINISHED, UNFINISHED_LOCK]
        .iter()
        .any(|mark| root.join(mark).exists())
    {
        check_kinds(root)?;
        let text = place::read_text(&root.join(SUMS)).unwrap_or_default();
        Ok(Sums::parse(&text).unwrap_or_default())
    } else {
        former(root)
    }
}

/// Fails unless there are only regular files and directories below `directory`: through a link, other files would be changed.
fn check_kinds(directory: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| unreadable(directory, &error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            check_kinds(&entry.path())?;
        } else if !kind.is_file() {
            let name = entry.file_name();
            return Err(taken(directory, &format!("`{}` is not a regular file", name.display())));
        }
    }
    Ok(())
}

/// The file list of the bundle at `place`, of which files may be missing.
fn former(place: &Path) -> Result<Sums, Failure> {
    let told = |reason: String| taken(place, &reason);
    let found = read(place).map_err(told)?;
    listed(&found).map_err(told)
}

fn listed(found: &Found) -> Result<Sums, String> {
    let Some(text) = &found.sums else {
        let first = found.files.keys().next().map_or("", |path| path);
        return Err(format!("it is not empty and not a bundle: it contains `{first}`"));
    };
    let sums = Sums::parse(text).map_err(|reason| format!("`{SUMS}`: {reason}"))?;
    sums.compare_found(&found.files)?;
    // Directories that are not bundles may have such a list too.
    let catalog = found.catalog.as_deref().map(|text| Catalog::parse(text, CATALOG));
    match catalog {
        Some(Ok(_)) => Ok(sums),
        _ => Err(format!("`{SUMS}` does not list the `{CATALOG}` of a bundle")),
    }
}

fn taken(place: &Path, reason: &str) -> Failure {
    let message = format!("cannot make a bundle in `{}`: {reason}", place.display());
    Failure::new(Kind::Usage, message)
        .with_hint("move it somewhere else, or name a new or empty directory or a new file")
}
