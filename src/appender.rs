//! Appends lines to a file from a thread of its own, with bounded memory and file size.
//!
//! Adding a line never waits: on a slow or full disk, lines are lost and counted. If the file was deleted, the next
//! line creates it again.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::rotation::Rotation;

/// The number of lines that may wait for a slow disk; further lines are lost.
const QUEUE: usize = 4096;
/// Waiting lines are written together, up to this many bytes.
const BATCH: usize = 64 << 10;
/// How long [`Appender::flush`] waits.
const FLUSH: Duration = Duration::from_secs(1);

/// One line of a file.
pub(crate) trait Line: Send + 'static {
    /// The time to gather further lines before a write, so that a busy program does not wake the thread for each.
    const GATHER: Duration = Duration::ZERO;

    /// Appends the line's text, including its newline.
    fn write_to(&self, batch: &mut Vec<u8>);

    /// A line that reports `lost` lines in the file; `None` if the file does not report them.
    fn losses(_lost: u64) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

    /// Reports the first line that cannot be written.
    fn failed(_path: &std::path::Path, _error: &io::Error) {}
}

enum Entry<L> {
    Line(L),
    Flush(SyncSender<()>),
}

/// A handle to the file; clones append to the same one.
#[derive(Debug)]
pub(crate) struct Appender<L> {
    queue: SyncSender<Entry<L>>,
    lost: Arc<AtomicU64>,
}

impl<L> Clone for Appender<L> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            lost: Arc::clone(&self.lost),
        }
    }
}

impl<L: Line> Appender<L> {
    /// Starts a thread, called `name`, that writes `path`. Opens the file when the first line comes.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(name: &str, path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        let (queue, entries) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            path,
            rotation,
            lost: Arc::clone(&lost),
            reported: 0,
            is_torn: false,
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || writer.run(&entries))?;
        Ok(Self { queue, lost })
    }

    /// Adds a line; counts it as lost if the disk is too slow.
    pub(crate) fn add(&self, line: L) {
        if self.queue.try_send(Entry::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of lost lines.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until all lines added so far are written, or for a second at most. Blocks the thread.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        let deadline = Instant::now() + FLUSH;
        let mut entry = Entry::Flush(done);
        while let Err(TrySendError::Full(unsent)) = self.queue.try_send(entry) {
            if Instant::now() > deadline {
                return;
            }
            thread::sleep(FLUSH / 100);
            entry = unsent;
        }
        // An error means that the time is over or that the thread has ended.
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

struct Writer {
    path: PathBuf,
    rotation: Rotation,
    lost: Arc<AtomicU64>,
    /// The number of lost lines that the file itself reports.
    reported: u64,
    /// Whether the last write failed and may have left half a line.
    is_torn: bool,
}

impl Writer {
    fn run<L: Line>(mut self, entries: &Receiver<Entry<L>>) {
        let mut batch = Vec::new();
        while let Ok(first) = entries.recv() {
            if matches!(first, Entry::Line(_)) {
                thread::sleep(L::GATHER);
            }
            let mut lines = 0;
            let mut flushed = None;
            for entry in std::iter::once(first).chain(entries.try_iter()) {
                match entry {
                    Entry::Line(line) => {
                        lines += 1;
                        line.write_to(&mut batch);
                    }
                    Entry::Flush(done) => flushed = Some(done),
                }
                if batch.len() >= BATCH || flushed.is_some() {
                    break;
                }
            }
            self.write::<L>(&batch, lines);
            if let Some(done) = flushed {
                // The waiting thread may have given up.
                let _ = done.try_send(());
            }
            batch.clear();
            batch.shrink_to(BATCH);
        }
    }

    fn write<L: Line>(&mut self, batch: &[u8], lines: u64) {
        let lost = self.lost.load(Ordering::Relaxed);
        let mut text = Vec::with_capacity(batch.len() + 64);
        if self.is_torn {
            text.push(b'\n');
        }
        if lost > self.reported
            && let Some(line) = L::losses(lost - self.reported)
        {
            line.write_to(&mut text);
        }
        text.extend_from_slice(batch);
        if text.is_empty() {
            return;
        }
        // The file is opened for each batch, so that a deleted, replaced or rotated file needs no special case.
        let opened = self.rotation.open(&self.path, text.len());
        let written = opened.and_then(|mut file| file.write_all(&text));
        self.is_torn = written.is_err();
        match written {
            Ok(()) => self.reported = lost,
            Err(error) => {
                if self.lost.fetch_add(lines, Ordering::Relaxed) == 0 {
                    L::failed(&self.path, &error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Text(String);

    impl Line for Text {
        fn write_to(&self, batch: &mut Vec<u8>) {
            batch.extend_from_slice(self.0.as_bytes());
            batch.push(b'\n');
        }

        fn losses(lost: u64) -> Option<Self> {
            Some(Self(format!("{lost} lost")))
        }
    }

    fn start(path: &std::path::Path) -> Appender<Text> {
        let rotation = Rotation {
            file_size: 1_000,
            files: 3,
        };
        Appender::start("test", path.to_owned(), rotation).unwrap()
    }

    fn add(appender: &Appender<Text>, line: &str) {
        appender.add(Text(line.to_owned()));
        appender.flush();
    }

    #[test]
    fn files_are_rotated_and_bounded_in_total() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let appender = start(&path);
        for number in 0..200 {
            add(&appender, &format!("line {number} {}", "x".repeat(20)));
        }
        let sizes: Vec<u64> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 3, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size <= 1_000), "{sizes:?}");
        assert!(fs::read_to_string(&path).unwrap().contains("line 199 "));
    }

    #[test]
    fn a_deleted_file_and_directory_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/x");
        let appender = start(&path);
        add(&appender, "first");
        fs::remove_dir_all(directory.path().join("deep")).unwrap();
        add(&appender, "second");
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
    }

    #[test]
    fn lost_lines_are_counted_and_reported_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        // Like a full disk, a directory in the file's place accepts no line.
        fs::create_dir(&path).unwrap();
        let appender = start(&path);
        for _ in 0..3 {
            add(&appender, "lost");
        }
        assert_eq!(appender.lost(), 3);
        fs::remove_dir(&path).unwrap();
        add(&appender, "kept");
        add(&appender, "kept");
        assert_eq!(fs::read_to_string(&path).unwrap(), "\n3 lost\nkept\nkept\n");
    }
}
