//! Chooses the tier of the local model's verdict.

use futures_util::future::BoxFuture;
use tokio::time::timeout_at;

use super::{AnsweredBy, Case, Finding, LocalModel, Source, Strategy, nothing_to_classify};
use crate::router::context::ClassifierChoice;
use crate::runtime::NO_MODEL;

/// Asks the local model, if one is enabled.
pub(super) struct Gemma(pub(super) Option<Box<dyn LocalModel>>);

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
        match case.context.classifier {
            ClassifierChoice::Model => {}
            ClassifierChoice::Builtin => return Ok(Finding::passed("the built-in classifier was requested")),
            ClassifierChoice::Modelless => {
                return Ok(Finding::passed(NO_MODEL));
            }
        }
        let Some(local) = &self.0 else {
            return Ok(Finding::passed("no local model is enabled"));
        };
        if let Some(nothing) = nothing_to_classify(case) {
            return Ok(nothing);
        }
        let answer = local.classify(&case.context.conversation.request, &case.turns);
        let answer = match case.context.classify_until {
            None => answer.await,
            Some(until) => {
                let answer = timeout_at(until, answer).await;
                answer.unwrap_or_else(|_| Err("the client's deadline left it no more time".to_owned()))
            }
        }?;
        if answer.answered_by == AnsweredBy::Builtin {
            return Ok(Finding::passed("the built-in classifier is sure enough"));
        }
        Ok(Finding::classified(answer.verdict, answer.answered_by))
    }
}
