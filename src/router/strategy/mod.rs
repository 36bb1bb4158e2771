//! The strategies of the router, in the order in which they are asked. The first one that decides ends the search. If
//! none decides, the powerful model is chosen (docs/facts.md section 4).

mod approval_mode;
mod builtin_classifier;
mod fallback;
mod gemma_classifier;
mod override_model;

use std::borrow::Cow;

use futures_util::future::BoxFuture;

use super::classify::builtin::Threshold;
use super::classify::local::LocalModel;
use super::context::{ApprovalMode, RoutingContext, Source};
use super::models::{Models, Selection};
use super::policy::Chain;
use super::{AnsweredBy, ModelAvailability, ModelName, Tier, Turn, Verdict};

/// A request, with everything that strategies use.
pub(super) struct Case<'a> {
    pub(super) models: &'a Models,
    pub(super) availability: &'a ModelAvailability,
    pub(super) context: &'a RoutingContext,
    /// The built-in classifier chooses the powerful model from this probability on.
    pub(super) threshold: Threshold,
    /// The requested name, or the default.
    pub(super) name: &'a ModelName,
    /// The place where the name was requested; `None` for the default.
    pub(super) asked_by: Option<&'static str>,
    /// The meaning of the name.
    pub(super) selection: Selection,
    /// The part of the history that a classifier sees.
    pub(super) turns: Vec<Turn>,
}

impl Case<'_> {
    /// The models to ask in order, beginning with `first`. In plan mode no switch needs consent.
    pub(super) fn chain(&self, first: &ModelName) -> Chain {
        let chain = self.models.chain(&self.selection, first);
        match self.context.approval {
            ApprovalMode::Plan => chain.silent(),
            ApprovalMode::Default | ApprovalMode::ApprovedPlan(_) => chain,
        }
    }
}

/// A strategy's choice.
pub(super) enum Pick {
    /// The model that the request's choice has for this tier.
    Tier(Tier),
    /// A certain model.
    Model(ModelName),
}

/// A strategy's decision.
pub(super) struct Decided {
    pub(super) pick: Pick,
    pub(super) reasoning: Cow<'static, str>,
    /// The classifier, if one was asked.
    pub(super) answered_by: Option<AnsweredBy>,
    /// The probability that a classifier gives for the powerful model.
    pub(super) probability: Option<f64>,
}

impl Decided {
    /// The decision if no strategy decides.
    pub(super) fn by_default() -> Self {
        Self {
            pick: Pick::Tier(Tier::Pro),
            reasoning: "no strategy decided: the powerful model is the default".into(),
            answered_by: None,
            probability: None,
        }
    }
}

/// A strategy's result for a case.
pub(super) enum Finding {
    /// The strategy decides.
    Decided(Decided),
    /// The strategy does not apply, for this reason.
    Passed(Cow<'static, str>),
}

impl Finding {
    fn decided(pick: Pick, reasoning: impl Into<Cow<'static, str>>) -> Self {
        Self::Decided(Decided {
            pick,
            reasoning: reasoning.into(),
            answered_by: None,
            probability: None,
        })
    }

    fn classified(verdict: Verdict, answered_by: AnsweredBy) -> Self {
        Self::Decided(Decided {
            pick: Pick::Tier(verdict.tier),
            reasoning: verdict.reasoning,
            answered_by: Some(answered_by),
            probability: verdict.probability,
        })
    }

    fn passed(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Passed(why.into())
    }
}

/// A way to decide.
pub(super) trait Strategy: Send + Sync {
    /// The strategy's name.
    fn source(&self) -> Source;

    /// Decides, passes, or fails with a reason.
    fn consider<'a>(&'a self, case: &'a Case<'a>) -> BoxFuture<'a, Result<Finding, String>>;
}

/// All strategies, in the order in which they are asked.
pub(super) fn in_order(local: Option<Box<dyn LocalModel>>) -> Vec<Box<dyn Strategy>> {
    vec![
        Box::new(fallback::Fallback),
        Box::new(override_model::Override),
        Box::new(approval_mode::Approval),
        Box::new(gemma_classifier::Gemma(local)),
        Box::<builtin_classifier::Builtin>::default(),
    ]
}

/// Why a classifier cannot decide; `None` if it can.
fn nothing_to_classify(case: &Case<'_>) -> Option<Finding> {
    let is_empty = case.context.conversation.request.trim().is_empty();
    is_empty.then(|| Finding::passed("the request contains no text"))
}

fn ready<'a>(finding: Finding) -> BoxFuture<'a, Result<Finding, String>> {
    Box::pin(std::future::ready(Ok(finding)))
}
