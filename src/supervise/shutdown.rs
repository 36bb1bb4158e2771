//! Shutdown requests, as a watchable value.

use std::io;

use gem_platform::process::ShutdownSignals;
use tokio::sync::watch;

/// How urgently the server must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shutdown {
    /// No shutdown was requested.
    Running,
    /// Drain requests, ask the engine to end, and wait for a limited time.
    Graceful,
    /// End at once.
    Immediate,
}

/// Reacts to the signals that ask this process to end: the first one requests [`Shutdown::Graceful`], a second one
/// [`Shutdown::Immediate`]. `heard` receives each signal's name.
///
/// Other parts of the server can request a shutdown through the sender. Must be called inside a tokio runtime.
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
        // The last phase stays readable as long as a receiver exists.
        asking.closed().await;
    });
    Ok((sender, receiver))
}

/// Requests `phase`, unless a more urgent one was requested.
pub fn ask(sender: &watch::Sender<Shutdown>, phase: Shutdown) {
    sender.send_if_modified(|now| {
        let is_more_urgent = phase > *now;
        *now = phase.max(*now);
        is_more_urgent
    });
}

/// Waits until at least `phase` is requested; waits forever if no request can come any more.
pub async fn reached(receiver: &mut watch::Receiver<Shutdown>, phase: Shutdown) {
    if receiver.wait_for(|now| *now >= phase).await.is_err() {
        std::future::pending().await
    }
}
