//! Decides which model a request goes to, and states the reason.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::classify::builtin::Threshold;
use super::classify::local::LocalModel;
use super::contents::turns_for_context;
use super::context::{RoutingContext, Source};
use super::models::{Models, Selection};
use super::policy::Chain;
use super::strategy::{self, Case, Decided, Finding, Pick, Strategy};
use super::{AnsweredBy, FailureKind, ModelAvailability, ModelName, Tier};

/// A strategy that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceEntry {
    /// The strategy.
    pub strategy: Source,
    /// Its outcome.
    pub outcome: Outcome,
    /// Its duration, in milliseconds.
    pub latency_ms: u64,
}

/// A strategy's result; shown as `decided: …`, `passed: …` or `failed: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The strategy decided.
    Decided {
        /// The chosen model.
        model: ModelName,
        /// The reason, in words.
        reasoning: Cow<'static, str>,
    },
    /// The strategy does not apply, for this reason.
    Passed(Cow<'static, str>),
    /// The strategy failed, for this reason.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided { model, reasoning } => write!(f, "decided: `{model}`: {reasoning}"),
            Self::Passed(why) => write!(f, "passed: {why}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The model for a request, and the reason. `route --json` prints this (docs/contract.md section 2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoutingDecision {
    /// The chosen model.
    pub model: ModelName,
    /// The model's tier; `None` if it is unknown or neither flash nor pro.
    pub tier: Option<Tier>,
    /// The strategy that decided.
    pub source: Source,
    /// The duration of the decision, in milliseconds.
    pub latency_ms: u64,
    /// The reason, in words.
    pub reasoning: Cow<'static, str>,
    /// The probability that the built-in classifier gives for the powerful model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The strategies that were asked, in order; the last one decided.
    pub trace: Vec<TraceEntry>,
    /// The classifier, if one was asked.
    #[serde(skip)]
    pub answered_by: Option<AnsweredBy>,
    /// The models to ask in order, beginning with the chosen one.
    #[serde(skip)]
    pub chain: Chain,
    /// The model that is not asked because it is known to have failed, and its failure.
    #[serde(skip)]
    pub instead_of: Option<(ModelName, FailureKind)>,
}

impl RoutingDecision {
    /// The same decision for `model` of `tier`, for the reason `why`.
    #[must_use]
    pub fn switched(self, model: ModelName, tier: Option<Tier>, why: String) -> Self {
        let switched = Self {
            model,
            tier,
            source: Source::Fallback,
            reasoning: why.into(),
            ..self
        };
        switched.traced(0)
    }

    /// The same decision with itself at the end of its trace. Its strategy took `latency_ms`.
    fn traced(mut self, latency_ms: u64) -> Self {
        self.trace.push(TraceEntry {
            strategy: self.source,
            outcome: Outcome::Decided {
                model: self.model.clone(),
                reasoning: self.reasoning.clone(),
            },
            latency_ms,
        });
        self
    }
}

/// Makes routing decisions; a session needs one router.
pub struct Router {
    models: Arc<Models>,
    availability: Arc<ModelAvailability>,
    strategies: Vec<Box<dyn Strategy>>,
    threshold: Threshold,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("availability", &self.availability)
            .finish_non_exhaustive()
    }
}

impl Router {
    /// A router for `models` that respects their `availability`.
    #[must_use]
    pub fn new(models: Arc<Models>, availability: Arc<ModelAvailability>) -> Self {
        Self {
            models,
            availability,
            strategies: strategy::in_order(None),
            threshold: Threshold::default(),
        }
    }

    /// Lets `local` classify.
    #[must_use]
    pub fn with_local(self, local: impl LocalModel + 'static) -> Self {
        Self {
            strategies: strategy::in_order(Some(Box::new(local))),
            ..self
        }
    }

    /// The built-in classifier will choose the powerful model from this probability on.
    #[must_use]
    pub fn with_threshold(self, threshold: Threshold) -> Self {
        Self { threshold, ..self }
    }

    /// The models that can be chosen.
    #[must_use]
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// The models' health.
    #[must_use]
    pub const fn availability(&self) -> &Arc<ModelAvailability> {
        &self.availability
    }

    /// Chooses a model for the request. Skips a strategy that fails; the trace shows the failure.
    pub async fn route(&self, context: &RoutingContext) -> RoutingDecision {
        self.route_with(context, &self.availability).await
    }

    /// The same with the models' health in `availability`.
    pub async fn route_with(&self, context: &RoutingContext, availability: &ModelAvailability) -> RoutingDecision {
        let start = Instant::now();
        let asked = context.asked.first();
        let name = asked.map_or(self.models.default_name(), |(name, _)| name);
        let case = Case {
            models: &self.models,
            availability,
            context,
            threshold: self.threshold,
            name,
            asked_by: asked.map(|(_, place)| place),
            selection: self.models.resolve(name),
            turns: turns_for_context(&context.conversation.history),
        };
        let mut trace = Vec::with_capacity(self.strategies.len());
        let mut began = start;
        for strategy in &self.strategies {
            let finding = strategy.consider(&case).await;
            let ended = Instant::now();
            let latency_ms = millis(ended - std::mem::replace(&mut began, ended));
            let outcome = match finding {
                Ok(Finding::Passed(why)) => Outcome::Passed(why),
                Err(why) => Outcome::Failed(why),
                Ok(Finding::Decided(decided)) => {
                    return settle(&case, decided, (strategy.source(), latency_ms), start, trace);
                }
            };
            trace.push(TraceEntry {
                strategy: strategy.source(),
                outcome,
                latency_ms,
            });
        }
        settle(&case, Decided::by_default(), (Source::Default, 0), start, trace)
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

/// The decision of a strategy that took `latency_ms`. A tier's model may be unavailable although the choice as a whole is
/// available. The next model of its chain then takes its place.
fn settle(
    case: &Case<'_>,
    decided: Decided,
    (source, latency_ms): (Source, u64),
    start: Instant,
    trace: Vec<TraceEntry>,
) -> RoutingDecision {
    let (wanted, tier) = match decided.pick {
        Pick::Tier(tier) => (case.selection.model_for(tier).clone(), Some(tier)),
        Pick::Model(model) => {
            let tier = case.models.tier(&model);
            (model, tier)
        }
    };
    let chain = case.chain(&wanted);
    let instead = chain
        .select(case.availability, &[])
        .map(|policy| &policy.model)
        .filter(|model| **model != wanted && matches!(case.selection, Selection::Choice { .. }))
        .cloned();
    let decision = RoutingDecision {
        model: wanted,
        tier,
        source,
        latency_ms: millis(start.elapsed()),
        reasoning: decided.reasoning,
        probability: decided.probability,
        trace,
        answered_by: decided.answered_by,
        chain,
        instead_of: None,
    };
    let failed = |model: &ModelName| case.availability.cause(model).map(|kind| (model.clone(), kind));
    if source == Source::Fallback {
        let instead_of = failed(case.selection.model_for(Tier::Pro));
        return RoutingDecision { instead_of, ..decision }.traced(latency_ms);
    }
    let decision = decision.traced(latency_ms);
    let Some(model) = instead else { return decision };
    let why = format!("{} (`{}` is unavailable)", decision.reasoning, decision.model);
    RoutingDecision {
        instead_of: failed(&decision.model),
        chain: case.chain(&model),
        ..decision
    }
    .switched(model.clone(), case.models.tier(&model), why)
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;
