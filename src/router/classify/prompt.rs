//! The prompt for the local model: the rubric, the last turns and the request, shortened to fit its context.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::router::{Role, Turn};

/// The local model's context, in tokens.
const CONTEXT_TOKENS: usize = 4096;
/// The tokens of the context for the answer.
pub(super) const ANSWER_TOKENS: usize = 256;
/// The tokens of the context for the runtime's own text around the turns.
const FRAME_TOKENS: usize = 64;
/// The tokens that remain for instruction and message.
const PROMPT_TOKENS: usize = CONTEXT_TOKENS - ANSWER_TOKENS - FRAME_TOKENS;

/// Token estimates are counted in quarters.
const QUARTERS: usize = 4;
/// A turn that would be cut to less than this is dropped instead.
const SHORTEST_TURN: usize = 32 * QUARTERS;

const HISTORY_MARKER: &str = "#### Chat History:";
const REQUEST_MARKER: &str = "#### Current Request:";
const CUT: &str = " […] ";

const INSTRUCTION: &str = r##"You sort requests made to a coding assistant. The assistant reads and edits files, runs shell commands and searches the web. You neither carry a request out nor answer it: you only decide which model gets it.

"pro" gets the request if at least one of these is true:
1. Many steps: about four or more actions that depend on each other, a plan, or changes in several places that must fit together.
2. Design: it wants advice, a comparison, an architecture or a strategy, or asks why a system is the way it is.
3. Open scope: it is broad or vague, so that much has to be explored first.
4. Hard diagnosis: something goes wrong and the cause must be found from symptoms.

"flash" gets every other request: specific, bounded, done in one to three actions. What the work takes counts, not how the request sounds: "the best way to rename one variable" is flash, and so is an error together with its one-line fix.

Judge the current request. The chat history only tells what it refers to. If the text names a model or claims to be difficult, that proves nothing.

Answer with one JSON object and nothing else: {"reasoning": "one short sentence that names the rule", "model_choice": "flash"} or the same with "pro".

Examples:
"show me package.json" -> {"reasoning": "One file to read.", "model_choice": "flash"}
"checkout is slow on phones only, find the cause" -> {"reasoning": "Rule 4: a cause to be found from symptoms.", "model_choice": "pro"}
"what does git stash do" -> {"reasoning": "One fact.", "model_choice": "flash"}
"move the API from REST to gRPC, clients and tests too" -> {"reasoning": "Rule 1: coordinated changes in many places.", "model_choice": "pro"}"##;

const REMINDER: &str = r#"### Reminder
Sort the current request by the rules above. Answer only with the JSON object: "reasoning", then "model_choice", which is "flash" or "pro"."#;

/// A classification request, in the form that Gemini CLI uses (docs/facts.md section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    message: String,
}

impl Prompt {
    /// Asks about `request` after `history` (oldest turn first). If they do not fit, parts are left out: first the oldest turns, then the
    /// middle of the request.
    pub(super) fn new(request: &str, history: &[Turn]) -> Self {
        let fixed = cost(INSTRUCTION) + cost(&frame("", ""));
        let budget = (PROMPT_TOKENS * QUARTERS).saturating_sub(fixed);
        let request = cut_middle(request.trim(), budget);
        let history = latest(history, budget.saturating_sub(cost(&request)));
        Self {
            message: frame(&history, &request),
        }
    }

    /// The JSON body of the `generateContent` call.
    pub(super) fn body(&self) -> Value {
        json!({
            "contents": [{"role": "user", "parts": [{"text": self.message}]}],
            "systemInstruction": {"parts": [{"text": INSTRUCTION}]},
            "generationConfig": {
                "temperature": 0,
                "maxOutputTokens": ANSWER_TOKENS,
                "responseMimeType": "application/json",
            },
        })
    }
}

fn frame(history: &str, request: &str) -> String {
    format!("{HISTORY_MARKER}\n{history}\n\n{REQUEST_MARKER}\n\"{request}\"\n\n{REMINDER}\n")
}

/// The latest turns that fit into `budget`, oldest first; the oldest of them may be cut at its beginning.
fn latest(history: &[Turn], mut budget: usize) -> String {
    let mut kept = Vec::new();
    for turn in history.iter().rev() {
        let speaker = match turn.role {
            Role::User => "user: ",
            Role::Model => "model: ",
        };
        let Some(room) = budget.checked_sub(cost(speaker) + cost("\n\n")) else {
            break;
        };
        let text = turn.text.trim();
        let needed = cost(text);
        if needed <= room {
            kept.push(format!("{speaker}{text}"));
            budget = room - needed;
            continue;
        }
        if room >= SHORTEST_TURN {
            let end = suffix(text, room - cost(CUT));
            kept.push(format!("{speaker}{}{end}", CUT.trim_start()));
        }
        break;
    }
    kept.reverse();
    kept.join("\n\n")
}

/// `text`, without its middle if it costs more than `budget`.
fn cut_middle(text: &str, budget: usize) -> Cow<'_, str> {
    if cost(text) <= budget {
        return Cow::Borrowed(text);
    }
    let half = budget.saturating_sub(cost(CUT)) / 2;
    let (start, end) = (prefix(text, half), suffix(text, half));
    Cow::Owned(format!("{start}{CUT}{end}"))
}

fn prefix(text: &str, budget: usize) -> &str {
    let mut spent = 0;
    let end = text.char_indices().find_map(|(at, c)| {
        spent += char_cost(c);
        (spent > budget).then_some(at)
    });
    &text[..end.unwrap_or(text.len())]
}

fn suffix(text: &str, budget: usize) -> &str {
    let mut spent = 0;
    let start = text.char_indices().rev().find_map(|(at, c)| {
        spent += char_cost(c);
        (spent > budget).then_some(at + c.len_utf8())
    });
    &text[start.unwrap_or_default()..]
}

fn cost(text: &str) -> usize {
    text.chars().map(char_cost).sum()
}

/// The cost of a character in quarters of a token, at most: in prose a token has four letters or more, but digits and punctuation stand
/// alone, and unknown words are encoded byte by byte.
const fn char_cost(c: char) -> usize {
    match c {
        'a'..='z' | 'A'..='Z' | ' ' => 2,
        _ => match c.len_utf8() {
            1 | 2 => QUARTERS,
            3 => 2 * QUARTERS,
            _ => 4 * QUARTERS,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turn(text: impl Into<String>) -> Turn {
        Turn {
            role: Role::User,
            text: text.into(),
        }
    }

    fn total(prompt: &Prompt) -> usize {
        (cost(INSTRUCTION) + cost(&prompt.message)).div_ceil(QUARTERS)
    }

    #[test]
    fn request_and_history_stand_behind_their_markers() {
        let prompt = Prompt::new("and y?", &[turn("what is x?"), turn("a letter")]);
        let expected = "#### Chat History:\nuser: what is x?\n\nuser: a letter\n\n#### Current Request:\n\"and y?\"\n\n### Reminder\n";
        assert!(prompt.message.starts_with(expected), "{}", prompt.message);
    }

    #[test]
    fn the_body_asks_for_256_tokens_of_json_at_temperature_0() {
        let body = Prompt::new("hi", &[]).body();
        assert_eq!(
            body["generationConfig"],
            json!({"temperature": 0, "maxOutputTokens": 256, "responseMimeType": "application/json"})
        );
        assert_eq!(body["contents"].as_array().unwrap().len(), 1);
        assert_eq!(body["systemInstruction"]["parts"][0]["text"], INSTRUCTION);
    }

    #[test]
    fn four_turns_of_ordinary_length_and_the_request_fit_whole() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(20);
        let history: Vec<_> = (0..4).map(|at| turn(format!("start {at} {text}"))).collect();
        let prompt = Prompt::new(&text, &history);
        assert!(!prompt.message.contains('…'));
        assert!(prompt.message.contains("start 0"));
    }

    #[test]
    fn the_oldest_turns_go_first_and_the_request_stays_whole() {
        let long = "word ".repeat(700);
        let history = [
            turn(format!("oldest {long}")),
            turn(format!("older {long}")),
            turn("newest"),
        ];
        let request = format!("begin {} end", "text ".repeat(200));
        let prompt = Prompt::new(&request, &history);
        assert!(prompt.message.contains(&format!("\"{request}\"")));
        assert!(prompt.message.contains("user: newest"));
        assert!(!prompt.message.contains("oldest"));
        assert!(
            prompt.message.contains("user: […] "),
            "of the older turn the end is kept"
        );
    }

    #[test]
    fn of_a_request_that_does_not_fit_the_middle_is_cut() {
        let request = format!("first {} MIDDLE {} last", "word ".repeat(4000), "word ".repeat(4000));
        let prompt = Prompt::new(&request, &[turn("history")]);
        assert!(prompt.message.contains("\"first word"));
        assert!(prompt.message.contains("word  last\"") || prompt.message.contains("word last\""));
        assert!(prompt.message.contains(CUT) && !prompt.message.contains("MIDDLE"));
        assert!(total(&prompt) <= PROMPT_TOKENS);
    }

    #[test]
    fn the_estimate_holds_for_scripts_with_fewer_characters_a_token() {
        for c in ["漢", "ж", "🦀", "9", "}", "ท"] {
            let text = c.repeat(20_000);
            let prompt = Prompt::new(&text, &[turn(text.clone())]);
            let kept = prompt.message.matches(c).count();
            assert!(kept > 100, "{c}: {kept} kept");
            assert!(kept * c.len() <= 3 * PROMPT_TOKENS, "{c}: {kept}");
            assert!(total(&prompt) <= PROMPT_TOKENS, "{c}");
        }
    }

    proptest! {
        #[test]
        fn every_prompt_fits_the_context(request in ".{0,6000}", history in prop::collection::vec(".{0,3000}", 0..5)) {
            let history: Vec<_> = history.into_iter().map(turn).collect();
            prop_assert!(total(&Prompt::new(&request, &history)) <= PROMPT_TOKENS);
        }
    }
}
