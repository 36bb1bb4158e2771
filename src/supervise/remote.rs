//! A server reached over its port, once the listener is proved to be that server.

use std::io;
use std::time::Duration;

use gem_platform::process::{Owner, identity};
use serde::Deserialize;

use super::status::{Running, ServerRecord, observe};
use crate::layout::Layout;
use crate::runtime::EngineState;
use crate::runtime::local::{self, Peer};

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
    /// Its engine.
    #[serde(default)]
    child: Option<RemoteChild>,
}

#[derive(Clone, Debug, Deserialize)]
struct RemoteChild {
    pid: Option<u32>,
    port: Option<u16>,
    state: EngineState,
    restarts: u64,
    last_exit: Option<String>,
    blocked: Option<String>,
}

/// The server that requests to `port` of this home are for: its own server, else one of the same user.
///
/// # Errors
/// When a file of the home cannot be read.
pub fn peer(layout: &Layout, port: u16) -> io::Result<Peer> {
    Ok(match observe(layout)? {
        Running::Supervised(record) if record.server.port == port => record.peer(),
        Running::Bare { pid, port: at } if at == port => Peer::new(port, Owner::Process(pid)),
        _ => Peer::new(port, Owner::User),
    })
}

/// Asks `peer`; `None` if it is not a gem-setup server.
async fn status(peer: Peer) -> Result<Option<Remote>, local::Error> {
    let answer = local::fetch(peer, "/status", PATIENCE).await?;
    Ok(serde_json::from_slice(&answer.body).ok())
}

/// Whether the gateway on `port` belongs to the process `pid` and is ready.
pub(super) async fn is_ready(port: u16, pid: u32) -> bool {
    let remote = status(Peer::new(port, Owner::Process(pid))).await;
    matches!(remote, Ok(Some(remote)) if remote.ready && remote.pid == Some(pid))
}

/// Asks the server of `record` over its port; `None` when it does not answer, or another server does.
pub async fn ask(record: &ServerRecord) -> Option<Remote> {
    try_ask(record).await.ok().flatten()
}

async fn try_ask(record: &ServerRecord) -> Result<Option<Remote>, local::Error> {
    let Some(instance) = &record.instance else {
        return Ok(None);
    };
    let remote = status(record.peer()).await?;
    Ok(remote.filter(|remote| remote.instance.as_deref() == Some(instance.id())))
}

/// `record` with the state that the server itself reports: on a full disk its file is out of date. A server that takes a
/// connection and does not answer is not ready, whatever its file says.
pub async fn refresh(mut record: ServerRecord) -> ServerRecord {
    if record.server.direct || record.stopping {
        return record;
    }
    let answer = match try_ask(&record).await {
        Ok(Some(answer)) => answer,
        Err(local::Error::TimedOut { .. }) => {
            record.silent = record.ready;
            record.ready = false;
            return record;
        }
        Ok(None) | Err(_) => return record,
    };
    record.ready = answer.ready;
    if let (Some(child), Some(now)) = (&mut record.child, answer.child) {
        if child.process.as_ref().map(|process| process.pid) != now.pid {
            child.process = now.pid.and_then(identity);
        }
        child.port = now.port.unwrap_or(0);
        child.state = now.state;
        child.restarts = now.restarts;
        child.last_exit = now.last_exit;
        child.blocked = now.blocked;
    }
    record
}

/// Whether this home's server on `port` should answer requests and does not.
pub async fn is_silent(layout: &Layout, port: u16) -> bool {
    match observe(layout) {
        Ok(Running::Supervised(record)) if record.server.port == port => refresh(*record).await.silent,
        _ => false,
    }
}

/// Asks the server of `record` over its port to end; whether it agreed.
pub(super) async fn shut_down(record: &ServerRecord) -> bool {
    let Some(instance) = &record.instance else {
        return false;
    };
    let answer = local::post_authorized(record.peer(), "/shutdown", &instance.authorization(), PATIENCE).await;
    answer.is_ok_and(|answer| answer.status == 202)
}
