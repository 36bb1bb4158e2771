//! The catalog: the artifacts, companions and models that can be installed, each pinned by its hash (docs/contract.md section 3).
//!
//! ```
//! let catalog = gem_setup::catalog::Catalog::built_in()?;
//! let lit = catalog.runtime("lit").ok_or("no lit")?;
//! let artifact = lit.artifact("linux-x86_64".parse()?).ok_or("no build")?;
//! assert_eq!(artifact.file_name(), "lit.linux_x86_64");
//! assert_eq!(artifact.sha256.to_string().len(), 64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod signed;

use std::collections::BTreeMap;
use std::path::Path;

use gem_platform::Target;
use serde::{Deserialize, Serialize};
use url::Url;

pub use signed::{CatalogKey, Error as SignedError, Signed};

use crate::error::Kind;
use crate::record::{Error, Record};
use crate::sha256::Sha256;

const BUILT_IN: &str = include_str!("catalog.toml");
const FORMAT: u32 = 1;

/// The runtimes, companions and models that can be installed.
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
    #[serde(default, rename = "gem-setup", skip_serializing_if = "Option::is_none")]
    own: Option<RuntimeEntry>,
    #[serde(default, rename = "hosted-models", skip_serializing_if = "Option::is_none")]
    hosted_models: Option<HostedModels>,
}

/// One runtime at its pinned version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeEntry {
    /// The pinned version.
    pub version: String,
    /// Its executables, at most one per target.
    #[serde(default, rename = "artifact", skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// The Python package of the runtime and all its dependencies. Empty = the installer chooses the versions.
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
    /// The SHA-256 of its wheels: one wheel for all platforms, or one for each.
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
    /// The SHA-256 that it must have.
    pub sha256: Sha256,
    /// Its size in bytes; 0 = unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
}

/// The names and chains of the hosted models, newer than those inside gem-setup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostedModels {
    /// A models file with a `version`: TOML as a string, so that the catalog's signature covers it.
    pub file: String,
}

/// Files from an archive that the runtime needs in its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Companion {
    /// The name shown to people.
    pub name: String,
    /// The target that needs it.
    pub target: Target,
    /// Where the archive is published.
    pub url: Url,
    /// The SHA-256 that the archive must have.
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
    /// The addresses of the terms to accept before a pull.
    #[serde(default)]
    pub terms: Vec<Url>,
    /// Its size in bytes; 0 = unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Where the file for the `litert-lm` runtime is published.
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
    /// The file's SHA-256; absent = the one that the hub states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(size: &u64) -> bool {
    *size == 0
}

/// A catalog, as its errors describe it.
const CATALOG: Record = Record {
    name: "catalog",
    kind: Kind::Usage,
    remedy: "give `--catalog` a TOML file such as `gem-setup bundle create` writes; the one that was given last is used until \
             `gem-setup uninstall` forgets it",
};

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
        Self::parse(&CATALOG.read_text(path)?, &path.to_string_lossy())
    }

    /// Parses the TOML `text`; `origin` names it in errors.
    ///
    /// # Errors
    /// When the text is not a catalog.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let catalog: Self = CATALOG.parse_toml(text, origin)?;
        CATALOG.check_format(origin, catalog.format, FORMAT)?;
        Ok(catalog)
    }

    /// The catalog as TOML, for a bundle.
    ///
    /// # Errors
    /// None for a catalog that was parsed.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|error| CATALOG.unusable("to write", error))
    }

    /// The runtime called `name`.
    #[must_use]
    pub fn runtime(&self, name: &str) -> Option<&RuntimeEntry> {
        self.runtime.get(name)
    }

    /// The entry of gem-setup itself.
    #[must_use]
    pub const fn own(&self) -> Option<&RuntimeEntry> {
        self.own.as_ref()
    }

    /// The models file that the catalog delivers.
    #[must_use]
    pub fn hosted_models(&self) -> Option<&str> {
        self.hosted_models.as_ref().map(|models| &*models.file)
    }

    /// The companions of `target`.
    pub fn companions(&self, target: Target) -> impl Iterator<Item = &Companion> {
        self.companions
            .iter()
            .filter(move |companion| companion.target == target)
    }

    /// The name of this catalog's release of `runtime` on `target`, usable as a directory name. Equal bytes get the same name wherever they
    /// are published. `None` if there is no build.
    #[must_use]
    pub fn release(&self, runtime: &str, target: Target) -> Option<String> {
        let entry = self.runtime(runtime)?;
        let mut parts = vec![entry.version.clone()];
        if entry.artifacts.is_empty() {
            parts.extend(entry.packages.iter().map(|package| format!("{package:?}")));
        } else {
            parts.push(entry.artifact(target)?.sha256.to_string());
            let companions = self.companions(target);
            parts.extend(companions.map(|companion| format!("{} {:?}", companion.sha256, companion.extract)));
        }
        let digest = Sha256::of(parts.join("\0")).to_string();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
        let version: String = entry.version.chars().filter(|c| is_plain(*c)).take(40).collect();
        Some(format!("{runtime}-{version}-{}", digest.get(..8)?))
    }

    /// The model called `name`.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }

    /// The part of the catalog for these targets, each with the name of its runtime; without gem-setup itself.
    #[must_use]
    pub fn only(&self, wanted: &[(Target, &str)]) -> Self {
        let mut part = self.clone();
        part.own = None;
        part.runtime.retain(|name, entry| {
            entry
                .artifacts
                .retain(|artifact| wanted.contains(&(artifact.target, name.as_str())));
            wanted.iter().any(|(_, runtime)| runtime == name)
        });
        part.companions
            .retain(|companion| wanted.contains(&(companion.target, "lit")));
        part
    }

    /// Replaces the model that has the name of `model`.
    pub fn pin_model(&mut self, model: Model) {
        self.models.retain(|known| known.name != model.name);
        self.models.push(model);
    }

    /// Pins the packages of `runtime`, if it is in the catalog.
    pub fn pin_packages(&mut self, runtime: &str, packages: Vec<Package>) {
        if let Some(entry) = self.runtime.get_mut(runtime) {
            entry.packages = packages;
        }
    }

    /// The models' names.
    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|model| model.name.as_str())
    }
}

impl Model {
    /// The first digits of the file's SHA-256, else the file's name; `None` if the catalog names no file.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        let source = self.huggingface.as_ref()?;
        Some(source.sha256.map_or_else(|| source.file.clone(), Sha256::short))
    }

    /// A short identifier of the file that the model is imported from; `None` if the catalog names none.
    #[must_use]
    pub fn edition(&self) -> Option<String> {
        let source = self.huggingface.as_ref()?;
        let digest = Sha256::of(format!("{source:?}")).to_string();
        digest.get(..8).map(str::to_owned)
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
        assert!(error.contains("`format`: unknown value `2`, expected `1`"), "{error}");
    }
}
