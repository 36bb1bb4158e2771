//! A prompt for the local model, and the reply to it.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::time::Instant;

use crate::gateway::path::StreamFormat;
use crate::gateway::reply::{Reply, json, whole};
use crate::gateway::tokens::Usage;

/// The header with the server's time limit in seconds, set by Google's SDKs.
const SERVER_TIMEOUT: &str = "x-server-timeout";

/// A prompt for the local model.
pub(super) struct Prompt {
    /// The request's body in the form for the engine.
    pub(super) engine_body: Bytes,
    pub(super) usage: Usage,
    pub(super) stream: Option<StreamFormat>,
    pub(super) arrived: Instant,
    /// The client's own time limit, if it states one.
    pub(super) patience: Option<Duration>,
}

impl Prompt {
    /// The deadline for an answer to this client that usually may take `usual`.
    pub(super) fn deadline(&self, usual: Duration) -> Instant {
        self.arrived + self.time(usual)
    }

    /// The time for an answer to this client that usually may take `usual`.
    pub(super) fn time(&self, usual: Duration) -> Duration {
        within(usual, self.patience)
    }
}

/// The time `usual`, shortened to the client's own time limit.
pub(super) fn within(usual: Duration, patience: Option<Duration>) -> Duration {
    patience.map_or(usual, |patience| patience.min(usual))
}

/// A successful reply with complete answers.
pub(super) fn reply(text: Bytes, stream: Option<StreamFormat>) -> Reply {
    match stream {
        Some(StreamFormat::Events) => whole(StatusCode::OK, "text/event-stream", text),
        Some(StreamFormat::Array) | None => json(StatusCode::OK, text),
    }
}

/// The client's own time limit, if it states one.
pub(super) fn server_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(SERVER_TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}
