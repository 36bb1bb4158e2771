//! The built-in classifier: no model, no network, no wait.

use crate::router::{Tier, Turn, Verdict};

/// Classifies `request` in the light of `history` (oldest turn first).
#[must_use]
pub fn classify(request: &str, history: &[Turn]) -> Verdict {
    let long = request.len() + history.iter().map(|turn| turn.text.len()).sum::<usize>() > 400;
    Verdict {
        tier: if long { Tier::Pro } else { Tier::Flash },
        probability: None,
        reasoning: "placeholder: by length".to_owned(),
    }
}
