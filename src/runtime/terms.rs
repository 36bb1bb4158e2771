//! The record of accepted terms. A model is pulled only after its terms are recorded here (docs/contract.md section 3).
//!
//! ```
//! use gem_setup::catalog::Catalog;
//! use gem_setup::runtime::terms::{How, Terms};
//!
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("terms.json");
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
    /// With `--accept-terms` on the command line.
    Flag,
    /// With `GEM_SETUP_ACCEPT_TERMS` or the configuration file.
    Env,
    /// In the answer to a question.
    Prompt,
}

/// One acceptance of terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The model.
    pub model: String,
    /// The addresses of the accepted terms; empty if the catalog has none for the model.
    pub urls: Vec<Url>,
    /// The time of the acceptance.
    pub time: Timestamp,
    /// How the terms were accepted.
    pub how: How,
}

/// All recorded acceptances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    accepted: Vec<Acceptance>,
}

/// The record, as errors describe it.
const TERMS: Record = Record {
    name: "record of accepted terms",
    kind: Kind::Unexpected,
    remedy: "run `gem-setup doctor --fix --accept-terms`, which moves that file aside",
};

/// A description of the terms of `model`: their addresses, or that the catalog has none.
#[must_use]
pub fn in_words(model: &Model) -> String {
    if model.terms.is_empty() {
        return "its publisher's terms, whose address the catalog does not know".to_owned();
    }
    let urls: Vec<&str> = model.terms.iter().map(Url::as_str).collect();
    urls.join(" and ")
}

impl Terms {
    /// Reads the record in the file `path`; empty if the file does not exist.
    ///
    /// # Errors
    /// When the file exists but cannot be read or does not parse.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(TERMS.read_json(path)?.unwrap_or_default())
    }

    /// Like [`Self::read`], but renames a file that does not parse to `….broken` and starts with an empty record.
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

    /// Whether all present terms of `model` were accepted.
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

    /// Records in the file `path` that the terms of `model` were accepted.
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
