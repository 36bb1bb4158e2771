//! The local face: classification requests, answered in time whatever the model does.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::local::{ATTEMPTS, Prompt, reply};
use crate::gateway::cache::{Abandoned, Outcome};
use crate::gateway::classification::{render, time_for_model};
use crate::gateway::config::OnClassifierFailure;
use crate::gateway::engine::{Engine, Trouble};
use crate::gateway::reply::{Fault, Reply};
use crate::gateway::service::Shared;
use crate::router::classify::local::reply_text;
use crate::router::classify::{builtin, clean};
use crate::router::contents::turns_for_context;
use crate::router::{AnsweredBy, Conversation, DecisionRecord, Source, Tier, Verdict};

const ANSWERED_BY: HeaderName = HeaderName::from_static("x-gem-answered-by");

/// Answers `prompt`, which asks for a classification of `conversation`.
pub(super) async fn answer(shared: &Arc<Shared>, prompt: &Prompt, conversation: Conversation) -> Result<Reply, Fault> {
    let call = Classification {
        shared,
        prompt,
        conversation,
    };
    if call.conversation.request.trim().is_empty() {
        return Ok(call.reply_builtin(&nothing_typed()));
    }
    let key = shared.answers.key(&prompt.engine_body);
    if let Some(known) = shared.answers.known(key) {
        return Ok(call.reply(AnsweredBy::Cache, known.tier, &known.reasoning));
    }
    let Some(engine) = &shared.engine else {
        return Ok(call.reply_builtin(&call.builtin()));
    };
    if let Some(sure) = shared.config.fast_path {
        let verdict = call.builtin();
        if verdict
            .probability
            .is_some_and(|probability| probability >= sure || probability <= 1.0 - sure)
        {
            return Ok(call.reply_builtin(&verdict));
        }
    }
    let until = prompt.arrived + time_for_model(prompt.time(shared.config.classifier_deadline));
    let asked = shared.answers.wait(key, |abandoned| {
        ask(
            Arc::clone(shared),
            Arc::clone(engine),
            prompt.engine_body.clone(),
            abandoned,
        )
    });
    match timeout_at(until, asked).await {
        Ok(Ok(answer)) => Ok(call.reply(AnsweredBy::Model, answer.tier, &answer.reasoning)),
        Ok(Err(failure)) => call.without_model(&failure),
        Err(_) => call.without_model(&Fault::Deadline),
    }
}

/// What holds where nothing was typed, as in the router.
fn nothing_typed() -> Verdict {
    Verdict {
        tier: Tier::Pro,
        probability: None,
        reasoning: "the request holds no text".into(),
    }
}

/// Asks the model; goes on when the clients have left, for an answer that comes late is one for the next time.
async fn ask(shared: Arc<Shared>, engine: Arc<Engine>, body: Bytes, abandoned: Abandoned) -> Option<Outcome> {
    let give_up = Instant::now() + shared.config.limits.prompt_time;
    let mut attempt = 1;
    loop {
        let opened = tokio::select! {
            opened = engine.open(&shared.generate_path, &body, give_up) => opened,
            () = abandoned.wait() => return None,
        };
        let answer = match opened {
            Ok(exchange) => exchange.answer(give_up).await,
            Err(fault) => return Some(Err(fault.into())),
        };
        match answer {
            Ok(answer) => return Some(read(&shared, &answer)),
            Err(Trouble::Broken(_)) if attempt < ATTEMPTS => shared.count_retry(),
            Err(trouble) => return Some(Err(fault_of(trouble).into())),
        }
        attempt += 1;
    }
}

fn fault_of(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Late => Fault::Deadline,
        Trouble::Broken(_) | Trouble::Refused(_) => Fault::BadEngine(trouble.to_string()),
    }
}

fn read(shared: &Shared, answer: &[u8]) -> Outcome {
    let text =
        reply_text(answer).map_err(|reason| Fault::BadEngine(format!("the model's answer has no text: {reason}")))?;
    clean::clean(&text).map_err(|unusable| {
        shared.metrics.unusable_answers.fetch_add(1, Ordering::Relaxed);
        Fault::BadEngine(unusable.to_string()).into()
    })
}

struct Classification<'a> {
    shared: &'a Shared,
    prompt: &'a Prompt,
    conversation: Conversation,
}

impl Classification<'_> {
    fn builtin(&self) -> Verdict {
        let turns = turns_for_context(&self.conversation.history);
        builtin::classify_from(self.shared.config.threshold, &self.conversation.request, &turns)
    }

    fn without_model(&self, fault: &Fault) -> Result<Reply, Fault> {
        tracing::debug!("the local model did not classify: {fault}");
        match self.shared.config.on_classifier_failure {
            OnClassifierFailure::Builtin => Ok(self.reply_builtin(&self.builtin())),
            OnClassifierFailure::Error => {
                self.shared.metrics.unanswered.fetch_add(1, Ordering::Relaxed);
                Ok(fault.reply())
            }
        }
    }

    fn reply_builtin(&self, verdict: &Verdict) -> Reply {
        self.reply(AnsweredBy::Builtin, verdict.tier, &verdict.reasoning)
    }

    fn reply(&self, by: AnsweredBy, tier: Tier, reasoning: &str) -> Reply {
        let Self { shared, prompt, .. } = self;
        shared.metrics.classified(by);
        if !prompt.is_own {
            shared.decisions.record(self.decision(by, tier, reasoning));
        }
        let text = render(
            tier,
            reasoning,
            shared.config.engine_model(),
            prompt.usage,
            prompt.stream,
        );
        let mut reply = reply(text, prompt.stream);
        reply
            .headers_mut()
            .insert(ANSWERED_BY, HeaderValue::from_static(by.as_str()));
        reply
    }

    /// The client makes a model's name of the tier itself, so the decision names the alias.
    fn decision(&self, by: AnsweredBy, tier: Tier, reasoning: &str) -> DecisionRecord {
        let source = match by {
            AnsweredBy::Builtin => Source::BuiltinClassifier,
            AnsweredBy::Model | AnsweredBy::Cache => Source::GemmaClassifier,
        };
        DecisionRecord {
            time: Timestamp::now(),
            source,
            model: tier.as_str().to_owned(),
            tier: Some(tier),
            latency_ms: u64::try_from(self.prompt.arrived.elapsed().as_millis()).unwrap_or(u64::MAX),
            answered_by: Some(by),
            reasoning: reasoning.to_owned().into(),
            asked_first: None,
            fallback_cause: None,
            request: self
                .shared
                .config
                .log_requests
                .then(|| self.conversation.request.clone()),
        }
    }
}
