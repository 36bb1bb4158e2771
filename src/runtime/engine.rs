//! The engine's status, as the supervisor reports it to the gateway.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Endpoint, ProgramStamp};
use crate::text::words;

words! {
    /// The states of the supervised engine.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum EngineState {
        /// The engine has started, but does not answer yet or is still loading its model.
        Starting = "starting",
        /// The engine answers.
        Ready = "ready",
        /// The engine was ready, but does not answer its health probes.
        Unhealthy = "unhealthy",
        /// The engine has ended or was given up; the next one starts after a pause.
        Restarting = "restarting",
        /// The engine keeps failing soon after its start. The next one starts after the longest pause.
        CrashLoop = "crash-loop",
        /// The engine is not started, because its model is missing or its terms are not accepted. It starts as soon as both
        /// are in place.
        Blocked = "blocked",
        /// The supervisor is shutting down.
        Stopping = "stopping",
    }
}

/// The engine as `GET /status` describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EngineReport {
    /// The engine's process id; `None` between two engines.
    pub pid: Option<u32>,
    /// The engine's private port; `None` between two engines.
    pub port: Option<u16>,
    /// The engine's state.
    pub state: EngineState,
    /// The number of replaced engines.
    pub restarts: u64,
    /// Why the last engine ended.
    pub last_exit: Option<String>,
    /// The missing item that keeps the engine from starting, and the remedy.
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

/// The engine's status after the last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineStatus {
    /// The engine's state.
    pub state: EngineState,
    /// The engine's process id; `None` while there is no engine.
    pub pid: Option<u32>,
    /// The engine's private loopback port; `None` while there is no engine.
    pub endpoint: Option<Endpoint>,
    /// The stamp of the executable from which the engine was started.
    pub program: Option<ProgramStamp>,
    /// The number of replaced engines since the supervisor started.
    pub restarts: u64,
    /// When the state began.
    pub since: Instant,
    /// The number of the current release of runtime or model, counted from the start of the supervisor.
    pub release: u64,
    /// The number of the current engine. A request that began under another number was cut by a restart.
    pub generation: u64,
    /// Why the last engine ended, in words.
    pub last_exit: Option<String>,
    /// While the engine does not answer or the next one waits: what failed, since when, and what follows.
    pub fault: Option<String>,
    /// If the state is [`EngineState::Blocked`], the missing item and the remedy, in words.
    pub blocked: Option<String>,
}

impl EngineStatus {
    /// The status before the first engine.
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
            fault: None,
            blocked: None,
        }
    }

    /// The engine's endpoint, if requests may be sent to it now.
    #[must_use]
    pub fn ready_endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref().filter(|_| self.state == EngineState::Ready)
    }
}
