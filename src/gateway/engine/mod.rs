//! The engine as the gateway sees it: slow, fragile, and given one request at a time.
//!
//! Requests queue here, in order, within their deadlines. A place becomes free only when the engine has really
//! finished. An engine continues to generate for a client that has left (docs/facts.md section 5), so the rest of such
//! an answer is read in the background before the next request is sent.

mod answer;
mod exchange;
mod sse;
mod stream;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::Uri;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::net::{Kept, Link, Pool};
use crate::runtime::{Endpoint, EngineActivity, EngineState, EngineStatus, ModelGate};

pub(super) use self::exchange::Exchange;
pub(super) use self::stream::AnswerStream;
use super::body::Outgoing;
use super::config::Limits;
use super::fault::Fault;

/// An idle connection can block a single-threaded engine, so it is kept only for the next request.
const KEEP_CONNECTION: Duration = Duration::from_millis(500);
/// The pause before the next connection to an engine that refuses connections although it counts as ready.
const RECONNECT: Duration = Duration::from_millis(20);

/// The maximum number of requests that wait while no engine runs: the default limit of connections.
const HELD: usize = 512;

/// How many times a prompt is sent if the engine breaks off before the client has received anything.
pub(super) const ATTEMPTS: u32 = 2;

/// The queue in front of the engine, and the connection to it.
pub(super) struct Engine {
    status: watch::Receiver<EngineStatus>,
    gate: Option<Arc<ModelGate>>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    longest_queue: usize,
    /// Whether the queue is longer than usual.
    holds: AtomicBool,
    prompt_time: Duration,
    pool: Pool<Outgoing>,
    activity: EngineActivity,
}

/// Permission to send the engine a request.
struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Engine {
    pub(super) fn new(
        status: watch::Receiver<EngineStatus>,
        gate: Option<Arc<ModelGate>>,
        activity: EngineActivity,
        limits: &Limits,
    ) -> Self {
        let places = limits.engine_concurrency.max(1);
        Self {
            status,
            gate,
            places: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
            longest_queue: limits.engine_queue,
            holds: AtomicBool::new(false),
            prompt_time: limits.prompt_time,
            pool: Pool::new(places, KEEP_CONNECTION),
            activity,
        }
    }

    /// The number of the release from which the engine was started.
    pub(super) fn release(&self) -> u64 {
        self.status.borrow().release
    }

    /// The engine's status as its supervisor reports it.
    pub(super) fn status(&self) -> EngineStatus {
        self.status.borrow().clone()
    }

    /// Resolves when the engine misses its health probes.
    pub(super) async fn stops_answering(&self) {
        let mut status = self.status.clone();
        let unhealthy = status.wait_for(|status| status.state == EngineState::Unhealthy);
        if unhealthy.await.is_err() {
            std::future::pending().await
        }
    }

    /// The number of requests that wait for a place.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Closes a connection that has been idle for its time.
    pub(super) fn expire(&self) {
        self.pool.expire();
    }

    /// The number of requests that may wait. It is larger while the engine starts or is replaced, and until the waiting
    /// requests are served: this takes only a short time, and clients should not notice it.
    fn longest_queue(&self) -> usize {
        let is_starting = matches!(
            self.status.borrow().state,
            EngineState::Starting | EngineState::Restarting
        );
        let is_long = self.waiting() > self.longest_queue;
        let holds = self.longest_queue > 0 && (is_starting || is_long && self.holds.load(Ordering::Relaxed));
        self.holds.store(holds, Ordering::Relaxed);
        if holds {
            self.longest_queue.max(HELD)
        } else {
            self.longest_queue
        }
    }

    /// Waits in line for a place.
    async fn admit(&self, deadline: Instant) -> Result<Place, Fault> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(Place(permit));
        }
        let _waiting = Waiting::enter(&self.waiting);
        let longest = self.longest_queue();
        if self.waiting() > longest {
            return Err(Fault::Busy(longest));
        }
        match timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Place(permit)),
            Ok(Err(_)) => Err(shutting_down()),
            Err(_) => Err(Fault::Deadline),
        }
    }

    fn check_gate(&self) -> Result<(), Fault> {
        let checked = self.gate.as_ref().map_or(Ok(()), |gate| gate.check());
        checked.map_err(|closed| Fault::Blocked(closed.in_words()))
    }

    /// Waits for a place in the queue and for the engine, then sends it `body` for `path`. The wait can be cancelled.
    ///
    /// A refused connection is repeated until the deadline, because the engine may be about to be replaced.
    pub(super) async fn open(self: &Arc<Self>, path: &Uri, body: &Bytes, deadline: Instant) -> Result<Exchange, Fault> {
        let place = self.admit(deadline).await?;
        let mut status = self.status.clone();
        loop {
            let endpoint = endpoint(&mut status, deadline).await?;
            let address = endpoint.address();
            self.check_gate()?;
            let link = match self.pool.take(Kept::To(address)) {
                Some(link) => link,
                None => match timeout_at(deadline, connect(&endpoint)).await {
                    Ok(Ok(link)) => link,
                    Ok(Err(_)) => {
                        changed_or_reconnect(&mut status, deadline).await?;
                        continue;
                    }
                    Err(_) => return Err(Fault::Deadline),
                },
            };
            let give_up = Instant::now() + self.prompt_time;
            return Ok(Exchange::begin(self, place, link, address, path, body, give_up));
        }
    }
}

/// Opens a connection that is proved to lead to the engine, not to another process on its port.
async fn connect(endpoint: &Endpoint) -> io::Result<Link<Outgoing>> {
    Link::plain(endpoint.connect().await?).await
}

/// Waits until the engine is ready and returns its endpoint. Marks the value of `status` as seen.
async fn endpoint(status: &mut watch::Receiver<EngineStatus>, deadline: Instant) -> Result<Endpoint, Fault> {
    loop {
        {
            let status = status.borrow_and_update();
            if let Some(endpoint) = status.ready_endpoint() {
                return Ok(endpoint.clone());
            }
            match status.state {
                EngineState::CrashLoop => return Err(Fault::Unavailable(crash_loop(&status))),
                EngineState::Blocked => return Err(Fault::Blocked(status.blocked.clone().unwrap_or_default())),
                EngineState::Stopping => return Err(shutting_down()),
                _ => {}
            }
        }
        match timeout_at(deadline, status.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(shutting_down()),
            Err(_) => return Err(Fault::Unavailable("it is still starting".to_owned())),
        }
    }
}

fn crash_loop(status: &EngineStatus) -> String {
    match &status.last_exit {
        Some(reason) => format!("it keeps failing ({reason}); see `gem-setup logs`"),
        None => "it keeps failing; see `gem-setup logs`".to_owned(),
    }
}

fn shutting_down() -> Fault {
    Fault::Unavailable("it is shutting down".to_owned())
}

/// Waits for the next change of `status`, but no longer than the pause after a refused connection.
async fn changed_or_reconnect(status: &mut watch::Receiver<EngineStatus>, deadline: Instant) -> Result<(), Fault> {
    if Instant::now() >= deadline {
        return Err(Fault::Unavailable("it refuses connections".to_owned()));
    }
    match timeout(RECONNECT, status.changed()).await {
        Ok(Err(_)) => Err(shutting_down()),
        // The status has changed or the pause is over: check the engine again.
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// Counts a waiting request until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use gem_platform::process::Owner;

    use super::*;

    fn ready(status: &mut EngineStatus) {
        status.state = EngineState::Ready;
        let owner = Owner::Process(std::process::id());
        status.endpoint = Some(Endpoint::new(([127, 0, 0, 1], 9).into(), owner));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusing_engine_is_left_alone_until_something_changes_or_the_pause_is_over() {
        let (sender, mut status) = watch::channel(EngineStatus::starting());
        sender.send_modify(ready);
        let start = Instant::now();
        let deadline = start + Duration::from_secs(8);
        assert!(endpoint(&mut status, deadline).await.is_ok());
        assert!(changed_or_reconnect(&mut status, deadline).await.is_ok());
        assert_eq!(start.elapsed(), RECONNECT);
        sender.send_modify(ready);
        assert!(changed_or_reconnect(&mut status, deadline).await.is_ok());
        assert_eq!(start.elapsed(), RECONNECT, "the supervisor noticed");
        drop(sender);
        assert!(changed_or_reconnect(&mut status, deadline).await.is_err());
    }
}
