//! The model's terms: on record before anything is pulled.

use crate::error::Failure;
use crate::runtime::RuntimeName;
use crate::runtime::gate::needs_no_terms;
use crate::runtime::terms::{self, Terms, in_words};
use crate::setup::check::{Check, Fix};
use crate::setup::converge::record_terms;
use crate::setup::step::Inspection;
use crate::setup::{Setup, converge};

const ID: &str = "model.terms";
const TITLE: &str = "model's terms accepted";

pub(super) fn inspect(setup: &Setup<'_>) -> Inspection {
    let model = setup.model();
    if let Some(reason) = not_needed(setup) {
        return Inspection::not_needed(reason, vec![Check::skip(ID, TITLE, reason)]);
    }
    let terms = match Terms::read(&setup.layout.terms_file()) {
        Ok(terms) => terms,
        Err(error @ terms::Error::Parse { .. }) => {
            let detail = Failure::from(error).message;
            let check = Check::fail(ID, TITLE, detail, Fix::repair_accepting());
            return Inspection::needed("set that record aside and accept the model's terms", vec![check]);
        }
        Err(error) => {
            let failure = Failure::from(error);
            let fix = Fix::by_hand(failure.hint.clone().unwrap_or_default());
            let check = Check::fail(ID, TITLE, &failure.message, fix);
            return Inspection::needed("accept the model's terms", vec![check]).blocked_by(failure);
        }
    };
    if let Some(record) = terms.of(&model) {
        let detail = format!("accepted on {:.0}", record.time);
        return Inspection::in_place(detail.clone(), vec![Check::ok(ID, TITLE, detail)]);
    }
    let detail = format!("the terms of `{}` are not on record as accepted", model.name);
    Inspection::needed(
        format!("record that you accept {}", in_words(&model)),
        vec![Check::fail(ID, TITLE, detail, Fix::repair_accepting())],
    )
}

/// Why there are no terms to accept.
pub(super) fn not_needed(setup: &Setup<'_>) -> Option<&'static str> {
    if setup.choices.runtime == RuntimeName::Builtin {
        Some("the builtin runtime needs no model")
    } else if !setup.choices.with_model && setup.choices.accepted.is_none() {
        Some("no model wanted (--no-model)")
    } else if needs_no_terms(
        setup.choices.runtime,
        &setup.model(),
        setup.choices.model_file.is_some(),
    ) {
        Some("a file of your own is imported, nothing is pulled")
    } else {
        None
    }
}

pub(super) fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    if setup.choices.accepted.is_none() {
        converge::ask_terms(setup)?;
    }
    let Some(how) = setup.choices.accepted else {
        return Ok(String::new());
    };
    record_terms(setup, how)?;
    Ok(format!("accepted {}", in_words(&setup.model())))
}
