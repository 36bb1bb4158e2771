//! Errors of the access rules.

use std::io;
use std::path::PathBuf;

use crate::error::{Explain, Kind};

/// Why the access rules are insufficient or their files unusable.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Keys and prompts would be sent unencrypted.
    #[error("`--allow-remote` without encryption: neither `--tls-cert` nor `--behind-proxy` is given")]
    Plain,
    /// An option requires named clients.
    #[error("`{0}` needs `--token-file`")]
    WithoutTokens(&'static str),
    /// One of a certificate's two files is missing.
    #[error("`{0}` needs `{1}`")]
    Half(&'static str, &'static str),
    /// A file cannot be read.
    #[error("cannot read the {what} `{}`", path.display())]
    Read {
        /// The file's content.
        what: &'static str,
        /// The file's path.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Other users can access a secret.
    #[error("cannot use the {what} `{}`: other users can read or change it", path.display())]
    Exposed {
        /// The file's content.
        what: &'static str,
        /// The file's path.
        path: PathBuf,
    },
    /// The content of a file is not valid.
    #[error("cannot use the {what} `{}`: {reason}", path.display())]
    Unusable {
        /// The expected content.
        what: &'static str,
        /// The file's path.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The private key does not belong to the certificate.
    #[error("cannot use the certificate `{}`: the private key `{}` belongs to another one", cert.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate has expired or is not valid yet.
    #[error("cannot use the certificate `{}`: it is valid only from {from} to {until}", path.display())]
    NotValidNow {
        /// The certificate's file.
        path: PathBuf,
        /// The start of its validity.
        from: jiff::Timestamp,
        /// The end of its validity.
        until: jiff::Timestamp,
    },
}

impl Explain for AccessError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Plain => "pass `--tls-cert` and `--tls-key`, or name the encrypting proxy with `--behind-proxy \
                ADDR`"
                .to_owned(),
            Self::WithoutTokens(_) => "run `gem-setup token NAME --token-file FILE` for each client, and pass the \
                file with `--token-file`"
                .to_owned(),
            Self::Half(_, other) => format!("add `{other} FILE`"),
            Self::Read { .. } => "check the path and its permissions".to_owned(),
            Self::Exposed { path, .. } => format!(
                "run `chmod 600 {}`, or `chmod 640` if a dedicated group needs access",
                crate::shell::word(gem_platform::Os::Linux, path.as_os_str())
            ),
            Self::Unusable { .. } => "replace the file's content".to_owned(),
            Self::Mismatch { .. } => {
                "pass the key that belongs to the certificate; the certificate file must begin with the server's own \
                certificate"
                    .to_owned()
            }
            Self::NotValidNow { .. } => "renew the certificate, or correct the machine's clock".to_owned(),
        })
    }
}
