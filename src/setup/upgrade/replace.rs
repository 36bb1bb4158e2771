//! Replaces one release with another: installs it next to the current one, tries it, switches, and waits for the running server.

use super::hand_over::{Engine, hand_over, not_taken_back, return_to};
use super::trial::{Tried, try_release};
use crate::error::Failure;
use crate::setup::records::Release;
use crate::setup::state::State;
use crate::setup::step_id::StepId;
use crate::setup::{Setup, needs, steps, tidy};

/// Puts the wanted release of `setup` in place of the current one. The caller holds the home's lock.
///
/// If the process is killed meanwhile, the current release is the old one, or the new one if that has passed its trial.
///
/// # Errors
/// When the release cannot be installed or does not work; the old one then stays current.
pub(in crate::setup) async fn replace(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let brought = bring_and_try(setup).await;
    let before = setup.state.recorded();
    match brought {
        Ok((detail, has_model)) => {
            if has_model {
                setup.note_model();
            }
            switch(setup, &before).await?;
            Ok(detail)
        }
        Err(failure) => {
            setup.state = before;
            Err(failure)
        }
    }
}

/// Installs the release next to the current one, and the model if it is missing; then tries the release. `state.json` names the current one.
/// Returns the result in words, and whether a model was installed.
async fn bring_and_try(setup: &mut Setup<'_>) -> Result<(String, bool), Failure> {
    let name = setup.release();
    let known = setup.state.previous.clone().filter(|previous| previous.name == name);
    let directory = setup.site.directory.clone();
    setup
        .state
        .begin_trial(known.unwrap_or_else(Release::unknown), directory);
    setup.forget_listing();
    let mut done = bring(setup).await?;
    setup.forget_listing();
    let model = bring_model(setup).await?;
    let has_model = !model.is_empty();
    done.extend(model);
    done.push(try_release(setup, Tried::NewRuntime).await?);
    Ok((done.join(", "), has_model))
}

/// Installs a wanted model that is missing, and accepts its terms: the trial needs it. It stays even if the release is refused.
async fn bring_model(setup: &mut Setup<'_>) -> Result<Vec<String>, Failure> {
    if !setup.wanted.with_model || setup.closed().await.is_none() {
        return Ok(Vec::new());
    }
    bring_steps(setup, [StepId::Terms, StepId::Model]).await
}

/// Installs the missing files of the release. Returns the steps' results in words.
pub(super) async fn bring(setup: &mut Setup<'_>) -> Result<Vec<String>, Failure> {
    bring_steps(setup, [StepId::Runtime, StepId::Companions]).await
}

/// Applies the steps of `ids` that are not in place. Returns a line of text for each.
async fn bring_steps(setup: &mut Setup<'_>, ids: [StepId; 2]) -> Result<Vec<String>, Failure> {
    let mut done = Vec::new();
    for id in ids {
        let inspection = needs::inspect(setup, id).await;
        if let Some(failure) = inspection.blocked {
            return Err(failure);
        }
        if matches!(inspection.condition, crate::setup::Condition::Needed(_)) {
            done.push(steps::apply(setup, id).await?);
        }
    }
    Ok(done)
}

/// Makes the release current, and returns to `before` if the running server cannot switch to it.
pub(super) async fn switch(setup: &mut Setup<'_>, before: &State) -> Result<(), Failure> {
    let engine = Engine::running(setup);
    setup.state.previous = before.release();
    setup.record()?;
    if let Err(failure) = hand_over(setup, engine.as_ref()).await {
        setup.state = before.clone();
        return Err(match setup.state.write(&setup.site.layout.state_file()) {
            Ok(()) => return_to(setup, engine.as_ref(), failure).await,
            Err(second) => not_taken_back(failure, &second.into()),
        });
    }
    // Files that cannot be deleted now are left to `cleanup`.
    tidy::evict(&setup.site.layout, &setup.state, before.previous.as_ref());
    Ok(())
}
