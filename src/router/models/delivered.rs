//! A models file that a catalog delivered, kept in gem-setup's folder. It counts until this gem-setup's own models are newer.

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

/// A models file, and the catalog that it came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveredModels {
    /// The catalog: a URL or a path.
    pub catalog: String,
    /// The models file, in TOML.
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

    /// The built-in models with these put over them.
    ///
    /// # Errors
    /// When the text is no models file, has no version of its own, or conflicts with the built-in models.
    pub fn models(&self) -> Result<Models, Error> {
        let over = Document::parse(&self.text, &self.catalog)?;
        if over.version.is_none() {
            return Err(MODELS.unusable(&*self.catalog, "key `version` is missing"));
        }
        Models::overridden_by(&self.text, &self.catalog)
    }
}

impl Models {
    /// The models in force where the user names none: those delivered in `path` if they are newer than the built-in ones.
    ///
    /// # Errors
    /// When the delivered ones cannot be used; the built-in ones are then left.
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
