//! Request bodies: streamed from the client, read as a whole within a budget, and sent to a server.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::client::{Client, Standing};
use super::fault::Fault;
use super::metrics::Metrics;
use super::secrets::LentKey;
use super::stream_watch::StreamWatch;
use crate::error::chain;
use crate::net::{BodyError, Idle, Late, LinkBody, Stalled};
use crate::text::one_line;

/// A body up to this length does not count towards the budget.
const SMALL_BODY: usize = 64 << 10;
/// The largest body that is parsed on the serving thread, in bytes.
const PARSED_AT_ONCE: usize = 256 << 10;
/// The budget is handed out in units of this size.
const SHARE_STEP: usize = 256 << 10;

/// A client's body as it arrives. If the connection must make room for another one, the rest is refused.
pub(super) struct ClientBody {
    body: Incoming,
    client: Arc<Client>,
    is_ended: bool,
}

impl ClientBody {
    pub(super) const fn new(body: Incoming, client: Arc<Client>) -> Self {
        Self {
            body,
            client,
            is_ended: false,
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        self.client.awaits_body(false);
        if !self.is_end_stream() {
            self.client.leave_body_unread();
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let standing = self.client.standing();
        if standing > Standing::Evicted {
            return Poll::Ready(Some(Err(Fault::Ending.into())));
        }
        if standing == Standing::Evicted {
            let fault = Fault::Full("all connections are in use, and this one sends its body too slowly".to_owned());
            return Poll::Ready(Some(Err(fault.into())));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.client.awaits_body(polled.is_pending());
        self.is_ended |= !matches!(polled, Poll::Pending | Poll::Ready(Some(Ok(_))));
        polled.map_err(|_| Fault::Invalid("the request's body is malformed or incomplete".to_owned()).into())
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request to the engine or the upstream.
pub(super) enum Outgoing {
    /// A body in memory.
    Whole(Bytes),
    /// The client's body, passed on as it arrives.
    Client(Idle<ClientBody>),
    /// A client's body of which pieces have been read; the rest is passed on as it arrives.
    Begun([Bytes; 2], Idle<ClientBody>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(take_frame(bytes).map(Ok)),
            Self::Client(body) => Pin::new(body).poll_frame(cx),
            Self::Begun(pieces, rest) => match pieces.iter_mut().find_map(take_frame) {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => Pin::new(rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Client(body) => body.is_end_stream(),
            Self::Begun(pieces, rest) => pieces.iter().all(Bytes::is_empty) && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Client(body) => body.size_hint(),
            Self::Begun(pieces, rest) => {
                let (read, rest) = (
                    pieces.iter().map(|piece| piece.len() as u64).sum::<u64>(),
                    rest.size_hint(),
                );
                rest.exact()
                    .map_or_else(SizeHint::default, |rest| SizeHint::with_exact(read + rest))
            }
        }
    }
}

/// The client's fault that caused `error`, if there is one.
pub(super) fn client_fault(error: &(dyn Error + 'static)) -> Option<Fault> {
    if Stalled::is_behind(error) {
        return Some(Fault::SlowBody);
    }
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(fault) = cause.downcast_ref::<Fault>() {
            return Some(fault.clone());
        }
        next = cause.source();
    }
    None
}

/// The body of the upstream's response, as it arrives.
pub(super) struct UpstreamBody {
    body: Idle<LinkBody<Outgoing>>,
    /// Counts a body that breaks off.
    metrics: Option<Arc<Metrics>>,
    /// The request's path.
    path: Box<str>,
    broken: Option<BodyError>,
    /// Set for a model's stream of events.
    pub(super) watch: Option<Box<StreamWatch>>,
    /// The model whose answer this is, if it failed before.
    answers: Option<Box<str>>,
    /// The gateway's own key with which the request was sent.
    lent: Option<LentKey>,
}

impl UpstreamBody {
    pub(super) fn new(
        body: Idle<LinkBody<Outgoing>>,
        metrics: Option<Arc<Metrics>>,
        path: Box<str>,
        lent: Option<LentKey>,
    ) -> Self {
        let mut body = Self {
            body,
            metrics,
            path,
            broken: None,
            watch: None,
            answers: None,
            lent,
        };
        body.end_if_over();
        body
    }

    /// Watches this body, which is the answer of a model that failed before if `answers` names it.
    pub(super) fn set_watch(&mut self, answers: Option<Box<str>>, watch: Option<StreamWatch>) {
        self.answers = answers;
        self.watch = watch.map(Box::new);
        self.end_if_over();
    }

    /// Notes the end of the body. Only a whole body is an answer.
    fn end_if_over(&mut self) {
        if self.body.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        let is_answer = self.watch.as_mut().is_none_or(|watch| watch.ended());
        let Some(metrics) = &self.metrics else { return };
        metrics.upstream.ended("the upstream");
        if let Some(model) = self.answers.take().filter(|_| is_answer) {
            metrics.models.answered(&model);
        }
    }

    fn note(&mut self, error: &BodyError) {
        let is_late = error.is::<Late>();
        let is_clients = is_late || error.is::<hyper::Error>() && client_fault(&**error).is_some();
        if let Some(watch) = self.watch.as_mut().filter(|_| is_late || !is_clients) {
            watch.broke_off(is_late);
        }
        if let Some(metrics) = self.metrics.as_ref().filter(|_| !is_clients) {
            let path = one_line(&self.path);
            let failure = format!("its response for `{path}` broke off: {}", chain(&**error));
            metrics.upstream.failed("the upstream", &failure);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let error = match frame {
            Some(Err(error)) => error,
            Some(Ok(frame)) => {
                if let (Some(data), Some(watch)) = (frame.data_ref(), &mut self.watch) {
                    watch.take(data);
                }
                self.end_if_over();
                let frame = match &self.lent {
                    Some(key) => frame.map_data(|data| key.overwritten_in(data)),
                    None => frame,
                };
                return Poll::Ready(Some(Ok(frame)));
            }
            None => {
                self.end();
                return Poll::Ready(None);
            }
        };
        self.note(&error);
        self.broken = Some(error);
        // When hyper gets an error it drops unsent bytes, so the head and the received pieces are sent first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pub(super) fn take_frame(bytes: &mut Bytes) -> Option<Frame<Bytes>> {
    (!bytes.is_empty()).then(|| Frame::data(std::mem::take(bytes)))
}

/// A client's body of which only the beginning could be read, and why.
pub(super) struct Begun {
    pub(super) why: Fault,
    pub(super) pieces: [Bytes; 2],
    pub(super) rest: ClientBody,
}

/// Reads the whole `body`: at most `limit` bytes within `time`.
pub(super) async fn read(body: ClientBody, limit: usize, time: Duration, budget: &Arc<Budget>) -> Result<Bytes, Fault> {
    begin(body, limit, time, budget).await?.map_err(|begun| begun.why)
}

/// The same, but returns what was read of a body that is longer or finds no room, with the rest.
pub(super) async fn begin(
    mut body: ClientBody,
    limit: usize,
    time: Duration,
    budget: &Arc<Budget>,
) -> Result<Result<Bytes, Box<Begun>>, Fault> {
    let announced = body.size_hint().lower();
    let read = if announced > limit as u64 {
        Err((Fault::TooLarge(limit), Default::default()))
    } else {
        let whole = read_all(&mut body, announced, limit, budget);
        timeout(time, whole).await.unwrap_or(Err(Fault::SlowBody))?
    };
    Ok(read.map_err(|(why, pieces)| {
        let rest = body;
        Box::new(Begun { why, pieces, rest })
    }))
}

async fn read_all(
    body: &mut ClientBody,
    announced: u64,
    limit: usize,
    budget: &Arc<Budget>,
) -> Result<Result<Bytes, (Fault, [Bytes; 2])>, Fault> {
    let mut piece = data(body).await?.unwrap_or_default();
    if piece.len() as u64 == announced && body.is_end_stream() {
        return Ok(Ok(piece));
    }
    let announced = usize::try_from(announced).unwrap_or(limit);
    let mut whole = Vec::with_capacity(announced.min(SMALL_BODY).max(piece.len()));
    let mut share = Share::of(budget);
    loop {
        let room = match whole.len() + piece.len() > limit {
            true => Err(Fault::TooLarge(limit)),
            false => grow(&mut whole, piece.len(), announced, &mut share),
        };
        if let Err(why) = room {
            return Ok(Err((why, [share.hold(whole.into()), piece])));
        }
        whole.extend_from_slice(&piece);
        match data(body).await? {
            Some(next) => piece = next,
            None => return Ok(Ok(share.hold(whole.into()))),
        }
    }
}

/// Runs `read`, which parses `size` bytes; many of them on another thread, because they would delay the requests of this one.
/// `None` if it panics.
pub(super) async fn parse<T: Send + 'static>(size: usize, read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if size <= PARSED_AT_ONCE {
        return Some(read());
    }
    spawn_blocking(read).await.ok()
}

/// Makes room for `more` bytes. The share covers the room before it is taken.
fn grow(whole: &mut Vec<u8>, more: usize, announced: usize, share: &mut Share) -> Result<(), Fault> {
    let length = whole.len() + more;
    if length > whole.capacity() {
        let room = room(length, announced);
        share.cover(room)?;
        whole.reserve_exact(room - whole.len());
    }
    Ok(())
}

/// The room for a body of which `length` bytes have arrived. A client may announce much and send little, so what is only
/// announced gets no more room than what has arrived.
fn room(length: usize, announced: usize) -> usize {
    if announced >= length {
        return (2 * length).next_multiple_of(SHARE_STEP).min(announced);
    }
    if length <= SMALL_BODY {
        return (2 * length).min(SMALL_BODY);
    }
    (length + length / 8).next_multiple_of(SHARE_STEP)
}

/// The next piece of a client's body.
async fn data(body: &mut ClientBody) -> Result<Option<Bytes>, Fault> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(error) => Fault::Invalid(error.to_string()),
        })?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// The memory for larger bodies that are read as a whole, shared by all requests. Small bodies do not count, so they
/// are never refused.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
    whole: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(bytes),
            whole: bytes,
        })
    }

    /// Whether a body of `length` bytes would fit now.
    pub(super) fn has_room(&self, length: usize) -> bool {
        length <= SMALL_BODY.max(self.left.load(Ordering::Relaxed))
    }
}

/// The part of the budget that a body uses; dropping this returns it.
pub(super) struct Share {
    budget: Arc<Budget>,
    taken: usize,
}

impl Share {
    pub(super) fn of(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            taken: 0,
        }
    }

    /// Extends the share to `length` bytes in total.
    pub(super) fn cover(&mut self, length: usize) -> Result<(), Fault> {
        if length <= SMALL_BODY.max(self.taken) {
            return Ok(());
        }
        let more = (length - self.taken).next_multiple_of(SHARE_STEP);
        let taken = self
            .budget
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more));
        if taken.is_err() {
            let megabytes = self.budget.whole >> 20;
            return Err(Fault::Full(format!(
                "request bodies use all of the {megabytes} MiB reserved for them"
            )));
        }
        self.taken += more;
        Ok(())
    }

    /// `bytes`, which keep the share until their last clone is dropped.
    pub(super) fn hold(self, bytes: Bytes) -> Bytes {
        if self.taken == 0 {
            return bytes;
        }
        Bytes::from_owner(Held { bytes, _share: self })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}

/// `bytes` that were made from a body, in memory of `budget`.
pub(super) fn held(bytes: Bytes, budget: &Arc<Budget>) -> Result<Bytes, Fault> {
    if bytes.len() <= SMALL_BODY {
        return Ok(bytes);
    }
    let mut share = Share::of(budget);
    share.cover(bytes.len())?;
    Ok(share.hold(bytes))
}

struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_gets_room_as_it_arrives() {
        let large = 128 << 20;
        for (length, announced, expected) in [
            (70_000, 100_000, 100_000),
            (70_000, large, SHARE_STEP),
            (SHARE_STEP + 1, large, 3 * SHARE_STEP),
            (large / 2 + 1, large, large),
            (large, large, large),
            (10, 0, 20),
            (SMALL_BODY, 0, SMALL_BODY),
            (SMALL_BODY + 1, 0, SHARE_STEP),
            (8 * SHARE_STEP, 0, 9 * SHARE_STEP),
        ] {
            assert_eq!(room(length, announced), expected, "{length} of {announced}");
        }
    }

    #[test]
    fn bodies_share_one_budget_until_they_are_dropped() {
        let budget = Budget::new(4 * SHARE_STEP);
        let take = |length| {
            let mut share = Share::of(&budget);
            share.cover(length).map(|()| share.hold(Bytes::from_static(b"body")))
        };
        let body = take(3 * SHARE_STEP).unwrap();
        let slice = body.slice(1..);
        assert_eq!(take(2 * SHARE_STEP).unwrap_err().status(), 503);
        assert!(take(SMALL_BODY).is_ok(), "a small body is free");
        drop(body);
        assert!(take(2 * SHARE_STEP).is_err(), "a part of the body still lives");
        drop(slice);
        assert!(take(4 * SHARE_STEP).is_ok());
    }
}
