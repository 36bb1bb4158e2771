//! The gateway's counters, and their Prometheus text.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;

use crate::router::AnsweredBy;
use crate::runtime::{EngineState, EngineStatus};

/// What a request was about.
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
    /// Nothing that is served, or not allowed.
    Refused,
}

const FACES: [(Face, &str); 5] = [
    (Face::Local, "local"),
    (Face::Classifier, "classifier"),
    (Face::Upstream, "upstream"),
    (Face::Admin, "admin"),
    (Face::Refused, "refused"),
];

const OUTCOMES: [&str; 4] = ["ok", "client_error", "server_error", "cancelled"];
const CANCELLED: usize = 3;

const ANSWERED_BY: [AnsweredBy; 3] = [AnsweredBy::Model, AnsweredBy::Builtin, AnsweredBy::Cache];

/// Upper bounds of the latency buckets, in microseconds; the client's limit of a classification is 10 s.
const BUCKETS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    8_000_000, 30_000_000,
];

/// The gateway's counters.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    faces: [FaceMetrics; FACES.len()],
    answered_by: [AtomicU64; ANSWERED_BY.len()],
    /// Classification requests that got an error.
    pub(super) unanswered: AtomicU64,
    /// Answers that named no clear choice.
    pub(super) unusable_answers: AtomicU64,
    /// Requests sent to the engine a second time because it broke off.
    engine_retries: AtomicU64,
    pub(super) model: Failures,
    pub(super) upstream: Failures,
    /// Client connections that are open.
    pub(super) connections: AtomicUsize,
}

#[derive(Debug, Default)]
struct FaceMetrics {
    outcomes: [AtomicU64; OUTCOMES.len()],
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    microseconds: AtomicU64,
}

/// Failures of one server. The first in a row is a warning, the others are counted.
#[derive(Debug, Default)]
pub(super) struct Failures {
    total: AtomicU64,
    in_a_row: AtomicU64,
}

impl Failures {
    /// Notes how `server` did.
    pub(super) fn note(&self, server: &str, failure: Option<&impl fmt::Display>) {
        let Some(failure) = failure else {
            if self.in_a_row.load(Ordering::Relaxed) > 0 {
                let failures = self.in_a_row.swap(0, Ordering::Relaxed);
                tracing::info!("{server} answers again; failures in a row: {failures}");
            }
            return;
        };
        self.total.fetch_add(1, Ordering::Relaxed);
        if self.in_a_row.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("{server} fails: {failure}; `/metrics` counts further failures until it answers again");
        } else {
            tracing::debug!("{server} fails: {failure}");
        }
    }
}

/// Values that the metrics show in addition to the counters.
pub(super) struct MetricsSnapshot {
    pub(super) engine: Option<EngineStatus>,
    pub(super) waiting: usize,
    pub(super) lost_decisions: u64,
}

impl Metrics {
    /// Begins to measure a request; one that is dropped without an end counts as cancelled.
    pub(super) fn begin(&self, face: Face) -> Measure<'_> {
        Measure {
            metrics: Some(self),
            face,
            since: Instant::now(),
        }
    }

    /// Counts a request that is sent to the engine again.
    pub(super) fn count_retry(&self) {
        self.engine_retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a classification.
    pub(super) fn classified(&self, by: AnsweredBy) {
        let at = ANSWERED_BY.iter().position(|known| *known == by);
        if let Some(count) = at.and_then(|at| self.answered_by.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn face(&self, face: Face) -> &FaceMetrics {
        &self.faces[face as usize]
    }

    fn observe(&self, face: Face, outcome: usize, took: Duration) {
        let metrics = self.face(face);
        metrics.outcomes[outcome].fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        metrics.count.fetch_add(1, Ordering::Relaxed);
        metrics.microseconds.fetch_add(took, Ordering::Relaxed);
        if let Some(bucket) = BUCKETS.iter().position(|bound| took <= *bound) {
            metrics.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Everything in Prometheus' text format 0.0.4.
    pub(super) fn render(&self, snapshot: &MetricsSnapshot) -> String {
        let mut text = Text(String::with_capacity(8 * 1024));
        self.render_requests(&mut text);
        self.render_classifications(&mut text);
        text.gauge("connections", "Open client connections.", load_usize(&self.connections));
        text.counter(
            "decisions_lost_total",
            "Decisions that could not be written.",
            snapshot.lost_decisions,
        );
        text.gauge(
            "engine_queue",
            "Requests that wait for the engine.",
            snapshot.waiting as u64,
        );
        text.counter(
            "engine_retries_total",
            "Requests sent to the engine again after it broke off.",
            load(&self.engine_retries),
        );
        text.counter(
            "model_failures_total",
            "Classification requests that the model did not answer.",
            load(&self.model.total),
        );
        text.counter(
            "upstream_failures_total",
            "Requests that the upstream did not answer to the end, or answered with a server error.",
            load(&self.upstream.total),
        );
        if let Some(engine) = &snapshot.engine {
            text.head("engine_state", "gauge", "1 for the state the engine is in.");
            for state in EngineState::ALL {
                text.sample(
                    "engine_state",
                    &format!("state=\"{state}\""),
                    u64::from(engine.state == state),
                );
            }
            text.counter("engine_restarts_total", "Engines that were replaced.", engine.restarts);
        }
        text.0
    }

    fn render_requests(&self, text: &mut Text) {
        text.head("requests_total", "counter", "Requests by face and outcome.");
        for (face, name) in FACES {
            for (outcome, count) in OUTCOMES.iter().zip(&self.face(face).outcomes) {
                text.sample(
                    "requests_total",
                    &format!("face=\"{name}\",outcome=\"{outcome}\""),
                    load(count),
                );
            }
        }
        let help = "Time until the head of the reply, by face.";
        text.head("request_duration_seconds", "histogram", help);
        for (face, name) in FACES {
            let metrics = self.face(face);
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(&metrics.buckets) {
                below += load(count);
                let labels = format!("face=\"{name}\",le=\"{}\"", seconds(*bound));
                text.sample("request_duration_seconds_bucket", &labels, below);
            }
            let count = load(&metrics.count).max(below);
            let labels = format!("face=\"{name}\"");
            text.sample(
                "request_duration_seconds_bucket",
                &format!("{labels},le=\"+Inf\""),
                count,
            );
            text.sample(
                "request_duration_seconds_sum",
                &labels,
                seconds(load(&metrics.microseconds)),
            );
            text.sample("request_duration_seconds_count", &labels, count);
        }
    }

    fn render_classifications(&self, text: &mut Text) {
        text.head(
            "classifications_total",
            "counter",
            "Classification requests by who answered.",
        );
        for (by, count) in ANSWERED_BY.iter().zip(&self.answered_by) {
            text.sample(
                "classifications_total",
                &format!("answered_by=\"{}\"", by.as_str()),
                load(count),
            );
        }
        text.counter(
            "classification_failures_total",
            "Classification requests that got an error.",
            load(&self.unanswered),
        );
        text.counter(
            "unusable_answers_total",
            "Answers of the model that name no clear choice.",
            load(&self.unusable_answers),
        );
        let hits = self.answered_by.get(2).map_or(0, load);
        text.counter(
            "cache_hits_total",
            "Classification requests answered from the cache.",
            hits,
        );
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn load_usize(count: &AtomicUsize) -> u64 {
    count.load(Ordering::Relaxed) as u64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sums of latencies stay far below 2^52 microseconds"
)]
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

/// One request being measured.
#[derive(Debug)]
pub(super) struct Measure<'a> {
    metrics: Option<&'a Metrics>,
    face: Face,
    since: Instant,
}

impl Measure<'_> {
    /// What the request turned out to be about.
    pub(super) fn set_face(&mut self, face: Face) {
        self.face = face;
    }

    /// The reply's head is known.
    pub(super) fn end(mut self, status: StatusCode) {
        if let Some(metrics) = self.metrics.take() {
            let outcome = match status.as_u16() {
                ..400 => 0,
                400..500 => 1,
                _ => 2,
            };
            metrics.observe(self.face, outcome, self.since.elapsed());
        }
    }
}

impl Drop for Measure<'_> {
    fn drop(&mut self) {
        if let Some(metrics) = self.metrics {
            metrics.observe(self.face, CANCELLED, self.since.elapsed());
        }
    }
}

/// Text in Prometheus' format; every name begins with `gem_setup_`. Writing to a `String` does not fail.
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP gem_setup_{name} {help}\n# TYPE gem_setup_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "gem_setup_{name} {value}"),
            labels => writeln!(self.0, "gem_setup_{name}{{{labels}}} {value}"),
        };
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.sample(name, "", value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.sample(name, "", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(metrics: &Metrics) -> String {
        metrics.render(&MetricsSnapshot {
            engine: Some(EngineStatus::starting()),
            waiting: 3,
            lost_decisions: 0,
        })
    }

    #[test]
    fn requests_are_counted_by_face_and_outcome() {
        let metrics = Metrics::default();
        metrics.begin(Face::Local).end(StatusCode::OK);
        metrics.begin(Face::Local).end(StatusCode::BAD_REQUEST);
        metrics.begin(Face::Upstream).end(StatusCode::BAD_GATEWAY);
        drop(metrics.begin(Face::Classifier));
        metrics.classified(AnsweredBy::Cache);
        let text = render(&metrics);
        for line in [
            "gem_setup_requests_total{face=\"local\",outcome=\"ok\"} 1",
            "gem_setup_requests_total{face=\"local\",outcome=\"client_error\"} 1",
            "gem_setup_requests_total{face=\"upstream\",outcome=\"server_error\"} 1",
            "gem_setup_requests_total{face=\"classifier\",outcome=\"cancelled\"} 1",
            "gem_setup_request_duration_seconds_count{face=\"local\"} 2",
            "gem_setup_request_duration_seconds_bucket{face=\"local\",le=\"+Inf\"} 2",
            "gem_setup_classifications_total{answered_by=\"cache\"} 1",
            "gem_setup_cache_hits_total 1",
            "gem_setup_engine_state{state=\"starting\"} 1",
            "gem_setup_engine_state{state=\"ready\"} 0",
            "gem_setup_engine_restarts_total 0",
            "gem_setup_engine_queue 3",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }

    #[test]
    fn buckets_add_up() {
        let metrics = Metrics::default();
        for milliseconds in [0, 3, 300, 60_000] {
            metrics.observe(Face::Admin, 0, Duration::from_millis(milliseconds));
        }
        let text = render(&metrics);
        let bucket = |bound: &str| {
            let start = format!("gem_setup_request_duration_seconds_bucket{{face=\"admin\",le=\"{bound}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
            line.parse::<u64>().unwrap()
        };
        assert_eq!(["0.0001", "0.005", "0.5", "30", "+Inf"].map(bucket), [1, 2, 3, 3, 4]);
    }
}
