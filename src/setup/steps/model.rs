//! The model: pulled once, by the runtime itself.

use crate::error::{Failure, Kind};
use crate::runtime::terms::Terms;
use crate::runtime::{Error, RuntimeName};
use crate::setup::Setup;
use crate::setup::check::{Check, REINSTALL};
use crate::setup::step::Inspection;

const ID: &str = "model.present";
const TITLE: &str = "model pulled";

pub(super) async fn inspect(setup: &Setup<'_>) -> Inspection {
    let name = &setup.choices.model;
    if setup.choices.runtime == RuntimeName::Builtin {
        let reason = "the builtin runtime needs no model";
        return Inspection::not_needed(reason, vec![Check::skip(ID, TITLE, reason)]);
    }
    if !setup.choices.with_model {
        let reason = "no model wanted (--no-model)";
        return Inspection::not_needed(reason, vec![Check::skip(ID, TITLE, reason)]);
    }
    let plan = plan(setup);
    let Ok(runtime) = setup.runtime() else {
        return Inspection::needed(plan, vec![Check::skip(ID, TITLE, "there is no runtime to ask")]);
    };
    if !setup.is_for_this_machine() || !runtime.program().is_some_and(std::path::Path::exists) {
        return Inspection::needed(plan, vec![Check::skip(ID, TITLE, "the runtime is not there to ask")]);
    }
    match setup.listing().await {
        Ok(text) if text.contains(name.as_str()) => {
            let detail = format!("`{name}` is there");
            Inspection::in_place(detail.clone(), vec![Check::ok(ID, TITLE, detail)])
        }
        Ok(_) => {
            let detail = format!("the runtime does not list `{name}`");
            Inspection::needed(plan, vec![Check::fail(ID, TITLE, detail, REINSTALL)])
        }
        // Why the runtime cannot be asked is the runtime step's to say.
        Err(reason) => Inspection::needed(
            plan,
            vec![Check::skip(ID, TITLE, format!("cannot ask the runtime: {reason}"))],
        ),
    }
}

fn plan(setup: &Setup<'_>) -> String {
    let model = setup.model();
    if let Some(file) = &setup.choices.model_file {
        return format!("import `{}` as `{}`", file.display(), model.name);
    }
    let size = if model.size > 0 {
        format!(
            " ({:.1} MB)",
            f64::from(u32::try_from(model.size / 1000).unwrap_or(u32::MAX)) / 1000.0
        )
    } else {
        String::new()
    };
    format!("pull the model `{}`{size}", model.name)
}

pub(super) async fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let model = setup.model();
    if !model.terms.is_empty() && !Terms::read(&setup.layout.terms_file())?.cover(&model) {
        // The terms step came before; without its record nothing may be pulled, whoever calls.
        return Err(Failure::new(
            Kind::TermsNotAccepted,
            format!("the terms of the model `{}` have not been accepted", model.name),
        )
        .with_hint("run the command again with `--accept-terms`"));
    }
    let runtime = setup.runtime()?;
    let pulled = runtime
        .pull(&model, setup.choices.model_file.as_deref(), setup.progress)
        .await;
    setup.forget_listing();
    pulled.map_err(|error: Error| Failure::from(error))?;
    let verb = if setup.choices.model_file.is_some() {
        "imported"
    } else {
        "pulled"
    };
    Ok(format!("{verb} `{}`", model.name))
}
