//! Which process listens at an address.

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "tables.rs")]
mod os;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whose listening sockets are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Those of the process with this id and of its descendants.
    Process(u32),
    /// Those of every process of this process's user.
    User,
}

/// Proof that a process, or one of its descendants, listens at an address.
///
/// A connection that is opened while the proof exists is safe if the proof [still holds](Listener::still_holds)
/// afterwards.
#[derive(Debug)]
pub struct Listener(os::Evidence);

impl Listener {
    /// Proves that every socket that can accept a connection to `address` belongs to `owner`; `None` while there is no
    /// such socket.
    ///
    /// # Errors
    /// `PermissionDenied` when another process listens there; other errors when the system cannot answer.
    pub fn find(owner: Owner, address: SocketAddr) -> io::Result<Option<Self>> {
        Ok(os::find(owner, address)?.map(Self))
    }

    /// Whether the owner still has the same sockets.
    #[must_use]
    pub fn still_holds(&self) -> bool {
        os::still_holds(&self.0)
    }
}

/// The program that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The process id.
    pub pid: u32,
    /// The program's name as the system shows it.
    pub name: String,
}

/// The process that listens on `port` at `address`; `None` when there is none or the system does not show it.
///
/// Reads the sockets of all processes, so it is meant to explain a conflict, not to detect one.
#[must_use]
pub fn listener_on(address: IpAddr, port: u16) -> Option<Listening> {
    let rows = listening_sockets().map(|listener| (listener.socket, listener.process));
    let process = most_specific(SocketAddr::new(address, port), rows.collect())
        .into_iter()
        .next()?;
    Some(Listening {
        pid: process.pid,
        name: process.name,
    })
}

fn listening_sockets() -> impl Iterator<Item = listeners::Listener> {
    let all = listeners::get_all().unwrap_or_default().into_iter();
    all.filter(|listener| {
        listener.protocol == listeners::Protocol::TCP && listener.state == listeners::SocketState::Listen
    })
}

/// The values of the `rows` that accept connections to `address`. A socket at that exact address wins over one at the
/// unspecified address, and a socket of the same family over one of the other.
fn most_specific<T>(address: SocketAddr, rows: Vec<(SocketAddr, T)>) -> Vec<T> {
    let candidates: &[IpAddr] = match address.ip() {
        IpAddr::V4(ip) => &[
            ip.into(),
            ip.to_ipv6_mapped().into(),
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv6Addr::UNSPECIFIED.into(),
        ],
        IpAddr::V6(ip) => &[ip.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    let rank = |row: &SocketAddr| {
        let ranked = candidates.iter().position(|ip| *ip == row.ip());
        ranked.filter(|_| row.port() == address.port())
    };
    let best = rows.iter().filter_map(|(row, _)| rank(row)).min();
    let best = rows.into_iter().filter(|(row, _)| best.is_some() && rank(row) == best);
    best.map(|(_, value)| value).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    #[cfg_attr(windows, ignore = "Wine does not tell whose a socket is")]
    fn a_process_is_proved_to_listen_until_it_closes_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let proof = Listener::find(Owner::Process(std::process::id()), address)
            .unwrap()
            .unwrap();
        assert!(proof.still_holds());
        drop(listener);
        // Children of other tests hold it for a moment, between fork and exec.
        super::super::tests::until(|| matches!(Listener::find(Owner::Process(std::process::id()), address), Ok(None)));
        assert!(!proof.still_holds());
    }

    #[test]
    #[cfg_attr(windows, ignore = "Wine does not tell whose a socket is")]
    fn another_process_on_the_port_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let address = listener.local_addr().unwrap();
        let found = Listener::find(Owner::Process(other.id()), address);
        assert!(Listener::find(Owner::User, address).unwrap().unwrap().still_holds());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(found.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn the_most_specific_socket_takes_the_connection() {
        let row = |text: &str| (text.parse::<SocketAddr>().unwrap(), text.to_owned());
        let rows = || vec![row("0.0.0.0:7"), row("[::]:7"), row("127.0.0.1:8"), row("127.0.0.2:7")];
        let address = "127.0.0.1:7".parse().unwrap();
        assert_eq!(most_specific(address, rows()), ["0.0.0.0:7"]);
        let mut with_own = rows();
        with_own.push(row("127.0.0.1:7"));
        assert_eq!(most_specific(address, with_own), ["127.0.0.1:7"]);
        assert_eq!(most_specific("[::1]:7".parse().unwrap(), rows()), ["[::]:7"]);
        assert!(most_specific("127.0.0.1:9".parse().unwrap(), rows()).is_empty());
    }
}
