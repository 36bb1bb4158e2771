//! Parses server-sent events from a stream of bytes.

use bytes::{Buf, Bytes, BytesMut};

/// Yields the data of the events in order, each as soon as it is complete.
#[derive(Debug, Default)]
pub(super) struct Events {
    buffer: BytesMut,
    /// The number of bytes that are known to contain no end of an event.
    seen: usize,
}

impl Events {
    /// Adds the next piece of the stream.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The data of the next complete event. Skips events without data.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        loop {
            let (length, gap) = self.end_of_event()?;
            let event = self.buffer.split_to(length).freeze();
            self.buffer.advance(gap);
            self.seen = 0;
            if let Some(data) = data(&event) {
                return Some(data);
            }
        }
    }

    /// The data of an event that the stream ended before its blank line.
    pub(super) fn last(&mut self) -> Option<Bytes> {
        data(&std::mem::take(&mut self.buffer).freeze())
    }

    /// The number of bytes that belong to an incomplete event.
    pub(super) fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// The end of the first event and the length of the blank line after it.
    fn end_of_event(&mut self) -> Option<(usize, usize)> {
        let from = self.seen.saturating_sub(3);
        for at in from..self.buffer.len() {
            let rest = &self.buffer[at..];
            for gap in [&b"\n\n"[..], b"\r\n\r\n", b"\n\r\n"] {
                if rest.starts_with(gap) {
                    return Some((at, gap.len()));
                }
            }
        }
        self.seen = self.buffer.len();
        None
    }
}

/// The data lines of one event, joined.
fn data(event: &Bytes) -> Option<Bytes> {
    let mut lines = event
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"data:"))
        .map(|line| line.strip_prefix(b" ").unwrap_or(line));
    let first = lines.next()?;
    let mut more = lines.peekable();
    if more.peek().is_none() {
        return Some(event.slice_ref(first));
    }
    let mut joined = first.to_vec();
    for line in more {
        joined.push(b'\n');
        joined.extend_from_slice(line);
    }
    Some(joined.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&str]) -> (Vec<String>, Option<String>) {
        let mut events = Events::default();
        let mut data = Vec::new();
        for piece in pieces {
            events.push(piece.as_bytes());
            while let Some(event) = events.next() {
                data.push(String::from_utf8(event.to_vec()).unwrap());
            }
        }
        let last = events.last().map(|event| String::from_utf8(event.to_vec()).unwrap());
        (data, last)
    }

    #[test]
    fn events_end_at_a_blank_line_however_they_arrive() {
        let stream = "data: {\"a\":1}\n\ndata:{\"b\":2}\r\n\r\n: comment\n\nevent: x\ndata: 1\ndata: 2\n\ndata: cut";
        let expected = vec!["{\"a\":1}".to_owned(), "{\"b\":2}".to_owned(), "1\n2".to_owned()];
        assert_eq!(all(&[stream]), (expected.clone(), Some("cut".to_owned())));
        let bytes: Vec<String> = stream.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(all(&bytes), (expected, Some("cut".to_owned())));
    }

    #[test]
    fn a_stream_end_without_data_is_no_event() {
        assert_eq!(all(&["data: 1\n\n"]), (vec!["1".to_owned()], None));
    }
}
