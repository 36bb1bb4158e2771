//! The steps: one list, inspected by `doctor`, planned by `--dry-run`, applied by `install` (docs/architecture.md).

use std::fmt;

use serde::Serialize;

use super::check::{Check, Fix};
use crate::error::Failure;

/// The steps in their order (docs/contract.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepId {
    /// A runtime exists for this platform.
    Platform,
    /// The disk has space.
    Space,
    /// The runtime's executable.
    Runtime,
    /// The files that it needs in its directory.
    Companions,
    /// The model's terms.
    Terms,
    /// The model.
    Model,
    /// Gemini CLI's settings.
    Settings,
    /// The server.
    Server,
    /// The server answers.
    Smoke,
}

impl StepId {
    /// Every step, in order.
    pub const ALL: [Self; 9] = [
        Self::Platform,
        Self::Space,
        Self::Runtime,
        Self::Companions,
        Self::Terms,
        Self::Model,
        Self::Settings,
        Self::Server,
        Self::Smoke,
    ];

    /// The steps that must be in place before this one can be applied.
    pub(super) const fn prerequisites(self) -> &'static [Self] {
        match self {
            Self::Platform | Self::Space | Self::Terms | Self::Settings => &[],
            Self::Runtime | Self::Companions => &[Self::Platform, Self::Space],
            Self::Model => &[
                Self::Platform,
                Self::Space,
                Self::Runtime,
                Self::Companions,
                Self::Terms,
            ],
            Self::Server => &[Self::Platform, Self::Runtime, Self::Companions, Self::Model],
            Self::Smoke => &[Self::Server],
        }
    }

    /// The id used in JSON and on screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Space => "space",
            Self::Runtime => "runtime",
            Self::Companions => "companions",
            Self::Terms => "terms",
            Self::Model => "model",
            Self::Settings => "settings",
            Self::Server => "server",
            Self::Smoke => "smoke",
        }
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a step has anything to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing to do: this is in place.
    InPlace(String),
    /// This would be done.
    Needed(String),
    /// Nothing to do: this machine or this call does not need it.
    NotNeeded(String),
}

/// The result of an inspection.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Whether `apply` has anything to do.
    pub condition: Condition,
    /// The checks that `doctor` prints.
    pub checks: Vec<Check>,
    /// Why the step cannot be applied, if that is already known.
    pub blocked: Option<Failure>,
    /// The checks that will still fail once the step is applied, where that is known beforehand.
    pub remaining: Vec<Check>,
}

impl Inspection {
    /// In place, as these checks show; faults that they still report are outside the step.
    pub(super) fn in_place(detail: impl Into<String>, checks: Vec<Check>) -> Self {
        Self {
            condition: Condition::InPlace(detail.into()),
            remaining: checks.iter().filter(|check| check.has_failed()).cloned().collect(),
            checks,
            blocked: None,
        }
    }

    /// Not in place; `plan` describes the change.
    pub(super) fn needed(plan: impl Into<String>, checks: Vec<Check>) -> Self {
        Self {
            condition: Condition::Needed(plan.into()),
            checks,
            blocked: None,
            remaining: Vec::new(),
        }
    }

    /// Not needed here.
    pub(super) fn not_needed(reason: impl Into<String>, checks: Vec<Check>) -> Self {
        Self {
            condition: Condition::NotNeeded(reason.into()),
            checks,
            blocked: None,
            remaining: Vec::new(),
        }
    }

    /// The same, with the reason why the step cannot be applied.
    pub(super) fn blocked_by(mut self, failure: impl Into<Failure>) -> Self {
        self.blocked = Some(failure.into());
        self
    }

    /// The same, with the `checks` as they will be once the step is applied.
    pub(super) fn leaving(mut self, checks: Vec<Check>) -> Self {
        self.remaining = checks.into_iter().filter(Check::has_failed).collect();
        self
    }

    /// Whether any check failed or suggests a repair.
    #[must_use]
    pub fn is_repairable(&self) -> bool {
        let is_repairable = |check: &Check| check.fix.as_ref().is_some_and(Fix::is_repair);
        self.checks
            .iter()
            .any(|check| check.has_failed() || is_repairable(check))
    }

    /// Whether the step has nothing to do.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self.condition, Condition::InPlace(_) | Condition::NotNeeded(_))
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Was in place.
    Ok,
    /// Was put in place (with `--dry-run`: would be).
    Changed,
    /// Not needed or not wanted.
    Skipped,
    /// Not begun, because another step failed.
    #[serde(rename = "skipped")]
    NotReached,
    /// Could not be put in place.
    Failed,
}
