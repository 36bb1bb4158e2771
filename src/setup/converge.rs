//! `install`: inspects every step, applies those that are not in place, and inspects again.

use std::time::Duration;

use super::check::Check;
use super::doctor::inspect_override;
use super::program::keep_program;
use super::state::State;
use super::step::{Condition, Inspection, StepState};
use super::step_id::StepId;
use super::{Setup, advice, kept, needs, steps, upgrade, verdict};
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::lock::{self, Lock};
use crate::progress::{Progress, waiting};

/// Receives the result of each step.
pub trait Observer: Sync {
    /// Step `id` ended as `state`; `detail` describes the finding or the change.
    fn step(&self, id: StepId, state: StepState, detail: &str);

    /// `fault` will still prevent routing after the installation; reported before the first change.
    fn foresee(&self, fault: &Check);
}

/// The result of an installation.
#[derive(Debug)]
pub struct StepsReport {
    /// The steps that changed something, in order.
    pub changed: Vec<StepId>,
    /// Why something is not in place.
    pub error: Option<Failure>,
}

/// Installs the missing parts. Before the first change, everything is inspected that could fail, and the terms are
/// accepted.
pub async fn install(setup: &mut Setup<'_>, observer: &dyn Observer) -> StepsReport {
    let mut report = converge(setup, observer).await;
    report.error = report.error.map(|failure| advice::repeatable(setup, failure));
    report
}

async fn converge(setup: &mut Setup<'_>, observer: &dyn Observer) -> StepsReport {
    let mut found = inspect_all(setup).await;
    let is_needed = setup.wanted.force || found.iter().any(|(_, inspection)| is_needed(inspection));
    if is_needed {
        // The verdict says it too, but after downloads only in minutes, and after the change of settings.
        let is_long = setup.wanted.force || has_downloads(&found);
        let faults = foresee(setup, &found).into_iter();
        let faults = faults.filter(|fault| is_long || fault.id == steps::SETTINGS.id);
        faults.for_each(|fault| observer.foresee(&fault));
    }
    let accepted = match check_blockers(setup, &mut found).await {
        Ok(accepted) => accepted,
        Err(failures) => return refuse(observer, &found, failures),
    };
    if !is_needed && setup.is_on_record() {
        return report_unchanged(observer, &found);
    }
    let at = first_needed(&found);
    let _lock = match lock_and_reload(setup, at).await {
        Ok(lock) => lock,
        Err(failure) => return refuse(observer, &found, vec![(at, failure)]),
    };
    let found = inspect_all(setup).await;
    apply_all(setup, observer, found, accepted).await
}

/// The checks that will still fail after all steps, as far as this is known in advance.
fn foresee(setup: &Setup<'_>, found: &[(StepId, Inspection)]) -> Vec<Check> {
    if !setup.site.is_for_this_machine() {
        return Vec::new();
    }
    let mut faults: Vec<Check> = found
        .iter()
        .flat_map(|(_, inspection)| inspection.remaining.clone())
        .collect();
    faults.extend([inspect_override(setup)].into_iter().filter(Check::has_failed));
    faults.iter_mut().for_each(|fault| advice::finish(setup, fault));
    faults
}

/// The failure of step `at` if the home cannot be locked; for the settings step, that the settings cannot be written.
fn unlocked(at: StepId, error: lock::Error) -> Failure {
    let mut failure = Failure::from(error);
    if at == StepId::Settings && failure.kind == Kind::Unexpected {
        failure.kind = Kind::Settings;
    }
    failure
}

/// How long to wait for another gem-setup that changes the home.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Completes or reverts a model swap that was interrupted by a kill. For commands that need the model but no lock.
///
/// # Errors
/// When another gem-setup is changing the home, or a file cannot be moved.
pub async fn settle_swap(layout: &Layout) -> Result<(), Failure> {
    let lock_file = layout.lock_file();
    let _lock = Lock::acquire(&lock_file, Duration::ZERO).await?;
    match State::read(&layout.state_file())? {
        Some(mut state) => upgrade::settle(layout, &mut state),
        None => Ok(()),
    }
}

/// Takes the home's lock for `part`; waits a limited time for another holder. A record that was read earlier may be out
/// of date.
///
/// # Errors
/// When the lock is not free in time, or its file cannot be used.
pub async fn lock_home(layout: &Layout, part: &str, progress: &dyn Progress) -> Result<Lock, lock::Error> {
    let lock_file = layout.lock_file();
    let lock = Lock::acquire(&lock_file, LOCK_PATIENCE);
    waiting(progress, part, &lock::wait_for(&lock_file), lock).await
}

/// Takes the lock for the step `at` and reads the state again, because the lock's last owner may have changed it.
///
/// # Errors
/// When the lock is not free in time, a file cannot be used, or the last owner put another release or other choices in place than those
/// that this command began with: it would undo them.
pub(super) async fn lock_and_reload(setup: &mut Setup<'_>, at: StepId) -> Result<Lock, Failure> {
    let lock = lock_home(&setup.site.layout, at.as_str(), setup.tools.progress).await;
    let lock = lock.map_err(|error| unlocked(at, error))?;
    let state = State::read(&setup.site.layout.state_file())?.unwrap_or_default();
    let before = std::mem::replace(&mut setup.state, state);
    check_still_meant(setup, &before)?;
    super::journal::sweep(&setup.site.layout, &setup.state);
    // Few steps need these files, and they report a copy that failed; `doctor` names the file.
    let _ = kept::adopt(&mut setup.state, &setup.site.layout);
    setup.site.program = keep_program(&setup.site.layout, &setup.site.program)?;
    setup.site.place_release(setup.wanted.chosen.runtime, &setup.state);
    upgrade::settle(&setup.site.layout, &mut setup.state)?;
    setup.forget_listing();
    Ok(lock)
}

/// Fails where another gem-setup has changed the installation since `before`, unless to what `setup` wants.
fn check_still_meant(setup: &Setup<'_>, before: &State) -> Result<(), Failure> {
    let now = &setup.state.chosen;
    let is_other_release = before.release() != setup.state.release() && setup.replaces_release();
    let is_other_choice = before.chosen != *now && setup.chosen().chosen != *now;
    let is_other_file = setup.given.are_replaced(&setup.site.layout.own());
    let is_new = *before == State::default() || setup.state == State::default();
    if is_new || !(is_other_release || is_other_choice || is_other_file) {
        return Ok(());
    }
    let message = "another gem-setup changed this installation while this command waited for it; nothing was done";
    Err(Failure::new(Kind::Conflict, message)
        .with_hint("run the command again; `gem-setup status` shows the installation"))
}

async fn inspect_all(setup: &Setup<'_>) -> Vec<(StepId, Inspection)> {
    let mut found = Vec::with_capacity(StepId::ALL.len());
    for id in StepId::ALL {
        found.push((id, needs::inspect(setup, id).await));
    }
    renew_test(&mut found);
    found
}

/// A test that passed says nothing about a step that is not in place any more.
fn renew_test(found: &mut [(StepId, Inspection)]) {
    let is_void = found
        .iter()
        .any(|(id, inspection)| id.is_tested() && is_needed(inspection));
    let test = found.iter_mut().find(|(id, _)| *id == StepId::Smoke && is_void);
    if let Some((_, test)) = test
        && matches!(test.condition, Condition::InPlace(_))
    {
        test.condition = Condition::Needed(steps::SMOKE_PLAN.to_owned());
    }
}

const fn is_needed(inspection: &Inspection) -> bool {
    matches!(inspection.condition, Condition::Needed(_))
}

fn first_needed(found: &[(StepId, Inspection)]) -> StepId {
    let first = found.iter().find(|(_, inspection)| is_needed(inspection));
    first.map_or(StepId::Platform, |(id, _)| *id)
}

/// Whether a step is needed that takes long: all others take seconds.
fn has_downloads(found: &[(StepId, Inspection)]) -> bool {
    let mut needed = found.iter().filter(|(_, inspection)| is_needed(inspection));
    needed.any(|(id, _)| *id < StepId::Settings)
}

/// The plan of `install`, step by step.
pub async fn plan(setup: &Setup<'_>, observer: &dyn Observer) -> StepsReport {
    let mut found = inspect_all(setup).await;
    let failures = take_blockers(&mut found);
    let obstacle = failures.first().map(|(id, _)| *id);
    let mut outcome = StepsReport {
        changed: Vec::new(),
        error: None,
    };
    let faults = foresee(setup, &found);
    if obstacle.is_some() {
        // Without an obstacle, they are the plan's error.
        faults.iter().for_each(|fault| observer.foresee(fault));
    }
    for (id, inspection) in found {
        if let Some((_, failure)) = failures.iter().find(|(at, _)| *at == id) {
            observer.step(id, StepState::Failed, &failure.message);
            continue;
        }
        let todo = match todo(setup, id, inspection.condition, &outcome.changed) {
            Ok(todo) => todo,
            Err((state, detail)) => {
                observer.step(id, state, &detail);
                continue;
            }
        };
        if let Some(obstacle) = obstacle {
            // Nothing is changed unless all steps can be applied.
            let detail = format!("would {todo}, but is blocked by `{obstacle}`");
            observer.step(id, StepState::Skipped, &detail);
        } else {
            outcome.changed.push(id);
            observer.step(id, StepState::Changed, &format!("would {todo}"));
        }
    }
    outcome.error = combined(failures);
    if outcome.error.is_none() {
        outcome.error = verdict::failure("routing would not work after this", &faults);
    }
    outcome
}

/// What step `id` would do after the `changed` ones; without anything to do, its state and the reason.
fn todo(
    setup: &Setup<'_>,
    id: StepId,
    condition: Condition,
    changed: &[StepId],
) -> Result<String, (StepState, String)> {
    match condition {
        Condition::InPlace(_) if setup.wanted.force && id.can_repeat() => Ok("do it again".to_owned()),
        Condition::InPlace(_) if id == StepId::Smoke && changed.iter().any(|id| id.is_tested()) => {
            Ok(steps::SMOKE_PLAN.to_owned())
        }
        Condition::Needed(plan) => Ok(plan),
        Condition::InPlace(detail) => Err((StepState::Ok, detail)),
        Condition::NotNeeded(detail) => Err((StepState::Skipped, detail)),
    }
}

/// Finds the obstacles that `install` cannot remove, and asks about the terms. The answer is recorded at once, so that a
/// later failure does not cause a second question; the change is returned.
async fn check_blockers(
    setup: &mut Setup<'_>,
    found: &mut [(StepId, Inspection)],
) -> Result<Option<String>, Vec<(StepId, Failure)>> {
    let failures = take_blockers(found);
    if !failures.is_empty() {
        return Err(failures);
    }
    let terms_needed = found
        .iter()
        .any(|(id, inspection)| *id == StepId::Terms && is_needed(inspection));
    if terms_needed && setup.wanted.accepted.is_none() {
        let accepted = accept_terms(setup).await;
        return accepted.map(Some).map_err(|failure| vec![(StepId::Terms, failure)]);
    }
    Ok(None)
}

async fn accept_terms(setup: &mut Setup<'_>) -> Result<String, Failure> {
    steps::ask_terms(setup)?;
    let at = StepId::Terms;
    let _lock = lock_home(&setup.site.layout, at.as_str(), setup.tools.progress).await?;
    steps::apply(setup, at).await
}

/// The obstacles of all steps. One that several steps have, with one remedy, counts for the first.
fn take_blockers(found: &mut [(StepId, Inspection)]) -> Vec<(StepId, Failure)> {
    let mut failures: Vec<(StepId, Failure)> = Vec::new();
    for (id, inspection) in found.iter_mut() {
        let Some(failure) = inspection.blocked.take() else {
            continue;
        };
        let is_same =
            |known: &Failure| known.message == failure.message || (known.hint.is_some() && known.hint == failure.hint);
        if !failures.iter().any(|(_, known)| is_same(known)) {
            failures.push((*id, failure));
        }
    }
    failures
}

/// Reports for each step that there is nothing to do.
fn report_unchanged(observer: &dyn Observer, found: &[(StepId, Inspection)]) -> StepsReport {
    for (id, inspection) in found {
        match &inspection.condition {
            Condition::InPlace(detail) => observer.step(*id, StepState::Ok, detail),
            Condition::NotNeeded(detail) | Condition::Needed(detail) => observer.step(*id, StepState::Skipped, detail),
        }
    }
    StepsReport {
        changed: Vec::new(),
        error: None,
    }
}

fn refuse(observer: &dyn Observer, found: &[(StepId, Inspection)], failures: Vec<(StepId, Failure)>) -> StepsReport {
    let first = failures.first().map_or(StepId::Platform, |(id, _)| *id);
    for (id, inspection) in found {
        if let Some((_, failure)) = failures.iter().find(|(at, _)| at == id) {
            observer.step(*id, StepState::Failed, &failure.message);
            continue;
        }
        match &inspection.condition {
            Condition::InPlace(detail) => observer.step(*id, StepState::Ok, detail),
            Condition::NotNeeded(detail) => observer.step(*id, StepState::Skipped, detail),
            Condition::Needed(_) => observer.step(*id, StepState::NotReached, &format!("blocked by `{first}`")),
        }
    }
    StepsReport {
        changed: Vec::new(),
        error: combined(failures),
    }
}

fn combined(failures: Vec<(StepId, Failure)>) -> Option<Failure> {
    let failures: Vec<Failure> = failures.into_iter().map(|(_, failure)| failure).collect();
    verdict::combine(&failures)
}

/// Applies the steps. The terms that this command `accepted` beforehand count as a change.
async fn apply_all(
    setup: &mut Setup<'_>,
    observer: &dyn Observer,
    found: Vec<(StepId, Inspection)>,
    mut accepted: Option<String>,
) -> StepsReport {
    let mut outcome = StepsReport {
        changed: Vec::new(),
        error: None,
    };
    for (id, earlier) in found {
        if outcome.error.is_some() {
            observer.step(id, StepState::NotReached, "not reached");
            continue;
        }
        // An earlier step's change may affect this step.
        let inspection = if outcome.changed.is_empty() {
            earlier
        } else {
            needs::inspect(setup, id).await
        };
        let done = apply_step(setup, id, inspection).await;
        let before = accepted.take_if(|_| id == StepId::Terms && done.is_ok());
        match done.map(|done| before.map_or(done, |detail| (StepState::Changed, detail))) {
            Ok((state, detail)) => {
                if state == StepState::Changed {
                    outcome.changed.push(id);
                }
                observer.step(id, state, &detail);
            }
            Err(failure) => {
                observer.step(id, StepState::Failed, &failure.message);
                outcome.error = Some(failure);
            }
        }
    }
    outcome
}

/// Applies a step if needed, and makes sure that it is in place afterwards.
pub(super) async fn apply_step(
    setup: &mut Setup<'_>,
    id: StepId,
    inspection: Inspection,
) -> Result<(StepState, String), Failure> {
    if let Some(failure) = inspection.blocked {
        return Err(failure);
    }
    let done = match inspection.condition {
        Condition::NotNeeded(detail) => (StepState::Skipped, detail),
        Condition::InPlace(_) | Condition::Needed(_) if id == StepId::Runtime && setup.replaces_release() => {
            let older = upgrade::note_older(setup);
            let done = upgrade::replace(setup).await?;
            (
                StepState::Changed,
                [done].into_iter().chain(older).collect::<Vec<_>>().join("; "),
            )
        }
        Condition::InPlace(detail) if !(setup.wanted.force && id.can_repeat()) => (StepState::Ok, detail),
        Condition::InPlace(_) | Condition::Needed(_) => {
            let detail = steps::apply(setup, id).await?;
            confirm(id, needs::inspect(setup, id).await)?;
            if id.is_tested() {
                setup.state.forget_smoke();
            }
            (StepState::Changed, detail)
        }
    };
    if id == StepId::Model && done.0 == StepState::Changed {
        setup.note_model();
    }
    if id >= StepId::Runtime {
        // As soon as one step is applied, other commands use these choices.
        setup.record()?;
    }
    Ok(done)
}

fn confirm(id: StepId, inspection: Inspection) -> Result<(), Failure> {
    let Condition::Needed(still) = inspection.condition else {
        return Ok(());
    };
    let fault = inspection
        .checks
        .into_iter()
        .find(|check| check.status == super::Status::Fail);
    let (detail, hint) = fault.map_or((still, None), |check| (check.detail, check.fix));
    let failure = Failure::new(
        Kind::Unexpected,
        format!("the step `{id}` was applied but is not in place: {detail}"),
    );
    Err(match hint {
        Some(hint) => failure.with_hint(hint.to_string()),
        None => failure,
    })
}

/// Pulls only the chosen model, after its terms are accepted, unless it is present.
///
/// # Errors
/// When another gem-setup is changing the home, the terms are not accepted, or the model cannot be pulled.
pub async fn pull(setup: &mut Setup<'_>) -> Result<(StepState, String), Failure> {
    check_pull(setup).await?;
    let _lock = lock_and_reload(setup, StepId::Model).await?;
    let name = setup.wanted.chosen.model.clone();
    // An installed model may have been pulled by another program; it is not used before its terms are recorded.
    let accepted = match is_needed(&needs::inspect(setup, StepId::Terms).await) {
        true => format!("; {}", steps::apply(setup, StepId::Terms).await?),
        false => String::new(),
    };
    let found = needs::inspect(setup, StepId::Model).await.condition;
    if matches!(found, Condition::InPlace(_)) && !setup.wanted.force {
        return Ok((StepState::Ok, format!("`{name}` is installed{accepted}")));
    }
    let detail = steps::apply(setup, StepId::Model).await?;
    Ok((StepState::Changed, detail))
}

/// Finds obstacles to a pull before anything is written.
async fn check_pull(setup: &Setup<'_>) -> Result<(), Failure> {
    if let Some(error) = steps::unusable_file(setup) {
        return Err(error.into());
    }
    let chosen = &setup.wanted.chosen;
    let purpose = format!("pull `{}`", chosen.model);
    let Err(failure) = setup.site.installed_runtime(&purpose, chosen, &setup.state) else {
        return steps::unknown_model(setup).await.map_or(Ok(()), Err);
    };
    let lacks_terms = is_needed(&needs::inspect(setup, StepId::Terms).await) && setup.wanted.accepted.is_none();
    if failure.kind != Kind::Runtime || !lacks_terms {
        return Err(failure);
    }
    let message = format!("{}, and the model's terms are not accepted", failure.message);
    let runtime = match chosen.runtime == setup.state.chosen.runtime {
        true => String::new(),
        false => format!(" --runtime {}", chosen.runtime),
    };
    let hint = format!("run `gem-setup install{runtime}`, which asks, or `gem-setup install{runtime} --accept-terms`");
    Err(Failure::new(Kind::TermsNotAccepted, message).with_hint(hint))
}
