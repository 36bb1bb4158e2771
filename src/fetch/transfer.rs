//! Fetches the missing bytes from one source over HTTP.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use url::Url;

use super::error::Error;
use super::partial::{Identity, Partial, Validator};
use super::ranges::RangeSet;
use super::reply::{self, Extent};
use super::request::Request;
use super::retry::Fault;
use super::store::Store;
use crate::net::{Client, Patience, ServerResponse};
use crate::progress::Progress;
use crate::sha256::Sha256;

/// Smaller reads are collected up to this size while they come without a wait: TLS delivers 16 KB at a time.
const GATHER: usize = 256 * 1024;
const SMALLEST_REQUEST: u64 = 512 * 1024;
const ENOUGH: usize = GATHER / 4;

/// The URL to request, with the login or token for it.
pub(super) struct Source<'a> {
    pub(super) url: &'a Url,
    /// Sent only to this URL's server, not to one that it redirects to.
    pub(super) authorization: Option<HeaderValue>,
}

/// The file's properties and the received ranges.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) identity: Identity,
    pub(super) received: RangeSet,
    /// Bytes received over the network by this fetch, including those of discarded versions.
    pub(super) transferred: u64,
    /// Whether an earlier run was interrupted.
    pub(super) is_resumed: bool,
    /// Whether parts can be requested; never again from a server that once ignored a range.
    pub(super) ranges: Ranges,
}

/// Whether a server serves parts of a file, as far as known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ranges {
    #[default]
    Unknown,
    Served,
    Ignored,
}

impl Plan {
    /// The missing ranges, if the whole length is known.
    pub(super) fn gaps(&self) -> Option<Vec<Range<u64>>> {
        self.identity.length.map(|length| self.received.gaps(length))
    }

    /// Whether the received bytes can be continued, which requires the server's version of the file.
    fn can_continue(&self) -> bool {
        self.received.len() > 0 && self.identity.validator.is_some()
    }

    /// The most bytes that one request may ask for while `lanes` connections are in use.
    ///
    /// A killed process loses bytes that it has not read, and the kernels at both ends hold megabytes of a fast connection. A download that
    /// was interrupted once may be interrupted again, so after a resume each request asks only for a small fraction of the bytes that have
    /// arrived.
    pub(super) fn largest_request(&self, lanes: usize) -> u64 {
        if self.is_resumed {
            (self.transferred / (16 * lanes.max(1) as u64)).max(SMALLEST_REQUEST)
        } else {
            u64::MAX
        }
    }

    pub(super) fn start_over(&mut self, identity: Identity) {
        self.is_resumed = false;
        self.identity = identity;
        self.received = RangeSet::default();
    }
}

/// The HTTP side of one fetch in progress.
pub(super) struct Transfer<'a> {
    client: &'a Client,
    patience: &'a Patience,
    pub(super) request: &'a Request,
    pub(super) store: Store,
    plan: Mutex<Plan>,
    /// The number of connections that wait for the disk.
    writing: AtomicUsize,
    pub(super) progress: &'a dyn Progress,
}

/// The part of a partial download that may be continued: none without a validator or with a wrong length, unless the download is complete
/// and only its hash must be checked.
fn resumable(partial: &Partial, request: &Request) -> (Identity, RangeSet) {
    let (identity, present) = partial.contents();
    let has_length = |length: u64| identity.length == Some(length);
    let is_whole = has_length(present.run_end(0));
    let is_expected = request.size == 0 || has_length(request.size);
    if is_expected && (identity.validator.is_some() || is_whole) {
        (identity, present)
    } else {
        Default::default()
    }
}

/// The part of the file that one connection is fetching.
#[derive(Debug)]
pub(super) struct Lane {
    position: AtomicU64,
    end: AtomicU64,
}

impl Lane {
    pub(super) const fn new(range: Range<u64>) -> Self {
        Self {
            position: AtomicU64::new(range.start),
            end: AtomicU64::new(range.end),
        }
    }

    /// The rest of the part; it ends at `u64::MAX` if the length is unknown.
    pub(super) fn rest(&self) -> Range<u64> {
        self.position.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)
    }

    /// Moves the end to `end`, which the response must reach.
    pub(super) fn extend(&self, end: u64) {
        self.end.fetch_max(end, Ordering::Relaxed);
    }

    /// Leaves the bytes from `end` on to other lanes.
    pub(super) fn shorten(&self, end: u64) {
        self.end.fetch_min(end, Ordering::Relaxed);
    }
}

/// A response whose body is about to be read, and its range.
pub(super) struct Opened {
    response: ServerResponse,
    range: Range<u64>,
    /// Whether HTTP marks the end of the body; else only the catalog's size does.
    is_framed: bool,
}

impl Opened {
    pub(super) fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}

impl<'a> Transfer<'a> {
    /// Continues the partial download, or starts over if that is not possible.
    pub(super) fn begin(
        client: &'a Client,
        patience: &'a Patience,
        partial: &Partial,
        request: &'a Request,
        progress: &'a dyn Progress,
    ) -> Result<Self, Error> {
        let (identity, received) = resumable(partial, request);
        let plan = Plan {
            identity: identity.clone(),
            is_resumed: received.len() > 0,
            received: received.clone(),
            ..Plan::default()
        };
        Ok(Self {
            client,
            patience,
            request,
            store: Store::open(partial, request.size, identity, received)?,
            plan: Mutex::new(plan),
            writing: AtomicUsize::new(0),
            progress,
        })
    }

    /// Ends the transfer. Returns the hash of the whole file, which is then on disk.
    pub(super) async fn seal(self) -> Result<(Sha256, Plan), Error> {
        let found = self.store.seal().await?;
        Ok((found, self.plan.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Ends the transfer after `error`, and returns the error for the user: a failed write, if any, has caused the others.
    pub(super) async fn abandon(self, partial: &Partial, error: Error) -> Error {
        // A resumed transfer cannot judge the bytes of an earlier one.
        let (is_untouched, is_endless) = {
            let plan = self.plan();
            (plan.is_resumed, plan.identity.length.is_none())
        };
        let error = self.store.close().await.err().unwrap_or(error);
        let is_useless = (error.is_about_content() && !is_untouched) || (error.is_about_room() && is_endless);
        if is_useless {
            return partial.discard().err().unwrap_or(error);
        }
        error
    }
}

impl Transfer<'_> {
    pub(super) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a connection waits for the disk.
    pub(super) fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Relaxed) > 0
    }

    /// Requests the first `gap`, or the whole file if nothing has been received. A response with the whole file instead of
    /// the gap restarts the download.
    pub(super) async fn open(&self, source: &Source<'_>, gap: Option<Range<u64>>) -> Result<Opened, Fault> {
        let part = {
            let plan = self.plan();
            let limit = plan.largest_request(1);
            gap.filter(|_| plan.can_continue())
                .map(|gap| gap.start..gap.end.min(gap.start.saturating_add(limit)))
        };
        let (response, reply) = match self.ask(source, part.as_ref()).await {
            // The part does not exist: the file must have become shorter.
            Err(fault) if part.is_some() && matches!(fault.itself(), Fault::Status { code: 416, .. }) => {
                self.plan().start_over(Identity::default());
                return Err(Fault::Changed);
            }
            answer => answer?,
        };
        match reply {
            Extent::Part { range, identity } => self.accept_part(response, range, &identity),
            Extent::Whole {
                identity,
                serves_ranges,
            } => {
                self.accept_whole(response, identity, serves_ranges, part.is_some())
                    .await
            }
        }
    }

    /// Requests only `range`; the response must be a part.
    pub(super) async fn open_part(&self, source: &Source<'_>, range: &Range<u64>) -> Result<Opened, Fault> {
        match self.ask(source, Some(range)).await? {
            (response, Extent::Part { range, identity }) => self.accept_part(response, range, &identity),
            (_, Extent::Whole { identity, .. }) => {
                let mut plan = self.plan();
                if identity.validator.is_some() && identity.validator != plan.identity.validator {
                    plan.start_over(Identity::default());
                    return Err(Fault::Changed);
                }
                plan.ranges = Ranges::Ignored;
                Err(Fault::RangeIgnored)
            }
        }
    }

    fn accept_part(&self, response: ServerResponse, range: Range<u64>, found: &Identity) -> Result<Opened, Fault> {
        let mut plan = self.plan();
        let same_length = plan.identity.length.is_none_or(|length| found.length == Some(length));
        let same_version = found.validator.is_none() || found.validator == plan.identity.validator;
        if !same_length || !same_version {
            plan.start_over(Identity::default());
            return Err(Fault::Changed);
        }
        plan.identity.length = found.length;
        if plan.ranges == Ranges::Unknown {
            plan.ranges = Ranges::Served;
        }
        Ok(Opened {
            response,
            range,
            is_framed: true,
        })
    }

    async fn accept_whole(
        &self,
        response: ServerResponse,
        mut identity: Identity,
        serves_ranges: bool,
        wanted_part: bool,
    ) -> Result<Opened, Fault> {
        let expected = Some(self.request.size).filter(|size| *size > 0);
        if let (Some(expected), Some(found)) = (expected, identity.length)
            && expected != found
        {
            return Err(Fault::Fatal(Error::Size {
                url: (&response.url).into(),
                expected,
                found,
            }));
        }
        let is_framed = identity.length.is_some();
        identity.length = identity.length.or(expected);
        {
            let mut plan = self.plan();
            if plan.received.len() > 0 && !wanted_part {
                self.note("the server sent no `ETag` or `Last-Modified`, so the download starts over");
            }
            if wanted_part {
                let is_same = identity.validator.is_some() && identity.validator == plan.identity.validator;
                let fault = if is_same { Fault::RangeIgnored } else { Fault::Changed };
                self.note(&format!("{fault}, starting over"));
                plan.ranges = Ranges::Ignored;
            }
            if serves_ranges && plan.ranges == Ranges::Unknown {
                plan.ranges = Ranges::Served;
            }
            plan.start_over(identity.clone());
        }
        let range = 0..identity.length.unwrap_or(u64::MAX);
        self.store.restart(identity).await?;
        Ok(Opened {
            response,
            range,
            is_framed,
        })
    }

    /// Sends the request and reads the head of the response.
    async fn ask(&self, source: &Source<'_>, part: Option<&Range<u64>>) -> Result<(ServerResponse, Extent), Fault> {
        let mut headers = HeaderMap::new();
        headers.extend(source.authorization.clone().map(|value| (AUTHORIZATION, value)));
        if let Some(part) = part {
            let identity = self.plan().identity.clone();
            let range = match identity.length {
                Some(length) if part.end < length => format!("bytes={}-{}", part.start, part.end - 1),
                _ => format!("bytes={}-", part.start),
            };
            let validator = identity.validator.as_ref().map(Validator::if_range);
            let fields = [(RANGE, Some(range.as_str())), (IF_RANGE, validator)];
            headers.extend(
                fields
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value?).ok()?))),
            );
        }
        let response = self.client.get(Method::GET, source.url.clone(), headers).await?;
        let reply = reply::read(response.head.status, &response.head.headers, part, SystemTime::now())
            .map_err(|fault| fault.at(response.elsewhere()))?;
        Ok((response, reply))
    }

    /// Reads the body of `opened` until the end of `lane` and hands it to the store.
    pub(super) async fn pull(&self, opened: Opened, lane: &Lane) -> Result<(), Fault> {
        let mut body = Body::new(opened.response);
        loop {
            let next = body.next(self).await;
            let next = next.map_err(|fault| fault.at(body.response.elsewhere()))?;
            let Some(mut chunk) = next else { break };
            let Range { start, end } = lane.rest();
            let room = end.saturating_sub(start);
            if chunk.len() as u64 > room {
                if !opened.is_framed {
                    return Err(Fault::Fatal(Error::Size {
                        url: (&body.response.url).into(),
                        expected: end,
                        found: start + chunk.len() as u64,
                    }));
                }
                chunk.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            }
            let received = start..start + chunk.len() as u64;
            let writing = Writing::begin(&self.writing);
            self.store.write(start, chunk).await?;
            drop(writing);
            lane.position.store(received.end, Ordering::Relaxed);
            let mut plan = self.plan();
            plan.transferred += received.end - received.start;
            plan.received.insert(received);
            if lane.rest().is_empty() {
                return Ok(());
            }
        }
        let rest = lane.rest();
        if rest.end == u64::MAX {
            self.plan().identity.length = Some(rest.start);
            Ok(())
        } else if rest.is_empty() {
            Ok(())
        } else {
            let reason = format!("the body ended {} bytes early", rest.end - rest.start);
            Err(Fault::Interrupted(reason).at(body.response.elsewhere()))
        }
    }

    pub(super) fn note(&self, text: &str) {
        self.progress.note(&self.request.id, text);
    }
}

/// A connection's wait for the disk.
struct Writing<'a>(&'a AtomicUsize);

impl<'a> Writing<'a> {
    fn begin(number: &'a AtomicUsize) -> Self {
        number.fetch_add(1, Ordering::Relaxed);
        Self(number)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that is delivered in large pieces if it comes fast, and at once if it comes slowly.
struct Body {
    response: ServerResponse,
    end: Option<Result<(), Fault>>,
}

impl Body {
    const fn new(response: ServerResponse) -> Self {
        Self { response, end: None }
    }

    async fn next(&mut self, transfer: &Transfer<'_>) -> Result<Option<Bytes>, Fault> {
        if let Some(end) = self.end.take() {
            return end.map(|()| None);
        }
        let patience = transfer.patience;
        let Some(first) = self.response.chunk().await.map_err(|e| Fault::in_body(&e, patience))? else {
            return Ok(None);
        };
        if first.len() >= ENOUGH {
            return Ok(Some(first));
        }
        let mut gathered = BytesMut::new();
        while gathered.len() < GATHER {
            match self.response.chunk().now_or_never() {
                Some(Ok(Some(more))) => {
                    if gathered.is_empty() {
                        gathered.reserve(GATHER);
                        gathered.extend_from_slice(&first);
                    }
                    gathered.extend_from_slice(&more);
                }
                Some(Ok(None)) => {
                    self.end = Some(Ok(()));
                    break;
                }
                Some(Err(e)) => {
                    self.end = Some(Err(Fault::in_body(&e, patience)));
                    break;
                }
                None => break,
            }
        }
        Ok(Some(if gathered.is_empty() { first } else { gathered.freeze() }))
    }
}
