//! The model: pulled once, by the runtime itself.

use std::path::Path;

use crate::error::{Failure, Kind};
use crate::progress::Size;
use crate::runtime::litert_lm::check_model_file;
use crate::runtime::terms::Terms;
use crate::runtime::{Error, RuntimeName};
use crate::setup::bundled_model::BundledModel;
use crate::setup::check::{Check, Fix};
use crate::setup::step::Inspection;
use crate::setup::{Condition, Setup, shown};

const ID: &str = "model.present";
const TITLE: &str = "model pulled";

pub(super) async fn inspect(setup: &Setup<'_>) -> Inspection {
    if setup.wanted.chosen.runtime == RuntimeName::Builtin {
        let reason = "the builtin runtime needs no model";
        return Inspection::not_needed(reason, vec![Check::skip(ID, TITLE, reason)]);
    }
    if !setup.wanted.with_model {
        let reason = "no model wanted (--no-model)";
        return Inspection::not_needed(reason, vec![Check::skip(ID, TITLE, reason)]);
    }
    let plan = plan(setup);
    let unusable = unusable_file(setup);
    let inspection = look_for(setup, plan).await;
    match unusable {
        Some(failure) if matches!(inspection.condition, Condition::Needed(_)) => inspection.blocked_by(failure),
        _ => inspection,
    }
}

/// Why the model file that was given cannot be imported.
fn unusable_file(setup: &Setup<'_>) -> Option<Error> {
    let file = setup.wanted.chosen.model_file.as_deref()?;
    if setup.wanted.chosen.runtime == RuntimeName::Lit {
        return Some(Error::Unsuitable {
            runtime: RuntimeName::Lit,
            reason: "cannot import a model file".to_owned(),
        });
    }
    check_model_file(file).err()
}

/// Whether the imported file differs from the given one, judging by size.
fn is_another_file(setup: &Setup<'_>) -> bool {
    let size = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.len());
    let imported = setup
        .site
        .layout
        .models()
        .join(&setup.wanted.chosen.model)
        .join("model.litertlm");
    let given = setup.wanted.chosen.model_file.as_deref().and_then(size);
    given
        .zip(size(&imported))
        .is_some_and(|(given, imported)| given != imported)
}

async fn look_for(setup: &Setup<'_>, plan: String) -> Inspection {
    let name = &setup.wanted.chosen.model;
    let Ok(runtime) = setup.runtime() else {
        return Inspection::needed(plan, vec![Check::skip(ID, TITLE, "there is no runtime to ask")]);
    };
    if !setup.site.is_for_this_machine() || !runtime.program().is_some_and(Path::exists) {
        return Inspection::needed(plan, vec![unasked(setup)]);
    }
    match setup.listing().await {
        Ok(text) if name.is_in(&text) && is_another_file(setup) => {
            let detail = format!("`{name}` is installed, but was imported from another file or not completely");
            Inspection::needed(plan, vec![Check::fail(ID, TITLE, detail, Fix::repair())])
        }
        Ok(text) if name.is_in(&text) => {
            let detail = format!("`{name}` is installed");
            Inspection::in_place(detail.clone(), vec![Check::ok(ID, TITLE, detail)])
        }
        Ok(_) => {
            let detail = format!("the runtime does not list `{name}`");
            Inspection::needed(plan, vec![Check::fail(ID, TITLE, detail, Fix::repair())])
        }
        // Why the runtime cannot be asked is the runtime step's to say.
        Err(reason) => Inspection::needed(
            plan,
            vec![Check::skip(ID, TITLE, format!("cannot ask the runtime: {reason}"))],
        ),
    }
}

/// What can be said of the model without a runtime that lists it: only that it is not there.
fn unasked(setup: &Setup<'_>) -> Check {
    let folder = setup.site.layout.models().join(&setup.wanted.chosen.model);
    if setup.site.is_for_this_machine() && !folder.exists() {
        return Check::fail(ID, TITLE, format!("there is no {}", shown(&folder)), Fix::repair());
    }
    Check::skip(ID, TITLE, "the runtime is not there to ask")
}

fn plan(setup: &Setup<'_>) -> String {
    let model = setup.model();
    if let Some(file) = &setup.wanted.chosen.model_file {
        return format!("import `{}` as `{}`", file.display(), model.name);
    }
    if let Some(bundled) = bundled(setup) {
        return format!("copy the model `{}` from {}", model.name, shown(bundled.bundle()));
    }
    let size = if model.size > 0 {
        format!(" ({})", Size(model.size))
    } else {
        String::new()
    };
    format!("pull the model `{}`{size}", model.name)
}

/// The model's files in a bundle that was given as a mirror; a file that was given goes before it.
fn bundled(setup: &Setup<'_>) -> Option<BundledModel> {
    let choices = &setup.wanted.chosen;
    let is_wanted = choices.model_file.is_none();
    BundledModel::find(&choices.mirrors, choices.model.as_str()).filter(|_| is_wanted)
}

/// Copies the model from a bundle; `false` if the runtime does not know it then.
async fn copy(setup: &mut Setup<'_>, bundled: BundledModel) -> Result<bool, Failure> {
    let models = setup.site.layout.models();
    let copied = tokio::task::spawn_blocking(move || bundled.copy_to(&models)).await;
    copied.map_err(|error| Failure::new(Kind::Unexpected, format!("cannot copy the model: {error}")))??;
    setup.forget_listing();
    let listing = setup.listing().await;
    Ok(listing.is_ok_and(|text| setup.wanted.chosen.model.is_in(&text)))
}

pub(super) async fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let model = setup.model();
    if super::terms::not_needed(setup).is_none() && !Terms::read(&setup.site.layout.terms_file())?.cover(&model) {
        // The terms step came before; without its record no caller may pull.
        return Err(Failure::new(
            Kind::TermsNotAccepted,
            format!("the terms of the model `{}` have not been accepted", model.name),
        )
        .with_hint("run the command again with `--accept-terms`"));
    }
    claim(setup)?;
    if let Some(bundled) = bundled(setup) {
        let from = shown(bundled.bundle());
        if copy(setup, bundled).await? {
            return Ok(format!("copied `{}` from {from}", model.name));
        }
        setup.tools.progress.note(
            "model",
            &format!("the runtime does not know the copy from {from}; pulling the model"),
        );
    }
    let runtime = setup.runtime()?;
    let pulled = runtime
        .pull(&model, setup.wanted.chosen.model_file.as_deref(), setup.tools.progress)
        .await;
    setup.forget_listing();
    pulled.map_err(|error: Error| Failure::from(error))?;
    let verb = if setup.wanted.chosen.model_file.is_some() {
        "imported"
    } else {
        "pulled"
    };
    Ok(format!("{verb} `{}`", model.name))
}

/// Puts on record that the model is gem-setup's to delete, before there is anything of it: a pull may be cut short. One that was
/// already present is not.
fn claim(setup: &mut Setup<'_>) -> Result<(), Failure> {
    let name = &setup.wanted.chosen.model;
    if !setup.state.pulled.contains(name) && !setup.site.layout.models().join(name).exists() {
        setup.state.pulled.push(name.clone());
        setup.state.write(&setup.site.layout.state_file())?;
    }
    Ok(())
}
