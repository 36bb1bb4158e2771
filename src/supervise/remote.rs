//! A server reached over its port, after the listener is proved to be that server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use gem_platform::process::{Owner, executable, has_open, identity, listener_on};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::status::{Running, ServerRecord, observe};
use crate::layout::Layout;
use crate::router::{FailedModel, ModelName};
use crate::runtime::EngineReport;
use crate::runtime::local::{self, Peer};

/// A gateway on loopback answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// The gateway's `/status`.
#[derive(Clone, Debug, Deserialize)]
pub struct Remote {
    /// The id of the server's process, valid on its machine and in its namespace.
    pub pid: Option<u32>,
    /// Whether the runtime answers requests.
    #[serde(default)]
    pub ready: bool,
    /// The server's public name.
    #[serde(default)]
    pub instance: Option<String>,
    /// When the server's certificate expires, if it uses TLS.
    #[serde(default)]
    pub certificate_until: Option<Timestamp>,
    /// The server's engine.
    #[serde(default, rename = "child")]
    engine: Option<EngineReport>,
    /// The hosted models that failed.
    #[serde(default)]
    pub failed_models: Vec<FailedModel>,
}

/// The server to which requests to `port` in this home should go: the home's own server, else another one of
/// gem-setup's, or the home's runtime. A request to any other process fails, and the error names that process.
///
/// # Errors
/// When a file of the home cannot be read.
pub fn peer(layout: &Layout, port: u16) -> io::Result<Peer> {
    let owner = match observe(layout)? {
        Running::Supervised(record) if record.server.port == port && record.is_here() => return Ok(record.peer()),
        Running::Bare { pid, port: at } if at == port => Owner::Process(pid),
        _ => unrecorded(layout, port),
    };
    Ok(Peer::new(port, owner))
}

/// Whether the listener on `port` is a process that does not belong to this home.
#[must_use]
pub fn is_stranger(layout: &Layout, port: u16) -> bool {
    let is_known = matches!(observe(layout), Ok(Running::Supervised(record)) if record.server.port == port)
        || matches!(observe(layout), Ok(Running::Bare { port: at, .. }) if at == port);
    !is_known && unrecorded(layout, port) == Owner::Process(std::process::id())
}

/// The trusted owner of a listener on `port` that no record names.
fn unrecorded(layout: &Layout, port: u16) -> Owner {
    let on = |ip: IpAddr| listener_on(ip, port);
    match on(Ipv4Addr::LOCALHOST.into()).or_else(|| on(Ipv6Addr::LOCALHOST.into())) {
        // The listener's process is not visible, for example because it runs in another container.
        None => Owner::User,
        Some(found) if is_ours(layout, found.pid) => Owner::Process(found.pid),
        // This process does not listen, so the proof will fail.
        Some(_) => Owner::Process(std::process::id()),
    }
}

/// Whether the process `pid` holds the home's lock, or runs gem-setup or a runtime of this home.
fn is_ours(layout: &Layout, pid: u32) -> bool {
    let runs_ours = |program: PathBuf| {
        executable(std::process::id()).as_ref() == Some(&program) || program.starts_with(layout.lit_bin())
    };
    has_open(pid, &layout.server_lock_file()) == Some(true) || executable(pid).is_some_and(runs_ours)
}

/// The status of the server `peer`; `None` if it is not a gem-setup server.
async fn status(peer: Peer) -> Result<Option<Remote>, local::Error> {
    let answer = local::fetch(peer, "/status", PATIENCE).await?;
    Ok(serde_json::from_slice(&answer.body).ok())
}

/// Whether the gateway on `port` belongs to the process `pid` and is ready.
pub async fn is_ready(port: u16, pid: u32) -> bool {
    let answer = local::fetch(Peer::new(port, Owner::Process(pid)), "/readyz", PATIENCE).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Asks the server of `record` over its port; `None` if it does not answer or another server answers.
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

/// `record` with the state that the server itself reports, because on a full disk its file is out of date. A server
/// that accepts a connection but does not answer is not ready, even if its file says so.
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
    if let (Some(engine), Some(now)) = (&mut record.engine, answer.engine) {
        if engine.process.as_ref().map(|process| process.pid) != now.pid {
            engine.process = now.pid.and_then(identity);
        }
        engine.port = now.port.unwrap_or(0);
        engine.state = now.state;
        engine.restarts = now.restarts;
        engine.last_exit = now.last_exit;
        engine.blocked = now.blocked;
    }
    record
}

/// Whether this home's server on `port` should answer requests but does not.
pub async fn is_silent(layout: &Layout, port: u16) -> bool {
    match observe(layout) {
        Ok(Running::Supervised(record)) if record.server.port == port => refresh(*record).await.silent,
        _ => false,
    }
}

/// Asks the server of `record` over its port to end; returns whether it agreed.
pub(super) async fn shut_down(record: &ServerRecord) -> bool {
    as_owner(record, "/shutdown", None).await == Some(202)
}

/// Reports to the server of `record` that its owner allows `candidate` to answer for `failed` in this session; returns
/// whether the server stored that.
pub async fn consent(record: &ServerRecord, failed: &ModelName, candidate: &ModelName) -> bool {
    let switch = json!({"failed": failed, "candidate": candidate});
    as_owner(record, "/consent", Some(switch.to_string().into())).await == Some(200)
}

/// The status of the response to a request that only the server's owner may send.
async fn as_owner(record: &ServerRecord, path: &str, body: Option<Bytes>) -> Option<u16> {
    let authorization = record.instance.as_ref()?.authorization();
    let answer = local::post_authorized(record.peer(), path, &authorization, body, PATIENCE).await;
    Some(answer.ok()?.status)
}
