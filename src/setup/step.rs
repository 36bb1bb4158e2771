//! The steps: one list, inspected by `doctor`, planned by `--dry-run`, applied by `install` (docs/architecture.md).

use serde::Serialize;

use super::check::{Check, Fix};
use crate::error::Failure;

/// Whether a step has anything to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing to do: the step is in place, with this detail.
    InPlace(String),
    /// The step would make this change.
    Needed(String),
    /// Nothing to do: this machine or this command does not need the step, for this reason.
    NotNeeded(String),
}

/// The result of an inspection.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Whether `apply` has anything to do.
    pub condition: Condition,
    /// The checks for `doctor`.
    pub checks: Vec<Check>,
    /// Why the step cannot be applied, if that is already known.
    pub blocked: Option<Failure>,
    /// The checks that will still fail after the step, as far as that is known in advance.
    pub remaining: Vec<Check>,
}

impl Inspection {
    /// The step is in place, as `checks` show. If they still report faults, the faults are outside the step.
    pub(super) fn in_place(detail: impl Into<String>, checks: Vec<Check>) -> Self {
        Self {
            condition: Condition::InPlace(detail.into()),
            remaining: checks.iter().filter(|check| check.has_failed()).cloned().collect(),
            checks,
            blocked: None,
        }
    }

    /// The step is not in place; `plan` describes the change.
    pub(super) fn needed(plan: impl Into<String>, checks: Vec<Check>) -> Self {
        Self {
            condition: Condition::Needed(plan.into()),
            checks,
            blocked: None,
            remaining: Vec::new(),
        }
    }

    /// The step is not needed here.
    pub(super) fn not_needed(reason: impl Into<String>, checks: Vec<Check>) -> Self {
        Self {
            condition: Condition::NotNeeded(reason.into()),
            checks,
            blocked: None,
            remaining: Vec::new(),
        }
    }

    /// The same inspection, with the reason why the step cannot be applied.
    pub(super) fn blocked_by(mut self, failure: impl Into<Failure>) -> Self {
        self.blocked = Some(failure.into());
        self
    }

    /// The same inspection, with the `checks` as they will be after the step.
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

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// The step was already in place.
    Ok,
    /// The step was applied (with `--dry-run`: would be applied).
    Changed,
    /// The step was not needed or not wanted.
    Skipped,
    /// The step did not begin, because another one failed.
    #[serde(rename = "skipped")]
    NotReached,
    /// The step could not be applied.
    Failed,
}
