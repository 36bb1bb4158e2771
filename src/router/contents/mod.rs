//! The conversation inside a Gemini API request: read leniently, reduced to what a classifier looks at (FACTS section 4).

mod lenient;

use serde::Deserialize;

use super::{Role, Turn};
use crate::error::{Explain, Kind};

/// A classifier looks at no more than this many of the latest turns,
const SEARCH_WINDOW: usize = 20;
/// and at no more than this many of those among them that hold no function call or response.
const TURNS_FOR_CONTEXT: usize = 4;

/// One turn as the Gemini API has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Who spoke; a turn that does not say so is the user's.
    pub role: Role,
    /// What was said or sent, in order.
    pub parts: Vec<Part>,
}

/// One part of a turn, as much of it as matters to routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// The model calls a function.
    FunctionCall,
    /// A function's result.
    FunctionResponse,
    /// Anything else: a thought, an image, a file, code and its result.
    Other,
}

impl Content {
    /// A turn of `role` that says `text`.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            parts: vec![Part::Text(text.into())],
        }
    }

    /// Whether the turn calls a function or holds the result of one.
    #[must_use]
    pub fn holds_function(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::FunctionCall | Part::FunctionResponse))
    }

    /// The turn's text parts, a line each; `None` when there is no text in it.
    #[must_use]
    pub fn joined_text(&self) -> Option<String> {
        let mut texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) if !text.trim().is_empty() => Some(text.as_str()),
            _ => None,
        });
        let mut joined = texts.next()?.to_owned();
        for text in texts {
            joined.push('\n');
            joined.push_str(text);
        }
        Some(joined)
    }
}

impl From<Turn> for Content {
    fn from(turn: Turn) -> Self {
        Self::text(turn.role, turn.text)
    }
}

/// What a classifier sees of `history` (oldest first): of the last 20 turns those without function calls and responses, of
/// these the last 4, of these the text.
#[must_use]
pub fn turns_for_context(history: &[Content]) -> Vec<Turn> {
    let window = &history[history.len().saturating_sub(SEARCH_WINDOW)..];
    let spoken = window.iter().rev().filter(|content| !content.holds_function());
    let mut turns: Vec<_> = spoken
        .take(TURNS_FOR_CONTEXT)
        .filter_map(|content| {
            Some(Turn {
                role: content.role,
                text: content.joined_text()?,
            })
        })
        .collect();
    turns.reverse();
    turns
}

/// A request and what was said before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// What the user asked last, in words; empty when the user said nothing.
    pub request: String,
    /// The turns before the request, oldest first.
    pub history: Vec<Content>,
    /// True when nothing follows the request: the user has just asked. False while the model works on it with functions.
    pub is_new_turn: bool,
}

impl Conversation {
    /// A request that has just been made after `history` (oldest turn first).
    pub fn of(request: impl Into<String>, history: Vec<Content>) -> Self {
        Self {
            request: request.into(),
            history,
            is_new_turn: true,
        }
    }

    /// The conversation in `body`, the JSON object of a `generateContent` request or of any other with `contents`.
    ///
    /// The request is the user's last turn that is no function response: while the model works on a request with functions,
    /// each of the calls is routed like the request that they serve.
    ///
    /// # Errors
    /// When the body is no JSON object.
    pub fn from_body(body: &[u8]) -> Result<Self, Error> {
        let contents = lenient::contents_of(body).map_err(|source| Error::Body { source })?;
        Ok(Self::from_contents(contents))
    }

    /// The conversation in `contents`, oldest turn first.
    #[must_use]
    pub fn from_contents(mut contents: Vec<Content>) -> Self {
        let asked = contents.iter().enumerate().rev().find_map(|(at, content)| {
            if content.role != Role::User || content.holds_function() {
                return None;
            }
            Some((at, content.joined_text()?))
        });
        let Some((at, request)) = asked else {
            return Self {
                history: contents,
                ..Self::default()
            };
        };
        let is_new_turn = at + 1 == contents.len();
        contents.truncate(at);
        Self {
            request,
            history: contents,
            is_new_turn,
        }
    }
}

/// Reads a history: a list of `{"role", "text"}`, of Gemini API contents, or an object with `contents`.
///
/// # Errors
/// When `text` is none of these; `origin` names it in the error.
pub fn parse_history(text: &str, origin: &str) -> Result<Vec<Content>, Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum History {
        List(Vec<Content>),
        Object { contents: Vec<Content> },
    }
    match serde_json::from_str(text) {
        Ok(History::List(contents) | History::Object { contents }) => Ok(contents),
        Err(error) => Err(Error::History {
            origin: origin.to_owned(),
            reason: reason(text, &error),
        }),
    }
}

/// Where the JSON breaks off, if it is no JSON at all.
fn reason(text: &str, error: &serde_json::Error) -> String {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Err(syntax) => syntax.to_string(),
        Ok(_) if error.is_data() => "expected a list of `{\"role\", \"text\"}` or of Gemini API contents".to_owned(),
        Ok(_) => error.to_string(),
    }
}

/// Why a conversation cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request's body is no JSON object.
    #[error("cannot read the request's body as JSON")]
    Body {
        /// Why, with line and column.
        source: serde_json::Error,
    },
    /// A history is of no form that is known.
    #[error("cannot read the history in `{origin}`: {reason}")]
    History {
        /// Where it came from.
        origin: String,
        /// Why.
        reason: String,
    },
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(r#"a history looks like `[{"role": "user", "text": "…"}, {"role": "model", "text": "…"}]`"#.to_owned())
    }
}

#[cfg(test)]
mod tests;
