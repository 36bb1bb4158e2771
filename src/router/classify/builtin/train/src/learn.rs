//! Trains a model from labelled requests.

use std::collections::HashMap;
use std::thread;

use gem_setup::router::classify::builtin::COUNTS;
use gem_setup::router::classify::builtin::features::{BUCKETS, Features, SCALES};
use gem_setup::router::classify::builtin::math::{ln, sigmoid};
use gem_setup::router::classify::builtin::model::{KIND, Model, SCORES, TYPED, WRITTEN, blend};

use crate::corpus::{FOLDS, Sample, known};
use crate::solve::{Aim, Solution, Values, solve};

/// Strength of the regularisation, by score.
const PENALTIES: [f64; SCORES] = [0.33, 0.5, 0.1];
/// The weight of a written row, and of a row of the supplement.
const BY_RUBRIC: f64 = 1.5;
const SUPPLEMENT: f64 = 0.8;
/// The weight of a real row in the score for written requests, and in the score of the kind.
const REAL_IN_WRITTEN: f64 = 0.15;
const REAL_IN_KIND: f64 = 0.6;
/// The weight in calibration of a row whose labeler was not sure.
const UNSURE_IN_CALIBRATION: f64 = 0.25;
/// Rows of a real group up to this size have full weight; those of larger groups less, so that few people do not decide for all.
const USUAL_GROUP: f64 = 25.0;
const GREATEST_WEIGHT: f64 = 2.5;
/// The share of complex requests that calibration assumes. In the training repositories it is 0.51 (0.54 where the labeler was sure), in
/// two sets from other repositories 0.42 and 0.44, and 0.49 in written rows.
const COMPLEX_SHARE: f64 = 0.46;
/// The weight of one standard deviation of a count, relative to a hashed feature.
const COUNT_SCALE: f64 = 0.05;
/// The number of steps in which importance is stored, per unit of a natural logarithm.
const IMPORTANCE: f64 = 30.0;

/// The training data.
pub(crate) struct Corpus {
    pub(crate) real: Vec<Sample>,
    pub(crate) written: Vec<Sample>,
    /// Written too; used for training, never predicted.
    pub(crate) supplement: Vec<Sample>,
}

/// All samples as rows, and the data that models trained on parts of them share.
pub(crate) struct Trainer<'a> {
    corpus: &'a Corpus,
    /// Importance by bucket; 0 for buckets that are too rare.
    importance: Vec<u8>,
    /// The bucket of each column.
    buckets: Vec<u32>,
    /// Average and standard deviation of each count.
    counts: [[f64; 2]; COUNTS],
    rows: Vec<Row>,
}

/// A sample, prepared for training.
struct Row {
    values: Values,
    fold: u64,
    /// The aim of each score.
    aims: [Aim; SCORES],
}

impl Corpus {
    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.real.iter().chain(&self.written).chain(&self.supplement)
    }

    /// Targets and weights of each sample, in the order of [`Self::samples`].
    fn aims(&self) -> impl Iterator<Item = [Aim; SCORES]> {
        let groups = group_weights(&self.real);
        let aims = |target: f64, weights: [f64; SCORES], kind: f64| {
            let mut aims = weights.map(|weight| Aim { target, weight });
            aims[KIND].target = kind;
            aims
        };
        let real = self.real.iter().map(move |row| {
            let group = groups[&row.group];
            let weight = group * row.confidence();
            aims(
                row.target(),
                [weight, weight * REAL_IN_WRITTEN, group * REAL_IN_KIND],
                1.0,
            )
        });
        let written = self.written.iter().map(|row| (row, BY_RUBRIC));
        let written = written.chain(self.supplement.iter().map(|row| (row, SUPPLEMENT)));
        real.chain(written.map(move |(row, weight)| aims(row.target(), [0.0, weight, weight], 0.0)))
    }
}

impl<'a> Trainer<'a> {
    pub(crate) fn new(corpus: &'a Corpus) -> Self {
        let samples: Vec<&Sample> = corpus.samples().collect();
        let known = known(&samples);
        let mut trainer = Self {
            corpus,
            importance: vec![0; BUCKETS],
            buckets: known.keys().copied().collect(),
            counts: averages(&samples),
            rows: Vec::new(),
        };
        for (bucket, count) in &known {
            let rarity = ln(samples.len() as f64 / *count as f64) * IMPORTANCE;
            trainer.importance[*bucket as usize] = rarity.round().clamp(1.0, 255.0) as u8;
        }
        trainer.buckets.sort_unstable();
        let columns: HashMap<u32, u32> = (0..)
            .zip(&trainer.buckets)
            .map(|(column, bucket)| (*bucket, column))
            .collect();
        let rows = samples.iter().zip(corpus.aims()).map(|(sample, aims)| Row {
            values: trainer.values(&sample.features, &columns),
            fold: sample.fold(),
            aims,
        });
        trainer.rows = rows.collect();
        trainer
    }

    /// The values of a row's columns, followed by the counts.
    fn values(&self, features: &Features, columns: &HashMap<u32, u32>) -> Values {
        let mut values = Vec::new();
        for (block, scale) in features.blocks.iter().zip(SCALES) {
            let importance = |bucket: &u32| f64::from(self.importance[*bucket as usize]);
            let length: f64 = block.iter().map(|bucket| importance(bucket) * importance(bucket)).sum();
            let factor = f64::from(scale) / length.max(1.0).sqrt();
            let known = block
                .iter()
                .filter_map(|bucket| Some((*columns.get(bucket)?, (importance(bucket) * factor) as f32)));
            values.extend(known);
        }
        for ((column, count), [average, deviation]) in
            (self.buckets.len() as u32..).zip(features.counts).zip(self.counts)
        {
            values.push((column, ((f64::from(count) - average) / deviation * COUNT_SCALE) as f32));
        }
        values
    }

    /// Trains on the rows of every fold for which `keep` holds, without calibration.
    fn learn(&self, keep: impl Fn(u64) -> bool) -> Model {
        let kept: Vec<&Row> = self.rows.iter().filter(|row| keep(row.fold)).collect();
        let columns = self.buckets.len() + COUNTS;
        let solve = |score: usize| {
            let rows = kept.iter().map(|row| (&row.values, row.aims[score]));
            let rows: Vec<(&Values, Aim)> = rows.filter(|(_, aim)| aim.weight > 0.0).collect();
            solve(&rows, columns, PENALTIES[score])
        };
        // Each score is computed by one thread, so that its sums keep their order.
        let solutions = thread::scope(|scope| {
            let threads = [TYPED, WRITTEN, KIND].map(|score| scope.spawn(move || solve(score)));
            threads.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        self.model(&solutions)
    }

    /// The weights of `solutions`, rounded as a model stores them.
    fn model(&self, solutions: &[Solution; SCORES]) -> Model {
        let mut model = Model::blank();
        for bucket in &self.buckets {
            model.buckets[*bucket as usize][SCORES] = self.importance[*bucket as usize];
        }
        for (score, solution) in solutions.iter().enumerate() {
            let (weights, counts) = solution.weights.split_at(self.buckets.len());
            let unit = unit(weights);
            for (bucket, weight) in self.buckets.iter().zip(weights) {
                let byte = (weight / unit).round().clamp(-127.0, 127.0) as i8;
                model.buckets[*bucket as usize][score] = byte.cast_unsigned();
            }
            (model.units[score], model.biases[score]) = (unit as f32, solution.bias as f32);
            for ((slot, weight), [_, deviation]) in model.counts.iter_mut().zip(counts).zip(self.counts) {
                slot[score] = (weight * COUNT_SCALE / deviation) as f32;
            }
        }
        model.averages = self.counts.map(|[average, _]| average as f32);
        model
    }

    /// Trains on the rows of every fold for which `keep` holds, and calibrates on predictions for left-out rows: the first two scores on
    /// rows of their kind, then the result on real rows.
    pub(crate) fn learn_calibrated(&self, keep: impl Fn(u64) -> bool) -> Model {
        let (mut real, mut written) = (Vec::new(), Vec::new());
        let weights = group_weights(&self.corpus.real);
        for fold in (0..FOLDS).filter(|fold| keep(*fold)) {
            let model = self.learn(|other| keep(other) && other != fold);
            for row in self.corpus.real.iter().filter(|row| row.fold() == fold) {
                let weight = weights[&row.group] * if row.sure { 1.0 } else { UNSURE_IN_CALIBRATION };
                real.push((model.scores(&row.features), row.target(), weight));
            }
            for row in self.corpus.written.iter().filter(|row| row.fold() == fold) {
                written.push((model.scores(&row.features)[WRITTEN], row.target(), 1.0));
            }
        }
        let on_real = |score: &dyn Fn([f64; SCORES]) -> f64| {
            let scored = real
                .iter()
                .map(|(scores, target, weight)| (score(*scores), *target, *weight));
            calibrate(&with_usual_share(&scored.collect::<Vec<_>>()))
        };
        let mut scales = [on_real(&|scores| scores[TYPED]), calibrate(&written)];
        let whole = on_real(&|scores| {
            let [typed, written] = scales;
            let [typed, written] = [scaled(scores[TYPED], typed), scaled(scores[WRITTEN], written)];
            blend(scores[KIND], [typed, written, scores[KIND]])
        });
        for scale in &mut scales {
            *scale = [scale[0] * whole[0], scaled(scale[1], whole)];
        }
        let mut model = self.learn(keep);
        (0..)
            .zip(scales)
            .for_each(|(score, scale)| rescale(&mut model, score, scale));
        model
    }
}

/// `slope` times the score plus `offset`.
fn scaled(score: f64, [slope, offset]: [f64; 2]) -> f64 {
    score * slope + offset
}

/// Scales one score of the model.
fn rescale(model: &mut Model, score: usize, scale: [f64; 2]) {
    model.units[score] *= scale[0] as f32;
    model.biases[score] = scaled(f64::from(model.biases[score]), scale) as f32;
    for weights in &mut model.counts {
        weights[score] *= scale[0] as f32;
    }
}

/// The weight of each row of a real group.
fn group_weights(real: &[Sample]) -> HashMap<u64, f64> {
    let mut sizes: HashMap<u64, f64> = HashMap::new();
    for row in real {
        *sizes.entry(row.group).or_default() += 1.0;
    }
    let weight = |size: f64| (USUAL_GROUP / size).sqrt().min(GREATEST_WEIGHT);
    sizes.into_iter().map(|(group, size)| (group, weight(size))).collect()
}

/// Score, target and weight of a row for calibration.
type Scored = (f64, f64, f64);

/// Each row once as complex and once as simple, weighted so that complex requests have the share [`COMPLEX_SHARE`].
fn with_usual_share(scores: &[Scored]) -> Vec<Scored> {
    let pro: f64 = scores.iter().map(|(_, target, weight)| target * weight).sum();
    let flash: f64 = scores.iter().map(|(_, target, weight)| (1.0 - target) * weight).sum();
    let halves = |&(score, target, weight): &Scored| {
        let (as_pro, as_flash) = (
            target * COMPLEX_SHARE / pro,
            (1.0 - target) * (1.0 - COMPLEX_SHARE) / flash,
        );
        [(1.0, as_pro), (0.0, as_flash)].map(|(target, share)| (score, target, weight * share * (pro + flash)))
    };
    scores.iter().flat_map(halves).collect()
}

/// The unit of the stored weights: fine enough for most weights; a few large ones are clipped.
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

/// Platt's calibration by Newton's method: the slope and offset of the log-odds for which the targets are most likely.
fn calibrate(scores: &[Scored]) -> [f64; 2] {
    let (mut slope, mut offset) = (1.0, 0.0);
    for _ in 0..50 {
        // Gradient and Hessian; a tiny value on the diagonal keeps the Hessian invertible.
        let (mut g, mut h) = ([0.0; 2], [1e-6, 0.0, 1e-6]);
        for (score, target, weight) in scores {
            let p = sigmoid(slope * score + offset);
            let miss = weight * (p - target);
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
