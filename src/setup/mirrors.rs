//! Secrets in the URLs of recorded mirrors. People attach `state.json` to bug reports, so secrets are kept in a private
//! file.

use std::io;
use std::path::{Path, PathBuf};

use url::Url;

use crate::layout::MIRRORS_FILE;
use crate::net::{SafeUrl, without_secrets};
use crate::place;

fn file_beside(state: &Path) -> PathBuf {
    state.with_file_name(MIRRORS_FILE)
}

/// Writes the URLs of `mirrors` to a file next to the record `state` if they contain secrets; otherwise deletes that
/// file.
pub(super) fn keep(state: &Path, mirrors: &[Url]) -> io::Result<()> {
    let file = file_beside(state);
    if !mirrors.iter().any(|url| SafeUrl::from(url).holds_secret()) {
        return place::remove(&file).map_err(|error| place::at(&file, &error));
    }
    let lines: String = mirrors.iter().map(|url| format!("{url}\n")).collect();
    place::write_private(&file, lines.as_bytes()).map_err(|error| place::at(&file, &error))
}

/// `mirrors`, as read from the record `state`, with the secrets that [`keep`] stored.
pub(super) fn with_secrets(state: &Path, mirrors: Vec<Url>) -> Vec<Url> {
    if mirrors.is_empty() {
        return mirrors;
    }
    let text = place::read_text(&file_beside(state)).unwrap_or_default();
    let kept: Vec<Url> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let whole = |mirror: Url| {
        let known = kept.iter().find(|kept| without_secrets(kept) == mirror);
        known.cloned().unwrap_or(mirror)
    };
    mirrors.into_iter().map(whole).collect()
}
