//! `upgrade` and `rollback` of the runtime.

use std::path::{Path, PathBuf};

use super::replace::{bring, replace, switch};
use super::trial::{Tried, bring_again, try_release, untriable};
use crate::error::{Failure, Kind};
use crate::runtime::Closed;
use crate::setup::auto::is_offered;
use crate::setup::check::Check;
use crate::setup::converge::lock_and_reload;
use crate::setup::release::recorded_catalog;
use crate::setup::step_id::StepId;
use crate::setup::{Condition, Setup, Site, needs};
use crate::version::is_newer;

/// The result of an upgrade or a rollback.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Upgraded {
    /// The version before.
    pub from: Option<String>,
    /// The version now.
    pub to: Option<String>,
    /// Whether anything was switched or repaired.
    pub changed: bool,
    /// The change, in words.
    pub detail: String,
}

/// Puts the release in `setup`'s catalog in place of the current one. If it is the current one, its missing files are installed again.
///
/// # Errors
/// When nothing is installed, another gem-setup is at work, or the release cannot be installed or does not work.
pub async fn upgrade_runtime(setup: &mut Setup<'_>) -> Result<Upgraded, Failure> {
    let _lock = lock_and_reload(setup, StepId::Runtime).await?;
    check_installed(setup)?;
    check_offered(setup)?;
    check_not_older(setup)?;
    let from = setup.state.version.clone();
    let to = setup.version().map(str::to_owned);
    if !setup.replaces_release() {
        // The catalog itself may be newer.
        setup.record()?;
        let brought = bring(setup).await?;
        let changed = !brought.is_empty();
        let detail = match changed {
            true => brought.join(", "),
            false => format!(
                "the runtime {} {} is the catalog's version",
                setup.wanted.chosen.runtime,
                to.as_deref().unwrap_or("of unknown version")
            ),
        };
        return Ok(Upgraded {
            from,
            to,
            changed,
            detail,
        });
    }
    look_for_model(setup).await?;
    if let Some(failure) = needs::inspect(setup, StepId::Space).await.blocked {
        return Err(failure);
    }
    let detail = replace(setup).await?;
    Ok(Upgraded {
        from,
        to,
        changed: true,
        detail,
    })
}

/// Makes the previous release of the runtime current again, once its executable matches the catalog and has answered the smoke test's
/// prompts: it worked when it was replaced, but may be damaged by now.
///
/// # Errors
/// When there is none, its files are missing or damaged, or the running server cannot switch to it.
pub async fn roll_back_runtime(setup: &mut Setup<'_>) -> Result<Upgraded, Failure> {
    let _lock = lock_and_reload(setup, StepId::Runtime).await?;
    let before = setup.state.clone();
    let Some(previous) = before.previous.clone() else {
        let failure = Failure::new(Kind::Usage, "cannot roll the runtime back: no previous version is kept");
        return Err(failure.with_hint("`gem-setup versions` lists the kept versions"));
    };
    if let Some(directory) = previous.directory(&setup.site.layout).filter(|_| previous.is_beside) {
        check_there(&directory)?;
    }
    let from = before.version.clone();
    let to = previous.version.clone();
    setup.state.switch_to(previous);
    setup.wanted.chosen = setup.state.chosen.clone();
    setup.state.chosen.catalog.as_deref().map_or(Ok(()), check_there)?;
    setup.site.catalog = recorded_catalog(&setup.site.layout, &setup.state, setup.site.target)?;
    setup.site.directory = setup.state.release_directory(&setup.site.layout);
    setup.forget_listing();
    let program: Option<PathBuf> = setup.runtime()?.program().map(ToOwned::to_owned);
    let there = program.as_deref().map_or(Ok(()), check_there);
    there.map_err(|failure| failure.with_hint(format!("the runtime in use stays; {}", bring_again(setup))))?;
    check_whole(setup).await?;
    let tried = try_release(setup, Tried::PreviousRuntime).await?;
    switch(setup, &before).await?;
    let detail = format!("{tried}, the version before is current again");
    Ok(Upgraded {
        from,
        to,
        changed: true,
        detail,
    })
}

/// Fails if the model that gem-setup had pulled is missing: the new release could not be tried. If the model was left out on purpose, notes
/// that.
async fn look_for_model(setup: &mut Setup<'_>) -> Result<(), Failure> {
    let Some(closed) = closed_in_use(setup).await else {
        return Ok(());
    };
    let is_left_out = !setup.state.pulled.contains(&setup.state.chosen.model);
    if !is_left_out || !matches!(closed, Closed::Terms { .. }) {
        return Err(untriable(&closed));
    }
    setup.wanted.with_model = false;
    Ok(())
}

/// The item that the release in use lacks to answer prompts; `None` if nothing is missing, or if that is unknown.
async fn closed_in_use(setup: &Setup<'_>) -> Option<Closed> {
    let (site, state) = (&setup.site, &setup.state);
    let in_use = Site {
        layout: site.layout.clone(),
        environment: site.environment,
        program: site.program.clone(),
        config: site.config.clone(),
        globals: site.globals.clone(),
        given: Vec::new(),
        target: site.target,
        catalog: recorded_catalog(&site.layout, state, site.target).ok()?,
        directory: state.release_directory(&site.layout),
        workspace: None,
    };
    let gate = in_use.gate(&state.chosen, state).ok()??;
    gate.open().await.err()
}

/// Fails if a part of the previous release was deleted.
fn check_there(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    let message = format!("cannot roll the runtime back: `{}` is gone", path.display());
    Err(Failure::new(Kind::Runtime, message).with_hint("run `gem-setup doctor` to see what works"))
}

/// Fails if the executable of the previous release differs from the catalog's. Hashes the file: size and modification time are not trusted.
async fn check_whole(setup: &mut Setup<'_>) -> Result<(), Failure> {
    setup.wanted.verify = true;
    let inspection = needs::inspect(setup, StepId::Runtime).await;
    let Condition::Needed(plan) = inspection.condition else {
        return Ok(());
    };
    let fault = inspection.checks.into_iter().find(Check::has_failed);
    let fault = fault.map_or_else(|| format!("to do: {plan}"), |check| check.detail);
    let message = format!("cannot roll the runtime back, nothing was switched: {fault}");
    let hint = format!("the runtime in use stays; {}", bring_again(setup));
    Err(Failure::new(Kind::Runtime, message).with_hint(hint))
}

/// Refuses a catalog without a build of the runtime in use: if it were recorded, the installation would lose its version.
fn check_offered(setup: &Setup<'_>) -> Result<(), Failure> {
    let (runtime, target) = (setup.wanted.chosen.runtime, setup.site.target);
    if is_offered(&setup.site.catalog, runtime, target) {
        return Ok(());
    }
    let message = format!("cannot upgrade `{runtime}`: the catalog has no build of it for {target}");
    let hint = "the version in use stays; name another catalog with `--catalog FILE`";
    Err(Failure::new(Kind::Unsupported, message).with_hint(hint))
}

/// Refuses a catalog whose runtime is older than the one in use: an old version may have a known security fault.
///
/// # Errors
/// When it is older, and older ones are not allowed.
pub fn check_not_older(setup: &Setup<'_>) -> Result<(), Failure> {
    let Some((from, to)) = older(setup).filter(|_| !setup.wanted.allow_older) else {
        return Ok(());
    };
    let runtime = setup.wanted.chosen.runtime;
    let message = format!("cannot upgrade `{runtime}` to {to}: it is older than {from}, which is in use");
    let hint = "add `--allow-older` to take it; `gem-setup rollback runtime` returns to the version before";
    Err(Failure::new(Kind::Verification, message).with_hint(hint))
}

/// The version in use and the catalog's, if that is older.
fn older<'a>(setup: &'a Setup<'_>) -> Option<(&'a str, &'a str)> {
    let both = setup.state.version.as_deref().zip(setup.version());
    both.filter(|(from, to)| is_newer(from, to))
}

/// The remark of `install` if the catalog's version is older than the one in use; `install` still installs it.
pub(in crate::setup) fn note_older(setup: &Setup<'_>) -> Option<String> {
    let (from, to) = older(setup)?;
    Some(format!(
        "{to} is older than {from}, which was in use: `gem-setup rollback runtime` returns to it"
    ))
}

fn check_installed(setup: &Setup<'_>) -> Result<(), Failure> {
    if setup.state.version.is_some() {
        return Ok(());
    }
    check_recorded(setup, "the runtime")?;
    let runtime = setup.state.chosen.runtime;
    let message = format!("cannot upgrade the runtime: `{runtime}` is part of gem-setup");
    Err(Failure::new(Kind::Usage, message).with_hint("run `gem-setup upgrade --self`"))
}

/// Fails if there is no installation whose `part` can be upgraded.
pub(super) fn check_recorded(setup: &Setup<'_>, part: &str) -> Result<(), Failure> {
    if setup.site.layout.state_file().exists() {
        return Ok(());
    }
    let message = format!("cannot upgrade {part}: nothing is installed");
    Err(Failure::new(Kind::Usage, message).with_hint("run `gem-setup install` first"))
}
