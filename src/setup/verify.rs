//! Checks the runtime's executable before it runs: its content may differ although size and time match.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::state::State;
use crate::error::{Failure, Kind};
use crate::runtime::ProgramCheck;
use crate::sha256::Sha256;

/// The longest delay of a start. A file that cannot be read in this time is run without a check.
const LIMIT: Duration = Duration::from_secs(1);

/// The check of an executable in the home with the record `state`: hashes an executable that gem-setup installed, for a
/// second at most. `pinned` is the current release's executable with the catalog's hash, for a record without a hash.
/// `globals` are options for suggested commands.
///
/// An executable in a home without a release runs unchecked; `doctor` compares it with the catalog.
pub(super) fn check_with(state: PathBuf, pinned: Option<(PathBuf, Sha256)>, globals: String) -> ProgramCheck {
    ProgramCheck::new(move |program| check(program, &state, pinned.as_ref(), &globals))
}

/// The record `state` is read each time, because another release may have become current.
fn check(program: &Path, state: &Path, pinned: Option<&(PathBuf, Sha256)>, globals: &str) -> Result<(), Failure> {
    let state = State::read_without_secrets(state).ok().flatten().unwrap_or_default();
    let by_catalog = pinned.filter(|(path, _)| state.release.is_some() && path == program);
    let Some(expected) = state.placed(program).or(by_catalog.map(|(_, sha256)| *sha256)) else {
        return Ok(());
    };
    // A missing or unreadable file causes an error when it is run.
    let found = Sha256::of_file_within(program, LIMIT).ok().flatten();
    match found.filter(|found| *found != expected) {
        None => Ok(()),
        Some(found) => {
            let message = format!(
                "cannot start the runtime `{}`: its SHA-256 is {found}, but the catalog has {expected}",
                program.display()
            );
            let failure = Failure::new(Kind::Verification, message);
            Err(failure.with_hint(format!("run `gem-setup doctor --fix --verify{globals}`")))
        }
    }
}
