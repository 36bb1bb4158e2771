//! The server's log: lines with time stamps, in files that are rotated by size and bounded in total.
//!
//! The log never stops the service: a separate thread writes it, and a full or slow disk only loses lines, which are
//! counted.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::appender::{Appender, Line};
use crate::rotation::{Rotation, cut_line};
use crate::text::printable_line;

/// The amount of log text to keep.
const LIMITS: Rotation = Rotation {
    file_size: 5 << 20,
    files: 3,
};

/// A line before it is written.
#[derive(Debug)]
struct LogLine {
    time: Timestamp,
    source: Arc<str>,
    text: String,
}

impl Line for LogLine {
    fn write_to(&self, batch: &mut Vec<u8>) {
        let Self { time, source, text } = self;
        // Writing to memory cannot fail.
        let _ = writeln!(batch, "{time:.3} [{source}] {text}");
    }

    fn losses(lost: u64) -> Option<Self> {
        Some(Self {
            time: Timestamp::now(),
            source: Arc::from("log"),
            text: format!("{lost} lines lost"),
        })
    }
}

/// A handle to the log; clones write to the same one.
#[derive(Clone, Debug)]
pub struct Log(Appender<LogLine>);

impl Log {
    /// Starts the thread that writes `path` (and `path.1`, …). No file is opened before the first line.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(path: impl Into<PathBuf>) -> io::Result<Self> {
        Appender::start("log", path.into(), LIMITS).map(Self)
    }

    /// Adds a line from `source` with its control characters escaped. Never waits.
    pub fn line(&self, source: &Arc<str>, text: impl AsRef<str>) {
        let mut text = printable_line(text.as_ref());
        cut_line(&mut text);
        self.0.add(LogLine {
            time: Timestamp::now(),
            source: Arc::clone(source),
            text,
        });
    }

    /// A writer for an event subscriber; its lines come from `source`.
    #[must_use]
    pub fn writer(&self, source: &Arc<str>) -> LineWriter {
        LineWriter {
            log: self.clone(),
            source: Arc::clone(source),
            partial: Vec::new(),
        }
    }

    /// Waits until all lines added so far are written, for a second at most.
    pub fn flush(&self) {
        self.0.flush();
    }
}

/// A writer that splits its input into log lines.
#[derive(Debug)]
pub struct LineWriter {
    log: Log,
    source: Arc<str>,
    partial: Vec<u8>,
}

impl LineWriter {
    fn emit(&mut self) {
        let line = std::mem::take(&mut self.partial);
        let text = String::from_utf8_lossy(&line);
        self.log.line(&self.source, text.trim_end_matches(['\n', '\r']));
    }
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.emit();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.emit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::rotation::LONGEST_LINE;

    fn source() -> Arc<str> {
        Arc::from("test")
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let log = Log::start(&path).unwrap();
        log.line(&source(), "é".repeat(LONGEST_LINE));
        log.flush();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.len() < LONGEST_LINE + 100, "{} bytes", text.len());
        assert!(text.ends_with("more bytes)\n"));
    }

    #[test]
    fn lines_carry_time_and_source() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/x.log");
        let log = Log::start(&path).unwrap();
        log.line(&source(), "hello");
        log.flush();
        let text = fs::read_to_string(&path).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.parse::<Timestamp>().is_ok(), "{text}");
        assert_eq!(rest, "[test] hello\n");
    }

    #[test]
    fn a_writer_cuts_what_it_is_given_into_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let log = Log::start(&path).unwrap();
        let mut writer = log.writer(&source());
        writer.write_all(b"one\ntw").unwrap();
        writer.write_all(b"o\nthree").unwrap();
        drop(writer);
        log.flush();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.rsplit_once("] ").unwrap().1).collect();
        assert_eq!(lines, ["one", "two", "three"]);
    }
}
