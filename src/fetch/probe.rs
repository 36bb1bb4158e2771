//! Reports the route to a URL, and whether the URL responds.

use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap};
use tokio::time::timeout;
use url::Url;

use super::retry::Fault;
use super::{Error, Fetcher, file, reply};
use crate::net::{Login, Network, Proxy, SafeUrl, SendError, Trust, is_acceptable};

/// The route of a request to a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The URL.
    pub url: SafeUrl,
    /// The proxy, if any.
    pub proxy: Option<Proxy>,
    /// The certificates that the server is checked against; `None` without TLS.
    pub trust: Option<Trust>,
}

/// The time for one probe.
const LIMIT: Duration = Duration::from_secs(20);

impl Network {
    /// The route of a request to `url`.
    #[must_use]
    pub fn route_of(&self, url: &Url) -> Route {
        Route {
            url: url.into(),
            proxy: self.proxy(url).cloned(),
            trust: (url.scheme() == "https").then(|| self.trust()),
        }
    }
}

impl Fetcher {
    /// Requests the head of the file at `source` once; returns the size in bytes that it states.
    ///
    /// # Errors
    /// When the response is not a file.
    pub async fn probe(&self, source: &Url) -> Result<Option<u64>, Error> {
        if !is_acceptable(source) {
            return Err(Error::UnacceptableUrl { url: source.into() });
        }
        self.size_of(source).await.map_err(|fault| match fault {
            Fault::Fatal(error) => error,
            fault => Error::Unobtainable {
                label: "a probe".to_owned(),
                tried: vec![self.last_word(fault, source)],
                has_part: false,
            },
        })
    }

    async fn size_of(&self, source: &Url) -> Result<Option<u64>, Fault> {
        if source.scheme() == "file" {
            return file::open(source).map(|(_, size)| Some(size));
        }
        let mut headers = HeaderMap::new();
        let login = match self.is_mirror(source) {
            true => self.network.login(source).and_then(Login::basic),
            false if self.hub.is_under(source) => self.hub.authorization(),
            false => None,
        };
        headers.extend(login.map(|value| (AUTHORIZATION, value)));
        let asked = timeout(LIMIT, self.client.get(Method::HEAD, source.clone(), headers)).await;
        let head = asked.unwrap_or(Err(SendError::Stalled(LIMIT)))?.head;
        if !head.status.is_success() {
            return Err(reply::refusal(head.status, &head.headers, SystemTime::now()));
        }
        let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Ok(length.and_then(|length| length.parse().ok()))
    }

    fn is_mirror(&self, source: &Url) -> bool {
        self.mirrors.iter().any(|mirror| mirror.host() == source.host())
    }
}
