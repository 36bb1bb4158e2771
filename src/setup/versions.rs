//! `versions` and `cleanup`: installed versions, current ones, and files that no record names any more.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::bundled_model::abandoned;
use super::records::{Release, SignedCatalog};
use super::state::State;
use super::{Setup, tidy};
use crate::error::Failure;
use crate::fetch::is_in_hand;
use crate::layout::Layout;
use crate::router::{DeliveredModels, Models};
use crate::runtime::RuntimeName;

/// A version of a part.
#[derive(Clone, Debug, Serialize)]
pub struct Version {
    /// The part, as `rollback` calls it: `runtime`, `model`, `self`, `hosted-models` or `settings`.
    pub what: &'static str,
    /// The part's name.
    pub name: String,
    /// The version, if it has one.
    pub version: Option<String>,
    /// Whether the version is the current one.
    pub current: bool,
    /// The version's path.
    pub path: PathBuf,
    /// Its size on disk in bytes.
    pub bytes: u64,
    /// The catalog of the version: `built-in`, a path, or a URL.
    pub catalog: Option<String>,
}

/// All installed versions; the current version of each part comes first.
#[must_use]
pub fn versions(setup: &Setup<'_>) -> Vec<Version> {
    let (layout, state) = (&setup.site.layout, &setup.state);
    let current = state.release().map(|release| (true, release));
    let previous = state
        .previous
        .clone()
        .filter(|release| place_of(setup, release).exists())
        .map(|release| (false, release));
    let releases = current.into_iter().chain(previous);
    let mut found: Vec<Version> = releases
        .map(|(current, release)| of_release(setup, &release, current))
        .collect();
    found.extend(of_model(layout, state));
    found.extend(of_self(setup));
    found.extend(of_hosted_models(layout));
    found.extend(
        state
            .settings
            .files
            .iter()
            .filter_map(|file| of_backup(file.backup.as_deref()?)),
    );
    found
}

fn of_release(setup: &Setup<'_>, release: &Release, current: bool) -> Version {
    let path = place_of(setup, release);
    Version {
        what: "runtime",
        name: release.runtime.to_string(),
        version: release.version.clone(),
        current,
        bytes: size_of(&path),
        path,
        catalog: Some(origin(release.catalog.as_deref(), release.signed.as_ref())),
    }
}

pub(super) fn origin(catalog: Option<&Path>, signed: Option<&SignedCatalog>) -> String {
    match (catalog, signed) {
        (_, Some(signed)) => signed.url.to_string(),
        (Some(file), None) => file.display().to_string(),
        (None, None) => "built-in".to_owned(),
    }
}

/// The file or directory of `release`.
fn place_of(setup: &Setup<'_>, release: &Release) -> PathBuf {
    let layout = &setup.site.layout;
    if let Some(program) = &release.litert_lm {
        return program.clone();
    }
    match release.directory(layout).filter(|_| release.is_beside) {
        Some(directory) => directory,
        None if release.runtime == RuntimeName::LitertLm => layout.litert_lm_env(),
        None => layout.lit_bin(),
    }
}

fn of_model(layout: &Layout, state: &State) -> Vec<Version> {
    let own = state.chosen.model.to_string();
    let before = format!("{own}-before");
    let both = [(own, &state.model_source, true), (before, &state.model_before, false)];
    let found = both.into_iter().filter_map(|(name, source, current)| {
        let path = layout.models().join(&name);
        let is_there = state.chosen.runtime.has_models() && path.exists();
        is_there.then(|| Version {
            what: "model",
            version: state.model_version(layout, &name, source.as_ref()),
            name,
            current,
            bytes: size_of(&path),
            path,
            catalog: None,
        })
    });
    found.collect()
}

fn of_self(setup: &Setup<'_>) -> Vec<Version> {
    let own = |version: String, current, path: PathBuf| Version {
        what: "self",
        name: "gem-setup".to_owned(),
        version: Some(version),
        current,
        bytes: size_of(&path),
        path,
        catalog: None,
    };
    let current = own(env!("CARGO_PKG_VERSION").to_owned(), true, setup.site.program.clone());
    let previous = super::upgrade::previous_self(&setup.site.layout);
    let previous = previous.map(|(version, path)| own(version, false, path));
    std::iter::once(current).chain(previous).collect()
}

/// The models file that a catalog delivered. It is not used if gem-setup's own is at least as new.
fn of_hosted_models(layout: &Layout) -> Option<Version> {
    let path = layout.hosted_models_file();
    let delivered = DeliveredModels::read(&path).ok()??;
    let version = delivered.models().ok()?.version().to_owned();
    let in_force = Models::delivered_in(&path).ok()?;
    Some(Version {
        what: "hosted-models",
        name: "models file".to_owned(),
        current: in_force.version() == version,
        version: Some(version),
        bytes: size_of(&path),
        path,
        catalog: Some(delivered.catalog),
    })
}

fn of_backup(path: &Path) -> Option<Version> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    path.exists().then(|| Version {
        what: "settings",
        name,
        version: None,
        current: false,
        bytes: size_of(path),
        path: path.to_owned(),
        catalog: None,
    })
}

/// The size of the file `path` in bytes, following a link; for a directory the size of all files in it, without following
/// links.
#[must_use]
pub fn size_of(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| size_below(path, &metadata))
}

fn size_below(path: &Path, metadata: &Metadata) -> u64 {
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let sizes = entries.filter_map(|entry| Some(size_below(&entry.path(), &entry.metadata().ok()?)));
    sizes.sum()
}

/// The files that `cleanup` deletes: releases, downloads and backups that no record names. Downloads that another
/// gem-setup has in use stay; `bundle create` downloads without the home's lock.
#[must_use]
pub fn garbage(layout: &Layout, state: &State) -> Vec<PathBuf> {
    let mut found = tidy::leftovers(layout, state);
    found.extend(super::upgrade::leftovers_of_self(layout));
    found.extend(super::upgrade::trial_logs(layout));
    if state.model_swap.is_none() {
        found.push(layout.models().join(format!("{}-next", state.chosen.model)));
    }
    let pulled = state.pulled.iter().map(|model| model.as_str());
    found.extend(pulled.filter_map(|model| abandoned(&layout.models(), model)));
    let downloads = entries(&layout.downloads()).into_iter();
    found.extend(downloads.filter(|path| !is_in_hand(path)));
    let is_needed = |path: &PathBuf| {
        state
            .settings
            .files
            .iter()
            .any(|file| file.backup.as_ref() == Some(path))
    };
    found.extend(entries(&layout.backups()).into_iter().filter(|path| !is_needed(path)));
    found.retain(|path| path.symlink_metadata().is_ok());
    found
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Deletes `path`, which [`garbage`] found. The caller holds the home's lock.
///
/// # Errors
/// When it cannot be deleted.
pub fn discard(path: &Path) -> Result<(), Failure> {
    match tidy::delete(path) {
        // A file from an interrupted clean-up may already have been deleted with the directory that contained it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        deleted => deleted.map_err(|error| Failure::cannot_at("delete", path, &error)),
    }
}
