//! Errors in the network's settings.

use std::path::PathBuf;

use super::redact_in;
use crate::error::{Explain, Kind};

/// Why the network's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A proxy variable is not valid. Exit status 2.
    #[error("cannot use the proxy in `{variable}`: {reason}")]
    Proxy {
        /// The variable's name. Its value is omitted, because it may contain a password.
        variable: &'static str,
        /// The reason.
        reason: String,
    },
    /// A certificate file cannot be used. Exit status 2.
    #[error("cannot use the certificates in `{}`{}: {reason}", redact_in(&path.to_string_lossy()), named_by(*variable))]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The variable that names the file; `None` for an option.
        variable: Option<&'static str>,
        /// The reason.
        reason: String,
    },
    /// TLS cannot be set up. Exit status 1.
    #[error("cannot set up TLS: {reason}")]
    Tls {
        /// The reason.
        reason: String,
    },
}

fn named_by(variable: Option<&str>) -> String {
    variable.map_or_else(String::new, |variable| format!(", which {variable} names"))
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
                "write it as `http://user:password@host:port` or `socks5h://host:port`, with special characters \
                percent-encoded"
            }
            Self::Certificates {
                variable: Some(variable),
                ..
            } => {
                return Some(format!(
                    "unset {variable}, or set it to a file with PEM certificates (`-----BEGIN CERTIFICATE-----`)"
                ));
            }
            Self::Certificates { .. } => "pass a file with PEM certificates (`-----BEGIN CERTIFICATE-----`)",
            Self::Tls { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
