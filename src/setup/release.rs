//! A release of the runtime on this machine, and the record of the previous one.
//!
//! `state.json` names the current release, so writing that file is the only switch between two releases. A first
//! installation is in the usual place. A release that replaces another has its own directory under `versions`, so that the
//! other one stays complete.

use std::path::{Path, PathBuf};

use gem_platform::Target;
use jiff::Timestamp;

use super::records::Release;
use super::state::{HashedFile, State};
use crate::catalog::{Catalog, CatalogKey, Model};
use crate::layout::Layout;
use crate::runtime::RuntimeName;

/// The name of a catalog's copy in a release's directory.
const CATALOG: &str = "catalog.toml";

impl State {
    /// The current release; `None` if none is recorded.
    #[must_use]
    pub fn release(&self) -> Option<Release> {
        self.version.as_ref()?;
        Some(Release {
            name: self.release.clone(),
            runtime: self.chosen.runtime,
            version: self.version.clone(),
            is_beside: self.is_beside,
            catalog: self.chosen.catalog.clone(),
            signed: self.chosen.signed.clone(),
            litert_lm: self.litert_lm.clone(),
            companions: self.companions.clone(),
            smoke: self.smoke.clone(),
        })
    }

    /// Makes `release` the current one, and the current one the previous one.
    pub(super) fn switch_to(&mut self, release: Release) {
        self.previous = self.release();
        self.release = release.name;
        self.version = release.version;
        self.is_beside = release.is_beside;
        self.litert_lm = release.litert_lm;
        self.companions = release.companions;
        self.smoke = release.smoke;
        self.smoke_fault = None;
        self.chosen.runtime = release.runtime;
        self.chosen.catalog = release.catalog;
        self.chosen.signed = release.signed;
    }

    /// Describes `release`, which is about to be tried in `directory`. The record keeps describing the release in use.
    pub(super) fn begin_trial(&mut self, release: Release, directory: Option<PathBuf>) {
        self.in_use = Some(Box::new((self.recorded(), directory)));
        self.litert_lm = release.litert_lm;
        self.companions = release.companions;
        self.forget_smoke();
    }

    /// The state as it is recorded: that of the release in use, with all that does not depend on the release.
    pub(super) fn recorded(&self) -> Self {
        let mut state = self.clone();
        if let Some((in_use, directory)) = state.in_use.take().map(|in_use| *in_use) {
            if let Some(directory) = directory {
                let is_in_it = |file: &HashedFile| file.path.starts_with(&directory);
                state.hashed.retain(|file| !is_in_it(file));
                state.hashed.extend(in_use.hashed.into_iter().filter(is_in_it));
            }
            state.litert_lm = in_use.litert_lm;
            state.companions = in_use.companions;
            state.smoke = in_use.smoke;
            state.smoke_fault = in_use.smoke_fault;
        }
        state
    }

    /// When the catalogs on record were signed: those by `key`, and those without a recorded key.
    #[must_use]
    pub fn signing_times(&self, key: &CatalogKey) -> Vec<Timestamp> {
        let before = self.previous.as_ref().and_then(|release| release.signed.as_ref());
        let all = self.chosen.signed.as_ref().into_iter().chain(before);
        all.filter(|signed| signed.key.as_ref().is_none_or(|signer| signer == key))
            .map(|signed| signed.time)
            .collect()
    }

    /// The directory of the current release, if it has its own.
    #[must_use]
    pub fn release_directory(&self, layout: &Layout) -> Option<PathBuf> {
        let name = self.release.as_ref().filter(|_| self.is_beside)?;
        Some(layout.versions().join(name))
    }
}

/// The path for the catalog's copy in the directory of the release `name`.
#[must_use]
pub(super) fn catalog_copy(layout: &Layout, name: &str) -> PathBuf {
    layout.versions().join(name).join(CATALOG)
}

/// The directory for `runtime` as pinned by `catalog`; `None` for the usual place. The current release in `state` stays
/// where it is. Another release of the same runtime gets its own directory.
pub(super) fn directory(
    layout: &Layout,
    state: &State,
    catalog: &Catalog,
    runtime: RuntimeName,
    target: Target,
) -> Option<PathBuf> {
    if !replaces(layout, state, catalog, runtime, target) {
        let is_current = state.chosen.runtime == runtime;
        return state.release_directory(layout).filter(|_| is_current);
    }
    let name = catalog.release(runtime.as_str(), target)?;
    let previous = state
        .previous
        .as_ref()
        .filter(|previous| previous.name.as_ref() == Some(&name));
    let is_beside = previous.is_none_or(|previous| previous.is_beside);
    is_beside.then(|| layout.versions().join(name))
}

/// Whether the release of `runtime` in `catalog` differs from the current one.
pub(super) fn replaces(
    layout: &Layout,
    state: &State,
    catalog: &Catalog,
    runtime: RuntimeName,
    target: Target,
) -> bool {
    let current = state.release().filter(|current| current.runtime == runtime);
    let name = catalog.release(runtime.as_str(), target);
    let both = current.zip(name);
    both.is_some_and(|(current, name)| !is_same(&current, &name, catalog, state, layout, target))
}

/// Whether `current` is the release `name` of `catalog`. If an older gem-setup recorded no name, the file's hash
/// decides.
fn is_same(current: &Release, name: &str, catalog: &Catalog, state: &State, layout: &Layout, target: Target) -> bool {
    if let Some(known) = &current.name {
        return known == name;
    }
    let Some(entry) = catalog.runtime(current.runtime.as_str()) else {
        return true;
    };
    let Some(artifact) = entry.artifact(target) else {
        return current.version.as_deref() == Some(&*entry.version);
    };
    let usual = layout.lit_bin().join(artifact.file_name());
    !usual.exists() || state.placed(&usual) == Some(artifact.sha256)
}

/// The catalog of the current release, with the current model: they may come from different catalogs.
///
/// # Errors
/// When the catalog cannot be read.
pub fn recorded_catalog(layout: &Layout, state: &State, target: Target) -> Result<Catalog, crate::record::Error> {
    let mut catalog = release_catalog(layout, state, target)?;
    if let Some(model) = &state.model_source
        && catalog.model(&model.name).and_then(Model::edition) != model.edition()
    {
        catalog.pin_model(model.clone());
    }
    Ok(catalog)
}

/// The catalog of the current release: the recorded copy, else the kept copy of the built-in catalog if this gem-setup
/// has another one.
fn release_catalog(layout: &Layout, state: &State, target: Target) -> Result<Catalog, crate::record::Error> {
    if let Some(file) = &state.chosen.catalog {
        return Catalog::read(file);
    }
    let built_in = Catalog::built_in()?;
    let runtime = state.chosen.runtime.as_str();
    match &state.release {
        Some(name) if built_in.release(runtime, target).as_ref() != Some(name) => {
            let copy = catalog_copy(layout, name);
            if copy.exists() {
                Catalog::read(&copy)
            } else {
                Ok(built_in)
            }
        }
        _ => Ok(built_in),
    }
}

/// The command that helps if the copy of the current catalog was deleted, for example together with all of `versions`;
/// the previous release may still be in the usual place. `None` if the copy exists, or if the previous release is gone
/// too.
#[must_use]
pub fn way_back(layout: &Layout, state: &State) -> Option<&'static str> {
    let is_there = |file: &Option<PathBuf>| file.as_ref().is_none_or(|file| file.exists());
    if is_there(&state.chosen.catalog) {
        return None;
    }
    let previous = state.previous.as_ref()?;
    let directory = previous.directory(layout).filter(|_| previous.is_beside);
    (is_there(&directory) && is_there(&previous.catalog)).then_some("rollback")
}

/// Whether `path` is inside the directory of a release that `state` names.
pub(super) fn is_kept(state: &State, layout: &Layout, path: &Path) -> bool {
    let current = state.release.as_ref().map(|name| layout.versions().join(name));
    let previous = state.previous.as_ref().and_then(|release| release.directory(layout));
    [current, previous]
        .into_iter()
        .flatten()
        .any(|directory| path.starts_with(directory))
}
