//! The gateway's counters in Prometheus' text format 0.0.4.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use jiff::Timestamp;

use super::access::ClientCounts;
use super::metrics::{BUCKETS, FACES, Metrics, OUTCOMES};
use crate::router::AnsweredBy;
use crate::runtime::{EngineState, EngineStatus};

/// Values that the metrics show in addition to the counters.
pub(super) struct MetricsSnapshot {
    pub(super) engine: Option<EngineStatus>,
    pub(super) waiting: usize,
    pub(super) lost_decisions: u64,
    /// When the gateway's certificate expires.
    pub(super) certificate_until: Option<Timestamp>,
    /// The clients' counters and the number of requests without a valid token; `None` if tokens are not required.
    pub(super) access: Option<(Vec<ClientCounts>, u64)>,
}

/// All metrics in Prometheus' text format 0.0.4.
pub(super) fn render(metrics: &Metrics, snapshot: &MetricsSnapshot) -> String {
    let mut text = Text(String::with_capacity(8 * 1024));
    render_requests(metrics, &mut text);
    render_classifications(metrics, &mut text);
    render_gauges(metrics, snapshot, &mut text);
    render_counters(metrics, snapshot, &mut text);
    if let Some((clients, refused)) = &snapshot.access {
        render_clients(&mut text, clients, *refused);
    }
    if let Some(engine) = &snapshot.engine {
        render_engine(&mut text, engine);
    }
    text.0
}

fn render_gauges(metrics: &Metrics, snapshot: &MetricsSnapshot, text: &mut Text) {
    let certificate = snapshot
        .certificate_until
        .map(|until| u64::try_from(until.as_second()).unwrap_or(0));
    for (name, help, value) in [
        (
            "connections",
            "Open client connections.",
            Some(load_usize(&metrics.connections)),
        ),
        (
            "certificate_until_seconds",
            "Unix time at which the certificate expires.",
            certificate,
        ),
        (
            "engine_queue",
            "Requests that wait for the engine.",
            Some(snapshot.waiting as u64),
        ),
    ] {
        if let Some(value) = value {
            text.gauge(name, help, value);
        }
    }
}

fn render_counters(metrics: &Metrics, snapshot: &MetricsSnapshot, text: &mut Text) {
    for (name, help, value) in [
        (
            "decisions_lost_total",
            "Decisions that could not be written.",
            snapshot.lost_decisions,
        ),
        (
            "engine_retries_total",
            "Requests sent to the engine again after it broke off.",
            load(&metrics.engine_retries),
        ),
        (
            "model_failures_total",
            "Classification requests that the model did not answer.",
            load(&metrics.model.total),
        ),
        (
            "upstream_failures_total",
            "Requests whose upstream response broke off or was a server error.",
            load(&metrics.upstream.total),
        ),
    ] {
        text.counter(name, help, value);
    }
}

fn render_engine(text: &mut Text, engine: &EngineStatus) {
    text.head("engine_state", "gauge", "1 for the engine's current state.");
    for state in EngineState::ALL {
        let labels = format!("state=\"{state}\"");
        text.sample("engine_state", &labels, u64::from(engine.state == state));
    }
    text.counter("engine_restarts_total", "Engines that were replaced.", engine.restarts);
}

fn render_requests(metrics: &Metrics, text: &mut Text) {
    text.head("requests_total", "counter", "Requests by face and outcome.");
    for (face, name) in FACES {
        for (outcome, count) in OUTCOMES.iter().zip(&metrics.face(face).outcomes) {
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
        let face = metrics.face(face);
        let mut below = 0;
        for (bound, count) in BUCKETS.iter().zip(&face.buckets) {
            below += load(count);
            let labels = format!("face=\"{name}\",le=\"{}\"", seconds(*bound));
            text.sample("request_duration_seconds_bucket", &labels, below);
        }
        let count = load(&face.count).max(below);
        let labels = format!("face=\"{name}\"");
        text.sample(
            "request_duration_seconds_bucket",
            &format!("{labels},le=\"+Inf\""),
            count,
        );
        text.sample(
            "request_duration_seconds_sum",
            &labels,
            seconds(load(&face.microseconds)),
        );
        text.sample("request_duration_seconds_count", &labels, count);
    }
}

fn render_classifications(metrics: &Metrics, text: &mut Text) {
    text.head(
        "classifications_total",
        "counter",
        "Classification requests by the source of their answer.",
    );
    for (by, count) in AnsweredBy::ALL.iter().zip(&metrics.answered_by) {
        text.sample(
            "classifications_total",
            &format!("answered_by=\"{}\"", by.as_str()),
            load(count),
        );
    }
    text.counter(
        "classification_failures_total",
        "Classification requests that got an error.",
        load(&metrics.unanswered),
    );
    text.counter(
        "unusable_answers_total",
        "Answers of the model without a clear choice.",
        load(&metrics.unusable_answers),
    );
    let hits = metrics.classifications(AnsweredBy::Cache).map_or(0, load);
    text.counter(
        "cache_hits_total",
        "Classification requests answered from the cache.",
        hits,
    );
}

fn render_clients(text: &mut Text, clients: &[ClientCounts], refused: u64) {
    text.counter(
        "requests_without_token_total",
        "Requests without a valid token.",
        refused,
    );
    let mut family = |name: &str, kind, help, value: fn(&ClientCounts) -> u64| {
        text.head(name, kind, help);
        for client in clients {
            text.sample(name, &format!("client=\"{}\"", client.name), value(client));
        }
    };
    family("client_requests_total", "counter", "Requests by client.", |client| {
        client.requests
    });
    family(
        "client_limited_total",
        "counter",
        "Requests refused because of a limit, by client.",
        |client| client.limited,
    );
    family(
        "client_requests_in_progress",
        "gauge",
        "Requests in progress, by client.",
        |client| u64::from(client.in_progress),
    );
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

/// Text in Prometheus' format. Every metric name begins with `gem_setup_`. Writing to a `String` cannot fail.
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
    use std::sync::Arc;
    use std::time::Duration;

    use hyper::StatusCode;

    use super::*;
    use crate::gateway::metrics::Face;

    fn render(metrics: &Metrics) -> String {
        super::render(
            metrics,
            &MetricsSnapshot {
                engine: Some(EngineStatus::starting()),
                waiting: 3,
                certificate_until: None,
                lost_decisions: 0,
                access: None,
            },
        )
    }

    #[test]
    fn requests_are_counted_by_face_and_outcome() {
        let metrics = Arc::new(Metrics::default());
        metrics.begin(Face::Local).head(StatusCode::OK);
        metrics.begin(Face::Local).head(StatusCode::BAD_REQUEST);
        metrics.begin(Face::Upstream).head(StatusCode::BAD_GATEWAY);
        drop(metrics.begin(Face::Classifier));
        for status in [StatusCode::OK, StatusCode::BAD_GATEWAY] {
            let mut measure = metrics.begin(Face::Upstream);
            measure.head(status);
            measure.cut();
        }
        metrics.classified(AnsweredBy::Cache);
        let text = render(&metrics);
        for line in [
            "gem_setup_requests_total{face=\"local\",outcome=\"ok\"} 1",
            "gem_setup_requests_total{face=\"local\",outcome=\"client_error\"} 1",
            "gem_setup_requests_total{face=\"upstream\",outcome=\"server_error\"} 2",
            "gem_setup_requests_total{face=\"upstream\",outcome=\"cut\"} 1",
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
            metrics.observe(Face::Admin, Duration::from_millis(milliseconds));
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
