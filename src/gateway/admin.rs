//! Health, readiness, metrics, status, and the request to end.

use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use serde::Serialize;

use super::fault::Fault;
use super::metrics::MetricsSnapshot;
use super::path::Target;
use super::reply::{Reply, json, whole};
use super::shared::Shared;
use crate::runtime::{EngineState, Instance};

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `GET /status` says: the fields of `status --json` (docs/contract.md section 2) and some of the gateway's own.
#[derive(Debug, Serialize)]
struct Status<'a> {
    running: bool,
    ready: bool,
    pid: u32,
    port: u16,
    runtime: &'a str,
    model: &'a str,
    child: Option<Child>,
    uptime_s: u64,
    version: &'static str,
    upstream: &'a str,
    waiting: usize,
    instance: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Child {
    pid: Option<u32>,
    port: Option<u16>,
    state: EngineState,
    restarts: u64,
    last_exit: Option<String>,
    blocked: Option<String>,
}

/// Answers `target`, one of the four.
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

/// Ends the server for a client that can read its server file: the way to stop it from another process namespace.
pub(super) fn shut_down(shared: &Shared, headers: &HeaderMap) -> Result<Reply, Fault> {
    let instance = shared.config.instance.as_ref();
    if !instance.is_some_and(|instance| instance.authorizes(headers)) {
        return Err(Fault::Forbidden(
            "only the owner of this server may end it; use `gem-setup stop`".to_owned(),
        ));
    }
    shared.config.asked_to_end.notify_one();
    Ok(whole(StatusCode::ACCEPTED, TEXT, "stopping\n"))
}

fn ready(shared: &Shared) -> Reply {
    let Some(engine) = shared.engine.as_ref().map(|engine| engine.status()) else {
        return whole(StatusCode::OK, TEXT, "ready\n");
    };
    let text = match (engine.state, engine.blocked) {
        (EngineState::Ready, _) => return whole(StatusCode::OK, TEXT, "ready\n"),
        (state, Some(missing)) => format!("{state}: {missing}\n"),
        (state, None) => format!("{state}\n"),
    };
    whole(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}

fn metrics(shared: &Shared) -> Reply {
    let text = shared.metrics.render(&MetricsSnapshot {
        engine: shared.engine.as_ref().map(|engine| engine.status()),
        waiting: shared.waiting(),
        lost_decisions: shared.decisions.lost(),
    });
    whole(StatusCode::OK, PROMETHEUS, text)
}

fn status(shared: &Shared) -> Reply {
    let engine = shared.engine.as_ref().map(|engine| engine.status());
    let status = Status {
        running: true,
        ready: engine.as_ref().is_none_or(|engine| engine.state == EngineState::Ready),
        pid: std::process::id(),
        port: shared.port,
        runtime: &shared.config.runtime,
        model: shared.config.engine_model(),
        child: engine.map(|engine| Child {
            pid: engine.pid,
            port: engine.endpoint.map(|endpoint| endpoint.port()),
            state: engine.state,
            restarts: engine.restarts,
            last_exit: engine.last_exit,
            blocked: engine.blocked,
        }),
        uptime_s: shared.started.elapsed().as_secs(),
        version: env!("CARGO_PKG_VERSION"),
        upstream: shared.upstream.host(),
        waiting: shared.waiting(),
        instance: shared.config.instance.as_ref().map(Instance::id),
    };
    match serde_json::to_string(&status) {
        Ok(text) => json(StatusCode::OK, text),
        Err(error) => Fault::Engine(error.to_string()).reply(),
    }
}
