//! The client's own deadline.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use hyper::header::HeaderMap;
use tokio::time::{Instant, timeout_at};

/// The header with the server's time limit in seconds, set by Google's SDKs.
const SERVER_TIMEOUT: &str = "x-server-timeout";

/// The client's own time limit, if it states one.
pub(super) fn patience(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(SERVER_TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

/// The client's own deadline, from now on, if it states one.
pub(super) fn deadline(headers: &HeaderMap) -> Option<Instant> {
    Instant::now().checked_add(patience(headers)?)
}

/// The time `usual`, shortened to the deadline.
pub(super) fn time_left(usual: Duration, deadline: Option<Instant>) -> Duration {
    deadline.map_or(usual, |deadline| {
        usual.min(deadline.saturating_duration_since(Instant::now()))
    })
}

/// The output of `future`; `None` if the deadline passes first. An `async fn` would hold the future twice.
pub(super) fn within<F: Future>(deadline: Option<Instant>, future: F) -> impl Future<Output = Option<F::Output>> {
    match deadline {
        Some(deadline) => Either::Left(timeout_at(deadline, future).map(Result::ok)),
        None => Either::Right(future.map(Some)),
    }
}
