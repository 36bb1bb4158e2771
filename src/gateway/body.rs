//! Bodies: those sent to a server, those sent to a client, and reading one whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use super::reply::Fault;
use crate::net::{BodyError, Idle, LinkBody};

/// How much of a body nobody wants is read, so that the client gets to see the answer, and for how long.
const DISCARD_AT_MOST: usize = 64 * 1024 * 1024;
const DISCARD_FOR: Duration = Duration::from_secs(2);
/// Room made at once for a body whose length is announced; more is made as it arrives.
const ROOM_AT_ONCE: usize = 64 * 1024;

/// The body of a request to the engine or the upstream.
pub(super) enum Outgoing {
    /// In memory.
    Whole(Bytes),
    /// The client's, as it arrives.
    Client(Idle<Incoming>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(take_frame(bytes).map(Ok)),
            Self::Client(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Client(body) => body.size_hint(),
        }
    }
}

/// Pieces the gateway makes as it goes.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// The body of a reply to a client.
pub(super) enum ReplyBody {
    /// In memory.
    Whole(Bytes),
    /// From a server, as it arrives.
    Link(Idle<LinkBody<Outgoing>>),
    /// Made as it goes.
    Pieces(Pieces),
    /// The beginning in memory, the rest as it arrives.
    Begun(Bytes, Box<ReplyBody>),
}

impl ReplyBody {
    pub(super) const fn whole(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }

    /// `beginning`, and `rest` if there is one.
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
            Self::Pieces(pieces) => {
                let piece = ready!(pieces.as_mut().poll_next(cx));
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
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
            Self::Pieces(_) => false,
            Self::Begun(beginning, rest) => beginning.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Link(body) => body.size_hint(),
            // The length of one that has begun is announced by the server that it comes from.
            Self::Pieces(_) | Self::Begun(..) => SizeHint::default(),
        }
    }
}

fn take_frame(bytes: &mut Bytes) -> Option<Frame<Bytes>> {
    (!bytes.is_empty()).then(|| Frame::data(std::mem::take(bytes)))
}

/// Reads the beginning of `body`, a server's: at most `limit` bytes, or what comes within `time`. What is left is given too; there
/// is none after the end and after a fault.
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

/// Reads `body` whole: at most `limit` bytes within `time`.
pub(super) async fn read(mut body: Incoming, limit: usize, time: Duration) -> Result<Bytes, Fault> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        discard(body).await;
        return Err(Fault::TooLarge(limit));
    }
    let whole = timeout(time, read_all(&mut body, announced, limit)).await;
    match whole.unwrap_or(Err(Fault::SlowBody)) {
        Err(Fault::TooLarge(limit)) => {
            discard(body).await;
            Err(Fault::TooLarge(limit))
        }
        outcome => outcome,
    }
}

async fn read_all(body: &mut Incoming, announced: u64, limit: usize) -> Result<Bytes, Fault> {
    let first = data(body).await?.unwrap_or_default();
    if first.len() as u64 == announced && body.is_end_stream() {
        return Ok(first);
    }
    let room = usize::try_from(announced).unwrap_or(limit).min(ROOM_AT_ONCE);
    let mut whole = BytesMut::with_capacity(room.max(first.len()));
    whole.extend_from_slice(&first);
    while whole.len() <= limit {
        match data(body).await? {
            Some(piece) => whole.extend_from_slice(&piece),
            None => return Ok(whole.freeze()),
        }
    }
    Err(Fault::TooLarge(limit))
}

/// The next piece of a client's body.
async fn data(body: &mut Incoming) -> Result<Option<Bytes>, Fault> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Fault::Invalid("the request's body is incomplete".to_owned()))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Reads on for a while: a connection that is closed with unread bytes is reset, and the client never sees the answer.
async fn discard(mut body: Incoming) {
    let rest = async {
        let mut read = 0;
        while read < DISCARD_AT_MOST
            && let Ok(Some(piece)) = data(&mut body).await
        {
            read += piece.len();
        }
    };
    // Who sends on for longer has had the chance.
    drop(timeout(DISCARD_FOR, rest).await);
}
