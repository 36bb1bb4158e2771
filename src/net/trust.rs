//! Trusted certificates, and the TLS settings that use them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::error::Error;
use crate::place;

/// The variable with the file that replaces the system's trust store.
pub const CERTIFICATES: &str = "SSL_CERT_FILE";

/// The certificate authorities that may certify a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The system's trust store.
    System,
    /// The system's trust store and the certificates in a file (`--ca-cert`).
    SystemAnd(PathBuf),
    /// Only the certificates in the file that `SSL_CERT_FILE` names, and in another (`--ca-cert`).
    Only(PathBuf, Option<PathBuf>),
}

impl Trust {
    /// TLS 1.2 or newer, without client certificates; `None` if the machine lacks CA certificates.
    pub(super) fn tls(&self) -> Result<Option<ClientConfig>, Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let verifier = match self {
            // The verifier can be made unless no certificate was found.
            Self::System => match Verifier::new(provider) {
                Ok(verifier) => Some(verifier),
                Err(_) => return Ok(None),
            },
            Self::SystemAnd(extra) => {
                let extra = read(extra).map_err(|reason| unusable_file(extra, None, reason))?;
                Some(Verifier::new_with_extra_roots(extra, provider).map_err(|error| unusable(&error))?)
            }
            Self::Only(..) => None,
        };
        let mut config = match verifier {
            Some(verifier) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth(),
            None => builder.with_root_certificates(self.roots()?).with_no_client_auth(),
        };
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Some(config))
    }

    /// The certificates of the named files only.
    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        if let Self::Only(store, extra) = self {
            let extra = extra.iter().map(|extra| (extra, None));
            for (file, variable) in std::iter::once((store, Some(CERTIFICATES))).chain(extra) {
                add(&mut roots, file).map_err(|reason| unusable_file(file, variable, reason))?;
            }
        }
        Ok(roots)
    }
}

fn unusable(error: &rustls::Error) -> Error {
    Error::Tls {
        reason: error.to_string(),
    }
}

/// The file `path` cannot be used. `variable` names it, if it is not an option.
fn unusable_file(path: &Path, variable: Option<&'static str>, reason: String) -> Error {
    let path = path.to_owned();
    Error::Certificates { path, variable, reason }
}

/// The certificates in the file `path`.
fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    certificates_in(&place::read(path).map_err(|error| error.to_string())?)
}

/// Adds the certificates in the file `path` to `roots`.
fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    for certificate in read(path)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Fails unless the PEM file at `path` contains certificates that can be trusted.
///
/// # Errors
/// The reason, which does not name the file.
pub fn check_certificates(path: &Path) -> Result<(), String> {
    add(&mut RootCertStore::empty(), path)
}

/// Fails unless any of the directories in `directories` contains a certificate, as `SSL_CERT_DIR` names them.
///
/// # Errors
/// The reason, which does not name the directories.
pub fn check_certificate_directories(directories: &str) -> Result<(), String> {
    let has_certificate = |directory: PathBuf| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut files = entries.map(|entry| entry.path()).filter(|path| path.is_file());
        files.any(|file| check_certificates(&file).is_ok())
    };
    if std::env::split_paths(directories).any(has_certificate) {
        return Ok(());
    }
    Err("there is no PEM certificate".to_owned())
}

/// The certificates in the text `pem`, at least one; otherwise the reason why there is none.
pub(crate) fn certificates_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("it contains no PEM certificate".to_owned());
    }
    Ok(certificates)
}
