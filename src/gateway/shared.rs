//! The state that all requests share.

use std::sync::Arc;
use std::time::Instant;

use hyper::Uri;
use tokio::sync::watch;

use super::access::AccessControl;
use super::body::Budget;
use super::config::{ChainRouter, Config, Limits};
use super::consent::Consents;
use super::engine::Engine;
use super::local_model::LocalModel;
use super::metrics::Metrics;
use super::routing::Routes;
use super::upstream::{UpstreamClient, UpstreamError};
use crate::router::DecisionLog;

/// The state that all requests share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) access: Arc<AccessControl>,
    /// Whether the gateway is about to close: it still answers, but is not ready.
    pub(super) draining: Arc<watch::Sender<bool>>,
    /// `None` for a runtime without a model.
    pub(super) engine: Option<Arc<Engine>>,
    pub(super) local_model: Arc<LocalModel>,
    pub(super) upstream: UpstreamClient,
    /// Chooses hosted models. Without it, each call goes to the model that it names.
    pub(super) routes: Option<Routes>,
    pub(super) consents: Arc<Consents>,
    /// The memory for bodies that are read as a whole.
    pub(super) bodies: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) decisions: DecisionLog,
    pub(super) started: Instant,
    pub(super) port: u16,
    /// The engine's path for generating content.
    pub(super) generate_path: Uri,
    pub(super) stream_path: Uri,
}

impl Shared {
    /// The same state with those settings of `config` that can change while the gateway runs: how requests are
    /// classified and routed, the upstream and how it is reached, and how long the gateway drains. Models' health,
    /// consents and connections stay.
    pub(super) fn renewed(&self, config: Config) -> Result<Self, UpstreamError> {
        let config = Config {
            router: renewed_router(config.router.as_deref(), self.config.router.as_deref()),
            classifier_deadline: config.classifier_deadline,
            on_classifier_failure: config.on_classifier_failure,
            classifier_prompt: config.classifier_prompt,
            fast_path: config.fast_path,
            threshold: config.threshold,
            upstream: config.upstream,
            limits: Limits {
                drain_delay: config.limits.drain_delay,
                grace: config.limits.grace,
                ..self.config.limits.clone()
            },
            ..self.config.clone()
        };
        let (engine, metrics) = (self.engine.clone(), Arc::clone(&self.metrics));
        let local_model = LocalModel::new(
            &config,
            engine.clone(),
            Arc::clone(&metrics),
            self.generate_path.clone(),
        );
        let local_model = Arc::new(local_model);
        Ok(Self {
            access: Arc::clone(&self.access),
            draining: Arc::clone(&self.draining),
            routes: Routes::of(&config, engine.is_some().then_some(&local_model)),
            upstream: UpstreamClient::new(&config, self.upstream.number())?,
            engine,
            local_model,
            consents: Arc::clone(&self.consents),
            bodies: Arc::clone(&self.bodies),
            metrics,
            decisions: self.decisions.clone(),
            started: self.started,
            port: self.port,
            generate_path: self.generate_path.clone(),
            stream_path: self.stream_path.clone(),
            config,
        })
    }

    /// The number of requests that wait for the engine.
    pub(super) fn waiting(&self) -> usize {
        self.engine.as_ref().map_or(0, |engine| engine.waiting())
    }

    /// Whether the gateway is about to close.
    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until the gateway is about to close.
    pub(super) async fn drains(&self) {
        // The sender lives as long as `self`.
        drop(self.draining.subscribe().wait_for(|draining| *draining).await);
    }

    /// Whether `model` is a name of the local model.
    pub(super) fn is_local(&self, model: &str) -> bool {
        self.config.local_models.iter().any(|local| local == model)
    }
}

/// The router `wanted` with the health of the models and the consents of the router `now`.
fn renewed_router(wanted: Option<&ChainRouter>, now: Option<&ChainRouter>) -> Option<Arc<ChainRouter>> {
    let (mut router, now) = (wanted?.clone(), now?);
    router.health = Arc::clone(&now.health);
    if router.on_fallback == now.on_fallback {
        router.consent = Arc::clone(&now.consent);
    } else {
        // A switch that needed no consent may need it now.
        router.health.reset();
    }
    Some(Arc::new(router))
}

#[cfg(test)]
mod tests {
    use hyper::Uri;
    use hyper::header::HeaderMap;

    use super::*;
    use crate::router::consent::TellClient;
    use crate::router::walk::OnFallback;
    use crate::router::{ClassifierChoice, Terminal, chained};

    #[test]
    fn a_switch_without_consent_ends_with_the_setting_that_allowed_it() {
        let router = |on_fallback| ChainRouter {
            models: Arc::new(chained()),
            health: Arc::default(),
            classifier: ClassifierChoice::Builtin,
            on_fallback,
            consent: Arc::new(TellClient),
            max_wait: std::time::Duration::ZERO,
        };
        let now = router(OnFallback::Silent);
        let model = "gemini-2.5-flash".parse().unwrap();
        let marked = |router: &ChainRouter| {
            let client = router.health.of(&HeaderMap::new(), &Uri::from_static("/"));
            (
                client.unavailable(&model).is_some(),
                router.health.of_all().unavailable(&model).is_some(),
            )
        };
        let client = now.health.of(&HeaderMap::new(), &Uri::from_static("/"));
        client.mark_terminal(&model, Terminal::Quota { until: None });
        for (on_fallback, is_kept) in [(OnFallback::Silent, true), (OnFallback::Policy, false)] {
            let renewed = renewed_router(Some(&router(on_fallback)), Some(&now)).unwrap();
            assert_eq!(marked(&renewed), (is_kept, is_kept), "{on_fallback:?}");
        }
    }
}
