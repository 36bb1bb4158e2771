//! Positions in a settings file's text, and its byte order mark.

use std::fmt::Display;

use serde::Serializer;

pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// Splits off the byte order mark that some editors put before the text.
pub(super) fn split_mark(text: &str) -> (&str, &str) {
    text.strip_prefix(BYTE_ORDER_MARK)
        .map_or(("", text), |rest| text.split_at(text.len() - rest.len()))
}

/// Line and column, both from 1, of the text after `before`.
pub(super) fn position(before: &str) -> (usize, usize) {
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (line, column)
}

/// Serializes a value as its displayed text.
pub(super) fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
