//! The client side of the upstream face.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{
    CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Request, Response, Uri};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::body::{Idle, Outgoing, ReplyBody, Stalled};
use super::config::{self, Limits};
use super::link::{Kept, Link, LinkBody, Pool, SendError};
use super::reply::Reply;

/// Idle connections that are kept. Servers close theirs after some seconds (Node.js: 5), so these are closed before.
const KEPT: usize = 64;
const KEEP: Duration = Duration::from_secs(4);

/// Fields that are about one connection only (RFC 9110, section 7.6.1).
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

/// Speaks to the upstream.
pub(super) struct UpstreamClient {
    url: Url,
    host: HostAndPort,
    host_header: HeaderValue,
    /// What goes before a request's own path.
    prefix: String,
    client: Option<reqwest::Client>,
    pool: Arc<Pool>,
    connect_time: Duration,
    idle_time: Duration,
}

#[derive(Clone)]
struct HostAndPort {
    host: String,
    port: u16,
}

/// Why the upstream gave no response.
#[derive(Debug)]
pub(super) enum SendFailure {
    /// It has not seen the request.
    Unreachable(String),
    /// It may have acted on the request.
    Broken(String),
    /// The client did not send on.
    Stalled,
}

impl fmt::Display for SendFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => f.write_str(reason),
            Self::Broken(reason) => write!(f, "the connection broke off: {reason}"),
            Self::Stalled => f.write_str("the request's body did not arrive in time"),
        }
    }
}

/// A URL that cannot be an upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error("`{0}` is not an http or https URL with a host")]
    NotHttp(Url),
    #[error("`{0}` needs a client that speaks TLS")]
    NeedsClient(Url),
}

impl UpstreamClient {
    pub(super) fn new(upstream: config::Upstream, limits: &Limits) -> Result<Self, UpstreamError> {
        let config::Upstream { url, client } = upstream;
        let (Some(host), Some(port), "http" | "https") = (url.host_str(), url.port_or_known_default(), url.scheme())
        else {
            return Err(UpstreamError::NotHttp(url));
        };
        if client.is_none() && url.scheme() != "http" {
            return Err(UpstreamError::NeedsClient(url));
        }
        let host = HostAndPort {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        };
        let authority = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        let Ok(host_header) = HeaderValue::try_from(authority) else {
            return Err(UpstreamError::NotHttp(url));
        };
        Ok(Self {
            prefix: url.path().trim_end_matches('/').to_owned(),
            url,
            host,
            host_header,
            client,
            pool: Arc::new(Pool::new(KEPT, KEEP)),
            connect_time: limits.connect_time,
            idle_time: limits.stream_idle,
        })
    }

    /// The upstream's host, for people.
    pub(super) fn host(&self) -> &str {
        &self.host.host
    }

    /// Closes connections that have been idle.
    pub(super) fn expire(&self) {
        self.pool.expire();
    }

    /// Sends a client's request, and gives the reply for the client as soon as its head is there.
    pub(super) async fn send(&self, mut parts: Parts, body: Outgoing) -> Result<Reply, SendFailure> {
        remove_hop_by_hop(&mut parts.headers);
        parts.headers.remove(EXPECT);
        let mut reply = match &self.client {
            None => self.send_directly(parts, body).await?,
            Some(client) => self.send_through(client, parts, body).await?,
        };
        remove_hop_by_hop(reply.headers_mut());
        Ok(reply)
    }

    async fn send_directly(&self, parts: Parts, body: Outgoing) -> Result<Reply, SendFailure> {
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.uri_mut() = self.path(&parts.uri)?;
        *request.headers_mut() = parts.headers;
        request.headers_mut().insert(HOST, self.host_header.clone());
        loop {
            let (mut link, is_new) = match self.pool.take(Kept::Here) {
                Some(link) => (link, false),
                None => (self.connect().await?, true),
            };
            let mut head = link.begin(request);
            match link.head(&mut head).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let body = LinkBody::new(body, link, Arc::clone(&self.pool));
                    let mut reply = Response::new(ReplyBody::Link(Idle::new(body, self.idle_time)));
                    *reply.status_mut() = parts.status;
                    *reply.headers_mut() = parts.headers;
                    return Ok(reply);
                }
                // The upstream closed an idle connection just before the request was to be sent.
                Err(SendError::Unsent(unsent, _)) if !is_new => request = *unsent,
                Err(SendError::Unsent(_, error)) => return Err(SendFailure::Unreachable(crate::error::chain(&error))),
                Err(SendError::Broken(error)) if Stalled::is_behind(&error) => return Err(SendFailure::Stalled),
                Err(SendError::Broken(error)) => return Err(SendFailure::Broken(crate::error::chain(&error))),
            }
        }
    }

    async fn connect(&self) -> Result<Link, SendFailure> {
        let HostAndPort { host, port } = &self.host;
        let connect = async { Link::over(TcpStream::connect((host.as_str(), *port)).await?).await };
        match timeout(self.connect_time, connect).await {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(error)) => Err(SendFailure::Unreachable(error.to_string())),
            Err(_) => Err(SendFailure::Unreachable("connecting took too long".to_owned())),
        }
    }

    /// The path and query to ask for.
    fn path(&self, uri: &Uri) -> Result<Uri, SendFailure> {
        let own = uri.path_and_query();
        if let Some(own) = own
            && self.prefix.is_empty()
        {
            return Ok(own.clone().into());
        }
        let path = format!("{}{}", self.prefix, own.map_or("/", |own| own.as_str()));
        path.parse()
            .map_err(|_| SendFailure::Unreachable("the path is not valid".to_owned()))
    }

    async fn send_through(&self, client: &reqwest::Client, parts: Parts, body: Outgoing) -> Result<Reply, SendFailure> {
        let own = parts.uri.path_and_query().map_or("/", |own| own.as_str());
        let mut url = self.url.clone();
        let (path, query) = own
            .split_once('?')
            .map_or((own, None), |(path, query)| (path, Some(query)));
        url.set_path(&format!("{}{path}", self.prefix));
        url.set_query(query);
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        request.headers_mut().remove(HOST);
        *request.body_mut() = match body {
            Outgoing::Whole(bytes) => Some(bytes.into()),
            Outgoing::Client(body) if hyper::body::Body::is_end_stream(&body) => None,
            Outgoing::Client(body) => Some(reqwest::Body::wrap(body)),
        };
        // The URL may hold a key, so it is kept out of the message.
        let response = client.execute(request).await.map_err(|error| {
            if Stalled::is_behind(&error) {
                return SendFailure::Stalled;
            }
            let is_unsent = error.is_connect() || error.is_builder();
            let reason = crate::error::chain(&error.without_url());
            if is_unsent {
                SendFailure::Unreachable(reason)
            } else {
                SendFailure::Broken(reason)
            }
        })?;
        let (parts, body) = Response::<reqwest::Body>::from(response).into_parts();
        let mut reply = Response::new(ReplyBody::Client(body));
        *reply.status_mut() = parts.status;
        *reply.headers_mut() = parts.headers;
        Ok(reply)
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok());
    let present = headers.keys().filter(|name| HOP_BY_HOP.contains(name)).cloned();
    let removed: Vec<HeaderName> = named.chain(present).collect();
    for name in removed {
        headers.remove(name);
    }
}
