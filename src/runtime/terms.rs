//! The record of accepted terms: nothing is pulled before it holds the model's (docs/contract.md section 3).
//!
//! ```
//! use gem_setup::catalog::Catalog;
//! use gem_setup::runtime::terms::{How, Terms};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("terms.json");
//! let catalog = Catalog::built_in()?;
//! let model = catalog.model("gemma3-1b-gpu-custom").ok_or("no model")?;
//! let mut terms = Terms::read(&path)?;
//! assert!(!terms.cover(model));
//! terms.accept(&path, model, jiff::Timestamp::now(), How::Flag)?;
//! assert!(Terms::read(&path)?.cover(model));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::catalog::Model;
use crate::error::Kind;
use crate::record::{Error, Record};

/// How the terms were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// By `--accept-terms` on the command line.
    Flag,
    /// By `GEM_SETUP_ACCEPT_TERMS` or the configuration file.
    Env,
    /// At the question.
    Prompt,
}

/// One acceptance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The model.
    pub model: String,
    /// The accepted addresses; empty where the catalog has none for the model.
    pub urls: Vec<Url>,
    /// When.
    pub time: Timestamp,
    /// How.
    pub how: How,
}

/// Every acceptance on record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    accepted: Vec<Acceptance>,
}

/// The record, as its errors describe it.
const TERMS: Record = Record {
    name: "record of accepted terms",
    kind: Kind::Unexpected,
    remedy: "run `gem-setup doctor --fix --accept-terms`, which sets it aside",
};

/// The terms of `model` in words: their addresses, or that the catalog names none.
#[must_use]
pub fn in_words(model: &Model) -> String {
    if model.terms.is_empty() {
        return "the terms of its publisher, which the catalog does not name".to_owned();
    }
    let urls: Vec<&str> = model.terms.iter().map(Url::as_str).collect();
    urls.join(" and ")
}

impl Terms {
    /// The record in the file `path`; empty when there is none.
    ///
    /// # Errors
    /// When the file exists but cannot be read or does not parse.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(TERMS.read_json(path)?.unwrap_or_default())
    }

    /// As [`Self::read`]; a file that does not parse is renamed to `….broken`, and the record starts empty.
    ///
    /// # Errors
    /// When the file exists but cannot be read or renamed.
    pub fn read_or_set_aside(path: &Path) -> Result<Self, Error> {
        match Self::read(path) {
            Err(Error::Unusable { .. }) => {
                let aside = std::fs::rename(path, path.with_extension("json.broken"));
                aside.map_err(|source| TERMS.unwritten(path, source))?;
                Ok(Self::default())
            }
            read => read,
        }
    }

    /// Whether everything that `model` asks for today was accepted.
    #[must_use]
    pub fn cover(&self, model: &Model) -> bool {
        self.of(model).is_some()
    }

    /// The acceptance that covers `model`.
    #[must_use]
    pub fn of(&self, model: &Model) -> Option<&Acceptance> {
        self.accepted
            .iter()
            .find(|record| record.model == model.name && model.terms.iter().all(|url| record.urls.contains(url)))
    }

    /// Puts the acceptance of `model`'s terms on record in the file `path`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn accept(&mut self, path: &Path, model: &Model, time: Timestamp, how: How) -> Result<(), Error> {
        self.accepted.retain(|record| record.model != model.name);
        self.accepted.push(Acceptance {
            model: model.name.clone(),
            urls: model.terms.clone(),
            time,
            how,
        });
        TERMS.write_json(path, self)
    }
}
