//! A prompt for the local model, and the reply to it.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::time::Instant;

use crate::gateway::path::StreamFormat;
use crate::gateway::reply::{Reply, json, whole};
use crate::gateway::tokens::Usage;

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
