//! The check of the runtime's executable before it is run: its bytes may differ although size and time agree.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::state::State;
use crate::error::{Failure, Kind};
use crate::runtime::ProgramCheck;
use crate::sha256::Sha256;

/// How long a start may be held up. A larger file than can be read in this time is run unread.
const LIMIT: Duration = Duration::from_secs(1);

/// The check of an executable in the home whose record is the file `state`: it hashes one that gem-setup put in place, for at most
/// a second. `pinned` is the executable of the release in use with the catalog's hash, for a record without one. `globals` are the
/// options that an advised command needs.
///
/// An executable in a home without a release is run as it is; `doctor` compares it with the catalog.
pub(super) fn check_with(state: PathBuf, pinned: Option<(PathBuf, Sha256)>, globals: String) -> ProgramCheck {
    ProgramCheck::new(move |program| check(program, &state, pinned.as_ref(), &globals))
}

/// The record `state` is read each time, because another release may be in place.
fn check(program: &Path, state: &Path, pinned: Option<&(PathBuf, Sha256)>, globals: &str) -> Result<(), Failure> {
    let state = State::read(state).ok().flatten().unwrap_or_default();
    let by_catalog = pinned.filter(|(path, _)| state.release.is_some() && path == program);
    let Some(expected) = state.placed(program).or(by_catalog.map(|(_, sha256)| *sha256)) else {
        return Ok(());
    };
    // A missing or unreadable file is named when it is run.
    let found = Sha256::of_file_within(program, LIMIT).ok().flatten();
    match found.filter(|found| *found != expected) {
        None => Ok(()),
        Some(found) => {
            let message = format!(
                "cannot start the runtime `{}`: its SHA-256 is {found}, the catalog says {expected}",
                program.display()
            );
            let failure = Failure::new(Kind::Verification, message);
            Err(failure.with_hint(format!("run `gem-setup doctor --fix --verify{globals}`")))
        }
    }
}
