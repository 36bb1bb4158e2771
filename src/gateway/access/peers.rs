//! Addresses of connecting machines.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::gateway::fault::Fault;

/// The addresses of a proxy: a single address, or a network (`10.0.0.0/24`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    address: IpAddr,
    prefix: u32,
}

/// Why a text does not describe the addresses of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePeersError {
    /// It is neither an address nor a network.
    #[error("not an address such as `10.0.0.5` or `10.0.0.0/24`")]
    NoAddress,
    /// The network contains every address.
    #[error("every address is in that network: name the proxy's own address or network, such as `10.0.0.0/24`")]
    Everyone,
}

impl Peers {
    /// Whether `peer` is one of these addresses.
    #[must_use]
    pub fn contain(&self, peer: IpAddr) -> bool {
        let (mine, theirs) = (bits(self.address), bits(peer.to_canonical()));
        let shift = width(self.address) - self.prefix;
        self.address.is_ipv4() == peer.to_canonical().is_ipv4()
            && mine.checked_shr(shift).unwrap_or(0) == theirs.checked_shr(shift).unwrap_or(0)
    }
}

impl FromStr for Peers {
    type Err = ParsePeersError;

    fn from_str(text: &str) -> Result<Self, ParsePeersError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| ParsePeersError::NoAddress)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ParsePeersError::NoAddress)?;
        let address = address.to_canonical();
        let prefix = prefix.unwrap_or(width(address));
        if prefix > width(address) {
            return Err(ParsePeersError::NoAddress);
        }
        if prefix == 0 {
            return Err(ParsePeersError::Everyone);
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

const fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// How a connection reached the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Way {
    /// As the rules require.
    Allowed,
    /// Unencrypted, although TLS is required.
    Plain,
    /// From an address that does not belong to the proxy.
    NotTheProxy,
}

impl Way {
    /// Refuses a request that came in another way than allowed.
    pub(in crate::gateway) fn check(self) -> Result<(), Fault> {
        match self {
            Self::Allowed => Ok(()),
            Self::Plain => Err(Fault::Invalid(
                "this gateway expects TLS: ask for it with `https://`".to_owned(),
            )),
            Self::NotTheProxy => Err(Fault::Forbidden(
                "only the proxy of this gateway may connect to it".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_address_or_a_network() {
        for (peers, inside, outside) in [
            ("10.0.0.5", "10.0.0.5", "10.0.0.4"),
            ("10.0.0.0/24", "10.0.0.255", "10.0.1.0"),
            ("10.0.0.0/24", "::ffff:10.0.0.7", "::a00:7"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            let parsed: Peers = peers.parse().unwrap();
            assert!(parsed.contain(inside.parse().unwrap()), "{peers} {inside}");
            assert!(!parsed.contain(outside.parse().unwrap()), "{peers} {outside}");
        }
        for text in ["", "proxy.example", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.5:80"] {
            assert_eq!(text.parse::<Peers>(), Err(ParsePeersError::NoAddress), "{text}");
        }
        for text in ["0.0.0.0/0", "::/0", "10.0.0.5/0", "::ffff:10.0.0.5/0"] {
            assert_eq!(text.parse::<Peers>(), Err(ParsePeersError::Everyone), "{text}");
        }
    }
}
