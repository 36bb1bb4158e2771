//! Watches a model's stream of server-sent events as it passes through. The head said that the model answers; an error event, or a stream
//! that breaks off, says that it did not. The decision is logged at the stream's end, so that its line tells the two apart.

use std::io::{self, Write};
use std::sync::Arc;

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use memchr::memchr2;

use super::metrics::Metrics;
use super::secrets::Secrets;
use crate::router::{DecisionLog, DecisionRecord, ModelFailure};

/// The part of an error event that is read, in bytes.
const LONGEST_EVENT: usize = 16 << 10;
/// The status in the decision log for a client that left before the end of the reply, as Google's APIs name it.
pub(super) const CLIENT_LEFT: u16 = 499;
/// The status in the decision log of a stream that broke off.
const BROKEN_OFF: u16 = 502;
/// The same if the client's time was over.
const LATE: u16 = 504;
const EVENTS: &[u8] = b"text/event-stream";

/// A stream that is watched until this is dropped.
pub(super) struct StreamWatch {
    reader: Reader,
    model: String,
    secrets: Secrets,
    metrics: Arc<Metrics>,
    decision: Option<(DecisionLog, DecisionRecord)>,
    /// The status of the failure after the head.
    status: Option<u16>,
    /// Whether the stream came to its end.
    is_over: bool,
}

enum Reader {
    Plain(ErrorEvent),
    Gzip(Box<MultiGzDecoder<ErrorEvent>>),
    Deflate(Box<ZlibDecoder<ErrorEvent>>),
}

impl StreamWatch {
    /// For the body that comes with `headers` from `model`, if that is a stream of events in a coding that can be read.
    pub(super) fn new(headers: &HeaderMap, model: &str, secrets: Secrets, metrics: &Arc<Metrics>) -> Option<Self> {
        let kind = headers.get(CONTENT_TYPE)?.as_bytes().get(..EVENTS.len())?;
        if !kind.eq_ignore_ascii_case(EVENTS) {
            return None;
        }
        let event = ErrorEvent::default();
        let reader = match &*coding(headers) {
            "" | "identity" => Reader::Plain(event),
            "gzip" | "x-gzip" => Reader::Gzip(Box::new(MultiGzDecoder::new(event))),
            "deflate" => Reader::Deflate(Box::new(ZlibDecoder::new(event))),
            _ => return None,
        };
        Some(Self {
            reader,
            model: model.to_owned(),
            secrets,
            metrics: Arc::clone(metrics),
            decision: None,
            status: None,
            is_over: false,
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
            Reader::Gzip(decoder) => decoded(&mut **decoder, piece).map(|()| decoder.get_mut()),
            Reader::Deflate(decoder) => decoded(&mut **decoder, piece).map(|()| decoder.get_mut()),
        };
        if let Ok(Some((status, failure))) = event.map(|event| event.found.take()) {
            let message = self.secrets.without(&failure.message);
            let message = format!("{message} (in a reply that began as a success)");
            self.metrics.models.failed(&self.model, Some(status), &message);
            self.status.get_or_insert(status);
        }
    }

    /// Notes that the stream broke off, because the client's time was over (`is_late`) or because the upstream failed.
    pub(super) fn broke_off(&mut self, is_late: bool) {
        self.status.get_or_insert(if is_late { LATE } else { BROKEN_OFF });
    }

    /// Notes that the stream came to its end. Returns whether it was an answer.
    pub(super) const fn ended(&mut self) -> bool {
        self.is_over = true;
        self.status.is_none()
    }
}

/// The codings of a body, as in one header; empty if there are none.
pub(super) fn coding(headers: &HeaderMap) -> String {
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let codings: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    codings.join(", ").trim().to_ascii_lowercase()
}

fn decoded(decoder: &mut impl Write, piece: &[u8]) -> io::Result<()> {
    decoder.write_all(piece)?;
    decoder.flush()
}

impl Drop for StreamWatch {
    fn drop(&mut self) {
        if let Some((log, mut record)) = self.decision.take() {
            // The client left, or the server ended.
            let left = (!self.is_over).then_some(CLIENT_LEFT);
            record.status = record.status.or(self.status).or(left);
            log.record(record);
        }
    }
}

/// Finds an error in a stream of events: `data: {"error": {…}}`, also over several lines or in a list, or the same JSON without
/// `data:`, which Google's SDKs take for an error too.
#[derive(Debug, Default)]
struct ErrorEvent {
    /// The current line, as far as it may belong to an error.
    line: Vec<u8>,
    /// The data of the lines before it, if they may begin an error.
    text: Vec<u8>,
    /// Whether `text` is JSON without `data:`.
    is_bare: bool,
    /// Whether the rest of the current line does not matter.
    is_other: bool,
    after_return: bool,
    found: Option<(u16, ModelFailure)>,
}

impl ErrorEvent {
    /// Adds a part of a line.
    fn add(&mut self, part: &[u8]) {
        if self.is_other {
            return;
        }
        // Most lines differ at their beginning and are not copied.
        if self.line.is_empty() && !self.may_continue(part) {
            return self.skip_line(part);
        }
        let room = LONGEST_EVENT.saturating_sub(self.text.len() + self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        if !self.may_continue(&self.line) {
            let line = std::mem::take(&mut self.line);
            self.skip_line(&line);
        }
    }

    /// Skips the rest of `line`. Comments and other fields may stand between the lines of an error.
    fn skip_line(&mut self, line: &[u8]) {
        self.is_other = true;
        if self.data(line).is_some() {
            self.end_event();
        }
    }

    fn may_continue(&self, line: &[u8]) -> bool {
        self.data(line)
            .is_some_and(|data| may_be_error(self.text.iter().chain(data)))
    }

    /// The data in `line`, as far as it goes; `None` for another field.
    fn data<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        if self.is_bare {
            return Some(line);
        }
        let line = line.trim_ascii_start();
        match line.strip_prefix(DATA) {
            None if self.text.is_empty() && matches!(line.first(), Some(b'{' | b'[')) => Some(line),
            None => DATA.starts_with(line).then_some(&[]),
            data => data,
        }
    }

    fn end_line(&mut self) {
        let is_blank = self.line.is_empty() && !self.is_other;
        if let Some(data) = self.data(&self.line).filter(|data| !self.is_other && !data.is_empty()) {
            let data = data.to_vec();
            self.is_bare |= !self.line.trim_ascii_start().starts_with(DATA);
            self.text.extend_from_slice(&data);
            self.text.push(b'\n');
        }
        self.line.clear();
        self.is_other = false;
        self.look();
        if is_blank {
            self.end_event();
        }
    }

    fn end_event(&mut self) {
        self.text.clear();
        self.is_bare = false;
    }

    /// Looks whether the error is complete: the stream may end after it without the end of a line.
    fn look(&mut self) {
        let data = self.data(&self.line).filter(|_| !self.is_other).unwrap_or_default();
        let last = data.trim_ascii_end().last().or(self.text.trim_ascii_end().last());
        if !matches!(last, Some(b'}' | b']')) {
            return;
        }
        if let Some(found) = ModelFailure::in_event(&[&self.text, data].concat()) {
            self.found.get_or_insert(found);
            self.line.clear();
            self.end_event();
            self.is_other = true;
        }
    }
}

impl Write for ErrorEvent {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let mut rest = piece;
        while let Some(end) = memchr2(b'\r', b'\n', rest) {
            self.add(&rest[..end]);
            let is_return = rest[end] == b'\r';
            let ended_before = end == 0 && !is_return && self.after_return;
            if !ended_before {
                self.end_line();
            }
            self.after_return = is_return;
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            self.after_return = false;
            self.add(rest);
            self.look();
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const DATA: &[u8] = b"data:";

/// Whether the JSON `text` begins like an error, or a list of one, as far as it goes.
fn may_be_error<'a>(text: impl Iterator<Item = &'a u8>) -> bool {
    let mut text = text.filter(|byte| !byte.is_ascii_whitespace()).peekable();
    text.next_if_eq(&&b'[');
    let mut beginning = b"{\"error\"".iter();
    beginning.all(|expected| text.next().is_none_or(|byte| byte == expected))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

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

    fn found(stream: &str, size: usize) -> Option<(u16, String)> {
        let mut event = ErrorEvent::default();
        let mut pieces = stream.as_bytes().chunks(size);
        pieces.try_for_each(|piece| event.write_all(piece)).unwrap();
        event.found.map(|(status, failure)| (status, failure.message))
    }

    #[test]
    fn an_error_is_found_in_every_form() {
        let first = "data: {\"candidates\": []}\n\n";
        let error = "{\"error\": {\"code\": 503, \"message\": \"full\"}}";
        let pretty = "{\n  \"error\": {\n    \"code\": 503,\n    \"message\": \"full\"\n  }\n}\n";
        let lines = format!("data: {}", pretty.trim_end().replace('\n', "\n: comment\ndata: "));
        for stream in [
            error.to_owned(),
            pretty.to_owned(),
            format!("[{error}]"),
            format!("data: [{error}]\n\n"),
            format!("data:{error}"),
            format!("event: error\n{lines}\n\n"),
            lines.replace('\n', "\r\n"),
            format!("data: {error}\r\r").replace('\n', "\r"),
        ] {
            for stream in [
                stream.clone(),
                format!("{first}{stream}"),
                format!("{stream}\n\n{first}"),
            ] {
                for size in [1, 7, stream.len()] {
                    assert_eq!(
                        found(&stream, size),
                        Some((503, "full".to_owned())),
                        "{stream:?} by {size}"
                    );
                }
            }
        }
        for other in [
            "data: {\"text\": {\"error\": {}}}\n\n",
            "{\"error\"\n\n",
            "data: [{\"a\": 1}]\n\n",
        ] {
            assert_eq!(found(other, 3), None, "{other:?}");
        }
    }

    #[test]
    fn a_stream_is_watched_in_each_coding_that_is_read() {
        let watched = |kind, coding: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind);
            headers.extend(coding.map(|coding| (CONTENT_ENCODING, coding.parse().unwrap())));
            let secrets = Secrets::of(&HeaderMap::new(), &hyper::Uri::default(), None, None);
            StreamWatch::new(&headers, "m", secrets, &Arc::default()).is_some()
        };
        let events = HeaderValue::from_static("Text/Event-Stream; charset=utf-8");
        for coding in [
            None,
            Some("GZIP"),
            Some("x-gzip"),
            Some("deflate"),
            Some("identity"),
            Some(""),
        ] {
            assert!(watched(events.clone(), coding), "{coding:?}");
        }
        assert!(!watched(events, Some("br")));
        assert!(!watched(HeaderValue::from_static("application/json"), None));
    }

    #[test]
    fn an_error_in_a_later_member_is_found() {
        let member = |text: &str| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        };
        let mut decoder = MultiGzDecoder::new(ErrorEvent::default());
        for text in ["data: {}\n\n", "data: {\"error\": {\"code\": 503}}\n\n"] {
            decoded(&mut decoder, &member(text)).unwrap();
        }
        assert_eq!(decoder.get_ref().found.as_ref().map(|(status, _)| *status), Some(503));
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
