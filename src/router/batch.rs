//! Routes many requests at once: JSON lines in, JSON lines out (`route --batch`).
//!
//! ```
//! use gem_setup::router::batch::Row;
//!
//! let lines = "{\"id\": 1, \"request\": \"why is the build slow?\"}\nnot a row\n";
//! let rows: Vec<_> = Row::parse_all(lines, "requests.jsonl").collect();
//! assert!(rows[0].is_ok());
//! assert!(rows[1].is_err());
//! ```

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RoutingDecision;
use super::contents::{Content, Conversation, text, turns};
use crate::error::{Explain, Kind};

/// One request of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// The caller's identifier for the request, returned unchanged.
    #[serde(default)]
    pub id: Value,
    /// The request.
    #[serde(deserialize_with = "text")]
    pub request: String,
    /// The turns before the request, oldest first.
    #[serde(default, deserialize_with = "turns")]
    pub history: Vec<Content>,
}

/// A line of a batch that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read line {line} of `{origin}`: {}", reason(fault))]
pub struct Error {
    /// The source of the batch.
    origin: String,
    /// The line's number, from 1.
    line: usize,
    fault: serde_json::Error,
}

impl Error {
    /// The result for this line in place of a decision; `text` is the batch.
    #[must_use]
    pub fn refusal(&self, text: &str) -> RowRefusal {
        let row = text.lines().nth(self.line - 1).unwrap_or_default();
        let row: Option<Value> = serde_json::from_str(row).ok();
        RowRefusal {
            id: row.and_then(|row| row.get("id").cloned()),
            line: self.line,
            error: reason(&self.fault),
        }
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(
            r#"each line looks like `{"id": "1", "request": "…", "history": [{"role": "user", "text": "…"}]}`"#
                .to_owned(),
        )
    }
}

/// Why a line cannot be read. For the parser each line is the first, so only the column says where.
fn reason(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    match text.strip_suffix(&place) {
        Some(reason) => format!("{reason} at column {}", error.column()),
        None => text,
    }
}

/// Parses the object in `line`. Serde alone would also accept a list.
fn row(line: &str) -> serde_json::Result<Row> {
    if !line.trim_start().starts_with('{') {
        return Err(serde::de::Error::custom("expected an object"));
    }
    serde_json::from_str(line)
}

impl Row {
    /// Parses the JSON lines in `text`, each with its own error. Skips empty lines; `origin` names the batch.
    pub fn parse_all<'a>(text: &'a str, origin: &'a str) -> impl Iterator<Item = Result<Self, Error>> + 'a {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(move |(at, line)| {
                row(line).map_err(|fault| Error {
                    origin: origin.to_owned(),
                    line: at + 1,
                    fault,
                })
            })
    }

    /// The row's id, and a conversation whose last turn is the request.
    #[must_use]
    pub fn into_conversation(self) -> (Value, Conversation) {
        let conversation = Conversation::of(&self.request, self.history);
        (self.id, conversation)
    }
}

/// The result for one row: its id and the fields of a decision.
#[derive(Clone, Debug, Serialize)]
pub struct RowDecision<D = RoutingDecision> {
    /// The row's id.
    pub id: Value,
    /// The decision.
    #[serde(flatten)]
    pub decision: D,
}

/// The result for an invalid line: its id, if it has one, and the error.
#[derive(Clone, Debug, Serialize)]
pub struct RowRefusal {
    /// The row's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// The line's number, from 1.
    pub line: usize,
    /// Why the line is invalid.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::router::{Models, Role, Router, RoutingContext};

    #[test]
    fn rows_are_read_with_and_without_history() {
        let text = "{\"id\": 7, \"request\": \"a\"}\n\n{\"id\": \"x\", \"request\": \"b\", \"history\": [{\"role\": \"model\", \"text\": \"c\"}], \"label\": \"pro\"}\n";
        let rows: Vec<_> = Row::parse_all(text, "b.jsonl").map(Result::unwrap).collect();
        let expected = [
            Row {
                id: 7.into(),
                request: "a".to_owned(),
                history: Vec::new(),
            },
            Row {
                id: "x".into(),
                request: "b".to_owned(),
                history: vec![Content::text(Role::Model, "c")],
            },
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_are_read() {
        let rows: Vec<_> =
            Row::parse_all("{\"request\": \"a\"}\n{\"id\": 1}\n{\"request\": \"c\"}", "b.jsonl").collect();
        assert!(rows[0].is_ok() && rows[2].is_ok());
        let message = rows[1].as_ref().unwrap_err().to_string();
        assert!(
            message.contains("line 2 of `b.jsonl`") && message.contains("request"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn a_decision_is_printed_with_its_rows_id_first() {
        let row = Row::parse_all("{\"id\": \"a-1\", \"request\": \"hi\"}", "b.jsonl")
            .next()
            .unwrap()
            .unwrap();
        let (id, conversation) = row.into_conversation();
        let router = Router::new(Arc::new(Models::built_in().unwrap()), Arc::default());
        let context = RoutingContext {
            conversation,
            ..RoutingContext::default()
        };
        let decision = router.route(&context).await;
        let line = serde_json::to_value(RowDecision { id, decision }).unwrap();
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "id",
                "model",
                "tier",
                "source",
                "latency_ms",
                "reasoning",
                "probability",
                "trace"
            ]
        );
        assert_eq!(line["id"], "a-1");
    }
}
