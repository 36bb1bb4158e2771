//! The local face: prompts for the local model.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use tokio::time::Instant;

use super::prompt::{Prompt, reply, within};
use super::{classifier, local_stream};
use crate::gateway::body::{self, ClientBody};
use crate::gateway::classification::{is_classification, may_be_classification, plain_answer, written};
use crate::gateway::coding;
use crate::gateway::config::ClassifierPrompt;
use crate::gateway::deadline::patience;
use crate::gateway::engine::{ATTEMPTS, Engine};
use crate::gateway::fault::Fault;
use crate::gateway::generate::GenerateRequest;
use crate::gateway::metrics::{Face, Measure};
use crate::gateway::path::stream_format;
use crate::gateway::reply::Reply;
use crate::gateway::shared::Shared;
use crate::gateway::tokens::{Meter, Usage};
use crate::router::Conversation;
use crate::router::contents::repaired;

/// The answer to prompts from a runtime without a model.
const CLASSIFIES_ONLY: &str = "No local model is installed here: this endpoint only classifies requests for model routing. \
    Run `gem-setup install` with a runtime that has a model to get answers from it.";

/// Answers a call of `method` for the local model.
pub(in crate::gateway) async fn serve(
    shared: &Arc<Shared>,
    method: &str,
    request: Request<ClientBody>,
    measure: &mut Measure,
) -> Result<Reply, Fault> {
    let stream = match method {
        "generateContent" => None,
        "streamGenerateContent" => Some(stream_format(request.uri().query())),
        other => return Err(Fault::Unsupported(other.to_owned())),
    };
    let arrived = Instant::now();
    let patience = patience(request.headers());
    let received = received(shared, request, patience).await?;
    let may_be_known = shared.engine.is_some() && may_be_classification(&received);
    let sent = may_be_known.then(|| shared.local_model.key(&received));
    if let Some(reply) = sent.and_then(|sent| classifier::repeated(shared, sent, stream, arrived)) {
        measure.set_face(Face::Classifier);
        return Ok(reply);
    }
    let read = Read::of(&valid(shared, received)?, shared)?;
    let prompt = Prompt {
        engine_body: read.engine_body,
        usage: read.usage,
        stream,
        arrived,
        patience,
    };
    if let Some(conversation) = read.classified {
        measure.set_face(Face::Classifier);
        return classifier::answer(shared, &prompt, sent, conversation).await;
    }
    let Some(engine) = &shared.engine else {
        let answer = plain_answer(CLASSIFIES_ONLY, shared.config.engine_model(), prompt.usage);
        return Ok(reply(written(answer, stream), stream));
    };
    let meter = Meter::new(prompt.usage, read.longest);
    match stream {
        None => whole_answer(shared, engine, &prompt, meter).await,
        Some(format) => local_stream::answer(shared, engine, &prompt, format, meter).await,
    }
}

/// The parts of a request's body that are used. While the prompt waits for the engine, nothing else is needed.
struct Read {
    engine_body: Bytes,
    usage: Usage,
    /// The maximum number of tokens of the answer.
    longest: Option<u32>,
    /// The conversation that a classification request asks about.
    classified: Option<Conversation>,
}

impl Read {
    fn of(body: &Bytes, shared: &Shared) -> Result<Self, Fault> {
        let request = GenerateRequest::parse(body)?;
        let question = is_classification(&request).then(|| request.question());
        let slim = question
            .as_ref()
            .filter(|_| shared.config.classifier_prompt == ClassifierPrompt::Slim);
        let engine_body = request.engine_body(body, slim)?;
        let is_as_sent = engine_body.as_ptr() == body.as_ptr();
        Ok(Self {
            engine_body: if is_as_sent {
                engine_body
            } else {
                body::held(engine_body, &shared.bodies)?
            },
            usage: request.usage(),
            longest: request.max_output_tokens(),
            classified: question.map(|question| question.conversation),
        })
    }
}

/// The request's body, decoded.
async fn received(shared: &Shared, request: Request<ClientBody>, patience: Option<Duration>) -> Result<Bytes, Fault> {
    let limits = &shared.config.limits;
    let time = within(limits.body_time, patience);
    let (parts, body) = request.into_parts();
    let received = body::read(body, limits.local_body, time, &shared.bodies).await?;
    coding::plain(&parts.headers, &received, limits.local_body, &shared.bodies).await
}

/// The JSON in the body `received`, repaired.
fn valid(shared: &Shared, received: Bytes) -> Result<Bytes, Fault> {
    match repaired(&received) {
        Cow::Borrowed(valid) => Ok(received.slice_ref(valid)),
        Cow::Owned(valid) => body::held(valid.into(), &shared.bodies),
    }
}

async fn whole_answer(
    shared: &Shared,
    engine: &Arc<Engine>,
    prompt: &Prompt,
    mut meter: Meter,
) -> Result<Reply, Fault> {
    let deadline = prompt.deadline(shared.config.limits.prompt_time);
    let mut attempt = 1;
    loop {
        let exchange = engine
            .open(&shared.generate_path, &prompt.engine_body, deadline)
            .await?;
        match exchange.answer(deadline).await {
            Ok(answer) => {
                return Ok(reply(meter.count(answer).answer, None));
            }
            Err(Fault::BadEngine(_)) if attempt < ATTEMPTS => shared.metrics.count_retry(),
            Err(fault) => return Err(fault),
        }
        attempt += 1;
    }
}
