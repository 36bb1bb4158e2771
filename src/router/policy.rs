//! Failure policies: the reaction to each kind of failure, and the chain of models (docs/facts.md section 4).
//!
//! ```
//! use gem_setup::router::{ModelAvailability, Models};
//!
//! let models = Models::built_in()?;
//! let choice = models.resolve(&"auto".parse()?);
//! let first = "gemini-3.1-pro-preview".parse()?;
//! let chain = models.chain(&choice, &first);
//! let next = chain.select(&ModelAvailability::default(), std::slice::from_ref(&first));
//! assert_eq!(next.map(|selected| selected.policy.model.as_str()), Some("gemini-3.8-flash"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::num::NonZeroU32;

use serde::Deserialize;

use super::{FailureKind, ModelAvailability, ModelName, Unavailable};

/// Attempts at a model whose policy names no number; that of Gemini CLI.
const DEFAULT_ATTEMPTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// Whether another model needs a person's consent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The next model needs no consent.
    Silent,
    /// Consent is sought first.
    #[default]
    Prompt,
}

/// The state of a model after its failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// It is not asked for a good while.
    #[default]
    Terminal,
    /// It gets one more try per turn.
    StickyRetry,
}

/// One value for each kind of failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerKind<T> {
    terminal: T,
    transient: T,
    not_found: T,
    unknown: T,
}

impl<T: Copy> PerKind<T> {
    /// The same value for every kind.
    pub const fn all(value: T) -> Self {
        Self {
            terminal: value,
            transient: value,
            not_found: value,
            unknown: value,
        }
    }

    /// The value for `kind`.
    pub const fn of(&self, kind: FailureKind) -> T {
        match kind {
            FailureKind::Terminal => self.terminal,
            FailureKind::Transient => self.transient,
            FailureKind::NotFound => self.not_found,
            FailureKind::Unknown => self.unknown,
        }
    }
}

/// The policy for one model in a chain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The model.
    pub model: ModelName,
    /// Whether the next model needs a person's consent.
    #[serde(default)]
    pub actions: PerKind<Action>,
    /// The model's state afterwards.
    #[serde(default)]
    pub transitions: PerKind<Transition>,
    /// The most attempts with this model after transient failures.
    #[serde(default = "default_attempts")]
    pub max_attempts: NonZeroU32,
    /// Asked even when it is unavailable, if no other is left.
    #[serde(default)]
    pub last_resort: bool,
}

const fn default_attempts() -> NonZeroU32 {
    DEFAULT_ATTEMPTS
}

/// The models to ask one after the other; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    policies: Vec<Policy>,
    wraps_around: bool,
}

/// The next model of a chain, and the unavailable ones before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected<'a> {
    /// The policy of the model.
    pub policy: &'a Policy,
    /// The unavailable ones before it.
    pub skipped: Vec<(&'a ModelName, Unavailable)>,
}

impl Chain {
    /// `policies` in this order; `None` when there are none.
    pub(super) fn new(policies: Vec<Policy>, wraps_around: bool) -> Option<Self> {
        (!policies.is_empty()).then_some(Self { policies, wraps_around })
    }

    /// The chain of a model that stands alone: it is its own last resort.
    #[must_use]
    pub fn alone(model: ModelName) -> Self {
        let policy = Policy {
            model,
            actions: PerKind::default(),
            transitions: PerKind::default(),
            max_attempts: DEFAULT_ATTEMPTS,
            last_resort: true,
        };
        Self {
            policies: vec![policy],
            wraps_around: false,
        }
    }

    /// The policies, first model first.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The models, first one first.
    pub fn models(&self) -> impl Iterator<Item = &ModelName> {
        self.policies.iter().map(|policy| &policy.model)
    }

    /// The chain from `model` on: the rest after it, and, if the chain wraps around, then those before it. `None` when `model`
    /// is not in the chain.
    #[must_use]
    pub fn starting_at(mut self, model: &ModelName) -> Option<Self> {
        let at = self.models().position(|candidate| candidate == model)?;
        self.policies.rotate_left(at);
        if !self.wraps_around {
            self.policies.truncate(self.policies.len() - at);
        }
        Some(self)
    }

    /// The chain with `model` in the place, and under the policy, of `other`.
    #[must_use]
    pub(super) fn with_instead(mut self, other: &ModelName, model: &ModelName) -> Self {
        for policy in &mut self.policies {
            if policy.model == *other {
                policy.model = model.clone();
            }
        }
        self
    }

    /// The chain with every action silent, as in plan mode.
    #[must_use]
    pub fn silent(mut self) -> Self {
        for policy in &mut self.policies {
            policy.actions = PerKind::all(Action::Silent);
        }
        self
    }

    /// The same chain, with consent required before a switch to a dearer model, so that users do not pay more than they
    /// asked for.
    #[must_use]
    pub fn asking_before(mut self, is_dearer: impl Fn(&ModelName, &ModelName) -> bool) -> Self {
        for at in 0..self.policies.len() {
            let (here, after) = (&self.policies[at], &self.policies[at + 1..]);
            if after.iter().any(|next| is_dearer(&here.model, &next.model)) {
                self.policies[at].actions = PerKind::all(Action::Prompt);
            }
        }
        self
    }

    /// The first model that is available, else the last resort, of those that are not among `tried`.
    #[must_use]
    pub fn select(&self, availability: &ModelAvailability, tried: &[ModelName]) -> Option<Selected<'_>> {
        let untried = || self.policies.iter().filter(|policy| !tried.contains(&policy.model));
        let (first, skipped) = availability.first_available(untried().map(|policy| &policy.model));
        let policy = match first {
            Some(model) => untried().find(|policy| policy.model == *model),
            None => untried().find(|policy| policy.last_resort),
        }?;
        let skipped = skipped
            .into_iter()
            .filter(|(model, _)| **model != policy.model)
            .collect();
        Some(Selected { policy, skipped })
    }
}
