//! `state.json`: the choices and results of `install`, which later commands use.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::records::{ModelSwap, PlacedFile, Release, SmokeFault, SmokeRecord};
use super::wanted::Chosen;
use super::{mirrors, salvage};
use crate::catalog::Model;
use crate::error::Kind;
use crate::layout::Layout;
use crate::net::without_secrets;
use crate::place;
use crate::record::{Error, Record};
use crate::runtime::LocalModelName;
use crate::settings::{Applied, Destination};
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
    /// The pinned version of the runtime; `None` for the built-in one.
    pub version: Option<String>,
    /// The name of the current release ([`Catalog::release`](crate::catalog::Catalog::release)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Whether the current release is in its own directory instead of the usual place.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_beside: bool,
    /// The previous release, for `rollback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Release>,
    /// The model, as its catalog describes it; `None` if it does not come from a catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_source: Option<Model>,
    /// The previous model, which is kept too, as its catalog describes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_before: Option<Model>,
    /// A model file that is about to replace the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_swap: Option<ModelSwap>,
    /// How many times the model file was replaced; the engine must be replaced each time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub model_swaps: u32,
    /// Models that were absent when gem-setup began to pull them. `uninstall --purge` deletes only these.
    #[serde(default)]
    pub pulled: Vec<LocalModelName>,
    /// The `litert-lm` on the PATH, if that one is used; `None` for the one in its own environment.
    #[serde(default)]
    pub litert_lm: Option<PathBuf>,
    /// The companions of the runtime.
    #[serde(default)]
    pub companions: Vec<PlacedFile>,
    /// Files whose hash was recorded when they were installed.
    #[serde(default)]
    pub hashed: Vec<HashedFile>,
    /// The changes to settings files, for `uninstall`.
    #[serde(default)]
    pub settings: Applied,
    /// Changes that are about to be written to settings files; they remain only if the process was killed in between.
    #[serde(default, skip_serializing_if = "Applied::is_empty")]
    pub pending: Applied,
    /// The last smoke test that passed.
    #[serde(default)]
    pub smoke: Option<SmokeRecord>,
    /// The last smoke test, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoke_fault: Option<SmokeFault>,
    /// While another release is tried, the state before, and the directory of that release: the record keeps describing the
    /// release in use.
    #[serde(skip)]
    pub(super) in_use: Option<Box<(State, Option<PathBuf>)>>,
}

/// A file's hash, with size and time of change to recognise the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashedFile {
    /// The file's path.
    pub path: PathBuf,
    /// The file's hash.
    pub sha256: Sha256,
    /// The file's size in bytes.
    pub size: u64,
    /// The time of the last write.
    pub modified: Timestamp,
}

impl HashedFile {
    /// Whether gem-setup put the file at `path`, where the record expects this one. After a claim, the process may have
    /// been killed before the file was in place, so only a file with its hash counts.
    pub(super) fn is_ours_at(&self, path: &Path) -> bool {
        let is_claim = self.size == 0 && self.modified == Timestamp::UNIX_EPOCH;
        !is_claim || Sha256::of_file(path).is_ok_and(|sha256| sha256 == self.sha256)
    }

    fn is(&self, path: &Path, metadata: &Metadata) -> bool {
        let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        self.path == path && self.size == metadata.len() && Some(self.modified) == modified
    }
}

/// The home whose record is `path`; `None` for a record elsewhere.
fn home_of(path: &Path) -> Option<&Path> {
    let home = path.ancestors().nth(3)?;
    (Layout::new(home, home).state_file() == path).then_some(home)
}

/// The record, as errors describe it.
const STATE: Record = Record {
    name: "recorded state",
    kind: Kind::Unexpected,
    remedy: "move the file somewhere else and run `gem-setup install` again, with the same options as before",
};

/// The error for a record that a newer gem-setup wrote, which this one may not understand.
fn newer_format(path: &Path) -> Option<Error> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let Versioned { format } = STATE.read_json(path).ok()??;
    let reason = format!("it was written by a newer gem-setup (format {format}; this one knows {FORMAT})");
    let hint = || Some(format!("run that newer gem-setup, or {}", STATE.remedy));
    (format > FORMAT).then(|| STATE.unusable(path.to_string_lossy(), reason).with_hint(hint))
}

/// The hint for the damaged record `path`, with the options that are still readable; `None` without any.
fn advice_for(path: &Path) -> Option<String> {
    let bytes = place::read(path).unwrap_or_default();
    let mut options = salvage::options_in(&String::from_utf8_lossy(&bytes), place::parent(path));
    if let Some(home) = home_of(path).filter(|_| options.is_empty()) {
        options = salvage::options_of_server(&Layout::new(home, home));
    }
    let command = (!options.is_empty()).then(|| format!("gem-setup install {}", options.join(" ")))?;
    Some(format!(
        "move the file somewhere else and run `{command}`, which has the options that are still readable; add the others of \
         before"
    ))
}

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
            smoke_fault: None,
            in_use: None,
        }
    }
}

impl State {
    /// Whether the record contains only changes to settings files, since `settings apply` installs nothing, or the files of
    /// an installation that was killed during its first step.
    #[must_use]
    pub fn is_of_settings_alone(&self) -> bool {
        let without = Self {
            settings: Applied::default(),
            pending: Applied::default(),
            hashed: Vec::new(),
            ..self.clone()
        };
        without == Self::default()
    }

    /// The directory whose settings were changed, if the choice was the workspace's and `current`, where the program works now, is
    /// another one.
    #[must_use]
    pub fn workspace_elsewhere(&self, current: &Path) -> Option<PathBuf> {
        let changed = || self.settings.routing_directories();
        let is_elsewhere =
            self.chosen.scope == Destination::Workspace && !changed().any(|directory| directory == current);
        changed().next_back().filter(|_| is_elsewhere).map(Path::to_owned)
    }

    /// Makes the next installation test again, because a part that the last test covered has changed.
    pub(super) fn forget_smoke(&mut self) {
        self.smoke = None;
        self.smoke_fault = None;
    }

    /// The edition of the current model, if it came from a catalog.
    #[must_use]
    pub fn model_edition(&self) -> Option<String> {
        self.model_source.as_ref()?.edition()
    }

    /// Identifies the file of the model `name` from `source`: the first digits of its SHA-256, if recorded.
    pub(super) fn model_version(&self, layout: &Layout, name: &str, source: Option<&Model>) -> Option<String> {
        let file = layout.model_file(name);
        match self.placed(&file) {
            Some(sha256) => Some(sha256.short()),
            None => source.and_then(Model::version),
        }
    }

    /// Whether `model` describes the current model. Without a hash in `model`, only the address is compared.
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

    /// The recorded hash of the file `path`, if size and time of change still match the record.
    #[must_use]
    pub fn hash_of(&self, path: &Path) -> Option<Sha256> {
        let metadata = std::fs::metadata(path).ok()?;
        let known = self.hashed.iter().find(|known| known.is(path, &metadata))?;
        Some(known.sha256)
    }

    /// The hash of the file `path` when gem-setup installed it.
    pub(super) fn placed(&self, path: &Path) -> Option<Sha256> {
        let known = self.hashed.iter().find(|known| known.path == path)?;
        Some(known.sha256)
    }

    /// Records `sha256` as the hash of the file `path`.
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

    /// Records that gem-setup is about to put a file with the hash `sha256` at `path`, so that `uninstall` deletes it even
    /// if the process is killed before [`Self::remember_hash`].
    pub(super) fn claim_file(&mut self, path: &Path, sha256: Sha256) {
        self.hashed.retain(|known| known.path != path);
        self.hashed.push(HashedFile {
            path: path.to_owned(),
            sha256,
            size: 0,
            modified: Timestamp::UNIX_EPOCH,
        });
    }

    /// Reads the record from the file `path`; `None` if the file does not exist.
    ///
    /// # Errors
    /// When the file, or the one with the secrets of mirrors, exists but cannot be read or does not parse.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let Some(mut state) = Self::read_without_secrets(path)? else {
            return Ok(None);
        };
        state.chosen.mirrors = mirrors::with_secrets(path, state.chosen.mirrors)?;
        Ok(Some(state))
    }

    /// Like [`Self::read`], but the URLs of mirrors lack their secrets. For what needs no mirrors and does not write the
    /// record again.
    ///
    /// # Errors
    /// When the file exists but cannot be read or does not parse.
    pub(super) fn read_without_secrets(path: &Path) -> Result<Option<Self>, Error> {
        let advised = |error: Error| match newer_format(path) {
            Some(newer) => newer,
            None => error.with_hint(|| advice_for(path)),
        };
        let Some(mut state) = STATE.read_json::<Self>(path).map_err(advised)? else {
            return Ok(None);
        };
        let known = STATE.check_format(&path.to_string_lossy(), state.format, FORMAT);
        known.map_err(advised)?;
        if let Some(home) = home_of(path) {
            let layout = Layout::new(home, home);
            let here = |applied: Applied| applied.in_home(&layout.user_settings(), &layout.backups());
            state.pending = here(std::mem::take(&mut state.pending));
            state.settings = here(std::mem::take(&mut state.settings));
        }
        let happened = std::mem::take(&mut state.pending).happened();
        state.settings = std::mem::take(&mut state.settings).then(happened);
        if let Some(directory) = path.parent() {
            for file in state.kept_files() {
                *file = directory.join(&file);
            }
            let gemini = directory.parent().unwrap_or(directory);
            for file in &mut state.hashed {
                file.path = gemini.join(&file.path);
            }
        }
        Ok(Some(state))
    }

    /// The recorded copies of files. They are in the state's own directory, or elsewhere if an older gem-setup recorded
    /// them.
    fn kept_files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let previous = self.previous.iter_mut().flat_map(|release| release.catalog.iter_mut());
        let chosen = self.chosen.catalog.iter_mut().chain(self.chosen.ca_cert.iter_mut());
        chosen.chain(previous)
    }

    /// Writes the record to the file `path`, unless it is unchanged. Secrets in the URLs of mirrors are written to a
    /// separate file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut state = self.recorded();
        for file in state.kept_files() {
            if let Some(name) = path.parent().and_then(|directory| file.strip_prefix(directory).ok()) {
                *file = name.to_owned();
            }
        }
        // Paths are stored relative to the home, because the home may be moved.
        let gemini = path.parent().and_then(Path::parent);
        for file in &mut state.hashed {
            if let Some(name) = gemini.and_then(|gemini| file.path.strip_prefix(gemini).ok()) {
                file.path = name.to_owned();
            }
        }
        let mirrors = std::mem::take(&mut state.chosen.mirrors);
        state.chosen.mirrors = mirrors.iter().map(without_secrets).collect();
        // Until the record is written, the one before needs its own secrets.
        let unwritten = |source| STATE.unwritten(path, source);
        mirrors::add(path, &mirrors).map_err(unwritten)?;
        STATE.write_json(path, &state)?;
        mirrors::keep(path, &mirrors).map_err(unwritten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn a_newer_record_or_a_wrong_port_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = Layout::new(home.path(), home.path()).state_file();
        State::default().write(&path).unwrap();
        let text = place::read_text(&path).unwrap();
        for (from, to, says, advises) in [
            (
                "\"format\": 1",
                "\"format\": 2",
                "by a newer gem-setup (format 2",
                "run that newer gem-setup",
            ),
            ("\"port\": 9379", "\"port\": 0", "`port` is 0", "move the file"),
        ] {
            place::write_private(&path, text.replace(from, to).as_bytes()).unwrap();
            let failure = Failure::from(State::read(&path).unwrap_err());
            assert!(failure.message.contains(says), "{failure:?}");
            let hint = failure.hint.unwrap();
            assert!(hint.contains(advises) && !hint.contains("--port 0"), "{hint}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_written_leaves_the_secrets_of_the_one_before() {
        let home = tempfile::tempdir().unwrap();
        let path = Layout::new(home.path(), home.path()).state_file();
        let with = |mirror: &str| {
            let mut state = State::default();
            state.chosen.mirrors = vec![mirror.parse().unwrap()];
            state
        };
        let before = with("http://user:secret@one.example/");
        before.write(&path).unwrap();
        let aside = path.with_extension("aside");
        for mirror in ["http://two.example/", "http://user:other@two.example/"] {
            std::fs::rename(&path, &aside).unwrap();
            std::fs::create_dir(&path).unwrap();
            with(mirror).write(&path).unwrap_err();
            std::fs::remove_dir(&path).unwrap();
            std::fs::rename(&aside, &path).unwrap();
            assert_eq!(State::read(&path).unwrap().unwrap(), before);
        }
        let after = with("http://two.example/");
        after.write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap().unwrap(), after);
        assert!(
            !path.with_file_name(crate::layout::MIRRORS_FILE).exists(),
            "secrets are left"
        );
    }

    #[test]
    fn the_record_describes_the_release_in_use_while_another_is_tried() {
        let mut state = State {
            litert_lm: Some("/one".into()),
            ..State::default()
        };
        let before = state.clone();
        state.begin_trial(Release::unknown(), Some("/versions/two".into()));
        state.litert_lm = Some("/two".into());
        state.claim_file(Path::new("/versions/two/lit"), Sha256::of("two"));
        assert_eq!(state.recorded(), before);
        state.claim_file(Path::new("/models/one"), Sha256::of("one"));
        assert_eq!(state.recorded().hashed.len(), 1, "a model stays");
    }
}
