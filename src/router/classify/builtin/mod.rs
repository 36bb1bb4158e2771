//! The built-in classifier: no model, no network, no wait.
//!
//! A linear model over hashed words and over what a lexicon of many languages knows of them. The path of a request:
//! `parts` separates what is asked from what is pasted and drops talk about models; [`features`] turns that and the
//! history into numbers; [`model`] weighs them. The README beside this file tells how well that works and how to train it again.

mod bits;
pub mod features;
mod fold;
mod hash;
mod history;
mod lexicon;
pub mod math;
pub mod model;
mod parts;
mod rules;
mod text;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use crate::router::{Tier, Turn, Verdict};
use features::Features;
use model::Model;

/// Reads the lexicon and the weights, which takes some 2 ms; without it the first request waits for that.
pub fn prepare() {
    LazyLock::force(&lexicon::LEXICON);
    LazyLock::force(&model::BUILTIN);
}

/// Classifies `request` in the light of `history` (oldest turn first). Takes bounded time whatever the length of either.
#[must_use]
pub fn classify(request: &str, history: &[Turn]) -> Verdict {
    let weighed = Model::builtin().weigh(&Features::of(request, history));
    let (tier, reasoning) = if weighed.probability >= 0.5 {
        (Tier::Pro, rules::complex(weighed.rule))
    } else {
        (Tier::Flash, rules::SIMPLE)
    };
    Verdict {
        tier,
        probability: Some(weighed.probability),
        reasoning: reasoning.into(),
    }
}
