//! Changes to settings files. First the plan is recorded, then the files are written, then the result is recorded. If a
//! process is killed in between, the next reader of the record completes or drops its plan ([`State::read`]).

use jiff::Timestamp;

use super::bundled_model;
use super::needs;
use super::state::State;
use crate::error::{Failure, Kind};
use crate::fetch;
use crate::layout::Layout;
use crate::place;
use crate::settings::{self, Applied, Cleared, Destination, Outcome, Places, Plan, Removed};

/// Carries out `plan` and records it in `state` and the state's file. The caller holds the home's lock.
///
/// # Errors
/// When a settings file, its backup or the state cannot be written. If only the last write of the state fails, the settings
/// files are changed, and the next reader of the record completes it.
pub fn apply_settings(state: &mut State, layout: &Layout, plan: Plan) -> Result<Applied, Failure> {
    if plan.is_empty() {
        return Ok(Applied::default());
    }
    let prepared = plan.prepare(&layout.backups(), Timestamp::now())?;
    state.pending = prepared.applied().clone();
    state.write(&layout.state_file())?;
    let done = prepared.commit();
    state.pending = Applied::default();
    let applied = done?;
    state.settings = std::mem::take(&mut state.settings).then(applied.clone());
    state.write(&layout.state_file())?;
    prune(layout, state);
    Ok(applied)
}

/// Removes the router's keys from the settings file of `destination`. The caller holds the home's lock.
///
/// # Errors
/// Like [`apply_settings`].
pub fn clear_settings(
    state: &mut State,
    layout: &Layout,
    places: &Places,
    destination: Destination,
) -> Result<Removed, Failure> {
    let planned = settings::preview_clear(places, destination, &state.settings)?;
    let has_record = state.settings.files.iter().any(|file| file.path == planned.path);
    let is_recorded = has_record && planned.outcome != Outcome::Unchanged;
    needs::check_reversal(layout, &[planned], is_recorded)?;
    let cleared = settings::clear(
        places,
        destination,
        &state.settings,
        &layout.backups(),
        Timestamp::now(),
    )?;
    match cleared {
        Cleared::Planned(removed, plan) => {
            apply_settings(state, layout, plan)?;
            Ok(removed)
        }
        Cleared::Done(removed) => {
            if removed.outcome == Outcome::Deleted {
                state.settings = std::mem::take(&mut state.settings).without(&removed.path);
                state.write(&layout.state_file())?;
            }
            prune(layout, state);
            Ok(removed)
        }
    }
}

/// Reverts gem-setup's changes to settings files. The caller holds the home's lock.
///
/// # Errors
/// When no change is recorded, or a file cannot be read or written.
pub fn roll_back_settings(layout: &Layout) -> Result<Vec<Removed>, Failure> {
    let mut state = State::read(&layout.state_file())?.unwrap_or_default();
    if state.settings.files.is_empty() {
        let failure = Failure::new(
            Kind::Usage,
            "cannot roll back the settings: gem-setup has not changed any",
        );
        return Err(failure.with_hint("run `gem-setup settings show` to see where each value comes from"));
    }
    needs::check_reversal(layout, &settings::preview(&state.settings)?, true)?;
    let removed = settings::remove(&state.settings, &layout.backups(), Timestamp::now())?;
    state.settings = Applied::default();
    state.write(&layout.state_file())?;
    Ok(removed)
}

/// Deletes surplus copies of settings files that `state` does not name.
fn prune(layout: &Layout, state: &State) {
    let recorded = state.settings.files.iter().filter_map(|file| file.backup.as_deref());
    settings::prune(&layout.backups(), &recorded.collect::<Vec<_>>());
}

/// Deletes the temporary files of killed processes in the directories of `layout` and of the recorded settings files, and
/// incomplete copies of models and remains of downloads. The caller holds the home's lock.
pub(super) fn sweep(layout: &Layout, state: &State) {
    for model in &state.pulled {
        bundled_model::sweep(&layout.models(), model.as_str());
    }
    fetch::sweep(&layout.downloads());
    let own = [
        layout.state_file(),
        layout.pid_file(),
        layout.user_settings(),
        layout.backups().join("x"),
        layout.program(),
    ];
    let settings = state.settings.files.iter().map(|file| file.path.clone());
    own.into_iter()
        .chain(settings)
        .for_each(|path| place::sweep_beside(&path));
}
