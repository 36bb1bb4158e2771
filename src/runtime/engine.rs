//! The engine's status, as the supervisor reports it to the gateway.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Endpoint, Stamp};

/// The states of the supervised child.
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

impl EngineState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Ready,
        Self::Unhealthy,
        Self::Restarting,
        Self::CrashLoop,
        Self::Blocked,
        Self::Stopping,
    ];
}

impl fmt::Display for EngineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unhealthy => "unhealthy",
            Self::Restarting => "restarting",
            Self::CrashLoop => "crash-loop",
            Self::Blocked => "blocked",
            Self::Stopping => "stopping",
        })
    }
}

/// The engine as of the last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineStatus {
    /// Which state.
    pub state: EngineState,
    /// The child's process id while there is a child.
    pub pid: Option<u32>,
    /// Where the child listens: a private loopback port. `None` while there is no child.
    pub endpoint: Option<Endpoint>,
    /// The state of the executable that the child was started from.
    pub program: Option<Stamp>,
    /// How often a child was replaced since the supervisor started.
    pub restarts: u64,
    /// When the state began.
    pub since: Instant,
    /// Counts children: a request that began under another generation was cut by a restart.
    pub generation: u64,
    /// Why the last child ended, for people.
    pub last_exit: Option<String>,
    /// The missing item while the state is [`EngineState::Blocked`], and the remedy, for people.
    pub blocked: Option<String>,
}

impl EngineStatus {
    /// Before the first child.
    #[must_use]
    pub fn starting() -> Self {
        Self {
            state: EngineState::Starting,
            pid: None,
            endpoint: None,
            program: None,
            restarts: 0,
            since: Instant::now(),
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
