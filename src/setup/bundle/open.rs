//! Opens a bundle to install from it.

use std::fs;
use std::path::{Path, PathBuf};

use gem_platform::Target;
use url::Url;

use super::archive;
use super::check::check_bundle;
use super::contents::{CATALOG, SUMS};
use super::faults::{fault, unwritable};
use super::targets::BundledTarget;
use crate::error::{Failure, Kind};
use crate::place;
use crate::sha256::Sha256;

/// A bundle that was checked and whose files are on disk.
#[derive(Debug)]
pub struct OpenBundle {
    /// The path of the bundle's catalog.
    pub catalog: PathBuf,
    /// The bundle as a mirror.
    pub mirror: Url,
    /// The folder to which a tar file was unpacked; [`Self::close`] deletes it.
    unpacked: Option<PathBuf>,
}

impl OpenBundle {
    /// Checks the bundle at `path`, with the public key `key` if given. A tar file is unpacked below `downloads`; an
    /// interrupted unpacking continues. With `is_plan`, only its catalog and list are unpacked, into a temporary folder
    /// of the system.
    ///
    /// # Errors
    /// When the bundle is damaged or not for `target`; nothing was written in this case.
    pub fn open(
        path: &Path,
        key: Option<&str>,
        target: Target,
        downloads: &Path,
        is_plan: bool,
    ) -> Result<Self, Failure> {
        let checked = check_bundle(path, key)?;
        check_target(path, &checked.targets, target)?;
        if !checked.sums.iter().any(|(path, _)| path == CATALOG) {
            return Err(fault(path, &format!("`{CATALOG}` is missing")));
        }
        if path.is_dir() {
            let path = std::path::absolute(path).map_err(|error| unwritable(path, &error))?;
            return Self::in_folder(&path, None);
        }
        let name = format!("bundle-{:.16}", Sha256::of(checked.sums.to_text()).to_string());
        let folder = if is_plan {
            std::env::temp_dir().join(format!("gem-setup-{name}"))
        } else {
            downloads.join(name)
        };
        archive::unpack(path, &checked.sums, &folder, |path| !is_plan || path == CATALOG).map_err(|reason| {
            Failure::new(
                Kind::Download,
                format!("cannot unpack the bundle `{}`: {reason}", path.display()),
            )
            .with_hint(
                "check that the disk has space and the directory belongs to you, then run the command \
                    again: it continues where it stopped",
            )
        })?;
        let sums = folder.join(SUMS);
        place::write_atomic(&sums, checked.sums.to_text().as_bytes()).map_err(|error| unwritable(&sums, &error))?;
        Self::in_folder(&folder, Some(folder.clone()))
    }

    fn in_folder(folder: &Path, unpacked: Option<PathBuf>) -> Result<Self, Failure> {
        let mirror = Url::from_directory_path(folder)
            .map_err(|()| Failure::new(Kind::Usage, format!("`{}` is not an absolute path", folder.display())))?;
        Ok(Self {
            catalog: folder.join(CATALOG),
            mirror,
            unpacked,
        })
    }

    /// Deletes the unpacked files. A file that cannot be deleted only uses disk space.
    pub fn close(self) {
        if let Some(folder) = self.unpacked {
            let _ = fs::remove_dir_all(folder);
        }
    }
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
