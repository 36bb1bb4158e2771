//! The probability from which the powerful model is chosen.

use std::fmt;
use std::str::FromStr;

/// A probability from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold(f64);

/// The text is not a [`Threshold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidThreshold {
    /// Not a number.
    #[error("not a number: expected a probability between 0 and 1, such as 0.5")]
    NotANumber,
    /// A number outside the range.
    #[error("expected a probability between 0 and 1")]
    OutOfRange,
}

impl Threshold {
    /// Whether a request with this probability of being complex reaches the threshold.
    #[must_use]
    pub fn is_reached(self, probability: f64) -> bool {
        probability >= self.0
    }
}

impl Default for Threshold {
    /// The threshold with the best accuracy.
    fn default() -> Self {
        Self(0.5)
    }
}

impl FromStr for Threshold {
    type Err = InvalidThreshold;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value: f64 = text.parse().map_err(|_| InvalidThreshold::NotANumber)?;
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(InvalidThreshold::OutOfRange)
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidThreshold, Threshold};

    #[test]
    fn probabilities_are_read_and_written_alike() {
        for text in ["0", "0.45", "1"] {
            let threshold: Threshold = text.parse().unwrap();
            assert_eq!(threshold.to_string(), text);
        }
    }

    #[test]
    fn other_values_are_refused() {
        let parse = str::parse::<Threshold>;
        assert_eq!(parse("half"), Err(InvalidThreshold::NotANumber));
        for text in ["-0.1", "1.01", "NaN", "inf"] {
            assert_eq!(parse(text), Err(InvalidThreshold::OutOfRange), "{text}");
        }
    }
}
