//! Recognises classification requests and builds their answers.

use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use serde::Serialize;

use super::generate::GenerateRequest;
use super::path::StreamFormat;
use super::tokens::Usage;
use crate::router::Tier;
use crate::router::contents::Content;

/// The reserved part of the deadline, as a divisor: time to answer without the model.
const RESERVE: u32 = 20;
/// The upper limit of the reserved time.
const LONGEST_RESERVE: Duration = Duration::from_millis(250);

/// Whether `request` asks for `{"reasoning", "model_choice"}`: it wants JSON, and these keys appear in its schema, its
/// system instruction or its last turn. Every such client must use the keys (docs/facts.md section 3); the wording does
/// not matter.
pub(super) fn is_classification(request: &GenerateRequest) -> bool {
    if !request.wants_json() {
        return false;
    }
    let system = request.system_text().unwrap_or_default();
    let last = request
        .contents()
        .last()
        .and_then(Content::joined_text)
        .unwrap_or_default();
    let schema = request.schema().unwrap_or_default();
    let places = [&*schema, &*system, &*last];
    ["model_choice", "flash", "pro"]
        .iter()
        .all(|word| places.iter().any(|place| contains_word(place, word)))
}

/// Whether the body of a classification request could look like `body`. This is cheap and right for usual spellings.
pub(super) fn may_be_classification(body: &[u8]) -> bool {
    memmem::find(body, b"model_choice").is_some()
}

fn contains_word(text: &str, word: &str) -> bool {
    memmem::find_iter(text.as_bytes(), word).any(|at| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// The part of `deadline` that the model may use, so that there is time left to answer without it.
pub(super) fn time_for_model(deadline: Duration) -> Duration {
    deadline - (deadline / RESERVE).min(LONGEST_RESERVE)
}

/// The answer to a classification request, a `GenerateContentResponse` whose text is strict JSON.
pub(super) fn render(tier: Tier, reasoning: &str, model: &str, prompt: Usage, stream: Option<StreamFormat>) -> Bytes {
    let choice = ModelChoice {
        reasoning,
        model_choice: tier,
    };
    let text = serde_json::to_string(&choice).unwrap_or_default();
    written(plain_answer(&text, model, prompt), stream)
}

/// The answer `json` in the requested format, as a stream or not.
pub(super) fn written(json: String, stream: Option<StreamFormat>) -> Bytes {
    match stream {
        None => json.into(),
        Some(StreamFormat::Events) => format!("data: {json}\r\n\r\n").into(),
        Some(StreamFormat::Array) => format!("[{json}]").into(),
    }
}

/// A `GenerateContentResponse` with the answer `text` to a prompt of this size.
pub(super) fn plain_answer(text: &str, model: &str, prompt: Usage) -> String {
    let response = Response {
        candidates: [Candidate {
            content: Answer {
                parts: [Text { text }],
                role: "model",
            },
            finish_reason: "STOP",
            index: 0,
        }],
        usage_metadata: prompt.with_answer(text),
        model_version: model,
    };
    serde_json::to_string(&response).unwrap_or_default()
}

#[derive(Serialize)]
struct ModelChoice<'a> {
    reasoning: &'a str,
    model_choice: Tier,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    candidates: [Candidate<'a>; 1],
    usage_metadata: Usage,
    model_version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    content: Answer<'a>,
    finish_reason: &'static str,
    index: u8,
}

#[derive(Serialize)]
struct Answer<'a> {
    parts: [Text<'a>; 1],
    role: &'static str,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_only_whole() {
        assert!(contains_word("`pro`", "pro"));
        assert!(contains_word("gemini-pro", "pro"));
        assert!(!contains_word("provider, prose", "pro"));
        assert!(!contains_word("", "pro"));
    }

    #[test]
    fn time_is_kept_for_answering_without_the_model() {
        assert_eq!(time_for_model(Duration::from_secs(8)), Duration::from_millis(7_750));
        assert_eq!(time_for_model(Duration::from_millis(100)), Duration::from_millis(95));
    }
}
