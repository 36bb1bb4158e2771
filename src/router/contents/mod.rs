//! The conversation in a Gemini API request. Parsing is lenient, the client's additions are removed, and only the part
//! that a classifier uses is kept (docs/facts.md sections 3 and 4).
//!
//! ```
//! use gem_setup::router::Conversation;
//!
//! let body = br#"{"contents": [
//!     {"role": "user", "parts": [{"text": "<session_context>\nToday is Friday.\n</session_context>"}]},
//!     {"role": "user", "parts": [{"text": "fix the typo in a.md"}]}
//! ]}"#;
//! let conversation = Conversation::from_body(body)?;
//! assert_eq!(conversation.request, "fix the typo in a.md");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod flattened;
mod reader;
mod repair;
mod typed;

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

pub(crate) use self::flattened::Flattened;
pub(crate) use self::reader::{Request, text, turn, turns};
pub use self::repair::repaired;

use super::{Role, Turn};
use crate::error::{Explain, Kind};

/// A classifier sees at most this many of the latest turns.
const SEARCH_WINDOW: usize = 20;
/// Of those without function calls and responses, a classifier sees at most this many.
const TURNS_FOR_CONTEXT: usize = 4;

/// A turn in the form of the Gemini API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The speaker; the user if the turn names none.
    pub role: Role,
    /// The parts, in order.
    pub parts: Vec<Part>,
}

/// A part of a turn, reduced to the content that matters for routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// The model calls a function.
    FunctionCall,
    /// A function's result.
    FunctionResponse,
    /// Other content: a thought, an image, a file, code and its result.
    Other,
}

impl Content {
    /// A turn of `role` with the text `text`.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            parts: vec![Part::Text(text.into())],
        }
    }

    /// Whether the turn calls a function or contains a function's result.
    #[must_use]
    pub fn holds_function(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::FunctionCall | Part::FunctionResponse))
    }

    /// The turn's text parts, one per line; `None` without text.
    #[must_use]
    pub fn joined_text(&self) -> Option<Cow<'_, str>> {
        let mut texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) if !text.trim().is_empty() => Some(text.as_str()),
            _ => None,
        });
        let mut joined = Cow::Borrowed(texts.next()?);
        for text in texts {
            let joined = joined.to_mut();
            joined.push('\n');
            joined.push_str(text);
        }
        Some(joined)
    }

    /// Whether a person may have typed text in this turn.
    fn is_typed(&self) -> bool {
        self.role == Role::User && !self.holds_function()
    }

    /// The turn with its text reduced by `typed`; `None` if nothing is left.
    fn with(self, typed: impl FnOnce(&str) -> Cow<'_, str>) -> Option<Self> {
        let Some(text) = self.joined_text() else {
            return Some(self);
        };
        let typed = typed(&text);
        if typed.len() == text.len() {
            return Some(self);
        }
        let typed = (!typed.is_empty()).then(|| Part::Text(typed.into_owned()));
        drop(text);
        let others = self.parts.into_iter().filter(|part| !matches!(part, Part::Text(_)));
        let parts: Vec<_> = typed.into_iter().chain(others).collect();
        (!parts.is_empty()).then_some(Self { role: self.role, parts })
    }
}

/// `contents` without the client's additions, and without answers of a model that respond only to additions.
pub(crate) fn without_additions(contents: Vec<Content>) -> Vec<Content> {
    let request = contents.iter().rposition(Content::is_typed);
    let mut is_answered = false;
    let mut said = Vec::with_capacity(contents.len());
    for (at, turn) in contents.into_iter().enumerate() {
        let turn = match turn.role {
            Role::Model if is_answered => None,
            Role::Model => Some(turn),
            Role::User if Some(at) == request => turn.with(typed::request),
            Role::User => turn.with(|text| typed::history(text, at == 0)),
        };
        is_answered = turn.is_none();
        said.extend(turn);
    }
    said
}

impl From<Turn> for Content {
    fn from(turn: Turn) -> Self {
        Self::text(turn.role, turn.text)
    }
}

/// The part of `history` (oldest turn first) that a classifier sees: takes the last 20 turns, drops those with function
/// calls or responses, keeps the last 4 of the rest, and keeps their text.
#[must_use]
pub fn turns_for_context(history: &[Content]) -> Vec<Turn> {
    let window = &history[history.len().saturating_sub(SEARCH_WINDOW)..];
    let spoken = window.iter().rev().filter(|content| !content.holds_function());
    let mut turns: Vec<_> = spoken
        .take(TURNS_FOR_CONTEXT)
        .filter_map(|content| {
            Some(Turn {
                role: content.role,
                text: content.joined_text()?.into_owned(),
            })
        })
        .collect();
    turns.reverse();
    turns
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        reader::one(deserializer)
    }
}

/// A request and the turns before it, without the client's additions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The user's last text; may be empty.
    pub request: String,
    /// The turns before the request, oldest first.
    pub history: Vec<Content>,
    /// Whether the request is the last turn, so the user has just asked. `false` while the model calls functions to
    /// fulfil it.
    pub is_new_turn: bool,
}

impl Conversation {
    /// A request that was just made after `history` (oldest turn first).
    #[must_use]
    pub fn of(request: &str, mut history: Vec<Content>) -> Self {
        if request.trim().is_empty() {
            return Self {
                history,
                ..Self::default()
            };
        }
        history.push(Content::text(Role::User, request));
        Self::from_contents(history)
    }

    /// The conversation in `body`, the JSON object of a `generateContent` request or of another request with
    /// `contents`.
    ///
    /// The request is the user's last turn that is not a function response. While the model calls functions to fulfil a
    /// request, each of its calls is routed like that request.
    ///
    /// # Errors
    /// When the body is not a JSON object, or its `contents` are neither text nor objects.
    pub fn from_body(body: &[u8]) -> Result<Self, Error> {
        let request = Request::read(&repaired(body))
            .map_err(|source| Error::Body { source })?
            .contents;
        Ok(Self::from_contents(request))
    }

    /// The conversation in `contents`, oldest turn first.
    #[must_use]
    pub fn from_contents(contents: Vec<Content>) -> Self {
        let mut contents = without_additions(contents);
        let asked = contents.iter().enumerate().rev().find_map(|(at, content)| {
            let text = if content.is_typed() {
                content.joined_text()
            } else {
                None
            };
            Some((at, text?.into_owned()))
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

/// Parses a history: a list of `{"role", "text"}`, a list of Gemini API contents, or an object with `contents`.
///
/// # Errors
/// When `json` has none of these forms; `origin` names it in the error.
pub fn parse_history(json: &[u8], origin: &str) -> Result<Vec<Content>, Error> {
    #[derive(Deserialize)]
    struct History(#[serde(deserialize_with = "turns")] Vec<Content>);
    let json = repaired(json);
    let history = serde_json::from_slice(&json).map(|History(turns)| turns);
    history.map_err(|error| Error::History {
        origin: origin.to_owned(),
        reason: error.to_string(),
    })
}

/// Why a conversation cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request's body is not a JSON object.
    #[error("cannot read the request's body as JSON")]
    Body {
        /// The reason, with line and column.
        source: serde_json::Error,
    },
    /// The history has none of the known forms.
    #[error("cannot read the history in `{origin}`: {reason}")]
    History {
        /// The source of the history.
        origin: String,
        /// The reason.
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
