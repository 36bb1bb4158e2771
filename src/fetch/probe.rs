//! Reports the route to a URL, and whether the URL answers.

use std::time::Duration;

use hyper::Method;
use hyper::header::{ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, HeaderMap};
use tokio::time::timeout;
use url::Url;

use super::retry::Fault;
use super::{Error, Fetcher, file};
use crate::net::{Login, Network, Proxy, SafeUrl, SendError, Trust, is_acceptable};

/// How a URL would be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The URL.
    pub url: SafeUrl,
    /// The proxy it goes through, if any.
    pub proxy: Option<Proxy>,
    /// What its certificate is checked against; `None` where there is no TLS.
    pub trust: Option<Trust>,
}

/// What a source said when it was asked for the head of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    /// The size in bytes that it declares.
    pub size: Option<u64>,
    /// Whether it declares that it serves ranges.
    pub serves_ranges: bool,
    /// The URL that answered, redirects followed.
    pub url: SafeUrl,
}

/// How long one probe may take in all.
const LIMIT: Duration = Duration::from_secs(20);

impl Network {
    /// How a request for `url` would go.
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
    /// Asks `source` for the head of its file, once, without fetching it.
    ///
    /// # Errors
    /// When it does not answer with a file.
    pub async fn probe(&self, source: &Url) -> Result<ProbeReport, Error> {
        let failed = |fault: Fault| match fault {
            Fault::Fatal(error) => error,
            fault => Error::Unobtainable {
                label: "a probe".to_owned(),
                tried: vec![fault.into_tried(source.into(), None)],
            },
        };
        if !is_acceptable(source) {
            return Err(Error::UnacceptableUrl { url: source.into() });
        }
        if source.scheme() == "file" {
            return probe_file(source).map_err(failed);
        }
        let mut headers = HeaderMap::new();
        let login = self.network.login(source).filter(|_| self.is_mirror(source));
        if let Some(login) = login.and_then(Login::basic) {
            headers.insert(AUTHORIZATION, login);
        }
        let asked = timeout(LIMIT, self.client.get(Method::HEAD, source.clone(), headers)).await;
        let response = asked
            .unwrap_or(Err(SendError::Stalled(LIMIT)))
            .map_err(|error| failed(error.into()))?;
        if !response.head.status.is_success() {
            return Err(failed(Fault::Status {
                code: response.head.status.as_u16(),
                retry_after: None,
            }));
        }
        let header = |name| response.head.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(ProbeReport {
            size: header(CONTENT_LENGTH).and_then(|value| value.parse().ok()),
            serves_ranges: header(ACCEPT_RANGES) == Some("bytes"),
            url: response.url.into(),
        })
    }

    fn is_mirror(&self, source: &Url) -> bool {
        self.mirrors.iter().any(|mirror| mirror.host() == source.host())
    }
}

fn probe_file(source: &Url) -> Result<ProbeReport, Fault> {
    let (_, size) = file::open(source)?;
    Ok(ProbeReport {
        size: Some(size),
        serves_ranges: true,
        url: source.into(),
    })
}
