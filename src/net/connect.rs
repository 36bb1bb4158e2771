//! Connects to a server: directly or through a proxy, with TLS where the URL asks for it.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;
use url::Url;

use super::error::Error;
use super::login::Login;
use super::network::Network;
use super::proxy::Proxies;
use super::stream::Stream;
use super::trust::Trust;

/// The longest head of a proxy's response that is read, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;

/// Opens connections over one network; clones share the TLS settings.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    proxies: Proxies,
    trust: Trust,
    /// Created when first needed, because reading the trust store takes longer than a copy from a bundle.
    tls: OnceLock<TlsConnector>,
    tcp: HttpConnector,
    limit: Duration,
}

/// The fault of a machine that cannot check any server's certificate.
pub(crate) const NO_AUTHORITIES: &str = "no CA certificates were found on this machine";
/// The remedy for it.
pub(crate) const INSTALL_AUTHORITIES: &str = "install the system's CA certificates (package `ca-certificates`), or name a PEM file with SSL_CERT_FILE or `--ca-cert`";

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host or the proxy was not found, refused, or broke off.
    #[error("{0}")]
    Failed(String),
    /// Connecting took longer than the limit.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The server's certificate is not trusted.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(String),
    /// The machine has no CA certificates, so no server's certificate is trusted.
    #[error("{NO_AUTHORITIES}: {INSTALL_AUTHORITIES}")]
    NoAuthorities,
    /// The proxy requires a login, or refused the given one.
    #[error("the proxy refused the login")]
    ProxyLogin,
    /// The proxy refused a tunnel to the host.
    #[error("the proxy refused: it answered {0}")]
    Proxy(hyper::StatusCode),
    /// The network's settings cannot be used.
    #[error(transparent)]
    Settings(#[from] Error),
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("proxies", &self.0.proxies)
            .field("trust", &self.0.trust)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// Connects over `network`. Each connection must be ready within `limit`, including name resolution, proxy and TLS.
    #[must_use]
    pub fn new(network: &Network, limit: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self(Arc::new(Inner {
            proxies: network.proxies().clone(),
            trust: network.trust(),
            tls: OnceLock::new(),
            tcp,
            limit,
        }))
    }

    /// Reads the trusted certificates, unless they have been read.
    ///
    /// # Errors
    /// When a certificate file cannot be used.
    pub fn load_trust(&self) -> Result<(), Error> {
        match self.tls() {
            Err(ConnectError::Settings(error)) => Err(error),
            // Plain HTTP works without certificates.
            _ => Ok(()),
        }
    }

    /// The login for the HTTP proxy (`Some(None)` without one) if requests to `url` are sent to such a proxy with the
    /// whole URL; otherwise `None`.
    pub(super) fn forwards(&self, url: &Url) -> Option<Option<Login>> {
        let proxy = self.0.proxies.route(url).filter(|_| url.scheme() == "http")?;
        let proxy = proxy.url.expose();
        (!is_socks(proxy)).then(|| Login::in_url(proxy))
    }

    /// Opens a connection to the host of `url`.
    pub(super) async fn connect(&self, url: &Url) -> Result<Stream, ConnectError> {
        timeout(self.0.limit, self.open(url))
            .await
            .unwrap_or(Err(ConnectError::TimedOut(self.0.limit)))
    }

    async fn open(&self, url: &Url) -> Result<Stream, ConnectError> {
        let stream = match self.0.proxies.route(url) {
            None => self.reach(url).await?,
            Some(proxy) => self.open_through(proxy.url.expose(), url).await?,
        };
        self.secured(stream, url).await
    }

    async fn open_through(&self, proxy: &Url, url: &Url) -> Result<Stream, ConnectError> {
        if is_socks(proxy) {
            return self.open_socks(proxy, url).await;
        }
        let stream = self.secured(self.reach(proxy).await?, proxy).await?;
        if url.scheme() == "http" {
            return Ok(stream);
        }
        open_tunnel(stream, Login::in_url(proxy), url).await
    }

    async fn reach(&self, url: &Url) -> Result<Stream, ConnectError> {
        let stream = self
            .0
            .tcp
            .clone()
            .call(uri(url)?)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Stream::Plain(stream.into_inner()))
    }

    async fn open_socks(&self, proxy: &Url, url: &Url) -> Result<Stream, ConnectError> {
        let (tcp, target) = (self.0.tcp.clone(), uri(url)?);
        let is_local = !proxy.scheme().ends_with(['a', 'h']);
        let stream = if proxy.scheme().starts_with("socks4") {
            let mut socks = SocksV4::new(uri(proxy)?, tcp).local_dns(is_local);
            socks.call(target).await.map_err(|error| failed(&error))?
        } else {
            let mut socks = SocksV5::new(uri(proxy)?, tcp).local_dns(is_local);
            if let Some(login) = Login::in_url(proxy) {
                socks = socks.with_auth(login.user, login.password);
            }
            socks.call(target).await.map_err(|error| refused_by_socks(&error))?
        };
        Ok(Stream::Plain(stream.into_inner()))
    }

    /// `stream`, wrapped in TLS if `url` requires it.
    async fn secured(&self, stream: Stream, url: &Url) -> Result<Stream, ConnectError> {
        if url.scheme() != "https" {
            return Ok(stream);
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| failed(&error))?;
        let stream = self
            .tls()?
            .connect(name, stream)
            .await
            .map_err(|error| tls_failed(&error))?;
        Ok(Stream::Secure(Box::new(stream.into())))
    }

    fn tls(&self) -> Result<&TlsConnector, ConnectError> {
        if let Some(tls) = self.0.tls.get() {
            return Ok(tls);
        }
        let config = self.0.trust.tls()?.ok_or(ConnectError::NoAuthorities)?;
        let tls = TlsConnector::from(Arc::new(config));
        Ok(self.0.tls.get_or_init(|| tls))
    }
}

/// Asks an HTTP proxy for a tunnel to the host of `url` (RFC 9110, section 9.3.6).
async fn open_tunnel(mut stream: Stream, login: Option<Login>, url: &Url) -> Result<Stream, ConnectError> {
    let (host, port) = (
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or(443),
    );
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(login) = login.and_then(|login| login.basic()) {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(login.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.map_err(|error| failed(&error))?;
    let head = read_head(&mut stream).await.map_err(|error| failed(&error))?;
    match status_in(&head) {
        Some(status) if status.is_success() => Ok(stream),
        // Some proxies answer 401 to a wrong login.
        Some(status) if matches!(status.as_u16(), 401 | 407) => Err(ConnectError::ProxyLogin),
        Some(status) => Err(ConnectError::Proxy(status)),
        None => Err(ConnectError::Failed("the proxy did not answer in HTTP".to_owned())),
    }
}

/// Reads up to the empty line and no further, because the next bytes belong to the tunnel.
async fn read_head(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_HEAD {
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

/// The status in a head that begins like `HTTP/1.1 403 Filtered`.
fn status_in(head: &[u8]) -> Option<hyper::StatusCode> {
    let line = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    hyper::StatusCode::from_bytes(line).ok()
}

fn is_socks(proxy: &Url) -> bool {
    proxy.scheme().starts_with("socks")
}

/// Scheme, host and port of `url`. The port is always named, because proxy schemes lack a default port.
fn uri(url: &Url) -> Result<Uri, ConnectError> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(1080);
    format!("{}://{host}:{port}", url.scheme())
        .parse()
        .map_err(|error| failed(&error))
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ConnectError {
    ConnectError::Failed(crate::error::chain(error))
}

/// hyper-util's error types are private, so the texts are compared.
fn refused_by_socks(error: &(dyn std::error::Error + 'static)) -> ConnectError {
    let text = error.to_string();
    if ["credentials not accepted", "server does not support user/pass"]
        .iter()
        .any(|refusal| text.contains(refusal))
    {
        return ConnectError::ProxyLogin;
    }
    failed(error)
}

fn tls_failed(error: &io::Error) -> ConnectError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(reason)) => ConnectError::Untrusted(distrust(reason)),
        _ => failed(error),
    }
}

/// Why a certificate is not trusted. A machine without a clock battery may think that it is 1970.
fn distrust(reason: &rustls::CertificateError) -> String {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};

    match reason {
        Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => {
            format!("{reason}; check this machine's date")
        }
        _ => reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_line_has_a_status() {
        let status = |line: &str| status_in(line.as_bytes()).map(|status| status.as_u16());
        assert_eq!(status("HTTP/1.1 403 Filtered\r\n"), Some(403));
        assert_eq!(status("HTTP/1.0 502\r\n"), Some(502));
        for line in ["", "HTTP/1.1", "HTTP/2 403 x", "SSH-2.0-OpenSSH_9.2"] {
            assert_eq!(status(line), None, "{line}");
        }
    }
}
