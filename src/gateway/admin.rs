//! Health, readiness, metrics, status, and the owner's requests: shut down, and allow another model to answer.

use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

use super::body::{self, ClientBody};
use super::fault::Fault;
use super::path::Target;
use super::prometheus::{self, MetricsSnapshot};
use super::reply::{Reply, json, whole};
use super::shared::Shared;
use crate::router::FailedModel;
use crate::runtime::{EngineReport, EngineState, Instance};

/// The size limit of a consent, which holds two model names, in bytes.
const LARGEST_CONSENT: usize = 4096;
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The JSON of `GET /status`: the fields of `status --json` (docs/contract.md section 2) and some fields of the
/// gateway.
#[derive(Debug, Serialize)]
struct Status<'a> {
    running: bool,
    ready: bool,
    pid: u32,
    port: u16,
    runtime: &'a str,
    model: &'a str,
    child: Option<EngineReport>,
    uptime_s: u64,
    version: &'static str,
    upstream: &'a str,
    waiting: usize,
    instance: Option<&'a str>,
    failed_models: Vec<FailedModel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_until: Option<Timestamp>,
}

/// Serves `target`, one of the four read-only paths.
pub(super) fn serve(shared: &Shared, target: &Target<'_>, method: &Method) -> Result<Reply, Fault> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Fault::MethodNotAllowed {
            method: method.to_string(),
            allow: "GET, HEAD",
        });
    }
    Ok(match target {
        Target::Health => whole(StatusCode::OK, TEXT, "ok\n"),
        Target::Ready => ready(shared),
        Target::Metrics => metrics(shared),
        _ => status(shared),
    })
}

/// Ends the server for a client that can read its server file. This is how to stop a server from another process
/// namespace.
pub(super) fn shut_down(shared: &Shared, headers: &HeaderMap) -> Result<Reply, Fault> {
    only_owner(shared, headers, "end it; use `gem-setup stop`")?;
    shared.config.asked_to_end.notify_one();
    Ok(whole(StatusCode::ACCEPTED, TEXT, "stopping\n"))
}

/// Stores the consent of the server's owner, whom `route` has asked.
pub(super) async fn consent(shared: &Shared, request: Request<ClientBody>) -> Result<Reply, Fault> {
    only_owner(
        shared,
        request.headers(),
        "consent; a request consents with `x-gem-consent`",
    )?;
    let time = shared.config.limits.body_time;
    let body = body::read(request.into_body(), LARGEST_CONSENT, time, &shared.bodies).await?;
    let switch = serde_json::from_slice(&body).map_err(|error| Fault::Invalid(error.to_string()))?;
    shared.consents.owner_consents(&switch);
    Ok(whole(StatusCode::OK, TEXT, "noted\n"))
}

fn only_owner(shared: &Shared, headers: &HeaderMap, act: &str) -> Result<(), Fault> {
    let instance = shared.config.instance.as_ref();
    if instance.is_some_and(|instance| instance.authorizes(headers)) {
        return Ok(());
    }
    Err(Fault::Forbidden(format!("only the owner of this server may {act}")))
}

fn ready(shared: &Shared) -> Reply {
    if shared.is_draining() {
        return whole(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n");
    }
    let Some(engine) = shared.engine.as_ref().map(|engine| engine.status()) else {
        return whole(StatusCode::OK, TEXT, "ready\n");
    };
    let text = match (engine.state, engine.blocked) {
        (EngineState::Ready, _) => return whole(StatusCode::OK, TEXT, "ready\n"),
        (state, Some(missing)) if shared.config.is_private() => format!("{state}: {missing}\n"),
        (state, _) => format!("{state}\n"),
    };
    whole(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}

fn metrics(shared: &Shared) -> Reply {
    let text = prometheus::render(
        &shared.metrics,
        &MetricsSnapshot {
            engine: shared.engine.as_ref().map(|engine| engine.status()),
            waiting: shared.waiting(),
            access: shared.access.counts(),
            lost_decisions: shared.decisions.lost(),
            certificate_until: shared.access.certificate_until(),
        },
    );
    whole(StatusCode::OK, PROMETHEUS, text)
}

fn failed_models(shared: &Shared) -> Vec<FailedModel> {
    let router = shared.config.router.as_ref();
    router.map_or_else(Vec::new, |router| {
        FailedModel::all(router.health.of_all(), |failed| shared.consents.of_owner(failed))
    })
}

fn status(shared: &Shared) -> Reply {
    let engine = shared.engine.as_ref().map(|engine| engine.status());
    let status = Status {
        running: true,
        ready: !shared.is_draining() && engine.as_ref().is_none_or(|engine| engine.state == EngineState::Ready),
        pid: std::process::id(),
        port: shared.port,
        runtime: &shared.config.runtime,
        model: shared.config.engine_model(),
        child: engine.map(Into::into),
        uptime_s: shared.started.elapsed().as_secs(),
        version: env!("CARGO_PKG_VERSION"),
        upstream: shared.upstream.host(),
        waiting: shared.waiting(),
        instance: shared.config.instance.as_ref().map(Instance::id),
        failed_models: failed_models(shared),
        certificate_until: shared.access.certificate_until(),
    };
    match serde_json::to_string(&status) {
        Ok(text) => json(StatusCode::OK, text),
        Err(error) => Fault::Engine(error.to_string()).reply(),
    }
}
