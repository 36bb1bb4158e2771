//! The files and directories that each step uses, and whether they can be used.
//!
//! `install`, `--dry-run` and `doctor` all inspect the steps. `uninstall`, the commands that change settings and `restart`
//! have a check each. So all of them report an obstacle before anything is changed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use gem_platform::process::{NULL, check_null, null_remedy};
use gem_platform::{Os, file, probe};

use super::check::{Check, Fix, Status, Subject};
use super::launcher::Launcher;
use super::step::{Condition, Inspection};
use super::step_id::StepId;
use super::{Setup, advice, shown};
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::lock;
use crate::place::{self, Unfit};
use crate::progress::Size;
use crate::runtime::RuntimeName;
use crate::settings::{self, Outcome, Plan, Removed};
use crate::shell;

const HOME: Subject = Subject::new("platform.home", "files and directories of the home");

/// Advice for an installation that has not begun.
const ELSEWHERE: &str = ", or choose a home elsewhere with `--home`";

/// Records and settings are smaller; in bytes.
const USUAL_SIZE: u64 = 64 << 10;

/// An operation that must be possible at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// The path is a directory, or can be created as one.
    Home,
    /// Files are created in the directory, which is itself created if missing.
    Directory,
    /// The file is read and written.
    File,
    /// The user's file is written; its other names stay.
    Settings,
    /// The file is deleted.
    Delete,
    /// The file is appended to; a device such as `/dev/null` is allowed.
    Append,
    /// The file is locked.
    Lock,
    /// A program at the path is run.
    Run,
    /// The null device is read and written.
    Null,
    /// Files of the usual size are written.
    Size,
}

/// Why a path cannot be used, and a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Obstacle {
    detail: String,
    hint: String,
}

/// Marks the inspection as blocked if the step would change something but cannot use its files.
pub(super) fn judge(setup: &Setup<'_>, id: StepId, mut inspection: Inspection) -> Inspection {
    if !setup.site.is_for_this_machine() {
        return inspection;
    }
    if id == StepId::Space {
        inspection.checks.push(judge_home(setup));
        if let (Condition::InPlace(detail), Some(warning)) = (&mut inspection.condition, warning(setup)) {
            *detail = format!("{detail}; warning: {warning}");
        }
    }
    let is_applied = match inspection.condition {
        Condition::Needed(_) => true,
        Condition::InPlace(_) => setup.wanted.force && id.can_repeat(),
        Condition::NotNeeded(_) => false,
    };
    if !is_applied {
        return inspection;
    }
    let Some((subject, kind)) = subject(id) else {
        return inspection;
    };
    let layout = &setup.site.layout;
    let obstacle = match join(layout, home_needs(layout)) {
        // The home has its own check.
        Some(obstacle) => {
            advice::defer(&mut inspection.checks, HOME.id);
            obstacle
        }
        None => match join(layout, step_needs(setup, id)) {
            Some(obstacle) => {
                leave_to(&mut inspection.checks, subject.id, &obstacle);
                advice::defer(&mut inspection.checks, subject.id);
                let fix = Fix::by_hand(&obstacle.hint);
                let check = subject.fail(&obstacle.detail, fix);
                inspection.checks.insert(0, check);
                obstacle
            }
            None => return inspection,
        },
    };
    let failure = Failure::new(kind, format!("cannot begin: {}", obstacle.detail)).with_hint(obstacle.hint);
    inspection.blocked_by(failure)
}

/// Skips the checks that fail only because of the `obstacle`, which the check `id` reports.
fn leave_to(checks: &mut [Check], id: &str, obstacle: &Obstacle) {
    let is_same = |check: &&mut Check| {
        let mut parts = check.detail.rsplit(": ");
        let (reason, place) = (parts.next().unwrap_or_default(), parts.next());
        let is_denied = reason.starts_with("Permission denied") && place.is_some_and(|it| obstacle.detail.contains(it));
        check.has_failed() && (is_denied || obstacle.detail.contains(reason))
    };
    for check in checks.iter_mut().filter(is_same) {
        *check = Subject::new(check.id, check.title).skip(format!("unknown until `{id}` is fixed"));
    }
}

/// Marks the home's check as failed if its obstacle prevents any step in `found`.
pub(super) fn weigh_home(setup: &Setup<'_>, found: &mut [(StepId, Inspection)]) {
    let layout = &setup.site.layout;
    let Some(obstacle) = join(layout, home_needs(layout)) else {
        return;
    };
    let blocks = |failure: &Failure| failure.message.ends_with(&obstacle.detail);
    let is_blocking = found.iter().any(|(_, step)| step.blocked.as_ref().is_some_and(blocks));
    let checks = found.iter_mut().flat_map(|(_, step)| &mut step.checks);
    if let Some(home) = checks.into_iter().find(|check| check.id == HOME.id && is_blocking) {
        home.status = Status::Fail;
    }
}

/// The check that reports the obstacles of `step`, and their kind of failure.
const fn subject(step: StepId) -> Option<(Subject, Kind)> {
    let (id, title, kind) = match step {
        StepId::Platform | StepId::Space | StepId::Smoke => return None,
        StepId::Runtime | StepId::Companions => ("runtime.place", "place for the runtime", Kind::Download),
        StepId::Terms => ("model.record", "record of accepted terms", Kind::Unexpected),
        StepId::Model => ("model.place", "place for the model", Kind::Runtime),
        StepId::Settings => ("settings.place", "settings can be written", Kind::Settings),
        StepId::Server => ("server.files", "the server's files", Kind::Runtime),
    };
    Some((Subject::new(id, title), kind))
}

/// The check of `doctor` for the home.
fn judge_home(setup: &Setup<'_>) -> Check {
    let layout = &setup.site.layout;
    if let Some(obstacle) = join(layout, home_needs(layout)) {
        return HOME.warn(obstacle.detail, Fix::by_hand(obstacle.hint));
    }
    if let Some(warning) = warning(setup) {
        let fix = format!(
            "run gem-setup as the owner of {}, or choose your own home with `--home`",
            shown(setup.site.layout.home())
        );
        return HOME.warn(warning, Fix::by_hand(fix));
    }
    HOME.ok("can be written and locked")
}

/// Warns if root works in another user's home.
fn warning(setup: &Setup<'_>) -> Option<String> {
    let home = setup.site.layout.home();
    if setup.site.layout.is_of_system() {
        // This home belongs to the service's own user, which also gets the files that root creates there.
        return None;
    }
    let owner = owner_of(home).filter(|owner| *owner != 0 && gem_platform::service::user_id() == 0)?;
    let home = shown(home);
    Some(format!(
        "{home} belongs to {}, but you are root: new files there will belong to root",
        user(owner)
    ))
}

fn user(id: u32) -> String {
    match id {
        0 => "root".to_owned(),
        id => format!("user {id}"),
    }
}

/// The needs of every change to the home.
fn home_needs(layout: &Layout) -> Vec<(PathBuf, Use)> {
    let home = layout.home().to_owned();
    if !home.is_dir() && (home.exists() || place::check_directory(&home).is_err()) {
        return vec![(home, Use::Home)];
    }
    let mut needs = lock_needs(layout);
    needs.extend([(layout.own(), Use::Size), (layout.mirrors_file(), Use::File)]);
    let state = layout.state_file();
    // A record that cannot be read has its own check.
    if place::read_if_present(&state).is_ok() {
        needs.push((state, Use::File));
    }
    needs
}

/// The needs of every command that locks the home.
fn lock_needs(layout: &Layout) -> Vec<(PathBuf, Use)> {
    vec![(layout.own(), Use::Directory), (layout.lock_file(), Use::Lock)]
}

fn step_needs(setup: &Setup<'_>, id: StepId) -> Vec<(PathBuf, Use)> {
    let layout = &setup.site.layout;
    // Only steps that start a program need the null device.
    let null = (PathBuf::from(NULL), Use::Null);
    match id {
        StepId::Platform | StepId::Space | StepId::Smoke => Vec::new(),
        StepId::Runtime if setup.wanted.chosen.runtime == RuntimeName::LitertLm => {
            let env = setup.site.litert_lm_env().root().to_owned();
            vec![null, (place::parent(&env).to_owned(), Use::Directory), (env, Use::Run)]
        }
        StepId::Runtime | StepId::Companions => vec![
            (setup.site.runtime_directory(), Use::Directory),
            (setup.site.runtime_directory(), Use::Run),
            (layout.downloads(), Use::Directory),
        ],
        StepId::Terms => vec![(layout.terms_file(), Use::File)],
        StepId::Model => vec![null, (layout.models(), Use::Directory)],
        StepId::Settings => settings_needs(setup),
        StepId::Server => server_needs(layout),
    }
}

/// The needs of a server that is started.
fn server_needs(layout: &Layout) -> Vec<(PathBuf, Use)> {
    vec![
        (PathBuf::from(NULL), Use::Null),
        (layout.own(), Use::Size),
        (layout.pid_file(), Use::File),
        (layout.server_file(), Use::File),
        (layout.upstream_file(), Use::File),
        (layout.server_lock_file(), Use::Lock),
        (layout.engine_lock_file(), Use::Lock),
        (layout.log_file(), Use::Append),
        (layout.decisions_file(), Use::Append),
    ]
}

/// Checks the files of a server that is to be started, before the running one is stopped.
///
/// # Errors
/// When one of them cannot be used.
pub fn check_server(layout: &Layout) -> Result<(), Failure> {
    let needs = lock_needs(layout).into_iter().chain(server_needs(layout));
    check(layout, needs, Kind::Runtime)
}

/// Checks the files that `plan` and the repair of `launcher` write, before anything is changed.
///
/// # Errors
/// When one of them cannot be used.
pub fn check_plan(layout: &Layout, plan: &Plan, launcher: &Launcher) -> Result<(), Failure> {
    let needs = plan_needs(layout, plan, launcher);
    if !needs.is_empty() {
        check(layout, home_needs(layout), Kind::Settings)?;
    }
    check(layout, needs, Kind::Settings)
}

/// Checks the settings `files` from which the router is removed, and the record if it is to be written.
///
/// # Errors
/// When one of them cannot be used.
pub(super) fn check_reversal(layout: &Layout, files: &[Removed], has_record: bool) -> Result<(), Failure> {
    let mut needs = reversal_needs(layout, files);
    if has_record {
        needs.extend(home_needs(layout));
    }
    check(layout, needs, Kind::Settings)
}

/// Checks what `uninstall` must be able to lock and to write, before anything is undone. What it cannot delete, it names
/// at the end.
///
/// # Errors
/// When gem-setup's directory cannot be locked, or the settings `files` cannot be changed.
pub fn check_removal(layout: &Layout, files: &[Removed]) -> Result<(), Failure> {
    let mut needs = Vec::new();
    if layout.own().symlink_metadata().is_ok() {
        needs.extend(lock_needs(layout));
        needs.push((layout.server_lock_file(), Use::Lock));
    }
    let settings = reversal_needs(layout, files);
    let kind = match join(layout, settings.clone()) {
        Some(_) => Kind::Settings,
        None => Kind::Unexpected,
    };
    check(layout, needs.into_iter().chain(settings), kind)
}

/// The failure of this `kind` for the obstacles of `needs`.
fn check(layout: &Layout, needs: impl IntoIterator<Item = (PathBuf, Use)>, kind: Kind) -> Result<(), Failure> {
    join(layout, needs).map_or(Ok(()), |obstacle| {
        let message = format!("cannot begin: {}", obstacle.detail);
        // Another home would be another installation.
        Err(Failure::new(kind, message).with_hint(obstacle.hint.replace(ELSEWHERE, "")))
    })
}

/// The `files` that change, and the directory of their copies.
fn reversal_needs(layout: &Layout, files: &[Removed]) -> Vec<(PathBuf, Use)> {
    let changing = files.iter().filter(|file| file.outcome != Outcome::Unchanged);
    let mut needs: Vec<_> = changing.map(change).collect();
    if !needs.is_empty() {
        needs.push((layout.backups(), Use::Directory));
    }
    needs
}

/// How the file of `removed` is to change.
fn change(removed: &Removed) -> (PathBuf, Use) {
    let needed = match removed.outcome {
        Outcome::Deleted => Use::Delete,
        Outcome::Restored | Outcome::Edited | Outcome::Unchanged => Use::Settings,
    };
    (removed.path.clone(), needed)
}

/// The settings files that would change, and the launcher.
fn settings_needs(setup: &Setup<'_>) -> Vec<(PathBuf, Use)> {
    let (site, scope) = (&setup.site, setup.wanted.chosen.scope);
    let plan = settings::plan(&site.places(), site.environment, scope, &setup.router_values());
    let launcher = Launcher::new(&site.layout, site.os(), &site.program);
    plan_needs(&site.layout, &plan.unwrap_or(Plan { files: Vec::new() }), &launcher)
}

/// The files that `plan` and the repair of `launcher` write.
fn plan_needs(layout: &Layout, plan: &Plan, launcher: &Launcher) -> Vec<(PathBuf, Use)> {
    let files = plan.files.iter();
    let mut needs: Vec<_> = files.map(|file| (file.path.clone(), Use::Settings)).collect();
    if !needs.is_empty() {
        needs.push((layout.backups(), Use::Directory));
    }
    if !launcher.is_right() {
        needs.push((place::parent(launcher.path()).to_owned(), Use::Run));
        // A file or a link is simply replaced, and a file that is mounted by itself is written in place.
        if is_in_the_way(launcher.path()) || file::is_mount_point(launcher.path()) {
            needs.push((launcher.path().to_owned(), Use::File));
        }
    }
    needs
}

/// The obstacles of `needs` combined into one, without repetitions.
fn join(layout: &Layout, needs: impl IntoIterator<Item = (PathBuf, Use)>) -> Option<Obstacle> {
    let mut found: Vec<Obstacle> = Vec::new();
    for (path, needed) in needs {
        if let Some(obstacle) = look(layout, &path, needed).filter(|obstacle| !found.contains(obstacle)) {
            found.push(obstacle);
        }
    }
    let join = |part: fn(&Obstacle) -> &str| {
        let mut parts: Vec<_> = found.iter().map(part).collect();
        parts.dedup();
        parts.join("; ")
    };
    let (detail, hint) = (join(|obstacle| &obstacle.detail), join(|obstacle| &obstacle.hint));
    (!found.is_empty()).then_some(Obstacle { detail, hint })
}

/// Why `path` cannot be used in this way, as far as that is visible.
fn look(layout: &Layout, path: &Path, needed: Use) -> Option<Obstacle> {
    let explain = |unfit: &Unfit| explain(layout, path, needed, unfit);
    match needed {
        Use::Home => Some(look_at_home(path)),
        Use::Directory => place::check_directory(path).err().map(|unfit| explain(&unfit)),
        Use::Append if is_device(path) => None,
        Use::Append => check_own(path).err().map(|unfit| explain(&unfit)),
        Use::File => place::check(path).err().map(|unfit| explain(&unfit)),
        Use::Settings => place::check_shared(path).err().map(|unfit| explain(&unfit)),
        Use::Delete => place::check_deletable(path).err().map(|unfit| explain(&unfit)),
        Use::Lock => match check_own(path) {
            Err(unfit) => Some(explain(&unfit)),
            Ok(()) => look_at_lock(path),
        },
        Use::Null => look_at_null(),
        Use::Size => look_at_size(),
        Use::Run => is_no_exec(path).then(|| Obstacle {
            detail: format!(
                "no program can be run at {}: its file system is mounted `noexec`",
                shown(path)
            ),
            hint: format!(
                "mount {} without `noexec`{ELSEWHERE}",
                // Several paths of one file system have one remedy.
                shown(
                    path.ancestors()
                        .take_while(|above| is_no_exec(above))
                        .last()
                        .unwrap_or(path)
                )
            ),
        }),
    }
}

/// Describes the fault of the home `path`, which is missing and cannot be created, or is not a directory.
fn look_at_home(path: &Path) -> Obstacle {
    let other = "name another with `--home DIR`, or set HOME";
    match place::check_directory(path) {
        Err(unfit) if !path.exists() => Obstacle {
            detail: format!(
                "the home {} does not exist, and {}",
                shown(path),
                fault(&unfit.path, &unfit)
            ),
            hint: format!("create the home, or {other}"),
        },
        _ => Obstacle {
            detail: format!("the home {} is not a directory", shown(path)),
            hint: other.to_owned(),
        },
    }
}

/// Every started program gets the null device, and scripts write to it.
fn look_at_null() -> Option<Obstacle> {
    let error = check_null().err()?;
    Some(Obstacle {
        detail: plain(&error),
        hint: null_remedy().to_owned(),
    })
}

/// Every change writes records, and copies of settings.
fn look_at_size() -> Option<Obstacle> {
    let limit = file::size_limit().filter(|limit| *limit < USUAL_SIZE)?;
    Some(Obstacle {
        detail: format!("no file may have more than {} here (`ulimit -f`)", Size(limit)),
        hint: file::RAISE_SIZE_LIMIT.to_owned(),
    })
}

fn is_in_the_way(path: &Path) -> bool {
    let found = path.symlink_metadata();
    found.is_ok_and(|metadata| !metadata.is_file() && !metadata.is_symlink())
}

fn is_device(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| file::is_character_device(metadata.file_type()))
}

fn is_no_exec(path: &Path) -> bool {
    probe::volume(path).is_ok_and(|volume| volume.no_exec)
}

/// Checks that `path` can be written and belongs only to this program.
fn check_own(path: &Path) -> Result<(), Unfit> {
    match file::check_own(path) {
        // Then the directory is the fault.
        Err(source) if !file::is_absence(&source) && source.kind() != ErrorKind::PermissionDenied => {
            Err(Unfit::new(path, source))
        }
        _ => place::check_open(path),
    }
}

fn look_at_lock(path: &Path) -> Option<Obstacle> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let error = lock::check(existing).err()?;
    let failure = Failure::from(error);
    Some(Obstacle {
        detail: failure.message,
        hint: failure.hint.unwrap_or_default(),
    })
}

/// What prevents the use `needed` of the path `wanted`.
fn explain(layout: &Layout, wanted: &Path, needed: Use, unfit: &Unfit) -> Obstacle {
    let path = match unfit.source.kind() {
        ErrorKind::ReadOnlyFilesystem => mount(layout, &unfit.path),
        _ => visible(&unfit.path),
    };
    let real = place::resolve(path).unwrap_or_else(|_| path.to_owned());
    let hint = match unfit.source.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            format!("mount the file system of {} writable{ELSEWHERE}", shown(path))
        }
        ErrorKind::PermissionDenied => match (file::unmark_command(&real), other_owner(&real)) {
            (Some(command), _) => format!("run `sudo {command} {}`", word(&real)),
            (None, Some(_)) => hand_over(layout, wanted, needed, path, &real),
            (None, None) => permit(&real),
        },
        ErrorKind::NotFound => format!("remove the link {}, or create what it names", shown(path)),
        _ => format!("move {} somewhere else", shown(path)),
    };
    Obstacle {
        detail: fault(path, unfit),
        hint,
    }
}

/// Describes the fault of `path`, because of `unfit`.
fn fault(path: &Path, unfit: &Unfit) -> String {
    let real = place::resolve(path).unwrap_or_else(|_| path.to_owned());
    let link = if real == *path {
        String::new()
    } else {
        format!(" (a link to {})", shown(&real))
    };
    let is_denied = unfit.source.kind() == ErrorKind::PermissionDenied;
    let reason = match other_owner(&real).filter(|_| is_denied) {
        Some(owner) => {
            let is_hidden = real.is_file() && file::open_regular(&real).is_err();
            let use_ = if is_hidden { "read" } else { "written" };
            format!("cannot be {use_}: it belongs to {}, not to you", user(owner))
        }
        None => format!("cannot be used: {}", plain(&unfit.source)),
    };
    format!("{}{link} {reason}", shown(path))
}

/// `path`, or the directory above it, at most the home, with which the read-only file system begins.
fn mount<'a>(layout: &Layout, path: &'a Path) -> &'a Path {
    let is_read_only = |path: &&Path| {
        let found = file::may_write(path);
        found.is_err_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem)
    };
    let is_ours = |above: &&Path| above.starts_with(layout.home()) == path.starts_with(layout.home());
    let found = path.ancestors().skip_while(|path| !path.exists());
    found
        .take_while(is_read_only)
        .take_while(is_ours)
        .last()
        .unwrap_or(path)
}

/// `path`, or the directory above it that hides it from this user.
fn visible(path: &Path) -> &Path {
    let is_hidden = |path: &Path| {
        let found = path.symlink_metadata();
        found.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    path.ancestors().find(|path| !is_hidden(path)).unwrap_or(path)
}

/// The reason without the number at the end of the system's errors.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or_default();
    plain.to_owned()
}

fn owner_of(path: &Path) -> Option<u32> {
    file::owner(&path.metadata().ok()?)
}

fn other_owner(path: &Path) -> Option<u32> {
    owner_of(path).filter(|owner| *owner != gem_platform::service::user_id())
}

fn word(path: &Path) -> String {
    shell::word(Os::Linux, path.as_os_str())
}

/// How to get the use `needed` of the path `wanted`, although `fault` (or `real`, to which it leads) belongs to another
/// user. Nothing is given to this
/// user that may contain files of others: at most a part of the home.
fn hand_over(layout: &Layout, wanted: &Path, needed: Use, fault: &Path, real: &Path) -> String {
    let models = layout.models();
    let is_in_home = real.starts_with(layout.home()) && real != layout.home();
    if is_in_home || fault == wanted || models.parent().is_some_and(|own| real.starts_with(own)) {
        return format!("run `sudo chown -R \"$(id -un)\" {}`", word(real));
    }
    let directory = if needed == Use::Directory {
        wanted
    } else {
        place::parent(wanted)
    };
    let missing = directory.ancestors().take_while(|path| *path != fault).last();
    match missing {
        Some(missing) => format!(
            "run `sudo install -d -o \"$(id -un)\" {}`, or name a home of your own with `--home DIR`",
            word(missing)
        ),
        None => format!("run `sudo chown \"$(id -un)\" {}`", word(real)),
    }
}

/// How to make the user's own `path` writable.
fn permit(path: &Path) -> String {
    let generated = "if another program generates it (such as home-manager), make the change there";
    if path.is_dir() {
        format!("run `chmod u+rwx {}`", word(path))
    } else if Os::HOST == Os::Windows {
        format!("make {} writable; {generated}", shown(path))
    } else {
        format!("run `chmod u+rw {}`; {generated}", word(path))
    }
}
