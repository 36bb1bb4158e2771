//! The model: a linear score over hashed features and counts, and what turns it into a probability.
//!
//! ```
//! use gem_setup::router::classify::builtin::features::Features;
//! use gem_setup::router::classify::builtin::model::Model;
//!
//! let probability = Model::builtin().probability(&Features::of("rename x to y in a.py", &[]));
//! assert!((0.0..=1.0).contains(&probability));
//! ```

use std::borrow::Cow;
use std::sync::LazyLock;

use super::counts::COUNTS;
use super::features::{BLOCKS, BUCKETS, Features, SCALES};
use super::math::sigmoid;

const MAGIC: [u8; 4] = *b"gemc";
const VERSION: u32 = 3;
/// Everything before the buckets: magic, version, and the numbers of [`Model`].
const HEADER: usize = 8 + 4 * (2 + 2 * COUNTS);

/// A trained model.
///
/// As a file: `gemc`, the version (u32), then as f32 the unit, the bias, and for each count its average and its weight; then for each
/// of [`BUCKETS`] buckets a weight (i8) and an importance (u8). Everything is little-endian. The unit, the bias and the counts'
/// weights are on the scale of calibrated log-odds.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What one unit of a bucket's weight is worth.
    pub unit: f32,
    /// The score of a request with nothing in it but average counts.
    pub bias: f32,
    /// Of each count, its average and its weight.
    pub counts: [[f32; 2]; COUNTS],
    /// For each bucket its weight, in two's complement, and its importance: the rarer the feature, the higher. Importance 0 marks
    /// features that training saw too rarely.
    pub buckets: Cow<'static, [[u8; 2]]>,
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
            unit: 0.0,
            bias: 0.0,
            counts: [[0.0; 2]; COUNTS],
            buckets: Cow::Owned(vec![[0; 2]; BUCKETS]),
        }
    }

    /// Reads a weights file; `None` if it is not one of this version.
    #[must_use]
    pub fn parse(bytes: &'static [u8]) -> Option<Self> {
        let (header, buckets) = bytes.split_at_checked(HEADER)?;
        let (start, numbers) = header.split_at_checked(8)?;
        let (buckets, rest) = buckets.as_chunks();
        let is_whole = buckets.len() == BUCKETS && rest.is_empty();
        if start != [MAGIC, VERSION.to_le_bytes()].as_flattened() || !is_whole {
            return None;
        }
        let mut numbers = numbers.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
        let mut model = Self {
            unit: numbers.next()?,
            bias: numbers.next()?,
            counts: [[0.0; 2]; COUNTS],
            buckets: Cow::Borrowed(buckets),
        };
        for number in model.counts.as_flattened_mut() {
            *number = numbers.next()?;
        }
        Some(model)
    }

    /// The weights file of this model.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + BUCKETS * 2);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        let numbers = [self.unit, self.bias]
            .into_iter()
            .chain(self.counts.into_iter().flatten());
        bytes.extend(numbers.flat_map(f32::to_le_bytes));
        bytes.extend_from_slice(self.buckets.as_flattened());
        bytes
    }

    /// The log-odds that what was seen deserves the powerful model.
    #[must_use]
    pub fn score(&self, features: &Features) -> f64 {
        self.sum(&self.by_block(features), &self.by_count(features))
    }

    /// The probability that what was seen deserves the powerful model.
    #[must_use]
    pub fn probability(&self, features: &Features) -> f64 {
        sigmoid(self.score(features))
    }

    /// The score of what each block and each count adds.
    pub(super) fn sum(&self, blocks: &[f64; BLOCKS], counts: &[f64; COUNTS]) -> f64 {
        f64::from(self.bias) + blocks.iter().sum::<f64>() + counts.iter().sum::<f64>()
    }

    /// What each block adds to the score: the longer the block, the less each bucket in it.
    pub(super) fn by_block(&self, features: &Features) -> [f64; BLOCKS] {
        let mut sums = [0.0; BLOCKS];
        for ((sum, buckets), scale) in sums.iter_mut().zip(&features.blocks).zip(SCALES) {
            let (mut weighted, mut length) = (0_i32, 0_i32);
            for bucket in buckets {
                let [weight, importance] = self.buckets[*bucket as usize];
                let importance = i32::from(importance);
                weighted += i32::from(weight.cast_signed()) * importance;
                length += importance * importance;
            }
            *sum = f64::from(self.unit) * f64::from(scale) * f64::from(weighted) / f64::from(length.max(1)).sqrt();
        }
        sums
    }

    /// What each count adds to the score.
    pub(super) fn by_count(&self, features: &Features) -> [f64; COUNTS] {
        let mut sums = [0.0; COUNTS];
        for ((sum, [average, weight]), count) in sums.iter_mut().zip(self.counts).zip(features.counts) {
            *sum = f64::from(weight) * f64::from(count - average);
        }
        sums
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
