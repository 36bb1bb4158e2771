//! The upstream face: everything that is not for the local model, passed on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, Uri};
use jiff::Timestamp;

use crate::gateway::body::{self, Idle, Outgoing, ReplyBody};
use crate::gateway::coding;
use crate::gateway::reply::{Fault, Reply};
use crate::gateway::router::{Call, Failed, Handling, Next, Route};
use crate::gateway::service::Shared;
use crate::gateway::upstream::SendFailure;
use crate::router::{DecisionRecord, Source};

const MODEL: HeaderName = HeaderName::from_static("x-gem-model");
const SOURCE: HeaderName = HeaderName::from_static("x-gem-source");
const LATENCY: HeaderName = HeaderName::from_static("x-gem-latency-ms");
const FALLBACK: HeaderName = HeaderName::from_static("x-gem-fallback");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-gem-attempts");

/// The beginning of an error that a route gets to see, in bytes, both as it comes and inflated.
const ERROR_BODY: usize = 1024 * 1024;

/// Passes a request on as it is.
pub(in crate::gateway) async fn pass(shared: &Shared, request: Request<Incoming>) -> Result<Reply, Fault> {
    let (parts, body) = request.into_parts();
    let body = Idle::new(body, shared.config.limits.body_time);
    shared
        .upstream
        .send(parts, Outgoing::Client(body))
        .await
        .map_err(|failure| fault(shared, &failure))
}

/// Passes a call of `method` of `model` on, to the model that the router decides upon if it takes part.
pub(in crate::gateway) async fn call(
    shared: &Arc<Shared>,
    model: &str,
    method: &str,
    request: Request<Incoming>,
) -> Result<Reply, Fault> {
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    match shared.config.router.handling(model, method, length) {
        Handling::Routed => routed(shared, model, method, request).await,
        Handling::AsAsked => streamed(shared, model, request).await,
        Handling::Renamed(meant) => {
            let (parts, body) = request.into_parts();
            let parts = attempt_parts(&parts, &meant, method)?;
            streamed(shared, &meant, Request::from_parts(parts, body)).await
        }
    }
}

/// Passes a call of `model` on as it is.
async fn streamed(shared: &Shared, model: &str, request: Request<Incoming>) -> Result<Reply, Fault> {
    shared.decisions.record(DecisionRecord {
        time: Timestamp::now(),
        source: Source::Override,
        model: model.to_owned(),
        tier: None,
        latency_ms: 0,
        answered_by: None,
        reasoning: format!("the request's path asks for `{model}`").into(),
        request: None,
    });
    let mut reply = pass(shared, request).await?;
    let headers = reply.headers_mut();
    if let Ok(model) = HeaderValue::try_from(model) {
        headers.insert(MODEL, model);
    }
    headers.insert(SOURCE, HeaderValue::from_static(Source::Override.as_str()));
    headers.insert(LATENCY, HeaderValue::from_static("0"));
    Ok(reply)
}

async fn routed(shared: &Arc<Shared>, model: &str, method: &str, request: Request<Incoming>) -> Result<Reply, Fault> {
    let (mut parts, body) = request.into_parts();
    let limits = &shared.config.limits;
    let body = body::read(body, limits.routed_body, limits.body_time).await?;
    parts.headers.remove(CONTENT_LENGTH);
    coding::accept_readable(&mut parts.headers);
    let call = Call {
        model,
        method,
        headers: &parts.headers,
        body: &body,
    };
    let mut logged = Logged {
        shared,
        time: Timestamp::now(),
        route: shared.config.router.begin(call).await,
    };
    let route = logged.route.as_mut();
    let mut attempts = 1;
    loop {
        let attempt = attempt_parts(&parts, &route.choice().model, method)?;
        let (failed, reply) = attempt_one(shared, attempt, &body).await;
        let next = match &failed {
            None => {
                route.answered();
                Next::GiveUp
            }
            Some(failed) => route.failed(failed).await,
        };
        match next {
            Next::GiveUp => return label(reply, route, attempts),
            Next::Ask => attempts += 1,
        }
    }
}

/// The request's head with `model` in its path.
fn attempt_parts(parts: &Parts, model: &str, method: &str) -> Result<Parts, Fault> {
    let version = if parts.uri.path().starts_with("/v1/") {
        "/v1/models/"
    } else {
        "/v1beta/models/"
    };
    let mut path = [version, model, ":", method].concat();
    if let Some(query) = parts.uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut attempt = parts.clone();
    attempt.uri = Uri::try_from(path).map_err(|_| Fault::Invalid(format!("`{model}` cannot stand in a path")))?;
    Ok(attempt)
}

/// Asks once; a failure is told to the route, and to the client as it is if the route gives up.
async fn attempt_one(shared: &Shared, attempt: Parts, body: &Bytes) -> (Option<Failed>, Result<Reply, Fault>) {
    match shared.upstream.send(attempt, Outgoing::Whole(body.clone())).await {
        Ok(reply) if reply.status().is_client_error() || reply.status().is_server_error() => {
            let (parts, body) = reply.into_parts();
            let (begun, rest) = body::read_beginning(body, ERROR_BODY, shared.config.limits.body_time).await;
            let failed = Failed::Refused {
                status: parts.status,
                headers: parts.headers.clone(),
                body: coding::decoded(&parts.headers, &begun, ERROR_BODY),
            };
            let is_whole = rest.is_none();
            let mut reply = Response::from_parts(parts, ReplyBody::begun(begun, rest));
            if is_whole {
                // It may have been announced as longer than it came.
                reply.headers_mut().remove(CONTENT_LENGTH);
            }
            (Some(failed), Ok(reply))
        }
        Ok(reply) => (None, Ok(reply)),
        Err(failure) => {
            let fault = fault(shared, &failure);
            let failed = match failure {
                SendFailure::Unreachable(reason) => Failed::Unreachable(reason),
                SendFailure::Broken(reason) => Failed::Broken(reason),
                SendFailure::Stalled => Failed::Broken(failure.to_string()),
            };
            (Some(failed), Err(fault))
        }
    }
}

/// Says in the reply's head which model it comes from, and why.
fn label(reply: Result<Reply, Fault>, route: &dyn Route, attempts: u32) -> Result<Reply, Fault> {
    let choice = route.choice();
    let mut reply = reply.unwrap_or_else(|fault| fault.reply());
    let headers = reply.headers_mut();
    if let Ok(model) = HeaderValue::try_from(choice.model.as_str()) {
        headers.insert(MODEL, model);
    }
    headers.insert(SOURCE, HeaderValue::from_static(choice.source.as_str()));
    headers.insert(LATENCY, HeaderValue::from(milliseconds(choice.latency)));
    if let Some(Ok(end)) = route.end().map(HeaderValue::try_from) {
        headers.insert(FALLBACK, end);
    }
    if attempts > 1 {
        headers.insert(ATTEMPTS, HeaderValue::from(attempts));
    }
    Ok(reply)
}

/// A route whose decision is logged once it is over, whatever comes of it: then it is known which model was asked last.
struct Logged<'a> {
    shared: &'a Shared,
    time: Timestamp,
    route: Box<dyn Route>,
}

impl Drop for Logged<'_> {
    fn drop(&mut self) {
        let choice = self.route.choice();
        self.shared.decisions.record(DecisionRecord {
            time: self.time,
            source: choice.source,
            model: choice.model.clone(),
            tier: choice.tier,
            latency_ms: milliseconds(choice.latency),
            answered_by: choice.answered_by,
            reasoning: choice.reasoning.clone(),
            request: choice.request.clone().filter(|_| self.shared.config.log_requests),
        });
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn fault(shared: &Shared, failure: &SendFailure) -> Fault {
    match failure {
        SendFailure::Stalled => Fault::SlowBody,
        SendFailure::Unreachable(_) | SendFailure::Broken(_) => Fault::Upstream {
            host: shared.upstream.host().to_owned(),
            reason: failure.to_string(),
        },
    }
}
