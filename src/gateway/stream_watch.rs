//! Watches a model's stream of server-sent events as it passes through. The head said that the model answers; an error event, or a stream
//! that breaks off, says that it did not. The decision is logged at the stream's end, so that its line tells the two apart.

use std::io::{self, Write};
use std::sync::Arc;

use flate2::write::GzDecoder;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use super::metrics::Metrics;
use super::secrets::Secrets;
use crate::router::{DecisionLog, DecisionRecord, ModelFailure};

/// The part of an error event that is read, in bytes.
const LONGEST_EVENT: usize = 16 << 10;
/// The status in the decision log of a stream that broke off.
const BROKEN_OFF: u16 = 502;

/// A stream that is watched until this is dropped.
pub(super) struct StreamWatch {
    reader: Reader,
    model: String,
    secrets: Secrets,
    metrics: Arc<Metrics>,
    decision: Option<(DecisionLog, DecisionRecord)>,
    /// The status of the failure after the head.
    status: Option<u16>,
}

enum Reader {
    Plain(ErrorEvent),
    Gzip(Box<GzDecoder<ErrorEvent>>),
}

impl StreamWatch {
    /// For the body that comes with `headers` from `model`, if that is a stream of events in a coding that can be read.
    pub(super) fn new(headers: &HeaderMap, model: &str, secrets: Secrets, metrics: &Arc<Metrics>) -> Option<Self> {
        let kind = headers.get(CONTENT_TYPE)?.as_bytes();
        if !kind.starts_with(b"text/event-stream") {
            return None;
        }
        let reader = match headers.get(CONTENT_ENCODING).map(|coding| coding.as_bytes()) {
            None | Some(b"identity") => Reader::Plain(ErrorEvent::default()),
            Some(b"gzip") => Reader::Gzip(Box::new(GzDecoder::new(ErrorEvent::default()))),
            Some(_) => return None,
        };
        Some(Self {
            reader,
            model: model.to_owned(),
            secrets,
            metrics: Arc::clone(metrics),
            decision: None,
            status: None,
        })
    }

    /// Leaves `record` to be logged at the end of the stream.
    pub(super) fn decided(&mut self, log: &DecisionLog, record: DecisionRecord) {
        self.decision = Some((log.clone(), record));
    }

    /// Takes the next piece of the body.
    pub(super) fn take(&mut self, piece: &[u8]) {
        // A body in a wrong coding is the client's to report.
        let event = match &mut self.reader {
            Reader::Plain(event) => event.write_all(piece).map(|()| event),
            Reader::Gzip(decoder) => decoder
                .write_all(piece)
                .and_then(|()| decoder.flush())
                .map(|()| decoder.get_mut()),
        };
        if let Ok(Some((status, failure))) = event.map(|event| event.found.take()) {
            let message = self.secrets.without(&failure.message);
            let message = format!("{message} (in a reply that began as a success)");
            self.metrics.models.failed(&self.model, Some(status), &message);
            self.status.get_or_insert(status);
        }
    }

    /// Notes that the stream broke off.
    pub(super) fn broke_off(&mut self) {
        self.status.get_or_insert(BROKEN_OFF);
    }
}

impl Drop for StreamWatch {
    fn drop(&mut self) {
        if let Some((log, mut record)) = self.decision.take() {
            record.status = record.status.or(self.status);
            log.record(record);
        }
    }
}

/// Finds the error among the events of a stream: a line such as `data: {"error": {…}}`.
#[derive(Debug, Default)]
struct ErrorEvent {
    /// The current line, as far as it may be one.
    line: Vec<u8>,
    is_other: bool,
    found: Option<(u16, ModelFailure)>,
}

impl ErrorEvent {
    fn add(&mut self, part: &[u8]) {
        if self.line.is_empty() {
            self.is_other |= !may_be_error(part);
        }
        if !self.is_other {
            let room = LONGEST_EVENT.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            self.is_other = !may_be_error(&self.line);
        }
        if part.ends_with(b"\n") {
            if !self.is_other && self.found.is_none() {
                let data = self.line.trim_ascii().strip_prefix(DATA);
                self.found = data.and_then(ModelFailure::in_event);
            }
            self.line.clear();
            self.is_other = false;
        }
    }
}

impl Write for ErrorEvent {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        piece
            .split_inclusive(|byte| *byte == b'\n')
            .for_each(|part| self.add(part));
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const DATA: &[u8] = b"data:";

/// Whether `line` begins like an error event, as far as it goes.
fn may_be_error(line: &[u8]) -> bool {
    let mut rest = line;
    [DATA, b"{", b"\"error\""].iter().all(|token| {
        rest = rest.trim_ascii_start();
        let (common, is_it) = (
            rest.len().min(token.len()),
            token.starts_with(&rest[..rest.len().min(token.len())]),
        );
        rest = &rest[common..];
        is_it
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_event_is_found_however_it_arrives() {
        let stream = "data: {\"candidates\": [\"error\"]}\n\ndata: {\"error\": {\"code\": 503, \"message\": \"overloaded\"}}\r\n\r\n";
        for size in [1, 7, stream.len()] {
            let mut event = ErrorEvent::default();
            stream
                .as_bytes()
                .chunks(size)
                .for_each(|piece| event.write_all(piece).unwrap());
            let (status, failure) = event.found.unwrap();
            assert_eq!((status, failure.message.as_str()), (503, "overloaded"), "{size}");
        }
    }

    #[test]
    fn other_events_are_not_kept() {
        let mut event = ErrorEvent::default();
        let text = format!("data: {{\"text\": \"{}", "x".repeat(2 * LONGEST_EVENT));
        event.write_all(text.as_bytes()).unwrap();
        assert!(event.line.is_empty());
        event.write_all(b"\"error\"\n\n: comment\ndata: {\"error\": 1").unwrap();
        assert!(event.found.is_none());
    }
}
