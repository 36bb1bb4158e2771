//! Measures predictions.

use std::fmt;

use crate::corpus::Sample;

const BINS: usize = 10;
/// The thresholds of the curve, in percent.
const CURVE: [u8; 9] = [10, 20, 30, 40, 50, 60, 70, 80, 90];

/// A row with the probability that it needs the powerful model.
#[derive(Clone, Copy)]
pub(crate) struct Prediction<'a> {
    pub(crate) probability: f64,
    pub(crate) row: &'a Sample,
}

impl Prediction<'_> {
    fn is_right(self) -> bool {
        (self.probability >= 0.5) == self.row.pro()
    }

    /// The probability of the predicted tier.
    const fn confidence(self) -> f64 {
        self.probability.max(1.0 - self.probability)
    }
}

/// The printed measures of a set of predictions.
pub(crate) struct Report<'a>(pub(crate) &'a [Prediction<'a>]);

impl Report<'_> {
    /// The share of right predictions among those that `keep` accepts.
    fn accuracy(&self, keep: impl Fn(&Sample) -> bool) -> f64 {
        let kept = || self.0.iter().filter(|prediction| keep(prediction.row));
        share(
            kept().filter(|prediction| prediction.is_right()).count(),
            kept().count(),
        )
    }

    /// The average accuracy of the two labels.
    fn balanced(&self) -> f64 {
        f64::midpoint(self.accuracy(|row| row.pro()), self.accuracy(|row| !row.pro()))
    }

    /// The accuracy of the half with the highest confidence.
    fn confident_half(&self) -> f64 {
        let mut sorted = self.0.to_vec();
        sorted.sort_by(|a, b| b.confidence().total_cmp(&a.confidence()));
        sorted.truncate(self.0.len() / 2);
        Report(&sorted).accuracy(|_| true)
    }

    /// Expected calibration error of the probability of the powerful model, over bins of equal width.
    fn calibration_error(&self) -> f64 {
        let mut gaps = [0.0; BINS];
        for Prediction { probability, row } in self.0 {
            gaps[((probability * BINS as f64) as usize).min(BINS - 1)] += probability - f64::from(u8::from(row.pro()));
        }
        gaps.iter().map(|gap| gap.abs()).sum::<f64>() / self.0.len().max(1) as f64
    }

    /// A line of the curve: share sent to the powerful model, accuracy, complex requests missed.
    fn at(&self, threshold: f64) -> [f64; 3] {
        let sent = |prediction: &&Prediction<'_>| prediction.probability >= threshold;
        let right = self
            .0
            .iter()
            .filter(|prediction| sent(prediction) == prediction.row.pro())
            .count();
        let missed = self
            .0
            .iter()
            .filter(|prediction| prediction.row.pro() && !sent(prediction))
            .count();
        let complex = self.0.iter().filter(|prediction| prediction.row.pro()).count();
        let all = self.0.len();
        [
            share(self.0.iter().filter(sent).count(), all),
            share(right, all),
            share(missed, complex),
        ]
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, value) in [
            ("accuracy", self.accuracy(|_| true)),
            ("balanced accuracy", self.balanced()),
            ("accuracy, most confident half", self.confident_half()),
            ("accuracy, with a history", self.accuracy(|row| row.follows)),
            ("accuracy, not English", self.accuracy(|row| !row.english)),
            ("accuracy, labeler sure", self.accuracy(|row| row.sure)),
            ("accuracy, labeler not sure", self.accuracy(|row| !row.sure)),
            ("calibration error, 10 equal bins", self.calibration_error()),
        ] {
            if value.is_finite() {
                writeln!(f, "{what:<34}{value:.4}")?;
            }
        }
        writeln!(f, "threshold  share to pro  accuracy  complex missed")?;
        for percent in CURVE {
            let [sent, right, missed] = self.at(f64::from(percent) / 100.0);
            writeln!(
                f,
                "     0.{percent}         {sent:.3}     {right:.3}           {missed:.3}"
            )?;
        }
        Ok(())
    }
}

/// `part` of `whole`; NaN if `whole` is 0.
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
