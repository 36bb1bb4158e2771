//! The gateway's counters. `prometheus.rs` writes them as text.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::model_failures::ModelFailures;
use crate::router::AnsweredBy;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    /// A prompt for the local model.
    Local,
    /// A classification request.
    Classifier,
    /// A request for the upstream.
    Upstream,
    /// Health, metrics, status.
    Admin,
    /// A request for an unknown path, or one that is not allowed.
    Refused,
}

pub(super) const FACES: [(Face, &str); 5] = [
    (Face::Local, "local"),
    (Face::Classifier, "classifier"),
    (Face::Upstream, "upstream"),
    (Face::Admin, "admin"),
    (Face::Refused, "refused"),
];

/// The outcomes of a request. `cancelled`: the client left before the reply began. `cut`: the reply did not reach its
/// end.
pub(super) const OUTCOMES: [&str; 5] = ["ok", "client_error", "server_error", "cancelled", "cut"];
const OK: usize = 0;
const CANCELLED: usize = 3;
const CUT: usize = 4;

/// The upper bounds of the latency buckets, in microseconds. Clients wait at most 10 s for a classification.
pub(super) const BUCKETS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    8_000_000, 30_000_000,
];

/// The gateway's counters.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    faces: [FaceMetrics; FACES.len()],
    pub(super) answered_by: [AtomicU64; AnsweredBy::ALL.len()],
    /// The number of classification requests that got an error.
    pub(super) unanswered: AtomicU64,
    /// The number of answers without a clear choice.
    pub(super) unusable_answers: AtomicU64,
    /// The number of requests sent to the engine again because it broke off.
    pub(super) engine_retries: AtomicU64,
    pub(super) model: Failures,
    pub(super) upstream: Failures,
    pub(super) models: ModelFailures,
    /// The number of open client connections.
    pub(super) connections: AtomicUsize,
}

#[derive(Debug, Default)]
pub(super) struct FaceMetrics {
    pub(super) outcomes: [AtomicU64; OUTCOMES.len()],
    pub(super) buckets: [AtomicU64; BUCKETS.len()],
    pub(super) count: AtomicU64,
    pub(super) microseconds: AtomicU64,
}

/// The consecutive failures of a server. The first one is logged as a warning, the others are only counted.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) total: AtomicU64,
    in_a_row: AtomicU64,
}

impl Failures {
    /// Records that `server` answered a request.
    pub(super) fn ended(&self, server: &str) {
        if self.in_a_row.load(Ordering::Relaxed) > 0 {
            let failures = self.in_a_row.swap(0, Ordering::Relaxed);
            tracing::info!("{server} answers again; failures in a row: {failures}");
        }
    }

    /// Counts a failure that the log tells elsewhere.
    pub(super) fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that `server` failed.
    pub(super) fn failed(&self, server: &str, failure: &impl fmt::Display) {
        self.count();
        if self.in_a_row.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("{server} fails: {failure}; `/metrics` counts further failures until it answers again");
        } else {
            tracing::debug!("{server} fails: {failure}");
        }
    }
}

impl Metrics {
    /// Starts to measure a request; the request is counted when the measure is dropped.
    pub(super) fn begin(self: &Arc<Self>, face: Face) -> Measure {
        Measure {
            metrics: Arc::clone(self),
            face,
            since: Instant::now(),
            outcome: CANCELLED,
        }
    }

    /// Counts a request that is sent to the engine again.
    pub(super) fn count_retry(&self) {
        self.engine_retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a classification.
    pub(super) fn classified(&self, by: AnsweredBy) {
        if let Some(count) = self.classifications(by) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of classification requests that `by` answered.
    pub(super) fn classifications(&self, by: AnsweredBy) -> Option<&AtomicU64> {
        let at = AnsweredBy::ALL.iter().position(|known| *known == by)?;
        self.answered_by.get(at)
    }

    pub(super) fn face(&self, face: Face) -> &FaceMetrics {
        &self.faces[face as usize]
    }

    pub(super) fn observe(&self, face: Face, took: Duration) {
        let metrics = self.face(face);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        metrics.count.fetch_add(1, Ordering::Relaxed);
        metrics.microseconds.fetch_add(took, Ordering::Relaxed);
        if let Some(bucket) = BUCKETS.iter().position(|bound| took <= *bound) {
            metrics.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A request while it is measured.
#[derive(Debug)]
pub(super) struct Measure {
    metrics: Arc<Metrics>,
    face: Face,
    since: Instant,
    outcome: usize,
}

impl Measure {
    /// Sets the kind of the request, as soon as it is known.
    pub(super) fn set_face(&mut self, face: Face) {
        self.face = face;
    }

    /// Records the status in the reply's head.
    pub(super) fn head(&mut self, status: StatusCode) {
        self.outcome = match status.as_u16() {
            ..400 => OK,
            400..500 => 1,
            _ => 2,
        };
        self.metrics.observe(self.face, self.since.elapsed());
    }

    /// Records that the reply broke off; an error status stays as it is.
    pub(super) fn cut(&mut self) {
        if self.outcome == OK {
            self.outcome = CUT;
        }
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        if self.outcome == CANCELLED {
            self.metrics.observe(self.face, self.since.elapsed());
        }
        self.metrics.face(self.face).outcomes[self.outcome].fetch_add(1, Ordering::Relaxed);
    }
}
