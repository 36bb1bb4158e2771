//! The speed of a transfer: the bytes of the last seconds, without those of an earlier run.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// The time over which the speed is measured.
const WINDOW: Duration = Duration::from_secs(3);

/// The recent positions of a transfer.
#[derive(Debug, Default)]
pub(super) struct Speed {
    positions: VecDeque<(Instant, u64)>,
}

impl Speed {
    /// Notes that `done` bytes are in place; fewer than before mean that the transfer started over.
    pub(super) fn note(&mut self, now: Instant, done: u64) {
        if self.positions.back().is_some_and(|(_, before)| done < *before) {
            self.positions.clear();
        }
        self.positions.push_back((now, done));
        while self.positions.len() > 2 && now - self.positions[0].0 > WINDOW {
            self.positions.pop_front();
        }
    }

    /// Bytes a second.
    #[expect(clippy::cast_precision_loss, reason = "a speed for people")]
    pub(super) fn per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.positions.front(), self.positions.back()) else {
            return 0.0;
        };
        let seconds = (last.0 - first.0).as_secs_f64();
        if seconds > 0.0 {
            (last.1 - first.1) as f64 / seconds
        } else {
            0.0
        }
    }
}

/// The time that `bytes` take at `per_second`, such as `1m20s`; empty while the speed is unknown.
pub(super) struct TimeLeft {
    pub(super) bytes: u64,
    pub(super) per_second: f64,
}

impl fmt::Display for TimeLeft {
    #[expect(clippy::cast_precision_loss, reason = "shown in seconds")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.bytes as f64 / self.per_second;
        let Ok(left) = Duration::try_from_secs_f64(seconds.ceil()) else {
            return Ok(());
        };
        match left.as_secs() {
            seconds @ 0..60 => write!(f, "{seconds}s"),
            seconds @ 60..3_600 => write!(f, "{}m{:02}s", seconds / 60, seconds % 60),
            seconds => write!(f, "{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(positions: &[(u64, u64)]) -> f64 {
        let start = Instant::now();
        let mut speed = Speed::default();
        for (milliseconds, done) in positions {
            speed.note(start + Duration::from_millis(*milliseconds), *done);
        }
        speed.per_second()
    }

    #[test]
    fn only_new_bytes_are_speed() {
        assert_eq!(speed(&[(0, 900_000_000), (500, 901_000_000)]), 2e6);
        assert_eq!(speed(&[(0, 900_000_000)]), 0.0);
    }

    #[test]
    fn a_new_start_and_old_seconds_do_not_count() {
        assert_eq!(speed(&[(0, 50), (1_000, 0), (2_000, 10)]), 10.0);
        assert_eq!(speed(&[(0, 0), (1_000, 9_000), (8_000, 9_000), (9_000, 9_100)]), 100.0);
    }

    #[test]
    fn the_time_left_is_short() {
        for (bytes, text) in [(90, "9s"), (800, "1m20s"), (36_600, "1h01m")] {
            let per_second = 10.0;
            assert_eq!(TimeLeft { bytes, per_second }.to_string(), text);
        }
        let unknown = TimeLeft {
            bytes: 1,
            per_second: 0.0,
        };
        assert_eq!(unknown.to_string(), "");
    }
}
