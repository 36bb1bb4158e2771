//! The delay before the engine is started again.

use std::time::Duration;

use gem_platform::Backoff;

/// The first pause, the longest pause, and when failures make a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffLimits {
    /// The pause after the first failure; each further one doubles it.
    pub first: Duration,
    /// No pause is longer.
    pub cap: Duration,
    /// This many failures in a row are a crash loop.
    pub loop_after: u32,
    /// An engine that was ready for this long works; earlier failures are forgotten. A start takes a few seconds, so this bounds what
    /// an engine costs that fails again and again.
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
    /// No failures yet.
    pub(super) const fn new(limits: BackoffLimits) -> Self {
        let backoff = Backoff::new(limits.first, limits.cap);
        Self { limits, backoff }
    }

    /// Counts the failure of an engine that was ready for `duration`, and gives the pause before the next one.
    pub(super) fn count(&mut self, duration: Duration) -> Duration {
        if duration >= self.limits.healthy {
            self.backoff.reset();
        }
        self.backoff.fail(fastrand::f64())
    }

    /// Whether the failures make a loop.
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
