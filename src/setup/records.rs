//! The parts of `state.json` that describe a release of the runtime, or the model.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::catalog::{CatalogKey, Model};
use crate::layout::Layout;
use crate::runtime::RuntimeName;
use crate::sha256::Sha256;

/// The part of an installation that changes with a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The release's name ([`Catalog::release`](crate::catalog::Catalog::release)); `None` if an older gem-setup
    /// recorded it without a name.
    pub name: Option<String>,
    /// The runtime.
    pub runtime: RuntimeName,
    /// The runtime's version.
    pub version: Option<String>,
    /// Whether the release is in its own directory instead of the usual place.
    pub is_beside: bool,
    /// The copy of the release's catalog; `None` for the built-in one.
    pub catalog: Option<PathBuf>,
    /// The signature of the release's catalog, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedCatalog>,
    /// The `litert-lm` on the PATH, if that one is used.
    #[serde(default)]
    pub litert_lm: Option<PathBuf>,
    /// The release's companions.
    #[serde(default)]
    pub companions: Vec<PlacedFile>,
    /// The last smoke test that the release passed.
    #[serde(default)]
    pub smoke: Option<SmokeRecord>,
}

/// A swap of the current model for another one, which has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSwap {
    /// The suffix of the other model's name until the swap is complete.
    pub from: String,
    /// The other model, as a catalog describes it.
    #[serde(default)]
    pub source: Option<Model>,
    /// Identifies the other model's directory, if both directories can be exchanged in one step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incoming: Option<u64>,
    /// Whether the swap is being reverted.
    #[serde(default)]
    pub is_back: bool,
}

/// The source of a signed catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCatalog {
    /// The catalog's address.
    pub url: Url,
    /// The time of the signature, from its trusted comment. Older catalogs by the same key are refused.
    pub time: Timestamp,
    /// The key that signed it; `None` = recorded by a gem-setup that kept no keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CatalogKey>,
}

impl Release {
    /// A release about which nothing is known yet.
    pub(super) fn unknown() -> Self {
        Self {
            name: None,
            runtime: RuntimeName::Builtin,
            version: None,
            is_beside: false,
            catalog: None,
            signed: None,
            litert_lm: None,
            companions: Vec::new(),
            smoke: None,
        }
    }

    /// The release's directory under `versions`: for the runtime if it is installed there, and for the copy of the
    /// catalog.
    #[must_use]
    pub fn directory(&self, layout: &Layout) -> Option<PathBuf> {
        Some(layout.versions().join(self.name.as_ref()?))
    }
}

/// A file that gem-setup has installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedFile {
    /// The file's path.
    pub path: PathBuf,
    /// The file's hash at that time.
    pub sha256: Sha256,
    /// The hash of the archive that contained it.
    pub archive: Sha256,
}

/// A smoke test that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmokeFault {
    /// When it failed.
    pub time: Timestamp,
    /// Why.
    pub message: String,
}

/// A smoke test that passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmokeRecord {
    /// When it passed.
    pub time: Timestamp,
    /// The tested combination: runtime, version, model and port.
    pub subject: String,
}
