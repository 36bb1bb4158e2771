//! The hosted models, their aliases and their chains, as data (`models.toml`).
//!
//! ```
//! use gem_setup::router::{Models, Selection, Tier};
//!
//! let models = Models::built_in()?;
//! let Selection::Choice { pro, .. } = models.resolve(&"gem-auto".parse()?) else {
//!     return Err("`gem-auto` is not classified".into());
//! };
//! assert_eq!(models.tier(&pro), Some(Tier::Pro));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::policy::{Chain, Policy};
use super::{ModelName, Tier};
use crate::error::{Explain, Kind};

pub use validate::Inconsistency;

const BUILT_IN: &str = include_str!("models.toml");
const FORMAT: u32 = 1;

/// Every model, alias, choice, family and chain; checked once, then trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Models {
    default: ModelName,
    models: BTreeMap<ModelName, ModelEntry>,
    aliases: BTreeMap<ModelName, ModelName>,
    choices: BTreeMap<ModelName, ChoiceEntry>,
    families: BTreeMap<String, FamilyEntry>,
    chains: BTreeMap<String, Chain>,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The request must be classified.
    Choice {
        /// Where complex requests go.
        pro: ModelName,
        /// Where simple requests go.
        flash: ModelName,
        /// The name of the chain.
        chain: String,
    },
    /// One model, known or not.
    Model(ModelName),
}

impl Selection {
    /// The model of a choice for `tier`; a selected model stays what it is.
    #[must_use]
    pub const fn model_for(&self, tier: Tier) -> &ModelName {
        match (self, tier) {
            (Self::Model(model), _) => model,
            (Self::Choice { pro, .. }, Tier::Pro) => pro,
            (Self::Choice { flash, .. }, Tier::Flash) => flash,
        }
    }
}

/// The tiers, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ModelTier {
    FlashLite,
    Flash,
    Pro,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelEntry {
    family: String,
    tier: ModelTier,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChoiceEntry {
    pro: ModelName,
    flash: ModelName,
    chain: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyEntry {
    chain: String,
    utility: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainEntry {
    #[serde(default)]
    wraps_around: bool,
    #[serde(default, rename = "policy")]
    policies: Vec<Policy>,
}

/// One file, before it is put over another and checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    default: Option<ModelName>,
    #[serde(default, rename = "model")]
    models: BTreeMap<ModelName, ModelEntry>,
    #[serde(default, rename = "alias")]
    aliases: BTreeMap<ModelName, ModelName>,
    #[serde(default, rename = "choice")]
    choices: BTreeMap<ModelName, ChoiceEntry>,
    #[serde(default, rename = "family")]
    families: BTreeMap<String, FamilyEntry>,
    #[serde(default, rename = "chain")]
    chains: BTreeMap<String, ChainEntry>,
}

/// Why a models file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the models file `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is no models file.
    #[error("cannot use the models file `{origin}`: {reason}")]
    Parse {
        /// Which file.
        origin: String,
        /// Why, with the line.
        reason: String,
    },
    /// The entries do not fit together.
    #[error("cannot use the models file `{origin}`: {}", join(faults))]
    Invalid {
        /// Which file.
        origin: String,
        /// All inconsistencies.
        faults: Vec<Inconsistency>,
    },
}

fn join(faults: &[Inconsistency]) -> String {
    faults
        .iter()
        .map(Inconsistency::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("correct the file, or leave it out to use the built-in models".to_owned())
    }
}

impl Models {
    /// The models inside the program.
    ///
    /// # Errors
    /// None in a program that passed its tests.
    pub fn built_in() -> Result<Self, Error> {
        Document::parse(BUILT_IN, "built-in")?.check("built-in")
    }

    /// The built-in models with those of the file `path` put over them: an entry of the same name takes the place of the
    /// built-in one, a chain as a whole.
    ///
    /// # Errors
    /// When the file cannot be read or parsed, or conflicts with the built-in models.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::overridden_by(&text, &path.display().to_string())
    }

    /// As [`Models::read`], from the TOML `text`; `origin` names it in errors.
    ///
    /// # Errors
    /// When the text cannot be parsed, or conflicts with the built-in models.
    pub fn overridden_by(text: &str, origin: &str) -> Result<Self, Error> {
        let over = Document::parse(text, origin)?;
        Document::parse(BUILT_IN, "built-in")?.with(over).check(origin)
    }

    /// The model of a request that names none.
    #[must_use]
    pub const fn default_name(&self) -> &ModelName {
        &self.default
    }

    /// What `name` stands for; a name that is not known is a custom model.
    #[must_use]
    pub fn resolve(&self, name: &ModelName) -> Selection {
        let mut name = name;
        while let Some(target) = self.aliases.get(name) {
            name = target;
        }
        match self.choices.get(name) {
            Some(ChoiceEntry { pro, flash, chain }) => Selection::Choice {
                pro: pro.clone(),
                flash: flash.clone(),
                chain: chain.clone(),
            },
            None => Selection::Model(name.clone()),
        }
    }

    /// Whether `name` is an alias or a model that is not custom.
    #[must_use]
    pub fn is_known(&self, name: &ModelName) -> bool {
        self.aliases.contains_key(name) || self.models.contains_key(name)
    }

    /// The tier of `model`; `None` for a flash-lite model and for one that is not known.
    #[must_use]
    pub fn tier(&self, model: &ModelName) -> Option<Tier> {
        match self.models.get(model)?.tier {
            ModelTier::Pro => Some(Tier::Pro),
            ModelTier::Flash => Some(Tier::Flash),
            ModelTier::FlashLite => None,
        }
    }

    /// Whether `model` is of a dearer tier than `other`; false where a tier is not known.
    #[must_use]
    pub fn is_dearer(&self, model: &ModelName, other: &ModelName) -> bool {
        let tier = |model| self.models.get(model).map(|entry| entry.tier);
        tier(model).zip(tier(other)).is_some_and(|(tier, other)| tier > other)
    }

    /// The models that are asked one after the other when `selection` was asked for and `first` comes first: a choice's own
    /// chain, a known model's family chain (flash-lite: the utility chain), a custom model alone.
    #[must_use]
    pub fn chain(&self, selection: &Selection, first: &ModelName) -> Chain {
        let chain = match selection {
            Selection::Choice { chain, .. } => self.chains.get(chain).cloned(),
            Selection::Model(model) => self.family_chain(model),
        };
        chain
            .and_then(|chain| chain.starting_at(first))
            .unwrap_or_else(|| Chain::alone(first.clone()))
    }

    fn family_chain(&self, model: &ModelName) -> Option<Chain> {
        let entry = self.models.get(model)?;
        let family = self.families.get(&entry.family)?;
        let name = match entry.tier {
            ModelTier::FlashLite => &family.utility,
            ModelTier::Pro | ModelTier::Flash => &family.chain,
        };
        let chain = self.chains.get(name)?.clone();
        if chain.models().any(|member| member == model) {
            return Some(chain);
        }
        let peer = chain
            .models()
            .find(|member| self.models.get(*member).is_some_and(|other| other.tier == entry.tier))?
            .clone();
        Some(chain.with_instead(&peer, model))
    }
}

impl Document {
    fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let error = |reason: String| Error::Parse {
            origin: origin.to_owned(),
            reason,
        };
        let document: Self = toml::from_str(text).map_err(|e| error(e.to_string().trim_end().to_owned()))?;
        if document.format != FORMAT {
            return Err(error(format!(
                "key `format`: `{}` is not known, expected `{FORMAT}`",
                document.format
            )));
        }
        Ok(document)
    }

    fn with(mut self, over: Self) -> Self {
        self.default = over.default.or(self.default);
        self.models.extend(over.models);
        self.aliases.extend(over.aliases);
        self.choices.extend(over.choices);
        self.families.extend(over.families);
        self.chains.extend(over.chains);
        self
    }

    fn check(self, origin: &str) -> Result<Models, Error> {
        let invalid = |faults| Error::Invalid {
            origin: origin.to_owned(),
            faults,
        };
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(invalid(faults));
        }
        let default = self.default.ok_or_else(|| invalid(vec![Inconsistency::no_default()]))?;
        let chains = self
            .chains
            .into_iter()
            .filter_map(|(name, entry)| Some((name, Chain::new(entry.policies, entry.wraps_around)?)))
            .collect();
        Ok(Models {
            default,
            models: self.models,
            aliases: self.aliases,
            choices: self.choices,
            families: self.families,
            chains,
        })
    }
}

#[cfg(test)]
mod tests;
