//! One request to the upstream: its reply, and what that says about the model.

use std::borrow::Cow;
use std::time::Duration;

use hyper::Response;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, RETRY_AFTER};
use hyper::http::request::Parts;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::decision::is_error;
use crate::gateway::body::Outgoing;
use crate::gateway::coding;
use crate::gateway::deadline::{time_left, within};
use crate::gateway::fault::Fault;
use crate::gateway::reply::{Reply, ReplyBody, read_beginning};
use crate::gateway::routing::generates;
use crate::gateway::secrets::Secrets;
use crate::gateway::shared::Shared;
use crate::gateway::stream_watch::StreamWatch;
use crate::gateway::upstream::SendFailure;
use crate::router::{ErrorResponse, FailureKind, ModelFailure, Repeat};

/// How much of an error body is read and decoded to understand the failure, in bytes.
const ERROR_BODY: usize = 1024 * 1024;

/// The result of an attempt.
pub(super) enum Attempted {
    Answered,
    /// With the time that it took to read the error.
    Failed(ModelFailure, Repeat, Duration),
    /// The gateway cannot ask now, the host cannot be reached, or the client's deadline has passed. None of them says
    /// anything about the model.
    Unknown,
}

/// Asks `model` by `method`. The response is for the client unless another model is asked. An error is read for half of the time
/// until `deadline`, and half of `time`, so that the client still gets the error.
pub(super) async fn attempt_one(
    shared: &Shared,
    (model, method): (&str, &str),
    mut attempt: Parts,
    body: Outgoing,
    (deadline, time): (Option<Instant>, Duration),
) -> (Attempted, Result<Reply, Fault>) {
    let secrets = shared.upstream.secrets(&attempt);
    let log = &shared.metrics.models;
    // A model that counts tokens may still fail to generate content.
    let logged = match generates(method) {
        true => Cow::Borrowed(model),
        false => Cow::Owned(format!("{model}:{method}")),
    };
    if generates(method) {
        coding::accept_readable(&mut attempt.headers);
    }
    let sent = shared.upstream.send(attempt, body, &shared.metrics, deadline);
    match within(deadline, sent).await {
        Some(Ok(reply)) if is_error(reply.status()) => {
            // The model's failure has a line of its own in the log.
            if reply.status().is_server_error() {
                shared.metrics.upstream.count();
            }
            let (time, began) = (time_left(time, deadline).div_f32(2.0), Instant::now());
            let (failure, repeat, reply) = read_failure(reply, &secrets, time).await;
            log.failed(&logged, Some(reply.status().as_u16()), &failure.message);
            (Attempted::Failed(failure, repeat, began.elapsed()), Ok(reply))
        }
        // A redirection is no answer of the model.
        Some(Ok(reply)) if !reply.status().is_success() => (Attempted::Unknown, Ok(reply)),
        Some(Ok(mut reply)) => {
            let answers = log.has_open().then(|| Box::from(&*logged));
            let watch = StreamWatch::new(reply.headers(), model, secrets, &shared.metrics);
            reply.body_mut().set_watch(answers, watch);
            (Attempted::Answered, Ok(reply))
        }
        Some(Err(failure)) => {
            let attempted = unanswered(shared, &logged, &failure, &secrets);
            (attempted, Err(fault(shared, &failure)))
        }
        None => (Attempted::Unknown, Err(late(shared))),
    }
}

/// What a request without a response says about `model`, after it is logged.
fn unanswered(shared: &Shared, model: &str, failure: &SendFailure, secrets: &Secrets) -> Attempted {
    match failure {
        SendFailure::Path | SendFailure::Client(_) => Attempted::Unknown,
        SendFailure::Unreachable(_) => {
            shared.metrics.upstream.failed("the upstream", failure);
            Attempted::Unknown
        }
        SendFailure::Broken(_) => {
            shared.metrics.upstream.count();
            let failed = ModelFailure::new(FailureKind::Unknown, secrets.without(&failure.to_string()));
            shared.metrics.models.failed(model, None, &failed.message);
            Attempted::Failed(failed, Repeat::MayHaveActed, Duration::ZERO)
        }
    }
}

/// Reads the model's failure from an error reply, and returns the reply for the client.
async fn read_failure(reply: Reply, secrets: &Secrets, time: Duration) -> (ModelFailure, Repeat, Reply) {
    let (parts, body) = reply.into_parts();
    let (begun, rest) = read_beginning(body, ERROR_BODY, time).await;
    let status = parts.status.as_u16();
    let mut failure = ModelFailure::from_response(&ErrorResponse {
        status,
        retry_after: parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()),
        body: &coding::decoded(&parts.headers, &begun, ERROR_BODY),
        received: Timestamp::now(),
    });
    failure.message = secrets.without(&failure.message);
    let begun = secrets.lent_overwritten_in(begun);
    let is_whole = rest.is_none();
    let mut reply = Response::from_parts(parts, ReplyBody::begun(begun, rest));
    if is_whole {
        // The announced length may be longer than the part that arrived.
        reply.headers_mut().remove(CONTENT_LENGTH);
    }
    let repeat = failure.repeat(status);
    (failure, repeat, reply)
}

/// Adds `sentence` to the message of a whole error in Google's form.
pub(super) fn add_to_error(reply: &mut Reply, sentence: &str) {
    let ReplyBody::Whole(body) = reply.body() else { return };
    let decoded = coding::decoded(reply.headers(), body, ERROR_BODY);
    let Ok(mut answer) = serde_json::from_slice::<Value>(&decoded) else {
        return;
    };
    let error = if answer.is_array() {
        answer.get_mut(0)
    } else {
        Some(&mut answer)
    };
    let message = error.and_then(|error| error.get_mut("error")?.get_mut("message"));
    let Some(Value::String(message)) = message else { return };
    // Clients read JSON in a message, so that must stay as it is.
    if message.starts_with('{') {
        return;
    }
    let end = if message.ends_with(['.', '!', '?']) { "" } else { "." };
    message.push_str(&format!("{end} {sentence}"));
    let text = answer.to_string();
    *reply.body_mut() = ReplyBody::whole(text.into());
    reply.headers_mut().remove(CONTENT_ENCODING);
    reply.headers_mut().remove(CONTENT_LENGTH);
}

/// Sends a request that is not repeated.
pub(super) async fn send(
    shared: &Shared,
    parts: Parts,
    body: Outgoing,
    deadline: Option<Instant>,
) -> Result<Reply, Fault> {
    let metrics = &shared.metrics;
    let sent = within(deadline, shared.upstream.send(parts, body, metrics, deadline)).await;
    match &sent {
        Some(Ok(reply)) if reply.status().is_server_error() => {
            let failure = format!("status {}", reply.status().as_u16());
            metrics.upstream.failed("the upstream", &failure);
        }
        Some(Ok(_) | Err(SendFailure::Path | SendFailure::Client(_))) | None => {}
        Some(Err(failure)) => metrics.upstream.failed("the upstream", failure),
    }
    sent.map_or_else(
        || Err(late(shared)),
        |sent| sent.map_err(|failure| fault(shared, &failure)),
    )
}

pub(super) fn late(shared: &Shared) -> Fault {
    Fault::LateUpstream(shared.upstream.address())
}

fn fault(shared: &Shared, failure: &SendFailure) -> Fault {
    match failure {
        SendFailure::Path => Fault::Invalid(failure.to_string()),
        SendFailure::Client(fault) => fault.clone(),
        SendFailure::Unreachable(reason) => Fault::Unreachable {
            host: shared.upstream.address(),
            reason: reason.clone(),
        },
        SendFailure::Broken(reason) => Fault::Broken {
            host: shared.upstream.address(),
            reason: reason.clone(),
        },
    }
}
