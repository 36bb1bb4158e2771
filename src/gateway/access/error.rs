//! Why the rules of access cannot hold.

use std::io;
use std::path::PathBuf;

use crate::error::{Explain, Kind};

/// Rules that are too few, and files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Others would send keys and prompts in the clear.
    #[error("`--allow-remote` without encryption: neither `--tls-cert` nor `--behind-proxy` is given")]
    Plain,
    /// An option that needs clients with names.
    #[error("`{0}` needs `--token-file`")]
    WithoutTokens(&'static str),
    /// One of the two files of a certificate.
    #[error("`{0}` needs `{1}`")]
    Half(&'static str, &'static str),
    /// A file cannot be read.
    #[error("cannot read the {what} `{}`", path.display())]
    Read {
        /// Its content.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A secret that others can read.
    #[error("cannot use the {what} `{}`: other users can read or change it", path.display())]
    Exposed {
        /// Its content.
        what: &'static str,
        /// Which file.
        path: PathBuf,
    },
    /// A file has the wrong content.
    #[error("cannot use the {what} `{}`: {reason}", path.display())]
    Unusable {
        /// The expected content.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("cannot use the certificate `{}`: the private key `{}` belongs to another one", cert.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate's time is over or has not begun.
    #[error("cannot use the certificate `{}`: it is valid from {from} to {until} only", path.display())]
    NotValidNow {
        /// Its file.
        path: PathBuf,
        /// Its first moment.
        from: jiff::Timestamp,
        /// Its last moment.
        until: jiff::Timestamp,
    },
}

impl Explain for AccessError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Plain => "give `--tls-cert` and `--tls-key`, or name the proxy that encrypts with `--behind-proxy ADDR`".to_owned(),
            Self::WithoutTokens(_) => "run `gem-setup token NAME --token-file FILE` for each client, and pass that `--token-file`".to_owned(),
            Self::Half(_, other) => format!("add `{other} FILE`"),
            Self::Read { .. } => "check the path and its permissions".to_owned(),
            Self::Exposed { path, .. } => format!(
                "run `chmod 600 {}`, or `chmod 640` if a group of its own needs it",
                crate::shell::word(gem_platform::Os::Linux, path.as_os_str())
            ),
            Self::Unusable { .. } => "replace the file's content".to_owned(),
            Self::Mismatch { .. } => {
                "give the key that the certificate was made with; in the certificate's file the server's own certificate comes first".to_owned()
            }
            Self::NotValidNow { .. } => "renew the certificate, or set the machine's clock".to_owned(),
        })
    }
}
