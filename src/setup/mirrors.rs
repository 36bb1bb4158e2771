//! Secrets in the URLs of recorded mirrors. People attach `state.json` to bug reports, so secrets are kept in a private
//! file.

use std::io;
use std::path::{Path, PathBuf};

use url::Url;

use crate::error::Kind;
use crate::layout::MIRRORS_FILE;
use crate::net::{SafeUrl, without_secrets};
use crate::place;
use crate::record::{Error, Record};

const MIRRORS: Record = Record {
    name: "recorded mirrors",
    kind: Kind::Unexpected,
    remedy: "move the file somewhere else and run `gem-setup install` again with `--mirror`",
};

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
    write(&file, mirrors)
}

/// Like [`keep`], but the URLs in the file stay there, after those of `mirrors`.
pub(super) fn add(state: &Path, mirrors: &[Url]) -> io::Result<()> {
    let kept = kept_in(&file_beside(state)).unwrap_or_default();
    if kept == mirrors {
        return Ok(());
    }
    let kept = kept.into_iter().filter(|url| !mirrors.contains(url));
    keep(state, &mirrors.iter().cloned().chain(kept).collect::<Vec<_>>())
}

fn write(file: &Path, mirrors: &[Url]) -> io::Result<()> {
    let lines: String = mirrors.iter().map(|url| format!("{url}\n")).collect();
    place::write_private(file, lines.as_bytes()).map_err(|error| place::at(file, &error))
}

/// `mirrors`, as read from the record `state`, with the secrets that [`keep`] stored.
///
/// # Errors
/// When the file of [`keep`] exists but cannot be read or does not parse: [`keep`] would replace or delete it.
pub(super) fn with_secrets(state: &Path, mirrors: Vec<Url>) -> Result<Vec<Url>, Error> {
    if mirrors.is_empty() {
        return Ok(mirrors);
    }
    let kept = kept_in(&file_beside(state))?;
    let whole = |mirror: Url| {
        let known = kept.iter().find(|kept| without_secrets(kept) == mirror);
        known.cloned().unwrap_or(mirror)
    };
    Ok(mirrors.into_iter().map(whole).collect())
}

fn kept_in(file: &Path) -> Result<Vec<Url>, Error> {
    let bytes = place::read_if_present(file).and_then(|bytes| place::text(bytes.unwrap_or_default()));
    let text = bytes.map_err(|source| MIRRORS.unread(file, source))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(index, line): (usize, &str)| {
        let number = index + 1;
        let unusable = |error| MIRRORS.unusable(file.to_string_lossy(), format!("line {number}: {error}"));
        line.parse().map_err(|error: url::ParseError| unusable(error))
    };
    lines.map(parse).collect()
}
