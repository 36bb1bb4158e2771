//! The server's port if another program uses it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use gem_platform::process::{identity, listener_on};

use super::advice;
use super::check::{Check, Fix, Subject};
use super::site::Site;
use crate::error::{Failure, Kind};
use crate::runtime::local;
use crate::supervise;
use crate::text::one_line;

/// The check that fails if another program uses the server's port.
pub(super) const PORT: Subject = Subject::new("server.port", "server port");
/// A program on loopback accepts at once. One that does not still occupies the port.
const PATIENCE: Duration = Duration::from_secs(1);

/// The failure to start on a `port` that another program uses, with a hint; `None` if no program listens there.
pub async fn taken_port(site: &Site<'_>, port: u16) -> Option<Failure> {
    if !is_taken(port).await {
        return None;
    }
    let (fix, check) = taken(port);
    let hint = advice::named_at(site, fix).to_string();
    Some(Failure::new(Kind::Conflict, check.detail).with_hint(hint))
}

/// Whether a program listens on `port`.
pub(super) async fn is_taken(port: u16) -> bool {
    tokio::time::timeout(PATIENCE, local::is_listening(port))
        .await
        .unwrap_or(true)
}

/// The fix and the failed check for a `port` that another program uses.
pub(super) fn taken(port: u16) -> (Fix, Check) {
    let detail = format!("port {port} is taken by {}", holder_of(port));
    let fix = match supervise::free_port_after(port) {
        Some(free) => Fix::run_or(format!("install --port {free}"), "end that process"),
        None => Fix::by_hand("end that process"),
    };
    (fix.clone(), PORT.fail(detail, fix))
}

fn holder_of(port: u16) -> String {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let Some(found) = loopback.into_iter().find_map(|at| listener_on(at, port)) else {
        return "another program".to_owned();
    };
    let command = identity(found.pid).map(|process| process.command.join(" "));
    let command = command.filter(|command| !command.is_empty()).unwrap_or(found.name);
    format!("`{}` (pid {})", one_line(&command), found.pid)
}
