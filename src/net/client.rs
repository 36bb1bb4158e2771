//! The HTTP client of the program, for downloads and the local model.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use hyper::http::response::Parts;
use hyper::{Method, Request};
use url::{Position, Url};

use super::address::{SafeUrl, is_acceptable, is_loopback};
use super::connect::Connector;
use super::idle::{BodyError, Idle};
use super::link::{LinkBody, Pool};
use super::login::Login;
use super::network::Network;
use super::origin::{Origin, SendError};

const AGENT: HeaderValue = HeaderValue::from_static(concat!("gem-setup/", env!("CARGO_PKG_VERSION")));
const MOST_REDIRECTS: usize = 10;
/// The number of idle connections that are kept for a server, and the time for which they are kept.
const KEPT: usize = 8;
const KEEP: Duration = Duration::from_secs(30);

type Origins = HashMap<String, Arc<Origin<Full<Bytes>>>>;

/// Sends requests over one network; clones share connections.
#[derive(Clone)]
pub struct Client {
    connector: Connector,
    idle: Duration,
    /// The servers by scheme, host and port.
    origins: Arc<Mutex<Origins>>,
}

/// A response whose body has not been read yet.
pub(crate) struct ServerResponse {
    /// The URL that answered, after redirects.
    pub(crate) url: Url,
    is_elsewhere: bool,
    pub(crate) head: Parts,
    body: Idle<LinkBody<Full<Bytes>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("connector", &self.connector)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with the timeouts of `network`: for connecting and for each piece, not for the whole response.
    #[must_use]
    pub fn new(network: &Network) -> Self {
        let patience = network.patience();
        Self {
            connector: Connector::new(network, patience.connect),
            idle: patience.idle,
            origins: Arc::default(),
        }
    }

    /// Requests `url` and follows redirects: at most ten, and never from https to http.
    pub(crate) async fn get(&self, method: Method, url: Url, headers: HeaderMap) -> Result<ServerResponse, SendError> {
        self.get_until(method, url, headers, |_| false).await
    }

    /// The same, but stops at the first response that `is_enough`. `Authorization` in `headers` is sent only to the
    /// server of `url`.
    pub(crate) async fn get_until(
        &self,
        method: Method,
        mut url: Url,
        mut headers: HeaderMap,
        is_enough: impl Fn(&ServerResponse) -> bool,
    ) -> Result<ServerResponse, SendError> {
        let asked = url.origin();
        for _ in 0..=MOST_REDIRECTS {
            let sent = self.send(method.clone(), &url, headers.clone(), Bytes::new()).await;
            let is_elsewhere = url.origin() != asked;
            let mut answer = sent.map_err(|error| match is_elsewhere {
                true => SendError::Redirected {
                    url: (&url).into(),
                    error: Box::new(error),
                },
                false => error,
            })?;
            answer.is_elsewhere = is_elsewhere;
            if is_enough(&answer) {
                return Ok(answer);
            }
            let Some(next) = answer.redirect()? else {
                return Ok(answer);
            };
            if next.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
            }
            url = next;
        }
        Err(SendError::Invalid(format!("more than {MOST_REDIRECTS} redirects")))
    }

    /// Sends one request. A login in `url` becomes a header.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<ServerResponse, SendError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        let target = url[Position::BeforePath..Position::AfterQuery].parse();
        *request.uri_mut() =
            target.map_err(|error: hyper::http::uri::InvalidUri| SendError::Invalid(error.to_string()))?;
        headers.insert(USER_AGENT, AGENT);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(login) = Login::in_url(url).and_then(|login| login.basic()) {
            headers.insert(AUTHORIZATION, login);
        }
        *request.headers_mut() = headers;
        let response = self.origin(url)?.send(request, self.idle).await?;
        let (head, body) = response.into_parts();
        Ok(ServerResponse {
            url: url.clone(),
            is_elsewhere: false,
            head,
            body: Idle::new(body, self.idle),
        })
    }

    fn origin(&self, url: &Url) -> Result<Arc<Origin<Full<Bytes>>>, SendError> {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        let name = url.origin().ascii_serialization();
        if let Some(origin) = origins.get(&name) {
            return Ok(Arc::clone(origin));
        }
        let origin = Origin::new(self.connector.clone(), url.clone(), Pool::new(KEPT, KEEP))
            .ok_or_else(|| SendError::Invalid("the URL names no host".to_owned()))?;
        Ok(Arc::clone(origins.entry(name).or_insert(Arc::new(origin))))
    }
}

impl ServerResponse {
    /// The next piece of the body. May be dropped and called again.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The URL that answered, if it is of another server than the one that was asked.
    pub(crate) fn elsewhere(&self) -> Option<&Url> {
        self.is_elsewhere.then_some(&self.url)
    }

    /// The URL to which this response redirects.
    fn redirect(&self) -> Result<Option<Url>, SendError> {
        if !matches!(self.head.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let location = self.head.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(next) = location.and_then(|location| self.url.join(location).ok()) else {
            return Ok(None);
        };
        // Plain http on this machine may redirect to this machine.
        let stays = self.url.scheme() == "http" && is_loopback(&self.url) && next.scheme() == "http";
        if next.scheme() == "https" || (stays && is_acceptable(&next)) {
            return Ok(Some(next));
        }
        let reason = format!("redirected to `{}`, which is not https", SafeUrl::from(next));
        Err(SendError::Invalid(reason))
    }
}
