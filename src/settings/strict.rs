//! Reads settings files like Gemini CLI, which replaces comments by white space and calls `JSON.parse`.
//!
//! The parser that edits the files accepts more. This module finds the marks that Gemini CLI rejects, and removes those
//! without a meaning (docs/facts.md section 3).

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Serialize, Serializer};

use super::text::{BYTE_ORDER_MARK, position};

/// Why Gemini CLI refuses to start with a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// A description of the mark that it rejects.
    pub reason: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Whether gem-setup can remove the mark without loss.
    pub is_removable: bool,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reason, line, column, ..
        } = self;
        write!(f, "{reason} (line {line}, column {column})")
    }
}

impl Serialize for Rejection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text without the marks that Gemini CLI refuses, and a description of each removed mark.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cleaned {
    pub(super) text: String,
    pub(super) removed: Vec<String>,
}

/// Why Gemini CLI refuses `text`; `None` if it accepts the text.
pub(super) fn refusal(text: &str) -> Option<Rejection> {
    let (offset, reason) = fault(text)?;
    let (line, column) = position(&text[..offset]);
    Some(Rejection {
        reason,
        line,
        column,
        is_removable: fault(&clean(text).text).is_none(),
    })
}

/// Removes the byte order mark and trailing commas, and replaces white space that JSON does not allow by spaces.
pub(super) fn clean(text: &str) -> Cleaned {
    let mut cleaned = Cleaned {
        text: String::with_capacity(text.len()),
        removed: Vec::new(),
    };
    let mut commas = trailing_commas(text).peekable();
    let mut line = 1;
    for (offset, character, region) in regions(text) {
        if character == BYTE_ORDER_MARK && offset == 0 {
            cleaned.removed.push("the byte order mark".to_owned());
        } else if commas.next_if_eq(&offset).is_some() {
            let what = format!("the trailing comma in line {line}");
            if cleaned.removed.last() != Some(&what) {
                cleaned.removed.push(what);
            }
        } else if region != Region::Text && is_odd_space(character) {
            cleaned.text.push(' ');
            let what = format!("the space U+{:04X} in line {line}", u32::from(character));
            cleaned.removed.push(what);
        } else {
            cleaned.text.push(character);
        }
        line += usize::from(character == '\n');
    }
    cleaned
}

/// The part of a settings file to which a character belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Region {
    Outside,
    Comment,
    /// A string, including its quotes.
    Text,
}

/// Whether a character ends its region, given the region's text before it.
type IsEnd = fn(&str, char) -> bool;

/// Every character of `text` with its byte offset and its region.
pub(super) fn regions(text: &str) -> impl Iterator<Item = (usize, char, Region)> {
    let mut start = 0;
    // Set if the current character is inside a region that may end; the function recognises the region's last
    // character.
    let mut ends: Option<IsEnd> = None;
    let mut region = Region::Outside;
    text.char_indices().map(move |(offset, character)| {
        if let Some(is_end) = ends {
            let within = region;
            if is_end(&text[start..offset], character) {
                (ends, region) = (None, Region::Outside);
            }
            return (offset, character, within);
        }
        start = offset;
        (region, ends) = opened_by(&text[offset..]);
        (offset, character, region)
    })
}

/// The region that begins with the first character of `text`, and a function that recognises its last character.
fn opened_by(text: &str) -> (Region, Option<IsEnd>) {
    if text.starts_with('"') {
        (Region::Text, Some(|inside, next| next == '"' && !is_escaped(inside)))
    } else if text.starts_with("//") {
        (Region::Comment, Some(|_, next| next == '\n'))
    } else if text.starts_with("/*") {
        let is_end = |inside: &str, next| next == '/' && inside.len() > 2 && inside.ends_with('*');
        (Region::Comment, Some(is_end))
    } else {
        (Region::Outside, None)
    }
}

/// Whether the character after `inside` is escaped: an odd number of backslashes precedes it.
fn is_escaped(inside: &str) -> bool {
    let backslashes = inside.len() - inside.trim_end_matches('\\').len();
    backslashes % 2 == 1
}

/// The offsets of commas that are followed only by a closing bracket.
fn trailing_commas(text: &str) -> impl Iterator<Item = usize> {
    let mut last_comma = None;
    let marks = regions(text).filter(|(_, character, region)| {
        *region == Region::Text || (*region == Region::Outside && !is_space(*character))
    });
    marks.filter_map(move |(offset, character, region)| {
        let comma = last_comma
            .take()
            .filter(|_| region == Region::Outside && matches!(character, '}' | ']'));
        last_comma = (character == ',' && region == Region::Outside).then_some(offset);
        comma
    })
}

/// Whether JavaScript counts `character` as white space.
fn is_space(character: char) -> bool {
    (character.is_whitespace() && character != '\u{85}') || character == BYTE_ORDER_MARK
}

/// Whether `character` is white space in JavaScript but not in JSON. Gemini CLI keeps it when it removes a comment.
fn is_odd_space(character: char) -> bool {
    is_space(character) && !matches!(character, ' ' | '\t' | '\n' | '\r')
}

/// The position at which `JSON.parse` rejects `text` without its comments, and the reason.
fn fault(text: &str) -> Option<(usize, String)> {
    let odd = regions(text).find(|(_, character, region)| *region != Region::Text && is_odd_space(*character));
    if let Some((offset, character, _)) = odd {
        let reason = if offset == 0 && character == BYTE_ORDER_MARK {
            "it starts with a byte order mark".to_owned()
        } else {
            format!("a space that JSON does not allow, U+{:04X}", u32::from(character))
        };
        return Some((offset, reason));
    }
    if let Some(offset) = trailing_commas(text).next() {
        return Some((offset, "a trailing comma".to_owned()));
    }
    let blanked = blanked(text);
    let error = serde_json::from_str::<IgnoredAny>(&blanked).err()?;
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
    Some((offset_of(&blanked, &error), reason))
}

/// `text` with its comments replaced by white space of the same length in bytes, so that positions stay the same.
fn blanked(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    for (_, character, region) in regions(text) {
        if region == Region::Comment && !is_space(character) {
            blanked.extend(std::iter::repeat_n(' ', character.len_utf8()));
        } else {
            blanked.push(character);
        }
    }
    blanked
}

/// The offset of the character at which `error` occurred.
fn offset_of(text: &str, error: &serde_json::Error) -> usize {
    let line: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    // A text that ends too early ends with its last mark.
    let end = if error.is_eof() {
        text.trim_end().len()
    } else {
        text.len()
    };
    text.floor_char_boundary((line + error.column().saturating_sub(1)).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gemini CLI 0.61's own reader was tried on these, with its bundle.
    const ACCEPTED: [&str; 12] = [
        "{}",
        " {\"a\": 1} // end",
        "{\r\n  // one\r\n  \"a\": /* two */ [1, 2] \r\n}\r\n",
        "/* a, } */ {\"a\": \"// no comment, }\"}",
        "{\"a\": \"\\\"/*\"}",
        "{\"a\": \"\\\\\" /* , */ }",
        "{\"a\": 1, \"a\": 2}",
        "{\"a\": \"\\ud83d\"}",
        "{\"a\": 1e999}",
        "{} /* never closed",
        "{\"a\": \"\u{a0}\"}",
        "/*/ } */{}",
    ];

    const REFUSED: [(&str, &str); 20] = [
        ("", "EOF"),
        ("// only\n", "EOF"),
        ("\u{feff}{}", "byte order mark"),
        ("{\"a\": 1,}", "trailing comma"),
        ("{\"a\": [1, /* , */ ] }", "trailing comma"),
        ("{\"a\": \"x\ty\"}", "control character"),
        ("{\"a\": \"x\ny\"}", "control character"),
        ("{'a': 1}", "key must be a string"),
        ("{a: 1}", "key must be a string"),
        ("{\"a\": 'x'}", "expected value"),
        ("{\"a\": 0x10}", "expected"),
        ("{\"a\": 01}", "invalid number"),
        ("{\"a\": +1}", "expected value"),
        ("{\"a\": .5}", "expected value"),
        ("{\"a\": NaN}", "expected value"),
        ("{\"a\": \"\\x41\"}", "invalid escape"),
        ("{\"a\": 1 \"b\": 2}", "expected"),
        ("{}{}", "trailing characters"),
        ("{\u{a0}\"a\": 1}", "U+00A0"),
        ("{ // a\u{a0}comment\n}", "U+00A0"),
    ];

    #[test]
    fn what_gemini_cli_accepts_is_accepted() {
        for text in ACCEPTED {
            assert_eq!(refusal(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_gemini_cli_refuses_is_refused() {
        for (text, reason) in REFUSED {
            let refusal = refusal(text).unwrap_or_else(|| panic!("{text:?} is accepted"));
            assert!(refusal.reason.contains(reason), "{text:?}: {refusal}");
        }
    }

    #[test]
    fn marks_without_meaning_are_removed() {
        let text = "\u{feff}{\n  \"a\": [1, 2,], // one,\u{a0}two,\n  \"b\": \",}\", /* last */\n}\n";
        let cleaned = clean(text);
        assert_eq!(
            cleaned.text,
            "{\n  \"a\": [1, 2], // one, two,\n  \"b\": \",}\" /* last */\n}\n"
        );
        assert_eq!(
            cleaned.removed,
            [
                "the byte order mark",
                "the trailing comma in line 2",
                "the space U+00A0 in line 2",
                "the trailing comma in line 3"
            ]
        );
        assert!(refusal(text).unwrap().is_removable);
    }

    #[test]
    fn accepted_texts_lose_nothing() {
        for text in ACCEPTED {
            let cleaned = clean(text);
            assert_eq!((cleaned.text.as_str(), cleaned.removed.len()), (text, 0));
        }
    }

    #[test]
    fn a_text_that_ends_too_early_is_refused_at_its_last_line() {
        assert_eq!(refusal("{\"a\": {}\n\n").unwrap().line, 1);
    }

    #[test]
    fn a_refusal_names_line_and_column() {
        let refusal = refusal("{\n  \"é\": \"x\ty\"\n}").unwrap();
        assert_eq!((refusal.line, refusal.is_removable), (2, false));
        assert!((9..=11).contains(&refusal.column), "{refusal}");
    }
}
