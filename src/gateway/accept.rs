//! The accept loop: admits connections up to a limit, makes room for new ones, ends stalled ones, and drains at
//! shutdown.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{Id, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::client::{Client, Standing, Turn};
use super::config::{Capacity, Limits};
use super::connection::{builder, serve};
use super::current::Current;
use super::workers::Workers;

/// The interval between two sweeps over all connections.
const SWEEP: Duration = Duration::from_millis(500);
/// The pause after the system could not accept a connection, for example for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The interval between two searches for room while connections wait.
const ROOM_PAUSE: Duration = Duration::from_millis(20);
/// A client that moves fewer bytes than this within a period counts as slow.
const SLOW: u64 = 64 << 10;
/// A client that is slow for this long must make room for others.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// When room is needed, this part of the connection limit (as a divisor) is freed too, by ending idle connections.
const SPARE_SHARE: usize = 32;
/// The time that a connection which must end has to receive its refusal.
const LAST_REPLY: Duration = Duration::from_secs(1);

/// A connection and its last progress.
struct Entry {
    client: Arc<Client>,
    /// The thread that serves it.
    place: usize,
    opened: Instant,
    /// The last time at which the client was not slow, and the bytes moved until then.
    progress: (u64, Instant),
}

impl Entry {
    /// How suitable this connection is to make room for another; `None` if it must stay.
    fn expendable(&self) -> Option<(bool, Instant)> {
        match self.client.turn() {
            _ if self.client.standing() > Standing::Admitted => None,
            // The client may not have had time to send its request.
            Turn::Idle(since) if self.client.standing() == Standing::Surplus && since.elapsed() < SLOW_FOR => None,
            Turn::Idle(since) => Some((false, since)),
            Turn::Sending | Turn::Reading => (self.progress.1.elapsed() >= SLOW_FOR).then_some((true, self.progress.1)),
            Turn::Server => None,
        }
    }

    fn make_room(&self) {
        self.client.set(match self.client.turn() {
            Turn::Idle(_) => Standing::Closing,
            // The client would not read a refusal.
            Turn::Reading => Standing::Cut,
            Turn::Sending | Turn::Server => Standing::Evicted,
        });
    }

    /// Records progress, and ends the connection if its client takes too long.
    fn look(&mut self, limits: &Limits) {
        let (turn, moved) = (self.client.turn(), self.client.moved());
        if turn == Turn::Server || moved - self.progress.0 >= SLOW {
            self.progress = (moved, Instant::now());
        }
        let slow_for = self.progress.1.elapsed();
        match (self.client.standing(), turn) {
            (Standing::Evicted, _) if slow_for > SLOW_FOR + LAST_REPLY => self.client.set(Standing::Cut),
            (_, Turn::Reading) if slow_for > limits.read_time => self.client.set(Standing::Cut),
            (_, Turn::Idle(since)) if since.elapsed() > limits.head_time => self.client.set(Standing::Closing),
            _ => {}
        }
    }
}

/// The open connections.
pub(super) struct Acceptor {
    builder: http1::Builder,
    current: Arc<Current>,
    workers: Workers,
    tasks: JoinSet<()>,
    entries: HashMap<Id, Entry>,
    /// The number of connections that wait for room.
    surplus: usize,
    capacity: Capacity,
    /// Whether the system refused the last connection.
    is_short: bool,
}

impl Acceptor {
    pub(super) fn new(current: Arc<Current>, workers: Workers, capacity: Capacity) -> Self {
        Self {
            builder: builder(&current.load().config.limits),
            current,
            workers,
            tasks: JoinSet::new(),
            entries: HashMap::new(),
            surplus: 0,
            capacity,
            is_short: false,
        }
    }

    /// Admits connections until `shutdown` is requested.
    pub(super) async fn accept(&mut self, listeners: Vec<TcpListener>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_place = self.entries.len() < self.capacity.connections + self.capacity.surplus;
            tokio::select! {
                () = &mut shutdown => return,
                accepted = accept_any(&listeners), if has_place => match accepted {
                    Ok(stream) => self.admit(stream),
                    Err(error) => self.pause(&error).await,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.forget(ended.map_or_else(|error| error.id(), |(id, ())| id)),
                () = sleep(ROOM_PAUSE), if self.surplus > 0 => self.balance(),
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    /// Lets open requests finish within `grace`, then ends them: those that wait for a reply get one that says so.
    pub(super) async fn drain(&mut self, grace: Duration) {
        for entry in self.entries.values() {
            entry.client.set(Standing::Closing);
        }
        if self.ends_within(grace).await {
            return;
        }
        let (mut refused, mut cut) = (0_usize, 0_usize);
        for entry in self.entries.values() {
            let awaits_reply = entry.client.awaits_reply();
            refused += usize::from(awaits_reply);
            cut += usize::from(!awaits_reply && entry.client.is_replying());
            entry
                .client
                .set(if awaits_reply { Standing::Overdue } else { Standing::Cut });
        }
        if refused + cut > 0 {
            tracing::warn!(
                "after {} s to finish, requests without a reply are refused: {refused}; replies are cut: {cut}",
                grace.as_secs_f32()
            );
        }
        if !self.ends_within(LAST_REPLY).await {
            self.tasks.shutdown().await;
        }
    }

    /// Waits up to `time` for all connections to end. Returns whether they have.
    async fn ends_within(&mut self, time: Duration) -> bool {
        let all_ended = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.entries
                    .remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
        };
        timeout(time, all_ended).await.is_ok()
    }

    fn admit(&mut self, stream: TcpStream) {
        self.is_short = false;
        // If this fails, replies are only slower.
        drop(stream.set_nodelay(true));
        let standing = if self.entries.len() < self.capacity.connections {
            Standing::Admitted
        } else {
            Standing::Surplus
        };
        let client = Client::new(standing);
        let task = {
            let (client, builder, current) = (Arc::clone(&client), self.builder.clone(), Arc::clone(&self.current));
            |stream| serve(client, stream, builder, current)
        };
        let (task, place) = match self.workers.serve(&mut self.tasks, stream, task) {
            Ok(served) => served,
            Err(error) => return tracing::warn!("cannot serve a connection: {error}"),
        };
        let opened = Instant::now();
        let entry = Entry {
            client,
            place,
            opened,
            progress: (0, opened),
        };
        self.entries.insert(task.id(), entry);
        self.count();
        if standing == Standing::Surplus {
            self.balance();
        }
    }

    fn forget(&mut self, id: Id) {
        if let Some(entry) = self.entries.remove(&id) {
            self.workers.ended(entry.place);
        }
        if self.surplus > 0 {
            self.balance();
        }
        self.count();
    }

    fn count(&self) {
        let open = self.entries.len();
        self.current.load().metrics.connections.store(open, Ordering::Relaxed);
    }

    /// Makes room for waiting connections and admits those that have room, the longest waiting first.
    fn balance(&mut self) {
        let of = |standing| {
            self.entries
                .values()
                .filter(move |entry| entry.client.standing() == standing)
        };
        let mut waiting: Vec<_> = of(Standing::Surplus).collect();
        waiting.sort_unstable_by_key(|entry| entry.opened);
        let admitted = of(Standing::Admitted).count();
        let missing = (admitted + waiting.len()).saturating_sub(self.capacity.connections);
        let room = self.capacity.connections.saturating_sub(admitted) + self.make_room(missing);
        let waiting = waiting
            .into_iter()
            .filter(|entry| entry.client.standing() == Standing::Surplus);
        let mut left = 0;
        for (at, entry) in waiting.enumerate() {
            if at < room {
                entry.client.set(Standing::Admitted);
            } else {
                left += 1;
            }
        }
        self.surplus = left;
    }

    /// Ends up to `wanted` connections: idle ones first (and a few more of them), then those with the slowest clients.
    /// Returns how many of them had been admitted.
    fn make_room(&self, wanted: usize) -> usize {
        if wanted == 0 {
            return 0;
        }
        let expendable = self
            .entries
            .values()
            .filter_map(|entry| Some((entry.expendable()?, entry)));
        let mut expendable: Vec<_> = expendable.collect();
        expendable.sort_unstable_by_key(|(rank, _)| *rank);
        // The few more make room in advance, so that a flood of newcomers does not need a search for each.
        let spare = wanted + self.capacity.connections / SPARE_SHARE;
        let chosen =
            |(at, ((is_slow, _), _)): &(usize, ((bool, Instant), &Entry))| *at < if *is_slow { wanted } else { spare };
        let ended = expendable
            .into_iter()
            .enumerate()
            .take_while(chosen)
            .map(|(_, (_, entry))| {
                let was_admitted = entry.client.standing() == Standing::Admitted;
                entry.make_room();
                usize::from(was_admitted)
            });
        ended.sum()
    }

    /// Waits after an accept `error` and ends an idle connection, because the system may lack descriptors.
    async fn pause(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_short, true) {
            tracing::warn!("cannot accept a connection: {error}");
        }
        let _ = self.make_room(1);
        sleep(ACCEPT_PAUSE).await;
    }

    fn sweep(&mut self) {
        let shared = self.current.load();
        if let Some(engine) = &shared.engine {
            engine.expire();
        }
        shared.upstream.expire();
        if shared.access.has_files() {
            let shared = Arc::clone(&shared);
            tokio::task::spawn_blocking(move || shared.access.refresh());
        }
        for entry in self.entries.values_mut() {
            entry.look(&shared.config.limits);
        }
    }
}

async fn accept_any(listeners: &[TcpListener]) -> io::Result<TcpStream> {
    poll_fn(|cx| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    })
    .await
}
