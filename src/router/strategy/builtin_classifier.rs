//! The tier that the built-in classifier sees.

use futures_util::future::BoxFuture;

use super::{AnsweredBy, Case, Finding, Source, Strategy, nothing_to_classify, ready};
use crate::router::classify::builtin;

/// Asks the built-in classifier.
pub(super) struct Builtin;

impl Strategy for Builtin {
    fn source(&self) -> Source {
        Source::BuiltinClassifier
    }

    fn consider<'a>(&'a self, case: &'a Case<'a>) -> BoxFuture<'a, Result<Finding, String>> {
        ready(nothing_to_classify(case).unwrap_or_else(|| {
            let verdict = builtin::classify(&case.context.conversation.request, &case.turns);
            Finding::classified(verdict, AnsweredBy::Builtin)
        }))
    }
}
