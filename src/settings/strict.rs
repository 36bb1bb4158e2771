//! Reads settings files as Gemini CLI does, which blanks out comments and calls `JSON.parse`.
//!
//! The parser that edits the files accepts more. This module finds what Gemini CLI rejects, and removes those marks
//! that carry no meaning (docs/facts.md section 3).

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Serialize, Serializer};

use super::read::{BYTE_ORDER_MARK, position};

/// Why Gemini CLI does not start with a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What it does not accept.
    pub reason: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Whether gem-setup can remove the cause without loss.
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

/// Why Gemini CLI refuses `text`, if it does.
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

/// Removes byte order mark and trailing commas, and makes plain spaces of those that JSON does not know.
pub(super) fn clean(text: &str) -> Cleaned {
    let mut cleaned = Cleaned {
        text: String::with_capacity(text.len()),
        removed: Vec::new(),
    };
    let characters = regions(text);
    for (index, &(offset, character, region)) in characters.iter().enumerate() {
        let line = || position(&text[..offset]).0;
        if character == BYTE_ORDER_MARK && offset == 0 {
            cleaned.removed.push("the byte order mark".to_owned());
        } else if is_trailing_comma(&characters, index) {
            cleaned.removed.push(format!("the trailing comma in line {}", line()));
        } else if region != Region::Text && is_odd_space(character) {
            cleaned.text.push(' ');
            let what = format!("the space U+{:04X} in line {}", u32::from(character), line());
            cleaned.removed.push(what);
        } else {
            cleaned.text.push(character);
        }
    }
    cleaned
}

/// What a character of a settings file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Region {
    Outside,
    Comment,
    /// A string, its quotes included.
    Text,
}

/// Every character with its offset in bytes and its region.
fn regions(text: &str) -> Vec<(usize, char, Region)> {
    let mut found = Vec::with_capacity(text.len());
    let mut characters = text.char_indices().peekable();
    while let Some((offset, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let end: fn(&str, char) -> bool = match (character, next) {
            ('"', _) => |inside, next| next == '"' && !is_escaped(inside),
            ('/', Some('/')) => |_, next| next == '\n',
            ('/', Some('*')) => |inside, next| next == '/' && inside.len() > 2 && inside.ends_with('*'),
            _ => {
                found.push((offset, character, Region::Outside));
                continue;
            }
        };
        let region = if character == '"' {
            Region::Text
        } else {
            Region::Comment
        };
        found.push((offset, character, region));
        for (at, character) in characters.by_ref() {
            found.push((at, character, region));
            if end(&text[offset..at], character) {
                break;
            }
        }
    }
    found
}

/// Whether what follows `inside` is escaped: an odd number of backslashes stands before it.
fn is_escaped(inside: &str) -> bool {
    let backslashes = inside.len() - inside.trim_end_matches('\\').len();
    backslashes % 2 == 1
}

/// Whether the character at `index` is a comma with nothing but a closing bracket after it.
fn is_trailing_comma(characters: &[(usize, char, Region)], index: usize) -> bool {
    let (_, character, region) = characters[index];
    let mut rest = characters[index + 1..].iter();
    character == ','
        && region == Region::Outside
        && rest
            .find(|(_, next, region)| *region == Region::Text || (*region == Region::Outside && !is_space(*next)))
            .is_some_and(|(_, next, _)| matches!(next, '}' | ']'))
}

/// JavaScript's white space.
fn is_space(character: char) -> bool {
    (character.is_whitespace() && character != '\u{85}') || character == BYTE_ORDER_MARK
}

/// White space to JavaScript, but not to JSON. Gemini CLI keeps it where it blanks a comment out.
fn is_odd_space(character: char) -> bool {
    is_space(character) && !matches!(character, ' ' | '\t' | '\n' | '\r')
}

/// Where `JSON.parse` stops at `text` without its comments, and why.
fn fault(text: &str) -> Option<(usize, String)> {
    let characters = regions(text);
    let mut blanked = String::with_capacity(text.len());
    for &(_, character, region) in &characters {
        if region == Region::Comment && !is_space(character) {
            // As many bytes as before, so that positions stay the same.
            blanked.extend(std::iter::repeat_n(' ', character.len_utf8()));
        } else {
            blanked.push(character);
        }
    }
    let odd = characters
        .iter()
        .find(|(_, character, region)| *region != Region::Text && is_odd_space(*character));
    if let Some(&(offset, character, _)) = odd {
        let reason = if offset == 0 && character == BYTE_ORDER_MARK {
            "it starts with a byte order mark".to_owned()
        } else {
            format!("a space that JSON does not know, U+{:04X}", u32::from(character))
        };
        return Some((offset, reason));
    }
    let comma = (0..characters.len()).find(|index| is_trailing_comma(&characters, *index));
    if let Some(index) = comma {
        return Some((characters[index].0, "a trailing comma".to_owned()));
    }
    let error = serde_json::from_str::<IgnoredAny>(&blanked).err()?;
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
    Some((offset_of(&blanked, &error), reason))
}

/// The offset of the character that `error` is about.
fn offset_of(text: &str, error: &serde_json::Error) -> usize {
    let line: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    text.floor_char_boundary((line + error.column().saturating_sub(1)).min(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Gemini CLI 0.61's own reader says of these was tried with its bundle.
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
    fn a_refusal_names_line_and_column() {
        let refusal = refusal("{\n  \"é\": \"x\ty\"\n}").unwrap();
        assert_eq!((refusal.line, refusal.is_removable), (2, false));
        assert!((9..=11).contains(&refusal.column), "{refusal}");
    }
}
