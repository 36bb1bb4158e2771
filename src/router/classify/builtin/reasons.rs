//! Explains the classifier's decision in words.

use super::counts::reasons;
use super::features::{Block, Features};
use super::model::{Judgement, Model};
use crate::router::Tier;

/// The number of reasons given.
const REASONS_GIVEN: usize = 3;
/// Smaller contributions, in log-odds, are not reasons.
const SLIGHT: f64 = 0.02;

/// Explains why `tier` was chosen: the contributions that favour it most. The request is not quoted, because reasons are logged.
pub(super) fn explain(model: &Model, features: &Features, tier: Tier, judgement: &Judgement) -> String {
    let (start, towards) = match tier {
        Tier::Pro => ("looks complex", 1.0),
        Tier::Flash => ("looks simple", -1.0),
    };
    let follows = !features.blocks[Block::Before as usize].is_empty();
    let names = features.counts.iter().zip(&model.averages).zip(reasons(follows));
    let names = names.map(|((count, average), [above, below])| if count < average { below } else { above });
    let mut found: Vec<(f64, &str)> = judgement.counts.into_iter().zip(names).collect();
    found.sort_by(|a, b| (b.0 * towards).total_cmp(&(a.0 * towards)));
    let sum = |of: &[Block]| of.iter().map(|block| judgement.blocks[*block as usize]).sum::<f64>();
    // The least helpful reasons come last, whatever their weight.
    found.push((sum(&[Block::Before, Block::Offer]), "what was said before"));
    found.push((sum(&[Block::Words, Block::Letters, Block::Places]), "its wording"));
    found.retain(|(weight, _)| weight * towards > SLIGHT);
    let given: Vec<&str> = found.iter().take(REASONS_GIVEN).map(|(_, reason)| *reason).collect();
    if given.is_empty() {
        format!("{start}, but little speaks for either model")
    } else {
        format!("{start}: {}", given.join("; "))
    }
}
