//! Turns what the HTTP client reports into what the retry table knows.

use std::error::Error as StdError;
use std::io;

use super::retry::{Fault, Patience};

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
        // The types behind these texts are not public (hyper-util, client/legacy/connect/proxy).
        let asks_for_login = causes.iter().any(|cause| {
            let text = cause.to_string();
            text.contains("proxy authorization required") || text.contains("credentials not accepted")
        });
        return if asks_for_login {
            Fault::Proxy(reason)
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
