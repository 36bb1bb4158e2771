//! The client's `maxOutputTokens`, held for engines that ignore it (FACTS section 5).
//!
//! The engine's tokens are not known here. A token is taken for four ASCII or two other characters, which is rather more than models
//! make of it: an answer the engine itself has kept short enough is not cut.

use bytes::Bytes;
use serde_json::Value;

/// Quarters of a token.
const TOKEN: u64 = 4;

/// What is left of a client's limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    quarters: u64,
}

impl Budget {
    /// The budget of `max_output_tokens`.
    pub(super) fn new(max_output_tokens: u32) -> Self {
        Self {
            quarters: u64::from(max_output_tokens) * TOKEN,
        }
    }

    /// Takes the text of `answer`, a `GenerateContentResponse` or a piece of one, from the budget; gives back the answer cut at the
    /// limit, and with the finish reason that says so, if there is more of it.
    pub(super) fn cut(&mut self, answer: &[u8]) -> Option<Bytes> {
        let mut answer: Value = serde_json::from_slice(answer).ok()?;
        let candidate = answer.get_mut("candidates")?.get_mut(0)?;
        let parts = candidate.get_mut("content")?.get_mut("parts")?.as_array_mut()?;
        let mut is_cut = false;
        for part in parts {
            if let Some(Value::String(text)) = part.get_mut("text") {
                let fits = self.take(text);
                is_cut |= fits < text.len();
                text.truncate(fits);
            }
        }
        if !is_cut {
            return None;
        }
        candidate["finishReason"] = "MAX_TOKENS".into();
        Some(answer.to_string().into())
    }

    /// How many bytes of `text` fit; they are taken from the budget.
    fn take(&mut self, text: &str) -> usize {
        for (at, c) in text.char_indices() {
            let cost = if c.is_ascii() { 1 } else { 2 };
            match self.quarters.checked_sub(cost) {
                Some(left) => self.quarters = left,
                None => {
                    self.quarters = 0;
                    return at;
                }
            }
        }
        text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> String {
        serde_json::json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]})
            .to_string()
    }

    fn cut(budget: &mut Budget, text: &str) -> Option<(String, String)> {
        let cut: Value = serde_json::from_slice(&budget.cut(answer(text).as_bytes())?).unwrap();
        let candidate = &cut["candidates"][0];
        Some((
            candidate["content"]["parts"][0]["text"].as_str().unwrap().to_owned(),
            candidate["finishReason"].as_str().unwrap().to_owned(),
        ))
    }

    #[test]
    fn an_answer_within_the_limit_is_left_alone() {
        assert_eq!(cut(&mut Budget::new(2), "12345678"), None);
    }

    #[test]
    fn a_longer_answer_is_cut_and_says_so() {
        assert_eq!(
            cut(&mut Budget::new(2), "123456789"),
            Some(("12345678".to_owned(), "MAX_TOKENS".to_owned()))
        );
        assert_eq!(
            cut(&mut Budget::new(1), "日本語"),
            Some(("日本".to_owned(), "MAX_TOKENS".to_owned()))
        );
    }

    #[test]
    fn pieces_of_a_stream_share_the_limit() {
        let mut budget = Budget::new(2);
        assert_eq!(cut(&mut budget, "12345"), None);
        assert_eq!(
            cut(&mut budget, "67890"),
            Some(("678".to_owned(), "MAX_TOKENS".to_owned()))
        );
    }

    #[test]
    fn what_has_no_text_costs_nothing() {
        assert_eq!(Budget::new(0).cut(b"{\"candidates\":[]}"), None);
        assert_eq!(Budget::new(0).cut(b"garbage"), None);
    }
}
