//! Decides how a call for a hosted model is handled, and starts the walk of a routed call.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::HeaderMap;

use tokio::time::Instant;

use super::body::{Budget, parse};
use super::coding;
use super::config::{ChainRouter, Config};
use super::consent::Consenter;
use super::fault::Fault;
use super::local_model::{InProcess, LocalModel};
use super::model_field;
use crate::router::consent::{Question, Ruling};
use crate::router::policy::Chain;
use crate::router::walk::{OnFallback, Walk, mark};
use crate::router::{
    AnsweredBy, Asked, ClassifierChoice, Conversation, FailureKind, ModelAvailability, ModelFailure, ModelName, Models,
    Outcome, Router, RoutingContext, Selection, Source, Tier, TraceEntry,
};
use crate::text::opening;

/// The methods that generate content. Only they are classified, and only they may be answered by another model.
const GENERATING: [&str; 2] = ["generateContent", "streamGenerateContent"];
/// The largest request for a named model that is read without consent, in bytes, because its model may fail; a larger one streams
/// through.
const SMALL_BODY: u64 = 4 << 20;
/// The largest size of a routed call's body after decompression, in bytes.
const CLASSIFIED_BODY: usize = 128 << 20;

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
    /// Beyond the limit, or without room now.
    TooLarge,
}

impl BodySize {
    /// The size of a body of `length` bytes, if the client states it; `fits` says whether there is room for it.
    pub(super) fn of(length: Option<u64>, fits: impl FnOnce(u64) -> bool) -> Self {
        match length {
            Some(length) if !fits(length) => Self::TooLarge,
            Some(length) if length <= SMALL_BODY => Self::Small,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Walking {
    /// As the policies say.
    Usual,
    /// The client names this model and consents to others. Each model is asked once, because the client retries by
    /// itself.
    WithConsent(ModelName),
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
    /// The client's own deadline, if it states one.
    pub(super) deadline: Option<Instant>,
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
    /// The model that is not asked because it is known to have failed, and its failure.
    pub(super) instead_of: Option<(ModelName, FailureKind)>,
    /// The classified text, for the decision log.
    pub(super) request: Option<String>,
    /// The first words of the request, for the person who is asked about it; empty without a terminal.
    pub(super) opening: String,
}

impl Choice {
    const fn new(source: Source, tier: Option<Tier>, reasoning: Cow<'static, str>) -> Self {
        Self {
            source,
            tier,
            latency: Duration::ZERO,
            answered_by: None,
            reasoning,
            probability: None,
            model_failure: None,
            instead_of: None,
            request: None,
            opening: String::new(),
        }
    }
}

impl Routes {
    /// The routes of `config`; `None` without a router. If the local model classifies, `local` is asked.
    pub(super) fn of(config: &Config, local: Option<&Arc<LocalModel>>) -> Option<Self> {
        let chains = config.router.clone()?;
        let router = Router::new(Arc::clone(&chains.models), Arc::clone(chains.health.of_all()));
        let router = router.with_threshold(config.threshold);
        let local = local.filter(|_| chains.classifier == ClassifierChoice::Model);
        let router = match local {
            Some(local) => router.with_local(InProcess(Arc::clone(local))),
            None => router,
        };
        Some(Self { chains, router })
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
                OnFallback::Never => {}
                _ if consenter.may_switch(&meant) => return Handling::Routed(Walking::WithConsent(meant)),
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

    /// Whether `model` is a model's own name, so that its requests may stream through.
    pub(super) fn is_own_name(&self, model: &str) -> bool {
        let name = model.parse::<ModelName>();
        name.is_ok_and(|name| self.router.models().resolve(&name) == Selection::Model(name))
    }

    /// The tier of `model`, if it is known.
    pub(super) fn tier(&self, model: &str) -> Option<Tier> {
        self.router.models().tier(&model.parse().ok()?)
    }

    /// The known model `model`. The names that clients invent are not remembered.
    fn known(&self, model: &str) -> Option<ModelName> {
        let name = model.parse().ok();
        name.filter(|name| self.router.models().is_known(name))
    }

    /// Records that `model`, which the client named, answered it.
    pub(super) fn answered(&self, model: &str, availability: &ModelAvailability) {
        if let Some(name) = self.known(model) {
            availability.mark_healthy(&name);
        }
    }

    /// Records that `model`, which the client named, failed it. Where switches are silent, the next request is not sent to it.
    pub(super) fn failed(&self, model: &str, failure: &ModelFailure, availability: &ModelAvailability) {
        let Some(name) = self.known(model) else { return };
        availability.note(&name, failure);
        let models = self.router.models();
        let chain = models.chain(&models.resolve(&name), &name);
        let has_other = || chain.select(availability, std::slice::from_ref(&name)).is_some();
        if self.chains.on_fallback == OnFallback::Silent && failure.lasts() && has_other() {
            mark(availability, &chain.policies()[0], failure);
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
        let (choice, walk) = match walking {
            Walking::WithConsent(model) => self.named(model, &call),
            Walking::Usual => self.chosen(path, conversation, &call).await,
        };
        let choice = Choice {
            request,
            opening,
            ..choice
        };
        Ok((choice, walk))
    }

    /// The client's own choice of `model`, even if it has failed, and the walk that begins with it.
    fn named(&self, model: ModelName, call: &Call<'_>) -> (Choice, Walk) {
        let models = self.router.models();
        let choice = Choice::new(Source::Override, models.tier(&model), asks_for(call.model).into());
        let chain = models.chain(&Selection::Model(model.clone()), &model);
        (choice, Walk::from_first(chain, Arc::clone(call.availability)))
    }

    /// The router's choice, and the walk that begins with it.
    async fn chosen(&self, path: Option<ModelName>, conversation: Conversation, call: &Call<'_>) -> (Choice, Walk) {
        let context = RoutingContext {
            conversation,
            asked: Asked {
                path,
                ..Asked::default()
            },
            classifier: self.chains.classifier,
            classify_until: call.deadline.map(|deadline| Instant::now() + half_until(deadline)),
            ..RoutingContext::default()
        };
        let decision = self.router.route_with(&context, call.availability).await;
        let choice = Choice {
            latency: Duration::from_millis(decision.latency_ms),
            answered_by: decision.answered_by,
            probability: decision.probability,
            model_failure: model_failure(decision.trace),
            instead_of: decision.instead_of,
            ..Choice::new(decision.source, decision.tier, decision.reasoning)
        };
        (choice, self.walk(decision.chain, call))
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

    fn walk(&self, chain: Chain, call: &Call<'_>) -> Walk {
        let ChainRouter {
            models,
            on_fallback,
            max_wait,
            ..
        } = &*self.chains;
        let chain = match on_fallback {
            OnFallback::Policy => chain.asking_before(|from, to| models.is_dearer(to, from)),
            _ => chain,
        };
        let max_wait = call
            .deadline
            .map_or(*max_wait, |deadline| half_until(deadline).min(*max_wait));
        Walk::new(chain, Arc::clone(call.availability), *on_fallback, max_wait)
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

/// The reason for a model that the client named as `model`.
pub(super) fn asks_for(model: &str) -> String {
    format!("the request's path asks for `{model}`")
}

/// Half of the time that is left until `deadline`; the other half is reserved for the upstream.
fn half_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()) / 2
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
    parse(size, read).await.unwrap_or_else(|| Ok(Conversation::default()))
}
