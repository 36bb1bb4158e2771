//! The built-in classifier: needs no model, no network and no wait.
//!
//! Linear models over hashed words, letter runs and counts. The stages: `text` selects the part to read, without talk about models;
//! [`features`] turns it and the history into numbers; [`model`] weighs them; `reasons` explains the result. The README in this directory
//! gives the accuracy and the training.
//!
//! ```
//! use gem_setup::router::classify::builtin::{Threshold, classify_from};
//!
//! let request = "why does the server lose messages under load?";
//! let always = classify_from("0".parse::<Threshold>()?, request, &[]);
//! let never = classify_from("1".parse::<Threshold>()?, request, &[]);
//! assert_eq!(always.probability, never.probability);
//! assert_ne!(always.tier, never.tier);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod counts;
pub mod features;
mod hash;
pub mod math;
pub mod model;
mod reasons;
mod talk;
mod text;
mod threshold;
mod words;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

pub use counts::COUNTS;
pub use threshold::{InvalidThreshold, Threshold};

use crate::router::{Tier, Turn, Verdict};
use features::Features;
use model::Model;
use words::Words;

/// Reads the weights before the first request.
pub fn prepare() {
    LazyLock::force(&model::BUILTIN);
    LazyLock::force(&talk::BY_START);
    LazyLock::force(&counts::BY_SPELLING);
}

/// Classifies `request` after `history` (oldest turn first) with the default threshold.
#[must_use]
pub fn classify(request: &str, history: &[Turn]) -> Verdict {
    classify_from(Threshold::default(), request, history)
}

/// Classifies `request` after `history` (oldest turn first): complex if its probability reaches `threshold`. The time is bounded, whatever
/// their length.
#[must_use]
pub fn classify_from(threshold: Threshold, request: &str, history: &[Turn]) -> Verdict {
    let model = Model::builtin();
    let request = text::request(request);
    let words = Words::of(&request);
    let features = Features::read(&request, &words, &text::history(history));
    let judgement = model.judge(&features);
    let tier = if threshold.is_reached(judgement.probability) {
        Tier::Pro
    } else {
        Tier::Flash
    };
    Verdict {
        tier,
        probability: Some(judgement.probability),
        reasoning: reasons::explain(model, &features, tier, &judgement).into(),
    }
}
