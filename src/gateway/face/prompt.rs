//! One prompt for the local model, and the reply to it.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::time::Instant;

use crate::gateway::path::StreamFormat;
use crate::gateway::reply::{Reply, json, whole};
use crate::gateway::tokens::Usage;

/// The time a Google SDK allows the server, in seconds.
const SERVER_TIMEOUT: &str = "x-server-timeout";

/// One prompt.
pub(super) struct Prompt {
    /// The request's body as the engine gets it.
    pub(super) engine_body: Bytes,
    pub(super) usage: Usage,
    pub(super) stream: Option<StreamFormat>,
    pub(super) arrived: Instant,
    /// The client's own deadline, if it states one.
    pub(super) patience: Option<Duration>,
}

impl Prompt {
    /// When the client must have an answer that may take `usual`.
    pub(super) fn deadline(&self, usual: Duration) -> Instant {
        self.arrived + self.time(usual)
    }

    /// How long an answer that may take `usual` may take for this client.
    pub(super) fn time(&self, usual: Duration) -> Duration {
        self.patience.map_or(usual, |patience| patience.min(usual))
    }
}

/// A successful reply of answers that are all there.
pub(super) fn reply(text: Bytes, stream: Option<StreamFormat>) -> Reply {
    match stream {
        Some(StreamFormat::Events) => whole(StatusCode::OK, "text/event-stream", text),
        Some(StreamFormat::Array) | None => json(StatusCode::OK, text),
    }
}

/// The client's own deadline, if it states one.
pub(super) fn server_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(SERVER_TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}
