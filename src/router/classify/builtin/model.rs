//! The model: a linear score per head over hashed features, and what turns the first into a probability.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::features::{BUCKETS, Features};
use super::math::sigmoid;

/// The first head decides the tier; the others name the rule of the rubric, 1 to 4.
pub const HEADS: usize = 5;

const MAGIC: [u8; 4] = *b"gemc";
const VERSION: u32 = 1;
const HEADER: usize = 8 + 8 * HEADS + 8;

/// A trained model.
///
/// As a file: `gemc`, the version (u32), then as f32 per head a scale and a bias, then the slope and the offset of the calibration,
/// then [`BUCKETS`] × [`HEADS`] weights (i8), head by head. Everything is little-endian.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What one unit of a weight of each head is worth.
    pub scales: [f32; HEADS],
    /// What the score of each head starts with.
    pub biases: [f32; HEADS],
    /// Slope and offset that turn the first score into calibrated log-odds.
    pub calibration: [f32; 2],
    /// The weights as two's complement bytes, head by head.
    pub weights: Cow<'static, [u8]>,
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
            weights: Cow::Owned(vec![0; BUCKETS * HEADS]),
        }
    }

    /// Reads a weights file; `None` if it is not one of this version.
    #[must_use]
    pub fn parse(bytes: &'static [u8]) -> Option<Self> {
        let (header, weights) = bytes.split_at_checked(HEADER)?;
        let (start, numbers) = header.split_at_checked(8)?;
        if start != [MAGIC, VERSION.to_le_bytes()].as_flattened() || weights.len() != BUCKETS * HEADS {
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
        let mut bytes = Vec::with_capacity(HEADER + self.weights.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        let heads = self
            .scales
            .iter()
            .zip(&self.biases)
            .flat_map(|(scale, bias)| [*scale, *bias]);
        bytes.extend(heads.chain(self.calibration).flat_map(f32::to_le_bytes));
        bytes.extend_from_slice(&self.weights);
        bytes
    }

    /// The score of a head: log-odds, before calibration.
    #[must_use]
    pub fn score(&self, head: usize, features: &Features) -> f32 {
        let weights = &self.weights[head * BUCKETS..(head + 1) * BUCKETS];
        let sum = features.entries().iter().fold(0.0_f32, |sum, (index, value)| {
            sum + f32::from(weights[*index as usize].cast_signed()) * value
        });
        sum * self.scales[head] + self.biases[head]
    }

    /// The calibrated probability that the request deserves the powerful model.
    #[must_use]
    pub fn probability(&self, features: &Features) -> f64 {
        let [slope, offset] = self.calibration.map(f64::from);
        sigmoid(slope * f64::from(self.score(0, features)) + offset)
    }

    /// The rule of the rubric, 1 to 4, that fits best, supposing that the request deserves the powerful model.
    #[must_use]
    pub fn rule(&self, features: &Features) -> u8 {
        let scores = (1..=4).map(|rule| (rule, self.score(usize::from(rule), features)));
        scores
            .fold(
                (1, f32::NEG_INFINITY),
                |best, next| if next.1 > best.1 { next } else { best },
            )
            .0
    }
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
