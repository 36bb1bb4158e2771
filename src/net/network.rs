//! The network's settings.

use std::path::PathBuf;

use url::Url;

use super::error::Error;
use super::login::Login;
use super::netrc::Netrc;
use super::patience::Patience;
use super::proxy::{Proxies, Proxy};
use super::trust::{CERTIFICATES, Trust};
use crate::environment::Environment;
use crate::place;

/// How to reach other servers: proxies, trusted certificates, logins and timeouts.
#[derive(Clone, Debug, Default)]
pub struct Network {
    proxies: Proxies,
    ca_cert: Option<PathBuf>,
    ssl_cert_file: Option<PathBuf>,
    netrc: Netrc,
    patience: Patience,
}

impl Network {
    /// The network as `environment` describes it: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`
    /// (which replaces the system's trust store), and `NETRC` or else `.netrc` in the user's home. The certificates in
    /// `ca_cert` are trusted in addition.
    ///
    /// # Errors
    /// When a proxy variable cannot be used.
    pub fn from_environment(environment: &Environment, ca_cert: Option<PathBuf>) -> Result<Self, Error> {
        let absolute = |path: &str| environment.current_dir().join(path);
        let netrc = environment
            .var("NETRC")
            .map_or_else(|| environment.user_home().join(".netrc"), absolute);
        Ok(Self {
            proxies: Proxies::from_environment(environment)?,
            ca_cert,
            ssl_cert_file: environment.var(CERTIFICATES).map(absolute),
            // Few people have such a file; an unreadable one is treated as missing.
            netrc: place::read_text(&netrc)
                .map(|text| Netrc::parse(&text))
                .unwrap_or_default(),
            patience: Patience::default(),
        })
    }

    /// The same network with other timeouts.
    #[cfg(test)]
    pub(crate) fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// The timeouts.
    #[must_use]
    pub const fn patience(&self) -> &Patience {
        &self.patience
    }

    /// The proxy for a request to `url`.
    #[must_use]
    pub fn proxy(&self, url: &Url) -> Option<&Proxy> {
        self.proxies.route(url)
    }

    pub(super) const fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// The source of trusted certificates.
    #[must_use]
    pub fn trust(&self) -> Trust {
        match (&self.ssl_cert_file, &self.ca_cert) {
            (None, None) => Trust::System,
            (None, Some(extra)) => Trust::SystemAnd(extra.clone()),
            (Some(store), extra) => Trust::Only(store.clone(), extra.clone()),
        }
    }

    /// Checks that the trusted certificates can be used.
    ///
    /// # Errors
    /// When a file cannot be read or has no certificates.
    pub fn check(&self) -> Result<(), Error> {
        self.trust().tls().map(drop)
    }

    /// The login in `.netrc` for the host of `url`.
    pub(crate) fn login(&self, url: &Url) -> Option<&Login> {
        self.netrc.login(url.host_str()?)
    }
}
