//! A models file delivered by a catalog and kept in gem-setup's directory. It is used until the models built into
//! gem-setup are newer.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Document, MODELS, Models};
use crate::error::Kind;
use crate::record::{Error, Record};

const DELIVERED: Record = Record {
    name: "delivered models file",
    kind: Kind::Unexpected,
    remedy: "run `gem-setup rollback hosted-models` to return to the built-in models",
};

/// A models file, and the catalog that delivered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveredModels {
    /// The catalog's URL or path.
    pub catalog: String,
    /// The models file's text, in TOML.
    pub text: String,
}

impl DeliveredModels {
    /// Reads the record `path`; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        DELIVERED.read_json(path)
    }

    /// Writes the record `path`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        DELIVERED.write_json(path, self)
    }

    /// The built-in models, overridden by these.
    ///
    /// # Errors
    /// When the text is not a models file, lacks a version of its own, or conflicts with the built-in models.
    pub fn models(&self) -> Result<Models, Error> {
        let over = Document::parse(&self.text, &self.catalog)?;
        if over.version.is_none() {
            return Err(MODELS.unusable(&*self.catalog, "key `version` is missing"));
        }
        Models::overridden_by(&self.text, &self.catalog)
    }
}

impl Models {
    /// The models to use if the user names no file: those delivered in `path` if they are newer than the built-in ones,
    /// else the latter.
    ///
    /// # Errors
    /// When the delivered models cannot be used; the caller should then use the built-in ones.
    pub fn delivered_in(path: &Path) -> Result<Self, Error> {
        let built_in = Self::built_in()?;
        let Some(delivered) = DeliveredModels::read(path)? else {
            return Ok(built_in);
        };
        let version = Document::parse(&delivered.text, &delivered.catalog)?.version;
        if version.is_some_and(|version| built_in.is_older_than(&version)) {
            return delivered.models();
        }
        Ok(built_in)
    }
}
