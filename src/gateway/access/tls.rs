//! The gateway's certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::TlsAcceptor;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::error::AccessError;
use super::tokens::read_private;
use crate::net::certificates_in;
use crate::place;

const CERTIFICATE: &str = "certificate";
const KEY: &str = "private key";
/// The first byte of a TLS connection: a handshake record (RFC 8446, section 5.1).
pub(super) const HANDSHAKE: u8 = 22;

/// The server side of TLS for the gateway's connections.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    /// When the gateway's own certificate expires.
    pub(super) until: Timestamp,
}

/// A certificate, followed by its intermediate certificates, and its private key, both in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The file with the certificates.
    pub cert: PathBuf,
    /// The file with the key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Combines the files that two options name.
    ///
    /// # Errors
    /// When only one of them is given.
    pub fn from_options(cert: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<Self>, AccessError> {
        match (cert, key) {
            (Some(cert), Some(key)) => Ok(Some(Self { cert, key })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(AccessError::Half("--tls-cert", "--tls-key")),
            (None, Some(_)) => Err(AccessError::Half("--tls-key", "--tls-cert")),
        }
    }

    /// Reads both files and configures TLS 1.2 or newer, HTTP/1.1, without client certificates.
    pub(super) fn read(&self) -> Result<Tls, AccessError> {
        let (certificates, until) = self.certificates()?;
        let provider = Arc::new(ring::default_provider());
        let certified = CertifiedKey::from_der(certificates, self.private_key()?, &provider);
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => AccessError::Mismatch {
                cert: self.cert.clone(),
                key: self.key.clone(),
            },
            error => unusable(KEY, &self.key, error),
        })?;
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| unusable(CERTIFICATE, &self.cert, error))?;
        let resolver = Arc::new(SingleCertAndKey::from(certified));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Tls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            until,
        })
    }

    /// The certificates, and when the first one expires.
    fn certificates(&self) -> Result<(Vec<CertificateDer<'static>>, Timestamp), AccessError> {
        let path = &self.cert;
        let pem = place::read(path).map_err(|source| AccessError::Read {
            what: CERTIFICATE,
            path: path.clone(),
            source,
        })?;
        let certificates = certificates_in(&pem).map_err(|reason| unusable(CERTIFICATE, path, reason))?;
        let until = match certificates.first() {
            Some(own) => check_time(path, own, Timestamp::now())?,
            None => Timestamp::MAX,
        };
        Ok((certificates, until))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, AccessError> {
        let pem = read_private(KEY, &self.key)?;
        PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => unusable(KEY, &self.key, "it contains no PEM private key"),
            error => unusable(KEY, &self.key, error),
        })
    }
}

fn unusable(what: &'static str, path: &Path, reason: impl ToString) -> AccessError {
    AccessError::Unusable {
        what,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// Checks that `certificate` is valid at the time `now`, and returns when it expires.
fn check_time(path: &Path, certificate: &CertificateDer<'_>, now: Timestamp) -> Result<Timestamp, AccessError> {
    let parsed = Certificate::from_der(certificate).map_err(|error| unusable(CERTIFICATE, path, error))?;
    let validity = parsed.tbs_certificate().validity();
    let moment = |since: Duration| {
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    };
    let from = moment(validity.not_before.to_unix_duration());
    let until = moment(validity.not_after.to_unix_duration());
    if (from..=until).contains(&now) {
        return Ok(until);
    }
    let path = path.to_owned();
    Err(AccessError::NotValidNow { path, from, until })
}
