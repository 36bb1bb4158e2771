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

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What a loopback server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Who answered, if the gateway says so (`x-gem-answered-by`).
    pub answered_by: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process listens on the port.
    #[error("nothing listens on port {port}")]
    Refused {
        /// Which port.
        port: u16,
    },
    /// The listener does not answer with HTTP.
    #[error("port {port} gives no HTTP answer: {reason}")]
    Broken {
        /// Which port.
        port: u16,
        /// Why.
        reason: String,
    },
    /// The answer did not come in time.
    #[error("port {port} did not answer within {} ms", limit.as_millis())]
    TimedOut {
        /// Which port.
        port: u16,
        /// How long was waited.
        limit: Duration,
    },
}

/// GETs `path` from the server on loopback port `port`.
///
/// # Errors
/// When there is no answer within `limit`.
pub async fn fetch(port: u16, path: &str, limit: Duration) -> Result<Answer, Error> {
    call(port, Method::GET, path, None, None, limit).await
}

/// POSTs the JSON text `body` to `path` on loopback port `port`; without a body it sends none at all.
///
/// # Errors
/// When there is no answer within `limit`.
pub async fn post(port: u16, path: &str, body: Option<Bytes>, limit: Duration) -> Result<Answer, Error> {
    call(port, Method::POST, path, None, body, limit).await
}

/// POSTs without a body to `path` on loopback port `port`, with `authorization` as the header of that name.
///
/// # Errors
/// When there is no answer within `limit`.
pub async fn post_authorized(port: u16, path: &str, authorization: &str, limit: Duration) -> Result<Answer, Error> {
    call(port, Method::POST, path, Some(authorization), None, limit).await
}

/// Whether a program listens on loopback port `port`. Sends nothing: what listens may be a runtime that downloads its model at
/// the first request (docs/facts.md section 2).
pub async fn is_listening(port: u16) -> bool {
    connect(port).await.is_ok()
}

async fn call(
    port: u16,
    method: Method,
    path: &str,
    authorization: Option<&str>,
    body: Option<Bytes>,
    limit: Duration,
) -> Result<Answer, Error> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, format!("localhost:{port}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request
        .body(Full::new(body.unwrap_or_default()))
        .map_err(|error| broken(port, &error))?;
    tokio::time::timeout(limit, exchange(port, request))
        .await
        .unwrap_or(Err(Error::TimedOut { port, limit }))
}

async fn connect(port: u16) -> Result<TcpStream, Error> {
    let addresses = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ];
    for address in addresses {
        if let Ok(stream) = TcpStream::connect(address).await {
            return Ok(stream);
        }
    }
    Err(Error::Refused { port })
}

fn broken(port: u16, error: &dyn std::error::Error) -> Error {
    let reason = crate::error::chain(error);
    Error::Broken { port, reason }
}

async fn exchange(port: u16, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
    let stream = connect(port).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(port, &error))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let answered_by = response.headers().get("x-gem-answered-by");
        let answered_by = answered_by.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer {
            status,
            answered_by,
            body,
        })
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    let mut closed = false;
    let outcome: Result<Answer, hyper::Error> = std::future::poll_fn(|context| {
        if !closed && connection.as_mut().poll(context).is_ready() {
            closed = true;
        }
        answer.as_mut().poll(context)
    })
    .await;
    outcome.map_err(|error| broken(port, &error))
}
