//! The engine's streamed answers, one JSON object each.

use std::collections::VecDeque;

use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use hyper::http::response::Parts;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::exchange::{Exchange, LARGEST_ANSWER};
use super::sse::Events;
use crate::gateway::fault::Fault;

/// The answers of one exchange, in order.
pub(in crate::gateway) struct AnswerStream {
    exchange: Exchange,
    events: Events,
    /// Answers that arrived together in one JSON text.
    ready: VecDeque<Bytes>,
    /// Whether only the end of the connection marks the end of the answer.
    ends_by_close: bool,
    is_finished: bool,
}

impl AnswerStream {
    /// Waits for the head of a response; a refusal is an error.
    pub(in crate::gateway) async fn begin(mut exchange: Exchange) -> Result<Self, Fault> {
        let head = exchange.accepted().await?;
        let ready = if is_event_stream(&head) {
            VecDeque::new()
        } else {
            elements(&exchange.collect().await?)?
        };
        Ok(Self {
            exchange,
            events: Events::default(),
            ready,
            ends_by_close: !head.headers.contains_key(CONTENT_LENGTH) && !head.headers.contains_key(TRANSFER_ENCODING),
            is_finished: false,
        })
    }

    /// The next answer. May be dropped and called again.
    pub(in crate::gateway) async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        loop {
            if let Some(answer) = self.ready.pop_front().or_else(|| self.events.next()) {
                return Some(self.check(answer));
            }
            match self.exchange.data().await {
                Some(Ok(piece)) => {
                    self.events.push(&piece);
                    if self.events.pending() > LARGEST_ANSWER {
                        return Some(Err(Fault::BadEngine(format!(
                            "an event is larger than {LARGEST_ANSWER} bytes"
                        ))));
                    }
                }
                Some(Err(fault)) => return Some(Err(fault)),
                None => return self.end(),
            }
        }
    }

    /// The end of the stream: complete, or broken off because the engine ended. A killed engine closes its connection
    /// too.
    fn end(&mut self) -> Option<Result<Bytes, Fault>> {
        if let Some(last) = self.events.last() {
            return Some(self.check(last));
        }
        if self.is_finished || !self.ends_by_close {
            return None;
        }
        self.is_finished = true;
        Some(Err(Fault::BadEngine("it ended in the middle of its answer".to_owned())))
    }

    fn check(&mut self, answer: Bytes) -> Result<Bytes, Fault> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            candidates: Vec<Candidate>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Candidate {
            #[serde(default)]
            finish_reason: Option<String>,
        }
        let Ok(parsed) = serde_json::from_slice::<Answer>(&answer) else {
            self.is_finished = true;
            return Err(Fault::BadEngine("an event is not a JSON object".to_owned()));
        };
        let mut reasons = parsed
            .candidates
            .iter()
            .filter_map(|candidate| candidate.finish_reason.as_deref());
        self.is_finished |= reasons.any(|reason| !reason.is_empty());
        Ok(answer)
    }
}

fn is_event_stream(head: &Parts) -> bool {
    head.headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"))
}

/// The elements of a JSON array, or a single object.
fn elements(text: &[u8]) -> Result<VecDeque<Bytes>, Fault> {
    if let Ok(elements) = serde_json::from_slice::<Vec<&RawValue>>(text) {
        return Ok(elements
            .into_iter()
            .map(|element| Bytes::copy_from_slice(element.get().as_bytes()))
            .collect());
    }
    if super::answer::is_answer(text) {
        return Ok(VecDeque::from([Bytes::copy_from_slice(text)]));
    }
    Err(Fault::BadEngine(
        "its answer is neither a stream of events nor JSON".to_owned(),
    ))
}
