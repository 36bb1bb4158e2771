//! `uninstall`: reverts the steps of `install` in reverse order.

use std::io;
use std::path::{Path, PathBuf};

use gem_platform::{Os, file};

use jiff::Timestamp;
use serde::Serialize;

use super::launcher::starts_own;
use super::state::State;
use super::{journal, launcher, upgrade};
use crate::error::Failure;
use crate::fetch::unpack::STAGING;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::place;
use crate::runtime::LocalModelName;
use crate::settings::{self, Applied, Cleared, Destination, Outcome, Places, Removed, Scope};
use crate::supervise::{self, GRACE, Stopped};
use crate::threads;

/// The reverted changes.
#[derive(Clone, Debug, Serialize)]
pub struct Uninstalled {
    /// Whether a server was stopped.
    pub stopped: bool,
    /// What happened to the settings files.
    pub settings: Vec<Removed>,
    /// The deleted files.
    pub deleted: Vec<PathBuf>,
}

/// The files that `uninstall` deletes, changes and keeps.
#[derive(Clone, Debug, Serialize)]
pub struct Removal {
    /// The settings files from which the router's keys are removed, with the expected outcomes.
    pub settings: Vec<Removed>,
    /// Files and folders to delete.
    pub delete: Vec<PathBuf>,
    /// Files and folders of gem-setup that stay; empty with `purge`.
    pub keep: Vec<PathBuf>,
    /// Files next to the runtime that no record names. They always stay.
    pub foreign: Vec<PathBuf>,
}

/// The plan of [`uninstall`].
///
/// # Errors
/// When the state, a settings file or gem-setup's folder cannot be read.
pub fn removal(layout: &Layout, places: &Places, purge: bool) -> Result<Removal, Failure> {
    let state = State::read_without_secrets(&layout.state_file())?;
    let recorded = state.as_ref().map(|state| settings::preview(&state.settings));
    let mut settings = recorded.transpose()?.unwrap_or_default();
    settings.retain(|file| file.outcome != Outcome::Unchanged);
    let is_known = settings.iter().any(|file| file.path == places.user());
    if !is_known && starts_own(layout, places) {
        settings.push(Removed {
            scope: Scope::User,
            path: places.user().to_owned(),
            outcome: Outcome::Edited,
        });
    }
    let models = pulled_models(layout, state.as_ref());
    let runtime = runtime_files(layout, state.as_ref())?;
    let mut delete = paths(layout, &models, runtime.own, purge)?;
    let mut keep = Vec::new();
    if !purge {
        let models = models.iter().map(|model| layout.models().join(model));
        let models = existing(models.collect());
        // The models that stay are recorded there, and settings are copied to it before each change.
        let has_more =
            !models.is_empty() || !settings.is_empty() || own_files(layout)?.iter().any(|path| !delete.contains(path));
        keep.extend(models);
        keep.extend(has_more.then(|| layout.own()));
        keep.extend(placed_files(layout).into_iter().filter(|path| is_folder(path)));
        keep.push(layout.log_file());
    }
    if purge {
        delete.extend(locks(layout));
    }
    Ok(Removal {
        settings,
        delete: existing(delete),
        keep: existing(keep),
        foreign: runtime.foreign,
    })
}

fn existing(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.retain(|path| path.symlink_metadata().is_ok());
    paths
}

/// The content of the runtime's folder, which Gemini CLI and others write to as well.
struct RuntimeFiles {
    own: Vec<PathBuf>,
    foreign: Vec<PathBuf>,
}

/// Tells the files that `state` records from the others.
fn runtime_files(layout: &Layout, state: Option<&State>) -> Result<RuntimeFiles, Failure> {
    let bin = layout.lit_bin();
    // The record of companions has whole paths, and the home may have been moved.
    let is_in_bin = |path: &Path| path == bin || path.ends_with(".gemini/bin/litert");
    let companions = |state: &'_ State| {
        let previous = state.previous.iter().flat_map(|release| release.companions.clone());
        state.companions.iter().cloned().chain(previous).collect::<Vec<_>>()
    };
    let placed = state.map_or_else(Vec::new, |state| {
        let hashed = state.hashed.iter().map(|file| file.path.clone());
        let companions = companions(state).into_iter().map(|file| file.path);
        let here = hashed
            .chain(companions)
            .filter(|path| path.parent().is_some_and(is_in_bin));
        here.filter_map(|path| Some(bin.join(path.file_name()?))).collect()
    });
    let is_own = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        placed.contains(path) || name.starts_with(STAGING)
    };
    let (own, foreign) = files_in(&bin)?.into_iter().partition(is_own);
    Ok(RuntimeFiles { own, foreign })
}

fn own_folders(layout: &Layout) -> [PathBuf; 5] {
    [
        layout.litert_lm_env(),
        layout.litert_lm_old_env(),
        layout.versions(),
        layout.program_folder(),
        layout.downloads(),
    ]
}

fn placed_files(layout: &Layout) -> Vec<PathBuf> {
    let records = [
        layout.state_file(),
        layout.mirrors_file(),
        layout.catalog_file(),
        layout.ca_cert_file(),
    ];
    records.into_iter().chain(launcher::remains(layout)).collect()
}

/// Whether a user has created a directory in place of a file.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// The paths to delete, whether or not they exist, except the held locks.
fn paths(
    layout: &Layout,
    models: &[LocalModelName],
    runtime: Vec<PathBuf>,
    purge: bool,
) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = runtime;
    paths.extend(own_folders(layout));
    paths.extend(placed_files(layout).into_iter().filter(|path| !is_folder(path)));
    if purge {
        paths.extend(models.iter().map(|model| layout.models().join(model)));
        paths.extend(logs(layout));
        for path in own_files(layout)? {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    Ok(paths)
}

/// Stops the server, reverts the settings, deletes recorded runtime and companions; with `purge` also the models that gem-setup
/// pulled, the state and the logs. The router's keys are also removed from settings that name gem-setup as the program
/// to start, because the record may be lost. `lock`, if there was anything to lock, is released before its own
/// directory is deleted.
///
/// # Errors
/// When the server cannot be stopped, or a file cannot be changed or deleted.
pub async fn uninstall(
    layout: &Layout,
    places: &Places,
    purge: bool,
    lock: Option<Lock>,
) -> Result<Uninstalled, Failure> {
    let mut state = State::read_without_secrets(&layout.state_file())?;
    // Files are deleted only while no server runs, and none can start meanwhile.
    let (stopped, vacancy) = supervise::vacate(layout, GRACE).await?;
    let mut outcome = Uninstalled {
        stopped: stopped != Stopped::NotRunning,
        settings: Vec::new(),
        deleted: Vec::new(),
    };
    outcome.settings = take_settings_back(layout, places, state.as_ref())?;
    // Afterwards the models have their recorded names.
    let _ = state.as_mut().map(|state| upgrade::settle(layout, state));
    journal::sweep(layout, state.as_ref().unwrap_or(&State::default()));
    let models = pulled_models(layout, state.as_ref());
    if !purge {
        keep_models(layout, &models)?;
    }
    let runtime = runtime_files(layout, state.as_ref())?;
    for path in paths(layout, &models, runtime.own, purge)? {
        if delete_aside(&path).await? {
            outcome.deleted.push(path);
        }
    }
    let held = (lock, vacancy);
    if Os::HOST == Os::Windows {
        // Windows cannot delete an open file.
        drop(held);
        delete_locks(layout, purge)?;
    } else {
        // Another gem-setup that took a released lock would lose its file.
        delete_locks(layout, purge)?;
        drop(held);
    }
    // Files that another gem-setup creates from now on stay.
    if purge && !models.is_empty() {
        let folder = layout.models();
        delete_empty(&[&folder, place::parent(&folder)]);
    }
    let bin = layout.gemini().join("bin");
    delete_empty(&[layout.lit_bin(), bin, layout.tmp(), layout.own(), layout.gemini()]);
    Ok(outcome)
}

/// Deletes those of `folders` that are empty, in this order.
fn delete_empty(folders: &[impl AsRef<Path>]) {
    for folder in folders {
        // This fails if the folder contains anything else; it then stays.
        let _ = std::fs::remove_dir(folder);
    }
}

/// Reverts the recorded changes to settings. Removes the router's keys from settings that still start gem-setup.
fn take_settings_back(layout: &Layout, places: &Places, state: Option<&State>) -> Result<Vec<Removed>, Failure> {
    let (backups, now) = (layout.backups(), Timestamp::now());
    let reverted = state.map(|state| settings::remove(&state.settings, &backups, now));
    let mut removed = reverted.transpose()?.unwrap_or_default();
    if starts_own(layout, places) {
        let cleared = settings::clear(places, Destination::User, &Applied::default(), &backups, now)?;
        if let Cleared::Done(cleared) = cleared {
            removed.retain(|file| file.path != cleared.path);
            removed.push(cleared);
        }
    }
    Ok(removed)
}

/// The models that gem-setup pulled, as recorded by `state` and an earlier `uninstall`. Others are never deleted.
fn pulled_models(layout: &Layout, state: Option<&State>) -> Vec<LocalModelName> {
    let mut models = state.map_or_else(Vec::new, |state| state.pulled.clone());
    let kept = place::read_text(&layout.kept_file()).unwrap_or_default();
    for model in kept.lines().filter_map(|line| line.parse().ok()) {
        if !models.contains(&model) {
            models.push(model);
        }
    }
    models
}

/// Records which models stay, for a later `uninstall --purge`, because the state that names them is deleted.
fn keep_models(layout: &Layout, models: &[LocalModelName]) -> Result<(), Failure> {
    let present = models.iter().filter(|model| layout.models().join(model).exists());
    let names: Vec<&str> = present.map(LocalModelName::as_str).collect();
    if names.is_empty() {
        return Ok(());
    }
    let path = layout.kept_file();
    place::write_atomic(&path, names.join("\n").as_bytes()).map_err(|error| Failure::cannot_at("write", &path, &error))
}

/// gem-setup's own files, except the locks.
fn own_files(layout: &Layout) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = files_in(&layout.own())?;
    paths.retain(|path| !locks(layout).contains(path));
    Ok(paths)
}

/// The content of `folder`; empty if it is missing.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: io::Error| Failure::cannot_at("look into", folder, &error);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if file::is_absence(&error) => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let paths: Result<Vec<PathBuf>, io::Error> = entries.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(failed)
}

fn locks(layout: &Layout) -> [PathBuf; 3] {
    [layout.lock_file(), layout.server_lock_file(), layout.engine_lock_file()]
}

fn delete_locks(layout: &Layout, purge: bool) -> Result<(), Failure> {
    let paths = locks(layout);
    let mut paths = paths.iter().filter(|_| purge);
    paths.try_for_each(|path| delete(path).map(drop))
}

/// The log, the rotated logs and the decision log.
fn logs(layout: &Layout) -> Vec<PathBuf> {
    let log = layout.log_file();
    let mut files = vec![log.clone(), layout.decisions_file()];
    files.extend((1..10).map(|number| PathBuf::from(format!("{}.{number}", log.display()))));
    files
}

/// [`delete`] on a thread of its own, if the system allows one: a large folder takes seconds.
async fn delete_aside(path: &Path) -> Result<bool, Failure> {
    let owned = path.to_owned();
    let done = threads::aside(move || delete(&owned)).await;
    done.unwrap_or_else(|error| Err(Failure::cannot(format_args!("delete `{}`", path.display()), error)))
}

fn delete(path: &Path) -> Result<bool, Failure> {
    let done = match std::fs::symlink_metadata(path) {
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    match done {
        Ok(()) => Ok(true),
        Err(error) if file::is_absence(&error) => Ok(false),
        Err(error) => Err(Failure::cannot_at("delete", path, &error)),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;
    use crate::environment::Environment;

    #[tokio::test]
    async fn no_lock_is_deleted_that_another_may_hold_by_then() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        let layout = Layout::new(home, home);
        let places = Places::new(Os::Linux, &Environment::new([], home, home), home);
        // Deleting these takes a while.
        fs::create_dir_all(layout.lock_file()).unwrap();
        (0..10_000).for_each(|number| fs::write(layout.lock_file().join(number.to_string()), "").unwrap());
        drop(Lock::try_acquire(&layout.server_lock_file()).unwrap());
        let (begun, path) = (layout.ca_cert_file(), layout.server_lock_file());
        fs::write(&begun, "").unwrap();
        let other = std::thread::spawn(move || {
            while begun.exists() {
                std::thread::yield_now();
            }
            loop {
                if let Ok(Some(lock)) = Lock::try_acquire(&path) {
                    return lock;
                }
            }
        });
        uninstall(&layout, &places, true, None).await.unwrap();
        assert!(other.join().unwrap().is_current());
    }
}
