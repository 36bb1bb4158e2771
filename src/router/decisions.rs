//! The decision log: one JSON line per decision in `decisions.jsonl` (docs/contract.md section 4).
//!
//! A separate thread writes it and is fed through a bounded channel. A slow, full or broken disk loses lines, but never
//! delays a request.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{AnsweredBy, Source, Tier};
use crate::appender::{Appender, Line};
use crate::rotation::{LONGEST_LINE, Rotation, cut_line};
use crate::text::write_json;

/// The size in bytes at which the file is renamed to `decisions.jsonl.1`, replacing the previous one.
const LARGEST_FILE: u64 = 10 * 1024 * 1024;
/// How long the writer gathers decisions, so that a busy gateway does not wake it for each one.
const GATHER: Duration = Duration::from_millis(10);

/// A line of the decision log.
#[derive(Clone, Debug, Serialize)]
pub struct DecisionRecord {
    /// The time of the decision.
    pub time: Timestamp,
    /// The strategy that decided.
    pub source: Source,
    /// The last model asked, or the tier's alias if the client resolves it.
    pub model: String,
    /// The tier, if one was chosen.
    pub tier: Option<Tier>,
    /// The duration of the decision, in milliseconds.
    pub latency_ms: u64,
    /// The classifier, if one was asked.
    pub answered_by: Option<AnsweredBy>,
    /// The reason, in words.
    pub reasoning: Cow<'static, str>,
    /// The probability that the built-in classifier gives for the powerful model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Why the local model did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_failure: Option<String>,
    /// The model that was asked first, if another one was asked afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_first: Option<String>,
    /// The failure of that first model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_cause: Option<String>,
    /// The status of the reply, if it is a failure; 499 if the client left before the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The request's text, only if the user wants it logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl DecisionRecord {
    /// A decision of `source` for `model`, with the current time.
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
            status: None,
            request: None,
        }
    }
}

impl Line for DecisionRecord {
    const GATHER: Duration = GATHER;

    fn write_to(&self, batch: &mut Vec<u8>) {
        let start = batch.len();
        match write_json(batch, self) {
            Ok(()) => batch.push(b'\n'),
            Err(_) => batch.truncate(start),
        }
    }

    fn failed(path: &Path, error: &io::Error) {
        tracing::warn!("cannot write `{}`: {error}", path.display());
    }
}

/// Records decisions without waiting; clones write to the same file.
#[derive(Clone, Debug)]
pub struct DecisionLog(Appender<DecisionRecord>);

impl DecisionLog {
    /// Starts writing to `path`, whose directory is created when the first decision is written.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(path: PathBuf) -> io::Result<Self> {
        let rotation = Rotation {
            file_size: LARGEST_FILE,
            files: 2,
        };
        Appender::start("decisions", path, rotation).map(Self)
    }

    /// Passes a decision to the writer; counts it as lost if the writer is too slow. Shortens long texts.
    pub fn record(&self, mut decision: DecisionRecord) {
        for text in [&mut decision.request, &mut decision.model_failure]
            .into_iter()
            .flatten()
        {
            cut_line(text);
        }
        if decision.reasoning.len() > LONGEST_LINE {
            cut_line(decision.reasoning.to_mut());
        }
        self.0.add(decision);
    }

    /// The number of decisions that could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost()
    }

    /// Waits until the earlier decisions are written, for a second at most. Blocks the thread.
    pub fn flush(&self) {
        self.0.flush();
    }
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

    #[test]
    fn a_decision_is_one_line_with_the_contract_s_fields() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new").join("decisions.jsonl");
        let log = DecisionLog::start(path.clone()).unwrap();
        log.record(decision("two\nlines"));
        log.flush();
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
    fn a_long_reason_is_cut() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("decisions.jsonl");
        let log = DecisionLog::start(path.clone()).unwrap();
        log.record(decision(&"x".repeat(1 << 20)));
        log.flush();
        assert!(fs::read(path).unwrap().len() < 2 * LONGEST_LINE);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        let log = DecisionLog::start(file.join("decisions.jsonl")).unwrap();
        log.record(decision("a"));
        log.record(decision("b"));
        log.flush();
        assert_eq!(log.lost(), 2);
    }
}
