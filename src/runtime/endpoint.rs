//! A loopback address and the process that must listen there.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use gem_platform::process::{Listener, Owner, listener_on};
use tokio::net::TcpStream;

/// An address with the expected owner of its listener. Any local user may take a port that is free for a moment, so a
/// connection counts only if its listener belongs to the owner. Clones share the proof.
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: SocketAddr,
    owner: Owner,
    proof: Arc<Mutex<Option<Arc<Listener>>>>,
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        (self.address, self.owner) == (other.address, other.owner)
    }
}

impl Eq for Endpoint {}

impl Endpoint {
    /// The endpoint of `owner` at `address`.
    #[must_use]
    pub fn new(address: SocketAddr, owner: Owner) -> Self {
        Self {
            address,
            owner,
            proof: Arc::default(),
        }
    }

    /// The address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// The process that owns the endpoint, if it is a single one.
    #[must_use]
    pub const fn process(&self) -> Option<u32> {
        match self.owner {
            Owner::Process(pid) => Some(pid),
            Owner::User => None,
        }
    }

    /// Opens a connection that leads to the owner.
    ///
    /// # Errors
    /// `PermissionDenied` when another process listens there; other errors when the connection fails.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let known = self.lock().clone().filter(|proof| proof.still_holds());
        let proof = match known {
            Some(proof) => proof,
            None => self.prove().await?,
        };
        let stream = TcpStream::connect(self.address).await?;
        // The same sockets were open before and after, so they accepted the connection.
        if proof.still_holds() {
            Ok(stream)
        } else {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }

    async fn prove(&self) -> io::Result<Arc<Listener>> {
        // A refused connection is the cheapest sign that nothing listens yet.
        drop(TcpStream::connect(self.address).await?);
        let proof = Listener::find(self.owner, self.address).map_err(|error| self.explain(error))?;
        let proof = Arc::new(proof.ok_or(io::ErrorKind::ConnectionRefused)?);
        *self.lock() = Some(Arc::clone(&proof));
        Ok(proof)
    }

    fn explain(&self, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return error;
        }
        io::Error::new(error.kind(), foreign(self.address.ip(), self.port()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Listener>>> {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn foreign(ip: IpAddr, port: u16) -> String {
    match listener_on(ip, port) {
        Some(found) => format!("port {port} is taken by `{}` (pid {})", found.name, found.pid),
        None => format!("port {port} is taken by another process"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    #[cfg_attr(windows, ignore = "Wine does not tell whose a socket is")]
    async fn a_connection_leads_to_the_owner_or_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ours = Endpoint::new(address, Owner::Process(std::process::id()));
        ours.connect().await.unwrap();
        let mut other = tokio::process::Command::new("sleep").arg("60").spawn().unwrap();
        let theirs = Endpoint::new(address, Owner::Process(other.id().unwrap()));
        let error = theirs.connect().await.unwrap_err();
        other.kill().await.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(
            error
                .to_string()
                .contains(&format!("port {} is taken by", address.port())),
            "{error}"
        );
    }

    #[tokio::test]
    #[cfg_attr(windows, ignore = "Wine does not tell whose a socket is")]
    async fn a_proof_is_renewed_when_the_owner_listens_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = Endpoint::new(address, Owner::Process(std::process::id()));
        endpoint.connect().await.unwrap();
        drop(listener);
        assert!(endpoint.connect().await.is_err());
        let _again = TcpListener::bind(address).await.unwrap();
        endpoint.connect().await.unwrap();
    }
}
