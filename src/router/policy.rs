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
//! assert_eq!(next.map(|policy| policy.model.as_str()), Some("gemini-3.8-flash"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::num::NonZeroU32;

use serde::Deserialize;

use super::{FailureKind, ModelAvailability, ModelName};

/// The number of attempts at a model if its policy states none; the same as in Gemini CLI.
const DEFAULT_ATTEMPTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// Whether another model needs a person's consent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Switching needs no consent.
    Silent,
    /// Switching needs consent.
    #[default]
    Prompt,
}

/// The state of a model after its failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// The model is not asked for a long time.
    #[default]
    Terminal,
    /// The model gets one additional attempt per turn.
    StickyRetry,
}

/// A value for each kind of failure.
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
    /// The model's state after a failure.
    #[serde(default)]
    pub transitions: PerKind<Transition>,
    /// The maximum number of attempts at this model after transient failures.
    #[serde(default = "default_attempts")]
    pub max_attempts: NonZeroU32,
    /// Whether this is the last resort: asked even if it is unavailable, when no other model is left.
    #[serde(default)]
    pub last_resort: bool,
}

const fn default_attempts() -> NonZeroU32 {
    DEFAULT_ATTEMPTS
}

/// The models to ask, in order; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    policies: Vec<Policy>,
    wraps_around: bool,
}

impl Chain {
    /// A chain of `policies` in this order; `None` if there are none.
    pub(super) fn new(policies: Vec<Policy>, wraps_around: bool) -> Option<Self> {
        (!policies.is_empty()).then_some(Self { policies, wraps_around })
    }

    /// A chain with one model, which is its own last resort.
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

    /// The policies, in the order of the models.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The models, in order.
    pub fn models(&self) -> impl Iterator<Item = &ModelName> {
        self.policies.iter().map(|policy| &policy.model)
    }

    /// The chain from `model` on; if it wraps around, the models before it follow at the end. `None` if `model` is not
    /// in the chain.
    #[must_use]
    pub fn starting_at(mut self, model: &ModelName) -> Option<Self> {
        let at = self.models().position(|candidate| candidate == model)?;
        self.policies.rotate_left(at);
        if !self.wraps_around {
            self.policies.truncate(self.policies.len() - at);
        }
        Some(self)
    }

    /// The chain with `other` replaced by `model`, which gets its policy.
    #[must_use]
    pub(super) fn with_instead(mut self, other: &ModelName, model: &ModelName) -> Self {
        for policy in &mut self.policies {
            if policy.model == *other {
                policy.model = model.clone();
            }
        }
        self
    }

    /// The chain without questions, as in plan mode.
    #[must_use]
    pub fn silent(mut self) -> Self {
        for policy in &mut self.policies {
            policy.actions = PerKind::all(Action::Silent);
        }
        self
    }

    /// The chain with consent required before a switch to a more expensive model, so that users do not pay more than
    /// they requested.
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

    /// The policy of the first available model outside `tried`, or else of the last resort, if it is outside `tried`.
    #[must_use]
    pub fn select(&self, availability: &ModelAvailability, tried: &[ModelName]) -> Option<&Policy> {
        let untried = || self.policies.iter().filter(|policy| !tried.contains(&policy.model));
        untried()
            .find(|policy| availability.unavailable(&policy.model).is_none())
            .or_else(|| untried().find(|policy| policy.last_resort))
    }
}
