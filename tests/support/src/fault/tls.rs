//! A private certificate authority, like a company's.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Signs certificates for `localhost` and 127.0.0.1.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

#[expect(clippy::expect_used, reason = "a test cannot go on without its certificates")]
impl Authority {
    /// A new authority that no client trusts yet.
    ///
    /// # Panics
    /// When no key can be generated.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its certificate, for `--ca-cert`.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its private key, both PEM.
    ///
    /// # Panics
    /// When no key can be generated.
    #[must_use]
    pub fn issue(&self) -> (String, String) {
        let (certificate, key) = self.sign(|_| {});
        (certificate.pem(), key.serialize_pem())
    }

    /// The same, valid only in the year 2020.
    ///
    /// # Panics
    /// When no key can be generated.
    #[must_use]
    pub fn issue_expired(&self) -> (String, String) {
        let (certificate, key) = self.sign(|params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        });
        (certificate.pem(), key.serialize_pem())
    }

    /// The same, valid from 2020 until `time` from now.
    ///
    /// # Panics
    /// When no key can be generated.
    #[must_use]
    pub fn issue_for(&self, time: Duration) -> (String, String) {
        let (certificate, key) = self.sign(|params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = (SystemTime::now() + time).into();
        });
        (certificate.pem(), key.serialize_pem())
    }

    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        (params.signed_by(&key, &self.0).expect("a certificate"), key)
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.sign(|_| {});
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config
                    .with_no_client_auth()
                    .with_single_cert(vec![certificate.der().clone()], key)
            })
            .expect("a TLS configuration");
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
