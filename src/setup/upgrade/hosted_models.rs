//! The hosted models' names and chains from a catalog. A running server notices the new file by itself.

use super::run::{Upgraded, check_recorded};
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::progress::Progress;
use crate::record;
use crate::router::{DeliveredModels, Models};
use crate::setup::Setup;
use crate::setup::converge::lock_home;
use crate::setup::versions::origin;
use crate::version::is_newer;

const PART: &str = "hosted-models";

/// A models file in the catalog that is not in use.
#[derive(Clone, Debug)]
pub struct NewHostedModels {
    /// The version in use.
    pub from: String,
    /// The version of the catalog's file.
    pub to: String,
    delivered: DeliveredModels,
}

/// The models file in the catalog of `setup`, if it is newer than the models in use.
///
/// # Errors
/// When the file is not a models file of this gem-setup's format, or is older than the last delivered one and older ones are not allowed.
pub fn new_hosted_models(setup: &Setup<'_>) -> Result<Option<NewHostedModels>, Failure> {
    let Some((delivered, to)) = delivery(setup)? else {
        return Ok(None);
    };
    let is_older = is_older(setup, &to);
    if is_older && !setup.wanted.allow_older {
        let message = format!(
            "the hosted models in the catalog `{}` are refused: they are of version {to}, older than the ones in use",
            delivered.catalog
        );
        let hint = "an old version may have a known fault: ask the catalog's publisher, or install it with \
                    `gem-setup upgrade --hosted-models --allow-older`";
        return Err(Failure::new(Kind::Verification, message).with_hint(hint));
    }
    let built_in = Models::built_in()?;
    let in_use = Models::delivered_in(&setup.site.layout.hosted_models_file()).unwrap_or_else(|_| built_in.clone());
    let is_new = built_in.is_older_than(&to) && (is_older || in_use.is_older_than(&to));
    Ok(is_new.then(|| NewHostedModels {
        from: in_use.version().to_owned(),
        to,
        delivered,
    }))
}

/// The same for an installation, which never replaces newer models.
///
/// # Errors
/// When the file is not a models file of this gem-setup's format.
pub fn installable_hosted_models(setup: &Setup<'_>) -> Result<Option<NewHostedModels>, Failure> {
    match delivery(setup)? {
        Some((_, to)) if !is_older(setup, &to) => new_hosted_models(setup),
        _ => Ok(None),
    }
}

/// The models file in the catalog of `setup`, and its version.
fn delivery(setup: &Setup<'_>) -> Result<Option<(DeliveredModels, String)>, Failure> {
    let Some(text) = setup.site.catalog.hosted_models() else {
        return Ok(None);
    };
    let chosen = &setup.wanted.chosen;
    let catalog = origin(chosen.catalog.as_deref(), chosen.signed.as_ref());
    let text = text.to_owned();
    let delivered = DeliveredModels { catalog, text };
    let models = delivered.models().map_err(|error| refused(&delivered, &error))?;
    Ok(Some((delivered, models.version().to_owned())))
}

/// Whether a newer version than `version` was delivered before.
fn is_older(setup: &Setup<'_>, version: &str) -> bool {
    last_delivered(&setup.site.layout).is_some_and(|last| is_newer(&last, version))
}

/// The version of the models that were delivered last, if they are usable.
fn last_delivered(layout: &Layout) -> Option<String> {
    let last = DeliveredModels::read(&layout.hosted_models_file()).ok()??;
    Some(last.models().ok()?.version().to_owned())
}

fn refused(delivered: &DeliveredModels, error: &record::Error) -> Failure {
    let reason = match error {
        record::Error::Unusable { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    let message = format!(
        "the hosted models in the catalog `{}` are refused: {reason}",
        delivered.catalog
    );
    let hint = "the models in use stay; run `gem-setup upgrade --self` if the catalog is for a newer gem-setup, else ask its publisher";
    Failure::new(Kind::Verification, message).with_hint(hint)
}

/// Puts the catalog's models file in place of the one in use.
///
/// # Errors
/// As [`new_hosted_models`]; and when nothing is installed or the catalog lacks a models file.
pub async fn upgrade_hosted_models(setup: &Setup<'_>) -> Result<Upgraded, Failure> {
    check_recorded(setup, "the hosted models")?;
    let layout = &setup.site.layout;
    let _lock = lock_home(layout, PART, setup.tools.progress).await?;
    if setup.site.catalog.hosted_models().is_none() {
        let message = "cannot upgrade the hosted models: the catalog has none";
        let hint = "name another catalog with `--catalog-url URL` or `--catalog FILE`; `--models FILE` of `serve` takes a file of your own";
        return Err(Failure::new(Kind::Usage, message).with_hint(hint));
    }
    let Some(NewHostedModels { from, to, delivered }) = new_hosted_models(setup)? else {
        let version = Models::delivered_in(&layout.hosted_models_file())?.version().to_owned();
        let detail = format!("{version} is in use");
        return Ok(upgraded(version.clone(), version, false, &detail));
    };
    delivered.write(&layout.hosted_models_file())?;
    let detail = "verified them; a running server without `--models` takes them over within seconds";
    Ok(upgraded(from, to, true, detail))
}

/// Returns to the models that are built into gem-setup.
///
/// # Errors
/// When those are in use already, or the file cannot be deleted.
pub async fn roll_back_hosted_models(layout: &Layout, progress: &dyn Progress) -> Result<Upgraded, Failure> {
    let file = layout.hosted_models_file();
    let missing = || {
        let message = "cannot roll the hosted models back: those inside gem-setup are in use";
        Failure::new(Kind::Usage, message).with_hint("`gem-setup versions` lists the kept versions")
    };
    if file.symlink_metadata().is_err() {
        return Err(missing());
    }
    let _lock = lock_home(layout, PART, progress).await?;
    let from = last_delivered(layout).unwrap_or_else(|| "of unknown version".to_owned());
    std::fs::remove_file(&file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => missing(),
        _ => Failure::cannot_at("delete", &file, &error),
    })?;
    let to = Models::built_in()?.version().to_owned();
    let detail = "those inside gem-setup are in use again, after seconds in a running server too";
    Ok(upgraded(from, to, true, detail))
}

fn upgraded(from: String, to: String, changed: bool, detail: &str) -> Upgraded {
    Upgraded {
        from: Some(from),
        to: Some(to),
        changed,
        detail: detail.to_owned(),
    }
}
