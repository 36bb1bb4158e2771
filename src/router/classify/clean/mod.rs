//! Recovers the intended answer from the text of a small model.
//!
//! The requested answer is `{"reasoning": string, "model_choice": "flash"|"pro"}`. Small models wrap it in prose and fences, quote it
//! wrongly, and lose commas and the end. Well-formed JSON is parsed (`strict`); the rest is scanned for `key: value` pairs (`lenient`). The
//! choice comes only from a value of `model_choice`, never from prose, and contradicting values make the answer unusable.
//!
//! ```
//! use gem_setup::router::Tier;
//! use gem_setup::router::classify::clean::{Unusable, clean};
//!
//! assert_eq!(clean("```json\n{\"model_choice\": \"flash\"\n```").map(|answer| answer.tier), Ok(Tier::Flash));
//! assert_eq!(clean("I would take pro."), Err(Unusable::NoChoice));
//! ```

mod choice;
mod lenient;
mod strict;
#[cfg(test)]
mod tests;

use crate::router::{Tier, Verdict};
use choice::Mention;

/// Only the first bytes of a longer answer are read.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Longer reasoning is cut to this number of characters.
const LONGEST_REASONING: usize = 600;
/// The number of nested layers of "JSON inside a JSON string" that are opened.
const LAYERS: usize = 2;

/// A usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The model's choice.
    pub tier: Tier,
    /// The model's reasoning on one line, possibly empty.
    pub reasoning: String,
}

impl From<Answer> for Verdict {
    fn from(answer: Answer) -> Self {
        Self {
            tier: answer.tier,
            probability: None,
            reasoning: answer.reasoning.into(),
        }
    }
}

/// Why an answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No value of `model_choice` names a tier.
    #[error("the model's answer names no choice")]
    NoChoice,
    /// Several different choices, or one that is neither of the two.
    #[error("the model's answer names no clear choice")]
    Unclear,
}

/// Reads the model's answer `text`.
///
/// # Errors
///
/// When the `model_choice` in `text` is not exactly one of `flash` and `pro`.
pub fn clean(text: &str) -> Result<Answer, Unusable> {
    clean_layer(beginning(text, LONGEST_ANSWER).trim(), LAYERS)
}

fn clean_layer(text: &str, layers: usize) -> Result<Answer, Unusable> {
    if layers > 0
        && let Ok(inner) = serde_json::from_str::<String>(text)
    {
        return clean_layer(inner.trim(), layers - 1);
    }
    if let Mention::Tier(tier) = choice::bare(text) {
        return Ok(Answer {
            tier,
            reasoning: String::new(),
        });
    }
    let (mut found, rest) = strict::scan(text);
    if found.is_silent() {
        found = lenient::scan(text);
    } else {
        found.objections(&lenient::scan(&rest));
    }
    match found.conclude() {
        Err(Unusable::NoChoice) if layers > 0 && text.contains("\\\"") => {
            clean_layer(&text.replace("\\\"", "\""), layers - 1)
        }
        outcome => outcome,
    }
}

/// The values of the two keys, if found.
#[derive(Debug, Default)]
struct Found {
    tier: Option<Tier>,
    unclear: bool,
    reasoning: Option<String>,
}

impl Found {
    /// Notes `key: value` if the key is one of the two.
    fn note(&mut self, key: &str, value: &str) {
        match canonical(key).as_str() {
            "modelchoice" => match choice::value(value) {
                Mention::Tier(tier) => self.note_tier(tier),
                Mention::Unclear => self.unclear = true,
                Mention::None => {}
            },
            "reasoning" | "reason" | "explanation" => {
                self.reasoning.get_or_insert_with(|| one_line(value));
            }
            _ => {}
        }
    }

    fn note_tier(&mut self, tier: Tier) {
        if *self.tier.get_or_insert(tier) != tier {
            self.unclear = true;
        }
    }

    /// Adds the choices in `rest`, the text around the well-formed answer, that contradict it.
    fn objections(&mut self, rest: &Self) {
        if let Some(tier) = rest.tier {
            self.note_tier(tier);
        }
    }

    fn is_silent(&self) -> bool {
        self.tier.is_none() && !self.unclear
    }

    fn conclude(self) -> Result<Answer, Unusable> {
        match self.tier {
            _ if self.unclear => Err(Unusable::Unclear),
            None => Err(Unusable::NoChoice),
            Some(tier) => Ok(Answer {
                tier,
                reasoning: self.reasoning.unwrap_or_default(),
            }),
        }
    }
}

/// The letters and digits of a key in lower case, without letters that a misread quote has put before it: `modelchoice`.
fn canonical(key: &str) -> String {
    let key = key.rsplit(['"', '\'', '`']).next().unwrap_or(key);
    key.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// `text` without line breaks and control characters, cut to a length that fits a log line.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LONGEST_REASONING));
    let mut words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let mut length = 0;
    while let Some(word) = words.by_ref().find(|word| !word.is_empty()) {
        let room = LONGEST_REASONING.saturating_sub(length + 1);
        if word.chars().count() > room {
            line.push('…');
            break;
        }
        if length > 0 {
            line.push(' ');
        }
        line.push_str(word);
        length = line.chars().count();
    }
    line
}

/// At most the first `limit` bytes of `text`, cut between characters.
fn beginning(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
