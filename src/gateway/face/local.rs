//! The local face: prompts for the local model.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use tokio::time::Instant;

use super::{classifier, local_stream};
use crate::gateway::body;
use crate::gateway::classification::{is_classification, plain_answer, written};
use crate::gateway::config::ClassifierPrompt;
use crate::gateway::engine::{Engine, Refusal, Trouble};
use crate::gateway::generate::GenerateRequest;
use crate::gateway::metrics::{Face, Measure};
use crate::gateway::path::{StreamFormat, stream_format};
use crate::gateway::reply::{Fault, Reply, json, whole};
use crate::gateway::service::Shared;
use crate::gateway::tokens::{Meter, Usage};
use crate::router::contents::repaired;

/// How often a prompt is sent to an engine that breaks off before the client got anything.
pub(super) const ATTEMPTS: u32 = 2;

/// What a runtime without an engine says to prompts.
const CLASSIFIES_ONLY: &str = "No local model is installed here: this endpoint only classifies requests for model routing. \
    Run `gem-setup install` with a runtime that has a model to get answers from it.";

/// The time a Google SDK allows the server, in seconds.
const SERVER_TIMEOUT: &str = "x-server-timeout";

/// One prompt.
pub(super) struct Prompt {
    /// The request's body as the engine gets it.
    pub(super) engine_body: Bytes,
    pub(super) usage: Usage,
    pub(super) stream: Option<StreamFormat>,
    pub(super) arrived: Instant,
    /// The client's own deadline.
    pub(super) patience: Option<Duration>,
    /// Asked by this process's own router.
    pub(super) is_own: bool,
}

impl Prompt {
    /// When the client must have an answer that may take `usual`.
    pub(super) fn deadline(&self, usual: Duration) -> Instant {
        self.arrived + self.time(usual)
    }

    /// How long an answer that may take `usual` may take for this client.
    pub(super) fn time(&self, usual: Duration) -> Duration {
        self.patience.map_or(usual, |patience| patience.min(usual))
    }
}

/// Answers a call of `method` of the local model.
pub(in crate::gateway) async fn serve(
    shared: &Arc<Shared>,
    method: &str,
    request: Request<Incoming>,
    measure: &mut Measure<'_>,
) -> Result<Reply, Fault> {
    let stream = match method {
        "generateContent" => None,
        "streamGenerateContent" => Some(stream_format(request.uri().query())),
        other => return Err(Fault::Unsupported(other.to_owned())),
    };
    let arrived = Instant::now();
    let patience = server_timeout(request.headers());
    let own_call = shared.config.own_call.as_ref();
    let is_own = own_call.is_some_and(|own_call| own_call.is_in(request.headers()));
    let limits = &shared.config.limits;
    let body = body::read(request.into_body(), limits.local_body, limits.body_time).await?;
    let body = match repaired(&body) {
        Cow::Borrowed(valid) => body.slice_ref(valid),
        Cow::Owned(valid) => valid.into(),
    };
    let request = GenerateRequest::parse(&body)?;
    let question = is_classification(&request).then(|| request.question());
    let slim = question
        .as_ref()
        .filter(|_| shared.config.classifier_prompt == ClassifierPrompt::Slim);
    let prompt = Prompt {
        engine_body: request.engine_body(&body, slim)?,
        usage: request.usage(),
        stream,
        arrived,
        patience,
        is_own,
    };
    if let Some(question) = question {
        measure.set_face(Face::Classifier);
        return classifier::answer(shared, &prompt, question.conversation).await;
    }
    let Some(engine) = &shared.engine else {
        let answer = plain_answer(CLASSIFIES_ONLY, shared.config.engine_model(), prompt.usage);
        return Ok(reply(written(answer, stream), stream));
    };
    let meter = Meter::new(prompt.usage, request.max_output_tokens());
    match stream {
        None => whole_answer(shared, engine, &prompt, meter).await,
        Some(format) => local_stream::answer(shared, engine, &prompt, format, meter).await,
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
            Err(Trouble::Broken(_)) if attempt < ATTEMPTS => shared.count_retry(),
            Err(trouble) => return refused(trouble),
        }
        attempt += 1;
    }
}

/// What the client is told when there is no answer.
pub(super) fn refused(trouble: Trouble) -> Result<Reply, Fault> {
    match trouble {
        Trouble::Broken(reason) => Err(Fault::BadEngine(reason)),
        Trouble::Late => Err(Fault::Deadline),
        Trouble::Refused(Refusal::Fault(fault)) => Err(fault),
        Trouble::Refused(Refusal::Object(status, object)) => Ok(json(status, object)),
    }
}

/// A successful reply of answers that are all there.
pub(super) fn reply(text: Bytes, stream: Option<StreamFormat>) -> Reply {
    match stream {
        Some(StreamFormat::Events) => whole(StatusCode::OK, "text/event-stream", text),
        Some(StreamFormat::Array) | None => json(StatusCode::OK, text),
    }
}

/// How long the client waits for an answer, if it says so.
pub(super) fn server_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(SERVER_TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}
