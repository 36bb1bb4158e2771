//! `state.json`: the choices and results of `install`, which later commands use.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::wanted::Chosen;
use crate::error::{Explain, Kind};
use crate::place;
use crate::runtime::LocalModelName;
use crate::settings::Applied;
use crate::sha256::Sha256;

const FORMAT: u32 = 1;

/// The record of `install`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub(super) format: u32,
    /// The choices.
    #[serde(flatten)]
    pub chosen: Chosen,
    /// The runtime's pinned version, `None` for the built-in one.
    pub version: Option<String>,
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

/// A file that was put in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedFile {
    /// Where.
    pub path: PathBuf,
    /// Its hash at that time.
    pub sha256: Sha256,
    /// The archive it came from.
    pub archive: Sha256,
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

/// A smoke test that passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmokeRecord {
    /// When.
    pub time: Timestamp,
    /// The combination tested: runtime, version, model and port.
    pub subject: String,
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the recorded state `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no state.
    #[error("the recorded state `{}` does not parse: {reason}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot write the state `{}`", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        Kind::Unexpected
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Read { .. } => "check the file's permissions",
            Self::Parse { .. } => {
                "move the file away and run `gem-setup install` again, with the same options as before"
            }
            Self::Write { .. } => {
                "check that the disk has room and that the directory is yours, then run the command again"
            }
        };
        Some(hint.to_owned())
    }
}

impl Default for State {
    /// The state of a machine without an installation.
    fn default() -> Self {
        Self {
            format: FORMAT,
            chosen: Chosen::default(),
            version: None,
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
    /// The recorded hash of the file `path`, if size and time of change are still the recorded ones.
    #[must_use]
    pub fn hash_of(&self, path: &Path) -> Option<Sha256> {
        let metadata = std::fs::metadata(path).ok()?;
        let known = self.hashed.iter().find(|known| known.is(path, &metadata))?;
        Some(known.sha256)
    }

    /// Whether the file `path` hashed to `sha256` when gem-setup put it in place.
    pub(super) fn placed(&self, path: &Path, sha256: Sha256) -> bool {
        self.hashed
            .iter()
            .any(|known| known.path == path && known.sha256 == sha256)
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
        let bytes = place::read_if_present(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        let parse = |reason: String| Error::Parse {
            path: path.to_owned(),
            reason,
        };
        let mut state: Self = serde_json::from_slice(&bytes).map_err(|error| parse(error.to_string()))?;
        if state.format != FORMAT {
            return Err(parse(format!(
                "format {} is not known, expected {FORMAT}",
                state.format
            )));
        }
        let happened = std::mem::take(&mut state.pending).happened();
        state.settings = std::mem::take(&mut state.settings).then(happened);
        if let Some(folder) = path.parent() {
            for file in state.kept_files() {
                *file = folder.join(&file);
            }
        }
        Ok(Some(state))
    }

    /// The files that lie in the state's own folder, or in another place if an older gem-setup recorded them.
    fn kept_files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.chosen.catalog.iter_mut().chain(self.chosen.ca_cert.iter_mut())
    }

    /// Writes the file `path` unless it already says the same.
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
        let mut text = serde_json::to_vec_pretty(&state).map_err(|error| Error::Parse {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        text.push(b'\n');
        if place::read(path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        place::write_private(path, &text).map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
    }
}
