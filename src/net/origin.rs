//! A server and the connections that are kept to it.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Request, Response, StatusCode, Uri};
use url::{Position, Url};

use super::address::SafeUrl;
use super::connect::{ConnectError, Connector};
use super::link::{Kept, Link, LinkBody, LinkError, Pool, Sendable};

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The request has not reached the server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The request cannot be sent to any server.
    #[error("{0}")]
    Invalid(String),
    /// The connection broke; the server may have acted on the request.
    #[error("the connection broke: {}", crate::error::chain(.0))]
    Broken(hyper::Error),
    /// Nothing arrived for this long; the server may have acted on the request.
    #[error("nothing arrived for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// The response is malformed and must not be used.
    #[error("{0}")]
    Unsound(&'static str),
    /// The server that answered redirects to `url`, which failed.
    #[error("redirected to `{url}`: {error}")]
    Redirected {
        /// To where.
        url: SafeUrl,
        /// Why that failed.
        error: Box<Self>,
    },
}

/// A server and the connections to it.
pub(crate) struct Origin<B: Sendable> {
    url: Url,
    host: HeaderValue,
    connector: Connector,
    pool: Arc<Pool<B>>,
    forward: Option<Forward>,
}

/// The data that a request needs if an HTTP proxy passes it on.
struct Forward {
    /// Scheme, host and port.
    origin: String,
    login: Option<HeaderValue>,
}

impl<B: Sendable> Origin<B> {
    /// The server in `url`; `None` without a host. `pool` keeps its connections.
    pub(crate) fn new(connector: Connector, url: Url, pool: Pool<B>) -> Option<Self> {
        url.host_str().filter(|host| !host.is_empty())?;
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        let forward = connector.forwards(&url).map(|login| Forward {
            origin: format!("http://{authority}"),
            login: login.and_then(|login| login.basic()),
        });
        Some(Self {
            host: HeaderValue::try_from(authority).ok()?,
            connector,
            pool: Arc::new(pool),
            forward,
            url,
        })
    }

    /// The URL for which it was created.
    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }

    /// Closes connections that have been kept for their time.
    pub(crate) fn expire(&self) {
        self.pool.expire();
    }

    /// Sends `request`, whose target is a path. Returns the response as soon as its head has arrived. Fails if it does
    /// not arrive within `idle` after the last byte was sent.
    pub(crate) async fn send(
        &self,
        mut request: Request<B>,
        idle: Duration,
    ) -> Result<Response<LinkBody<B>>, SendError> {
        request.headers_mut().insert(HOST, self.host.clone());
        self.address(&mut request)?;
        loop {
            let (mut link, is_new) = match self.pool.take(Kept::Here) {
                Some(link) => (link, false),
                None => (self.connect().await?, true),
            };
            let mut head = link.begin(request);
            let sent = link.head_within(&mut head, idle).await;
            match sent.map_err(|_| SendError::Stalled(idle))? {
                Ok(response) => {
                    return self.accept(response.map(|body| LinkBody::new(body, link, Arc::clone(&self.pool))));
                }
                // The server closed an idle connection just before the request was sent.
                Err(LinkError::Unsent(unsent, _)) if !is_new => request = *unsent,
                Err(LinkError::Unsent(_, error)) => {
                    return Err(ConnectError::Failed(crate::error::chain(&error)).into());
                }
                Err(LinkError::Broken(error)) => return Err(SendError::Broken(error)),
                Err(LinkError::Unsound(reason)) => return Err(SendError::Unsound(reason)),
            }
        }
    }

    async fn connect(&self) -> Result<Link<B>, ConnectError> {
        let stream = self.connector.connect(&self.url).await?;
        let link = Link::over(stream).await;
        link.map_err(|error| ConnectError::Failed(crate::error::chain(&error)))
    }

    /// Adds the server to the request's target if a proxy needs it there.
    fn address(&self, request: &mut Request<B>) -> Result<(), SendError> {
        let Some(forward) = &self.forward else {
            return Ok(());
        };
        let target: Result<Uri, _> = format!("{}{}", forward.origin, request.uri()).parse();
        *request.uri_mut() = target.map_err(|error| SendError::Invalid(error.to_string()))?;
        if let Some(login) = &forward.login {
            request.headers_mut().insert(PROXY_AUTHORIZATION, login.clone());
        }
        Ok(())
    }

    /// `response`, unless it is a proxy's refusal.
    fn accept<T>(&self, response: Response<T>) -> Result<Response<T>, SendError> {
        if self.forward.is_some() && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(ConnectError::ProxyLogin.into());
        }
        Ok(response)
    }
}
