//! `uninstall`: reverts the steps of `install` in reverse order.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gem_platform::{Os, file};

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::converge::LOCK_PATIENCE;
use super::launcher::starts_own;
use super::state::State;
use super::{journal, launcher, shown, upgrade};
use crate::error::{Failure, Kind};
use crate::fetch::in_hand;
use crate::fetch::unpack::STAGING;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::place;
use crate::runtime::LocalModelName;
use crate::runtime::litert_lm::Venv;
use crate::settings::{self, Applied, Cleared, Destination, Outcome, Places, Removed, Scope};
use crate::supervise::{self, GRACE, Stopped};
use crate::threads;

/// The interval at which downloads are looked at that others have in hand.
const POLL: Duration = Duration::from_millis(50);

/// The reverted changes.
#[derive(Clone, Debug, Serialize)]
pub struct Uninstalled {
    /// Whether a server was stopped.
    pub stopped: bool,
    /// What happened to the settings files.
    pub settings: Vec<Removed>,
    /// The deleted files.
    pub deleted: Vec<PathBuf>,
    /// Files that cannot be deleted, because they are mounted by themselves. They are empty now.
    pub emptied: Vec<PathBuf>,
    /// What could not be deleted.
    pub left: Vec<Left>,
}

/// A file or directory that could not be deleted or written.
#[derive(Clone, Debug, Serialize)]
pub struct Left {
    /// The path.
    pub path: PathBuf,
    /// The reason.
    pub reason: String,
}

impl Uninstalled {
    /// The failure that names what could not be deleted; `None` if nothing is left.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let left: Vec<String> = self
            .left
            .iter()
            .map(|left| format!("{}: {}", shown(&left.path), left.reason))
            .collect();
        (!left.is_empty()).then(|| {
            let message = format!("everything is undone but this: {}", left.join("; "));
            Failure::new(Kind::Unexpected, message).with_hint("correct that, or delete it yourself")
        })
    }
}

/// The files that `uninstall` deletes, changes and keeps.
#[derive(Clone, Debug, Serialize)]
pub struct Removal {
    /// The settings files from which the router's keys are removed, with the expected outcomes.
    pub settings: Vec<Removed>,
    /// Files and directories to delete.
    pub delete: Vec<PathBuf>,
    /// Files and directories of gem-setup that stay; empty with `purge`.
    pub keep: Vec<PathBuf>,
    /// Files next to the runtime that no record names, and whatever is in the place of gem-setup's files or among them.
    /// They always stay.
    pub foreign: Vec<PathBuf>,
}

/// The plan of [`uninstall`].
///
/// # Errors
/// When the state, a settings file or gem-setup's directory cannot be read.
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
    let mut keep = Vec::new();
    if !purge {
        let models = models.iter().map(|model| layout.models().join(model));
        let models: Vec<PathBuf> = models.filter(|path| path.symlink_metadata().is_ok()).collect();
        // The models that stay are recorded there, and settings are copied to it before each change.
        let has_own = purged_files(layout).iter().any(|path| is_file(path)) || is_directory(&layout.backups());
        let has_own = has_own || !models.is_empty() || !settings.is_empty();
        keep.extend(models);
        keep.extend(has_own.then(|| layout.own()));
        keep.extend(Some(layout.log_file()).filter(|path| is_file(path)));
    }
    let runtime = runtime_files(layout, state.as_ref())?;
    let mut foreign = runtime.foreign;
    foreign.extend(misplaced(layout, state.as_ref())?);
    let mut delete = paths(layout, state.as_ref(), runtime.own, purge);
    if purge {
        delete.extend(locks(layout).into_iter().filter(|path| is_file(path)));
    }
    Ok(Removal {
        settings,
        delete,
        keep,
        foreign,
    })
}

/// What is in the place of gem-setup's files and directories but is none of these, and what is among them.
fn misplaced(layout: &Layout, state: Option<&State>) -> Result<Vec<PathBuf>, Failure> {
    let mut files = placed_files(layout, state);
    files.extend(purged_files(layout));
    files.extend(logs(layout));
    files.extend(locks(layout));
    let mut directories = own_directories(layout).to_vec();
    directories.push(layout.backups());
    let among = files_in(&layout.own())?;
    let strangers = among.into_iter().filter(|path| {
        let is_known = files.contains(path) || directories.contains(path);
        !is_known && !file::is_temporary(path)
    });
    let strangers: Vec<PathBuf> = strangers.collect();
    let wrong_files = files
        .iter()
        .filter(|path| path.symlink_metadata().is_ok() && !is_file(path));
    let envs = environments(layout)
        .into_iter()
        .filter(|env| env.symlink_metadata().is_ok() && !Venv::is_begun(env));
    let wrong_directories = directories
        .iter()
        .filter(|path| path.symlink_metadata().is_ok() && !is_directory(path));
    let mut found: Vec<PathBuf> = wrong_files
        .chain(wrong_directories)
        .cloned()
        .chain(envs)
        .chain(strangers)
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// The content of the runtime's directory, which Gemini CLI and others write to as well.
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
        let here = |path: &Path| {
            let is_here = path.parent().is_some_and(is_in_bin);
            path.file_name().filter(|_| is_here).map(|name| bin.join(name))
        };
        let hashed = state.hashed.iter();
        let hashed = hashed.filter_map(|file| here(&file.path).filter(|path| file.is_ours_at(path)));
        let companions = companions(state).into_iter();
        hashed.chain(companions.filter_map(|file| here(&file.path))).collect()
    });
    let is_own = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (placed.contains(path) && is_file(path)) || name.starts_with(STAGING)
    };
    let (own, foreign) = files_in(&bin)?.into_iter().partition(is_own);
    Ok(RuntimeFiles { own, foreign })
}

/// The directories below gem-setup's own one. Others do not write there.
fn own_directories(layout: &Layout) -> [PathBuf; 3] {
    [layout.versions(), layout.program_directory(), layout.downloads()]
}

/// The places of the Python environment of `litert-lm`, which are among directories of others.
fn environments(layout: &Layout) -> [PathBuf; 2] {
    [layout.litert_lm_env(), layout.litert_lm_old_env()]
}

/// The files that `uninstall` always deletes. Copies that `state` does not record are not gem-setup's.
fn placed_files(layout: &Layout, state: Option<&State>) -> Vec<PathBuf> {
    // A previous release may have the copy of an earlier catalog.
    let has_catalog = |state: &State| state.chosen.catalog.is_some() || state.previous.is_some();
    let catalog = state.filter(|state| has_catalog(state)).map(|_| layout.catalog_file());
    let ca_cert = state.and_then(|state| state.chosen.ca_cert.as_ref());
    let ca_cert = ca_cert.map(|_| layout.ca_cert_file());
    let records = [layout.state_file(), layout.mirrors_file()];
    let copies = catalog.into_iter().chain(ca_cert);
    records
        .into_iter()
        .chain(copies)
        .chain(launcher::remains(layout))
        .collect()
}

/// The other files of gem-setup's own directory, which `--purge` deletes.
fn purged_files(layout: &Layout) -> Vec<PathBuf> {
    let files = [
        layout.config_file(),
        layout.terms_file(),
        layout.server_file(),
        layout.upstream_file(),
        layout.kept_file(),
        layout.service_log_file(),
        layout.signed_catalog_file(),
        layout.lookup_log_file(),
        layout.hosted_models_file(),
    ];
    files.into_iter().chain(rotations(&layout.decisions_file())).collect()
}

/// Whether a regular file is at `path`, or a link, whose target stays.
fn is_file(path: &Path) -> bool {
    let found = path.symlink_metadata();
    found.is_ok_and(|metadata| metadata.is_file() || metadata.is_symlink())
}

/// Whether a directory is at `path`, or a link, whose target stays.
fn is_directory(path: &Path) -> bool {
    let found = path.symlink_metadata();
    found.is_ok_and(|metadata| metadata.is_dir() || metadata.is_symlink())
}

/// The existing paths to delete, except the held locks. Whatever else lies in the place of a file or directory of ours stays.
fn paths(layout: &Layout, state: Option<&State>, runtime: Vec<PathBuf>, purge: bool) -> Vec<PathBuf> {
    let mut files = placed_files(layout, state);
    let mut directories = own_directories(layout).to_vec();
    directories.extend(environments(layout).into_iter().filter(|env| Venv::is_begun(env)));
    if purge {
        files.extend(logs(layout));
        files.extend(purged_files(layout));
        directories.push(layout.backups());
        let models = pulled_models(layout, state).into_iter();
        directories.extend(models.map(|model| layout.models().join(model)));
    }
    files.retain(|path| is_file(path));
    directories.retain(|path| is_directory(path));
    runtime.into_iter().chain(directories).chain(files).collect()
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
        emptied: Vec::new(),
        left: Vec::new(),
    };
    outcome.settings = take_settings_back(layout, places, state.as_ref())?;
    // Afterwards the models have their recorded names.
    let _ = state.as_mut().map(|state| upgrade::settle(layout, state));
    journal::sweep(layout, state.as_ref().unwrap_or(&State::default()));
    let models = pulled_models(layout, state.as_ref());
    let kept = if purge { Ok(()) } else { keep_models(layout, &models) };
    if let Err(error) = kept {
        outcome.note(layout.kept_file(), Err(error));
    }
    let runtime = runtime_files(layout, state.as_ref())?;
    for path in paths(layout, state.as_ref(), runtime.own, purge) {
        let end = delete_aside(&path).await;
        outcome.note(path, end);
    }
    if purge {
        // A leftover file only uses disk space.
        let _ = file::sweep(&layout.own());
    }
    outcome.release_locks(layout, purge, (lock, vacancy));
    // Files that another gem-setup creates from now on stay.
    if purge && !models.is_empty() {
        let directory = layout.models();
        delete_empty(&[&directory, place::parent(&directory)]);
    }
    let bin = layout.gemini().join("bin");
    delete_empty(&[layout.lit_bin(), bin, layout.tmp(), layout.own(), layout.gemini()]);
    Ok(outcome)
}

/// Waits a limited time for downloads that another gem-setup has in hand: `bundle create`, and `install` while it unpacks a bundle, hold
/// no lock on the home.
///
/// # Errors
/// When they do not end in time.
pub async fn wait_for_downloads(layout: &Layout) -> Result<(), Failure> {
    let until = Instant::now() + LOCK_PATIENCE;
    while let Some(path) = in_hand(&layout.downloads()) {
        if Instant::now() > until {
            let message = format!("another gem-setup is downloading: it has {} in hand", shown(&path));
            let hint = "wait until it has ended, then run the command again; nothing was changed";
            return Err(Failure::new(Kind::Conflict, message).with_hint(hint));
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// Deletes those of `directories` that are empty, in this order.
fn delete_empty(directories: &[impl AsRef<Path>]) {
    for directory in directories {
        // This fails if the directory contains anything else; it then stays.
        let _ = std::fs::remove_dir(directory);
    }
}

impl Uninstalled {
    /// Deletes the locks, which are `held` until then.
    fn release_locks<T>(&mut self, layout: &Layout, purge: bool, held: T) {
        if Os::HOST == Os::Windows {
            // Windows cannot delete an open file.
            drop(held);
            self.delete_locks(layout, purge);
        } else {
            // Another gem-setup that took a released lock would lose its file.
            self.delete_locks(layout, purge);
            drop(held);
        }
    }

    fn delete_locks(&mut self, layout: &Layout, purge: bool) {
        for path in locks(layout).into_iter().filter(|path| purge && is_file(path)) {
            if let Err(error) = delete(&path) {
                self.note(path, Err(error));
            }
        }
    }

    fn note(&mut self, path: PathBuf, end: io::Result<End>) {
        match end {
            Ok(End::Deleted) => self.deleted.push(path),
            Ok(End::Emptied) => self.emptied.push(path),
            Ok(End::Absent) => {}
            Err(error) => self.left.push(Left {
                path,
                reason: error.to_string(),
            }),
        }
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
fn keep_models(layout: &Layout, models: &[LocalModelName]) -> io::Result<()> {
    let present = models.iter().filter(|model| layout.models().join(model).exists());
    let names: Vec<&str> = present.map(LocalModelName::as_str).collect();
    if names.is_empty() {
        return Ok(());
    }
    place::write_own(&layout.kept_file(), names.join("\n").as_bytes())
}

/// The content of `directory`; empty if it is missing.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: io::Error| Failure::cannot_at("look into", directory, &error);
    let entries = match std::fs::read_dir(directory) {
        Err(error) if file::is_absence(&error) => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let paths: Result<Vec<PathBuf>, io::Error> = entries.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(failed)
}

fn locks(layout: &Layout) -> [PathBuf; 3] {
    [layout.lock_file(), layout.server_lock_file(), layout.engine_lock_file()]
}

/// The log and the rotated logs.
fn logs(layout: &Layout) -> Vec<PathBuf> {
    rotations(&layout.log_file())
}

/// `path`, and its older content.
fn rotations(path: &Path) -> Vec<PathBuf> {
    let older = (1..10).map(|number| PathBuf::from(format!("{}.{number}", path.display())));
    std::iter::once(path.to_owned()).chain(older).collect()
}

/// What became of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Deleted,
    /// It is mounted by itself, and empty now.
    Emptied,
    Absent,
}

/// [`delete`] on a thread of its own, if the system allows one: a large directory takes seconds.
async fn delete_aside(path: &Path) -> io::Result<End> {
    let owned = path.to_owned();
    let done = threads::aside(move || delete(&owned)).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn delete(path: &Path) -> io::Result<End> {
    let (done, is_directory) = match std::fs::symlink_metadata(path) {
        Err(error) => (Err(error), false),
        Ok(metadata) if metadata.is_dir() => (std::fs::remove_dir_all(path), true),
        Ok(_) => (std::fs::remove_file(path), false),
    };
    match done {
        Ok(()) => Ok(End::Deleted),
        Err(error) if file::is_absence(&error) => Ok(End::Absent),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => empty(path, is_directory, error),
        Err(error) => Err(error),
    }
}

/// Empties the file or directory `path`, which cannot be deleted because of `error`.
fn empty(path: &Path, is_directory: bool, error: io::Error) -> io::Result<End> {
    if is_directory {
        let is_empty = std::fs::read_dir(path)?.next().is_none();
        return if is_empty { Ok(End::Emptied) } else { Err(error) };
    }
    file::rewrite(path, b"").map(|()| End::Emptied)
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;
    use crate::environment::Environment;

    #[test]
    fn a_claimed_file_is_ours_only_with_its_hash() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), directory.path());
        let lit = layout.lit_bin().join("lit");
        let mut state = State::default();
        state.claim_file(&lit, crate::sha256::Sha256::of("ours"));
        fs::create_dir_all(layout.lit_bin()).unwrap();
        for (content, is_ours) in [("theirs", false), ("ours", true)] {
            fs::write(&lit, content).unwrap();
            let files = runtime_files(&layout, Some(&state)).unwrap();
            assert_eq!(files.own.contains(&lit), is_ours, "{content}");
            assert_ne!(files.foreign.contains(&lit), is_ours, "{content}");
        }
    }

    #[tokio::test]
    async fn no_lock_is_deleted_that_another_may_hold_by_then() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path();
        let layout = Layout::new(home, home);
        let places = Places::new(Os::Linux, &Environment::new([], home, home), home);
        // Deleting these takes a while.
        fs::create_dir_all(layout.backups()).unwrap();
        (0..10_000).for_each(|number| fs::write(layout.backups().join(number.to_string()), "").unwrap());
        drop(Lock::try_acquire(&layout.server_lock_file()).unwrap());
        let (begun, path) = (layout.versions(), layout.server_lock_file());
        fs::create_dir(&begun).unwrap();
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

    #[test]
    fn a_purge_leaves_files_of_the_user() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path();
        let layout = Layout::new(home, home);
        let places = Places::new(Os::Linux, &Environment::new([], home, home), home);
        fs::create_dir_all(layout.own()).unwrap();
        let theirs = [layout.ca_cert_file(), layout.catalog_file()];
        for path in &theirs {
            fs::write(path, "").unwrap();
        }
        let plan = || removal(&layout, &places, true).unwrap();
        assert_eq!(plan().foreign, theirs);
        assert_eq!(plan().delete, [] as [PathBuf; 0]);
        let mut state = State::default();
        state.chosen.catalog = Some(layout.catalog_file());
        state.write(&layout.state_file()).unwrap();
        assert_eq!(plan().foreign, [layout.ca_cert_file()]);
        assert_eq!(plan().delete, [layout.state_file(), layout.catalog_file()]);
    }

    #[tokio::test(start_paused = true)]
    async fn downloads_in_hand_hold_up_an_uninstall() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::new(home.path(), home.path());
        wait_for_downloads(&layout).await.unwrap();
        let lock = layout.downloads().join("bundle.lock");
        let held = Lock::try_acquire(&lock).unwrap().unwrap();
        let failure = wait_for_downloads(&layout).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Conflict);
        drop(held);
        wait_for_downloads(&layout).await.unwrap();
    }
}
