//! A stand-in for the Gemini API within the test's own process.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// A reply of the upstream.
pub type UpstreamReply = Response<UnsyncBoxBody<Bytes, Infallible>>;

type Handler =
    Box<dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Option<UpstreamReply>> + Send>> + Send + Sync>;

/// A request as the upstream got it.
#[derive(Clone, Debug)]
pub struct UpstreamSeen {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// The header fields.
    pub headers: HeaderMap,
    /// The number of the connection; requests with the same number used the same connection.
    pub connection: usize,
}

/// An upstream on a free port.
#[derive(Debug)]
pub struct UpstreamStandIn {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<UpstreamSeen>>>,
    task: JoinHandle<()>,
}

impl UpstreamStandIn {
    /// Starts an upstream that responds with the result of `handler`; `None` breaks the connection off.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start<F>(handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> std::io::Result<Self>
    where
        F: Future<Output = Option<UpstreamReply>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(Box::new(move |request| Box::pin(handler(request))));
        let task = tokio::spawn(accept(listener, Arc::clone(&seen), handler));
        Ok(Self { address, seen, task })
    }

    /// Starts an upstream that sends these responses in turn, then always the last one.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn replies(replies: Vec<(u16, &'static str)>) -> std::io::Result<Self> {
        let replies = Arc::new(Mutex::new(VecDeque::from(replies)));
        Self::start(move |_| {
            let mut replies = replies.lock().unwrap_or_else(PoisonError::into_inner);
            let next = if replies.len() > 1 {
                replies.pop_front()
            } else {
                replies.front().copied()
            };
            async move { next.map(|(status, body)| reply(status, body)) }
        })
        .await
    }

    /// The address it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<UpstreamSeen> {
        lock(&self.seen).clone()
    }
}

impl Drop for UpstreamStandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Vec<UpstreamSeen>>>, handler: Arc<Handler>) {
    let mut connections = JoinSet::new();
    let mut connection = 0;
    while let Ok((stream, _)) = listener.accept().await {
        connection += 1;
        let (seen, handler) = (Arc::clone(&seen), Arc::clone(&handler));
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                lock(&seen).push(UpstreamSeen {
                    method: request.method().clone(),
                    uri: request.uri().clone(),
                    headers: request.headers().clone(),
                    connection,
                });
                let reply = handler(request);
                async move { reply.await.ok_or("broken off") }
            });
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // The test judges the end of a connection from the other side.
            drop(served.await);
        });
    }
}

/// A JSON reply.
#[must_use]
pub fn reply(status: u16, body: &'static str) -> UpstreamReply {
    let mut reply = Response::new(Full::new(Bytes::from_static(body.as_bytes())).boxed_unsync());
    *reply.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    reply
}

fn lock(seen: &Mutex<Vec<UpstreamSeen>>) -> MutexGuard<'_, Vec<UpstreamSeen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
