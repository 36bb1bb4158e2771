//! From a request to its model, and why.

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
use super::{AnsweredBy, ModelAvailability, ModelName, Tier};

/// One strategy that was consulted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceEntry {
    /// Which.
    pub strategy: Source,
    /// The outcome.
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
}

/// A strategy's result; in JSON and on screen `decided: …`, `passed: …` or `failed: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It decided.
    Decided {
        /// For this model.
        model: ModelName,
        /// Why, in words.
        reasoning: Cow<'static, str>,
    },
    /// It does not apply, for this reason.
    Passed(Cow<'static, str>),
    /// It failed, for this reason.
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

/// Which model a request goes to, and why. `route --json` prints it (docs/contract.md section 2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoutingDecision {
    /// The model.
    pub model: ModelName,
    /// The model's tier; `None` for one that is neither flash nor pro, or not known.
    pub tier: Option<Tier>,
    /// The strategy that decided.
    pub source: Source,
    /// How long the decision took, in milliseconds.
    pub latency_ms: u64,
    /// Why, in words.
    pub reasoning: Cow<'static, str>,
    /// The probability that the built-in classifier gives for the powerful model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The strategies that were consulted, in order; the last one decided.
    pub trace: Vec<TraceEntry>,
    /// The classifier, if one was asked.
    #[serde(skip)]
    pub answered_by: Option<AnsweredBy>,
    /// The models to be asked one after the other, the decided one first.
    #[serde(skip)]
    pub chain: Chain,
}

impl RoutingDecision {
    /// The same decision for `model` of `tier`, because of `why`.
    #[must_use]
    pub fn switched(mut self, model: ModelName, tier: Option<Tier>, why: String) -> Self {
        let reasoning = Cow::from(why);
        self.trace.push(TraceEntry {
            strategy: Source::Fallback,
            outcome: Outcome::Decided {
                model: model.clone(),
                reasoning: reasoning.clone(),
            },
            latency_ms: 0,
        });
        Self {
            model,
            tier,
            source: Source::Fallback,
            reasoning,
            ..self
        }
    }
}

/// Decides; one for a session.
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
    /// A router over `models`, which heeds their `availability`.
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

    /// Sets the probability from which on the built-in classifier chooses the powerful model.
    #[must_use]
    pub fn with_threshold(self, threshold: Threshold) -> Self {
        Self { threshold, ..self }
    }

    /// The models it routes to.
    #[must_use]
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// The models' health.
    #[must_use]
    pub const fn availability(&self) -> &Arc<ModelAvailability> {
        &self.availability
    }

    /// Decides which model the request goes to. A strategy that fails is skipped and shows in the trace.
    pub async fn route(&self, context: &RoutingContext) -> RoutingDecision {
        let start = Instant::now();
        let asked = context.asked.first();
        let name = asked.map_or(self.models.default_name(), |(name, _)| name);
        let case = Case {
            models: &self.models,
            availability: &self.availability,
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
            let mut record = |outcome| {
                trace.push(TraceEntry {
                    strategy: strategy.source(),
                    outcome,
                    latency_ms,
                });
            };
            match finding {
                Ok(Finding::Passed(why)) => record(Outcome::Passed(why)),
                Err(why) => record(Outcome::Failed(why)),
                Ok(Finding::Decided(decided)) => {
                    let settled = settle(&case, decided);
                    record(settled.outcome());
                    return settled.decision(strategy.source(), start, trace);
                }
            }
        }
        let settled = settle(&case, Decided::by_default());
        trace.push(TraceEntry {
            strategy: Source::Default,
            outcome: settled.outcome(),
            latency_ms: 0,
        });
        settled.decision(Source::Default, start, trace)
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

/// The decision, after a look at the models' health.
struct Settled {
    model: ModelName,
    tier: Option<Tier>,
    reasoning: Cow<'static, str>,
    answered_by: Option<AnsweredBy>,
    probability: Option<f64>,
    chain: Chain,
}

impl Settled {
    fn outcome(&self) -> Outcome {
        Outcome::Decided {
            model: self.model.clone(),
            reasoning: self.reasoning.clone(),
        }
    }

    fn decision(self, source: Source, start: Instant, trace: Vec<TraceEntry>) -> RoutingDecision {
        RoutingDecision {
            model: self.model,
            tier: self.tier,
            source,
            latency_ms: millis(start.elapsed()),
            reasoning: self.reasoning,
            trace,
            answered_by: self.answered_by,
            probability: self.probability,
            chain: self.chain,
        }
    }
}

/// The model of a tier may be unavailable although the choice as a whole is not: then the next of its chain is taken.
fn settle(case: &Case<'_>, decided: Decided) -> Settled {
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
        .map(|selected| &selected.policy.model)
        .filter(|model| **model != wanted && matches!(case.selection, Selection::Choice { .. }))
        .cloned();
    let (answered_by, probability) = (decided.answered_by, decided.probability);
    match instead {
        None => Settled {
            model: wanted,
            tier,
            reasoning: decided.reasoning,
            answered_by,
            probability,
            chain,
        },
        Some(model) => Settled {
            tier: case.models.tier(&model),
            reasoning: format!("{} (`{wanted}` is unavailable)", decided.reasoning).into(),
            answered_by,
            probability,
            chain: case.chain(&model),
            model,
        },
    }
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;
