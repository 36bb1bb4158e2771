//! Exponentials and logarithms from basic operations only: the results of the platform's functions differ in their last bits.
//!
//! ```
//! use gem_setup::router::classify::builtin::math::{exp, ln, sigmoid};
//!
//! assert_eq!(sigmoid(0.0), 0.5);
//! assert!((ln(exp(2.0)) - 2.0).abs() < 1e-12);
//! ```

/// e to the power of `x`, accurate to a few units in the last place; finite and positive for every `x`.
#[must_use]
pub fn exp(x: f64) -> f64 {
    let x = x.clamp(-700.0, 700.0);
    let halvings = (x * std::f64::consts::LOG2_E).round();
    let rest = x - halvings * std::f64::consts::LN_2;
    let series = (1..=14).rev().fold(1.0, |sum, n| 1.0 + rest * sum / f64::from(n));
    series * f64::from_bits(((halvings as i64 + 1023) as u64) << 52)
}

/// The logistic function: from log-odds to a probability.
#[must_use]
pub fn sigmoid(log_odds: f64) -> f64 {
    1.0 / (1.0 + exp(-log_odds))
}

/// The natural logarithm of a positive, normal `x`, accurate to a few units in the last place.
#[must_use]
pub fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = f64::from((bits >> 52) as i32 - 1023);
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    // ln m = 2 artanh((m - 1) / (m + 1)), for m from 1 to 2.
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let series = (0..20)
        .rev()
        .fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * ratio * series
}

/// ln(1 + e^x).
#[must_use]
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + ln(1.0 + exp(-x.abs()))
}

#[cfg(test)]
mod tests {
    use super::{exp, ln, sigmoid, softplus};

    #[test]
    fn exp_agrees_with_the_platform() {
        for step in -3000..3000 {
            let x = f64::from(step) / 7.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "{x}");
        }
    }

    #[test]
    fn ln_agrees_with_the_platform() {
        for step in 1..3000 {
            let x = f64::from(step) / 7.0;
            assert!((ln(x) - x.ln()).abs() < 1e-13, "{x}");
            assert!((softplus(x - 200.0) - (x - 200.0).exp().ln_1p()).abs() < 1e-12, "{x}");
        }
    }

    #[test]
    fn sigmoid_stays_a_probability() {
        assert!((sigmoid(0.0) - 0.5).abs() < 1e-15);
        assert!(sigmoid(f64::INFINITY) <= 1.0);
        assert!(sigmoid(f64::NEG_INFINITY) >= 0.0);
    }
}
