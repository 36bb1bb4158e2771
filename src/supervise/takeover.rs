//! Waits until a running server has changed to another release of the runtime.

use std::time::Duration;

use gem_platform::process::Identity;
use tokio::time::{Instant, sleep};

use super::remote;
use super::status::{EngineRecord, Running, observe};
use crate::layout::Layout;
use crate::runtime::{EngineState, ProgramStamp};

const POLL: Duration = Duration::from_millis(50);

/// The result of a server's change to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// An engine of the release is ready.
    Ready,
    /// No engine is running, because the model or its terms are missing. The next engine will be of the current
    /// release.
    Blocked,
    /// No server is running any more. The next one will start the current release.
    Stopped,
}

/// Waits until the server's engine is a process other than `before`, was started from `program` and is ready, or until
/// there is no reason to wait.
///
/// # Errors
/// Why it is not ready within `limit`.
pub async fn await_engine(
    layout: &Layout,
    program: Option<ProgramStamp>,
    before: Option<&Identity>,
    limit: Duration,
) -> Result<Taken, String> {
    let deadline = Instant::now() + limit;
    loop {
        let Ok(Running::Supervised(record)) = observe(layout) else {
            return Ok(Taken::Stopped);
        };
        // The release of the last engine does not matter.
        let is_blocked = record.engine.as_ref().map(|engine| engine.state) == Some(EngineState::Blocked);
        if is_blocked && !record.stopping {
            return Ok(Taken::Blocked);
        }
        let is_stopping = record.stopping;
        let engine = record
            .engine
            .clone()
            .filter(|engine| ProgramStamp::are_same(engine.program, program) && engine.process.as_ref() != before);
        let is_ready = engine.is_some() && remote::refresh(*record).await.ready;
        match engine.as_ref().map(|engine| (engine.state, engine)) {
            Some((EngineState::CrashLoop, engine)) => return Err(format!("it keeps failing ({})", last_exit(engine))),
            _ if is_ready => return Ok(Taken::Ready),
            // The server's open requests take longer than this wait.
            _ if is_stopping && Instant::now() >= deadline => return Ok(Taken::Stopped),
            _ if Instant::now() >= deadline => return Err(format!("it is not ready after {} s", limit.as_secs())),
            _ => sleep(POLL).await,
        }
    }
}

fn last_exit(engine: &EngineRecord) -> &str {
    engine.last_exit.as_deref().unwrap_or("it gives no reason")
}
