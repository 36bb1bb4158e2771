//! Decides about hosted models: classifies where the client leaves the choice, and walks the model's chain on failure.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::header::{CONTENT_ENCODING, HeaderMap, RETRY_AFTER};
use jiff::Timestamp;

use super::coding;
use super::router::{BoxFuture, Call, Choice, Failed, Handling, Next, Route, UpstreamRouter};
use crate::router::consent::Consent;
use crate::router::fallback::{Attempt, OnFallback, Refusal, Walk, Walker};
use crate::router::{
    Asked, ClassifierChoice, Conversation, ErrorResponse, FailureKind, ModelFailure, ModelName, Repeat, Router,
    RoutingContext, RoutingDecision, Selection,
};

/// The methods that generate: a failure of one of these may be answered by another model.
const GENERATING: [&str; 2] = ["generateContent", "streamGenerateContent"];
/// A larger request for a concrete model streams through and is not repeated elsewhere, in bytes.
const REPEATABLE_BODY: u64 = 4 << 20;
/// What a compressed request to be classified may grow to, in bytes.
const CLASSIFIED_BODY: usize = 64 << 20;

/// A longer body is read aside, so that the other requests of the thread need not wait for that, in bytes.
const READ_AT_ONCE: usize = 256 << 10;

/// Routes calls for hosted models with one [`Router`].
pub struct ChainRouter {
    /// Decides which model is asked first.
    pub router: Arc<Router>,
    /// Who classifies.
    pub classifier: ClassifierChoice,
    /// Whether another model may be asked when one fails.
    pub on_fallback: OnFallback,
    /// Who is asked where consent is needed.
    pub consent: Arc<dyn Consent>,
    /// The longest that one request waits in all.
    pub max_wait: Duration,
    /// Whether the text that was classified is kept for the decision log.
    pub log_requests: bool,
}

impl UpstreamRouter for ChainRouter {
    fn handling(&self, model: &str, method: &str, length: Option<u64>) -> Handling {
        let Ok(name) = model.parse::<ModelName>() else {
            return Handling::AsAsked;
        };
        let models = self.router.models();
        let Selection::Model(meant) = models.resolve(&name) else {
            return Handling::Routed;
        };
        let may_switch = self.on_fallback != OnFallback::Never && models.is_known(&name);
        let is_repeatable = GENERATING.contains(&method) && length.is_some_and(|length| length <= REPEATABLE_BODY);
        if may_switch && is_repeatable {
            return Handling::Routed;
        }
        if meant == name {
            return Handling::AsAsked;
        }
        Handling::Renamed(meant.as_str().to_owned())
    }

    fn begin<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Box<dyn Route>> {
        Box::pin(async move {
            let path = call.model.parse().ok();
            let conversation = if self.reads_conversation(path.as_ref()) {
                conversation(call.headers, call.body).await
            } else {
                Conversation::default()
            };
            if conversation.is_new_turn {
                self.router.availability().new_turn();
            }
            let request = self.log_requests.then(|| conversation.request.clone());
            let context = RoutingContext {
                conversation,
                asked: Asked {
                    path,
                    ..Asked::default()
                },
                classifier: self.classifier,
                ..RoutingContext::default()
            };
            let decision = self.router.route(&context).await;
            Box::new(self.set_out(decision, request).await) as Box<dyn Route>
        })
    }
}

/// The conversation in `body`. One that cannot be read is the upstream's to refuse; it has no text to classify.
async fn conversation(headers: &HeaderMap, body: &Bytes) -> Conversation {
    if body.len() <= READ_AT_ONCE && !headers.contains_key(CONTENT_ENCODING) {
        return Conversation::from_body(body).unwrap_or_default();
    }
    let (headers, body) = (headers.clone(), body.clone());
    let read = tokio::task::spawn_blocking(move || {
        let body = coding::decoded(&headers, &body, CLASSIFIED_BODY);
        Conversation::from_body(&body).unwrap_or_default()
    });
    read.await.unwrap_or_default()
}

impl ChainRouter {
    /// Whether it matters what the request says: to a classifier, to models that are tried once a turn, or to the log.
    fn reads_conversation(&self, path: Option<&ModelName>) -> bool {
        let is_named = path.is_some_and(|name| matches!(self.router.models().resolve(name), Selection::Model(_)));
        !is_named || self.log_requests || !self.router.availability().is_untroubled()
    }

    /// Begins to walk the decision's chain; the walk waits at each model for what the gateway says of it.
    async fn set_out(&self, decision: RoutingDecision, request: Option<String>) -> OnChain {
        let handover = Arc::new(Handover::default());
        let asks = Arc::clone(&handover);
        let router = Arc::clone(&self.router);
        let consent = Arc::clone(&self.consent);
        let (on_fallback, max_wait) = (self.on_fallback, self.max_wait);
        let choice = Choice {
            model: decision.model.as_str().to_owned(),
            source: decision.source,
            tier: decision.tier,
            latency: Duration::from_millis(decision.latency_ms),
            answered_by: decision.answered_by,
            reasoning: decision.reasoning,
            request,
        };
        let chain = decision.chain;
        let walk = Box::pin(async move {
            let walker = Walker {
                availability: router.availability(),
                consent: consent.as_ref(),
                on_fallback,
                max_wait,
            };
            let walk = walker.walk(&chain, |attempt| asks.ask(attempt)).await;
            for step in &walk.trace {
                tracing::debug!("{step}");
            }
            walk
        });
        let mut route = OnChain {
            choice,
            walk: Some(walk),
            handover,
            end: None,
        };
        route.advance().await;
        route
    }
}

/// Where a walk and the gateway meet: the one lays down the model to be asked, the other how that went. Both belong to one
/// request, and who lays something down sees to it that the other looks.
#[derive(Default)]
struct Handover(Mutex<Exchange>);

#[derive(Default)]
struct Exchange {
    asked: Option<ModelName>,
    told: Option<Result<(), Refusal<()>>>,
}

impl Handover {
    /// One attempt of the walk: handed to the gateway, which tells how it went.
    fn ask(&self, attempt: Attempt) -> impl Future<Output = Result<(), Refusal<()>>> {
        self.exchange().asked = Some(attempt.model);
        poll_fn(|_| self.exchange().told.take().map_or(Poll::Pending, Poll::Ready))
    }

    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call on its way along a chain.
struct OnChain {
    choice: Choice,
    /// Goes on only while somebody waits for it, and ends with the call.
    walk: Option<BoxFuture<'static, Walk<(), ()>>>,
    handover: Arc<Handover>,
    end: Option<String>,
}

impl OnChain {
    /// Waits for the next model to ask, or for the end of the walk.
    async fn advance(&mut self) -> Next {
        let Some(walk) = &mut self.walk else {
            return Next::GiveUp;
        };
        let next = poll_fn(|cx| match walk.as_mut().poll(cx) {
            Poll::Ready(walk) => Poll::Ready(Err(walk)),
            Poll::Pending => match self.handover.exchange().asked.take() {
                Some(model) => Poll::Ready(Ok(model)),
                None => Poll::Pending,
            },
        });
        match next.await {
            Ok(model) => {
                model.as_str().clone_into(&mut self.choice.model);
                Next::Ask
            }
            Err(walk) => {
                self.walk = None;
                self.end = walk.result.err().map(|unanswered| unanswered.end.to_string());
                Next::GiveUp
            }
        }
    }

    /// What the walk hears when it goes on.
    fn tell(&self, outcome: Result<(), Refusal<()>>) {
        self.handover.exchange().told = Some(outcome);
    }
}

impl Route for OnChain {
    fn choice(&self) -> &Choice {
        &self.choice
    }

    fn failed<'a>(&'a mut self, failure: &'a Failed) -> BoxFuture<'a, Next> {
        Box::pin(async move {
            self.tell(Err(refusal(failure)));
            self.advance().await
        })
    }

    fn answered(&mut self) {
        self.tell(Ok(()));
        // All that is left to do is to note it, which needs no waiting.
        self.walk.take().map(FutureExt::now_or_never);
    }

    fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }
}

/// What a failed attempt says of the model, and whether the request may be sent again.
fn refusal(failed: &Failed) -> Refusal<()> {
    let (failure, repeat) = match failed {
        Failed::Refused { status, headers, body } => {
            let response = ErrorResponse {
                status: status.as_u16(),
                retry_after: headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()),
                body,
                received: Timestamp::now(),
            };
            let failure = ModelFailure::from_response(&response);
            let repeat = failure.repeat(status.as_u16());
            (failure, repeat)
        }
        Failed::Unreachable(reason) => (ModelFailure::new(FailureKind::Transient, reason), Repeat::Safe),
        Failed::Broken(reason) => (ModelFailure::new(FailureKind::Unknown, reason), Repeat::MayHaveActed),
    };
    Refusal {
        failure,
        repeat,
        response: (),
    }
}
