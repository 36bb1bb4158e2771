//! Token counts of prompts and answers, for engines that neither count tokens nor respect the client's limit
//! (docs/facts.md section 5).
//!
//! The engine's tokenizer is not available here. Four ASCII characters or two others count as one token. This gives
//! more tokens than models count, so the engine may send more than fits; an answer that it kept short enough is not
//! cut.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The number of quarters in a token.
const TOKEN: u64 = 4;
/// The longest usage as JSON, with its name, in bytes.
const LONGEST_USAGE: usize = 160;

/// The `usageMetadata` of an answer, with estimated tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Usage {
    prompt_token_count: u64,
    candidates_token_count: u64,
    total_token_count: u64,
}

impl Usage {
    /// The usage of a prompt that consists of `texts`, before its answer.
    pub(super) fn of_prompt<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let quarters = texts.into_iter().map(|text| quarters(text.as_ref())).sum();
        Self {
            prompt_token_count: tokens(quarters),
            ..Self::default()
        }
        .with(0)
    }

    /// The usage of the same prompt with the answer `text`.
    pub(super) fn with_answer(self, text: &str) -> Self {
        self.with(quarters(text))
    }

    fn with(self, answer_quarters: u64) -> Self {
        let answer = tokens(answer_quarters);
        Self {
            candidates_token_count: answer,
            total_token_count: self.prompt_token_count + answer,
            ..self
        }
    }
}

fn quarters(text: &str) -> u64 {
    if text.is_ascii() {
        return text.len() as u64;
    }
    text.chars().map(cost).sum()
}

const fn cost(c: char) -> u64 {
    if c.is_ascii() { 1 } else { 2 }
}

const fn tokens(quarters: u64) -> u64 {
    quarters.div_ceil(TOKEN)
}

/// Counts the tokens of an answer, which may arrive in pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    prompt: Usage,
    /// The client's limit.
    limit: u64,
    spent: u64,
}

/// The parts of an answer that are counted.
#[derive(Deserialize)]
struct Unmetered<'a> {
    #[serde(borrow)]
    candidates: Vec<Candidate<'a>>,
}

#[derive(Deserialize)]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Content<'a>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Vec<Part<'a>>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Cow<'a, str>,
}

/// An answer, or a piece of it, after counting.
#[derive(Debug)]
pub(super) struct Metered {
    pub(super) answer: Bytes,
    /// Whether the limit was reached.
    pub(super) is_cut: bool,
}

impl Meter {
    /// Counts an answer to `prompt` that may have at most `max_output_tokens`.
    pub(super) fn new(prompt: Usage, max_output_tokens: Option<u32>) -> Self {
        Self {
            prompt,
            limit: max_output_tokens.map_or(u64::MAX, |limit| u64::from(limit) * TOKEN),
            spent: 0,
        }
    }

    /// Counts `answer`, a `GenerateContentResponse` or a piece of one. Returns it with its usage (unless the engine
    /// states the usage itself), cut at the limit with the matching finish reason.
    pub(super) fn count(&mut self, answer: Bytes) -> Metered {
        if let Some(answer) = self.count_unchanged(&answer) {
            return Metered { answer, is_cut: false };
        }
        let Ok(mut counted) = serde_json::from_slice::<Value>(&answer) else {
            return Metered { answer, is_cut: false };
        };
        let is_cut = self.cut(&mut counted).unwrap_or_default();
        let states_usage = counted
            .pointer("/usageMetadata/totalTokenCount")
            .is_some_and(Value::is_u64);
        if states_usage && !is_cut {
            return Metered { answer, is_cut };
        }
        if let Value::Object(counted) = &mut counted {
            counted.insert("usageMetadata".to_owned(), json!(self.prompt.with(self.spent)));
        }
        Metered {
            answer: counted.to_string().into(),
            is_cut,
        }
    }

    /// Counts an answer that fits and has no usage, and appends the usage to its text. Nearly every answer is one, and this
    /// takes a fraction of the time that a parsed copy does.
    fn count_unchanged(&mut self, answer: &[u8]) -> Option<Bytes> {
        if memmem::find(answer, br#""usageMetadata""#).is_some() {
            return None;
        }
        let read: Unmetered<'_> = serde_json::from_slice(answer).ok()?;
        let parts = &read.candidates.first()?.content.parts;
        let spent = self.spent + parts.iter().map(|part| quarters(&part.text)).sum::<u64>();
        if spent > self.limit {
            return None;
        }
        let mut counted = Vec::with_capacity(answer.len() + LONGEST_USAGE);
        counted.extend_from_slice(answer.trim_ascii_end().strip_suffix(b"}")?);
        counted.extend_from_slice(br#","usageMetadata":"#);
        serde_json::to_writer(&mut counted, &self.prompt.with(spent)).ok()?;
        counted.push(b'}');
        self.spent = spent;
        Some(counted.into())
    }

    fn cut(&mut self, answer: &mut Value) -> Option<bool> {
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
        if is_cut {
            candidate["finishReason"] = "MAX_TOKENS".into();
        }
        Some(is_cut)
    }

    /// The number of bytes of `text` that fit; subtracts them from the rest.
    fn take(&mut self, text: &str) -> usize {
        if text.is_ascii() {
            let left = usize::try_from(self.limit - self.spent).unwrap_or(usize::MAX);
            let fits = text.len().min(left);
            self.spent += fits as u64;
            return fits;
        }
        for (at, c) in text.char_indices() {
            if self.spent + cost(c) > self.limit {
                self.spent = self.limit;
                return at;
            }
            self.spent += cost(c);
        }
        text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Value {
        json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]})
    }

    fn meter(limit: u32) -> Meter {
        Meter::new(Usage::of_prompt(["12345678", "9"]), Some(limit))
    }

    fn count(meter: &mut Meter, text: &str) -> (String, String, Value) {
        let counted = meter.count(answer(text).to_string().into());
        let counted: Value = serde_json::from_slice(&counted.answer).unwrap();
        let candidate = &counted["candidates"][0];
        (
            candidate["content"]["parts"][0]["text"].as_str().unwrap().to_owned(),
            candidate["finishReason"].as_str().unwrap().to_owned(),
            counted["usageMetadata"].clone(),
        )
    }

    fn usage(prompt: u64, answer: u64) -> Value {
        json!({"promptTokenCount": prompt, "candidatesTokenCount": answer, "totalTokenCount": prompt + answer})
    }

    #[test]
    fn answers_within_the_limit_stay_whole() {
        let whole = ("12345678".to_owned(), "STOP".to_owned(), usage(3, 2));
        assert_eq!(count(&mut meter(2), "12345678"), whole);
        assert_eq!(
            count(&mut Meter::new(Usage::of_prompt(["123456789"]), None), "12345678"),
            whole
        );
    }

    #[test]
    fn longer_answers_are_cut_and_say_so() {
        let cut = |text: &str, tokens| (text.to_owned(), "MAX_TOKENS".to_owned(), usage(3, tokens));
        assert_eq!(count(&mut meter(2), "123456789"), cut("12345678", 2));
        assert_eq!(count(&mut meter(1), "日本語"), cut("日本", 1));
    }

    #[test]
    fn pieces_of_a_stream_share_the_limit() {
        let mut meter = meter(2);
        assert_eq!(count(&mut meter, "12345").2, usage(3, 2));
        assert_eq!(count(&mut meter, "67890").0, "678");
    }

    #[test]
    fn usage_that_an_engine_states_is_kept() {
        let mut stated = answer("12");
        stated["usageMetadata"] = json!({"totalTokenCount": 9});
        let counted = meter(2).count(stated.to_string().into());
        assert_eq!(serde_json::from_slice::<Value>(&counted.answer).unwrap(), stated);
    }

    #[test]
    fn a_usage_without_a_total_is_replaced() {
        let mut partly = answer("12");
        partly["usageMetadata"] = json!({"promptTokenCount": 9});
        let counted = meter(2).count(partly.to_string().into()).answer;
        let counted: Value = serde_json::from_slice(&counted).unwrap();
        assert_eq!(counted["usageMetadata"], usage(3, 1));
    }

    #[test]
    fn other_answers_pass_unchanged() {
        assert_eq!(meter(0).count("garbage".into()).answer, "garbage");
        assert!(!meter(0).count("{\"candidates\":[]}".into()).is_cut);
    }
}
