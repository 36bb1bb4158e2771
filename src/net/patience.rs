//! Timeouts and delays for the network.

use std::time::{Duration, SystemTime};

/// How long to wait for the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The time to connect, including name resolution, proxy and TLS.
    pub connect: Duration,
    /// The time until the next byte of a response. The time for the whole response is not limited.
    pub idle: Duration,
    /// The delay before the first retry. Each further delay is twice as long.
    pub first_wait: Duration,
    /// The longest delay without a `Retry-After`.
    pub longest_wait: Duration,
    /// The longest `Retry-After` that is respected. A server that asks for a longer delay is not asked again.
    pub longest_retry_after: Duration,
    /// The number of consecutive retries without new bytes.
    pub retries: u32,
    /// The number of retries for a source while another source is left.
    pub retries_before_next_source: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(30),
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(8),
            longest_retry_after: Duration::from_secs(30),
            retries: 5,
            retries_before_next_source: 2,
        }
    }
}

/// The longest delay; longer ones are shortened to this, so that times can be added to it.
pub const LONGEST_DELAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Parses a `Retry-After` header: seconds, or a date, which is compared with `now`. A date in the past means no delay.
#[must_use]
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = value.parse().map_or(LONGEST_DELAY, Duration::from_secs);
        return Some(seconds.min(LONGEST_DELAY));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(LONGEST_DELAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(parse_retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        for endless in ["18446744073709551615", "99999999999999999999999"] {
            assert_eq!(parse_retry_after(endless, now), Some(LONGEST_DELAY), "{endless}");
        }
        assert_eq!(
            parse_retry_after("Sun, 06 Nov 1994 08:50:07 GMT", now),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            parse_retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(parse_retry_after("soon", now), None);
        assert_eq!(parse_retry_after("-3", now), None);
    }
}
