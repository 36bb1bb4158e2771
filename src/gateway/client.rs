//! A client connection as the accept loop sees it: which side must act next, how many bytes have moved, and how it
//! should end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

/// The standing of a connection. It can only move down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Beyond the limit: its requests wait for room.
    Surplus,
    /// Within the limit.
    Admitted,
    /// Ends after the request in progress.
    Closing,
    /// Must make room: a body that is still being received is refused.
    Evicted,
    /// Ends now, because the time to finish is over: a request that waits for its reply is refused.
    Overdue,
    /// Ends at once.
    Cut,
}

/// The side that must act next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The client: no request has been in progress since this time.
    Idle(Instant),
    /// The client, which must send more of its body.
    Sending,
    /// The client, which must read more of the reply.
    Reading,
    /// The gateway.
    Server,
}

/// A client connection's shared state. The connection writes it, the accept loop reads it.
#[derive(Debug)]
pub(super) struct Client {
    standing: watch::Sender<Standing>,
    opened: Instant,
    /// The number of requests between the arrival of their head and the end of their reply.
    in_progress: AtomicUsize,
    /// Whether a request has not got the head of its reply.
    awaits_reply: AtomicBool,
    /// When the last request ended, in milliseconds since `opened`.
    idle_since: AtomicU64,
    /// Whether the last read found nothing.
    is_dry: AtomicBool,
    /// Whether the last write was incomplete.
    is_blocked: AtomicBool,
    awaits_body: AtomicBool,
    has_unread_body: AtomicBool,
    moved: AtomicU64,
}

impl Client {
    pub(super) fn new(standing: Standing) -> Arc<Self> {
        Arc::new(Self {
            standing: watch::Sender::new(standing),
            opened: Instant::now(),
            in_progress: AtomicUsize::new(0),
            awaits_reply: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            is_dry: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            awaits_body: AtomicBool::new(false),
            has_unread_body: AtomicBool::new(false),
            moved: AtomicU64::new(0),
        })
    }

    pub(super) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// A receiver of all later changes of the standing.
    pub(super) fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Moves the standing down to `standing`; does nothing if it is already there or further down.
    pub(super) fn set(&self, standing: Standing) {
        self.standing.send_if_modified(|now| {
            let moves = standing > *now;
            *now = standing.max(*now);
            moves
        });
    }

    /// Whether a request may be served; waits up to `wait` for room.
    pub(super) async fn is_admitted(&self, wait: Duration) -> bool {
        if self.standing() != Standing::Surplus {
            return true;
        }
        let mut standing = self.watch();
        let admitted = standing.wait_for(|standing| *standing != Standing::Surplus);
        matches!(timeout(wait, admitted).await, Ok(Ok(standing)) if *standing == Standing::Admitted)
    }

    pub(super) fn turn(&self) -> Turn {
        // A blocked write may outlast its request, because the end of the reply is still in the buffer.
        if self.is_blocked.load(Ordering::Acquire) {
            return Turn::Reading;
        }
        if self.in_progress.load(Ordering::Acquire) > 0 {
            return if self.awaits_body.load(Ordering::Relaxed) {
                Turn::Sending
            } else {
                Turn::Server
            };
        }
        if self.is_dry.load(Ordering::Relaxed) {
            return Turn::Idle(self.opened + Duration::from_millis(self.idle_since.load(Ordering::Relaxed)));
        }
        Turn::Server
    }

    /// Bytes read and written so far.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Counts a request as in progress until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InProgress {
        self.in_progress.fetch_add(1, Ordering::AcqRel);
        self.awaits_reply.store(true, Ordering::Release);
        InProgress(Arc::clone(self))
    }

    /// Records that the reply to the request in progress has begun.
    pub(super) fn begins_reply(&self) {
        self.awaits_reply.store(false, Ordering::Release);
    }

    /// Whether a request waits for the head of its reply.
    pub(super) fn awaits_reply(&self) -> bool {
        self.in_progress.load(Ordering::Acquire) > 0 && self.awaits_reply.load(Ordering::Acquire)
    }

    /// Whether a reply has begun and has not reached the client completely.
    pub(super) fn is_replying(&self) -> bool {
        let is_open = self.in_progress.load(Ordering::Acquire) > 0 && !self.awaits_reply.load(Ordering::Acquire);
        is_open || self.is_blocked.load(Ordering::Acquire)
    }

    /// Waits until the time to finish is over.
    pub(super) async fn is_overdue(&self) {
        // The sender lives as long as `self`.
        drop(self.watch().wait_for(|standing| *standing >= Standing::Overdue).await);
    }

    /// Records a read of `count` bytes; `None` for one that found nothing.
    pub(super) fn read(&self, count: Option<usize>) {
        self.moved.fetch_add(count.unwrap_or(0) as u64, Ordering::Relaxed);
        self.is_dry.store(count.is_none(), Ordering::Relaxed);
    }

    /// Records a write of `count` bytes; `None` for one that did not fit.
    pub(super) fn wrote(&self, count: Option<usize>) {
        self.moved.fetch_add(count.unwrap_or(0) as u64, Ordering::Relaxed);
        if self.is_blocked.load(Ordering::Relaxed) != count.is_none() {
            self.is_idle_now();
            self.is_blocked.store(count.is_none(), Ordering::Release);
        }
    }

    pub(super) fn awaits_body(&self, awaits: bool) {
        self.awaits_body.store(awaits, Ordering::Relaxed);
    }

    pub(super) fn leave_body_unread(&self) {
        self.has_unread_body.store(true, Ordering::Relaxed);
    }

    /// Whether the client may still be sending a body that the gateway does not read.
    pub(super) fn has_unread_body(&self) -> bool {
        self.has_unread_body.load(Ordering::Relaxed)
    }

    fn is_idle_now(&self) {
        let open = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.idle_since.store(open, Ordering::Relaxed);
    }
}

/// A request in progress.
pub(super) struct InProgress(Arc<Client>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.is_idle_now();
        self.0.in_progress.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_in_the_write_buffer_is_not_idle() {
        let client = Client::new(Standing::Admitted);
        client.read(None);
        assert!(matches!(client.turn(), Turn::Idle(_)));
        let request = client.begin();
        assert_eq!(client.turn(), Turn::Server);
        client.awaits_body(true);
        assert_eq!(client.turn(), Turn::Sending);
        client.wrote(None);
        drop(request);
        assert_eq!(client.turn(), Turn::Reading);
        client.wrote(Some(7));
        assert!(matches!(client.turn(), Turn::Idle(_)));
        assert_eq!(client.moved(), 7);
    }

    #[test]
    fn a_fresh_connection_counts_as_idle_only_after_an_empty_read() {
        let client = Client::new(Standing::Admitted);
        assert_eq!(client.turn(), Turn::Server);
        client.read(Some(3));
        assert_eq!(client.turn(), Turn::Server);
        client.read(None);
        assert!(matches!(client.turn(), Turn::Idle(_)));
    }

    #[test]
    fn a_standing_never_moves_back() {
        let client = Client::new(Standing::Surplus);
        client.set(Standing::Evicted);
        client.set(Standing::Admitted);
        assert_eq!(client.standing(), Standing::Evicted);
    }
}
