//! Determines when an engine is ready, and whether it still answers.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::probe::ProbeRequest;
use crate::runtime::{Endpoint, EngineActivity};

/// Time limits for readiness and health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthLimits {
    /// The time within which a new engine must answer.
    pub start: Duration,
    /// The time within which the engine must then have loaded its model.
    pub warm_up: Duration,
    /// The interval between two probes of a ready engine.
    pub interval: Duration,
    /// The time within which a probe must be answered.
    pub answer: Duration,
    /// After this many consecutive unanswered probes, the engine counts as hung.
    pub misses: u32,
}

impl Default for HealthLimits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(120),
            // `lit` downloads a missing model of a gigabyte at its first request (docs/facts.md section 2).
            warm_up: Duration::from_secs(600),
            interval: Duration::from_secs(5),
            answer: Duration::from_secs(3),
            misses: 3,
        }
    }
}

/// The longest pause between two attempts while an engine starts. Pauses begin at 2 ms, so that readiness is noticed
/// well within 50 ms.
const LONGEST_TRY_PAUSE: Duration = Duration::from_millis(10);
const FIRST_TRY_PAUSE: Duration = Duration::from_millis(2);
/// The time limit for a connection: a listener on loopback accepts at once or not at all.
const CONNECT: Duration = Duration::from_millis(25);
/// The interval between two probes of an engine that missed one, or that answers but does not know its model.
const RECHECK: Duration = Duration::from_secs(1);
/// An engine that uses less than one part in this many of a processor's time counts as idle.
const IDLE_SHARE: u32 = 100;
const WARM_UP_TRIES: u32 = 3;
const NOT_FOUND: u16 = 404;
/// From this status on, the fault is the engine's and not the request's.
const SERVER_ERROR: u16 = 500;
/// What to do about an engine that refused to load its model.
pub const REFUSED_REMEDY: &str = "read the reason with `gem-setup logs`; if the model is damaged, `gem-setup pull --force` \
                                  brings it again";

/// Receives the results of the probes; implemented by the supervisor.
pub(super) trait Observer {
    /// Adds a line to the log.
    fn note(&self, text: &str);
    /// Reports that a ready engine missed a probe for this reason.
    fn missed(&self, reason: &str);
    /// Reports that an engine answers again after a missed probe.
    fn recovered(&self);
}

/// Waits until the engine at `endpoint` answers and its model is loaded. Returns the status with which the engine
/// refused to load it.
///
/// # Errors
/// Why the engine should be replaced.
pub(super) async fn until_ready(
    request: &ProbeRequest,
    endpoint: &Endpoint,
    limits: &HealthLimits,
    observer: &impl Observer,
) -> Result<Option<u16>, String> {
    until_answering(request, endpoint, limits).await?;
    observer.note("answers; now it loads its model");
    warm_up(request, endpoint, limits, observer).await
}

async fn until_answering(request: &ProbeRequest, endpoint: &Endpoint, limits: &HealthLimits) -> Result<(), String> {
    let deadline = Instant::now() + limits.start;
    let mut pause = FIRST_TRY_PAUSE;
    loop {
        // An accepted connection already shows readiness; after that, a busy engine may take its time to answer.
        let (problem, wait) = match request.ask(endpoint, CONNECT, limits.start).await {
            // The engine is running, but may still be searching for its models.
            Ok(NOT_FOUND) => (unknown(request), RECHECK),
            Ok(_) => return Ok(()),
            // The engine can no longer get the port.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error.to_string()),
            Err(error) => (error.to_string(), pause),
        };
        if Instant::now() >= deadline {
            return Err(format!(
                "did not become ready within {} s: {problem}",
                limits.start.as_secs()
            ));
        }
        sleep(wait).await;
        pause = (pause * 3 / 2).min(LONGEST_TRY_PAUSE);
    }
}

fn unknown(request: &ProbeRequest) -> String {
    format!("does not know the model `{}`", request.model)
}

async fn warm_up(
    request: &ProbeRequest,
    endpoint: &Endpoint,
    limits: &HealthLimits,
    observer: &impl Observer,
) -> Result<Option<u16>, String> {
    let mut problem = String::new();
    for _ in 0..WARM_UP_TRIES {
        match timeout(limits.warm_up, request.warm_up(endpoint)).await {
            Err(_) => {
                return Err(format!("did not load its model within {} s", limits.warm_up.as_secs()));
            }
            Ok(Ok(200..300)) => return Ok(None),
            Ok(Ok(NOT_FOUND)) => return Err(unknown(request)),
            Ok(Ok(status)) => {
                // The engine is alive and responds. The gateway will judge the response.
                observer.note(&format!("answered the warm-up request with status {status}"));
                return Ok((status >= SERVER_ERROR).then_some(status));
            }
            Ok(Err(error)) => problem = error.to_string(),
        }
        sleep(RECHECK).await;
    }
    Err(format!("did not answer the warm-up request: {problem}"))
}

/// Probes a ready engine until it hangs, and returns the reason to replace it. A busy engine may be silent, so it is
/// probed only while it uses no processor time. `cpu_time` returns its processor time so far.
pub(super) async fn until_hung(
    request: &ProbeRequest,
    endpoint: &Endpoint,
    limits: &HealthLimits,
    activity: &EngineActivity,
    cpu_time: impl Fn() -> Option<Duration>,
    observer: &impl Observer,
) -> String {
    let mut misses = 0;
    let mut work = Work::default();
    let is_at_work = |work: &mut Work| activity.is_busy() && work.goes_on(cpu_time());
    loop {
        sleep(limits.pause(misses, activity.is_busy())).await;
        if is_at_work(&mut work) {
            continue;
        }
        match request.ask(endpoint, limits.answer, limits.answer).await {
            Ok(_) => {
                activity.alive();
                if misses > 0 {
                    observer.recovered();
                }
                misses = 0;
            }
            // Work that began after the probe keeps a single-threaded engine from answering the probe.
            Err(_) if is_at_work(&mut work) => {}
            Err(error) if gem_platform::descriptors::are_exhausted(&error) => {
                observer.note(&format!("was not probed: {error}"));
            }
            Err(error) => {
                misses += 1;
                let reason = describe(&error);
                observer.note(&format!("missed a health probe: {reason}"));
                if misses == 1 {
                    observer.missed(&reason);
                }
                // A busy engine has already been silent for a while.
                if misses + u32::from(activity.is_busy()) >= limits.misses {
                    return format!("hung: {misses} health probes in a row were not answered");
                }
            }
        }
    }
}

impl HealthLimits {
    /// The pause before the next check of an engine.
    fn pause(&self, misses: u32, is_busy: bool) -> Duration {
        match (misses, is_busy) {
            (0, false) => self.interval,
            (0, true) => self.interval / 2,
            _ => self.interval.min(RECHECK),
        }
    }
}

/// The processor time of an engine, and the time of the last check.
#[derive(Default)]
struct Work(Option<(Duration, Instant)>);

impl Work {
    /// Whether an engine with the total processor time `cpu_time` has worked since the last check; `true` if unknown.
    fn goes_on(&mut self, cpu_time: Option<Duration>) -> bool {
        let Some(cpu_time) = cpu_time else { return true };
        let now = Instant::now();
        let last = self.0.replace((cpu_time, now));
        last.is_none_or(|(used, at)| cpu_time.saturating_sub(used) * IDLE_SHARE > now - at)
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use gem_platform::process::Owner;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::runtime::ModelGate;

    #[tokio::test]
    async fn an_engine_that_does_not_know_its_model_is_not_asked_all_the_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let owner = Owner::Process(std::process::id());
        let endpoint = &Endpoint::new(listener.local_addr().unwrap(), owner);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // A connection without a request only shows that something listens.
                let read = stream.read(&mut [0; 4096]).await.unwrap_or(0);
                count.fetch_add(usize::from(read > 0), Ordering::Relaxed);
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    .await;
            }
        });
        let request = ProbeRequest {
            model: "some-model".to_owned(),
            gate: ModelGate::of_builtin("some-model"),
        };
        let limits = HealthLimits {
            start: Duration::from_millis(500),
            ..HealthLimits::default()
        };
        let reason = until_answering(&request, endpoint, &limits).await.unwrap_err();
        assert!(reason.contains("does not know the model `some-model`"), "{reason}");
        assert_eq!(asked.load(Ordering::Relaxed), 2, "at first and after the pause");
    }
}
