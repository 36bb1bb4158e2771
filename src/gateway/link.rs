//! HTTP/1 connections to the engine and to a plain upstream, and the few that are kept for the next request.
//!
//! A connection is driven by the request that uses it, not by a task of its own: no wake-up between tasks per message, and a
//! request that is dropped closes its connection.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::body::Outgoing;
use super::workers::Home;

type Driver = http1::Connection<TokioIo<TcpStream>, Outgoing>;

/// Longest response head that is read, in bytes.
const RESPONSE_HEAD: usize = 64 * 1024;

/// One connection to a server.
pub(super) struct Link {
    sender: SendRequest<Outgoing>,
    address: SocketAddr,
    /// The thread whose event loop hears of it first.
    home: Home,
    /// `None` once the connection has ended.
    driver: Option<Pin<Box<Driver>>>,
}

/// The head of a response that is still to come.
pub(super) struct Head(BoxFuture<'static, Sent>);

type Sent = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>;

/// Why a request got no response.
pub(super) enum SendError {
    /// Nothing of it was sent; it may be sent elsewhere.
    Unsent(Box<Request<Outgoing>>, hyper::Error),
    /// It was sent, at least in part.
    Broken(hyper::Error),
}

impl Link {
    /// Opens a connection.
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(address).await?).await
    }

    /// Speaks HTTP over `stream`.
    pub(super) async fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let address = stream.peer_addr()?;
        let (sender, driver) = http1::Builder::new()
            .max_header_size(RESPONSE_HEAD)
            .ignore_invalid_headers_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        Ok(Self {
            sender,
            address,
            home: Home::current(),
            driver: Some(Box::pin(driver)),
        })
    }

    /// Hands `request` over; nothing is sent before [`Link::head`] is called.
    pub(super) fn begin(&mut self, request: Request<Outgoing>) -> Head {
        Head(Box::pin(self.sender.try_send_request(request)))
    }

    /// Sends what [`Link::begin`] was given and waits for the head of the response, whose body must be read with
    /// [`Link::poll_frame`]. May be dropped and called again.
    pub(super) async fn head(&mut self, head: &mut Head) -> Result<Response<Incoming>, SendError> {
        let outcome = poll_fn(|cx| {
            poll_driver(&mut self.driver, cx);
            head.0.as_mut().poll(cx)
        })
        .await;
        outcome.map_err(|mut failure| match failure.take_message() {
            Some(request) => SendError::Unsent(Box::new(request), failure.into_error()),
            None => SendError::Broken(failure.into_error()),
        })
    }

    /// The next piece of `body`, the body of the response that [`Link::head`] gave.
    pub(super) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        poll_driver(&mut self.driver, cx);
        Pin::new(body).poll_frame(cx)
    }

    /// The next piece of `body` that is data.
    pub(super) async fn data(&mut self, body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match poll_fn(|cx| self.poll_frame(body, cx)).await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Whether another request may be sent, as far as is known without waiting.
    fn is_ready(&mut self) -> bool {
        // Nobody needs to be woken: whoever uses the connection next drives it again.
        poll_driver(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn poll_driver(driver: &mut Option<Pin<Box<Driver>>>, cx: &mut Context<'_>) {
    if let Some(connection) = driver
        && connection.as_mut().poll(cx).is_ready()
    {
        *driver = None;
    }
}

/// Idle connections to one server.
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    capacity: usize,
    keep: Duration,
}

struct Idle {
    link: Link,
    since: Instant,
}

/// Which of the connections that are kept will do.
#[derive(Clone, Copy)]
pub(super) enum Kept {
    /// Those of this thread.
    Here,
    /// Those to this address, best one of this thread.
    To(SocketAddr),
}

impl Kept {
    /// Where the best of `idle` is, the one that was used last.
    fn best(self, idle: &[Idle]) -> Option<usize> {
        let here = idle.iter().rposition(|idle| idle.link.home == Home::current());
        match self {
            Self::Here => here,
            Self::To(_) => here.or(idle.len().checked_sub(1)),
        }
    }

    fn includes(self, link: &Link) -> bool {
        match self {
            Self::Here => true,
            Self::To(address) => link.address == address,
        }
    }
}

impl Pool {
    /// Keeps at most `capacity` connections for `keep` each.
    pub(super) const fn new(capacity: usize, keep: Duration) -> Self {
        Self {
            idle: Mutex::new(Vec::new()),
            capacity,
            keep,
        }
    }

    /// A connection that was kept and still stands; those that do not, or lead elsewhere, are closed.
    pub(super) fn take(&self, kept: Kept) -> Option<Link> {
        loop {
            let mut idle = {
                let mut idle = self.lock();
                let best = kept.best(&idle)?;
                idle.remove(best)
            };
            if kept.includes(&idle.link) && idle.since.elapsed() < self.keep && idle.link.is_ready() {
                return Some(idle.link);
            }
        }
    }

    /// Keeps `link`, whose last response has been read, if it can be used again.
    pub(super) fn put(&self, mut link: Link) {
        if !link.is_ready() {
            return;
        }
        let mut idle = self.lock();
        if idle.len() < self.capacity {
            idle.push(Idle {
                link,
                since: Instant::now(),
            });
        }
    }

    /// Closes connections that were kept for long enough.
    pub(super) fn expire(&self) {
        self.lock().retain(|idle| idle.since.elapsed() < self.keep);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a response that keeps its connection going, and gives it back when it ends.
pub(super) struct LinkBody {
    body: Incoming,
    link: Option<Link>,
    pool: Arc<Pool>,
}

impl LinkBody {
    pub(super) fn new(body: Incoming, link: Link, pool: Arc<Pool>) -> Self {
        Self {
            body,
            link: Some(link),
            pool,
        }
    }

    fn release(&mut self) {
        if let Some(link) = self.link.take() {
            self.pool.put(link);
        }
    }
}

impl Drop for LinkBody {
    fn drop(&mut self) {
        // A body without data is not always read to its end.
        if self.body.is_end_stream() {
            self.release();
        }
    }
}

impl Body for LinkBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(link) = &mut this.link else {
            return Poll::Ready(None);
        };
        let frame = ready!(link.poll_frame(&mut this.body, cx));
        match &frame {
            Some(Err(_)) => this.link = None,
            Some(Ok(_)) if !this.body.is_end_stream() => {}
            _ => this.release(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.link.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
