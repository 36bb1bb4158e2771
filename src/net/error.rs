//! Settings of the network that cannot be used.

use std::path::PathBuf;

use crate::error::{Explain, Kind};

/// Why the network cannot be used as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A proxy variable that cannot be used. Exit status 2.
    #[error("cannot use the proxy in `{variable}`: {reason}")]
    Proxy {
        /// The variable's name; its value may hold a password.
        variable: &'static str,
        /// The fault.
        reason: String,
    },
    /// A certificate file that cannot be used. Exit status 2.
    #[error("cannot use the certificates in `{}`: {reason}", path.display())]
    Certificates {
        /// Which file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// TLS cannot be set up. Exit status 1.
    #[error("cannot set up TLS: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Proxy { .. } | Self::Certificates { .. } => Kind::Usage,
            Self::Tls { .. } => Kind::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Proxy { .. } => {
                "write it as `http://user:password@host:port` or `socks5h://host:port`, special characters percent-encoded"
            }
            Self::Certificates { .. } => "give a file with PEM certificates (`-----BEGIN CERTIFICATE-----`)",
            Self::Tls { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
