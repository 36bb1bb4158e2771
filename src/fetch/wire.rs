//! Turns what the HTTP client reports into what the retry table knows.

use std::error::Error as StdError;
use std::io;

use reqwest::{RequestBuilder, Response, StatusCode};

use super::retry::Fault;
use super::tunnel;
use crate::net::{Network, Patience};

/// Sends `request` and waits for the head of the answer.
pub(super) async fn send(request: RequestBuilder, network: &Network) -> Result<Response, Fault> {
    let error = match request.send().await {
        Ok(response) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            return Err(Fault::from_proxy(response.status().as_u16()));
        }
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    if says(&causes(&error), "tunnel error: unsuccessful")
        && let Some((url, proxy)) = error.url().and_then(|url| Some((url, network.proxy(url)?)))
        && let Some(fault) = tunnel::refusal(proxy, url).await
    {
        return Err(fault);
    }
    Err(fault(error, network.patience()))
}

/// What went wrong on the wire. The text of the fault holds no URL: whoever shows it adds the one that may be shown.
pub(super) fn fault(error: reqwest::Error, patience: &Patience) -> Fault {
    let error = error.without_url();
    let causes = causes(&error);
    let reason = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
    let tls = causes.iter().find_map(|cause| cause.downcast_ref::<rustls::Error>());
    if let Some(tls @ rustls::Error::InvalidCertificate(_)) = tls {
        return Fault::Untrusted(tls.to_string());
    }
    if error.is_redirect() {
        return Fault::Unusable(reason);
    }
    if error.is_connect() {
        let login_texts = ["proxy authorization required", "credentials not accepted"];
        return if login_texts.iter().any(|text| says(&causes, text)) {
            Fault::ProxyLogin
        } else if error.is_timeout() {
            Fault::Connect(format!("no answer within {} s", patience.connect.as_secs_f32()))
        } else {
            Fault::Connect(reason)
        };
    }
    if error.is_timeout() {
        return Fault::Stalled(patience.idle);
    }
    if error.is_builder() {
        return Fault::Unusable(reason);
    }
    Fault::Interrupted(reason)
}

/// Whether one of the causes says `text`; for types that are not public (hyper-util, client/legacy/connect/proxy).
fn says(causes: &[&(dyn StdError + 'static)], text: &str) -> bool {
    causes.iter().any(|cause| cause.to_string().contains(text))
}

/// The error's causes from the outermost in, those inside I/O errors included, which hide them from `source`.
fn causes(error: &reqwest::Error) -> Vec<&(dyn StdError + 'static)> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause);
        next = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn StdError + 'static))
            .or_else(|| cause.source());
    }
    causes
}
