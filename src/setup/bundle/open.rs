//! Opens a bundle to install from it.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use gem_platform::Target;
use tempfile::TempDir;
use url::Url;

use super::archive;
use super::check::check_bundle;
use super::contents::{CATALOG, SUMS, Sums};
use super::faults::{fault, unwritable};
use super::targets::BundledTarget;
use crate::error::{Failure, Kind};
use crate::lock::{self, Lock};
use crate::place;
use crate::progress::{Progress, waiting};
use crate::setup::converge::LOCK_PATIENCE;
use crate::sha256::Sha256;
use crate::threads;

/// A bundle that was checked and whose files are on disk.
#[derive(Debug)]
pub struct OpenBundle {
    /// The path of the bundle's catalog.
    pub catalog: PathBuf,
    /// The bundle as a mirror.
    pub mirror: Url,
    unpacked: Unpacked,
}

/// Where the files of an open bundle are.
#[derive(Debug)]
enum Unpacked {
    /// In the bundle itself, a directory.
    InPlace,
    /// In this directory, which is deleted when the value is dropped.
    Shortly { _directory: TempDir },
    /// In this directory, which [`OpenBundle::close`] deletes. Other commands find the same directory and wait for the lock.
    Locked(PathBuf, Lock),
}

impl OpenBundle {
    /// Checks the bundle at `path`, with the public key `key` if given. A tar file is unpacked below `downloads`; an
    /// interrupted unpacking continues. Without `downloads`, as for a plan, only its catalog and list are unpacked, into
    /// a temporary directory. Waiting for another gem-setup that has it open is shown in `progress`.
    ///
    /// # Errors
    /// When the bundle is damaged or not for `target`; nothing was written in this case. When another gem-setup keeps it
    /// open, or it cannot be unpacked.
    pub async fn open(
        path: &Path,
        key: Option<&str>,
        target: Target,
        downloads: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<Self, Failure> {
        let (bundle, key) = (path.to_owned(), key.map(str::to_owned));
        let checked = threads::aside(move || check_bundle(&bundle, key.as_deref())).await;
        let checked = checked.map_err(|error| not_unpacked(path, &error))??;
        check_target(path, &checked.targets, target)?;
        if !checked.sums.holds(CATALOG) {
            return Err(fault(path, &format!("`{CATALOG}` is missing")));
        }
        if path.is_dir() {
            let path = std::path::absolute(path).map_err(|error| unwritable(path, &error))?;
            return Self::in_directory(&path, Unpacked::InPlace);
        }
        let Some(downloads) = downloads else {
            let directory = tempfile::tempdir().map_err(|error| unwritable(&std::env::temp_dir(), &error))?;
            unpack(path, checked.sums, directory.path(), |path| path == CATALOG).await?;
            let path = directory.path().to_owned();
            return Self::in_directory(&path, Unpacked::Shortly { _directory: directory });
        };
        let name = format!("bundle-{:.16}", Sha256::of(checked.sums.to_text()).to_string());
        let lock = lock_directory(path, downloads, &name, progress).await?;
        let directory = downloads.join(name);
        unpack(path, checked.sums, &directory, |_| true).await?;
        Self::in_directory(&directory.clone(), Unpacked::Locked(directory, lock))
    }

    fn in_directory(directory: &Path, unpacked: Unpacked) -> Result<Self, Failure> {
        let mirror = Url::from_directory_path(directory).map_err(|()| {
            Failure::new(
                Kind::Usage,
                format!("`{}` is not an absolute path", directory.display()),
            )
        })?;
        Ok(Self {
            catalog: directory.join(CATALOG),
            mirror,
            unpacked,
        })
    }

    /// Deletes the unpacked files. A file that cannot be deleted only uses disk space.
    pub fn close(self) {
        if let Unpacked::Locked(directory, lock) = self.unpacked {
            let _ = fs::remove_dir_all(directory);
            let _ = lock.delete();
        }
    }
}

/// Takes the lock on the directory `name` in `downloads`. `cleanup` knows such locks by their names.
async fn lock_directory(bundle: &Path, downloads: &Path, name: &str, progress: &dyn Progress) -> Result<Lock, Failure> {
    let path = downloads.join(format!("{name}.lock"));
    let lock = Lock::acquire(&path, LOCK_PATIENCE);
    waiting(progress, "bundle", &lock::wait_for(&path), lock)
        .await
        .map_err(|error| match error {
            lock::Error::Io { path, source } => not_unpacked(bundle, &place::at(&path, &source)),
            error => error.into(),
        })
}

/// Unpacks the wanted files of the `bundle`, and writes its list next to them.
async fn unpack(bundle: &Path, sums: Sums, directory: &Path, is_wanted: fn(&str) -> bool) -> Result<(), Failure> {
    let (from, to) = (bundle.to_owned(), directory.to_owned());
    let unpacked = threads::aside(move || {
        archive::unpack(&from, &sums, &to, is_wanted)?;
        let list = to.join(SUMS);
        let written = place::write_own(&list, sums.to_text().as_bytes());
        written.map_err(|error| format!("`{}` cannot be written: {error}", list.display()))
    });
    let unpacked = unpacked.await.map_err(|error| not_unpacked(bundle, &error))?;
    unpacked.map_err(|reason| not_unpacked(bundle, &reason))
}

fn not_unpacked(bundle: &Path, reason: &dyn Display) -> Failure {
    let message = format!("cannot unpack the bundle `{}`: {reason}", bundle.display());
    Failure::new(Kind::Download, message).with_hint(
        "check that the disk has space and the directory belongs to you, then run the command again: it continues \
        where it stopped",
    )
}

/// Refuses a bundle for other platforms.
fn check_target(path: &Path, targets: &[BundledTarget], target: Target) -> Result<(), Failure> {
    if targets.is_empty() || targets.iter().any(|bundled| bundled.target == target) {
        return Ok(());
    }
    let others: Vec<String> = targets.iter().map(|bundled| bundled.target.to_string()).collect();
    let message = format!(
        "cannot install from `{}` on {target}: the bundle is for {}",
        path.display(),
        others.join(", ")
    );
    let hint = format!("make one with `gem-setup bundle create --target {target}`");
    Err(Failure::new(Kind::Unsupported, message).with_hint(hint))
}
