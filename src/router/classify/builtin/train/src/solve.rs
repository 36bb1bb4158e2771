//! Regularised logistic regression, solved the same way every time: L-BFGS in f64, every sum in a fixed order.

use gem_setup::router::classify::builtin::math::{sigmoid, softplus};

/// The past steps from which L-BFGS estimates the curvature.
const MEMORY: usize = 12;
const STEPS: usize = 120;
/// The problem is solved when the gradient has shrunk to this fraction of its first length.
const TOLERANCE: f64 = 1e-4;

/// Columns with their values.
pub(crate) type Values = Vec<(u32, f32)>;

/// Target and weight of a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Aim {
    /// The probability to predict.
    pub(crate) target: f64,
    pub(crate) weight: f64,
}

/// A linear model.
pub(crate) struct Solution {
    pub(crate) weights: Vec<f64>,
    pub(crate) bias: f64,
}

/// The linear model that minimises the logistic loss over `rows` plus `penalty`/2 times the sum of the squared weights.
pub(crate) fn solve(rows: &[(&Values, Aim)], columns: usize, penalty: f64) -> Solution {
    // The weights, followed by the bias.
    let mut at = vec![0.0; columns + 1];
    let (mut loss, mut gradient) = evaluate(rows, penalty, &at);
    let target = dot(&gradient, &gradient) * TOLERANCE * TOLERANCE;
    let mut past: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
    for _ in 0..STEPS {
        let direction = direction(&gradient, &past);
        let slope = dot(&gradient, &direction);
        let mut length = 1.0;
        // Halves the step until the loss decreases by a small part of the predicted decrease (Armijo's rule).
        let (next, next_loss, next_gradient) = loop {
            let next: Vec<f64> = at.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let (next_loss, next_gradient) = evaluate(rows, penalty, &next);
            if next_loss <= loss + 1e-4 * length * slope || length < 1e-9 {
                break (next, next_loss, next_gradient);
            }
            length *= 0.5;
        };
        let moved: Vec<f64> = next.iter().zip(&at).map(|(new, old)| new - old).collect();
        let turned: Vec<f64> = next_gradient
            .iter()
            .zip(&gradient)
            .map(|(new, old)| new - old)
            .collect();
        if dot(&moved, &turned) > 1e-12 {
            if past.len() == MEMORY {
                past.remove(0);
            }
            past.push((moved, turned));
        }
        (at, loss, gradient) = (next, next_loss, next_gradient);
        if dot(&gradient, &gradient) <= target {
            break;
        }
    }
    let bias = at.pop().unwrap_or_default();
    Solution { weights: at, bias }
}

/// The two-loop recursion of L-BFGS.
fn direction(gradient: &[f64], past: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(past.len());
    for (moved, turned) in past.iter().rev() {
        let alpha = dot(moved, &q) / dot(moved, turned);
        add(&mut q, -alpha, turned);
        alphas.push(alpha);
    }
    let scale = past.last().map_or_else(
        || 1.0 / dot(gradient, gradient).sqrt().max(1e-12),
        |(moved, turned)| dot(moved, turned) / dot(turned, turned),
    );
    q.iter_mut().for_each(|x| *x *= scale);
    for ((moved, turned), alpha) in past.iter().zip(alphas.into_iter().rev()) {
        let beta = dot(turned, &q) / dot(moved, turned);
        add(&mut q, alpha - beta, moved);
    }
    q
}

/// The loss at the weights and bias `at`, and its gradient.
fn evaluate(rows: &[(&Values, Aim)], penalty: f64, at: &[f64]) -> (f64, Vec<f64>) {
    let bias = at.len() - 1;
    let weights = &at[..bias];
    let mut loss = 0.5 * penalty * dot(weights, weights);
    let mut gradient: Vec<f64> = weights.iter().map(|w| penalty * w).collect();
    gradient.push(0.0);
    for (values, aim) in rows {
        let score = values.iter().fold(at[bias], |sum, (column, value)| {
            sum + at[*column as usize] * f64::from(*value)
        });
        loss += aim.weight * (softplus(score) - aim.target * score);
        let pull = aim.weight * (sigmoid(score) - aim.target);
        for (column, value) in *values {
            gradient[*column as usize] += pull * f64::from(*value);
        }
        gradient[bias] += pull;
    }
    (loss, gradient)
}

/// Sums in four lanes, which the compiler can vectorise without changing their order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<4>();
    let (b, b_rest) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum += x * y;
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(x, y)| x * y);
    sums.into_iter().chain(rest).fold(0.0, |sum, x| sum + x)
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    for (x, y) in to.iter_mut().zip(what) {
        *x += factor * y;
    }
}
