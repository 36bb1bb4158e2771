//! From a request to the face that answers it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::{Method, Request, Uri};

use super::cache::Answers;
use super::config::Config;
use super::engine::Engine;
use super::face::{local, upstream};
use super::metrics::{Face, Measure, Metrics};
use super::path::{Target, target};
use super::reply::{Fault, Reply};
use super::upstream::UpstreamClient;
use super::{admin, guard};
use crate::router::DecisionLog;

/// What all requests share.
pub(super) struct Shared {
    pub(super) config: Config,
    /// `None` where the runtime has no model.
    pub(super) engine: Option<Arc<Engine>>,
    pub(super) answers: Answers,
    pub(super) upstream: UpstreamClient,
    pub(super) metrics: Metrics,
    pub(super) decisions: DecisionLog,
    pub(super) started: Instant,
    pub(super) port: u16,
    /// The engine's paths.
    pub(super) generate_path: Uri,
    pub(super) stream_path: Uri,
}

impl Shared {
    /// Requests that wait for the engine.
    pub(super) fn waiting(&self) -> usize {
        self.engine.as_ref().map_or(0, |engine| engine.waiting())
    }

    pub(super) fn count_retry(&self) {
        self.metrics.engine_retries.fetch_add(1, Ordering::Relaxed);
    }

    fn is_local(&self, model: &str) -> bool {
        self.config.local_models.iter().any(|local| local == model)
    }
}

/// Answers one request.
pub(super) async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Reply {
    let mut measure = shared.metrics.begin(Face::Refused);
    let reply = dispatch(shared, request, &mut measure)
        .await
        .unwrap_or_else(|fault| fault.reply());
    measure.end(reply.status());
    reply
}

async fn dispatch(shared: &Arc<Shared>, request: Request<Incoming>, measure: &mut Measure<'_>) -> Result<Reply, Fault> {
    guard::check(&request, shared.config.allow_remote)?;
    let uri = request.uri().clone();
    match target(uri.path()) {
        Target::Nothing => Err(Fault::NotFound(uri.path().to_owned())),
        Target::Api => {
            measure.set_face(Face::Upstream);
            upstream::pass(shared, request).await
        }
        Target::Model { model, method } if shared.is_local(&model) => {
            measure.set_face(Face::Local);
            only_post(request.method())?;
            local::serve(shared, &method, request, measure).await
        }
        Target::Model { model, method } => {
            measure.set_face(Face::Upstream);
            upstream::call(shared, &model, &method, request).await
        }
        Target::Shutdown => {
            measure.set_face(Face::Admin);
            only_post(request.method())?;
            admin::shut_down(shared, request.headers())
        }
        admin => {
            measure.set_face(Face::Admin);
            admin::serve(shared, &admin, request.method())
        }
    }
}

fn only_post(method: &Method) -> Result<(), Fault> {
    if method == Method::POST {
        return Ok(());
    }
    Err(Fault::MethodNotAllowed {
        method: method.to_string(),
        allow: "POST",
    })
}
