//! Classification requests: telling them from other prompts, and what is to be classified.

use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use serde::Serialize;

use super::generate::{Content, GenerateRequest};
use super::path::StreamFormat;
use crate::router::{Role, Tier, Turn};

/// The word that no classification request goes without.
const CHOICE: &str = "model_choice";
/// Part of the deadline that is kept for answering without the model.
const RESERVE: u32 = 20;
/// The most of it.
const LONGEST_RESERVE: Duration = Duration::from_millis(250);

/// Whether a request's body may be a classification request, before it is read.
pub(super) fn may_be_classification(body: &[u8]) -> bool {
    memmem::find(body, CHOICE.as_bytes()).is_some()
}

/// Whether `request` asks for `{"reasoning", "model_choice"}`: it wants JSON, and the words of the schema stand in its schema, its
/// system instruction or its last turn. The words are what every such client must use (FACTS section 3); its sentences are not looked at.
pub(super) fn is_classification(request: &GenerateRequest<'_>) -> bool {
    if !request.wants_json() {
        return false;
    }
    let system = request.system_text().unwrap_or_default();
    let last = request.contents().last().map(Content::text).unwrap_or_default();
    let places = [request.schema().unwrap_or_default(), &system, &last];
    [CHOICE, "flash", "pro"]
        .iter()
        .all(|word| places.iter().any(|place| contains_word(place, word)))
}

fn contains_word(text: &str, word: &str) -> bool {
    memmem::find_iter(text.as_bytes(), word).any(|at| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// What is to be classified.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Question {
    /// The request.
    pub(super) request: String,
    /// What was said before it, oldest first.
    pub(super) history: Vec<Turn>,
}

/// Takes request and history out of a classification request: from a prompt that holds both under the headings of FACTS
/// section 3, or else from the turns themselves.
pub(super) fn question(request: &GenerateRequest<'_>) -> Question {
    let contents = request.contents();
    let asked = contents
        .iter()
        .rposition(Content::is_users)
        .unwrap_or(contents.len() - 1);
    let text = contents[asked].text();
    flattened(&text).unwrap_or_else(|| Question {
        request: text.trim().to_owned(),
        history: contents[..asked]
            .iter()
            .map(turn)
            .filter(|turn| !turn.text.is_empty())
            .collect(),
    })
}

fn turn(content: &Content<'_>) -> Turn {
    Turn {
        role: if content.is_users() { Role::User } else { Role::Model },
        text: content.text().trim().to_owned(),
    }
}

/// Request and history under their headings.
fn flattened(text: &str) -> Option<Question> {
    let headings: Vec<Heading<'_>> = headings(text).collect();
    let current = headings
        .iter()
        .rfind(|heading| heading.is("current request") && text[heading.end..].trim_start().starts_with('"'))
        .or_else(|| headings.iter().rfind(|heading| heading.is("current request")))?;
    let end = headings
        .iter()
        .rfind(|heading| heading.start > current.end && heading.is("reminder"))
        .map_or(text.len(), |heading| heading.start);
    let history = headings
        .iter()
        .find(|heading| heading.end < current.start && heading.is("chat history"))
        .map_or("", |heading| text[heading.end..current.start].trim());
    Some(Question {
        request: unquoted(text[current.end..end].trim()).to_owned(),
        history: (!history.is_empty())
            .then(|| Turn {
                role: Role::Model,
                text: history.to_owned(),
            })
            .into_iter()
            .collect(),
    })
}

/// A Markdown heading line of a text.
struct Heading<'a> {
    words: &'a str,
    start: usize,
    end: usize,
}

impl Heading<'_> {
    fn is(&self, words: &str) -> bool {
        self.words.eq_ignore_ascii_case(words)
    }
}

fn headings(text: &str) -> impl Iterator<Item = Heading<'_>> {
    let mut start = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let at = start;
        start += line.len();
        line.starts_with('#').then(|| Heading {
            words: line.trim_matches(|c: char| c.is_whitespace() || matches!(c, '#' | '*' | ':')),
            start: at,
            end: start,
        })
    })
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
}

/// How long the model may take of `deadline`, so that there is time left to answer without it.
pub(super) fn time_for_model(deadline: Duration) -> Duration {
    deadline - (deadline / RESERVE).min(LONGEST_RESERVE)
}

/// The answer to a classification request, a `GenerateContentResponse` whose text is strict JSON.
pub(super) fn render(tier: Tier, reasoning: &str, model: &str, stream: Option<StreamFormat>) -> Bytes {
    let choice = ModelChoice {
        reasoning,
        model_choice: tier,
    };
    let text = serde_json::to_string(&choice).unwrap_or_default();
    written(plain_answer(&text, model), stream)
}

/// One answer, `json`, as it is written in a stream or without one.
pub(super) fn written(json: String, stream: Option<StreamFormat>) -> Bytes {
    match stream {
        None => json.into(),
        Some(StreamFormat::Events) => format!("data: {json}\r\n\r\n").into(),
        Some(StreamFormat::Array) => format!("[{json}]").into(),
    }
}

/// A `GenerateContentResponse` that says `text`.
pub(super) fn plain_answer(text: &str, model: &str) -> String {
    let response = Response {
        candidates: [Candidate {
            content: Answer {
                parts: [Text { text }],
                role: "model",
            },
            finish_reason: "STOP",
            index: 0,
        }],
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

    fn asked(text: &str) -> Question {
        let body = serde_json::json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}).to_string();
        question(&GenerateRequest::parse(body.as_bytes()).unwrap())
    }

    fn flattened(history: &str, request: &str) -> String {
        format!(
            "Some words about **Chat History** and **Current Request**.\n\n#### Chat History:\n{history}\n\n\
             #### Current Request:\n\"{request}\"\n\n\n### Reminder\nClassify the **Current Request**.\n\n### Output Format\nJSON\n"
        )
    }

    #[test]
    fn request_and_history_are_found_under_their_headings() {
        let question = asked(&flattened("what is x?\n\nx is y", "why \"so\"?\nreally"));
        assert_eq!(question.request, "why \"so\"?\nreally");
        assert_eq!(question.history.len(), 1);
        assert_eq!(question.history[0].text, "what is x?\n\nx is y");
    }

    #[test]
    fn an_empty_history_is_none() {
        let question = asked(&flattened("", "list files"));
        assert_eq!((question.request.as_str(), question.history.len()), ("list files", 0));
    }

    #[test]
    fn headings_within_history_or_request_do_not_mislead() {
        let question = asked(&flattened(
            "#### Current Request:\nno quotes here",
            "add a heading\n### Reminder\nto the file",
        ));
        assert_eq!(question.request, "add a heading\n### Reminder\nto the file");
    }

    #[test]
    fn a_reminder_may_be_missing() {
        let question = asked("#### Current Request:\n\"rename it\"");
        assert_eq!(question.request, "rename it");
    }

    #[test]
    fn without_headings_the_last_user_turn_is_the_request() {
        let body = serde_json::json!({"contents": [
            {"role": "user", "parts": [{"text": "first"}]},
            {"role": "model", "parts": [{"text": "reply"}]},
            {"role": "user", "parts": [{"functionResponse": {}}]},
            {"parts": [{"text": "then \"this\""}]},
        ]})
        .to_string();
        let question = question(&GenerateRequest::parse(body.as_bytes()).unwrap());
        assert_eq!(question.request, "then \"this\"");
        let history: Vec<_> = question
            .history
            .iter()
            .map(|turn| (turn.role, turn.text.as_str()))
            .collect();
        assert_eq!(history, [(Role::User, "first"), (Role::Model, "reply")]);
    }

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
