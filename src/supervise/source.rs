//! The engine's command, which changes when another release of the runtime becomes current.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::runtime::CommandLine;

/// The interval between two look-ups of the current command.
const LOOK: Duration = Duration::from_millis(200);

/// Looks up the command of the current release; `None` if it cannot be determined now.
pub type CurrentCommand = Arc<dyn Fn() -> Option<CommandLine> + Send + Sync>;

/// The command with which an engine is started.
#[derive(Clone)]
pub struct CommandSource {
    first: CommandLine,
    current: Option<CurrentCommand>,
}

impl fmt::Debug for CommandSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CommandSource").field(&self.first).finish()
    }
}

impl From<CommandLine> for CommandSource {
    /// A command that never changes.
    fn from(first: CommandLine) -> Self {
        let current = None;
        Self { first, current }
    }
}

impl CommandSource {
    /// The command `first`, until `current` returns another one. `current` is called often and must be cheap.
    #[must_use]
    pub fn following(first: CommandLine, current: CurrentCommand) -> Self {
        let current = Some(current);
        Self { first, current }
    }

    /// The command for the first engine.
    pub(super) fn first(&self) -> CommandLine {
        self.first.clone()
    }

    /// The command for the next engine; `last` if the current one cannot be determined.
    pub(super) fn current_or(&self, last: CommandLine) -> CommandLine {
        let current = self.current.as_ref().and_then(|current| current());
        current.unwrap_or(last)
    }

    /// Waits until the current command differs from `used`.
    pub(super) async fn superseded(&self, used: &CommandLine) {
        let Some(current) = &self.current else {
            return std::future::pending().await;
        };
        loop {
            sleep(LOOK).await;
            if current().is_some_and(|now| now != *used) {
                return;
            }
        }
    }
}
