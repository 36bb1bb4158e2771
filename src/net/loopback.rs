//! Whether programs of this machine can reach each other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use gem_platform::Os;

/// What to do if [`is_loopback_down`].
pub const RAISE_LOOPBACK: &str = match Os::HOST {
    Os::Linux => "switch it on as root: `ip link set lo up`",
    Os::Macos => "switch it on as root: `ifconfig lo0 up`",
    Os::Windows => "restart the computer",
};
/// The fault then.
pub const LOOPBACK_DOWN: &str = "the machine's loopback interface is down, so no program can reach a server here";

/// Whether no loopback address can be reached, as in a new network namespace. Sends nothing.
#[must_use]
pub fn is_loopback_down() -> bool {
    let can_reach = |ip: IpAddr| {
        let socket = UdpSocket::bind(SocketAddr::new(ip, 0))?;
        socket.connect(SocketAddr::new(ip, 9))
    };
    let all = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let faults = all.map(|ip| can_reach(ip).err().map(|error| error.kind()));
    let is_down = |kind| matches!(kind, io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown);
    faults.iter().all(Option::is_some) && faults.into_iter().flatten().any(is_down)
}
