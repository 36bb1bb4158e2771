//! Event loops that cannot run out of threads: where the system refuses a thread, tokio panics.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// The first thread for blocking work stays this long. Further work waits for it where the system gives no second one.
const KEPT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Fails where the system gives this process no thread.
///
/// # Errors
/// The system's, such as for a limit of processes.
pub fn check() -> io::Result<()> {
    // Nothing happens in it, so it cannot have panicked.
    let _ = thread::Builder::new().spawn(|| ())?.join();
    Ok(())
}

/// An event loop on the calling thread, with a thread for blocking work that stays.
///
/// # Errors
/// When the system gives no thread, or no event queue.
pub fn event_loop() -> io::Result<Runtime> {
    let runtime = bare_event_loop()?;
    if let Err(error) = check() {
        // Dropping it could wait, which is an error inside of another event loop.
        runtime.shutdown_background();
        return Err(error);
    }
    runtime.spawn_blocking(|| ());
    Ok(runtime)
}

/// An event loop for work that never blocks: it starts no thread.
///
/// # Errors
/// When the system gives no event queue.
pub fn bare_event_loop() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(KEPT)
        .build()
}
