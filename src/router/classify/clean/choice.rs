//! Reads the tier that a value names.

use crate::router::Tier;

/// The choice that a text makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mention {
    /// One tier.
    Tier(Tier),
    /// Both tiers, or a word that is neither.
    Unclear,
    /// No tier, and no words that could mean another choice.
    None,
}

/// Words that may accompany a tier without changing its meaning; `flash-lite` and `not pro` change it.
const HARMLESS: [&str; 9] = [
    "model", "the", "gemini", "preview", "latest", "simple", "complex", "task", "choice",
];

/// Reads the value of `model_choice`: `Flash`, `` `pro` ``, `gemini-2.5-pro`, `flash (SIMPLE)`.
pub(super) fn value(text: &str) -> Mention {
    let mut choice = Mention::None;
    for word in text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        let word = word.to_lowercase();
        choice = match (word.parse::<Tier>(), choice) {
            (Ok(tier), Mention::None) => Mention::Tier(tier),
            (Ok(tier), Mention::Tier(earlier)) if tier == earlier => choice,
            (Err(_), _) if is_harmless(&word) => choice,
            _ => return Mention::Unclear,
        };
    }
    choice
}

/// Reads an answer of a single word, perhaps in quotes.
pub(super) fn bare(text: &str) -> Mention {
    text.trim_matches(|c: char| !c.is_alphanumeric())
        .to_lowercase()
        .parse()
        .map_or(Mention::None, Mention::Tier)
}

fn is_harmless(word: &str) -> bool {
    HARMLESS.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit())
}
