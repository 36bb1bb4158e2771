//! Upgrade of the model of `litert-lm`: the new file is imported next to the one in use, tried, and swapped with it.

use gem_platform::file::identity;

use super::hand_over::{Engine, hand_over, not_taken_back, return_to};
use super::run::Upgraded;
use super::swap::{BEFORE, NEXT, delete, directory, name, retire, swap, take_back};
use super::trial::{Tried, try_release};
use crate::catalog::Model;
use crate::error::{Failure, Kind};
use crate::fetch::address_of;
use crate::runtime::terms::{How, Terms};
use crate::runtime::{NO_MODEL, RuntimeName};
use crate::setup::converge::lock_and_reload;
use crate::setup::offers::Offer;
use crate::setup::step_id::StepId;
use crate::setup::{Condition, Setup, needs, shown, steps};
use crate::sha256::Sha256;

/// Downloads the model that the catalog names, and puts it in place of the one in use once it has answered the smoke test's prompts.
///
/// # Errors
/// When the runtime takes no model from the catalog, the terms are not accepted, or the model cannot be downloaded or does not work; the
/// one in use then stays.
pub async fn upgrade_model(setup: &mut Setup<'_>) -> Result<Upgraded, Failure> {
    let _lock = lock_and_reload(setup, StepId::Model).await?;
    let model = setup.model();
    check(setup, &model)?;
    let changed = changed_at_hub(setup, true).await?;
    let is_there = setup.site.layout.models().join(&model.name).exists();
    if is_there && setup.state.has_model(&setup.site.layout, &model) && changed.is_none() {
        let detail = format!("`{}` is the one that the catalog names", model.name);
        let to = in_use(setup);
        keep_catalog(setup)?;
        return Ok(outcome(setup, to, false, detail));
    }
    accept_terms(setup).await?;
    try_beside(setup, model.clone(), NEXT, Tried::NewModel).await?;
    let to = version_of(setup, NEXT, Some(&model))?;
    let done = outcome(setup, to, true, "imported it, and tried it on a spare port".to_owned());
    swap_in(setup, NEXT, Some(model)).await?;
    keep_catalog(setup)?;
    Ok(done)
}

/// Records the catalog for later commands, unless its runtime is another release: that one's record names its own.
fn keep_catalog(setup: &mut Setup<'_>) -> Result<(), Failure> {
    if setup.replaces_release() {
        return Ok(());
    }
    setup.record()
}

/// Puts the previous model in place of the one in use once it has answered the smoke test's prompts: it worked when it was replaced, but
/// may be damaged by now.
///
/// # Errors
/// When no previous model is kept, it does not work, or the server cannot switch to it; the one in use then stays.
pub async fn roll_back_model(setup: &mut Setup<'_>) -> Result<Upgraded, Failure> {
    let runtime = setup.wanted.chosen.runtime;
    runtime.require_model("roll the model back", "`gem-setup versions` lists the kept versions")?;
    let _lock = lock_and_reload(setup, StepId::Model).await?;
    let before = directory(&setup.site.layout, &setup.state, BEFORE)?;
    if !before.exists() {
        let failure = Failure::new(
            Kind::Usage,
            format!(
                "cannot roll the model back: no previous model is kept at {}",
                shown(&before)
            ),
        );
        return Err(failure.with_hint("`gem-setup versions` lists the kept versions"));
    }
    let source = setup.state.model_before.clone();
    let mut model = source.clone().unwrap_or_else(|| setup.model());
    model.name = setup.state.chosen.model.to_string();
    try_beside(setup, model, BEFORE, Tried::PreviousModel).await?;
    let to = version_of(setup, BEFORE, source.as_ref())?;
    let done = outcome(setup, to, true, "the model before is in use again".to_owned());
    swap_in(setup, BEFORE, source).await?;
    Ok(done)
}

/// A change at the hub: another file than the one in use, under the same name.
#[derive(Clone, Copy, Debug)]
struct ChangedFile {
    from: Sha256,
    to: Sha256,
}

/// Whether the hub now has another file than the recorded one; `None` where the catalog pins the file. The hub is asked only once, unless
/// the answer `is_needed`.
async fn changed_at_hub(setup: &Setup<'_>, is_needed: bool) -> Result<Option<ChangedFile>, Failure> {
    let model = setup.model();
    let source = model.huggingface.as_ref().filter(|source| source.sha256.is_none());
    let file = setup.site.layout.model_file(&setup.state.chosen.model);
    let is_same_source = setup.state.has_model(&setup.site.layout, &model);
    let Some((source, from)) = source.zip(setup.state.placed(&file)).filter(|_| is_same_source) else {
        return Ok(None);
    };
    let tools = &setup.tools;
    let url = address_of(source)?;
    let stated = match is_needed {
        true => tools.fetcher.stated(&url, "model", tools.progress).await?,
        false => tools.fetcher.stated_at_once(&url).await?,
    };
    let to = stated.sha256;
    Ok((from != to).then_some(ChangedFile { from, to }))
}

/// The offer of the hub's current file of the model, if it differs from the recorded one. Only the runtime `litert-lm` has such offers.
///
/// # Errors
/// When the hub cannot be asked.
pub async fn offer_of_hub(setup: &Setup<'_>) -> Result<Option<Offer>, Failure> {
    if check(setup, &setup.model()).is_err() {
        return Ok(None);
    }
    let changed = changed_at_hub(setup, false).await?;
    Ok(changed.map(|ChangedFile { from, to }| Offer {
        what: "model",
        name: setup.state.chosen.model.to_string(),
        from: Some(from.short()),
        to: to.short(),
    }))
}

/// The version of the model in use.
fn in_use(setup: &Setup<'_>) -> Option<String> {
    let (layout, state) = (&setup.site.layout, &setup.state);
    state.model_version(layout, state.chosen.model.as_str(), state.model_source.as_ref())
}

/// The version of the model in use with `suffix`, which was imported from `source`.
fn version_of(setup: &Setup<'_>, suffix: &str, source: Option<&Model>) -> Result<Option<String>, Failure> {
    let beside = name(&setup.state, suffix)?;
    Ok(setup.state.model_version(&setup.site.layout, beside.as_str(), source))
}

fn outcome(setup: &Setup<'_>, to: Option<String>, changed: bool, detail: String) -> Upgraded {
    let from = in_use(setup);
    Upgraded {
        from,
        to,
        changed,
        detail,
    }
}

/// Whether the model can be upgraded at all: checked before another part is switched.
///
/// # Errors
/// When the runtime does not use the catalog's models.
pub fn check_model_upgrade(setup: &Setup<'_>) -> Result<(), Failure> {
    check(setup, &setup.model())
}

fn check(setup: &Setup<'_>, model: &Model) -> Result<(), Failure> {
    let runtime = setup.wanted.chosen.runtime;
    let (reason, hint) = match runtime {
        RuntimeName::LitertLm if model.huggingface.is_some() => return Ok(()),
        RuntimeName::LitertLm => (
            "the catalog has no address for it",
            "name another catalog with `--catalog FILE`".to_owned(),
        ),
        RuntimeName::Lit => (
            "`lit` pulls from its own registry",
            format!("run `gem-setup pull {} --force`", model.name),
        ),
        RuntimeName::Builtin => (NO_MODEL, "run `gem-setup upgrade --self`".to_owned()),
    };
    Err(Failure::new(Kind::Usage, format!("cannot upgrade the model: {reason}")).with_hint(hint))
}

async fn accept_terms(setup: &mut Setup<'_>) -> Result<(), Failure> {
    let inspection = needs::inspect(setup, StepId::Terms).await;
    if matches!(inspection.condition, Condition::Needed(_)) {
        steps::apply(setup, StepId::Terms).await?;
    }
    Ok(())
}

/// Tries `model` under the name with `suffix`; a new model is imported first.
async fn try_beside(setup: &mut Setup<'_>, model: Model, suffix: &str, what: Tried) -> Result<(), Failure> {
    let real = setup.wanted.chosen.clone();
    setup.wanted.chosen.model = name(&setup.state, suffix)?;
    setup.wanted.chosen.model_file = None;
    let tried = bring(setup, model, what).await;
    setup.wanted.chosen.model = real.model;
    setup.wanted.chosen.model_file = real.model_file;
    setup.forget_listing();
    tried
}

async fn bring(setup: &mut Setup<'_>, mut model: Model, what: Tried) -> Result<(), Failure> {
    let beside = setup.wanted.chosen.model.clone();
    // The terms are the model's own, which are on record.
    let file = setup.site.layout.terms_file();
    model.name = beside.to_string();
    Terms::read(&file)?.accept(&file, &model, jiff::Timestamp::now(), How::Flag)?;
    setup.site.catalog.pin_model(model);
    setup.forget_listing();
    if let Tried::NewModel = what {
        delete(&setup.site.layout.models().join(&beside))?;
        steps::apply(setup, StepId::Model).await?;
    }
    try_release(setup, what).await.map(drop)
}

/// Puts the model with the suffix `from` in place of the one in use, which becomes the previous one. Undoes this if the server cannot
/// switch to it.
async fn swap_in(setup: &mut Setup<'_>, from: &str, source: Option<Model>) -> Result<(), Failure> {
    let engine = Engine::running(setup);
    let earlier = setup.state.clone();
    let layout = setup.site.layout.clone();
    let incoming = identity(&directory(&layout, &setup.state, from)?);
    if let Err(failure) = swap(&layout, &mut setup.state, from, source) {
        // If this fails, the next command repeats it.
        let _ = take_back(&layout, &mut setup.state, &earlier, from, incoming);
        return Err(failure);
    }
    setup.forget_listing();
    let Err(failure) = hand_over(setup, engine.as_ref()).await else {
        return retire(&layout, &setup.state);
    };
    match take_back(&layout, &mut setup.state, &earlier, from, incoming) {
        Ok(()) => Err(return_to(setup, engine.as_ref(), failure).await),
        Err(second) => Err(not_taken_back(failure, &second)),
    }
}
