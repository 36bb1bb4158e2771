//! The tier that the local model sees.

use futures_util::future::BoxFuture;

use super::{AnsweredBy, Case, Finding, LocalClassifier, Source, Strategy, nothing_to_classify};
use crate::error::chain;
use crate::router::routing::ClassifierChoice;

/// Asks the local model, where one is enabled.
pub(super) struct Gemma(pub(super) Option<LocalClassifier>);

impl Strategy for Gemma {
    fn source(&self) -> Source {
        Source::GemmaClassifier
    }

    fn consider<'a>(&'a self, case: &'a Case<'a>) -> BoxFuture<'a, Result<Finding, String>> {
        Box::pin(self.find(case))
    }
}

impl Gemma {
    async fn find(&self, case: &Case<'_>) -> Result<Finding, String> {
        if case.context.classifier == ClassifierChoice::Builtin {
            return Ok(Finding::passed("the built-in classifier was asked for"));
        }
        let Some(local) = &self.0 else {
            return Ok(Finding::passed("no local model is enabled"));
        };
        if let Some(nothing) = nothing_to_classify(case) {
            return Ok(nothing);
        }
        let answer = local
            .classify(&case.context.conversation.request, &case.turns)
            .await
            .map_err(|error| chain(&error))?;
        if answer.answered_by == AnsweredBy::Builtin {
            // A gateway stands in for its model (docs/contract.md section 4); the decision is not the model's then.
            return Err("the built-in classifier answered in its place".to_owned());
        }
        Ok(Finding::classified(answer.verdict, answer.answered_by))
    }
}
