//! The accept loop: admits connections up to a limit, makes room, ends stalled ones, and drains at shutdown.

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

/// Between two sweeps over all connections.
const SWEEP: Duration = Duration::from_millis(500);
/// After the system gave no connection, for want of descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks for room while connections wait for it.
const ROOM_PAUSE: Duration = Duration::from_millis(20);
/// A client that sends or reads less than this within a period is slow in it.
const SLOW: u64 = 64 << 10;
/// A client that is slow for this long makes room for others.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// When one connection makes room, so does one of this many idle ones.
const SPARE_SHARE: usize = 32;
/// An evicted connection has this long to take its refusal.
const LAST_REPLY: Duration = Duration::from_secs(1);

/// A connection and its last progress.
struct Entry {
    client: Arc<Client>,
    /// The thread that serves it.
    place: usize,
    opened: Instant,
    /// Bytes moved at the last time that the client was not slow, and that time.
    progress: (u64, Instant),
}

impl Entry {
    /// How much this connection should make room for another; `None` if it should not.
    fn expendable(&self) -> Option<(bool, Instant)> {
        match self.client.turn() {
            _ if self.client.standing() > Standing::Admitted => None,
            // It may not have had the time to send its request.
            Turn::Idle(since) if self.client.standing() == Standing::Surplus && since.elapsed() < SLOW_FOR => None,
            Turn::Idle(since) => Some((false, since)),
            Turn::Sending | Turn::Reading => (self.progress.1.elapsed() >= SLOW_FOR).then_some((true, self.progress.1)),
            Turn::Server => None,
        }
    }

    fn make_room(&self) {
        self.client.set(match self.client.turn() {
            Turn::Idle(_) => Standing::Closing,
            // It would not read a refusal.
            Turn::Reading => Standing::Cut,
            Turn::Sending | Turn::Server => Standing::Evicted,
        });
    }

    /// Notes progress, and ends the connection if its client takes too long.
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
    /// How many of them wait for room.
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

    /// Admits connections until `shutdown` ends.
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

    /// Lets open requests finish within `grace`, then ends them.
    pub(super) async fn drain(&mut self, grace: Duration) {
        for entry in self.entries.values() {
            entry.client.set(Standing::Closing);
        }
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(grace, all_ended).await.is_err() {
            self.tasks.shutdown().await;
        }
    }

    fn admit(&mut self, stream: TcpStream) {
        self.is_short = false;
        // Without it replies are only slower.
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

    /// Makes room for the connections that wait for it, and admits those that have it, the longest waiting first.
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

    /// Ends up to `wanted` connections, idle ones first and of those some more, then those with the slowest clients. Gives how many of
    /// them had been admitted.
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
        // So that not every newcomer of a flood needs this look.
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

    /// Waits after `error` of accepting, and ends an idle connection: the system may lack descriptors.
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
