//! A last look at the runtime's executable before it is run: its size and time may be right although its bytes are not.

use std::time::Duration;

use super::shown;
use super::site::Site;
use super::state::State;
use super::wanted::Chosen;
use crate::error::{Failure, Kind};
use crate::runtime::RuntimeName;
use crate::sha256::Sha256;

/// How long a start may be held up. A larger file than can be read in this time is run unread.
const LIMIT: Duration = Duration::from_secs(1);

/// Hashes the executable that gem-setup put in place as the catalog pins it, for at most a second. One from elsewhere is run as
/// it is; `doctor` compares it with the catalog.
///
/// # Errors
/// When its hash is no longer the catalog's.
pub fn check_executable(site: &Site<'_>, chosen: &Chosen) -> Result<(), Failure> {
    if chosen.runtime != RuntimeName::Lit {
        return Ok(());
    }
    let pinned = site
        .catalog
        .runtime("lit")
        .and_then(|entry| entry.artifact(site.target));
    let Some((artifact, path)) = pinned.zip(site.lit_path()) else {
        return Ok(());
    };
    let state = State::read(&site.layout.state_file()).ok().flatten();
    if !state.is_some_and(|state| state.placed(&path, artifact.sha256)) {
        return Ok(());
    }
    // A missing or unreadable file is named when it is run.
    let found = Sha256::of_file_within(&path, LIMIT).ok().flatten();
    match found.filter(|found| *found != artifact.sha256) {
        None => Ok(()),
        Some(found) => {
            let message = format!(
                "cannot start the runtime {}: its SHA-256 is {found}, the catalog says {}",
                shown(&path),
                artifact.sha256
            );
            let failure = Failure::new(Kind::Verification, message);
            Err(failure.with_hint(format!("run `gem-setup doctor --fix --verify{}`", site.globals)))
        }
    }
}
