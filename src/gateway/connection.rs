//! A client's connection: receives requests, sends replies, and ends without losing a reply.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::access::{Permit, Way};
use super::body::ClientBody;
use super::client::{Client, InProgress, Standing, Turn};
use super::config::Limits;
use super::current::Current;
use super::metrics::Measure;
use super::reply::ReplyBody;
use super::service::answer;
use super::shared::Shared;
use crate::net::{BodyError, Stream};

/// How much and how long to read after a refusal: the largest body that the API accepts, and some time for it.
const LINGER_BYTES: u64 = 128 << 20;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// The reply to a client that begins with HTTP/2.
const OTHER_VERSION: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The size of a connection's buffer.
const BUFFER: usize = 128 << 10;

/// The HTTP settings for `limits`.
pub(super) fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // The accept loop watches slow heads and idle connections in one sweep, which is cheaper than a timer for each
        // request.
        .header_read_timeout(None)
        .max_buf_size(BUFFER.max(limits.head_size))
        .max_headers(limits.headers)
        .max_header_size(limits.head_size);
    builder
}

/// Serves requests until one side ends the connection.
pub(super) async fn serve(client: Arc<Client>, stream: TcpStream, builder: http1::Builder, current: Arc<Current>) {
    let Some((mut stream, way)) = current.load().access.open(stream, &client).await else {
        return;
    };
    let ended = exchange(&client, (&mut stream, way), &builder, &current).await;
    if ended == Ended::OtherVersion && stream.write_all(OTHER_VERSION).await.is_err() {
        return;
    }
    if ended != Ended::Read {
        client.read(None);
        linger(stream).await;
    }
}

/// How the exchange with a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Everything that the client sent was read.
    Read,
    /// The client may still be sending a refused request.
    Unread,
    /// The client began with HTTP/2.
    OtherVersion,
}

impl Ended {
    const fn unread(is_unread: bool) -> Self {
        if is_unread { Self::Unread } else { Self::Read }
    }
}

/// Serves requests.
async fn exchange(
    client: &Arc<Client>,
    (stream, way): (&mut Stream, Way),
    builder: &http1::Builder,
    current: &Current,
) -> Ended {
    let service = service_fn(|mut request| {
        if way != Way::Allowed {
            request.extensions_mut().insert(way);
        }
        reply(Arc::clone(client), current.load(), request)
    });
    let io = TokioIo::new(Watched { stream, client });
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut standing = client.watch();
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                return match ended {
                    Err(error) if error.is_parse_version_h2() => Ended::OtherVersion,
                    ended => Ended::unread(client.has_unread_body() || ended.is_err_and(|error| error.is_parse())),
                };
            }
            _ = standing.changed() => {}
        }
        let now = *standing.borrow_and_update();
        match now {
            Standing::Surplus | Standing::Admitted => {}
            Standing::Cut => return Ended::Read,
            Standing::Closing | Standing::Evicted | Standing::Overdue => {
                connection.as_mut().graceful_shutdown();
                let ended = std::future::poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx).is_ready())).await;
                // A connection with half a request head ends now.
                if ended || matches!(client.turn(), Turn::Idle(_)) {
                    return Ended::unread(client.has_unread_body());
                }
            }
        }
    }
}

async fn reply(
    client: Arc<Client>,
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<TrackedBody>, Infallible> {
    let in_progress = client.begin();
    let request = request.map(|body| ClientBody::new(body, Arc::clone(&client)));
    let (mut reply, measure) = answer(&shared, &client, request).await;
    client.begins_reply();
    if client.has_unread_body() || client.standing() == Standing::Surplus || shared.is_draining() {
        reply
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let permit = reply.extensions_mut().remove();
    Ok(reply.map(|body| TrackedBody {
        body,
        progress: Progress::Unread,
        measure,
        _permit: permit,
        _in_progress: in_progress,
    }))
}

/// Continues to read after the last reply. Closing with unread bytes would reset the connection, and a client that is
/// still sending would never see the reply.
async fn linger(stream: Stream) {
    let (mut rest, mut sink) = (stream.take(LINGER_BYTES), tokio::io::sink());
    // The way in which the client ends the connection does not matter.
    drop(timeout(LINGER_TIME, tokio::io::copy(&mut rest, &mut sink)).await);
}

/// A connection's stream that counts its bytes.
struct Watched<'a> {
    stream: &'a mut Stream,
    client: &'a Client,
}

impl Watched<'_> {
    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.client.wrote(match &polled {
            Poll::Ready(written) => Some(*written.as_ref().unwrap_or(&0)),
            Poll::Pending => None,
        });
        polled
    }
}

impl AsyncRead for Watched<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *self.stream).poll_read(cx, buffer);
        self.client
            .read(polled.is_ready().then(|| buffer.filled().len() - before));
        polled
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream).poll_write_vectored(cx, pieces);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

/// A reply's body. The request counts as in progress until the body is dropped.
struct TrackedBody {
    body: ReplyBody,
    progress: Progress,
    measure: Measure,
    _permit: Option<Arc<Permit>>,
    _in_progress: InProgress,
}

enum Progress {
    /// Nothing has been read yet; for a reply to `HEAD`, nothing ever is.
    Unread,
    Begun,
    Broken,
    Ended,
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.progress = match polled {
            Poll::Ready(None) => Progress::Ended,
            Poll::Ready(Some(Err(_))) => Progress::Broken,
            _ => Progress::Begun,
        };
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        let is_cut = match self.progress {
            Progress::Unread | Progress::Ended => self.body.is_broken_off(),
            Progress::Begun => !self.body.is_end_stream(),
            Progress::Broken => true,
        };
        if is_cut {
            self.measure.cut();
        }
    }
}
