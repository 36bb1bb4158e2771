//! One client's connection.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::body::ReplyBody;
use super::config::Limits;
use super::service::{Shared, answer};
use crate::net::BodyError;

/// What the server knows of a connection, and how it ends one.
pub(super) struct Connection {
    close: Notify,
    /// Requests from their head to the end of their reply.
    in_progress: AtomicUsize,
    /// When the last one ended, in milliseconds since `opened`.
    idle_since: AtomicU64,
    opened: Instant,
}

impl Connection {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            close: Notify::new(),
            in_progress: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            opened: Instant::now(),
        })
    }

    /// Since when no request is in progress.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        // In this order: a request that ends in between has then said when.
        let is_idle = self.in_progress.load(Ordering::Acquire) == 0;
        is_idle.then(|| self.opened + Duration::from_millis(self.idle_since.load(Ordering::Relaxed)))
    }

    /// Ends the connection: at once if it is idle, else after the request in progress.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    /// Serves requests until one side ends the connection.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, builder: http1::Builder, shared: Arc<Shared>) {
        let service = service_fn(|request| {
            let shared = Arc::clone(&shared);
            let in_progress = InProgress::begin(&self);
            async move {
                let reply = answer(&shared, request).await;
                Ok::<_, Infallible>(reply.map(|body| TrackedBody {
                    body,
                    _in_progress: in_progress,
                }))
            }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut closed = pin!(self.close.notified());
        let mut is_closing = false;
        std::future::poll_fn(|cx| {
            if !is_closing && closed.as_mut().poll(cx).is_ready() {
                is_closing = true;
                if self.idle_since().is_some() {
                    return Poll::Ready(());
                }
                connection.as_mut().graceful_shutdown();
            }
            // How a connection ends is the client's affair.
            connection.as_mut().poll(cx).map(drop)
        })
        .await;
    }
}

/// How connections are served within `limits`.
pub(super) fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Slow heads and idle connections are the accept loop's affair: one look at all, not a timer for each request.
        .header_read_timeout(None)
        .max_headers(limits.headers)
        .max_header_size(limits.head_size);
    builder
}

struct InProgress(Arc<Connection>);

impl InProgress {
    fn begin(connection: &Arc<Connection>) -> Self {
        connection.in_progress.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(connection))
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let open = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.idle_since.store(open, Ordering::Relaxed);
        self.0.in_progress.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A reply's body; the request is in progress as long as it is there.
struct TrackedBody {
    body: ReplyBody,
    _in_progress: InProgress,
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
