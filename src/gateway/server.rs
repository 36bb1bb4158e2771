//! The accept loop: addresses, connections and their number, shutdown.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::Uri;
use hyper::server::conn::http1;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::cache::Answers;
use super::config::Config;
use super::connection::{Connection, builder};
use super::engine::Engine;
use super::metrics::Metrics;
use super::service::Shared;
use super::upstream::{UpstreamClient, UpstreamError};
use super::workers::Workers;
use crate::error::{Explain, Kind};
use crate::net;
use crate::router::classify::builtin;
use crate::router::{DecisionLog, DecisionWriter};
use crate::runtime::{EngineActivity, EngineStatus};

/// How often connections are looked through for those that have been idle too long.
const SWEEP: Duration = Duration::from_millis(500);
/// How long to wait after the system gave no connection, for want of descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often to look for an idle connection while all are taken.
const FULL_PAUSE: Duration = Duration::from_millis(20);
/// How often a free port is looked for that is free on all addresses.
const PORT_ATTEMPTS: usize = 16;

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Another process listens there.
    #[error("cannot listen on `{address}`: the port is taken")]
    PortTaken {
        /// Where.
        address: SocketAddr,
    },
    /// The system refused.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An address that others can reach.
    #[error("`{0}` is not a loopback address")]
    NotLoopback(IpAddr),
    /// A name that cannot stand in a URL.
    #[error("`{0}` cannot be the name of a model")]
    ModelName(String),
    /// No address at all.
    #[error("there is no address to listen on")]
    NoAddress,
    /// The URL of the upstream.
    #[error("invalid upstream: {0}")]
    Upstream(String),
    /// Proxies or certificates.
    #[error(transparent)]
    Network(net::Error),
    /// A limit of the system.
    #[error("cannot start the decision log's writer")]
    DecisionLog(#[source] io::Error),
    /// A limit of the system.
    #[error("cannot start the threads that serve connections")]
    Threads(#[source] io::Error),
}

impl Explain for GatewayError {
    fn kind(&self) -> Kind {
        match self {
            Self::Network(error) => error.kind(),
            Self::PortTaken { .. } => Kind::Conflict,
            Self::NotLoopback(_) | Self::ModelName(_) | Self::NoAddress | Self::Upstream(_) => Kind::Usage,
            Self::Listen { .. } | Self::DecisionLog(_) | Self::Threads(_) => Kind::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Network(error) => error.hint(),
            Self::PortTaken { .. } => {
                Some("stop the process that listens there, or choose another `--port`".to_owned())
            }
            Self::NotLoopback(_) => {
                Some("pass `--allow-remote` if other machines are meant to use this gateway".to_owned())
            }
            Self::Upstream(_) => Some("give `--upstream` an http or https URL".to_owned()),
            _ => None,
        }
    }
}

impl From<UpstreamError> for GatewayError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Network(error) => Self::Network(error),
            error @ UpstreamError::NotHttp(_) => Self::Upstream(error.to_string()),
        }
    }
}

/// A gateway that listens and does not answer yet; clients that connect wait for [`Gateway::run`].
pub struct Gateway {
    config: Config,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    upstream: UpstreamClient,
    activity: EngineActivity,
    generate_path: Uri,
    stream_path: Uri,
}

/// The client for the upstream of a `config` that makes sense.
fn checked(config: &Config) -> Result<UpstreamClient, GatewayError> {
    if let Some(open) = config.listen.iter().find(|address| !address.is_loopback())
        && !config.allow_remote
    {
        return Err(GatewayError::NotLoopback(*open));
    }
    Ok(UpstreamClient::new(&config.upstream, &config.limits)?)
}

impl Gateway {
    /// Whether a gateway can be what `config` says, its port aside.
    ///
    /// # Errors
    ///
    /// When the configuration makes no sense.
    pub fn check(config: &Config) -> Result<(), GatewayError> {
        checked(config).map(drop)
    }

    /// Checks `config` and binds its port on all its addresses; a loopback family that the machine lacks is left out.
    ///
    /// # Errors
    ///
    /// When the configuration makes no sense or the port is taken.
    pub async fn bind(config: Config) -> Result<Self, GatewayError> {
        let upstream = checked(&config)?;
        let generate_path = engine_path(&config, "generateContent")?;
        let stream_path = engine_path(&config, "streamGenerateContent?alt=sse")?;
        let listeners = listen(&config.listen, config.port).await?;
        let addresses = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        Ok(Self {
            config,
            listeners,
            addresses,
            upstream,
            activity: EngineActivity::default(),
            generate_path,
            stream_path,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Tells whether the engine is at work on a request, during which an engine of one thread answers no health probe.
    #[must_use]
    pub fn activity(&self) -> EngineActivity {
        self.activity.clone()
    }

    /// Answers requests until `shutdown` ends, then lets open ones finish within the grace period.
    ///
    /// `engine` is what the supervisor tells of the engine; `None` is a runtime without one.
    ///
    /// # Errors
    ///
    /// When the system gives no thread for the decision log or to serve connections.
    pub async fn run(
        self,
        engine: Option<watch::Receiver<EngineStatus>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), GatewayError> {
        let (decisions, writer) =
            DecisionLog::start(self.config.decisions.clone()).map_err(GatewayError::DecisionLog)?;
        let limits = self.config.limits.clone();
        let workers = Workers::start(self.config.threads).map_err(GatewayError::Threads)?;
        // Beside what else starting takes, so that the first request does not wait for it.
        tokio::task::spawn_blocking(builtin::prepare);
        let shared = Arc::new(Shared {
            engine: engine
                .map(|status| Arc::new(Engine::new(status, self.config.gate.clone(), self.activity, &limits))),
            answers: Answers::new(limits.cached_answers),
            upstream: self.upstream,
            metrics: Metrics::default(),
            decisions,
            started: Instant::now(),
            port: self.addresses.first().map_or(self.config.port, SocketAddr::port),
            generate_path: self.generate_path,
            stream_path: self.stream_path,
            config: self.config,
        });
        let mut server = Server {
            builder: builder(&limits),
            shared,
            workers,
            tasks: JoinSet::new(),
            connections: HashMap::new(),
            most: limits.connections.max(1),
            head_time: limits.head_time,
        };
        server.accept(self.listeners, shutdown).await;
        server.drain(limits.grace).await;
        drop(server);
        close(writer).await;
        Ok(())
    }
}

/// The engine's own path for a method of its model.
fn engine_path(config: &Config, method: &str) -> Result<Uri, GatewayError> {
    let model = config.engine_model();
    format!("/v1beta/models/{model}:{method}")
        .parse()
        .map_err(|_| GatewayError::ModelName(model.to_owned()))
}

async fn close(writer: DecisionWriter) {
    // Only a panic of the writer makes this fail, and then there is nothing left to close.
    drop(tokio::task::spawn_blocking(|| writer.close()).await);
}

struct Server {
    builder: http1::Builder,
    shared: Arc<Shared>,
    workers: Workers,
    tasks: JoinSet<()>,
    /// With the place of the thread that serves each.
    connections: HashMap<Id, (Arc<Connection>, usize)>,
    most: usize,
    head_time: Duration,
}

impl Server {
    async fn accept(&mut self, listeners: Vec<TcpListener>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                accepted = accept_any(&listeners), if self.has_room() => match accepted {
                    Ok(stream) => self.spawn(stream),
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = self.tasks.join_next_with_id() => self.forget(ended.map_or_else(|error| error.id(), |(id, ())| id)),
                () = sleep(FULL_PAUSE), if !self.has_room() => self.close_one(),
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    fn has_room(&self) -> bool {
        self.connections.len() < self.most
    }

    fn spawn(&mut self, stream: TcpStream) {
        // Without it replies are only slower.
        drop(stream.set_nodelay(true));
        let connection = Connection::new();
        let serve = {
            let (connection, builder, shared) =
                (Arc::clone(&connection), self.builder.clone(), Arc::clone(&self.shared));
            |stream| connection.serve(stream, builder, shared)
        };
        match self.workers.serve(&mut self.tasks, stream, serve) {
            Ok((task, place)) => drop(self.connections.insert(task.id(), (connection, place))),
            Err(error) => return tracing::warn!("cannot serve a connection: {error}"),
        }
        self.count();
        if !self.has_room() {
            self.close_one();
        }
    }

    fn forget(&mut self, id: Id) {
        if let Some((_, place)) = self.connections.remove(&id) {
            self.workers.ended(place);
        }
        self.count();
    }

    fn count(&self) {
        self.shared
            .metrics
            .connections
            .store(self.connections.len(), Ordering::Relaxed);
    }

    /// Makes room by closing the connection that has been idle for longest.
    fn close_one(&self) {
        let idle = self
            .connections
            .values()
            .filter_map(|(connection, _)| Some((connection.idle_since()?, connection)));
        if let Some((_, longest)) = idle.min_by_key(|(since, _)| *since) {
            longest.close();
        }
    }

    fn sweep(&self) {
        if let Some(engine) = &self.shared.engine {
            engine.expire();
        }
        self.shared.upstream.expire();
        for (connection, _) in self.connections.values() {
            if connection
                .idle_since()
                .is_some_and(|since| since.elapsed() > self.head_time)
            {
                connection.close();
            }
        }
    }

    async fn drain(&mut self, grace: Duration) {
        for (connection, _) in self.connections.values() {
            connection.close();
        }
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(grace, all_ended).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

async fn accept_any(listeners: &[TcpListener]) -> io::Result<TcpStream> {
    poll_fn(|cx| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    })
    .await
}

/// Listens on `port` of every address; port 0 is one that is free on all of them.
async fn listen(addresses: &[IpAddr], port: u16) -> Result<Vec<TcpListener>, GatewayError> {
    let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match listen_once(addresses, port).await {
            Err(GatewayError::PortTaken { .. }) if attempts > 0 => {}
            outcome => return outcome,
        }
    }
}

async fn listen_once(addresses: &[IpAddr], mut port: u16) -> Result<Vec<TcpListener>, GatewayError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    let mut missing = None;
    for ip in addresses {
        let address = SocketAddr::new(*ip, port);
        match TcpListener::bind(address).await {
            Ok(listener) => {
                port = listener.local_addr().map_or(port, |address| address.port());
                listeners.push(listener);
            }
            Err(source) => match source.kind() {
                io::ErrorKind::AddrInUse => return Err(GatewayError::PortTaken { address }),
                // A machine may lack one of the two loopback families, and systems differ in how they say so.
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
