//! Progress reports of long work. The worker does not know how they are shown.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use gem_setup::progress::Progress;
//!
//! #[derive(Default)]
//! struct Total(AtomicU64);
//!
//! impl Progress for Total {
//!     fn begin(&self, _: &str, _: &str, _: Option<u64>) {}
//!     fn advance(&self, _: &str, done: u64, _: Option<u64>) {
//!         self.0.store(done, Ordering::Relaxed);
//!     }
//!     fn finish(&self, _: &str) {}
//!     fn note(&self, _: &str, _: &str) {}
//! }
//!
//! let total = Total::default();
//! total.advance("model", 512, Some(1024));
//! assert_eq!(total.0.into_inner(), 512);
//! ```

use std::fmt;
use std::time::Duration;

/// A wait shorter than this is not shown.
pub const NOTICEABLE: Duration = Duration::from_millis(300);

/// Shows the progress of one task at a time. Each task has an id, such as the step id `runtime`.
///
/// The methods are called often, so they must be cheap and throttle their output.
pub trait Progress: Send + Sync {
    /// The task `id` began; `label` is its description for people, `total` the number of bytes to come, if known.
    fn begin(&self, id: &str, label: &str, total: Option<u64>);

    /// `done` of `total` bytes are in place.
    fn advance(&self, id: &str, done: u64, total: Option<u64>);

    /// The task `id` ended, successfully or not.
    fn finish(&self, id: &str);

    /// A remark during the task `id`, such as "server ignored the range, starting over".
    fn note(&self, id: &str, text: &str);

    /// A wait began that a person should know about; [`Self::advance`] or [`Self::finish`] ends it.
    fn wait(&self, id: &str, what: &str) {
        self.note(id, what);
    }
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _id: &str, _label: &str, _total: Option<u64>) {}
    fn advance(&self, _id: &str, _done: u64, _total: Option<u64>) {}
    fn finish(&self, _id: &str) {}
    fn note(&self, _id: &str, _text: &str) {}
}

/// Waits for `work` and shows `what` in the meantime, unless the wait is short.
pub async fn waiting<T>(progress: &dyn Progress, id: &str, what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = tokio::time::sleep(NOTICEABLE) => progress.wait(id, what),
    }
    let done = work.await;
    progress.finish(id);
    done
}

/// The time after which a person wonders about a silent server.
pub const QUIET: Duration = Duration::from_secs(3);

/// Waits for `work`, and shows `what` once it has been silent for [`QUIET`]. The progress or the end of the task hides it again.
pub async fn unless_quiet<T>(progress: &dyn Progress, id: &str, what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(QUIET, &mut work).await {
        return done;
    }
    progress.wait(id, what);
    work.await
}

/// A number of bytes, shown in the units of `lit`: powers of ten, as in `968.6 MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// `bytes` rounded down to a whole number.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a speed for people; a negative one becomes 0"
    )]
    pub fn of(bytes: f64) -> Self {
        Self(bytes as u64)
    }
}

impl fmt::Display for Size {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{bytes} B"),
            1_000..1_000_000 => write!(f, "{:.1} kB", bytes / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} MB", bytes / 1e6),
            _ => write!(f, "{:.1} GB", bytes / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn sizes_are_powers_of_ten() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_500, "1.5 kB"),
            (968_600_000, "968.6 MB"),
            (8_000_000_000, "8.0 GB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[derive(Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl Progress for Recorder {
        fn begin(&self, _id: &str, _label: &str, _total: Option<u64>) {}
        fn advance(&self, _id: &str, _done: u64, _total: Option<u64>) {}
        fn note(&self, _id: &str, _text: &str) {}
        fn finish(&self, id: &str) {
            self.0.lock().unwrap().push(format!("end of {id}"));
        }
        fn wait(&self, id: &str, what: &str) {
            self.0.lock().unwrap().push(format!("{id}: {what}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_noticeable_wait_is_shown() {
        let seen = Recorder::default();
        waiting(&seen, "x", "short", tokio::time::sleep(NOTICEABLE / 2)).await;
        waiting(&seen, "y", "long", tokio::time::sleep(NOTICEABLE * 2)).await;
        assert_eq!(*seen.0.lock().unwrap(), ["y: long", "end of y"]);
    }
}
