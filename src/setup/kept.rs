//! Copies of the files that options name, so that the installation does not depend on the medium with the originals.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gem_platform::file::open_regular;

use super::state::State;
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::place;

/// Whether `copy` has the content of `given`, which may be an executable of any size.
pub(super) fn is_kept(given: &Path, copy: &Path) -> bool {
    is_same(given, copy).unwrap_or(false)
}

fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let open = |path| io::Result::Ok(BufReader::with_capacity(1 << 16, open_regular(path)?));
    let (mut one, mut other) = (open(one)?, open(other)?);
    if one.get_ref().metadata()?.len() != other.get_ref().metadata()?.len() {
        return Ok(false);
    }
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if left[..length] != right[..length] || (length == 0 && left.len() != right.len()) {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
        one.consume(length);
        other.consume(length);
    }
}

/// The files that options or the record name, read when the command begins. Until the command has the lock, another
/// gem-setup may delete them.
#[derive(Debug, Default)]
pub struct GivenFiles(Vec<(PathBuf, Vec<u8>)>);

impl GivenFiles {
    /// Reads those of `files` that are readable.
    pub fn read<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let files = files.into_iter();
        Self(
            files
                .filter_map(|file| Some((file.clone(), place::read(file).ok()?)))
                .collect(),
        )
    }

    /// Whether one of those in the directory `own` has another content by now.
    pub(super) fn are_replaced(&self, own: &Path) -> bool {
        let mut kept = self.0.iter().filter(|(file, _)| file.starts_with(own));
        kept.any(|(file, bytes)| place::read(file).is_ok_and(|now| now != *bytes))
    }

    /// Writes the content of `given` to `copy`: as it was at the beginning, or else as it is now.
    ///
    /// # Errors
    /// When `given` cannot be read or `copy` cannot be written.
    pub(super) fn keep(&self, given: &Path, copy: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            let message = format!("cannot copy `{}` to `{}`: {error}", given.display(), copy.display());
            Failure::new(Kind::Unexpected, message).with_hint(
                "check that the file is readable, and that the directory belongs to you and has space; then run the \
                command again",
            )
        };
        let known = self.0.iter().find(|(file, _)| file == given);
        let bytes = match known {
            Some((_, bytes)) => Cow::Borrowed(bytes),
            None => Cow::Owned(place::read(given).map_err(failed)?),
        };
        if place::read(copy).is_ok_and(|old| old == *bytes) {
            return Ok(());
        }
        place::write_private(copy, &bytes).map_err(failed)
    }
}

/// The recorded files outside gem-setup's own directory; an older gem-setup made no copies.
pub(super) fn elsewhere<'a>(state: &'a State, layout: &Layout) -> Vec<&'a Path> {
    let files = state
        .chosen
        .catalog
        .iter()
        .chain(&state.chosen.ca_cert)
        .map(PathBuf::as_path);
    files.filter(|file| !file.starts_with(layout.own())).collect()
}

/// Copies the files of [`elsewhere`] into the home and records the copies in `state`. The caller holds the home's lock.
///
/// # Errors
/// When a file cannot be read or copied, or the state cannot be written.
pub(super) fn adopt(state: &mut State, layout: &Layout) -> Result<(), Failure> {
    if elsewhere(state, layout).is_empty() {
        return Ok(());
    }
    let own = layout.own();
    for (file, copy) in [
        (&mut state.chosen.catalog, layout.catalog_file()),
        (&mut state.chosen.ca_cert, layout.ca_cert_file()),
    ] {
        if let Some(given) = file.as_deref().filter(|given| !given.starts_with(&own)) {
            GivenFiles::default().keep(given, &copy)?;
            *file = Some(copy);
        }
    }
    Ok(state.write(&layout.state_file())?)
}

/// Copies the recorded files that are outside the home into it, as `install` does.
///
/// # Errors
/// When another gem-setup is changing the home, or a file cannot be read or written.
pub async fn adopt_recorded(layout: &Layout) -> Result<(), Failure> {
    let path = layout.state_file();
    let recorded = State::read(&path)?;
    if recorded.is_none_or(|state| elsewhere(&state, layout).is_empty()) {
        return Ok(());
    }
    let _lock = Lock::acquire(&layout.lock_file(), Duration::ZERO).await?;
    if let Some(mut state) = State::read(&path)? {
        adopt(&mut state, layout)?;
    }
    Ok(())
}
