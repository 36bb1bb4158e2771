//! A file server that misbehaves on request, with proxies and certificates to reach it.
//!
//! It writes HTTP byte by byte, because a well-behaved HTTP library cannot be made to break its promises.

mod http;
mod proxy;
mod tls;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

pub use self::http::Asked;
pub use self::proxy::Proxy;
pub use self::tls::Authority;

/// The fault in one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No fault: the file is served.
    None,
    /// Sends this many bytes of the body, then resets the connection.
    ResetAt(u64),
    /// Sends this many bytes of the body, then stops, and keeps the connection open.
    StallAt(u64),
    /// Sends this many bytes of the body, then closes the connection normally.
    CloseAt(u64),
    /// States this `Content-Length`, whatever it sends.
    DeclareLength(u64),
    /// States no length: the body ends with the connection.
    NoLength,
    /// Responds to a request for a range with the whole file.
    IgnoreRange,
    /// Responds to a request for a range with another range.
    WrongRange,
    /// Responds with this status and `Retry-After` value, and no file.
    Refuse(u16, Option<String>),
    /// Redirects to this location.
    Redirect(String),
    /// Sends the file with one byte flipped.
    Corrupt,
    /// Compresses the file without being asked.
    Gzip,
    /// Sends this many bytes, then waits this long, repeatedly.
    Trickle(usize, Duration),
}

/// A version of the file.
#[derive(Clone, Debug)]
struct Version {
    content: Bytes,
    /// Headers that name the version, such as `ETag`.
    headers: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Shared {
    version: Mutex<Version>,
    script: Mutex<VecDeque<Fault>>,
    otherwise: Mutex<Fault>,
    /// Applied to requests for a range while `script` is empty.
    for_ranges: Mutex<Option<Fault>>,
    asked: Mutex<Vec<Asked>>,
    served: AtomicU64,
    /// Responses in progress, and the highest number at one time.
    answering: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Bytes a second for one connection; 0 = no limit.
    rate: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves one file under every path, until it is dropped.
#[derive(Debug)]
pub struct FaultServer {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    _running: Running,
}

impl FaultServer {
    /// Serves `content` over http, with a strong `ETag` and support for ranges.
    #[must_use]
    pub fn start(content: impl Into<Bytes>) -> Self {
        Self::launch(content.into(), None)
    }

    /// The same over https, with a certificate for `localhost` and 127.0.0.1 that `authority` signs.
    #[must_use]
    pub fn start_tls(content: impl Into<Bytes>, authority: &Authority) -> Self {
        Self::launch(content.into(), Some(authority.acceptor()))
    }

    fn launch(content: Bytes, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let shared = Arc::new(Shared {
            version: Mutex::new(Version {
                content,
                headers: vec![("ETag", "\"version-1\"".to_owned())],
            }),
            script: Mutex::default(),
            otherwise: Mutex::new(Fault::None),
            for_ranges: Mutex::default(),
            asked: Mutex::default(),
            served: AtomicU64::new(0),
            answering: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            rate: AtomicU64::new(0),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let served = Arc::clone(&shared);
        let (address, running) = Running::start(move |stream| {
            let (shared, tls) = (Arc::clone(&served), tls.clone());
            async move {
                match tls {
                    Some(tls) => {
                        // A client that does not trust the certificate leaves here.
                        if let Ok(stream) = tls.accept(stream).await {
                            http::serve(stream, &shared).await;
                        }
                    }
                    None => http::serve(stream, &shared).await,
                }
            }
        });
        Self {
            address,
            scheme,
            shared,
            _running: running,
        }
    }

    /// The base URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Assigns these faults to the next requests, one each, in this order.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.shared.script).extend(faults);
    }

    /// Assigns this fault to every request that the script does not cover.
    pub fn always(&self, fault: Fault) {
        *lock(&self.shared.otherwise) = fault;
    }

    /// Assigns this fault to every request for a range that the script does not cover.
    pub fn for_ranges(&self, fault: Fault) {
        *lock(&self.shared.for_ranges) = Some(fault);
    }

    /// Replaces the file; `headers` name the version (`ETag`, `Last-Modified`), if given.
    pub fn publish(&self, content: impl Into<Bytes>, headers: Vec<(&'static str, String)>) {
        *lock(&self.shared.version) = Version {
            content: content.into(),
            headers,
        };
    }

    /// Limits each connection to this many bytes a second.
    pub fn limit_rate(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// The number of sent bytes in bodies.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// The requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }

    /// The highest number of responses in progress at one time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn begin_answer(&self) {
        let now = self.answering.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_at_once.fetch_max(now, Ordering::Relaxed);
    }

    /// The fault of the next request.
    fn next_fault(&self, wants_range: bool) -> Fault {
        if let Some(fault) = lock(&self.script).pop_front() {
            return fault;
        }
        match lock(&self.for_ranges).clone() {
            Some(fault) if wants_range => fault,
            _ => lock(&self.otherwise).clone(),
        }
    }
}

/// A listener on a loopback port and the thread that serves it; both end on drop.
#[derive(Debug)]
struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    fn start<F, A>(serve: F) -> (SocketAddr, Self)
    where
        F: Fn(TcpStream) -> A + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let (stop, mut stopped) = oneshot::channel::<()>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("the port's number");
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("the listener");
                loop {
                    tokio::select! {
                        Ok((stream, _)) = listener.accept() => drop(tokio::spawn(serve(stream))),
                        _ = &mut stopped => return,
                    }
                }
            });
        });
        let running = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        (address, running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The panic of a thread is already printed.
            let _ = thread.join();
        }
    }
}
