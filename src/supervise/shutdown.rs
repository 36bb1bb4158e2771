//! Shutdown requests, as a watchable value.

use std::io;

use gem_platform::process::ShutdownSignals;
use tokio::sync::watch;

/// How urgently the server is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shutdown {
    /// Not at all.
    Running,
    /// Ask the engine, drain requests, wait for a while.
    Graceful,
    /// At once.
    Immediate,
}

/// Follows the signals that ask this process to end: the first means [`Shutdown::Graceful`], a second
/// [`Shutdown::Immediate`]. `heard` receives each signal's name.
///
/// The sender lets other parts of the server ask for its end. Must be called inside a tokio runtime.
///
/// # Errors
/// When a handler cannot be installed.
pub fn on_signals(
    mut heard: impl FnMut(&str) + Send + 'static,
) -> io::Result<(watch::Sender<Shutdown>, watch::Receiver<Shutdown>)> {
    let mut signals = ShutdownSignals::listen()?;
    let (sender, receiver) = watch::channel(Shutdown::Running);
    let asking = sender.clone();
    tokio::spawn(async move {
        for phase in [Shutdown::Graceful, Shutdown::Immediate] {
            heard(signals.recv().await);
            ask(&asking, phase);
        }
        // The last phase stays readable for as long as a receiver lives.
        asking.closed().await;
    });
    Ok((sender, receiver))
}

/// Asks for `phase`, unless a more urgent one was asked for.
pub fn ask(sender: &watch::Sender<Shutdown>, phase: Shutdown) {
    sender.send_if_modified(|now| {
        let is_more_urgent = phase > *now;
        *now = phase.max(*now);
        is_more_urgent
    });
}

/// Waits until at least `phase` is requested; forever if no request can come any more.
pub async fn reached(receiver: &mut watch::Receiver<Shutdown>, phase: Shutdown) {
    if receiver.wait_for(|now| *now >= phase).await.is_err() {
        std::future::pending().await
    }
}
