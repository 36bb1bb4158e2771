//! `state.json`: the choices and results of `install`, which later commands use.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::mirrors;
use super::records::{ModelSwap, PlacedFile, Release, SmokeRecord};
use super::wanted::Chosen;
use crate::catalog::Model;
use crate::error::Kind;
use crate::layout::Layout;
use crate::net::without_secrets;
use crate::record::{Error, Record};
use crate::runtime::LocalModelName;
use crate::settings::Applied;
use crate::sha256::Sha256;

const FORMAT: u32 = 1;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(truth: &bool) -> bool {
    !*truth
}

/// The record of `install`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub(super) format: u32,
    /// The choices.
    #[serde(flatten)]
    pub chosen: Chosen,
    /// The runtime's pinned version, `None` for the built-in one.
    pub version: Option<String>,
    /// The name of the release in use ([`Catalog::release`](crate::catalog::Catalog::release)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Whether the release in use lies in a folder of its own, not in the usual place.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_beside: bool,
    /// The release before, for `rollback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Release>,
    /// The model as the catalog that it came from describes it; `None` = it came from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_source: Option<Model>,
    /// The same of the model before, which is kept too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_before: Option<Model>,
    /// Another file that is about to be put in the model's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_swap: Option<ModelSwap>,
    /// How often another file was put in the model's place: the engine must then be replaced.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub model_swaps: u32,
    /// The models that gem-setup began to pull where there was nothing of that name: `uninstall --purge` deletes these alone.
    #[serde(default)]
    pub pulled: Vec<LocalModelName>,
    /// The `litert-lm` found on the PATH that is used; `None` = the one in its own environment.
    #[serde(default)]
    pub litert_lm: Option<PathBuf>,
    /// The companions of the runtime.
    #[serde(default)]
    pub companions: Vec<PlacedFile>,
    /// Files that were hashed when they were put in place.
    #[serde(default)]
    pub hashed: Vec<HashedFile>,
    /// The changes to settings files, for `uninstall`.
    #[serde(default)]
    pub settings: Applied,
    /// The changes about to be written to settings files; left over only if the process was killed meanwhile.
    #[serde(default, skip_serializing_if = "Applied::is_empty")]
    pub pending: Applied,
    /// The last smoke test that passed.
    #[serde(default)]
    pub smoke: Option<SmokeRecord>,
}

/// A file's hash, with size and time of change to recognise the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashedFile {
    /// Where.
    pub path: PathBuf,
    /// Its hash.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written to.
    pub modified: Timestamp,
}

impl HashedFile {
    fn is(&self, path: &Path, metadata: &Metadata) -> bool {
        let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        self.path == path && self.size == metadata.len() && Some(self.modified) == modified
    }
}

/// The record, as its errors describe it.
const STATE: Record = Record {
    name: "recorded state",
    kind: Kind::Unexpected,
    remedy: "move the file away and run `gem-setup install` again, with the same options as before",
};

impl Default for State {
    /// The state of a machine without an installation.
    fn default() -> Self {
        Self {
            format: FORMAT,
            chosen: Chosen::default(),
            version: None,
            release: None,
            is_beside: false,
            previous: None,
            model_source: None,
            model_before: None,
            model_swap: None,
            model_swaps: 0,
            pulled: Vec::new(),
            litert_lm: None,
            companions: Vec::new(),
            hashed: Vec::new(),
            settings: Applied::default(),
            pending: Applied::default(),
            smoke: None,
        }
    }
}

impl State {
    /// Whether nothing is on record but changes of settings files: `settings apply` installs nothing.
    #[must_use]
    pub fn is_of_settings_alone(&self) -> bool {
        let without = Self {
            settings: Applied::default(),
            pending: Applied::default(),
            ..self.clone()
        };
        without == Self::default()
    }

    /// The edition of the model in use, if it came from a catalog.
    #[must_use]
    pub fn model_edition(&self) -> Option<String> {
        self.model_source.as_ref()?.edition()
    }

    /// What tells the file of the model `name`, which came from `source`, from others: the first digits of its SHA-256, if that is on
    /// record.
    pub(super) fn model_version(&self, layout: &Layout, name: &str, source: Option<&Model>) -> Option<String> {
        let file = layout.model_file(name);
        match self.placed(&file) {
            Some(sha256) => Some(sha256.short()),
            None => source.and_then(Model::version),
        }
    }

    /// Whether the model in use is the one that `model` describes. Where that gives no hash, the address alone counts.
    pub(super) fn has_model(&self, layout: &Layout, model: &Model) -> bool {
        let Some(wanted) = &model.huggingface else { return false };
        let file = layout.model_file(&self.chosen.model);
        let in_use = self
            .model_source
            .as_ref()
            .and_then(|source| source.huggingface.as_ref());
        let is_same_address = in_use.is_some_and(|one| (&one.repo, &one.file) == (&wanted.repo, &wanted.file));
        match wanted.sha256 {
            Some(sha256) => in_use == Some(wanted) || (in_use.is_some() && self.placed(&file) == Some(sha256)),
            None => is_same_address,
        }
    }

    /// The recorded hash of the file `path`, if size and time of change are still the recorded ones.
    #[must_use]
    pub fn hash_of(&self, path: &Path) -> Option<Sha256> {
        let metadata = std::fs::metadata(path).ok()?;
        let known = self.hashed.iter().find(|known| known.is(path, &metadata))?;
        Some(known.sha256)
    }

    /// The hash of the file `path` when gem-setup put it in place.
    pub(super) fn placed(&self, path: &Path) -> Option<Sha256> {
        let known = self.hashed.iter().find(|known| known.path == path)?;
        Some(known.sha256)
    }

    /// Records that the file `path` hashes to `sha256`.
    pub fn remember_hash(&mut self, path: &Path, sha256: Sha256) {
        self.hashed.retain(|known| known.path != path);
        let metadata = std::fs::metadata(path).ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        let modified = modified.and_then(|time| Timestamp::try_from(time).ok());
        if let Some((metadata, modified)) = metadata.zip(modified) {
            self.hashed.push(HashedFile {
                path: path.to_owned(),
                sha256,
                size: metadata.len(),
                modified,
            });
        }
    }

    /// Reads the file `path`; `None` when there is none.
    ///
    /// # Errors
    /// When the file exists but cannot be read or does not parse.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let Some(mut state) = STATE.read_json::<Self>(path)? else {
            return Ok(None);
        };
        STATE.check_format(&path.to_string_lossy(), state.format, FORMAT)?;
        let happened = std::mem::take(&mut state.pending).happened();
        state.settings = std::mem::take(&mut state.settings).then(happened);
        if let Some(folder) = path.parent() {
            for file in state.kept_files() {
                *file = folder.join(&file);
            }
            let gemini = folder.parent().unwrap_or(folder);
            for file in &mut state.hashed {
                file.path = gemini.join(&file.path);
            }
        }
        state.chosen.mirrors = mirrors::with_secrets(path, state.chosen.mirrors);
        Ok(Some(state))
    }

    /// The files that lie in the state's own folder, or in another place if an older gem-setup recorded them.
    fn kept_files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let previous = self.previous.iter_mut().flat_map(|release| release.catalog.iter_mut());
        let chosen = self.chosen.catalog.iter_mut().chain(self.chosen.ca_cert.iter_mut());
        chosen.chain(previous)
    }

    /// Writes the file `path` unless it already says the same. The secrets in mirrors' URLs go to a file of their own.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut state = self.clone();
        for file in state.kept_files() {
            if let Some(name) = path.parent().and_then(|folder| file.strip_prefix(folder).ok()) {
                *file = name.to_owned();
            }
        }
        // The home may be moved.
        let gemini = path.parent().and_then(Path::parent);
        for file in &mut state.hashed {
            if let Some(name) = gemini.and_then(|gemini| file.path.strip_prefix(gemini).ok()) {
                file.path = name.to_owned();
            }
        }
        let kept = mirrors::keep(path, &state.chosen.mirrors);
        kept.map_err(|source| STATE.unwritten(path, source))?;
        state.chosen.mirrors = state.chosen.mirrors.iter().map(without_secrets).collect();
        STATE.write_json(path, &state)
    }
}
