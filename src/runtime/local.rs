//! A plain HTTP client for servers on loopback: no proxy, no TLS, no start-up cost.
//!
//! ```
//! use std::net::TcpListener;
//!
//! use gem_setup::runtime::local::is_listening;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! assert!(is_listening(listener.local_addr()?.port()).await);
//! # Ok(())
//! # }
//! ```

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gem_platform::process::Owner;
use http_body_util::Full;
use hyper::{Method, Request, header};
use tokio::net::TcpStream;

use super::{Endpoint, OwnerToken, TOKEN};
use crate::error::chain;
use crate::net::{LOOPBACK_DOWN, Link, is_loopback_down};

/// The largest response that is read, in bytes.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// A server on loopback: its port and the expected owner of its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    port: u16,
    owner: Owner,
    /// The token with which the gateway recognises its owner's requests.
    token: Option<OwnerToken>,
}

impl Peer {
    /// The server of `owner` on `port`.
    #[must_use]
    pub const fn new(port: u16, owner: Owner) -> Self {
        Self {
            port,
            owner,
            token: None,
        }
    }

    /// The same server, a gateway that recognises its owner by `token`.
    #[must_use]
    pub const fn with_token(self, token: Option<OwnerToken>) -> Self {
        Self { token, ..self }
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    async fn connect(self) -> Result<Link<Full<Bytes>>, Error> {
        let port = self.port;
        for address in loopback(port) {
            match Endpoint::new(address, self.owner).connect().await {
                Ok(stream) => return Link::plain(stream).await.map_err(|error| broken(port, error)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let reason = error.to_string();
                    return Err(Error::Foreign { reason });
                }
                Err(_) => {}
            }
        }
        Err(Error::refused(port))
    }
}

/// A loopback server's response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The part of the gateway that answered, if it is a gateway (`x-gem-answered-by`).
    pub answered_by: Option<String>,
    /// Why the model did not answer a classification, if a gateway says so (`x-gem-model-failure`).
    pub model_failure: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process listens on the port.
    #[error("nothing listens on port {port}")]
    Refused {
        /// The port.
        port: u16,
    },
    /// No address of this machine can be reached.
    #[error("{LOOPBACK_DOWN}")]
    NoLoopback,
    /// The listener does not speak HTTP.
    #[error("port {port} does not answer in HTTP: {reason}")]
    Broken {
        /// The port.
        port: u16,
        /// The reason.
        reason: String,
    },
    /// The listener is not the expected one, so no request was sent.
    #[error("nothing was sent: {reason}")]
    Foreign {
        /// A description of the listener.
        reason: String,
    },
    /// The response did not arrive in time.
    #[error("port {port} did not answer within {} ms", limit.as_millis())]
    TimedOut {
        /// The port.
        port: u16,
        /// The time limit.
        limit: Duration,
    },
}

impl Error {
    /// Why no connection to `port` was possible.
    #[must_use]
    pub fn refused(port: u16) -> Self {
        match is_loopback_down() {
            true => Self::NoLoopback,
            false => Self::Refused { port },
        }
    }
}

/// Sends a GET request for `path` to `peer`.
///
/// # Errors
/// When no response arrives within `limit`.
pub async fn fetch(peer: Peer, path: &str, limit: Duration) -> Result<Answer, Error> {
    call(peer, Method::GET, path, None, None, limit).await
}

/// Sends a POST request with the JSON text `body`, or without a body, to `path` of `peer`.
///
/// # Errors
/// When no response arrives within `limit`.
pub async fn post(peer: Peer, path: &str, body: Option<Bytes>, limit: Duration) -> Result<Answer, Error> {
    call(peer, Method::POST, path, None, body, limit).await
}

/// Sends a POST request with `body`, if given, to `path` of `peer`; `authorization` is the value of that header.
///
/// # Errors
/// When no response arrives within `limit`.
pub async fn post_authorized(
    peer: Peer,
    path: &str,
    authorization: &str,
    body: Option<Bytes>,
    limit: Duration,
) -> Result<Answer, Error> {
    call(peer, Method::POST, path, Some(authorization), body, limit).await
}

/// Whether a program listens on the loopback port `port`. Sends no request: the listener may be a runtime that
/// downloads its model at the first one (docs/facts.md section 2).
pub async fn is_listening(port: u16) -> bool {
    for address in loopback(port) {
        if TcpStream::connect(address).await.is_ok() {
            return true;
        }
    }
    false
}

async fn call(
    peer: Peer,
    method: Method,
    path: &str,
    authorization: Option<&str>,
    body: Option<Bytes>,
    limit: Duration,
) -> Result<Answer, Error> {
    let port = peer.port;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, format!("localhost:{port}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    if let Some(token) = &peer.token {
        request = request.header(TOKEN, token.as_bytes());
    }
    let request = request
        .body(Full::new(body.unwrap_or_default()))
        .map_err(|error| broken(port, error))?;
    tokio::time::timeout(limit, exchange(peer, request))
        .await
        .unwrap_or(Err(Error::TimedOut { port, limit }))
}

fn loopback(port: u16) -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

fn broken(port: u16, reason: impl ToString) -> Error {
    let reason = reason.to_string();
    Error::Broken { port, reason }
}

async fn exchange(peer: Peer, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
    let port = peer.port;
    let mut link = peer.connect().await?;
    let mut head = link.begin(request);
    let response = link.head(&mut head).await.map_err(|error| broken(port, error))?;
    let (head, mut body) = response.into_parts();
    let mut whole = BytesMut::new();
    while let Some(piece) = link.data(&mut body).await {
        whole.extend_from_slice(&piece.map_err(|error| broken(port, chain(&error)))?);
        if whole.len() > LARGEST_ANSWER {
            return Err(broken(
                port,
                format!("its answer is larger than {LARGEST_ANSWER} bytes"),
            ));
        }
    }
    let field = |name: &str| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
    Ok(Answer {
        status: head.status.as_u16(),
        answered_by: field("x-gem-answered-by"),
        model_failure: field("x-gem-model-failure"),
        body: whole.freeze(),
    })
}
