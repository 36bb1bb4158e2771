//! The faults of requests and their HTTP statuses.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;

use super::path::why_nothing;

/// Why a request gets an error reply.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Forbidden(String),
    #[error(
        "this gateway needs a token: send it in `x-goog-api-key`, or in `x-gem-token` if you also send your own key \
        for the upstream"
    )]
    Unauthenticated,
    #[error(
        "this gateway has no key for the upstream: send your own in `x-goog-api-key`, and the token in `x-gem-token`"
    )]
    WithoutKey,
    /// A client exceeded a limit on its requests.
    #[error("{message}; retry in {} s", whole_seconds(*retry_after))]
    Limited { message: String, retry_after: Duration },
    #[error("nothing is served at `{0}`{reason}", reason = why_nothing(.0))]
    NotFound(String),
    #[error("{0}")]
    ModelMissing(String),
    #[error("the method `{method}` is not allowed here; allowed: {allow}")]
    MethodNotAllowed { method: String, allow: &'static str },
    #[error("the request's body did not arrive in time")]
    SlowBody,
    #[error("the request's body is larger than {}", size(*.0))]
    TooLarge(usize),
    #[error("the request's body is larger than {}, which is too large to choose a model for it, to replace an alias in it or to ask \
        another one; name the model itself in the path, without `x-gem-consent`, then the body may have any size", size(*.0))]
    TooLargeToRoute(usize),
    #[error("the request's body has a transfer coding other than `chunked`")]
    Coding,
    #[error(
        "the request's body has the content coding `{0}`; the gateway reads only `gzip` and `deflate`, so send the body \
        without a coding"
    )]
    ContentCoding(String),
    #[error("the local model has no method `{0}`")]
    Unsupported(String),
    #[error("{0} requests are already waiting for the local model; try again later")]
    Busy(usize),
    #[error("the local model failed: {0}")]
    Engine(String),
    #[error("the gateway is full: {0}; try again later")]
    Full(String),
    #[error("this server is ending and cannot wait for the answer; send the request again")]
    Ending,
    #[error("the local model's runtime is not available: {0}")]
    Unavailable(String),
    #[error("the local model cannot answer: {0}")]
    Blocked(String),
    #[error("the local model did not answer in time")]
    Deadline,
    #[error("the upstream `{0}` did not answer within the time that the client allows")]
    LateUpstream(String),
    #[error("the local model's runtime gave no valid answer: {0}")]
    BadEngine(String),
    /// The engine's own error object; the client may see it unchanged.
    #[error("the local model refused with status {0}")]
    Refused(StatusCode, Bytes),
    #[error("cannot reach the upstream `{host}`: {reason}; check the gateway's network and its `--upstream`")]
    Unreachable { host: String, reason: String },
    #[error(
        "the upstream `{host}` got the request but gave no valid response: {reason}; it may have acted on the request"
    )]
    Broken { host: String, reason: String },
    #[error(
        "the gateway's own request came back to it: its upstream `{0}` leads to the gateway itself; correct `--upstream`"
    )]
    Loop(String),
}

impl Fault {
    /// The HTTP status of this fault.
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::Blocked(_) => StatusCode::BAD_REQUEST,
            Self::Unauthenticated | Self::WithoutKey => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) | Self::ModelMissing(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) | Self::TooLargeToRoute(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ContentCoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Loop(_) => StatusCode::LOOP_DETECTED,
            Self::Coding | Self::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Busy(_) | Self::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Engine(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Full(_) | Self::Unavailable(_) | Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline | Self::LateUpstream(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Refused(status, _) => *status,
            Self::BadEngine(_) | Self::Unreachable { .. } | Self::Broken { .. } => StatusCode::BAD_GATEWAY,
        }
    }

    /// The delay in whole seconds after which the request may be repeated, if known.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy(_) | Self::Full(_) | Self::Unavailable(_) | Self::Ending => Some(1),
            Self::Limited { retry_after, .. } => Some(whole_seconds(*retry_after)),
            _ => None,
        }
    }

    /// The same delay in the form that Google's clients read.
    fn retry_info(&self) -> Option<[RetryInfo; 1]> {
        let Self::Limited { retry_after, .. } = self else {
            return None;
        };
        Some([RetryInfo {
            kind: "type.googleapis.com/google.rpc.RetryInfo",
            delay: format!("{}s", whole_seconds(*retry_after)),
        }])
    }

    /// Google's error object as JSON text.
    pub(super) fn to_json(&self) -> Bytes {
        if let Self::Refused(_, object) = self {
            return object.clone();
        }
        let status = self.status();
        let error = ErrorObject {
            code: status.as_u16(),
            message: &self.to_string(),
            status: match self {
                // Clients would retry 503, but only a person can solve this.
                Self::Blocked(_) => "FAILED_PRECONDITION",
                _ => google_status(status),
            },
            details: self.retry_info(),
        };
        serde_json::to_string(&Envelope { error }).unwrap_or_default().into()
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<[RetryInfo; 1]>,
}

#[derive(Serialize)]
struct RetryInfo {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "retryDelay")]
    delay: String,
}

fn size(bytes: usize) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        megabytes => format!("{megabytes} MiB"),
    }
}

/// The whole seconds of `time`, at least one.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}

/// Google's name for an HTTP status (`google.rpc.Code`).
const fn google_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        405 | 501 => "UNIMPLEMENTED",
        408 | 504 => "DEADLINE_EXCEEDED",
        429 => "RESOURCE_EXHAUSTED",
        400..=499 => "INVALID_ARGUMENT",
        502 | 503 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}
