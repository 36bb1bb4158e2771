//! The gateway's configuration.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use url::Url;

use super::access::Access;
use crate::net::Network;
use crate::router::classify::builtin::Threshold;
use crate::router::consent::Consent;
use crate::router::walk::OnFallback;
use crate::router::{ClassifierChoice, ModelAvailability, Models};
use crate::runtime::{Instance, ModelGate};

/// Google's Gemini API.
pub const DEFAULT_UPSTREAM: &str = "https://generativelanguage.googleapis.com";

/// The reply to a classification request when the model gives no usable answer in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnClassifierFailure {
    /// The built-in classifier's answer.
    #[default]
    Builtin,
    /// An error, so that the client can act as it does without a local model.
    Error,
}

/// The part of a classification request that the model gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClassifierPrompt {
    /// The turns without the client's additions: a model on a processor reads a folder tree for seconds.
    #[default]
    Slim,
    /// All that the client sent.
    AsSent,
}

/// Where requests for other models go.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Scheme, host, port, and a path that goes before the request's own.
    pub url: Url,
    /// The network that it is reached over.
    pub network: Network,
}

/// Sizes, counts and times beyond which the gateway refuses.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Client connections, where the limit of descriptors allows. A further one makes room by ending an idle connection or one with
    /// a slow client, or else is refused.
    pub connections: usize,
    /// A request's head, in bytes.
    pub head_size: usize,
    /// A request's header fields.
    pub headers: usize,
    /// The body of a request to the local model, in bytes.
    pub local_body: usize,
    /// The body of a request whose model has to be decided upon, in bytes.
    pub routed_body: usize,
    /// Memory for bodies larger than 64 KiB that are read whole, of all requests together, in bytes.
    pub bodies: usize,
    /// A client that takes less than 64 KiB of its reply within this time is cut off.
    pub read_time: Duration,
    /// Within this time after the last reply a request's head must have come; half a second more or less.
    pub head_time: Duration,
    /// Within this time a body that is read whole must have come: of a request to the local model or to a model that has to be
    /// decided upon, and of an upstream's error. In a request's body that streams through, no pause may be longer.
    pub body_time: Duration,
    /// In a reply that streams through, no pause may be longer: a hosted model may think for a while before its next words.
    pub stream_idle: Duration,
    /// Requests that wait for the engine.
    pub engine_queue: usize,
    /// Requests the engine is given at a time.
    pub engine_concurrency: usize,
    /// How long a prompt that is no classification request may take, waiting included; also how long the engine may
    /// work on for a client that has left.
    pub prompt_time: Duration,
    /// Model answers that are remembered.
    pub cached_answers: usize,
    /// How long connecting to the upstream may take.
    pub connect_time: Duration,
    /// For this time after the request to shut down the gateway still accepts connections, but reports that it is not
    /// ready: load balancers need the time to notice.
    pub drain_delay: Duration,
    /// The time that open requests have after that.
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
    /// The models, their families and chains.
    pub models: Arc<Models>,
    /// The models' health.
    pub availability: Arc<ModelAvailability>,
    /// The classifier.
    pub classifier: ClassifierChoice,
    /// Whether another model may be asked when one fails.
    pub on_fallback: OnFallback,
    /// The person to ask where consent is needed and the client gives none.
    pub consent: Arc<dyn Consent>,
    /// The longest that one request waits in all.
    pub max_wait: Duration,
}

/// Descriptors that are not for connections: files, the engine, its output and its successor.
const RESERVED_DESCRIPTORS: usize = 48;
/// Most connections beyond the limit, which wait for room or their refusal.
const SURPLUS: usize = 64;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    pub(super) connections: usize,
    /// Beyond these.
    pub(super) surplus: usize,
}

impl Limits {
    /// The descriptors that the limits need: a connection may need a second one to the upstream.
    pub(super) const fn descriptors(&self) -> usize {
        RESERVED_DESCRIPTORS + SURPLUS + 2 * self.connections
    }

    /// The capacity within a limit of `descriptors`.
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
    /// The public port; 0 takes a free one.
    pub port: u16,
    /// The addresses to listen on.
    pub listen: Vec<IpAddr>,
    /// Threads that serve connections; without any they are served where [`Gateway::run`](super::Gateway::run) is.
    pub threads: usize,
    /// Whether addresses and `Host` names other than loopback are allowed.
    pub allow_remote: bool,
    /// Who may use the gateway.
    pub access: Access,
    /// The name of the runtime, for `/status`.
    pub runtime: String,
    /// Names of the local model; the first is the one the engine knows.
    pub local_models: Vec<String>,
    /// Within this time a classification request is answered, waiting included.
    pub classifier_deadline: Duration,
    /// The reply when the model's answer is unusable, late or missing.
    pub on_classifier_failure: OnClassifierFailure,
    /// The part of a classification request that the model gets.
    pub classifier_prompt: ClassifierPrompt,
    /// When the built-in classifier is at least this sure, from 0.5 to 1, the model is not asked.
    pub fast_path: Option<f64>,
    /// The probability from which on the built-in classifier chooses the powerful model.
    pub threshold: Threshold,
    /// Where requests for other models go.
    pub upstream: Upstream,
    /// Decides about models other than the local one; without it each call goes to the model that it names.
    pub router: Option<Arc<ChainRouter>>,
    /// Closed while nothing may be sent to the engine; `None` if the engine needs no gate.
    pub gate: Option<Arc<ModelGate>>,
    /// The server's identity, with the token that stops it; without it no client can stop the server.
    pub instance: Option<Instance>,
    /// Notified when an authorised client asks the server to stop.
    pub asked_to_end: Arc<Notify>,
    /// Whether the text of requests is written to the decision log.
    pub log_requests: bool,
    /// The decision log.
    pub decisions: PathBuf,
    /// Sizes, counts and times.
    pub limits: Limits,
}

impl Config {
    /// The settings of docs/contract.md section 4 for `local_model`, the engine's own name of it.
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

    /// Where this machine itself reaches the gateway.
    #[must_use]
    pub fn reachable_at(&self) -> SocketAddr {
        let ip = match self.listen.first() {
            Some(IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            Some(ip) if !ip.is_unspecified() => *ip,
            _ => Ipv4Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, self.port)
    }

    /// The model's name as the engine knows it.
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

    #[test]
    fn the_gateway_is_reached_where_it_listens() {
        let upstream = Upstream {
            url: "http://127.0.0.1:9".parse().unwrap(),
            network: Network::default(),
        };
        let mut config = Config::new(9379, "model", upstream, "decisions.jsonl");
        assert_eq!(config.reachable_at().to_string(), "127.0.0.1:9379");
        for (listen, reachable) in [
            ("::1", "[::1]:9379"),
            ("127.0.0.2", "127.0.0.2:9379"),
            ("192.0.2.7", "192.0.2.7:9379"),
            ("0.0.0.0", "127.0.0.1:9379"),
            ("::", "[::1]:9379"),
        ] {
            config.listen = vec![listen.parse().unwrap()];
            assert_eq!(config.reachable_at().to_string(), reachable);
        }
    }
}
