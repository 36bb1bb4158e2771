//! HTTP/1 connections to servers, and the pool that keeps some of them for later requests.
//!
//! The request that uses a connection also drives it; there is no separate task. This saves a wake-up between tasks for
//! each message, and dropping a request closes its connection.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Id};
use tokio::time::Sleep;

use super::idle::{BodyError, Stalled, while_sending};
use super::stream::Stream;

type Driver<B> = http1::Connection<TokioIo<Counted>, B>;

/// The longest response head that is read, in bytes.
const RESPONSE_HEAD: usize = 64 * 1024;

/// A body that can be sent.
pub(crate) trait Sendable: Body<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static {}

impl<B: Body<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static> Sendable for B {}

/// One connection to a server.
pub(crate) struct Link<B: Sendable> {
    sender: SendRequest<B>,
    address: SocketAddr,
    /// The event loop with which the connection is registered; each thread that serves connections has its own.
    home: Option<Id>,
    /// `None` once the connection has ended.
    driver: Option<Pin<Box<Driver<B>>>>,
    /// The number of bytes that were sent.
    sent: Arc<AtomicU64>,
    /// The time limit for a head.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The pending head of a response.
pub(crate) struct Head<B>(BoxFuture<'static, Sent<B>>);

type Sent<B> = Result<Response<Incoming>, TrySendError<Request<B>>>;

/// Why a request got no response.
pub(crate) enum LinkError<B> {
    /// No byte of it was sent, so it may be sent over another connection.
    Unsent(Box<Request<B>>, hyper::Error),
    /// At least a part of it was sent.
    Broken(hyper::Error),
    /// The response is malformed and must not be passed on.
    Unsound(&'static str),
}

impl<B> fmt::Display for LinkError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(_, error) | Self::Broken(error) => f.write_str(&crate::error::chain(error)),
            Self::Unsound(reason) => f.write_str(reason),
        }
    }
}

fn home() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

impl<B: Sendable> Link<B> {
    /// Speaks HTTP over `stream`, without TLS.
    pub(crate) async fn plain(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Self::over(Stream::Plain(stream)).await
    }

    /// Speaks HTTP over `stream`.
    pub(super) async fn over(stream: Stream) -> io::Result<Self> {
        let address = stream.tcp().peer_addr()?;
        let sent = Arc::default();
        let stream = Counted {
            stream,
            sent: Arc::clone(&sent),
        };
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
            home: home(),
            driver: Some(Box::pin(driver)),
            sent,
            timer: None,
        })
    }

    /// Prepares `request`; nothing is sent before [`Link::head`] is called.
    pub(crate) fn begin(&mut self, request: Request<B>) -> Head<B> {
        Head(Box::pin(self.sender.try_send_request(request)))
    }

    /// Sends the request of [`Link::begin`] and waits for the response's head. The body must be read with
    /// [`Link::poll_frame`]. May be dropped and called again.
    pub(crate) async fn head(&mut self, head: &mut Head<B>) -> Result<Response<Incoming>, LinkError<B>> {
        read_head(&mut self.driver, head).await
    }

    /// Like [`Link::head`], but fails if the head does not arrive within `time` after the last byte was sent. Must not be
    /// called again after that.
    pub(super) async fn head_within(
        &mut self,
        head: &mut Head<B>,
        time: Duration,
    ) -> Result<Result<Response<Incoming>, LinkError<B>>, Stalled> {
        let head = read_head(&mut self.driver, head);
        while_sending(head, time, &mut self.timer, &self.sent).await
    }

    /// The next frame of `body`, which belongs to the response of [`Link::head`].
    fn poll_frame(
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

    /// The next data frame of `body`.
    pub(crate) async fn data(&mut self, body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
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

    /// Whether another request can be sent, as far as is known without waiting.
    fn is_ready(&mut self) -> bool {
        // No waker is needed, because the next user of the connection drives it again.
        poll_driver(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

async fn read_head<B: Sendable>(
    driver: &mut Option<Pin<Box<Driver<B>>>>,
    head: &mut Head<B>,
) -> Result<Response<Incoming>, LinkError<B>> {
    let sent = poll_fn(|cx| {
        poll_driver(driver, cx);
        head.0.as_mut().poll(cx)
    })
    .await;
    let response = sent.map_err(|mut failure| match failure.take_message() {
        Some(request) => LinkError::Unsent(Box::new(request), failure.into_error()),
        None => LinkError::Broken(failure.into_error()),
    })?;
    check_framing(response.status(), response.headers()).map_err(LinkError::Unsound)?;
    Ok(one_length(response))
}

/// Refuses a response with an ambiguous length (RFC 9112, section 6.3), one whose body would be passed on in coded
/// form, and one that switches protocols without being asked.
fn check_framing(status: StatusCode, headers: &HeaderMap) -> Result<(), &'static str> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("the server switched protocols without being asked");
    }
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return Err("the response has both a length and a transfer coding");
    }
    if !is_plainly_framed(headers) {
        return Err("the response has a transfer coding other than `chunked`");
    }
    Ok(())
}

/// Whether `headers` name no transfer coding but `chunked` and `identity`.
pub(crate) fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_plain = |coding: &HeaderValue| {
        let coding = coding.as_bytes().trim_ascii();
        coding.eq_ignore_ascii_case(b"chunked") || coding.eq_ignore_ascii_case(b"identity")
    };
    codings.next().is_none_or(is_plain) && codings.next().is_none()
}

/// Merges a repeated length, as in `Content-Length: 5, 5`, because not every client accepts that.
fn one_length(mut response: Response<Incoming>) -> Response<Incoming> {
    let mut lengths = response.headers().get_all(CONTENT_LENGTH).iter();
    let first = lengths.next().map(HeaderValue::as_bytes).unwrap_or_default();
    let is_repeated = lengths.next().is_some() || first.contains(&b',');
    let length = first.split(|&byte| byte == b',').next().unwrap_or_default();
    // The connection has already checked that all values are equal.
    let length = HeaderValue::from_bytes(length.trim_ascii())
        .ok()
        .filter(|_| is_repeated);
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    response
}

fn poll_driver<B: Sendable>(driver: &mut Option<Pin<Box<Driver<B>>>>, cx: &mut Context<'_>) {
    if let Some(connection) = driver
        && connection.as_mut().poll(cx).is_ready()
    {
        *driver = None;
    }
}

/// A stream that counts the bytes that are sent.
struct Counted {
    stream: Stream,
    sent: Arc<AtomicU64>,
}

impl Counted {
    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = polled {
            self.sent.fetch_add(count as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Idle connections to one server.
pub(crate) struct Pool<B: Sendable> {
    idle: Mutex<Vec<IdleLink<B>>>,
    capacity: usize,
    keep: Duration,
}

struct IdleLink<B: Sendable> {
    link: Link<B>,
    since: Instant,
}

/// Which of the kept connections can be used.
#[derive(Clone, Copy)]
pub(crate) enum Kept {
    /// Connections of this thread.
    Here,
    /// Connections to this address, preferably of this thread.
    To(SocketAddr),
}

impl Kept {
    /// The position of the best connection in `idle`, the one that was used last.
    fn best<B: Sendable>(self, idle: &[IdleLink<B>]) -> Option<usize> {
        let home = home();
        let here = idle.iter().rposition(|idle| idle.link.home == home);
        match self {
            Self::Here => here,
            Self::To(_) => here.or(idle.len().checked_sub(1)),
        }
    }

    fn includes<B: Sendable>(self, link: &Link<B>) -> bool {
        match self {
            Self::Here => true,
            Self::To(address) => link.address == address,
        }
    }
}

impl<B: Sendable> Pool<B> {
    /// A pool of at most `capacity` connections, each kept for `keep`.
    pub(crate) const fn new(capacity: usize, keep: Duration) -> Self {
        Self {
            idle: Mutex::new(Vec::new()),
            capacity,
            keep,
        }
    }

    /// A kept connection that is still open. Closed connections found on the way are removed, and so are those to
    /// another address.
    pub(crate) fn take(&self, kept: Kept) -> Option<Link<B>> {
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

    /// Keeps `link` if it can be used again. Its last response has been read.
    pub(crate) fn put(&self, mut link: Link<B>) {
        if !link.is_ready() {
            return;
        }
        let mut idle = self.lock();
        if idle.len() < self.capacity {
            idle.push(IdleLink {
                link,
                since: Instant::now(),
            });
        }
    }

    /// Closes connections that have been kept for their time.
    pub(crate) fn expire(&self) {
        self.lock().retain(|idle| idle.since.elapsed() < self.keep);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<IdleLink<B>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response body that drives its connection and returns it to the pool at the end.
pub(crate) struct LinkBody<B: Sendable> {
    body: Incoming,
    link: Option<Link<B>>,
    pool: Arc<Pool<B>>,
}

impl<B: Sendable> LinkBody<B> {
    pub(super) fn new(body: Incoming, link: Link<B>, pool: Arc<Pool<B>>) -> Self {
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

impl<B: Sendable> Drop for LinkBody<B> {
    fn drop(&mut self) {
        // A body without data is not always read to its end.
        if self.body.is_end_stream() {
            self.release();
        }
    }
}

impl<B: Sendable> Body for LinkBody<B> {
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
