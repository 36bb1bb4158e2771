//! The catalog: the artifacts, companions and models that can be installed, each pinned by its hash (docs/contract.md section
//! 3).
//!
//! ```
//! let catalog = gem_setup::catalog::Catalog::built_in()?;
//! let lit = catalog.runtime("lit").ok_or("no lit")?;
//! let artifact = lit.artifact("linux-x86_64".parse()?).ok_or("no build")?;
//! assert_eq!(artifact.file_name(), "lit.linux_x86_64");
//! assert_eq!(artifact.sha256.to_string().len(), 64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gem_platform::Target;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::{Explain, Kind};
use crate::sha256::Sha256;

const BUILT_IN: &str = include_str!("catalog.toml");
const FORMAT: u32 = 1;

/// Everything that can be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    format: u32,
    #[serde(default)]
    runtime: BTreeMap<String, RuntimeEntry>,
    #[serde(default, rename = "companion")]
    companions: Vec<Companion>,
    #[serde(default, rename = "model")]
    models: Vec<Model>,
}

/// One runtime at its pinned version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeEntry {
    /// The pinned version.
    pub version: String,
    /// Its executables, one a target at most.
    #[serde(default, rename = "artifact", skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// For a runtime that is a Python package: it and everything it depends on. Empty = the installer chooses dependencies.
    #[serde(default, rename = "package", skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Package>,
}

/// One Python package at its pinned version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name in the index.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What its wheels hash to: one wheel for all platforms, or one each.
    pub sha256: Vec<Sha256>,
}

/// One file to download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// The target it runs on.
    pub target: Target,
    /// Where it is published.
    pub url: Url,
    /// What it must hash to.
    pub sha256: Sha256,
    /// Its size in bytes; 0 = unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
}

/// Files from an archive that the runtime needs in its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Companion {
    /// What people call it.
    pub name: String,
    /// The target that needs it.
    pub target: Target,
    /// Where the archive is published.
    pub url: Url,
    /// What the archive must hash to.
    pub sha256: Sha256,
    /// The archive's size in bytes; 0 = unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Paths inside the zip; each file is placed in the runtime's directory under its own name.
    pub extract: Vec<String>,
}

/// One model that the runtimes can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name it is pulled and served under.
    pub name: String,
    /// What must be accepted before it is pulled.
    #[serde(default)]
    pub terms: Vec<Url>,
    /// Its size in bytes; 0 = unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Where the `litert-lm` runtime imports it from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huggingface: Option<HuggingFace>,
}

/// A file in a Hugging Face repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HuggingFace {
    /// The repository, `owner/name`.
    pub repo: String,
    /// The file inside it.
    pub file: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(size: &u64) -> bool {
    *size == 0
}

/// Why a catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the catalog `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a catalog.
    #[error("cannot use the catalog `{origin}`: {reason}")]
    Parse {
        /// Which catalog.
        origin: String,
        /// Why, with the line.
        reason: String,
    },
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(
            "give `--catalog` a TOML file such as `gem-setup bundle create` writes; the one that was given last is used until \
             `gem-setup uninstall` forgets it"
                .to_owned(),
        )
    }
}

impl Catalog {
    /// The catalog inside the program.
    ///
    /// # Errors
    /// None in a program that passed its tests.
    pub fn built_in() -> Result<Self, Error> {
        Self::parse(BUILT_IN, "built-in")
    }

    /// Reads the catalog in `path`.
    ///
    /// # Errors
    /// When the file cannot be read or is not a catalog.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses the TOML `text`; `origin` names it in errors.
    ///
    /// # Errors
    /// When the text is not a catalog.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let error = |reason: String| Error::Parse {
            origin: origin.to_owned(),
            reason,
        };
        let catalog: Self = toml::from_str(text).map_err(|e| error(e.to_string().trim_end().to_owned()))?;
        if catalog.format != FORMAT {
            return Err(error(format!(
                "format {} is not known, expected {FORMAT}",
                catalog.format
            )));
        }
        Ok(catalog)
    }

    /// The catalog as TOML, for a bundle.
    ///
    /// # Errors
    /// None for a catalog that was parsed.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|e| Error::Parse {
            origin: "catalog to write".to_owned(),
            reason: e.to_string(),
        })
    }

    /// The runtime called `name`.
    #[must_use]
    pub fn runtime(&self, name: &str) -> Option<&RuntimeEntry> {
        self.runtime.get(name)
    }

    /// The companions of `target`.
    pub fn companions(&self, target: Target) -> impl Iterator<Item = &Companion> {
        self.companions
            .iter()
            .filter(move |companion| companion.target == target)
    }

    /// The model called `name`.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }

    /// The models' names.
    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|model| model.name.as_str())
    }
}

impl RuntimeEntry {
    /// The artifact for `target`.
    #[must_use]
    pub fn artifact(&self, target: Target) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.target == target)
    }
}

impl Artifact {
    /// The file's name: the last segment of the URL's path.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.url.path().rsplit('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalog_pins_lit_for_the_three_published_targets() {
        let catalog = Catalog::built_in().unwrap();
        let lit = catalog.runtime("lit").unwrap();
        let published: Vec<_> = Target::ALL
            .into_iter()
            .filter(|t| lit.artifact(*t).is_some())
            .map(|t| t.to_string())
            .collect();
        assert_eq!(published, ["linux-x86_64", "macos-arm64", "windows-x86_64"]);
    }

    #[test]
    fn a_catalog_survives_being_written_and_read() {
        let catalog = Catalog::built_in().unwrap();
        assert_eq!(Catalog::parse(&catalog.to_toml().unwrap(), "copy").unwrap(), catalog);
    }

    #[test]
    fn a_wrong_hash_is_refused_with_its_line() {
        let text = BUILT_IN.replacen("66601df8", "nonsense", 1);
        let error = Catalog::parse(&text, "x.toml").unwrap_err().to_string();
        assert!(error.contains("x.toml") && error.contains("nonsense"), "{error}");
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let error = Catalog::parse("format = 2", "x.toml").unwrap_err().to_string();
        assert!(error.contains("format 2"), "{error}");
    }
}
