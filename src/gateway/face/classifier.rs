//! The local face: classification requests, which are answered in time even if the model is late.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::prompt::{Prompt, reply};
use crate::gateway::cache::Key;
use crate::gateway::classification::render;
use crate::gateway::config::OnClassifierFailure;
use crate::gateway::fault::Fault;
use crate::gateway::path::StreamFormat;
use crate::gateway::reply::Reply;
use crate::gateway::shared::Shared;
use crate::router::contents::turns_for_context;
use crate::router::{AnsweredBy, Conversation, DecisionRecord, Source, Tier, Turn, Verdict};

const ANSWERED_BY: HeaderName = HeaderName::from_static("x-gem-answered-by");
const MODEL_FAILURE: HeaderName = HeaderName::from_static("x-gem-model-failure");
/// The most characters of a failure in a header.
const LONGEST_FAILURE: usize = 200;

/// The reply to a request with the key `sent` if the same bytes were answered before.
pub(super) fn repeated(shared: &Shared, sent: Key, stream: Option<StreamFormat>, arrived: Instant) -> Option<Reply> {
    // The log takes the request from the parsed body.
    if shared.config.log_requests {
        return None;
    }
    let (answer, usage) = shared.local_model.answers.repeated(sent)?;
    let prompt = Prompt {
        engine_body: Bytes::new(),
        usage,
        stream,
        arrived,
        patience: None,
    };
    let call = Classification {
        shared,
        prompt: &prompt,
        request: "",
        turns: &[],
    };
    Some(call.reply(AnsweredBy::Cache, answer.into(), None))
}

/// Answers `prompt`, which came as `sent` and asks for a classification of `conversation`.
pub(super) async fn answer(
    shared: &Shared,
    prompt: &Prompt,
    sent: Option<Key>,
    conversation: Conversation,
) -> Result<Reply, Fault> {
    let turns = turns_for_context(&conversation.history);
    let call = Classification {
        shared,
        prompt,
        request: &conversation.request,
        turns: &turns,
    };
    if call.request.trim().is_empty() {
        return Ok(call.reply(AnsweredBy::Builtin, nothing_typed(), None));
    }
    let model = &shared.local_model;
    let asked = model.key(&prompt.engine_body);
    let note = || {
        if let Some(sent) = sent {
            model.answers.note(sent, asked, prompt.usage);
        }
    };
    if let Some(known) = model.answers.known(asked) {
        note();
        return Ok(call.reply(AnsweredBy::Cache, known.into(), None));
    }
    if let Some(verdict) = model.without_asking(call.request, &turns) {
        return Ok(call.reply(AnsweredBy::Builtin, verdict, None));
    }
    let time = prompt.time(shared.config.classifier_deadline);
    match model.ask((asked, &prompt.engine_body), prompt.arrived, time).await {
        Ok(answer) => {
            note();
            Ok(call.reply(AnsweredBy::Model, answer.into(), None))
        }
        Err(failure) => call.without_model(&failure),
    }
}

/// The beginning of `text` in the characters that a header takes.
fn in_header(text: &str) -> Option<HeaderValue> {
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let text: String = text.chars().map(plain).take(LONGEST_FAILURE).collect();
    HeaderValue::from_str(&text).ok()
}

/// The verdict on a request without text, the same as the router's.
fn nothing_typed() -> Verdict {
    Verdict {
        tier: Tier::Pro,
        probability: None,
        reasoning: "the request contains no text".into(),
    }
}

struct Classification<'a> {
    shared: &'a Shared,
    prompt: &'a Prompt,
    request: &'a str,
    turns: &'a [Turn],
}

impl Classification<'_> {
    fn without_model(&self, failure: &Fault) -> Result<Reply, Fault> {
        match self.shared.config.on_classifier_failure {
            OnClassifierFailure::Builtin => {
                let verdict = self.shared.local_model.builtin(self.request, self.turns);
                Ok(self.reply(AnsweredBy::Builtin, verdict, Some(failure.to_string())))
            }
            OnClassifierFailure::Error => {
                self.shared.metrics.unanswered.fetch_add(1, Ordering::Relaxed);
                Ok(failure.reply())
            }
        }
    }

    fn reply(&self, by: AnsweredBy, verdict: Verdict, model_failure: Option<String>) -> Reply {
        let Self { shared, prompt, .. } = self;
        shared.metrics.classified(by);
        let model = shared.config.engine_model();
        let failure = model_failure.as_deref().and_then(in_header);
        let text = render(verdict.tier, &verdict.reasoning, model, prompt.usage, prompt.stream);
        shared.decisions.record(self.decision(by, verdict, model_failure));
        let mut reply = reply(text, prompt.stream);
        reply
            .headers_mut()
            .insert(ANSWERED_BY, HeaderValue::from_static(by.as_str()));
        if let Some(failure) = failure {
            reply.headers_mut().insert(MODEL_FAILURE, failure);
        }
        reply
    }

    /// The client itself derives a model name from the tier, so the decision names the alias.
    fn decision(&self, by: AnsweredBy, verdict: Verdict, model_failure: Option<String>) -> DecisionRecord {
        let source = match by {
            AnsweredBy::Builtin => Source::BuiltinClassifier,
            AnsweredBy::Model | AnsweredBy::Cache => Source::GemmaClassifier,
        };
        DecisionRecord {
            tier: Some(verdict.tier),
            latency_ms: u64::try_from(self.prompt.arrived.elapsed().as_millis()).unwrap_or(u64::MAX),
            answered_by: Some(by),
            reasoning: verdict.reasoning,
            probability: verdict.probability,
            model_failure,
            request: self.shared.config.log_requests.then(|| self.request.to_owned()),
            ..DecisionRecord::new(source, verdict.tier.as_str())
        }
    }
}
