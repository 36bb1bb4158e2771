//! Files that no record names any more: releases other than the current and the previous one, partial downloads,
//! surplus backups.

use std::fs;
use std::path::{Path, PathBuf};

use super::records::Release;
use super::release;
use super::state::State;
use crate::layout::Layout;
use crate::runtime::RuntimeName;
use crate::runtime::litert_lm::Venv;

/// The prefix of a directory that is being deleted, so that a partly deleted release is never used.
const DOOMED: &str = "deleted-";

/// The directory for the previous executable of gem-setup itself.
pub(super) const SELF: &str = "self";

/// Deletes `evicted`, which is no longer the current or the previous release, and all other files that no record names.
/// A file that cannot be deleted stays for the next time.
pub(super) fn evict(layout: &Layout, state: &State, evicted: Option<&Release>) {
    let usual = evicted
        .filter(|release| !is_in_use(state, release))
        .filter(|release| !release.is_beside);
    let files = usual
        .into_iter()
        .flat_map(|release| usual_files(layout, state, release));
    files.chain(leftovers(layout, state)).for_each(|path| {
        let _ = delete(&path);
    });
}

fn is_in_use(state: &State, release: &Release) -> bool {
    let is = |other: &Release| other.name == release.name && other.is_beside == release.is_beside;
    state.release().as_ref().is_some_and(is) || state.previous.as_ref().is_some_and(is)
}

/// The files of a `release` in the usual place.
fn usual_files(layout: &Layout, state: &State, release: &Release) -> Vec<PathBuf> {
    match release.runtime {
        RuntimeName::Builtin => Vec::new(),
        RuntimeName::LitertLm => Some(layout.litert_lm_env())
            .filter(|env| Venv::is_begun(env))
            .into_iter()
            .collect(),
        RuntimeName::Lit => {
            let placed = state.hashed.iter().map(|file| &file.path);
            let companions = release.companions.iter().map(|file| &file.path);
            let bin = layout.lit_bin();
            placed
                .chain(companions)
                .filter(|path| path.parent() == Some(&bin) && !is_directory(path))
                .cloned()
                .collect()
        }
    }
}

/// Whether somebody else put a directory in place of the file `path`.
fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// The directories under `versions` that no record names.
pub(super) fn leftovers(layout: &Layout, state: &State) -> Vec<PathBuf> {
    let entries = fs::read_dir(layout.versions()).into_iter().flatten().flatten();
    let own = layout.versions().join(SELF);
    let directories = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && *path != own);
    directories
        .filter(|path| !release::is_kept(state, layout, path))
        .collect()
}

/// Deletes the file or directory `path`. A directory is renamed first.
pub(super) fn delete(path: &Path) -> std::io::Result<()> {
    if !path.symlink_metadata()?.is_dir() {
        return fs::remove_file(path);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with(DOOMED) {
        return fs::remove_dir_all(path);
    }
    let doomed = path.with_file_name(format!("{DOOMED}{name}"));
    let _ = fs::remove_dir_all(&doomed);
    match fs::rename(path, &doomed) {
        // An overlay does not rename a directory of its lower layer.
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => fs::remove_dir_all(path),
        Err(error) => Err(error),
        Ok(()) => fs::remove_dir_all(&doomed),
    }
}
