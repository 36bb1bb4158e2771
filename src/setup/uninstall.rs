//! `uninstall`: undoes what `install` did, in the opposite order.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::state::State;
use super::{journal, launcher};
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::place;
use crate::runtime::LocalModelName;
use crate::settings::{self, Removed};
use crate::supervise::{self, GRACE, Stopped};

/// What was undone.
#[derive(Clone, Debug, Serialize)]
pub struct Uninstalled {
    /// Whether a server was stopped.
    pub stopped: bool,
    /// What became of the settings files.
    pub settings: Vec<Removed>,
    /// What was deleted.
    pub deleted: Vec<PathBuf>,
}

/// The files that `uninstall` deletes, changes and keeps.
#[derive(Clone, Debug, Serialize)]
pub struct Removal {
    /// The settings files that lose the router's keys.
    pub settings: Vec<PathBuf>,
    /// Files and folders to delete.
    pub delete: Vec<PathBuf>,
    /// Files and folders of gem-setup that stay; none with `purge`.
    pub keep: Vec<PathBuf>,
}

/// What [`uninstall`] would do.
///
/// # Errors
/// When the state or gem-setup's folder cannot be read.
pub fn removal(layout: &Layout, purge: bool) -> Result<Removal, Failure> {
    let state = State::read(&layout.state_file())?;
    let settings = state.iter().flat_map(|state| &state.settings.files);
    let settings = settings.map(|file| file.path.clone()).collect();
    let models = pulled_models(layout, state.as_ref());
    let mut keep = Vec::new();
    if !purge {
        keep.extend(models.iter().map(|model| layout.models().join(model)));
        let has_more_than_locks = !own_files(layout)?.is_empty();
        keep.extend(has_more_than_locks.then(|| layout.own()));
        keep.push(layout.log_file());
    }
    Ok(Removal {
        settings,
        delete: existing(paths(layout, &models, purge)?),
        keep: existing(keep),
    })
}

fn existing(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.retain(|path| path.symlink_metadata().is_ok());
    paths
}

/// The paths that go, whether they exist or not, but for the locks that are held.
fn paths(layout: &Layout, models: &[LocalModelName], purge: bool) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = vec![
        layout.lit_bin(),
        layout.litert_lm_env(),
        layout.litert_lm_old_env(),
        layout.state_file(),
        layout.catalog_file(),
        layout.ca_cert_file(),
        layout.downloads(),
    ];
    paths.extend(launcher::remains(layout));
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

/// Stops the server, takes the settings back, deletes runtime and companions; with `purge` also the models that it
/// pulled, the state and the logs. `lock`, if there was anything to lock, is let go of before its own directory is deleted.
///
/// # Errors
/// When the server cannot be stopped, or a file cannot be changed or deleted.
pub async fn uninstall(layout: &Layout, purge: bool, lock: Option<Lock>) -> Result<Uninstalled, Failure> {
    let state = State::read(&layout.state_file())?;
    // Nothing is deleted under a server, and none starts while files go.
    let (stopped, vacancy) = supervise::vacate(layout, GRACE).await?;
    let mut outcome = Uninstalled {
        stopped: stopped != Stopped::NotRunning,
        settings: Vec::new(),
        deleted: Vec::new(),
    };
    if let Some(state) = &state {
        outcome.settings = settings::remove(&state.settings, &layout.backups(), Timestamp::now())?;
    }
    journal::sweep(layout, state.as_ref().unwrap_or(&State::default()));
    let models = pulled_models(layout, state.as_ref());
    if !purge {
        keep_models(layout, &models)?;
    }
    for path in paths(layout, &models, purge)? {
        if delete(&path)? {
            outcome.deleted.push(path);
        }
    }
    // Windows deletes no file that is open. What another gem-setup writes from here on stays.
    drop((lock, vacancy));
    if purge {
        for path in locks(layout) {
            delete(&path)?;
        }
    }
    let bin = layout.gemini().join("bin");
    for folder in [layout.lit_bin(), bin, layout.tmp(), layout.own(), layout.gemini()] {
        // A folder with anything else in it stays.
        let _ = std::fs::remove_dir(folder);
    }
    Ok(outcome)
}

/// The models that gem-setup pulled, as `state` and an earlier `uninstall` recorded them. Others are never deleted.
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

/// Writes down which models stay, for an `uninstall --purge` to come: the state that names them goes.
fn keep_models(layout: &Layout, models: &[LocalModelName]) -> Result<(), Failure> {
    let present = models.iter().filter(|model| layout.models().join(model).exists());
    let names: Vec<&str> = present.map(LocalModelName::as_str).collect();
    if names.is_empty() {
        return Ok(());
    }
    let path = layout.kept_file();
    place::write_atomic(&path, names.join("\n").as_bytes()).map_err(|error| {
        Failure::new(Kind::Unexpected, format!("cannot write `{}`: {error}", path.display()))
            .with_hint("check that the disk has room and that the directory is yours, then run the command again")
    })
}

/// What gem-setup keeps for itself, all but the locks.
fn own_files(layout: &Layout) -> Result<Vec<PathBuf>, Failure> {
    let own = layout.own();
    let failed = |error: io::Error| {
        Failure::new(
            Kind::Unexpected,
            format!("cannot look into `{}`: {error}", own.display()),
        )
        .with_hint("check that it is yours, then run the command again")
    };
    let entries = match std::fs::read_dir(&own) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let paths: Result<Vec<PathBuf>, io::Error> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(failed)?;
    paths.retain(|path| !locks(layout).contains(path));
    Ok(paths)
}

fn locks(layout: &Layout) -> [PathBuf; 3] {
    [layout.lock_file(), layout.server_lock_file(), layout.engine_lock_file()]
}

/// The log, its rotated predecessors and the decisions.
fn logs(layout: &Layout) -> Vec<PathBuf> {
    let log = layout.log_file();
    let mut files = vec![log.clone(), layout.decisions_file()];
    files.extend((1..10).map(|number| PathBuf::from(format!("{}.{number}", log.display()))));
    files
}

fn delete(path: &Path) -> Result<bool, Failure> {
    let done = match std::fs::symlink_metadata(path) {
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(
            Failure::new(Kind::Unexpected, format!("cannot delete `{}`: {error}", path.display()))
                .with_hint("check that it is yours and not in use, then run the command again"),
        ),
    }
}
