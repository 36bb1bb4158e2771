//! A server reached over its port: the only way from another process namespace.

use std::time::Duration;

use serde::Deserialize;

use super::status::ServerRecord;
use crate::runtime::local;

/// A gateway on loopback answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the gateway's `/status` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Remote {
    /// The server's process id, where it runs.
    pub pid: Option<u32>,
    /// Whether the runtime answers requests.
    #[serde(default)]
    pub ready: bool,
    /// The name of the running server.
    #[serde(default)]
    pub instance: Option<String>,
}

/// Asks the listener on `port`; `None` if it is not a gem-setup server.
pub(super) async fn status(port: u16) -> Option<Remote> {
    let answer = local::fetch(port, "/status", PATIENCE).await.ok()?;
    serde_json::from_slice(&answer.body).ok()
}

/// Asks the server of `record` over its port; `None` when it does not answer, or another server does.
pub async fn ask(record: &ServerRecord) -> Option<Remote> {
    let expected = record.instance.as_ref()?.id();
    let remote = status(record.server.port).await?;
    (remote.instance.as_deref() == Some(expected)).then_some(remote)
}

/// Asks the server of `record` over its port to end; whether it agreed.
pub(super) async fn shut_down(record: &ServerRecord) -> bool {
    let Some(instance) = &record.instance else {
        return false;
    };
    let answer = local::post_authorized(record.server.port, "/shutdown", &instance.authorization(), PATIENCE).await;
    answer.is_ok_and(|answer| answer.status == 202)
}
