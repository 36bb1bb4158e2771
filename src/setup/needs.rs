//! The files and directories that each step uses.
//!
//! `install`, `--dry-run` and `doctor` all inspect the steps. `uninstall`, the commands that change settings and `restart`
//! have a check each. So all of them report an obstacle before anything is changed.

use std::path::PathBuf;

use gem_platform::file;
use gem_platform::process::NULL;

use super::check::{Check, Fix, Status, Subject};
use super::launcher::Launcher;
use super::obstacle::{ELSEWHERE, Obstacle, Use, join, owner_of, user};
use super::step::{Condition, Inspection};
use super::step_id::StepId;
use super::steps::{self, companion_needs, lit_needs, model_needs};
use super::{Setup, advice, program, shown};
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::place;
use crate::runtime::RuntimeName;
use crate::settings::{self, Outcome, Plan, Removed};

const HOME: Subject = Subject::new("platform.home", "files and directories of the home");

/// Inspects step `id` and the files that it needs; changes nothing.
pub(super) async fn inspect(setup: &Setup<'_>, id: StepId) -> Inspection {
    judge(setup, id, steps::inspect(setup, id).await)
}

/// Marks the inspection as blocked if the step would change something but cannot use its files.
fn judge(setup: &Setup<'_>, id: StepId, mut inspection: Inspection) -> Inspection {
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
    let obstacle = match join(layout, installation_needs(setup)) {
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
    let Some(obstacle) = join(layout, installation_needs(setup)) else {
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
    if let Some(obstacle) = join(layout, installation_needs(setup)) {
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

/// The needs of every step: those of the home, and the copies that an installation keeps.
fn installation_needs(setup: &Setup<'_>) -> Vec<(PathBuf, Use)> {
    let layout = &setup.site.layout;
    let mut needs = home_needs(layout);
    needs.extend(setup.pending_copies().into_iter().map(|copy| (copy, Use::File)));
    let program = program::pending_copy(layout, &setup.site.program);
    needs.extend(program.into_iter().flatten().map(|file| (file, Use::Replace)));
    needs
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
            let parent = place::parent(&env).to_owned();
            vec![
                null,
                (parent, Use::Directory),
                (env.clone(), Use::Move),
                (env, Use::Run),
            ]
        }
        StepId::Runtime | StepId::Companions => {
            let mut needs = vec![
                (setup.site.runtime_directory(), Use::Directory),
                (setup.site.runtime_directory(), Use::Run),
                (layout.downloads(), Use::Directory),
            ];
            needs.extend(match id {
                StepId::Runtime => lit_needs(setup),
                _ => companion_needs(setup),
            });
            needs
        }
        StepId::Terms => vec![(layout.terms_file(), Use::File)],
        StepId::Model => {
            let mut needs = vec![null];
            needs.extend(model_needs(setup));
            needs
        }
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

/// Checks the files of the next server before the running one is stopped.
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
        // A file that is mounted by itself is written in place.
        let use_ = if file::is_mount_point(launcher.path()) {
            Use::File
        } else {
            Use::Replace
        };
        needs.push((launcher.path().to_owned(), use_));
    }
    needs
}
