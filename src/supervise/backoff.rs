//! The delay before the next engine is started.

use std::time::Duration;

use gem_platform::Backoff;

/// The first pause, the longest pause, and the number of failures that counts as a crash loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffLimits {
    /// The pause after the first failure; each further failure doubles it.
    pub first: Duration,
    /// The longest pause.
    pub cap: Duration,
    /// This many consecutive failures count as a crash loop.
    pub loop_after: u32,
    /// An engine that was ready for this long counts as healthy, and earlier failures are forgotten. A start takes a
    /// few seconds, so this limits the cost of an engine that fails repeatedly.
    pub healthy: Duration,
}

impl Default for BackoffLimits {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            cap: Duration::from_secs(30),
            loop_after: 5,
            healthy: Duration::from_secs(10),
        }
    }
}

/// The failures of the engines so far.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    limits: BackoffLimits,
    backoff: Backoff,
}

impl Failures {
    /// A backoff without failures.
    pub(super) const fn new(limits: BackoffLimits) -> Self {
        let backoff = Backoff::new(limits.first, limits.cap);
        Self { limits, backoff }
    }

    /// Counts the failure of an engine that was ready for `duration`, and returns the pause before the next one.
    pub(super) fn count(&mut self, duration: Duration) -> Duration {
        if duration >= self.limits.healthy {
            self.backoff.reset();
        }
        self.backoff.fail(fastrand::f64())
    }

    /// Whether the failures count as a crash loop.
    pub(super) const fn is_loop(&self) -> bool {
        self.backoff.failures() >= self.limits.loop_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_are_a_loop_until_one_works_for_ten_seconds() {
        let mut failures = Failures::new(BackoffLimits::default());
        for _ in 0..4 {
            failures.count(Duration::from_secs(9));
        }
        assert!(!failures.is_loop());
        failures.count(Duration::from_secs(9));
        assert!(failures.is_loop());
        assert!(failures.count(Duration::from_secs(10)) <= BackoffLimits::default().first);
        assert!(!failures.is_loop());
    }
}
