//! Reads a settings file.

use std::path::Path;

use jsonc_parser::common::Ranged;
use jsonc_parser::errors::ParseError;
use jsonc_parser::{CollectOptions, ParseOptions};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::error::Error;
use super::expand::Variables;
use super::plain::plain;
use super::strict::{self, Rejection};
use super::text::{position, split_mark};
use crate::place;

/// JSON with comments and trailing commas, without any other extension.
pub(super) const JSON_WITH_COMMENTS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// The content at a settings file's path.
#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Content {
    /// There is no file.
    Absent,
    /// The file contains settings.
    Parsed(Document),
    /// The file cannot be used.
    Broken(#[serde(serialize_with = "as_reason")] Error),
}

/// A file's settings.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The settings, an object, with references to environment variables replaced.
    #[serde(skip)]
    pub value: Value,
    /// Why Gemini CLI refuses to start with this file, although gem-setup can read it.
    pub refused: Option<Rejection>,
}

/// Reads the settings file `path` and replaces references to `variables`, if given.
pub(super) fn read(path: &Path, variables: Option<Variables<'_>>) -> Content {
    let text = match read_text(path) {
        Ok(Some(text)) => text,
        Ok(None) => return Content::Absent,
        Err(error) => return Content::Broken(error),
    };
    interpret(path, &text, variables)
}

/// Parses `text`, the content of the settings file `path`.
pub(super) fn interpret(path: &Path, text: &str, variables: Option<Variables<'_>>) -> Content {
    match parse(path, text) {
        Ok(mut document) => {
            if let Some(variables) = variables {
                variables.expand_all(&mut document.value);
            }
            Content::Parsed(document)
        }
        Err(error) => Content::Broken(error),
    }
}

/// The text of `path`; `None` if there is no such file.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, Error> {
    let bytes = place::read_if_present(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    if let Some(encoding) = place::other_encoding(&bytes) {
        return Err(Error::Encoding {
            path: path.to_owned(),
            encoding,
        });
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let (line, column) = position(&before);
        Error::Parse {
            path: path.to_owned(),
            line,
            column,
            reason: "a byte that is not UTF-8".to_owned(),
        }
    })
}

/// Parses `text`, the content of `path`, with or without a byte order mark.
pub(super) fn parse(path: &Path, text: &str) -> Result<Document, Error> {
    Ok(Document {
        value: value(path, text)?,
        refused: strict::refusal(text),
    })
}

/// The object that `text`, the content of `path`, contains.
pub(super) fn value(path: &Path, text: &str) -> Result<Value, Error> {
    let (_, unmarked) = split_mark(text);
    let value: Option<Value> = jsonc_parser::parse_to_serde_value(&plain(unmarked), &JSON_WITH_COMMENTS)
        .map_err(|error| parse_error(path, unmarked, &error))?;
    match value {
        Some(value @ Value::Object(_)) => Ok(value),
        Some(other) => Err(not_an_object(
            path,
            "",
            type_name(&other),
            position(before_value(unmarked)),
        )),
        None => Err(Error::Empty { path: path.to_owned() }),
    }
}

/// The comments and white space before the value in `text`.
fn before_value(text: &str) -> &str {
    let plain = plain(text);
    let ast = jsonc_parser::parse_to_ast(&plain, &CollectOptions::default(), &JSON_WITH_COMMENTS);
    let value = ast.ok().and_then(|ast| ast.value);
    value.map_or("", |value| &text[..value.start()])
}

/// The error for `text`, the content of `path`, which ends before its last mark where a bracket is not closed.
pub(super) fn parse_error(path: &Path, text: &str, error: &ParseError) -> Error {
    let (last_line, last_column) = position(text.trim_end());
    let is_behind = error.line_display() > last_line;
    Error::Parse {
        path: path.to_owned(),
        line: if is_behind { last_line } else { error.line_display() },
        column: if is_behind { last_column } else { error.column_display() },
        reason: reason(error),
    }
}

fn reason(error: &ParseError) -> String {
    let text = error.kind().to_string();
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// The error for `found` at `position` of `path`, where the object `key` is expected.
pub(super) fn not_an_object(path: &Path, key: &str, found: &'static str, position: (usize, usize)) -> Error {
    Error::NotAnObject {
        path: path.to_owned(),
        key: key.to_owned(),
        found,
        line: position.0,
        column: position.1,
    }
}

/// The type of this value, with its article.
pub(super) const fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Serializes an error as an object with its text, because a tagged enumeration requires an object.
fn as_reason<S: Serializer>(error: &Error, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Reason {
        error: String,
    }
    Reason {
        error: crate::error::chain(error),
    }
    .serialize(serializer)
}
