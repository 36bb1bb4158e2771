//! Event loops that work even if the system refuses to start a thread, where tokio would panic.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinError;

/// The first thread for blocking work stays this long. Further work waits for it if the system allows no second thread.
const KEPT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Checks that this process can start a thread.
///
/// # Errors
/// The system's error, for example for a limit of processes.
pub fn check() -> io::Result<()> {
    // The thread does nothing, so it cannot panic.
    let _ = thread::Builder::new().spawn(|| ())?.join();
    Ok(())
}

/// The result of `work`, which blocks. It gets a thread of its own, if the system allows one, so that a signal can end
/// the command meanwhile.
///
/// # Errors
/// When the work panicked.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match check() {
        Ok(()) => tokio::task::spawn_blocking(work).await,
        Err(_) => Ok(work()),
    }
}

/// An event loop on the calling thread, with a lasting thread for blocking work.
///
/// # Errors
/// When the system allows no thread or no event queue.
pub fn event_loop() -> io::Result<Runtime> {
    let runtime = bare_event_loop()?;
    if let Err(error) = check() {
        // Dropping the runtime could wait, which is an error inside another event loop.
        runtime.shutdown_background();
        return Err(error);
    }
    runtime.spawn_blocking(|| ());
    Ok(runtime)
}

/// An event loop for work that never blocks. It starts no thread.
///
/// # Errors
/// When the system allows no event queue.
pub fn bare_event_loop() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(KEPT)
        .build()
}
