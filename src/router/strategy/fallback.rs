//! Chooses the next model of the chain if the requested one is unavailable.

use futures_util::future::BoxFuture;

use super::{Case, Finding, Pick, Source, Strategy, Tier, ready};

/// Decides by the models' health. A choice counts as unavailable if its pro model is, as in Gemini CLI.
pub(super) struct Fallback;

impl Strategy for Fallback {
    fn source(&self) -> Source {
        Source::Fallback
    }

    fn consider<'a>(&'a self, case: &'a Case<'a>) -> BoxFuture<'a, Result<Finding, String>> {
        ready(find(case))
    }
}

fn find(case: &Case<'_>) -> Finding {
    let wanted = case.selection.model_for(Tier::Pro);
    let Some(why) = case.availability.unavailable(wanted) else {
        let state = match case.availability.noted(wanted) {
            Some(_) => "failed, but may be asked again",
            None => "is available",
        };
        return Finding::passed(format!("`{wanted}` {state}"));
    };
    let chain = case.chain(wanted);
    match chain.select(case.availability, &[]) {
        Some(selected) if selected.model != *wanted => Finding::decided(
            Pick::Model(selected.model.clone()),
            format!("`{wanted}` is unavailable ({why})"),
        ),
        _ => Finding::passed(format!(
            "`{wanted}` is unavailable ({why}), and so is every replacement"
        )),
    }
}
