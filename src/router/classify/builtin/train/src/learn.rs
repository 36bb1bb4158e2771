//! From labelled requests to a model.

use std::borrow::Cow;

use gem_setup::router::classify::builtin::features::BUCKETS;
use gem_setup::router::classify::builtin::math::sigmoid;
use gem_setup::router::classify::builtin::model::{HEADS, Model};

use crate::corpus::{FOLDS, Sample};
use crate::solve::{Example, Solution, solve};

/// Strength of the regularisation.
const PENALTY: f64 = 0.5;

/// How much a row of the supplement counts beside a row of the training file.
const SUPPLEMENT: f64 = 0.4;

/// What there is to learn from.
#[derive(Clone, Copy)]
pub(crate) struct Corpus<'a> {
    pub(crate) rows: &'a [Sample],
    pub(crate) supplement: &'a [Sample],
}

impl Corpus<'_> {
    /// Learns from the rows that `keep` accepts, without calibration.
    pub(crate) fn learn(self, keep: impl Fn(&Sample) -> bool) -> Model {
        self.learn_heads(HEADS, keep)
    }

    /// Learns the first `heads` heads only.
    fn learn_heads(self, heads: usize, keep: impl Fn(&Sample) -> bool) -> Model {
        let weighted = self
            .rows
            .iter()
            .map(|row| (row, 1.0))
            .chain(self.supplement.iter().map(|row| (row, SUPPLEMENT)));
        let kept: Vec<_> = weighted.filter(|(row, _)| keep(row)).collect();
        let mut model = Model::blank();
        let mut weights = vec![[0; HEADS]; BUCKETS];
        for head in 0..heads {
            let examples: Vec<_> = kept
                .iter()
                .filter_map(|(row, weight)| example(head, row, *weight))
                .collect();
            let into = weights.iter_mut().map(|heads| &mut heads[head]);
            (model.scales[head], model.biases[head]) = quantise(&solve(&examples, PENALTY), into);
        }
        model.weights = Cow::Owned(weights);
        model
    }

    /// Learns from the rows of every fold for which `keep` holds, and calibrates on predictions for rows that were left out.
    pub(crate) fn learn_calibrated(self, keep: impl Fn(u64) -> bool) -> Model {
        let kept = |row: &Sample| keep(row.fold) || !self.holds(row);
        let mut scores = Vec::new();
        for fold in (0..FOLDS).filter(|fold| keep(*fold)) {
            let model = self.learn_heads(1, |row| kept(row) && (row.fold != fold || !self.holds(row)));
            let left_out = self.rows.iter().filter(|row| row.fold == fold);
            scores.extend(left_out.map(|row| (f64::from(model.weigh(&row.features).score), row.pro)));
        }
        let mut model = self.learn(kept);
        model.calibration = calibrate(&scores);
        model
    }

    /// Whether `row` is one of the rows that are split into folds.
    fn holds(&self, row: &Sample) -> bool {
        self.rows.as_ptr_range().contains(&std::ptr::from_ref(row))
    }
}

/// What `row` teaches a head: the first one the tier, the others their rule, for which only complex requests matter.
fn example(head: usize, row: &Sample, weight: f64) -> Option<Example<'_>> {
    (head == 0 || row.pro).then_some(Example {
        features: &row.features,
        positive: if head == 0 { row.pro } else { row.rule == head },
        weight,
    })
}

/// Stores the weights in a byte each; returns what a unit is worth, and the bias.
fn quantise<'a>(solution: &Solution, into: impl Iterator<Item = &'a mut u8>) -> (f32, f32) {
    let largest = solution
        .weights
        .iter()
        .fold(0.0_f64, |largest, weight| largest.max(weight.abs()));
    let unit = (largest / 127.0).max(f64::MIN_POSITIVE);
    for (byte, weight) in into.zip(&solution.weights) {
        *byte = ((weight / unit).round() as i8).cast_unsigned();
    }
    (unit as f32, solution.bias as f32)
}

/// Platt's calibration: slope and offset of the log-odds that make the labels most likely, by Newton's method.
fn calibrate(scores: &[(f64, bool)]) -> [f32; 2] {
    let (mut slope, mut offset) = (1.0, 0.0);
    for _ in 0..50 {
        // Gradient and Hessian, the latter kept invertible by a little more than nothing.
        let (mut g, mut h) = ([0.0; 2], [1e-6, 0.0, 1e-6]);
        for (score, pro) in scores {
            let p = sigmoid(slope * score + offset);
            let miss = p - f64::from(u8::from(*pro));
            let spread = p * (1.0 - p);
            g = [g[0] + miss * score, g[1] + miss];
            h = [h[0] + spread * score * score, h[1] + spread * score, h[2] + spread];
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        slope -= (h[2] * g[0] - h[1] * g[1]) / determinant;
        offset -= (h[0] * g[1] - h[1] * g[0]) / determinant;
    }
    [slope as f32, offset as f32]
}
