//! Decides how a call for a hosted model is handled, and starts the walk of a routed call.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::HeaderMap;

use tokio::time::timeout;

use super::body::Budget;
use super::coding;
use super::config::{ChainRouter, Config};
use super::consent::Consenter;
use super::fault::Fault;
use super::local_model::{InProcess, LocalModel};
use super::model_field;
use crate::router::classify::builtin::Threshold;
use crate::router::consent::{Question, Ruling};
use crate::router::policy::Chain;
use crate::router::walk::{OnFallback, Walk};
use crate::router::{
    AnsweredBy, Asked, ClassifierChoice, Conversation, FailureKind, ModelAvailability, ModelFailure, ModelName, Models,
    Outcome, Repeat, Router, RoutingContext, RoutingDecision, Selection, Source, Tier, TraceEntry,
};
use crate::text::opening;

/// The methods that generate content. Only they are classified, and only they may be answered by another model.
const GENERATING: [&str; 2] = ["generateContent", "streamGenerateContent"];
/// The largest request for a named model that is read without consent, in bytes, because its model may fail; a larger one streams
/// through.
const SMALL_BODY: u64 = 4 << 20;
/// The largest size of a routed call's body after decompression, in bytes.
const CLASSIFIED_BODY: usize = 128 << 20;
/// The largest body that is parsed on the serving thread, in bytes. A larger one would delay the thread's other
/// requests.
const READ_AT_ONCE: usize = 256 << 10;

/// The number of characters of a request that are shown to the person who is asked about it.
const OPENING: usize = 60;

/// Whether `method` generates content.
pub(super) fn generates(method: &str) -> bool {
    GENERATING.contains(&method)
}

/// Routes calls for hosted models.
pub(super) struct Routes {
    chains: Arc<ChainRouter>,
    router: Router,
}

/// Whether a request's body can be read as a whole and sent to another model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodySize {
    Small,
    /// Large, or of unknown length.
    Large,
    TooLarge,
}

impl BodySize {
    /// The size of a body of `length` bytes, if the client states it; `fits` says whether there is room for a large one.
    pub(super) fn of(length: Option<u64>, fits: impl FnOnce(u64) -> bool) -> Self {
        match length {
            Some(length) if length <= SMALL_BODY => Self::Small,
            Some(length) if !fits(length) => Self::TooLarge,
            _ => Self::Large,
        }
    }
}

/// How a call is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Handling {
    /// Streams through unchanged.
    AsAsked,
    /// Streams through to this model; the name in the path is an alias.
    Renamed(ModelName),
    /// Is read as a whole, because the router chooses its model or because it may be repeated elsewhere.
    Routed(Walking),
}

/// How a routed call walks along its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walking {
    /// As the policies say.
    Usual,
    /// The client names the model and consents to others. Each model is asked once, because the client retries by
    /// itself.
    WithConsent,
}

/// A call as the client sent it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    /// The requested model.
    pub(super) model: &'a str,
    /// The request's headers. They contain keys and must not be logged or stored.
    pub(super) headers: &'a HeaderMap,
    /// The body, which should be JSON.
    pub(super) body: &'a Bytes,
    /// The client's own time limit, if it states one.
    pub(super) patience: Option<Duration>,
    /// The memory for decoding a coded body.
    pub(super) budget: &'a Arc<Budget>,
    /// The models' health for the request's credential.
    pub(super) availability: &'a Arc<ModelAvailability>,
}

/// The first model of a call, and why it was chosen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) source: Source,
    pub(super) tier: Option<Tier>,
    /// How long the choice took.
    pub(super) latency: Duration,
    pub(super) answered_by: Option<AnsweredBy>,
    pub(super) reasoning: Cow<'static, str>,
    pub(super) probability: Option<f64>,
    pub(super) model_failure: Option<String>,
    /// The classified text, for the decision log.
    pub(super) request: Option<String>,
    /// The first words of the request, for the person who is asked about it; empty without a terminal.
    pub(super) opening: String,
}

impl Routes {
    /// The routes of `config`; `None` without a router.
    pub(super) fn of(config: &Config, local: Option<&Arc<LocalModel>>) -> Option<Self> {
        let chains = config.router.clone()?;
        Some(Self::new(chains, config.threshold, local))
    }

    /// Routes with `chains`; if the local model classifies, `local` is asked.
    pub(super) fn new(chains: Arc<ChainRouter>, threshold: Threshold, local: Option<&Arc<LocalModel>>) -> Self {
        let router =
            Router::new(Arc::clone(&chains.models), Arc::clone(chains.health.of_all())).with_threshold(threshold);
        let local = local.filter(|_| chains.classifier == ClassifierChoice::Model);
        let router = match local {
            Some(local) => router.with_local(InProcess(Arc::clone(local))),
            None => router,
        };
        Self { chains, router }
    }

    /// The models' names and tiers.
    pub(super) fn models(&self) -> &Models {
        self.router.models()
    }

    /// The models' health for requests with the credential of this one.
    pub(super) fn availability(&self, headers: &HeaderMap, uri: &Uri) -> Arc<ModelAvailability> {
        self.chains.health.of(headers, uri)
    }

    /// Asks the person who can answer `question`, if there is one.
    pub(super) async fn settle(&self, question: &Question) -> Ruling {
        self.chains.consent.settle(question).await
    }

    /// Decides how to handle a call of `method` of `model` with a body of this `size`.
    ///
    /// A client that names a model has its own retries and policy, so failures are passed on to it, unless the switch
    /// is silent or the client consents.
    pub(super) fn handling(
        &self,
        model: &str,
        method: &str,
        size: BodySize,
        client: (&Consenter<'_>, &ModelAvailability),
    ) -> Handling {
        let (consenter, availability) = client;
        let Ok(name) = model.parse::<ModelName>() else {
            return Handling::AsAsked;
        };
        let models = self.router.models();
        let meant = match models.resolve(&name) {
            Selection::Choice { .. } if generates(method) => return Handling::Routed(Walking::Usual),
            // The flash model stands for both: counting tokens, for example, needs no classification, and both models
            // count alike.
            Selection::Choice { flash, .. } => flash,
            Selection::Model(meant) => meant,
        };
        if models.is_known(&name) && generates(method) && size != BodySize::TooLarge {
            match self.chains.on_fallback {
                OnFallback::Silent if size == BodySize::Small || self.is_skipped(&meant, availability) => {
                    return Handling::Routed(Walking::Usual);
                }
                OnFallback::Policy | OnFallback::Ask if consenter.may_switch(&meant) => {
                    return Handling::Routed(Walking::WithConsent);
                }
                _ => {}
            }
        }
        if meant == name {
            return Handling::AsAsked;
        }
        Handling::Renamed(meant)
    }

    /// Whether a walk of `model` would begin with another one, because `model` has failed.
    fn is_skipped(&self, model: &ModelName, availability: &ModelAvailability) -> bool {
        let models = self.router.models();
        let chain = models.chain(&models.resolve(model), model);
        let first = chain.select(availability, &[]);
        first.is_some_and(|first| first.model != *model)
    }

    /// Remembers that `model` failed a request that streamed through, so that the next one is not sent to it.
    pub(super) fn remember(
        &self,
        model: &str,
        failure: ModelFailure,
        repeat: Repeat,
        availability: &Arc<ModelAvailability>,
    ) {
        // An overloaded model may answer the next request, unless it says when it will.
        let lasts = failure.kind != FailureKind::Transient || failure.delay.is_some();
        let Ok(name) = model.parse::<ModelName>() else { return };
        let models = self.router.models();
        if self.chains.on_fallback == OnFallback::Silent && lasts && models.is_known(&name) {
            let chain = models.chain(&models.resolve(&name), &name);
            self.walk(chain, Walking::Usual, Some(Duration::ZERO), availability)
                .failed(failure, repeat);
        }
    }

    /// The next model that the policy of `model` would ask; the client named `model`.
    pub(super) fn alternative(&self, model: &str, availability: &ModelAvailability) -> Option<ModelName> {
        let models = self.router.models();
        let selection = models.resolve(&model.parse().ok()?);
        let Selection::Model(meant) = &selection else {
            return None;
        };
        let chain = models.chain(&selection, meant);
        let next = chain.select(availability, std::slice::from_ref(meant))?;
        (self.chains.on_fallback != OnFallback::Never).then(|| next.model.clone())
    }

    /// Decides which model answers `call`, and starts the walk along its chain.
    pub(super) async fn begin(
        &self,
        call: Call<'_>,
        walking: Walking,
        log_requests: bool,
    ) -> Result<(Choice, Walk), Fault> {
        let path = call.model.parse().ok();
        let conversation = self.conversation(&call, path.as_ref(), log_requests).await?;
        if conversation.is_new_turn {
            call.availability.new_turn();
        }
        let request = log_requests.then(|| conversation.request.clone());
        let opening = match self.may_ask_person() {
            true => opening(&conversation.request, OPENING),
            false => String::new(),
        };
        let context = RoutingContext {
            conversation,
            asked: Asked {
                path,
                ..Asked::default()
            },
            classifier: self.chains.classifier,
            ..RoutingContext::default()
        };
        let decision = self.decide(context, &call).await;
        let walk = self.walk(decision.chain, walking, call.patience, call.availability);
        let choice = Choice {
            source: decision.source,
            tier: decision.tier,
            latency: Duration::from_millis(decision.latency_ms),
            answered_by: decision.answered_by,
            reasoning: decision.reasoning,
            probability: decision.probability,
            model_failure: model_failure(decision.trace),
            request,
            opening,
        };
        Ok((choice, walk))
    }

    /// The conversation in the body of `call`, if it is needed. Only the call of a classified model fails without it.
    async fn conversation(
        &self,
        call: &Call<'_>,
        path: Option<&ModelName>,
        log_requests: bool,
    ) -> Result<Conversation, Fault> {
        if !log_requests && !self.may_ask_person() && !self.needs_conversation(path, call.availability) {
            return Ok(Conversation::default());
        }
        let is_classified = self.is_classified(path);
        match conversation(call, is_classified).await {
            Err(fault) if is_classified => Err(fault),
            conversation => Ok(conversation.unwrap_or_default()),
        }
    }

    async fn decide(&self, mut context: RoutingContext, call: &Call<'_>) -> RoutingDecision {
        let availability = call.availability;
        // Half of the client's time is reserved for the upstream.
        if let Some(patience) = call.patience {
            if let Ok(decision) = timeout(patience / 2, self.router.route_with(&context, availability)).await {
                return decision;
            }
            context.classifier = ClassifierChoice::Builtin;
        }
        self.router.route_with(&context, availability).await
    }

    fn walk(
        &self,
        chain: Chain,
        walking: Walking,
        patience: Option<Duration>,
        availability: &Arc<ModelAvailability>,
    ) -> Walk {
        let ChainRouter {
            models, on_fallback, ..
        } = &*self.chains;
        let usual_wait = self.chains.max_wait;
        let (chain, on_fallback, max_wait) = match (walking, on_fallback) {
            (Walking::WithConsent, _) => (chain, OnFallback::Ask, Duration::ZERO),
            (Walking::Usual, OnFallback::Policy) => {
                let chain = chain.asking_before(|from, to| models.is_dearer(to, from));
                (chain, OnFallback::Policy, usual_wait)
            }
            (Walking::Usual, on_fallback) => (chain, *on_fallback, usual_wait),
        };
        let max_wait = patience.map_or(max_wait, |patience| max_wait.min(patience / 2));
        Walk::new(chain, Arc::clone(availability), on_fallback, max_wait)
    }

    /// Whether a person at the terminal may be asked about a request.
    fn may_ask_person(&self) -> bool {
        self.chains.on_fallback == OnFallback::Ask
    }

    /// Whether routing needs the request's text: for a classifier, or for models that are tried only once per turn.
    fn needs_conversation(&self, path: Option<&ModelName>, availability: &ModelAvailability) -> bool {
        self.is_classified(path) || !availability.is_untroubled()
    }

    /// Whether the model of a request that names `path` is classified.
    fn is_classified(&self, path: Option<&ModelName>) -> bool {
        !path.is_some_and(|name| matches!(self.router.models().resolve(name), Selection::Model(_)))
    }
}

/// Why the local model gave no classification, if it was asked.
fn model_failure(trace: Vec<TraceEntry>) -> Option<String> {
    trace.into_iter().find_map(|entry| match entry.outcome {
        Outcome::Failed(why) if entry.strategy == Source::GemmaClassifier => Some(why),
        _ => None,
    })
}

/// The conversation in the call's body. Malformed JSON counts as empty; the upstream will refuse it.
async fn conversation(call: &Call<'_>, is_classified: bool) -> Result<Conversation, Fault> {
    let body = coding::plain(call.headers, call.body, CLASSIFIED_BODY, call.budget).await?;
    let size = body.len();
    let name = call.model.to_owned();
    let read = move || {
        if is_classified && model_field::names_cache(&body) {
            return Err(Fault::Invalid(format!(
                "the request uses a cache (`cachedContent`), which belongs to one model: name that model instead of `{name}`"
            )));
        }
        Ok(Conversation::from_body(&body).unwrap_or_default())
    };
    if size <= READ_AT_ONCE {
        return read();
    }
    tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|_| Ok(Conversation::default()))
}
