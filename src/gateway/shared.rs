//! The state that all requests share.

use std::sync::Arc;
use std::time::Instant;

use hyper::Uri;

use super::body::Budget;
use super::config::Config;
use super::consent::Consents;
use super::engine::Engine;
use super::local_model::LocalModel;
use super::metrics::Metrics;
use super::routing::Routes;
use super::upstream::UpstreamClient;
use crate::router::DecisionLog;

/// What all requests share.
pub(super) struct Shared {
    pub(super) config: Config,
    /// `None` where the runtime has no model.
    pub(super) engine: Option<Arc<Engine>>,
    pub(super) local_model: Arc<LocalModel>,
    pub(super) upstream: UpstreamClient,
    /// Decides about hosted models; without it each call goes to the model that it names.
    pub(super) routes: Option<Routes>,
    pub(super) consents: Consents,
    /// The memory for bodies that are read whole.
    pub(super) bodies: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
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

    /// Whether `model` is a name of the local model.
    pub(super) fn is_local(&self, model: &str) -> bool {
        self.config.local_models.iter().any(|local| local == model)
    }
}
