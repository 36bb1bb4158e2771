//! The delay before the engine is started again.

use std::time::Duration;

/// The first pause, the longest pause, and when failures make a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffLimits {
    /// The pause after the first failure; each further one doubles it.
    pub first: Duration,
    /// No pause is longer.
    pub cap: Duration,
    /// This many failures in a row are a crash loop.
    pub loop_after: u32,
    /// An engine that was ready for this long works; earlier failures are forgotten.
    pub healthy: Duration,
}

impl Default for BackoffLimits {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            cap: Duration::from_secs(30),
            loop_after: 5,
            healthy: Duration::from_secs(60),
        }
    }
}

/// Exponential backoff: doubling, capped, with a jitter of a fifth downwards.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    limits: BackoffLimits,
    failures: u32,
}

impl Backoff {
    /// No failures yet.
    pub(super) const fn new(limits: BackoffLimits) -> Self {
        Self { limits, failures: 0 }
    }

    /// Counts a failure and gives the pause before the next try; `jitter` is a number from 0 to 1.
    pub(super) fn fail(&mut self, jitter: f64) -> Duration {
        let doublings = self.failures.min(31);
        self.failures = self.failures.saturating_add(1);
        let full = self
            .limits
            .first
            .saturating_mul(1_u32 << doublings)
            .min(self.limits.cap);
        full.mul_f64(1.0 - 0.2 * jitter.clamp(0.0, 1.0))
    }

    /// Whether the failures make a loop.
    pub(super) const fn is_loop(&self) -> bool {
        self.failures >= self.limits.loop_after
    }

    /// Notes how long a failed engine was ready, before the failure is counted.
    pub(super) fn was_ready(&mut self, duration: Duration) {
        if duration >= self.limits.healthy {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap() {
        let mut backoff = Backoff::new(BackoffLimits::default());
        let pauses: Vec<_> = (0..11).map(|_| backoff.fail(0.0).as_millis()).collect();
        assert_eq!(
            pauses,
            [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]
        );
    }

    #[test]
    fn jitter_only_shortens_so_the_cap_holds() {
        let mut backoff = Backoff::new(BackoffLimits::default());
        for _ in 0..100 {
            backoff.fail(0.0);
        }
        assert_eq!(backoff.fail(1.0), Duration::from_secs(24));
        assert_eq!(backoff.fail(-5.0), Duration::from_secs(30));
    }

    #[test]
    fn five_failures_in_a_row_are_a_loop_until_a_healthy_minute() {
        let mut backoff = Backoff::new(BackoffLimits::default());
        for _ in 0..4 {
            backoff.fail(0.5);
        }
        assert!(!backoff.is_loop());
        backoff.fail(0.5);
        backoff.was_ready(Duration::from_secs(59));
        assert!(backoff.is_loop());
        backoff.was_ready(Duration::from_secs(60));
        assert!(!backoff.is_loop());
        assert_eq!(backoff.fail(0.0), Duration::from_millis(100));
    }
}
