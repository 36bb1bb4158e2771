//! The model: a linear score per head over hashed features, and what turns the first into a probability.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::features::{BUCKETS, Features};
use super::math::sigmoid;

/// The first head decides the tier; the others name the rule of the rubric, 1 to 4.
pub const HEADS: usize = 5;

const MAGIC: [u8; 4] = *b"gemc";
const VERSION: u32 = 2;
const HEADER: usize = 8 + 8 * HEADS + 8;

/// A trained model.
///
/// As a file: `gemc`, the version (u32), then as f32 per head a scale and a bias, then the slope and the offset of the calibration,
/// then for each of [`BUCKETS`] features a weight (i8) per head. Everything is little-endian.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What one unit of a weight of each head is worth.
    pub scales: [f32; HEADS],
    /// What the score of each head starts with.
    pub biases: [f32; HEADS],
    /// Slope and offset that turn the first score into calibrated log-odds.
    pub calibration: [f32; 2],
    /// For each feature the weights of all heads, as two's complement bytes.
    pub weights: Cow<'static, [[u8; HEADS]]>,
}

pub(super) static BUILTIN: LazyLock<Model> =
    LazyLock::new(|| Model::parse(include_bytes!("weights.bin")).unwrap_or_else(Model::blank));

impl Model {
    /// The model of this program.
    #[must_use]
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// A model that has learnt nothing.
    #[must_use]
    pub fn blank() -> Self {
        Self {
            scales: [0.0; HEADS],
            biases: [0.0; HEADS],
            calibration: [1.0, 0.0],
            weights: Cow::Owned(vec![[0; HEADS]; BUCKETS]),
        }
    }

    /// Reads a weights file; `None` if it is not one of this version.
    #[must_use]
    pub fn parse(bytes: &'static [u8]) -> Option<Self> {
        let (header, weights) = bytes.split_at_checked(HEADER)?;
        let (start, numbers) = header.split_at_checked(8)?;
        let (weights, rest) = weights.as_chunks();
        let is_whole = weights.len() == BUCKETS && rest.is_empty();
        if start != [MAGIC, VERSION.to_le_bytes()].as_flattened() || !is_whole {
            return None;
        }
        let mut numbers = numbers.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
        let mut model = Self {
            weights: Cow::Borrowed(weights),
            ..Self::blank()
        };
        for (scale, bias) in model.scales.iter_mut().zip(&mut model.biases) {
            *scale = numbers.next()?;
            *bias = numbers.next()?;
        }
        model.calibration = [numbers.next()?, numbers.next()?];
        Some(model)
    }

    /// The weights file of this model.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + BUCKETS * HEADS);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        let heads = self
            .scales
            .iter()
            .zip(&self.biases)
            .flat_map(|(scale, bias)| [*scale, *bias]);
        bytes.extend(heads.chain(self.calibration).flat_map(f32::to_le_bytes));
        bytes.extend_from_slice(self.weights.as_flattened());
        bytes
    }

    /// Weighs what was seen in a request.
    #[must_use]
    pub fn weigh(&self, features: &Features) -> Weighed {
        let mut scores = [0.0_f32; HEADS];
        for (indices, value) in features.groups() {
            let mut sums = [0_i32; HEADS];
            for index in indices {
                let weights = self.weights[usize::from(*index)];
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += i32::from(weight.cast_signed());
                }
            }
            for (score, sum) in scores.iter_mut().zip(sums) {
                *score += sum as f32 * value;
            }
        }
        for (score, (scale, bias)) in scores.iter_mut().zip(self.scales.iter().zip(self.biases)) {
            *score = *score * scale + bias;
        }
        let [slope, offset] = self.calibration.map(f64::from);
        let [score, rules @ ..] = scores;
        let (rule, _) = (1..).zip(rules).fold(
            (1, f32::NEG_INFINITY),
            |best, next| if next.1 > best.1 { next } else { best },
        );
        Weighed {
            score,
            probability: sigmoid(slope * f64::from(score) + offset),
            rule,
        }
    }
}

/// What a model says of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighed {
    /// Log-odds that the request deserves the powerful model, before calibration.
    pub score: f32,
    /// The calibrated probability of that.
    pub probability: f64,
    /// The rule of the rubric, 1 to 4, that fits best, supposing that it does.
    pub rule: u8,
}

#[cfg(test)]
mod tests {
    use super::Model;

    #[test]
    fn the_file_form_is_read_back_as_it_was_written() {
        let bytes: &'static [u8] = Model::builtin().to_bytes().leak();
        assert_eq!(Model::parse(bytes).as_ref(), Some(Model::builtin()));
    }

    #[test]
    fn the_committed_weights_are_a_model() {
        assert!(Model::parse(include_bytes!("weights.bin")).is_some());
    }

    #[test]
    fn foreign_and_truncated_files_are_refused() {
        assert_eq!(Model::parse(b""), None);
        assert_eq!(Model::parse(b"gemc"), None);
        let bytes: &'static [u8] = Model::builtin().to_bytes().leak();
        assert_eq!(Model::parse(&bytes[..bytes.len() - 1]), None);
        let mut other = bytes.to_vec();
        other[4] = 99;
        assert_eq!(Model::parse(other.leak()), None);
    }
}
