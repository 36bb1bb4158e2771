//! The one HTTP client of the program and everything it is made from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Certificate, redirect, tls};
use url::Url;

use super::address::{is_acceptable, is_loopback};
use super::error::Error;
use super::netrc::{Login, Netrc};
use super::patience::Patience;
use super::proxy::{Proxies, Proxy};
use crate::environment::Environment;

const USER_AGENT: &str = concat!("gem-setup/", env!("CARGO_PKG_VERSION"));
const MOST_REDIRECTS: usize = 10;

/// A hosted model may think for so long before its next words.
const STREAM_IDLE: Duration = Duration::from_secs(600);

/// How the outside world is reached: proxies, trusted certificates, logins and patience.
#[derive(Clone, Debug, Default)]
pub struct Network {
    proxies: Proxies,
    ca_cert: Option<PathBuf>,
    ssl_cert_file: Option<PathBuf>,
    netrc: Netrc,
    patience: Patience,
}

/// Where the certificates come from that a server is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The system's trust store.
    System,
    /// The system's trust store and the certificates in a file (`--ca-cert`).
    SystemAnd(PathBuf),
    /// Only the certificates in these files (`SSL_CERT_FILE`, then `--ca-cert`).
    Only(Vec<PathBuf>),
}

impl Network {
    /// The network as `environment` describes it: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`
    /// (which stands in for the system's trust store), and `NETRC`, else `.netrc` in the user's home. The certificates in
    /// `ca_cert` are trusted besides.
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
            ssl_cert_file: environment.var("SSL_CERT_FILE").map(absolute),
            // Most people have no such file, and nobody is helped by a failure over it.
            netrc: std::fs::read_to_string(netrc)
                .map(|text| Netrc::parse(&text))
                .unwrap_or_default(),
            patience: Patience::default(),
        })
    }

    /// The same network with other waits.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// How long the network is waited for.
    #[must_use]
    pub const fn patience(&self) -> &Patience {
        &self.patience
    }

    /// The proxy that a request for `url` goes through.
    #[must_use]
    pub fn proxy(&self, url: &Url) -> Option<&Proxy> {
        self.proxies.route(url)
    }

    /// Where trusted certificates come from.
    #[must_use]
    pub fn trust(&self) -> Trust {
        match (&self.ssl_cert_file, &self.ca_cert) {
            (None, None) => Trust::System,
            (None, Some(extra)) => Trust::SystemAnd(extra.clone()),
            (Some(store), extra) => Trust::Only([Some(store), extra.as_ref()].into_iter().flatten().cloned().collect()),
        }
    }

    /// The login that `.netrc` holds for the host of `url`.
    pub(crate) fn login(&self, url: &Url) -> Option<&Login> {
        self.netrc.login(url.host_str()?)
    }

    /// The HTTP client: TLS 1.2 or newer, a limit on connecting and on each read but none on the whole, at most
    /// ten redirects and none from https to http, no transparent decompression.
    ///
    /// # Errors
    /// When a certificate file cannot be used.
    pub fn client(&self) -> Result<reqwest::Client, Error> {
        self.build(|| self.builder())
    }

    fn build(&self, builder: impl Fn() -> reqwest::ClientBuilder) -> Result<reqwest::Client, Error> {
        // The first caller installs it; that it is there already is no fault.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let built = match self.trust() {
            Trust::System => builder()
                .build()
                // A bare machine has no trust store at all: loopback and file: mirrors work there, and https says why it does not.
                .or_else(|_| builder().tls_certs_only([]).build()),
            Trust::SystemAnd(extra) => builder().tls_certs_merge(read_certificates(&extra)?).build(),
            Trust::Only(files) => {
                let mut certificates = Vec::new();
                for file in &files {
                    certificates.extend(read_certificates(file)?);
                }
                builder().tls_certs_only(certificates).build()
            }
        };
        built.map_err(|e| Error::Client {
            reason: crate::error::chain(&e.without_url()),
        })
    }

    /// A client that passes messages on as they are: it follows no redirect and adds no header but `Accept: */*` to a request
    /// that says nothing of it. An upstream may think for longer than a download may stall.
    ///
    /// # Errors
    /// As [`Network::client`].
    pub fn streaming_client(&self) -> Result<reqwest::Client, Error> {
        self.build(|| {
            self.bare_builder()
                .read_timeout(STREAM_IDLE)
                .redirect(redirect::Policy::none())
        })
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
        self.bare_builder()
            .user_agent(USER_AGENT)
            .default_headers(headers)
            .read_timeout(self.patience.idle)
            .redirect(redirect::Policy::custom(follow))
    }

    fn bare_builder(&self) -> reqwest::ClientBuilder {
        let proxies = self.proxies.clone();
        reqwest::Client::builder()
            .referer(false)
            .tls_version_min(tls::Version::TLS_1_2)
            .connect_timeout(self.patience.connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .no_proxy()
            .proxy(reqwest::Proxy::custom(move |url| {
                proxies.route(url).map(|proxy| proxy.url.expose().clone())
            }))
    }
}

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let next = attempt.url();
    // Who began on http on this machine may stay on it; nobody goes from https to http.
    let from_plain = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "http" && is_loopback(url));
    if attempt.previous().len() > MOST_REDIRECTS {
        attempt.error(format!("more than {MOST_REDIRECTS} redirects"))
    } else if next.scheme() == "https" || (from_plain && next.scheme() == "http" && is_acceptable(next)) {
        attempt.follow()
    } else {
        let text = format!("redirected to `{}`, which is not https", super::SafeUrl::from(next));
        attempt.error(text)
    }
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate>, Error> {
    let error = |reason: String| Error::Certificates {
        path: path.to_owned(),
        reason,
    };
    let pem = std::fs::read(path).map_err(|e| error(e.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| error(crate::error::chain(&e)))?;
    if certificates.is_empty() {
        return Err(error("it holds no PEM certificate".to_owned()));
    }
    Ok(certificates)
}
