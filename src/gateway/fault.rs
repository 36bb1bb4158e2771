//! The faults that a request can have, and their statuses.

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;

/// Why a request is not answered as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Forbidden(String),
    #[error("nothing is served at `{0}`")]
    NotFound(String),
    #[error("{0}")]
    ModelMissing(String),
    #[error("the method `{method}` is not allowed here; allowed: {allow}")]
    MethodNotAllowed { method: String, allow: &'static str },
    #[error("the request's body did not arrive in time")]
    SlowBody,
    #[error("the request's body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("`{0}` is not something the local model can do")]
    Unsupported(String),
    #[error("{0} requests are waiting for the local model already; try again later")]
    Busy(usize),
    #[error("the local model failed: {0}")]
    Engine(String),
    #[error("the gateway is full: {0}; try again later")]
    Full(String),
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
    /// The engine's own error object, which the client may see as it is.
    #[error("the local model refused with status {0}")]
    Refused(StatusCode, Bytes),
    #[error("cannot reach the upstream `{host}`: {reason}")]
    Upstream { host: String, reason: String },
}

impl Fault {
    /// The HTTP status of every fault.
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::Blocked(_) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) | Self::ModelMissing(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Engine(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Full(_) | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline | Self::LateUpstream(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Refused(status, _) => *status,
            Self::BadEngine(_) | Self::Upstream { .. } => StatusCode::BAD_GATEWAY,
        }
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
                // Clients retry what is unavailable; this needs a person.
                Self::Blocked(_) => "FAILED_PRECONDITION",
                _ => google_status(status),
            },
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
}

/// The name Google gives to an HTTP status (`google.rpc.Code`).
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
