//! Changes of settings files: the intent is recorded first, then the files are written, then the result is recorded.
//! Reading the record settles an intent that a killed process left ([`State::read`]).

use jiff::Timestamp;

use super::state::State;
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::place;
use crate::settings::{self, Applied, Cleared, Destination, Outcome, Places, Plan, Removed};

/// Carries out `plan` and records it in `state` and its file. The caller holds the home's lock.
///
/// # Errors
/// When a settings file, its backup or the state cannot be written; no settings file is changed then.
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
    Ok(applied)
}

/// Takes the router's keys out of the one settings file of `destination`. The caller holds the home's lock.
///
/// # Errors
/// As [`apply_settings`].
pub fn clear_settings(
    state: &mut State,
    layout: &Layout,
    places: &Places,
    destination: Destination,
) -> Result<Removed, Failure> {
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
            Ok(removed)
        }
    }
}

/// Reverts gem-setup's changes of settings files. The caller holds the home's lock.
///
/// # Errors
/// When nothing is on record, or a file cannot be read or written.
pub fn roll_back_settings(layout: &Layout) -> Result<Vec<Removed>, Failure> {
    let mut state = State::read(&layout.state_file())?.unwrap_or_default();
    if state.settings.files.is_empty() {
        let failure = Failure::new(Kind::Usage, "cannot roll the settings back: gem-setup has changed none");
        return Err(failure.with_hint("`gem-setup settings show` says where each value comes from"));
    }
    let removed = settings::remove(&state.settings, &layout.backups(), Timestamp::now())?;
    state.settings = Applied::default();
    state.write(&layout.state_file())?;
    Ok(removed)
}

/// Deletes the temporary files of killed processes in the directories of `layout` and of recorded settings files.
pub(super) fn sweep(layout: &Layout, state: &State) {
    let own = [
        layout.state_file(),
        layout.pid_file(),
        layout.user_settings(),
        layout.backups().join("x"),
    ];
    let settings = state.settings.files.iter().map(|file| file.path.clone());
    own.into_iter()
        .chain(settings)
        .for_each(|path| place::sweep_beside(&path));
}
