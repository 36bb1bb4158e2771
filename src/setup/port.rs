//! The server's port if another program uses it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;

use gem_platform::process::{identity, listener_on};

use super::check::{Check, Fix, Subject};
use super::site::Site;
use super::{Setup, advice};
use crate::error::{Failure, Kind};
use crate::net::{LOOPBACK_DOWN, RAISE_LOOPBACK, is_loopback_down};
use crate::runtime::local;
use crate::settings::Destination;
use crate::supervise;
use crate::text::one_line;

/// The check that fails if another program uses the server's port.
pub(super) const PORT: Subject = Subject::new("server.port", "server port");
/// The check that fails if the server would refuse its options.
pub(super) const OPTIONS: Subject = Subject::new("server.options", "server options");
/// A program on loopback accepts at once. One that does not still occupies the port.
const PATIENCE: Duration = Duration::from_secs(1);

/// The failure to start on a `port` that another program uses, with a hint; `None` if no program listens there.
pub async fn taken_port(site: &Site<'_>, port: u16) -> Option<Failure> {
    if !is_taken(port).await {
        return None;
    }
    Some(failure(site, taken(port)))
}

/// The failure to start on a `port` that another program uses or that the system keeps for others, with a hint.
pub async fn unusable_port(site: &Site<'_>, port: u16) -> Option<Failure> {
    let found = find_obstacle(site.layout.is_of_system(), port).await?;
    Some(failure(site, found))
}

fn failure(site: &Site<'_>, (fix, check): (Fix, Check)) -> Failure {
    let hint = advice::named_at(site, fix).to_string();
    Failure::new(Kind::Conflict, check.detail).with_hint(hint)
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

/// Why the server cannot listen on `port`: the fix and the failed check; `None` if it can.
pub(super) async fn obstacle(setup: &Setup<'_>, port: u16) -> Option<(Fix, Check)> {
    if !setup.wanted.with_server && is_loopback_down() {
        return None;
    }
    let is_for_all = setup.wanted.chosen.scope == Destination::System || setup.site.layout.is_of_system();
    find_obstacle(is_for_all, port).await
}

/// Like [`obstacle`]; `is_for_all` says whether the system runs the server.
async fn find_obstacle(is_for_all: bool, port: u16) -> Option<(Fix, Check)> {
    if is_loopback_down() {
        let fix = Fix::by_hand(RAISE_LOOPBACK);
        return Some((fix.clone(), PORT.fail(LOOPBACK_DOWN, fix)));
    }
    if is_taken(port).await {
        return Some(taken(port));
    }
    // The service's user is without privileges.
    if is_for_all && port < first_common_port() {
        return Some(forbidden(port));
    }
    match refusal(port) {
        Some(ErrorKind::AddrInUse) => Some(taken(port)),
        Some(ErrorKind::PermissionDenied) if !is_for_all => Some(forbidden(port)),
        _ => None,
    }
}

/// Why the system refuses `port` to a listener. A program may hold a port on which it does not listen.
fn refusal(port: u16) -> Option<ErrorKind> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let refused = |ip| Some(TcpListener::bind((ip, port)).err()?.kind());
    let refused = loopback.into_iter().filter_map(refused);
    // A system without IPv6 has no such address.
    refused
        .into_iter()
        .find(|kind| matches!(kind, ErrorKind::AddrInUse | ErrorKind::PermissionDenied))
}

/// The fix and the failed check for a `port` that the system keeps for others.
fn forbidden(port: u16) -> (Fix, Check) {
    let common = first_common_port();
    let detail = if port < common {
        format!("port {port} cannot be used: only root may listen on ports below {common}")
    } else {
        format!("port {port} cannot be used: the system does not allow this user to listen on it")
    };
    let fix = match supervise::free_port_after(port.max(common - 1)) {
        Some(free) => Fix::run(format!("install --port {free}")),
        None => Fix::by_hand("choose another port with `install --port N`"),
    };
    (fix.clone(), PORT.fail(detail, fix))
}

/// The first port that needs no privileges.
fn first_common_port() -> u16 {
    let limit = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let limit = limit.ok().and_then(|text| text.trim().parse().ok());
    limit.unwrap_or(1024).max(1)
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    #[test]
    fn a_port_is_refused_while_a_silent_socket_holds_it() {
        let holder = TcpSocket::new_v4().unwrap();
        holder.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let port = holder.local_addr().unwrap().port();
        assert_eq!(refusal(port), Some(ErrorKind::AddrInUse));
    }
}
