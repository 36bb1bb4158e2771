//! The threads that serve connections.
//!
//! Each has its own event loop and keeps its connections to clients and to the upstream: waking another thread for a
//! part of a request takes longer than most requests do.

use std::future::Future;
use std::io;
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use crate::threads;

/// The threads. Without any, the accepting task serves connections.
#[derive(Default)]
pub(super) struct Workers(Vec<Worker>);

struct Worker {
    handle: Handle,
    connections: usize,
    /// Dropping this ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Workers {
    /// Starts `count` threads.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        (1..=count).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }

    /// Lets the thread with the fewest connections serve `stream`. Also returns the thread's position.
    pub(super) fn serve<F>(
        &mut self,
        tasks: &mut JoinSet<()>,
        stream: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> io::Result<(AbortHandle, usize)>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let fewest = self
            .0
            .iter_mut()
            .enumerate()
            .min_by_key(|(_, worker)| worker.connections);
        let Some((place, worker)) = fewest else {
            return Ok((tasks.spawn(serve(stream)), 0));
        };
        // The stream must be registered with the event loop of the thread that serves it.
        let stream = stream.into_std()?;
        let task = async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::warn!("cannot serve a connection: {error}"),
            }
        };
        worker.connections += 1;
        Ok((tasks.spawn_on(task, &worker.handle), place))
    }

    /// Records that a connection of the thread at `place` has ended.
    pub(super) fn ended(&mut self, place: usize) {
        if let Some(worker) = self.0.get_mut(place) {
            worker.connections -= 1;
        }
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = threads::event_loop()?;
        let handle = runtime.handle().clone();
        let event_loop = EventLoop(Some(runtime));
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new()
            .name(format!("gateway-{}", number))
            // Dropping the sender ends the loop.
            .spawn(move || event_loop.run_until(stopped))?;
        Ok(Self {
            handle,
            connections: 0,
            _stop: stop,
        })
    }
}

/// Drops the event loop without waiting. The result of a pending name lookup is not needed. If the system allows no
/// thread, the loop is dropped inside another event loop, where waiting is forbidden.
struct EventLoop(Option<Runtime>);

impl EventLoop {
    fn run_until(&self, stopped: oneshot::Receiver<()>) {
        if let Some(runtime) = &self.0 {
            let _ = runtime.block_on(stopped);
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
