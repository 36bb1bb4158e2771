//! The gateway's configuration.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use url::Url;

use super::access::Access;
use super::health::Health;
use crate::net::Network;
use crate::router::classify::builtin::Threshold;
use crate::router::consent::Consent;
use crate::router::walk::OnFallback;
use crate::router::{ClassifierChoice, Models};
use crate::runtime::{Instance, ModelGate};

/// Google's Gemini API.
pub const DEFAULT_UPSTREAM: &str = "https://generativelanguage.googleapis.com";

/// The reply to a classification request if the model gives no usable answer in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnClassifierFailure {
    /// The built-in classifier's answer.
    #[default]
    Builtin,
    /// An error, so that the client can act as it does without a local model.
    Error,
}

/// The part of a classification request that is sent to the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClassifierPrompt {
    /// The turns without the client's additions, because a model on a processor needs seconds to read a directory tree.
    #[default]
    Slim,
    /// The whole request.
    AsSent,
}

/// The server for requests that are not for the local model.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Scheme, host, port, and a path that is put before the request's own.
    pub url: Url,
    /// The network through which the server is reached.
    pub network: Network,
}

/// The gateway's limits of size, number and time.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The number of client connections, if the limit of descriptors allows it. A further connection replaces an idle
    /// one or one with a slow client, or else is refused.
    pub connections: usize,
    /// The size of a request's head, in bytes.
    pub head_size: usize,
    /// The number of a request's header fields.
    pub headers: usize,
    /// The size of a request body for the local model, in bytes.
    pub local_body: usize,
    /// The size of a request body if the router chooses the model, in bytes.
    pub routed_body: usize,
    /// The memory for all bodies larger than 64 KiB that are read as a whole, in bytes.
    pub bodies: usize,
    /// The time in which a client must take at least 64 KiB of its reply; otherwise it is cut off.
    pub read_time: Duration,
    /// The time in which a request's head must arrive after the last reply; accurate to half a second.
    pub head_time: Duration,
    /// The time in which a body that is read as a whole must arrive: the request to the local model or to a routed
    /// model. Also the longest pause in a request body that streams through, and a limit to the time in which a routed
    /// model's error must arrive.
    pub body_time: Duration,
    /// The longest pause in a reply that streams through: a hosted model may think for a while before it continues. Also
    /// how long a person may take to answer a question.
    pub stream_idle: Duration,
    /// The number of requests that may wait for the engine.
    pub engine_queue: usize,
    /// The number of requests that the engine gets at a time.
    pub engine_concurrency: usize,
    /// The time for a prompt that is not a classification request, including the wait. Also the time that the engine
    /// may continue to work for a client that has left.
    pub prompt_time: Duration,
    /// The number of model answers that are remembered.
    pub cached_answers: usize,
    /// The time to connect to the upstream.
    pub connect_time: Duration,
    /// How long the gateway still accepts connections after a shutdown request while it reports not ready, so that load
    /// balancers notice.
    pub drain_delay: Duration,
    /// How long open requests may continue after that.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            head_size: 64 * 1024,
            headers: 100,
            local_body: 20 * 1024 * 1024,
            routed_body: 128 * 1024 * 1024,
            bodies: 192 * 1024 * 1024,
            read_time: Duration::from_secs(30),
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(30),
            stream_idle: Duration::from_secs(600),
            engine_queue: 64,
            engine_concurrency: 1,
            prompt_time: Duration::from_secs(300),
            cached_answers: 1024,
            connect_time: Duration::from_secs(10),
            drain_delay: Duration::ZERO,
            grace: Duration::from_secs(5),
        }
    }
}

/// How calls for hosted models are routed.
#[derive(Clone)]
pub struct ChainRouter {
    /// The models with their families and chains.
    pub models: Arc<Models>,
    /// The health of the models, for each client.
    pub health: Arc<Health>,
    /// The classifier.
    pub classifier: ClassifierChoice,
    /// Whether another model may be asked when one fails.
    pub on_fallback: OnFallback,
    /// Whom to ask if consent is needed and the client has given none.
    pub consent: Arc<dyn Consent>,
    /// The longest total wait of one request.
    pub max_wait: Duration,
}

/// Descriptors reserved for other things than connections: files, the engine, its output and its successor.
const RESERVED_DESCRIPTORS: usize = 48;
/// The number of connections beyond the limit that may wait for room or for their refusal.
const SURPLUS: usize = 64;

/// The number of connections that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    pub(super) connections: usize,
    /// Further connections, beyond the limit.
    pub(super) surplus: usize,
}

impl Limits {
    /// The number of descriptors that these limits need. A client connection may need a second one, to the upstream.
    pub(super) const fn descriptors(&self) -> usize {
        RESERVED_DESCRIPTORS + SURPLUS + 2 * self.connections
    }

    /// The capacity if only `descriptors` are available.
    pub(super) fn capacity(&self, descriptors: usize) -> Capacity {
        let spare = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
        let surplus = SURPLUS.min(spare / 8).max(1);
        Capacity {
            connections: self.connections.min(spare.saturating_sub(surplus) / 2).max(1),
            surplus,
        }
    }
}

/// The gateway's settings.
#[derive(Clone)]
pub struct Config {
    /// The public port; 0 selects a free one.
    pub port: u16,
    /// The addresses to listen on.
    pub listen: Vec<IpAddr>,
    /// The number of threads that serve connections. With none, [`Gateway::run`](super::Gateway::run) serves them
    /// itself.
    pub threads: usize,
    /// Whether addresses and `Host` names other than loopback are allowed.
    pub allow_remote: bool,
    /// Who may use the gateway.
    pub access: Access,
    /// The name of the runtime, for `/status`.
    pub runtime: String,
    /// The names of the local model, beginning with the one that the engine knows.
    pub local_models: Vec<String>,
    /// The time in which a classification request is answered, including the wait.
    pub classifier_deadline: Duration,
    /// The reply when the model's answer is unusable, late or missing.
    pub on_classifier_failure: OnClassifierFailure,
    /// The part of a classification request that is sent to the model.
    pub classifier_prompt: ClassifierPrompt,
    /// The model is not asked if the built-in classifier is at least this sure (0.5 to 1).
    pub fast_path: Option<f64>,
    /// The built-in classifier chooses the powerful model from this probability on.
    pub threshold: Threshold,
    /// The server for requests that are not for the local model.
    pub upstream: Upstream,
    /// Chooses the model of calls for hosted models. Without a router, each call goes to the model that it names.
    pub router: Option<Arc<ChainRouter>>,
    /// Closed while no request may be sent to the engine; `None` if the engine needs no gate.
    pub gate: Option<Arc<ModelGate>>,
    /// The server's identity, with the token that may stop it. Without it no client can stop the server.
    pub instance: Option<Instance>,
    /// Notified when an authorised client asks the server to stop.
    pub asked_to_end: Arc<Notify>,
    /// Whether the text of requests is written to the decision log.
    pub log_requests: bool,
    /// The decision log.
    pub decisions: PathBuf,
    /// The gateway's limits of size, number and time.
    pub limits: Limits,
}

impl Config {
    /// The default configuration (docs/contract.md section 4) for `local_model`, named as the engine knows it.
    #[must_use]
    pub fn new(port: u16, local_model: impl Into<String>, upstream: Upstream, decisions: impl Into<PathBuf>) -> Self {
        Self {
            port,
            listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            threads: 0,
            allow_remote: false,
            access: Access::default(),
            runtime: "lit".to_owned(),
            local_models: vec![local_model.into()],
            classifier_deadline: Duration::from_secs(8),
            on_classifier_failure: OnClassifierFailure::Builtin,
            classifier_prompt: ClassifierPrompt::default(),
            fast_path: None,
            threshold: Threshold::default(),
            upstream,
            router: None,
            gate: None,
            instance: None,
            asked_to_end: Arc::default(),
            log_requests: false,
            decisions: decisions.into(),
            limits: Limits::default(),
        }
    }

    /// Whether only programs of this machine, and all of them, use the gateway. Others must not learn its paths without a
    /// token.
    pub(super) fn is_private(&self) -> bool {
        !self.allow_remote && self.access.tokens.is_none() && self.access.proxies.is_empty()
    }

    /// The name by which the engine knows the model.
    #[must_use]
    pub fn engine_model(&self) -> &str {
        self.local_models.first().map_or("", String::as_str)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("port", &self.port)
            .field("listen", &self.listen)
            .field("runtime", &self.runtime)
            .field("local_models", &self.local_models)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_the_limit_of_descriptors() {
        let limits = Limits::default();
        for (descriptors, connections, surplus) in
            [(0, 1, 1), (64, 7, 2), (256, 91, 26), (1024, 456, 64), (4096, 512, 64)]
        {
            let capacity = Capacity { connections, surplus };
            assert_eq!(limits.capacity(descriptors), capacity, "{descriptors}");
        }
        assert_eq!(limits.capacity(limits.descriptors()).connections, limits.connections);
    }
}
