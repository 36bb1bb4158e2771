//! The model's terms: recorded before anything is pulled.

use crate::error::{Failure, Kind};
use crate::record;
use crate::runtime::RuntimeName;
use crate::runtime::gate::needs_no_terms;
use crate::runtime::terms::{How, Terms, in_words};
use crate::setup::Setup;
use crate::setup::check::{Fix, Subject};
use crate::setup::step::Inspection;

const CHECK: Subject = Subject::new("model.terms", "model's terms accepted");

pub(super) fn inspect(setup: &Setup<'_>) -> Inspection {
    let model = setup.model();
    if let Some(reason) = not_needed(setup) {
        return Inspection::not_needed(reason, vec![CHECK.skip(reason)]);
    }
    let terms = match Terms::read(&setup.site.layout.terms_file()) {
        Ok(terms) => terms,
        Err(error @ record::Error::Unusable { .. }) => {
            let detail = Failure::from(error).message;
            let check = CHECK.fail(detail, Fix::repair_accepting());
            return Inspection::needed("move that record aside and accept the model's terms", vec![check]);
        }
        Err(error) => {
            let failure = Failure::from(error);
            let fix = Fix::by_hand(failure.hint.clone().unwrap_or_default());
            let check = CHECK.fail(&failure.message, fix);
            return Inspection::needed("accept the model's terms", vec![check]).blocked_by(failure);
        }
    };
    if let Some(record) = terms.of(&model) {
        let detail = format!("accepted on {:.0}", record.time);
        return Inspection::in_place(detail.clone(), vec![CHECK.ok(detail)]);
    }
    let detail = format!("the terms of `{}` have not been accepted", model.name);
    let plan = match setup.wanted.accepted.is_some() || setup.tools.ask.can_ask() {
        true => format!("record that you accept {}", in_words(&model)),
        false => format!(
            "stop with status 3 without `--accept-terms`, which accepts {}",
            in_words(&model)
        ),
    };
    Inspection::needed(plan, vec![CHECK.fail(detail, Fix::repair_accepting())])
}

/// The reason if there are no terms to accept.
pub(super) fn not_needed(setup: &Setup<'_>) -> Option<&'static str> {
    if setup.wanted.chosen.runtime == RuntimeName::Builtin {
        Some("the builtin runtime needs no model")
    } else if !setup.wanted.with_model && setup.wanted.accepted.is_none() {
        Some("no model wanted (--no-model)")
    } else if needs_no_terms(
        setup.wanted.chosen.runtime,
        &setup.model(),
        setup.wanted.chosen.model_file.is_some(),
    ) {
        Some("your own file is imported, so nothing is pulled")
    } else {
        None
    }
}

pub(super) fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let how = match setup.wanted.accepted {
        Some(how) => how,
        None => ask(setup)?,
    };
    let (path, model) = (setup.site.layout.terms_file(), setup.model());
    Terms::read_or_set_aside(&path)?.accept(&path, &model, jiff::Timestamp::now(), how)?;
    Ok(format!("accepted {}", in_words(&model)))
}

/// Asks about the terms. Only [`apply`] records the answer, because that needs the home's lock.
pub(in crate::setup) fn ask(setup: &mut Setup<'_>) -> Result<How, Failure> {
    let model = setup.model();
    let mut shown = model.clone();
    if setup.wanted.chosen.model_file.is_some() {
        // The size is that of a download, and there is none here.
        shown.size = 0;
    }
    let why = match setup.tools.ask.ask(&shown) {
        Some(true) => {
            setup.wanted.accepted = Some(How::Prompt);
            return Ok(How::Prompt);
        }
        Some(false) => "were not accepted",
        None => "have not been accepted, and gem-setup can ask only if its input and its error output are a terminal",
    };
    let broken = Terms::read(&setup.site.layout.terms_file()).err();
    let broken = broken.map_or_else(String::new, |error| format!("; {}", Failure::from(error).message));
    let message = format!(
        "the terms of the model `{}` {why}: {}{broken}",
        model.name,
        in_words(&model)
    );
    let hint = "read them, then run the command again with `--accept-terms`";
    Err(Failure::new(Kind::TermsNotAccepted, message).with_hint(hint))
}
