//! The model: three linear scores over hashed features and counts, combined to a probability.
//!
//! ```
//! use gem_setup::router::classify::builtin::features::Features;
//! use gem_setup::router::classify::builtin::model::Model;
//!
//! let judgement = Model::builtin().judge(&Features::of("rename x to y in a.py", &[]));
//! assert!((0.0..=1.0).contains(&judgement.probability));
//! ```

use std::sync::LazyLock;

use super::counts::COUNTS;
use super::features::{BLOCKS, BUCKETS, Features, SCALES};
use super::math::sigmoid;

const MAGIC: [u8; 4] = *b"gemc";
const VERSION: u32 = 5;
/// The length of the part before the buckets: magic, version, and the numbers of [`Model`].
const HEADER: usize = 8 + 4 * (SCORES * 2 + COUNTS * (1 + SCORES));

const _: () = assert!(BUCKETS.is_multiple_of(8), "each bit of the file is a bucket");

/// The number of scores.
pub const SCORES: usize = 3;
/// The score of typed requests: the log-odds that a request needs the powerful model, if a person typed it at work.
pub const TYPED: usize = 0;
/// The score of written requests: the same, if the request reads like those written for the rubric.
pub const WRITTEN: usize = 1;
/// The score of the kind: the log-odds that a person typed the request at work.
pub const KIND: usize = 2;

/// A bucket's weight in each score, in two's complement, and its importance, which is higher for rarer features. All are 0 for features
/// that were too rare in training.
pub type Bucket = [u8; SCORES + 1];

/// A trained model.
///
/// The file contains `gemc`, the version (u32), then as f32 the unit of each score, the bias of each score, the average of each count, and
/// the weight of each count in each score. Then follows a bit for each of [`BUCKETS`] buckets, the lowest first: whether training kept it.
/// For each kept bucket follow its weight in each score (i8) and its importance (u8). All numbers are little-endian.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The value of one unit of a bucket's weight, by score.
    pub units: [f32; SCORES],
    /// The scores of a request without features and with average counts.
    pub biases: [f32; SCORES],
    /// The average of each count.
    pub averages: [f32; COUNTS],
    /// The weights of each count.
    pub counts: [[f32; SCORES]; COUNTS],
    /// The weights of each bucket.
    pub buckets: Vec<Bucket>,
}

/// The model's judgement of a request.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    /// The contribution of each block to the log-odds.
    pub(super) blocks: [f64; BLOCKS],
    /// The contribution of each count to the log-odds.
    pub(super) counts: [f64; COUNTS],
    /// The probability that the request needs the powerful model.
    pub probability: f64,
}

pub(super) static BUILTIN: LazyLock<Model> =
    LazyLock::new(|| Model::parse(include_bytes!("weights.bin")).unwrap_or_else(Model::blank));

impl Model {
    /// The model in this program.
    #[must_use]
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// An untrained model.
    #[must_use]
    pub fn blank() -> Self {
        Self {
            units: [0.0; SCORES],
            biases: [0.0; SCORES],
            averages: [0.0; COUNTS],
            counts: [[0.0; SCORES]; COUNTS],
            buckets: vec![Bucket::default(); BUCKETS],
        }
    }

    /// Parses a weights file; `None` if it is not one of this version.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let (start, numbers) = header.split_at_checked(8)?;
        let (kept, rest) = rest.split_at_checked(BUCKETS / 8)?;
        let (mut buckets, rest) = rest.as_chunks();
        if start != [MAGIC, VERSION.to_le_bytes()].as_flattened() || !rest.is_empty() {
            return None;
        }
        let mut numbers = numbers.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
        let mut model = Self::blank();
        for number in model.numbers_mut() {
            *number = numbers.next()?;
        }
        for (slots, bits) in model.buckets.chunks_mut(8).zip(kept) {
            for (_, slot) in slots.iter_mut().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1) {
                (*slot, buckets) = buckets.split_first().map(|(bucket, rest)| (*bucket, rest))?;
            }
        }
        buckets.is_empty().then_some(model)
    }

    /// The weights file of this model.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.clone().numbers_mut().flat_map(|number| number.to_le_bytes()));
        let is_kept = |bucket: &Bucket| *bucket != Bucket::default();
        let bits = |eight: &[Bucket]| {
            eight
                .iter()
                .rev()
                .fold(0, |bits, bucket| bits << 1 | u8::from(is_kept(bucket)))
        };
        bytes.extend(self.buckets.chunks(8).map(bits));
        bytes.extend(self.buckets.iter().filter(|bucket| is_kept(bucket)).flatten());
        bytes
    }

    /// The numbers before the buckets, in the file's order.
    fn numbers_mut(&mut self) -> impl Iterator<Item = &mut f32> {
        let scores = self.units.iter_mut().chain(&mut self.biases);
        scores.chain(&mut self.averages).chain(self.counts.as_flattened_mut())
    }

    /// The scores of `features`.
    #[must_use]
    pub fn scores(&self, features: &Features) -> [f64; SCORES] {
        self.sum(&self.by_block(features), &self.by_count(features))
    }

    /// Judges `features`: the more they resemble one kind of request, the more that kind's score decides.
    #[must_use]
    pub fn judge(&self, features: &Features) -> Judgement {
        let (blocks, counts) = (self.by_block(features), self.by_count(features));
        let scores = self.sum(&blocks, &counts);
        Judgement {
            blocks: blocks.map(|part| blend(scores[KIND], part)),
            counts: counts.map(|part| blend(scores[KIND], part)),
            probability: sigmoid(blend(scores[KIND], scores)),
        }
    }

    /// The scores, summed from the contributions of blocks and counts.
    fn sum(&self, blocks: &[[f64; SCORES]], counts: &[[f64; SCORES]]) -> [f64; SCORES] {
        let mut sums = self.biases.map(f64::from);
        for part in blocks.iter().chain(counts) {
            for (sum, added) in sums.iter_mut().zip(part) {
                *sum += added;
            }
        }
        sums
    }

    /// The contribution of each block to the scores: the longer the block, the less each bucket contributes.
    fn by_block(&self, features: &Features) -> [[f64; SCORES]; BLOCKS] {
        let mut sums = [[0.0; SCORES]; BLOCKS];
        for ((sums, buckets), scale) in sums.iter_mut().zip(&features.blocks).zip(SCALES) {
            let (mut weighted, mut length) = ([0_i32; SCORES], 0_i32);
            for bucket in buckets {
                let [typed, written, kind, importance] = self.buckets[*bucket as usize];
                let importance = i32::from(importance);
                for (sum, weight) in weighted.iter_mut().zip([typed, written, kind]) {
                    *sum += i32::from(weight.cast_signed()) * importance;
                }
                length += importance * importance;
            }
            let factor = f64::from(scale) / f64::from(length.max(1)).sqrt();
            for ((sum, weighted), unit) in sums.iter_mut().zip(weighted).zip(self.units) {
                *sum = f64::from(unit) * f64::from(weighted) * factor;
            }
        }
        sums
    }

    /// The contribution of each count to the scores.
    fn by_count(&self, features: &Features) -> [[f64; SCORES]; COUNTS] {
        let mut sums = [[0.0; SCORES]; COUNTS];
        let counts = features.counts.iter().zip(&self.averages).zip(&self.counts);
        for (sums, ((count, average), weights)) in sums.iter_mut().zip(counts) {
            *sums = weights.map(|weight| f64::from(weight) * f64::from(count - average));
        }
        sums
    }
}

/// Blends scores, or contributions to them, to the log-odds of a request whose score of the kind is `kind`.
#[must_use]
pub fn blend(kind: f64, scores: [f64; SCORES]) -> f64 {
    let typed = sigmoid(kind);
    typed * scores[TYPED] + (1.0 - typed) * scores[WRITTEN]
}

#[cfg(test)]
mod tests {
    use super::Model;

    #[test]
    fn the_file_form_is_read_back_as_it_was_written() {
        let bytes = Model::builtin().to_bytes();
        assert_eq!(Model::parse(&bytes).as_ref(), Some(Model::builtin()));
    }

    #[test]
    fn the_committed_weights_are_a_model() {
        assert!(Model::builtin().to_bytes() == include_bytes!("weights.bin"));
    }

    #[test]
    fn foreign_and_truncated_files_are_refused() {
        assert_eq!(Model::parse(b""), None);
        assert_eq!(Model::parse(b"gemc"), None);
        let bytes = Model::builtin().to_bytes();
        assert_eq!(Model::parse(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Model::parse(&[bytes.as_slice(), &[0; 4]].concat()), None);
        let mut other = bytes;
        other[4] = 99;
        assert_eq!(Model::parse(&other), None);
    }
}
