//! How good predictions are.

use std::fmt;

const BINS: usize = 10;

/// A predicted probability of the powerful model, and whether it was right to want it.
#[derive(Clone, Copy)]
pub(crate) struct Prediction {
    pub(crate) probability: f64,
    pub(crate) pro: bool,
}

impl Prediction {
    const fn is_right(self) -> bool {
        (self.probability >= 0.5) == self.pro
    }

    /// The probability of the tier that is predicted.
    const fn confidence(self) -> f64 {
        self.probability.max(1.0 - self.probability)
    }
}

/// The share of predictions that are right.
pub(crate) fn accuracy(predictions: &[Prediction]) -> f64 {
    share(
        predictions.iter().filter(|prediction| prediction.is_right()).count(),
        predictions.len(),
    )
}

/// Everything that is printed of a set of predictions.
pub(crate) struct Report<'a>(pub(crate) &'a [Prediction]);

impl Report<'_> {
    /// The accuracy of the half with the highest confidence.
    fn confident_half(&self) -> f64 {
        let mut sorted = self.0.to_vec();
        sorted.sort_by(|a, b| b.confidence().total_cmp(&a.confidence()));
        sorted.truncate(self.0.len() / 2);
        accuracy(&sorted)
    }

    /// Expected calibration error over bins of equal width: of the probability of the powerful model.
    fn calibration_error(&self) -> f64 {
        let bin = |prediction: &Prediction| ((prediction.probability * BINS as f64) as usize).min(BINS - 1);
        self.gap((0..BINS).map(|wanted| {
            self.0
                .iter()
                .copied()
                .filter(|prediction| bin(prediction) == wanted)
                .collect()
        }))
    }

    /// The same over bins with the same number of predictions in each.
    fn calibration_error_by_mass(&self) -> f64 {
        let mut sorted = self.0.to_vec();
        sorted.sort_by(|a, b| a.probability.total_cmp(&b.probability));
        self.gap((0..BINS).map(|bin| sorted[bin * sorted.len() / BINS..(bin + 1) * sorted.len() / BINS].to_vec()))
    }

    fn gap(&self, bins: impl Iterator<Item = Vec<Prediction>>) -> f64 {
        let gaps = bins.map(|bin| {
            let predicted: f64 = bin.iter().map(|prediction| prediction.probability).sum();
            let seen = bin.iter().filter(|prediction| prediction.pro).count() as f64;
            (predicted - seen).abs()
        });
        gaps.sum::<f64>() / self.0.len().max(1) as f64
    }

    fn count(&self, predicted: bool, labelled: bool) -> usize {
        let predicted_pro = |prediction: &&Prediction| (prediction.probability >= 0.5) == predicted;
        self.0
            .iter()
            .filter(|prediction| prediction.pro == labelled)
            .filter(predicted_pro)
            .count()
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "accuracy                          {:.4}", accuracy(self.0))?;
        writeln!(f, "accuracy, most confident half     {:.4}", self.confident_half())?;
        writeln!(f, "calibration error, 10 equal bins  {:.4}", self.calibration_error())?;
        writeln!(
            f,
            "calibration error, equal mass     {:.4}",
            self.calibration_error_by_mass()
        )?;
        writeln!(f, "                 predicted flash  predicted pro")?;
        writeln!(
            f,
            "labelled flash   {:>15}  {:>13}",
            self.count(false, false),
            self.count(true, false)
        )?;
        writeln!(
            f,
            "labelled pro     {:>15}  {:>13}",
            self.count(false, true),
            self.count(true, true)
        )
    }
}

/// `part` of `whole`, 0 of nothing.
pub(crate) fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}
