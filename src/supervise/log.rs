//! The server's log: lines with time stamps in files that are rotated by size and bounded in total.
//!
//! The log never stops the service: a thread of its own writes it, a full disk or a slow one costs lines (which are
//! counted), and a log file that somebody deleted is there again with the next line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use jiff::Timestamp;

use crate::rotation::Rotation;

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// A file is rotated before it grows beyond so many bytes.
    pub file_size: u64,
    /// So many files are kept: the current one, `.1`, `.2` and so on.
    pub files: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            file_size: 5 << 20,
            files: 3,
        }
    }
}

/// Lines that wait for a slow disk; more are lost.
const QUEUE: usize = 4096;
/// Lines are written together up to so many bytes.
const BATCH: usize = 64 << 10;

enum Entry {
    Line(Timestamp, Arc<str>, String),
    Flush(SyncSender<()>),
}

/// A handle to the log; clones write to the same one.
#[derive(Clone, Debug)]
pub struct Log {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Starts the thread that writes `path` (and `path.1`, …). Nothing is opened before the first line.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(path: impl Into<PathBuf>, limits: LogLimits) -> io::Result<Self> {
        let (queue, entries) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            path: path.into(),
            rotation: Rotation {
                file_size: limits.file_size,
                files: limits.files,
                is_private: false,
            },
            lost: Arc::clone(&lost),
            torn: false,
        };
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(&entries))?;
        Ok(Self { queue, lost })
    }

    /// Adds a line that `source` says. Never waits.
    pub fn line(&self, source: &Arc<str>, text: impl Into<String>) {
        let entry = Entry::Line(Timestamp::now(), Arc::clone(source), text.into());
        if self.queue.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A writer whose lines `source` says, for a subscriber of events.
    #[must_use]
    pub fn writer(&self, source: &Arc<str>) -> LineWriter {
        LineWriter {
            log: self.clone(),
            source: Arc::clone(source),
            partial: Vec::new(),
        }
    }

    /// Waits until what was said so far is written, or a second at most.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(Duration::from_secs(1));
        }
    }
}

/// Cuts what is written to it into lines of the log.
#[derive(Debug)]
pub struct LineWriter {
    log: Log,
    source: Arc<str>,
    partial: Vec<u8>,
}

impl LineWriter {
    fn emit(&mut self, until: usize) {
        let line: Vec<u8> = self.partial.drain(..until).collect();
        let text = String::from_utf8_lossy(&line);
        self.log.line(&self.source, text.trim_end_matches(['\n', '\r']));
    }
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            self.emit(end + 1);
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
            self.emit(self.partial.len());
        }
    }
}

struct Writer {
    path: PathBuf,
    rotation: Rotation,
    lost: Arc<AtomicU64>,
    /// The last write failed and may have left half a line.
    torn: bool,
}

impl Writer {
    fn run(mut self, entries: &Receiver<Entry>) {
        let mut next = entries.recv().ok();
        while let Some(entry) = next.take() {
            let mut batch = String::new();
            let mut lines = 0;
            let mut flushed = None;
            let mut current = Ok(entry);
            loop {
                match current {
                    Ok(Entry::Line(time, source, text)) => {
                        lines += 1;
                        batch.push_str(&format!("{time:.3} [{source}] {text}\n"));
                    }
                    Ok(Entry::Flush(done)) => flushed = Some(done),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
                if batch.len() >= BATCH || flushed.is_some() {
                    break;
                }
                current = entries.recv_timeout(Duration::ZERO);
            }
            self.write(&batch, lines);
            if let Some(done) = flushed {
                let _ = done.try_send(());
            }
            next = entries.recv().ok();
        }
    }

    fn write(&mut self, batch: &str, lines: u64) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let mut text = String::with_capacity(batch.len() + 64);
        if self.torn {
            text.push('\n');
        }
        if lost > 0 {
            text.push_str(&format!("{:.3} [log] {lost} lines lost\n", Timestamp::now()));
        }
        text.push_str(batch);
        if text.is_empty() {
            return;
        }
        // Opened anew for each batch: a deleted, replaced or rotated file needs no detection.
        let written = self
            .rotation
            .open(&self.path, text.len())
            .and_then(|mut file| file.write_all(text.as_bytes()));
        self.torn = written.is_err();
        if written.is_err() {
            self.lost.fetch_add(lost + lines, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn source() -> Arc<str> {
        Arc::from("test")
    }

    #[test]
    fn lines_carry_time_and_source() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/x.log");
        let log = Log::start(&path, LogLimits::default()).unwrap();
        log.line(&source(), "hello");
        log.flush();
        let text = fs::read_to_string(&path).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.parse::<Timestamp>().is_ok(), "{text}");
        assert_eq!(rest, "[test] hello\n");
    }

    #[test]
    fn the_log_is_rotated_by_size_and_bounded_in_total() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let limits = LogLimits {
            file_size: 1000,
            files: 3,
        };
        let log = Log::start(&path, limits).unwrap();
        for number in 0..200 {
            log.line(&source(), format!("line {number}"));
            log.flush();
        }
        let sizes: Vec<u64> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 3, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
        assert!(fs::read_to_string(&path).unwrap().ends_with("line 199\n"));
    }

    #[test]
    fn a_deleted_log_is_there_again_with_the_next_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tmp/x.log");
        let log = Log::start(&path, LogLimits::default()).unwrap();
        log.line(&source(), "first");
        log.flush();
        fs::remove_dir_all(folder.path().join("tmp")).unwrap();
        log.line(&source(), "second");
        log.flush();
        assert!(fs::read_to_string(&path).unwrap().ends_with("second\n"));
    }

    #[test]
    fn lines_that_a_disk_does_not_take_are_counted_and_the_next_ones_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        // A folder in its place takes no line, like a full disk.
        fs::create_dir(&path).unwrap();
        let log = Log::start(&path, LogLimits::default()).unwrap();
        for _ in 0..3 {
            log.line(&source(), "lost");
            log.flush();
        }
        fs::remove_dir(&path).unwrap();
        log.line(&source(), "kept");
        log.flush();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("[log] 3 lines lost\n"), "{text}");
        assert!(text.ends_with("[test] kept\n"), "{text}");
    }

    #[test]
    fn a_writer_cuts_what_it_is_given_into_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let log = Log::start(&path, LogLimits::default()).unwrap();
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
