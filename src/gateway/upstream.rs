//! Sends requests to the upstream.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use hyper::http::request::Parts;
use hyper::{Request, Uri, Version};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use url::{Host, Url};

use super::body::{Outgoing, UpstreamBody, client_fault};
use super::config::{Config, DEFAULT_UPSTREAM};
use super::fault::Fault;
use super::metrics::Metrics;
use super::reply::{Reply, ReplyBody};
use super::secrets::{LentKey, Secrets};
use crate::net::{self, Connector, Idle, Login, Origin, Pool, SafeUrl, SendError, is_loopback, is_loopback_address};

/// The number of idle connections that are kept, and the time for which they are kept. Servers close theirs after some
/// seconds (Node.js: 5), so these are closed earlier.
const KEPT: usize = 64;
const KEEP: Duration = Duration::from_secs(4);

/// What the field `Via` of a request from this gateway contains, before the gateway's number.
const PSEUDONYM: &str = "gem-setup-";

/// Headers between client and gateway; they are removed from requests to the upstream and from its responses.
const OWN: &str = "x-gem-";

/// Headers that concern only one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Sends requests to the upstream.
pub(super) struct UpstreamClient {
    origin: Origin<Outgoing>,
    /// The login in the upstream's URL.
    login: Option<HeaderValue>,
    idle_time: Duration,
    /// Recognises requests that come back.
    number: u64,
    /// The number in `Via`; `None` for Google's API, which cannot be this gateway.
    via: Option<HeaderValue>,
}

/// Why the upstream gave no response.
#[derive(Debug)]
pub(super) enum SendFailure {
    /// The request's path is not allowed.
    Path,
    /// The request has not reached the upstream.
    Unreachable(String),
    /// The upstream may have acted on the request.
    Broken(String),
    /// The client's body did not arrive completely.
    Client(Fault),
}

impl fmt::Display for SendFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("the path must not contain `.` or `..` as a segment"),
            Self::Unreachable(reason) | Self::Broken(reason) => f.write_str(reason),
            Self::Client(fault) => fault.fmt(f),
        }
    }
}

impl From<SendError> for SendFailure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Connect(_) | SendError::Invalid(_) | SendError::Redirected { .. } => {
                Self::Unreachable(error.to_string())
            }
            SendError::Broken(broken) => match client_fault(&broken) {
                Some(fault) => Self::Client(fault),
                None => Self::Broken(SendError::Broken(broken).to_string()),
            },
            SendError::Stalled(_) | SendError::Unsound(_) => Self::Broken(error.to_string()),
        }
    }
}

/// Why an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error("`{0}` is not an http or https URL with a host")]
    NotHttp(SafeUrl),
    #[error("`{0}` is this server itself")]
    Itself(SafeUrl),
    #[error(transparent)]
    Network(#[from] net::Error),
}

impl UpstreamClient {
    /// The client for the upstream of `config`; `number` is random and differs from that of other gateways.
    pub(super) fn new(config: &Config, number: u64) -> Result<Self, UpstreamError> {
        let (url, limits) = (&config.upstream.url, &config.limits);
        if is_itself(config, url) {
            return Err(UpstreamError::Itself(url.into()));
        }
        let url = &without_version(url);
        let connector = Connector::new(&config.upstream.network, limits.connect_time);
        if url.scheme() == "https" {
            connector.load_trust()?;
        }
        let is_http = matches!(url.scheme(), "http" | "https");
        let origin = Origin::new(connector, url.clone(), Pool::new(KEPT, KEEP)).filter(|_| is_http);
        Ok(Self {
            origin: origin.ok_or_else(|| UpstreamError::NotHttp(url.into()))?,
            login: Login::in_url(url).and_then(|login| login.basic()),
            idle_time: limits.stream_idle,
            number,
            via: (DEFAULT_UPSTREAM.strip_prefix("https://") != url.host_str())
                .then(|| HeaderValue::try_from(format!("1.1 {}", pseudonym(number))).ok())
                .flatten(),
        })
    }

    /// The credentials with which a request with the head `parts` is sent.
    pub(super) fn secrets(&self, parts: &Parts) -> Secrets {
        Secrets::of(
            &parts.headers,
            &parts.uri,
            self.login.as_ref(),
            self.origin.url().query(),
        )
        .with_lent(parts.extensions.get())
    }

    /// The number that recognises requests that come back.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether a request with `headers` comes from this gateway.
    pub(super) fn has_sent(&self, headers: &HeaderMap) -> bool {
        let mut hops = headers
            .get_all(VIA)
            .iter()
            .filter_map(|hop| hop.to_str().ok())
            .peekable();
        hops.peek().is_some() && {
            let own = pseudonym(self.number);
            hops.any(|hop| hop.contains(&own))
        }
    }

    /// The upstream's host.
    pub(super) fn host(&self) -> &str {
        self.origin.url().host_str().unwrap_or_default()
    }

    /// The upstream's host and port, for messages.
    pub(super) fn address(&self) -> String {
        let port = self.origin.url().port_or_known_default();
        port.map_or_else(|| self.host().to_owned(), |port| format!("{}:{port}", self.host()))
    }

    /// Closes connections that have been idle too long.
    pub(super) fn expire(&self) {
        self.origin.expire();
    }

    /// Sends a client's request. Returns the reply for the client as soon as its head has arrived; `metrics` counts a
    /// reply that breaks off. The body waits for the upstream no longer than up to `deadline`.
    pub(super) async fn send(
        &self,
        mut parts: Parts,
        body: Outgoing,
        metrics: &Arc<Metrics>,
        deadline: Option<Instant>,
    ) -> Result<Reply, SendFailure> {
        remove_local(&mut parts.headers);
        parts.headers.remove(EXPECT);
        match &body {
            // A POST needs its length even if that is 0.
            Outgoing::Whole(body) => drop(parts.headers.insert(CONTENT_LENGTH, body.len().into())),
            Outgoing::Begun(..) => drop(parts.headers.remove(CONTENT_LENGTH)),
            Outgoing::Client(_) => {}
        }
        if let Some(via) = &self.via {
            parts.headers.append(VIA, via.clone());
        }
        if let Some(login) = &self.login {
            parts.headers.entry(AUTHORIZATION).or_insert_with(|| login.clone());
        }
        let lent: Option<LentKey> = parts.extensions.remove();
        if lent.is_some() {
            // The key is overwritten in the reply, which must be readable for that.
            parts
                .headers
                .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let mut request = Request::new(body);
        let path = parts.uri.path().into();
        *request.method_mut() = parts.method;
        *request.uri_mut() = target(self.origin.url(), &parts.uri)?;
        *request.headers_mut() = parts.headers;
        let response = self.origin.send(request, self.idle_time).await?;
        // A server error is already counted as such, so its body is not counted.
        let metrics = (!response.status().is_server_error()).then(|| Arc::clone(metrics));
        let mut reply = response.map(|body| {
            let body = Idle::new(body, self.idle_time).until(deadline);
            ReplyBody::Link(Box::new(UpstreamBody::new(body, metrics, path, lent)))
        });
        remove_local(reply.headers_mut());
        // The upstream's version of HTTP is its connection's: passed on, 1.0 would end the client's connection too.
        *reply.version_mut() = Version::HTTP_11;
        Ok(reply)
    }
}

fn pseudonym(number: u64) -> String {
    format!("{PSEUDONYM}{number:016x}")
}

/// Whether `url` is an address on which the gateway of `config` listens.
fn is_itself(config: &Config, url: &Url) -> bool {
    if url.port_or_known_default() != Some(config.port) {
        return false;
    }
    let is_on = |asked: IpAddr| {
        config.listen.iter().any(|own| {
            let own_is_any = own.is_unspecified() && is_loopback_address(asked);
            *own == asked || own_is_any || asked.is_unspecified() && is_loopback_address(*own)
        })
    };
    match url.host() {
        Some(Host::Domain(_)) if is_loopback(url) => config
            .listen
            .iter()
            .any(|own| own.is_unspecified() || is_loopback_address(*own)),
        Some(Host::Ipv4(address)) => is_on(address.into()),
        Some(Host::Ipv6(address)) => is_on(address.into()),
        _ => false,
    }
}

/// `url` without an API version at the end of its path, because requests name it.
fn without_version(url: &Url) -> Url {
    let mut url = url.clone();
    let path = url.path().trim_end_matches('/');
    if let Some(path) = ["/v1beta", "/v1alpha", "/v1"]
        .iter()
        .find_map(|version| path.strip_suffix(version))
    {
        let path = path.to_owned();
        url.set_path(&path);
    }
    url
}

/// The path and query of `uri`, put below the path of `base` and before its query.
fn target(base: &Url, uri: &Uri) -> Result<Uri, SendFailure> {
    if leaves_its_directory(uri.path()) {
        return Err(SendFailure::Path);
    }
    let (base, query) = (base.path().trim_end_matches('/'), base.query());
    match uri.path_and_query() {
        Some(own) if base.is_empty() && query.is_none() => Ok(own.clone().into()),
        own => {
            let mut target = format!("{base}{}", own.map_or("/", |own| own.as_str()));
            if let Some(query) = query {
                target.push(if uri.query().is_some() { '&' } else { '?' });
                target.push_str(query);
            }
            target.parse().map_err(|_| SendFailure::Path)
        }
    }
}

/// Whether a server may read a segment of `path` as "this directory" or "the directory above", in any spelling.
fn leaves_its_directory(path: &str) -> bool {
    if !path.contains("/.") && !path.contains(['%', '\\']) {
        return false;
    }
    let path = percent_decode_str(path).decode_utf8_lossy();
    path.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."))
}

/// Removes the headers that concern only one connection, and the gateway's own.
fn remove_local(headers: &mut HeaderMap) {
    let named = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok());
    let is_local = |name: &&HeaderName| HOP_BY_HOP.contains(name) || name.as_str().starts_with(OWN);
    let present = headers.keys().filter(is_local).cloned();
    let removed: Vec<HeaderName> = named.chain(present).collect();
    for name in removed {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(upstream: &str, listen: &[&str]) -> Config {
        let upstream = crate::gateway::Upstream {
            url: upstream.parse().unwrap(),
            network: net::Network::default(),
        };
        Config {
            listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
            ..Config::new(9379, "m", upstream, "")
        }
    }

    #[test]
    fn the_server_is_not_its_own_upstream() {
        let loopback = &["127.0.0.1", "::1"][..];
        for (url, listen, expected) in [
            ("http://127.0.0.1:9379", loopback, true),
            ("http://localhost:9379/x", loopback, true),
            ("https://[::1]:9379", loopback, true),
            ("http://0.0.0.0:9379", loopback, true),
            ("http://127.0.0.1:9380", loopback, false),
            ("http://127.0.0.2:9379", loopback, false),
            ("http://10.0.0.1:9379", loopback, false),
            ("http://host:9379", loopback, false),
            ("http://127.0.0.1:9379", &["0.0.0.0"], true),
            ("http://localhost:9379", &["::"], true),
            ("http://10.0.0.1:9379", &["10.0.0.1"], true),
            ("http://localhost:9379", &["10.0.0.1"], false),
        ] {
            let config = config(url, listen);
            assert_eq!(is_itself(&config, &config.upstream.url), expected, "{url} {listen:?}");
        }
    }

    #[test]
    fn an_upstream_s_url_ends_before_the_version() {
        for (url, path) in [
            ("http://h/v1beta", "/"),
            ("http://h/v1/", "/"),
            ("http://h/base/v1alpha/", "/base"),
            ("http://h/v1beta/x", "/v1beta/x"),
            ("http://h/xv1", "/xv1"),
        ] {
            assert_eq!(without_version(&url.parse().unwrap()).path(), path, "{url}");
        }
    }

    #[test]
    fn the_query_of_an_upstream_s_url_is_sent_with_each_request() {
        let base: Url = "http://host/base?key=k".parse().unwrap();
        let asked = |path: &str| target(&base, &path.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(asked("/v1/x").unwrap(), "/base/v1/x?key=k");
        assert_eq!(asked("/v1/x?alt=sse").unwrap(), "/base/v1/x?alt=sse&key=k");
    }

    #[test]
    fn a_path_stays_below_the_upstream_s() {
        let base: Url = "http://host/base/".parse().unwrap();
        let asked = |path: &str| target(&base, &path.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(asked("/v1/a..b/%2e.x?q=..").unwrap(), "/base/v1/a..b/%2e.x?q=..");
        for path in [
            "/v1/../x",
            "/v1/%2e%2E/x",
            "/v1/..\\x",
            "/v1/.%2e%5cx",
            "/v1/%2e",
            "/..",
        ] {
            assert!(matches!(asked(path), Err(SendFailure::Path)), "{path}");
        }
    }
}
