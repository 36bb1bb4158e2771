//! The log of decisions: one JSON line each in `decisions.jsonl` (docs/contract.md section 4).
//!
//! Written by a thread of its own behind a bounded channel: a slow, full or broken disk costs lines, never a request's time.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::{AnsweredBy, Source, Tier};
use crate::rotation::{Rotation, cut_line};

/// At this size in bytes the file becomes `decisions.jsonl.1`, replacing the one before.
const LARGEST_FILE: u64 = 10 * 1024 * 1024;
/// Decisions that wait to be written.
const BACKLOG: usize = 4096;
/// How long the writer lets decisions gather, so that a busy gateway does not wake it for each one.
const GATHER: Duration = Duration::from_millis(10);
/// How long closing waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// One decision as it is written.
#[derive(Clone, Debug, Serialize)]
pub struct DecisionRecord {
    /// When it was made.
    pub time: Timestamp,
    /// Which strategy decided.
    pub source: Source,
    /// The model that was asked in the end, or the tier's alias where the client resolves it.
    pub model: String,
    /// The tier if one was chosen.
    pub tier: Option<Tier>,
    /// How long deciding took, in milliseconds.
    pub latency_ms: u64,
    /// Who classified, if anybody did.
    pub answered_by: Option<AnsweredBy>,
    /// Why, in words.
    pub reasoning: Cow<'static, str>,
    /// The probability that the built-in classifier gives for the powerful model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Why the local model did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_failure: Option<String>,
    /// The model asked first, if another one was asked after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_first: Option<String>,
    /// How that one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_cause: Option<String>,
    /// The request's text, only where the user asked for it to be logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl DecisionRecord {
    /// A decision of `source` for `model`, made now.
    #[must_use]
    pub fn new(source: Source, model: impl Into<String>) -> Self {
        Self {
            time: Timestamp::now(),
            source,
            model: model.into(),
            tier: None,
            latency_ms: 0,
            answered_by: None,
            reasoning: Cow::Borrowed(""),
            probability: None,
            model_failure: None,
            asked_first: None,
            fallback_cause: None,
            request: None,
        }
    }
}

/// Takes decisions and never waits; clones write to the same file.
#[derive(Clone, Debug)]
pub struct DecisionLog {
    queue: SyncSender<DecisionRecord>,
    lost: Arc<AtomicU64>,
}

/// The thread that writes; close it after the last [`DecisionLog`] clone is gone.
#[derive(Debug)]
pub struct DecisionWriter(JoinHandle<()>);

impl DecisionLog {
    /// Starts writing to `path`, whose directory is created when the first decision is written.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(path: PathBuf) -> io::Result<(Self, DecisionWriter)> {
        Self::start_bounded(path, LARGEST_FILE)
    }

    fn start_bounded(path: PathBuf, largest: u64) -> io::Result<(Self, DecisionWriter)> {
        let (queue, decisions) = mpsc::sync_channel(BACKLOG);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = thread::Builder::new().name("decisions".to_owned()).spawn({
            let lost = Arc::clone(&lost);
            move || write_all(&path, largest, &decisions, &lost)
        })?;
        Ok((Self { queue, lost }, DecisionWriter(writer)))
    }

    /// Hands a decision to the writer, or counts it as lost when the writer does not keep up. A long request is cut.
    pub fn record(&self, mut decision: DecisionRecord) {
        for text in [&mut decision.request, &mut decision.model_failure]
            .into_iter()
            .flatten()
        {
            cut_line(text);
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(decision) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many decisions could not be written so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl DecisionWriter {
    /// Waits, at most a second, until what was recorded is written. Blocks the thread.
    pub fn close(self) {
        let patience = Instant::now() + LAST_LINES;
        while !self.0.is_finished() && Instant::now() < patience {
            thread::sleep(GATHER);
        }
    }
}

fn write_all(path: &Path, largest: u64, decisions: &Receiver<DecisionRecord>, lost: &AtomicU64) {
    let mut lines = Vec::new();
    while let Ok(first) = decisions.recv() {
        thread::sleep(GATHER);
        let mut count = 0;
        for decision in std::iter::once(first).chain(decisions.try_iter().take(BACKLOG)) {
            if serde_json::to_writer(&mut lines, &decision).is_ok() {
                lines.push(b'\n');
            }
            count += 1;
        }
        if let Err(error) = append(path, largest, &lines)
            && lost.fetch_add(count, Ordering::Relaxed) == 0
        {
            tracing::warn!("cannot write `{}`: {error}", path.display());
        }
        lines.clear();
        lines.shrink_to(64 * 1024);
    }
}

/// The file is opened anew each time, so that one that was deleted or moved away comes back.
fn append(path: &Path, largest: u64, lines: &[u8]) -> io::Result<()> {
    let rotation = Rotation {
        file_size: largest,
        files: 2,
        // It may hold what people asked.
        is_private: true,
    };
    rotation.open(path, lines.len())?.write_all(lines)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn decision(reasoning: &str) -> DecisionRecord {
        DecisionRecord {
            time: Timestamp::UNIX_EPOCH,
            tier: Some(Tier::Pro),
            latency_ms: 3,
            answered_by: Some(AnsweredBy::Builtin),
            reasoning: reasoning.to_owned().into(),
            probability: Some(0.75),
            ..DecisionRecord::new(Source::BuiltinClassifier, "pro")
        }
    }

    fn finish(log: DecisionLog, writer: DecisionWriter) {
        drop(log);
        writer.close();
    }

    #[test]
    fn a_decision_is_one_line_with_the_contract_s_fields() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new").join("decisions.jsonl");
        let (log, writer) = DecisionLog::start(path.clone()).unwrap();
        log.record(decision("two\nlines"));
        finish(log, writer);
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            line,
            serde_json::json!({
                "time": "1970-01-01T00:00:00Z", "source": "builtin-classifier", "model": "pro", "tier": "pro",
                "latency_ms": 3, "answered_by": "builtin", "reasoning": "two\nlines", "probability": 0.75,
            })
        );
    }

    #[test]
    fn the_file_is_rotated_and_bounded() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("decisions.jsonl");
        for _ in 0..40 {
            append(&path, 1_000, &[b'x'; 100]).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 1_000);
        assert_eq!(
            fs::metadata(home.path().join("decisions.jsonl.1")).unwrap().len(),
            1_000
        );
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        let (log, writer) = DecisionLog::start(file.join("decisions.jsonl")).unwrap();
        log.record(decision("a"));
        log.record(decision("b"));
        let lost = Arc::clone(&log.lost);
        finish(log, writer);
        assert_eq!(lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_deleted_file_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("decisions.jsonl");
        append(&path, 1_000, b"a\n").unwrap();
        fs::remove_file(&path).unwrap();
        append(&path, 1_000, b"b\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"b\n");
    }
}
