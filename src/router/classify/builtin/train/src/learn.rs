//! From labelled requests to a model.

use std::borrow::Cow;
use std::collections::HashMap;

use gem_setup::router::classify::builtin::COUNTS;
use gem_setup::router::classify::builtin::features::{BUCKETS, Features, SCALES};
use gem_setup::router::classify::builtin::math::{ln, sigmoid};
use gem_setup::router::classify::builtin::model::Model;

use crate::corpus::{FOLDS, Sample, known};
use crate::solve::{Example, solve};

/// Strength of the regularisation.
const PENALTY: f64 = 0.33;
/// How much a row counts whose labeler was not sure: in training, and in calibration.
const UNSURE: f64 = 0.2;
const UNSURE_IN_CALIBRATION: f64 = 0.25;
/// How much a written row counts.
const WRITTEN: f64 = 1.5;
/// How much a row of the supplement counts.
const SUPPLEMENT: f64 = 1.0;
/// Rows of a real group of this size count once; those of larger groups less, so that few people do not decide for all.
const USUAL_GROUP: f64 = 25.0;
const GREATEST_WEIGHT: f64 = 2.5;
/// The share of complex requests that calibration supposes. In the repositories trained on it is 0.51 (0.54 where the labeler was
/// sure), in two sets from other repositories 0.42 and 0.44; written rows have 0.49.
const COMPLEX_SHARE: f64 = 0.46;
/// What one standard deviation of a count is beside the hashed features.
const COUNT_SCALE: f64 = 0.05;
/// Importance is stored in these parts of a natural logarithm.
const IMPORTANCE: f64 = 30.0;

/// What there is to learn from.
pub(crate) struct Corpus {
    /// Real requests, on which calibration is fitted.
    pub(crate) real: Vec<Sample>,
    pub(crate) written: Vec<Sample>,
    /// Trained on, never predicted.
    pub(crate) supplement: Vec<Sample>,
}

/// All samples as examples, and what is the same for every model trained on part of them.
pub(crate) struct Trainer<'a> {
    corpus: &'a Corpus,
    /// Importance by bucket; 0 for buckets that are too rare.
    importance: Vec<u8>,
    /// The column of each bucket, and the bucket of each column.
    buckets: Vec<u32>,
    /// Average and standard deviation of each count.
    counts: [[f64; 2]; COUNTS],
    examples: Vec<Example>,
}

impl Corpus {
    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.real.iter().chain(&self.written).chain(&self.supplement)
    }
}

impl<'a> Trainer<'a> {
    pub(crate) fn new(corpus: &'a Corpus) -> Self {
        let samples: Vec<&Sample> = corpus.samples().collect();
        let known = known(&samples);
        let mut trainer = Self {
            corpus,
            importance: vec![0; BUCKETS],
            buckets: Vec::new(),
            counts: averages(&samples),
            examples: Vec::new(),
        };
        for (bucket, count) in &known {
            let rarity = ln(samples.len() as f64 / *count as f64) * IMPORTANCE;
            trainer.importance[*bucket as usize] = rarity.round().clamp(1.0, 255.0) as u8;
        }
        trainer.buckets = known.into_keys().collect();
        trainer.buckets.sort_unstable();
        let columns: HashMap<u32, u32> = (0..)
            .zip(&trainer.buckets)
            .map(|(column, bucket)| (*bucket, column))
            .collect();
        let supplement = corpus.real.len() + corpus.written.len();
        let weights = group_weights(&corpus.real);
        trainer.examples = (0..)
            .zip(&samples)
            .map(|(at, sample)| Example {
                values: trainer.values(&sample.features, &columns),
                positive: sample.pro,
                weight: match weights.get(&sample.group) {
                    Some(weight) if sample.sure => *weight,
                    Some(weight) => UNSURE * weight,
                    None if at >= supplement => SUPPLEMENT,
                    None => WRITTEN,
                },
            })
            .collect();
        trainer
    }

    /// The columns of a row with their values, after which come the counts.
    fn values(&self, features: &Features, columns: &HashMap<u32, u32>) -> Vec<(u32, f64)> {
        let mut values = Vec::new();
        for (block, scale) in features.blocks.iter().zip(SCALES) {
            let importance = |bucket: &u32| f64::from(self.importance[*bucket as usize]);
            let length: f64 = block.iter().map(|bucket| importance(bucket) * importance(bucket)).sum();
            let factor = f64::from(scale) / length.max(1.0).sqrt();
            let known = block
                .iter()
                .filter_map(|bucket| Some((*columns.get(bucket)?, importance(bucket) * factor)));
            values.extend(known);
        }
        for ((column, count), [average, deviation]) in
            (self.buckets.len() as u32..).zip(features.counts).zip(self.counts)
        {
            values.push((column, (f64::from(count) - average) / deviation * COUNT_SCALE));
        }
        values
    }

    /// Learns from the rows that `keep` accepts, without calibration.
    pub(crate) fn learn(&self, keep: impl Fn(&Sample) -> bool) -> Model {
        let rows = self.corpus.samples().zip(&self.examples);
        let kept: Vec<&Example> = rows
            .filter(|(sample, _)| keep(sample))
            .map(|(_, example)| example)
            .collect();
        let solution = solve(&kept, self.buckets.len() + COUNTS, PENALTY);
        let (weights, counts) = solution.weights.split_at(self.buckets.len());
        let unit = unit(weights);
        let mut buckets = vec![[0; 2]; BUCKETS];
        for (bucket, weight) in self.buckets.iter().zip(weights) {
            let byte = (weight / unit).round().clamp(-127.0, 127.0) as i8;
            buckets[*bucket as usize] = [byte.cast_unsigned(), self.importance[*bucket as usize]];
        }
        let mut model = Model {
            unit: unit as f32,
            bias: solution.bias as f32,
            buckets: Cow::Owned(buckets),
            ..Model::blank()
        };
        for ((slot, weight), [average, deviation]) in model.counts.iter_mut().zip(counts).zip(self.counts) {
            *slot = [average as f32, (weight * COUNT_SCALE / deviation) as f32];
        }
        model
    }

    /// Learns from the rows of every fold for which `keep` holds, and calibrates on predictions for real rows that were left out.
    pub(crate) fn learn_calibrated(&self, keep: impl Fn(u64) -> bool) -> Model {
        let mut scores = Vec::new();
        let weights = group_weights(&self.corpus.real);
        for fold in (0..FOLDS).filter(|fold| keep(*fold)) {
            let model = self.learn(|row| keep(row.fold()) && row.fold() != fold);
            for row in self.corpus.real.iter().filter(|row| row.fold() == fold) {
                let weight = weights[&row.group] * if row.sure { 1.0 } else { UNSURE_IN_CALIBRATION };
                scores.push((model.score(&row.features), row.pro, weight));
            }
        }
        let mut model = self.learn(|row| keep(row.fold()));
        let [slope, offset] = calibrate(&with_usual_share(&scores));
        model.unit *= slope as f32;
        model.bias = (f64::from(model.bias) * slope + offset) as f32;
        for [_, weight] in &mut model.counts {
            *weight *= slope as f32;
        }
        model
    }
}

/// What each row of a real group counts.
fn group_weights(real: &[Sample]) -> HashMap<u64, f64> {
    let mut sizes: HashMap<u64, f64> = HashMap::new();
    for row in real {
        *sizes.entry(row.group).or_default() += 1.0;
    }
    let weight = |size: f64| (USUAL_GROUP / size).sqrt().min(GREATEST_WEIGHT);
    sizes.into_iter().map(|(group, size)| (group, weight(size))).collect()
}

/// Scores with their weights changed so that complex requests have the share [`COMPLEX_SHARE`].
fn with_usual_share(scores: &[(f64, bool, f64)]) -> Vec<(f64, bool, f64)> {
    let sum = |of: bool| {
        scores
            .iter()
            .filter(|(_, pro, _)| *pro == of)
            .map(|(.., weight)| weight)
            .sum::<f64>()
    };
    let (pro, flash) = (sum(true), sum(false));
    let factor = |is_pro: bool| if is_pro { COMPLEX_SHARE / pro } else { (1.0 - COMPLEX_SHARE) / flash } * (pro + flash);
    scores
        .iter()
        .map(|&(score, is_pro, weight)| (score, is_pro, weight * factor(is_pro)))
        .collect()
}

/// What one step of a stored weight is worth: fine enough for most weights; a few large ones are cut.
fn unit(weights: &[f64]) -> f64 {
    let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
    let largest = weights
        .iter()
        .fold(0.0_f64, |largest, weight| largest.max(weight.abs()));
    let usual = (squares / weights.len().max(1) as f64).sqrt();
    (usual / 12.0).min(largest / 127.0).max(f64::MIN_POSITIVE)
}

/// Average and standard deviation of each count.
fn averages(samples: &[&Sample]) -> [[f64; 2]; COUNTS] {
    let mut averages = [[0.0; 2]; COUNTS];
    let all = samples.len().max(1) as f64;
    for (at, [average, deviation]) in averages.iter_mut().enumerate() {
        let counts = || samples.iter().map(|sample| f64::from(sample.features.counts[at]));
        *average = f64::from((counts().sum::<f64>() / all) as f32);
        let variance = counts()
            .map(|count| (count - *average) * (count - *average))
            .sum::<f64>()
            / all;
        *deviation = variance.sqrt().max(1e-3);
    }
    averages
}

/// Platt's calibration: slope and offset of the log-odds that make the labels most likely, by Newton's method.
fn calibrate(scores: &[(f64, bool, f64)]) -> [f64; 2] {
    let (mut slope, mut offset) = (1.0, 0.0);
    for _ in 0..50 {
        // Gradient and Hessian, the latter kept invertible by a little more than nothing.
        let (mut g, mut h) = ([0.0; 2], [1e-6, 0.0, 1e-6]);
        for (score, pro, weight) in scores {
            let p = sigmoid(slope * score + offset);
            let miss = weight * (p - f64::from(u8::from(*pro)));
            let spread = weight * p * (1.0 - p);
            g = [g[0] + miss * score, g[1] + miss];
            h = [h[0] + spread * score * score, h[1] + spread * score, h[2] + spread];
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        slope -= (h[2] * g[0] - h[1] * g[1]) / determinant;
        offset -= (h[0] * g[1] - h[1] * g[0]) / determinant;
    }
    [slope, offset]
}
