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

mod account;
mod delivered;
mod validate;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::policy::{Chain, Policy};
use super::{ModelName, Tier};
use crate::error::Kind;
use crate::record::{Error, Record};
use crate::version::is_newer;

pub use account::{Account, ParseAccountError};
pub use delivered::DeliveredModels;

const BUILT_IN: &str = include_str!("models.toml");
const FORMAT: u32 = 1;

/// All models, aliases, choices, families and chains. They are validated once and then trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Models {
    version: String,
    default: ModelName,
    models: BTreeMap<ModelName, ModelEntry>,
    aliases: BTreeMap<ModelName, ModelName>,
    choices: BTreeMap<ModelName, ChoiceEntry>,
    families: BTreeMap<String, FamilyEntry>,
    chains: BTreeMap<String, Chain>,
}

/// The meaning of a model's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// A choice: the request must be classified.
    Choice {
        /// The model for complex requests.
        pro: ModelName,
        /// The model for simple requests.
        flash: ModelName,
        /// The chain's name.
        chain: String,
    },
    /// A single model, known or unknown.
    Model(ModelName),
}

impl Selection {
    /// The model of a choice for `tier`. A single model stays as it is.
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
    /// The models that some accounts get instead.
    #[serde(default, rename = "account")]
    accounts: BTreeMap<Account, AccountEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountEntry {
    pro: Option<ModelName>,
    flash: Option<ModelName>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyEntry {
    /// `None` if each model is asked alone.
    chain: Option<String>,
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

/// A single file, before it overrides another one and is validated.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    version: Option<String>,
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

/// A models file, as errors describe it.
const MODELS: Record = Record {
    name: "models file",
    kind: Kind::Usage,
    remedy: "correct the file, or leave it out to use the built-in models",
};

impl Models {
    /// The built-in models.
    ///
    /// # Errors
    /// Never in a program that passed its tests.
    pub fn built_in() -> Result<Self, Error> {
        Document::parse(BUILT_IN, "built-in")?.check("built-in")
    }

    /// The built-in models, overridden by the file `path`: its entries replace built-in entries of the same name, and a
    /// chain is replaced as a whole.
    ///
    /// # Errors
    /// When the file cannot be read or parsed, or conflicts with the built-in models.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::overridden_by(&MODELS.read_text(path)?, &path.to_string_lossy())
    }

    /// Like [`Models::read`], from the TOML `text`; `origin` names it in errors.
    ///
    /// # Errors
    /// When the text cannot be parsed, or conflicts with the built-in models.
    pub fn overridden_by(text: &str, origin: &str) -> Result<Self, Error> {
        let over = Document::parse(text, origin)?;
        Document::parse(BUILT_IN, "built-in")?.with(over).check(origin)
    }

    /// The version of these models, from the last file that states one.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether `version` is newer than the version of these models.
    #[must_use]
    pub fn is_older_than(&self, version: &str) -> bool {
        is_newer(version, &self.version)
    }

    /// The model of a request that names none.
    #[must_use]
    pub const fn default_name(&self) -> &ModelName {
        &self.default
    }

    /// The meaning of `name`. An unknown name is a custom model.
    #[must_use]
    pub fn resolve(&self, name: &ModelName) -> Selection {
        let mut name = name;
        while let Some(target) = self.aliases.get(name) {
            name = target;
        }
        match self.choices.get(name) {
            Some(ChoiceEntry { pro, flash, chain, .. }) => Selection::Choice {
                pro: pro.clone(),
                flash: flash.clone(),
                chain: chain.clone(),
            },
            None => Selection::Model(name.clone()),
        }
    }

    /// These models as this kind of account gets them.
    #[must_use]
    pub fn for_account(mut self, account: Account) -> Self {
        for choice in self.choices.values_mut() {
            let Some(own) = choice.accounts.remove(&account) else {
                continue;
            };
            choice.pro = own.pro.unwrap_or_else(|| choice.pro.clone());
            choice.flash = own.flash.unwrap_or_else(|| choice.flash.clone());
        }
        self
    }

    /// Whether `name` is an alias or one of these models.
    #[must_use]
    pub fn is_known(&self, name: &ModelName) -> bool {
        self.aliases.contains_key(name) || self.models.contains_key(name)
    }

    /// The alias or choice that the unknown `name` may be meant to be: the same in lower case, or its beginning.
    #[must_use]
    pub fn meant_by(&self, name: &ModelName) -> Option<&ModelName> {
        if self.is_known(name) || self.choices.contains_key(name) {
            return None;
        }
        let written = name.as_str().to_ascii_lowercase();
        let is_start = |known: &&ModelName| {
            let rest = written.strip_prefix(known.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let known = self.aliases.keys().chain(self.choices.keys());
        known.filter(is_start).max_by_key(|known| known.as_str().len())
    }

    /// The tier of `model`; `None` for a flash-lite model and for an unknown one.
    #[must_use]
    pub fn tier(&self, model: &ModelName) -> Option<Tier> {
        match self.models.get(model)?.tier {
            ModelTier::Pro => Some(Tier::Pro),
            ModelTier::Flash => Some(Tier::Flash),
            ModelTier::FlashLite => None,
        }
    }

    /// Whether `model` has a more expensive tier than `other`; `false` if a tier is unknown.
    #[must_use]
    pub fn is_dearer(&self, model: &ModelName, other: &ModelName) -> bool {
        let tier = |model| self.models.get(model).map(|entry| entry.tier);
        tier(model).zip(tier(other)).is_some_and(|(tier, other)| tier > other)
    }

    /// The models to ask, in order, for a request that names `selection`, beginning with `first`. A choice has its own
    /// chain, a known model that of its family (flash-lite: the utility chain). A custom model is asked alone.
    #[must_use]
    pub fn chain(&self, selection: &Selection, first: &ModelName) -> Chain {
        let chain = match selection {
            Selection::Choice { pro, flash, chain } => {
                let chain = self.chains.get(chain).cloned();
                chain.and_then(|chain| self.with_member(self.with_member(chain, pro)?, flash))
            }
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
            ModelTier::Pro | ModelTier::Flash => family.chain.as_ref()?,
        };
        self.with_member(self.chains.get(name)?.clone(), model)
    }

    /// `chain` with `model` in it. If missing, `model` replaces the member of the same tier.
    fn with_member(&self, chain: Chain, model: &ModelName) -> Option<Chain> {
        let entry = self.models.get(model)?;
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
        let document: Self = MODELS.parse_toml(text, origin)?;
        MODELS.check_format(origin, document.format, FORMAT)?;
        Ok(document)
    }

    fn with(mut self, over: Self) -> Self {
        self.version = over.version.or(self.version);
        self.default = over.default.or(self.default);
        self.models.extend(over.models);
        self.aliases.extend(over.aliases);
        self.choices.extend(over.choices);
        self.families.extend(over.families);
        self.chains.extend(over.chains);
        self
    }

    fn check(self, origin: &str) -> Result<Models, Error> {
        let faults = self.faults();
        let Some(default) = self.default.filter(|_| faults.is_empty()) else {
            return Err(MODELS.unusable(origin, faults.join("; ")));
        };
        let chains = self
            .chains
            .into_iter()
            .filter_map(|(name, entry)| Some((name, Chain::new(entry.policies, entry.wraps_around)?)))
            .collect();
        Ok(Models {
            version: self.version.unwrap_or_default(),
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
pub(crate) mod tests;
