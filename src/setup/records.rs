//! The parts of `state.json` that describe one release of the runtime, or the model.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::catalog::Model;
use crate::layout::Layout;
use crate::runtime::RuntimeName;
use crate::sha256::Sha256;

/// The parts of an installation that change together with a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its name ([`Catalog::release`](crate::catalog::Catalog::release)); `None` = recorded by a gem-setup that kept no names.
    pub name: Option<String>,
    /// Of which runtime.
    pub runtime: RuntimeName,
    /// The runtime's version.
    pub version: Option<String>,
    /// Whether it lies in a folder of its own, not in the usual place.
    pub is_beside: bool,
    /// The copy of its catalog; `None` = the built-in one.
    pub catalog: Option<PathBuf>,
    /// The signature of its catalog, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedCatalog>,
    /// The `litert-lm` found on the PATH, if that is used.
    #[serde(default)]
    pub litert_lm: Option<PathBuf>,
    /// Its companions.
    #[serde(default)]
    pub companions: Vec<PlacedFile>,
    /// The last smoke test that it passed.
    #[serde(default)]
    pub smoke: Option<SmokeRecord>,
}

/// A swap of the model in use with another one, which has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSwap {
    /// Ends the name that the other one has until then.
    pub from: String,
    /// The other one, as a catalog describes it.
    #[serde(default)]
    pub source: Option<Model>,
    /// What tells the other one's folder from others, where both can be exchanged in one step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incoming: Option<u64>,
    /// Whether it is being taken back.
    #[serde(default)]
    pub is_back: bool,
}

/// Where a signed catalog came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCatalog {
    /// Its address.
    pub url: Url,
    /// When it was signed, as its trusted comment says; an older one is refused.
    pub time: Timestamp,
}

impl Release {
    /// One of which nothing is known yet.
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

    /// Its folder under `versions`: for the runtime if that lies there, and for the copy of a catalog.
    #[must_use]
    pub fn folder(&self, layout: &Layout) -> Option<PathBuf> {
        Some(layout.versions().join(self.name.as_ref()?))
    }
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

/// A smoke test that passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmokeRecord {
    /// When.
    pub time: Timestamp,
    /// The combination tested: runtime, version, model and port.
    pub subject: String,
}
