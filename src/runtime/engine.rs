//! The engine's status, as the supervisor reports it to the gateway.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Endpoint, Stamp};
use crate::text::words;

/// The states of the supervised engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineState {
    /// Started, does not answer yet, or its model is still being loaded.
    Starting,
    /// Answers.
    Ready,
    /// Was ready, does not answer its health probes.
    Unhealthy,
    /// Gone or given up on; the next one starts after a pause.
    Restarting,
    /// Keeps failing soon after its start; tried again at the longest pause.
    CrashLoop,
    /// Not started, for its model is not there or its terms are not on record; starts by itself once they are.
    Blocked,
    /// The supervisor is shutting down.
    Stopping,
}

words!(
    EngineState:
    Starting = "starting",
    Ready = "ready",
    Unhealthy = "unhealthy",
    Restarting = "restarting",
    CrashLoop = "crash-loop",
    Blocked = "blocked",
    Stopping = "stopping",
);

/// The engine as `GET /status` describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EngineReport {
    /// Its process id; `None` between two engines.
    pub pid: Option<u32>,
    /// The private port it listens on; `None` between two engines.
    pub port: Option<u16>,
    /// Its state.
    pub state: EngineState,
    /// How often it was replaced.
    pub restarts: u64,
    /// Why the last one ended.
    pub last_exit: Option<String>,
    /// The missing item while nothing may be sent to it, and the remedy.
    pub blocked: Option<String>,
}

impl From<EngineStatus> for EngineReport {
    fn from(status: EngineStatus) -> Self {
        Self {
            pid: status.pid,
            port: status.endpoint.map(|endpoint| endpoint.port()),
            state: status.state,
            restarts: status.restarts,
            last_exit: status.last_exit,
            blocked: status.blocked,
        }
    }
}

/// The engine as of the last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineStatus {
    /// Which state.
    pub state: EngineState,
    /// The engine's process id while there is an engine.
    pub pid: Option<u32>,
    /// Where the engine listens: a private loopback port. `None` while there is no engine.
    pub endpoint: Option<Endpoint>,
    /// The state of the executable that the engine was started from.
    pub program: Option<Stamp>,
    /// How often an engine was replaced since the supervisor started.
    pub restarts: u64,
    /// When the state began.
    pub since: Instant,
    /// Counts the releases of runtime or model that engines were started from.
    pub release: u64,
    /// Counts engines: a request that began under another generation was cut by a restart.
    pub generation: u64,
    /// Why the last engine ended, for people.
    pub last_exit: Option<String>,
    /// The missing item while the state is [`EngineState::Blocked`], and the remedy, for people.
    pub blocked: Option<String>,
}

impl EngineStatus {
    /// Before the first engine.
    #[must_use]
    pub fn starting() -> Self {
        Self {
            state: EngineState::Starting,
            pid: None,
            endpoint: None,
            program: None,
            restarts: 0,
            since: Instant::now(),
            release: 0,
            generation: 0,
            last_exit: None,
            blocked: None,
        }
    }

    /// The engine's endpoint if requests may be sent to it now.
    #[must_use]
    pub fn ready_endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref().filter(|_| self.state == EngineState::Ready)
    }
}
