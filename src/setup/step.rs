//! The steps: one list, inspected by `doctor`, planned by `--dry-run`, applied by `install` (docs/architecture.md).

use serde::Serialize;

use super::check::{Check, Fix};
use crate::error::Failure;

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
