//! Removes the router's settings.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::backup::back_up;
use super::edit;
use super::error::Error;
use super::read::{self, read_text};
use super::router::Key;
use super::scope::{Places, Scope};
use super::write::{Applied, AppliedFile, Destination, Plan, delete, write};
use crate::place;
use crate::sha256::Sha256;

/// The result for one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// The file's scope.
    pub scope: Scope,
    /// The file's path; the file may be gone.
    pub path: PathBuf,
    /// What happened to the file.
    pub outcome: Outcome,
}

/// The result of the removal of the router's settings from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The file has its former content again, byte for byte.
    Restored,
    /// The file was created for the router and is deleted.
    Deleted,
    /// The router's keys have their former values; later changes of other keys stay.
    Edited,
    /// There was nothing to remove.
    Unchanged,
}

/// Reverts the changes in `applied`. Makes a backup of each file in `backups`.
///
/// A file that has not changed since is restored byte for byte. In other files only those keys are reverted that still
/// have the value that `apply` gave them.
///
/// # Errors
/// When a file cannot be read, parsed or written, or its backup cannot be made; that file is then unchanged.
pub fn remove(applied: &Applied, backups: &Path, now: Timestamp) -> Result<Vec<Removed>, Error> {
    removed(applied, |file| remove_from(file, backups, now))
}

/// The results that [`remove`] would have, without changing anything.
///
/// # Errors
/// When a file cannot be read or parsed.
pub fn preview(applied: &Applied) -> Result<Vec<Removed>, Error> {
    removed(applied, |file| {
        Ok(reversal(file)?.map_or(Outcome::Unchanged, |reversal| reversal.outcome))
    })
}

fn removed(applied: &Applied, outcome: impl Fn(&AppliedFile) -> Result<Outcome, Error>) -> Result<Vec<Removed>, Error> {
    let files = applied.files.iter().map(|file| {
        Ok(Removed {
            scope: file.scope,
            path: file.path.clone(),
            outcome: outcome(file)?,
        })
    });
    files.collect()
}

/// Whether the settings file at `path` names `program` as the program to start, or a file with the same end of its
/// path, because a home may be moved.
#[must_use]
pub fn starts(path: &Path, program: &Path) -> bool {
    let text = read_text(path).ok().flatten();
    let value = text.and_then(|text| read::value(path, &text).ok());
    let keys = Key::BinaryPath.path();
    let found = value.and_then(|value| keys.iter().try_fold(&value, |value, key| value.get(*key)).cloned());
    let found = found.as_ref().and_then(Value::as_str);
    found.is_some_and(|found| Path::new(found).ends_with(program))
}

/// The result of [`clear`].
#[derive(Debug)]
pub enum Cleared {
    /// The removal is complete.
    Done(Removed),
    /// The file is recorded, so the change must be recorded too: the caller must carry out the plan.
    Planned(Removed, Plan),
}

/// Removes the router's keys, with any value, from the file of `destination`. Deletes a file that `applied`
/// records as created if it contains nothing else.
///
/// # Errors
/// Like [`remove`].
pub fn clear(
    places: &Places,
    destination: Destination,
    applied: &Applied,
    backups: &Path,
    now: Timestamp,
) -> Result<Cleared, Error> {
    let (removed, clearing) = plan_clear(places, destination, applied)?;
    let Some((text, cleared)) = clearing else {
        return Ok(Cleared::Done(removed));
    };
    let recorded = applied.files.iter().find(|file| file.path == removed.path);
    match (removed.outcome, recorded) {
        (Outcome::Deleted, Some(file)) => {
            delete_created(file, &text, backups, now)?;
        }
        (Outcome::Edited, Some(_)) => {
            let plan = Plan::of_text(removed.scope, &removed.path, text, cleared);
            return Ok(Cleared::Planned(removed, plan));
        }
        _ => {
            replace(&removed.path, &text, &cleared, backups, now)?;
        }
    }
    Ok(Cleared::Done(removed))
}

/// The result that [`clear`] would have, without changing anything.
///
/// # Errors
/// When the file cannot be read or parsed.
pub fn preview_clear(places: &Places, destination: Destination, applied: &Applied) -> Result<Removed, Error> {
    plan_clear(places, destination, applied).map(|(removed, _)| removed)
}

/// The text of a settings file, and the text without the router's keys; `None` without a file.
type Clearing = Option<(String, String)>;

/// The result that [`clear`] will have, and the texts that it follows from. The file is read once, so that both agree.
fn plan_clear(places: &Places, destination: Destination, applied: &Applied) -> Result<(Removed, Clearing), Error> {
    let (scope, path) = destination.file(places);
    let recorded = applied.files.iter().find(|file| file.path == path);
    let clearing = match read_text(path)? {
        Some(text) => {
            let cleared = edit::clear(path, &text, &Key::ROUTER)?;
            Some((text, cleared))
        }
        None => None,
    };
    let outcome = match &clearing {
        Some((_, cleared)) if recorded.is_some_and(|file| file.before.is_none()) && edit::is_blank(cleared) => {
            Outcome::Deleted
        }
        Some((text, cleared)) if cleared != text => Outcome::Edited,
        _ => Outcome::Unchanged,
    };
    let path = path.to_owned();
    Ok((Removed { scope, path, outcome }, clearing))
}

/// The change that removes the router from a file.
struct Reversal {
    before: String,
    /// The file's text afterwards.
    after: String,
    outcome: Outcome,
}

/// `None` if nothing has to change.
fn reversal(file: &AppliedFile) -> Result<Option<Reversal>, Error> {
    let Some(before) = read_text(&file.path)? else {
        return Ok(None);
    };
    let (after, outcome) = if let Some(original) = original(file, &before) {
        (original, Outcome::Restored)
    } else {
        let reverted = edit::revert(&file.path, &before, &file.changes, &file.created)?;
        let is_ours = file.before.is_none() && edit::is_blank(&reverted);
        let outcome = if is_ours { Outcome::Deleted } else { Outcome::Edited };
        (reverted, outcome)
    };
    let is_change = before != after || outcome != Outcome::Edited;
    Ok(is_change.then_some(Reversal { before, after, outcome }))
}

fn remove_from(file: &AppliedFile, backups: &Path, now: Timestamp) -> Result<Outcome, Error> {
    let Some(Reversal { before, after, outcome }) = reversal(file)? else {
        return Ok(Outcome::Unchanged);
    };
    match outcome {
        Outcome::Deleted => delete_created(file, &before, backups, now)?,
        _ => replace(&file.path, &before, &after, backups, now)?,
    };
    Ok(outcome)
}

/// Deletes a file that was created for the router.
fn delete_created(file: &AppliedFile, text: &str, backups: &Path, now: Timestamp) -> Result<Outcome, Error> {
    back_up(&file.path, text.as_bytes(), backups, now)?;
    delete(&file.path)?;
    if let Some(dir) = file.path.parent().filter(|_| file.created_dir) {
        // This fails if the directory contains other files; it then stays.
        let _ = fs::remove_dir(dir);
    }
    Ok(Outcome::Deleted)
}

/// The file's former text, if the file has not changed since and its copy is intact.
fn original(file: &AppliedFile, text: &str) -> Option<String> {
    if Sha256::of(text) != file.after {
        return None;
    }
    let original = place::read_text(file.backup.as_ref()?).ok()?;
    (Some(Sha256::of(&original)) == file.before).then_some(original)
}

fn replace(path: &Path, before: &str, after: &str, backups: &Path, now: Timestamp) -> Result<Outcome, Error> {
    if before == after {
        return Ok(Outcome::Unchanged);
    }
    back_up(path, before.as_bytes(), backups, now)?;
    write(path, after)?;
    Ok(Outcome::Edited)
}
