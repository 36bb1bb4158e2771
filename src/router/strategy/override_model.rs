//! Chooses the model that was named.

use futures_util::future::BoxFuture;

use super::{Case, Finding, Pick, Selection, Source, Strategy, ready};

/// Decides by the requested name.
pub(super) struct Override;

impl Strategy for Override {
    fn source(&self) -> Source {
        Source::Override
    }

    fn consider<'a>(&'a self, case: &'a Case<'a>) -> BoxFuture<'a, Result<Finding, String>> {
        ready(find(case))
    }
}

fn find(case: &Case<'_>) -> Finding {
    let name = case.name;
    let asked = match case.asked_by {
        Some(place) => format!("{place} asks for `{name}`"),
        None => format!("no model was requested: the default is `{name}`"),
    };
    match &case.selection {
        Selection::Model(model) => Finding::decided(Pick::Model(model.clone()), asked),
        Selection::Choice { .. } => Finding::passed(format!("{asked}, so the request is classified")),
    }
}
