//! `doctor --fix`: applies every step that can be applied, even if others are blocked.

use super::converge::{Observer, StepsReport, apply_step, lock_and_reload};
use super::step::{Condition, Inspection, StepState};
use super::step_id::StepId;
use super::{Setup, needs, steps};
use crate::error::Failure;
use crate::settings::Applied;

/// Applies the steps that are not in place. A step that cannot be applied only stops the steps that need it. The
/// outcome contains the first failure.
pub async fn repair(setup: &mut Setup<'_>, observer: &dyn Observer) -> StepsReport {
    let mut outcome = StepsReport {
        changed: Vec::new(),
        error: None,
    };
    let _lock = match lock_and_reload(setup, StepId::Platform).await {
        Ok(lock) => lock,
        Err(failure) => {
            observer.step(StepId::Platform, StepState::Failed, &failure.message);
            outcome.error = Some(failure);
            return outcome;
        }
    };
    let is_first = setup.state.settings == Applied::default();
    let mut unsettled: Vec<StepId> = Vec::new();
    for id in StepId::ALL {
        let inspection = needs::inspect(setup, id).await;
        // Settings that lead Gemini CLI to a server which cannot start would be worse than none.
        let is_too_early = is_first && id == StepId::Settings && !inspection.is_settled();
        let first = unsettled.first().copied().filter(|_| is_too_early);
        if let Some(step) = held_up_by(id, &inspection, &unsettled).or(first) {
            unsettled.push(id);
            observer.step(id, StepState::NotReached, &format!("blocked by `{step}`"));
            continue;
        }
        match repair_step(setup, id, inspection).await {
            Ok((state, detail)) => {
                if state == StepState::Changed {
                    outcome.changed.push(id);
                }
                observer.step(id, state, &detail);
            }
            Err(failure) => {
                unsettled.push(id);
                observer.step(id, StepState::Failed, &failure.message);
                outcome.error.get_or_insert(failure);
            }
        }
    }
    outcome
}

/// The incomplete step that `id` needs, if `id` has anything to do.
fn held_up_by(id: StepId, inspection: &Inspection, unsettled: &[StepId]) -> Option<StepId> {
    let mut prerequisites = id.prerequisites().iter().copied();
    prerequisites.find(|step| unsettled.contains(step) && !inspection.is_settled())
}

async fn repair_step(
    setup: &mut Setup<'_>,
    id: StepId,
    inspection: Inspection,
) -> Result<(StepState, String), Failure> {
    let is_needed = matches!(inspection.condition, Condition::Needed(_));
    if id == StepId::Terms && is_needed && inspection.blocked.is_none() && setup.wanted.accepted.is_none() {
        steps::ask_terms(setup)?;
    }
    apply_step(setup, id, inspection).await
}
