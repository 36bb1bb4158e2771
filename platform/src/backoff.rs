//! Pauses between tries.

use std::time::Duration;

/// Pauses that double with each failure, up to a limit.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Makes a backoff whose first pause is `first` and whose longest pause is `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// The pause after the next failure. `chance`, from 0 to 1, shortens it by up to a half, so that many clients do
    /// not come back at the same moment.
    #[must_use]
    pub fn pause(&self, chance: f64) -> Duration {
        let full = self.first.saturating_mul(1 << self.failures.min(31)).min(self.longest);
        full.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }

    /// Counts a failure and returns the pause before the next try.
    pub fn fail(&mut self, chance: f64) -> Duration {
        let pause = self.pause(chance);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Failures since the beginning or the last [`Backoff::reset`].
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(30))
    }

    #[test]
    fn pauses_double_up_to_the_limit() {
        let mut backoff = backoff();
        let pauses: Vec<_> = (0..40).map(|_| backoff.fail(0.0).as_millis()).collect();
        assert_eq!(
            pauses[..10],
            [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000]
        );
        assert_eq!(pauses[39], 30_000);
        backoff.reset();
        assert_eq!(backoff.fail(0.0), Duration::from_millis(100));
    }

    #[test]
    fn chance_shortens_a_pause_by_half_at_most() {
        for (chance, pause) in [(-5.0, 100), (0.0, 100), (0.5, 75), (1.0, 50), (5.0, 50)] {
            assert_eq!(backoff().pause(chance), Duration::from_millis(pause), "{chance}");
        }
    }
}
