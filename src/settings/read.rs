//! Reading the scopes' files; one that cannot be used does not hide the others.

use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jsonc_parser::common::Ranged;
use jsonc_parser::errors::ParseError;
use jsonc_parser::{CollectOptions, ParseOptions};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::error::Error;
use super::expand::Variables;
use super::scope::{Places, Scope};
use super::strict::{self, Rejection};
use super::trust::Trust;
use crate::environment::Environment;
use crate::error::Failure;
use crate::place;

pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// JSON with comments and trailing commas, and nothing more.
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

/// All scopes' files, the weakest first.
#[derive(Debug, Serialize)]
pub struct Settings {
    /// The files; none for the workspace in the home directory.
    pub scopes: Vec<ScopeFile>,
    /// Whether the workspace's file counts.
    pub trust: Trust,
}

/// One scope's file.
#[derive(Debug, Serialize)]
pub struct ScopeFile {
    /// Which scope.
    pub scope: Scope,
    /// Where the file is or would be.
    pub path: PathBuf,
    /// The content.
    #[serde(flatten)]
    pub content: Content,
}

/// The content at a settings file's path.
#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Content {
    /// Nothing.
    Absent,
    /// Settings.
    Parsed(Document),
    /// Something that cannot be used.
    Broken(#[serde(serialize_with = "as_reason")] Error),
}

/// A file's settings.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The settings, an object, with references to environment variables replaced.
    #[serde(skip)]
    pub value: Value,
    /// Why Gemini CLI refuses to start with this file although it is read here.
    pub refused: Option<Rejection>,
}

/// Reads every scope's file at `places`.
#[must_use]
pub fn load(places: &Places, environment: &Environment) -> Settings {
    let variables = Variables::new(environment, places.os);
    let scopes: Vec<_> = Scope::ALL
        .into_iter()
        .filter_map(|scope| {
            let path = places.file(scope)?;
            Some(ScopeFile {
                scope,
                path: path.to_owned(),
                content: read(path, Some(variables)),
            })
        })
        .collect();
    let trust = Trust::of_workspace(places, environment, asks_for_trust(&scopes));
    Settings { scopes, trust }
}

impl Settings {
    /// The files that cannot be used, with the reason; the one with the folders' trust among them.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        let files = self.scopes.iter().filter_map(|file| match &file.content {
            Content::Broken(error) => Some(error),
            Content::Absent | Content::Parsed(_) => None,
        });
        let trust = match &self.trust {
            Trust::Broken(error) => Some(error),
            _ => None,
        };
        files.chain(trust)
    }
}

impl Settings {
    /// Why Gemini CLI does not start with these files: each that cannot be used, and each that it alone refuses.
    #[must_use]
    pub fn refused(&self) -> Vec<(PathBuf, Failure)> {
        let refused = self.scopes.iter().filter_map(|file| match &file.content {
            Content::Parsed(document) => Some(Error::Refused {
                path: file.path.clone(),
                refusal: document.refused.clone()?,
            }),
            Content::Absent | Content::Broken(_) => None,
        });
        let unusable = self.errors().map(|error| (error.path().to_owned(), Failure::of(error)));
        unusable
            .chain(refused.map(|error| (error.path().to_owned(), Failure::of(&error))))
            .collect()
    }
}

impl ScopeFile {
    /// The settings, if there are any.
    pub(super) fn value(&self) -> Option<&Value> {
        match &self.content {
            Content::Parsed(document) => Some(&document.value),
            Content::Absent | Content::Broken(_) => None,
        }
    }
}

/// `security.folderTrust.enabled`, read from every file but the workspace's; on by default.
fn asks_for_trust(scopes: &[ScopeFile]) -> bool {
    scopes
        .iter()
        .rev()
        .filter(|file| file.scope != Scope::Workspace)
        .filter_map(|file| file.value()?.pointer("/security/folderTrust/enabled")?.as_bool())
        .next()
        .unwrap_or(true)
}

/// Reads the settings file `path`, replacing references to `variables` if there are any.
pub(super) fn read(path: &Path, variables: Option<Variables<'_>>) -> Content {
    let text = match read_text(path) {
        Ok(Some(text)) => text,
        Ok(None) => return Content::Absent,
        Err(error) => return Content::Broken(error),
    };
    interpret(path, &text, variables)
}

/// What `text` is as the content of the settings file `path`.
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

/// The text of `path`, or `None` where there is no such file.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, Error> {
    let bytes = place::read_if_present(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let is_utf16 = matches!(error.as_bytes(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let (line, column) = position(&before);
        Error::Parse {
            path: path.to_owned(),
            line,
            column,
            reason: if is_utf16 {
                "the file is UTF-16 where UTF-8 is expected"
            } else {
                "a byte that is not valid UTF-8"
            }
            .to_owned(),
        }
    })
}

/// Parses `text`, the content of `path`, byte order mark included.
pub(super) fn parse(path: &Path, text: &str) -> Result<Document, Error> {
    let (_, unmarked) = split_mark(text);
    let value: Option<Value> =
        jsonc_parser::parse_to_serde_value(unmarked, &JSON_WITH_COMMENTS).map_err(|error| parse_error(path, &error))?;
    match value {
        Some(value @ Value::Object(_)) => Ok(Document {
            value,
            refused: strict::refusal(text),
        }),
        Some(other) => Err(not_an_object(path, "", type_name(&other), locate(unmarked, &[]))),
        None => {
            let (line, column) = position(unmarked);
            Err(Error::Parse {
                path: path.to_owned(),
                line,
                column,
                reason: "there is no value in the file".to_owned(),
            })
        }
    }
}

/// Separates the byte order mark that some editors put before the text.
pub(super) fn split_mark(text: &str) -> (&str, &str) {
    text.strip_prefix(BYTE_ORDER_MARK)
        .map_or(("", text), |rest| text.split_at(text.len() - rest.len()))
}

pub(super) fn parse_error(path: &Path, error: &ParseError) -> Error {
    Error::Parse {
        path: path.to_owned(),
        line: error.line_display(),
        column: error.column_display(),
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

/// The error for `found` at `position` of `path`, where the object of `key` should be.
pub(super) fn not_an_object(path: &Path, key: &str, found: &'static str, position: (usize, usize)) -> Error {
    Error::NotAnObject {
        path: path.to_owned(),
        key: key.to_owned(),
        found,
        line: position.0,
        column: position.1,
    }
}

/// The position of the value of the dotted `keys` in `text`, a text without a byte order mark; no keys mean the root.
pub(super) fn locate(text: &str, keys: &[&str]) -> (usize, usize) {
    let start = range_of(text, keys).map_or(0, |range| range.start);
    position(&text[..start])
}

/// The range of the value at `keys` in `text`, without a byte order mark.
pub(super) fn range_of(text: &str, keys: &[&str]) -> Option<Range<usize>> {
    let ast = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &JSON_WITH_COMMENTS);
    let root = ast.ok().and_then(|ast| ast.value);
    let value = keys.iter().try_fold(root, |value, key| {
        let object = value?.as_object()?.clone();
        // Of keys that are there twice the last one counts.
        let member = object
            .properties
            .into_iter()
            .rfind(|member| member.name.as_str() == *key)?;
        Some(Some(member.value))
    });
    let range = value.flatten()?.range();
    Some(range.start..range.end)
}

/// Line and column, both from 1, of what follows `before`.
pub(super) fn position(before: &str) -> (usize, usize) {
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (line, column)
}

/// What kind of value this is, with its article.
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

/// Serializes what can be displayed as its text.
pub(super) fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Serializes an error as an object with its text, as a tagged enumeration needs it.
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
