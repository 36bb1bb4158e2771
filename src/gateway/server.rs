//! Starts and ends the gateway: addresses, the state that requests share, shutdown.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use gem_platform::Os;
use gem_platform::process::start_remedy;
use hyper::Uri;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use super::accept::Acceptor;
use super::access::{AccessControl, AccessError};
use super::body::Budget;
use super::config::Config;
use super::current::Current;
use super::engine::Engine;
use super::local_model::LocalModel;
use super::metrics::Metrics;
use super::routing::Routes;
use super::shared::Shared;
use super::upstream::{UpstreamClient, UpstreamError};
use super::workers::Workers;
use crate::error::{Explain, Kind};
use crate::net::{self, LOOPBACK_DOWN, RAISE_LOOPBACK, is_loopback_down};
use crate::router::DecisionLog;
use crate::router::classify::builtin;
use crate::runtime::{EngineActivity, EngineStatus};

/// The number of connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// The socket's send buffer, in bytes. It bounds the system's memory for a client that does not read.
const SEND_BUFFER: u32 = 256 << 10;
/// The number of attempts to find a port that is free on all addresses.
const PORT_ATTEMPTS: usize = 16;

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Another process listens on the port.
    #[error("cannot listen on `{address}`: the port is taken")]
    PortTaken {
        /// The address.
        address: SocketAddr,
    },
    /// The system refused to listen.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Other machines can reach the address.
    #[error("`{0}` is not a loopback address")]
    NotLoopback(IpAddr),
    /// No client could reach the port.
    #[error("cannot listen: {LOOPBACK_DOWN}")]
    NoLoopback,
    /// The name cannot be part of a URL.
    #[error("`{0}` cannot be the name of a model")]
    ModelName(String),
    /// The configuration names no address.
    #[error("there is no address to listen on")]
    NoAddress,
    /// The upstream's URL is not valid.
    #[error("invalid upstream: {0}")]
    Upstream(String),
    /// The upstream is the server itself.
    #[error("invalid upstream: {0}")]
    OwnUpstream(String),
    /// Proxies or certificates cannot be used.
    #[error(transparent)]
    Network(net::Error),
    /// The access rules are not valid.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The system cannot start a thread.
    #[error("cannot start the decision log's writer")]
    DecisionLog(#[source] io::Error),
    /// The system cannot start the threads.
    #[error("cannot start the threads that serve connections")]
    Threads(#[source] io::Error),
}

impl Explain for GatewayError {
    fn kind(&self) -> Kind {
        match self {
            Self::Network(error) => error.kind(),
            Self::Access(error) => error.kind(),
            Self::PortTaken { .. } => Kind::Conflict,
            Self::NotLoopback(_) | Self::ModelName(_) | Self::NoAddress | Self::Upstream(_) | Self::OwnUpstream(_) => {
                Kind::Usage
            }
            Self::Listen { .. } | Self::NoLoopback | Self::DecisionLog(_) | Self::Threads(_) => Kind::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Network(error) => error.hint(),
            Self::Access(error) => error.hint(),
            Self::PortTaken { .. } => {
                Some("stop the process that listens there, or choose another `--port`".to_owned())
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("choose another `--port`, from 1024 on".to_owned())
            }
            Self::NoLoopback => Some(RAISE_LOOPBACK.to_owned()),
            Self::NotLoopback(_) => {
                Some("pass `--allow-remote` if other machines are meant to use this gateway".to_owned())
            }
            Self::Upstream(_) => Some("pass an http or https URL with `--upstream`".to_owned()),
            Self::OwnUpstream(_) => {
                Some("name another server with `--upstream`, or leave it out for Google's Gemini API".to_owned())
            }
            Self::DecisionLog(error) | Self::Threads(error) => start_remedy(error).map(str::to_owned),
            _ => None,
        }
    }
}

impl From<UpstreamError> for GatewayError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Network(error) => Self::Network(error),
            error @ UpstreamError::Itself(_) => Self::OwnUpstream(error.to_string()),
            error @ UpstreamError::NotHttp(_) => Self::Upstream(error.to_string()),
        }
    }
}

/// The listeners of a gateway that is still to be made. Clients that connect wait for [`Gateway::run`].
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Listens on the port of `config` on all its addresses. A loopback family that the machine lacks is skipped. Must be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the port is taken, or the system refuses.
    pub fn bind(config: &Config) -> Result<Self, GatewayError> {
        listen(&config.listen, config.port).map(Self)
    }
}

/// A gateway that already listens but does not answer yet. Clients that connect wait for [`Gateway::run`].
pub struct Gateway {
    config: Config,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    decisions: DecisionLog,
    workers: Workers,
    upstream: UpstreamClient,
    access: AccessControl,
    activity: EngineActivity,
    updates: Option<watch::Receiver<Config>>,
    generate_path: Uri,
    stream_path: Uri,
}

/// Checks `config`; returns the client for the upstream and the access rules.
fn checked(config: &Config) -> Result<(UpstreamClient, AccessControl), GatewayError> {
    if let Some(open) = config.listen.iter().find(|address| !address.is_loopback())
        && !config.allow_remote
    {
        return Err(GatewayError::NotLoopback(*open));
    }
    if config.listen.iter().all(IpAddr::is_loopback) && is_loopback_down() {
        return Err(GatewayError::NoLoopback);
    }
    let access = AccessControl::new(&config.access, config.allow_remote)?;
    let number = RandomState::new().hash_one(config.port);
    Ok((UpstreamClient::new(config, number)?, access))
}

impl Gateway {
    /// Checks everything in `config` except the port.
    ///
    /// # Errors
    ///
    /// When the configuration is not valid.
    pub fn check(config: &Config) -> Result<(), GatewayError> {
        checked(config).map(drop)
    }

    /// Checks `config`, binds its port, and makes the gateway.
    ///
    /// # Errors
    ///
    /// When the configuration is not valid, the port is taken, or the system cannot start a thread.
    pub async fn bind(config: Config) -> Result<Self, GatewayError> {
        checked(&config)?;
        let listeners = Listeners::bind(&config)?;
        Self::on(listeners, config)
    }

    /// Checks `config`, and starts the threads of a gateway that answers on `listeners`.
    ///
    /// # Errors
    ///
    /// When the configuration is not valid, or the system cannot start a thread.
    pub fn on(Listeners(listeners): Listeners, config: Config) -> Result<Self, GatewayError> {
        let (upstream, access) = checked(&config)?;
        let generate_path = engine_path(&config, "generateContent")?;
        let stream_path = engine_path(&config, "streamGenerateContent?alt=sse")?;
        let decisions = DecisionLog::start(config.decisions.clone()).map_err(GatewayError::DecisionLog)?;
        let workers = Workers::start(config.threads).map_err(GatewayError::Threads)?;
        let addresses = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        Ok(Self {
            config,
            listeners,
            addresses,
            decisions,
            workers,
            upstream,
            access,
            activity: EngineActivity::default(),
            updates: None,
            generate_path,
            stream_path,
        })
    }

    /// Applies each configuration in `updates` while the gateway runs: how requests are classified and routed, and the
    /// upstream. Other fields, such as the port, keep their values.
    #[must_use]
    pub fn following(mut self, updates: watch::Receiver<Config>) -> Self {
        self.updates = Some(updates);
        self
    }

    /// The addresses on which the gateway listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether the engine is working on a request, as a watchable value. A single-threaded engine then answers no
    /// health probes.
    #[must_use]
    pub fn activity(&self) -> EngineActivity {
        self.activity.clone()
    }

    /// Answers requests until `shutdown` ends, then lets open ones finish within the grace period.
    ///
    /// `engine` is the supervisor's view of the engine; `None` for a runtime without one.
    ///
    pub async fn run(mut self, engine: Option<watch::Receiver<EngineStatus>>, shutdown: impl Future<Output = ()>) {
        let (decisions, workers) = (self.decisions.clone(), std::mem::take(&mut self.workers));
        let limits = self.config.limits.clone();
        let capacity = limits.capacity(gem_platform::descriptors::allow(limits.descriptors()));
        // Runs in parallel with the rest of the start, so that the first request need not wait for it.
        tokio::task::spawn_blocking(builtin::prepare);
        let listeners = std::mem::take(&mut self.listeners);
        let updates = self.updates.take();
        let current = Arc::new(Current::new(self.shared(engine, decisions.clone())));
        let drained = until_drained(&current, shutdown);
        let mut acceptor = Acceptor::new(Arc::clone(&current), workers, capacity);
        let follow = async {
            if let Some(updates) = updates {
                current.follow(updates).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            () = acceptor.accept(listeners, drained) => {}
            () = follow => {}
        }
        acceptor.drain(current.load().config.limits.grace).await;
        drop(acceptor);
        // This fails only if the asynchronous runtime is shutting down, and then there is no time to wait.
        drop(tokio::task::spawn_blocking(move || decisions.flush()).await);
    }

    /// The state that all requests share.
    fn shared(self, engine: Option<watch::Receiver<EngineStatus>>, decisions: DecisionLog) -> Shared {
        let limits = &self.config.limits;
        let gate = self.config.gate.clone();
        let engine = engine.map(|status| Arc::new(Engine::new(status, gate, self.activity, limits)));
        let metrics = Arc::new(Metrics::default());
        let local_model = LocalModel::new(
            &self.config,
            engine.clone(),
            Arc::clone(&metrics),
            self.generate_path.clone(),
        );
        let local_model = Arc::new(local_model);
        Shared {
            routes: Routes::of(&self.config, engine.is_some().then_some(&local_model)),
            engine,
            local_model,
            consents: Arc::default(),
            bodies: Budget::new(limits.bodies),
            upstream: self.upstream,
            access: Arc::new(self.access),
            draining: Arc::default(),
            metrics,
            decisions,
            started: Instant::now(),
            port: self.addresses.first().map_or(self.config.port, SocketAddr::port),
            generate_path: self.generate_path,
            stream_path: self.stream_path,
            config: self.config,
        }
    }
}

/// Waits for `shutdown`, and then until load balancers have had time to notice that the gateway is not ready.
async fn until_drained(current: &Current, shutdown: impl Future<Output = ()>) {
    shutdown.await;
    let shared = current.load();
    shared.draining.send_replace(true);
    tokio::time::sleep(shared.config.limits.drain_delay).await;
}

/// The engine's own path for a method of its model.
fn engine_path(config: &Config, method: &str) -> Result<Uri, GatewayError> {
    let model = config.engine_model();
    format!("/v1beta/models/{model}:{method}")
        .parse()
        .map_err(|_| GatewayError::ModelName(model.to_owned()))
}

/// Listens on `port` of every address. Port 0 selects a port that is free on all of them.
fn listen(addresses: &[IpAddr], port: u16) -> Result<Vec<TcpListener>, GatewayError> {
    let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match listen_once(addresses, port) {
            Err(GatewayError::PortTaken { .. }) if attempts > 0 => {}
            outcome => return outcome,
        }
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // On other systems this option lets two processes listen on one port.
    if Os::HOST != Os::Windows {
        socket.set_reuseaddr(true)?;
    }
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn listen_once(addresses: &[IpAddr], mut port: u16) -> Result<Vec<TcpListener>, GatewayError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    let mut missing = None;
    for ip in addresses {
        let address = SocketAddr::new(*ip, port);
        match listener(address) {
            Ok(listener) => {
                port = listener.local_addr().map_or(port, |address| address.port());
                listeners.push(listener);
            }
            Err(source) => match source.kind() {
                io::ErrorKind::AddrInUse => return Err(GatewayError::PortTaken { address }),
                // A machine may lack one of the two loopback families. Systems report that in different ways.
                kind if ip.is_loopback() && kind != io::ErrorKind::PermissionDenied => {
                    missing = Some(GatewayError::Listen { address, source });
                }
                _ => return Err(GatewayError::Listen { address, source }),
            },
        }
    }
    if listeners.is_empty() {
        return Err(missing.unwrap_or(GatewayError::NoAddress));
    }
    Ok(listeners)
}
