//! Replies to clients: their bodies, and the replies that the gateway itself creates.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use tokio::time::timeout;

use super::body::{UpstreamBody, take_frame};
use super::fault::Fault;
use super::stream_watch::StreamWatch;
use crate::net::BodyError;
use crate::router::{DecisionLog, DecisionRecord};

/// A reply to a client.
pub(super) type Reply = Response<ReplyBody>;

/// Pieces of a body that the gateway creates one by one; an error ends them.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Bytes>> + Send>>;

/// The body of a reply to a client.
pub(super) enum ReplyBody {
    /// A body in memory.
    Whole(Bytes),
    /// A body that streams from the upstream.
    Link(Box<UpstreamBody>),
    /// A body whose pieces are created one by one.
    Pieces { pieces: Pieces, is_broken_off: bool },
    /// A body whose beginning is in memory; the rest streams.
    Begun(Bytes, Box<ReplyBody>),
}

impl ReplyBody {
    pub(super) const fn whole(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }

    pub(super) fn pieces(pieces: impl Stream<Item = Result<Bytes, Bytes>> + Send + 'static) -> Self {
        Self::Pieces {
            pieces: Box::pin(pieces),
            is_broken_off: false,
        }
    }

    /// Whether the body ended with an error in the client's format.
    pub(super) const fn is_broken_off(&self) -> bool {
        matches!(
            self,
            Self::Pieces {
                is_broken_off: true,
                ..
            }
        )
    }

    /// Watches a body that streams from the upstream. `answers` names the model that failed before.
    pub(super) fn set_watch(&mut self, answers: Option<Box<str>>, watch: Option<StreamWatch>) {
        if let Self::Link(body) = self {
            body.set_watch(answers, watch);
        }
    }

    /// Logs `record`: at the end of a watched stream, else at once.
    pub(super) fn decided(&mut self, log: &DecisionLog, record: DecisionRecord) {
        let watch = match self {
            Self::Link(body) => body.watch.as_mut(),
            _ => None,
        };
        match watch {
            Some(watch) => watch.decided(log, record),
            None => log.record(record),
        }
    }

    /// A body that starts with `beginning`, followed by `rest` if there is one.
    pub(super) fn begun(beginning: Bytes, rest: Option<Self>) -> Self {
        match rest {
            None => Self::Whole(beginning),
            Some(rest) => Self::Begun(beginning, Box::new(rest)),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(take_frame(bytes).map(Ok)),
            Self::Link(body) => Pin::new(body).poll_frame(cx),
            Self::Pieces { pieces, is_broken_off } => {
                let piece = ready!(pieces.as_mut().poll_next(cx));
                *is_broken_off |= matches!(piece, Some(Err(_)));
                Poll::Ready(piece.map(|(Ok(piece) | Err(piece))| Ok(Frame::data(piece))))
            }
            Self::Begun(beginning, rest) => match take_frame(beginning) {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => Pin::new(&mut **rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Link(body) => body.is_end_stream(),
            Self::Pieces { .. } => false,
            Self::Begun(beginning, rest) => beginning.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Link(body) => body.size_hint(),
            // The server's own header announces the length of a streamed body.
            Self::Pieces { .. } | Self::Begun(..) => SizeHint::default(),
        }
    }
}

/// Reads the beginning of a server's `body`: at most `limit` bytes, within `time`. Also returns the rest; it is `None`
/// at the end and after a fault.
pub(super) async fn read_beginning(mut body: ReplyBody, limit: usize, time: Duration) -> (Bytes, Option<ReplyBody>) {
    let mut beginning = BytesMut::new();
    let read = async {
        while beginning.len() < limit {
            match body.frame().await {
                Some(Ok(frame)) => beginning.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(_)) | None => return true,
            }
        }
        false
    };
    let is_over = timeout(time, read).await.unwrap_or(false);
    (beginning.freeze(), (!is_over).then_some(body))
}

impl Fault {
    /// The error reply for this fault.
    pub(super) fn reply(&self) -> Reply {
        let mut reply = json(self.status(), self.to_json());
        match self {
            Self::MethodNotAllowed { allow, .. } => {
                reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Unauthenticated => {
                reply
                    .headers_mut()
                    .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        if let Some(seconds) = self.retry_after() {
            reply.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        reply
    }
}

/// A reply with JSON text.
pub(super) fn json(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    whole(status, "application/json; charset=UTF-8", text)
}

/// A reply with a complete body and its length.
pub(super) fn whole(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(ReplyBody::whole(text.into()));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}
