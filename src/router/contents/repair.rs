//! Makes clients' JSON valid.
//!
//! JavaScript cuts strings at UTF-16 units, so the JSON of any request may contain half of a surrogate pair
//! (docs/facts.md section 3). Parsers and engines then refuse the whole text.

use std::borrow::Cow;

use memchr::{memchr, memmem};

/// The byte order mark in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// The length of an escaped UTF-16 unit, `\uXXXX`, in bytes.
const ESCAPE: usize = 6;
/// The replacement character's escape, without `\u`.
const REPLACEMENT: &[u8; 4] = b"fffd";

/// Returns `json` without a byte order mark, with the replacement character in place of each lone surrogate and each
/// byte that is not valid UTF-8.
#[must_use]
pub fn repaired(json: &[u8]) -> Cow<'_, [u8]> {
    let json = json.strip_prefix(MARK).unwrap_or(json);
    // The check alone is many times faster than the repair.
    let text = match std::str::from_utf8(json) {
        Ok(_) => Cow::Borrowed(json),
        Err(_) => Cow::Owned(String::from_utf8_lossy(json).into_owned().into_bytes()),
    };
    let lone = lone_surrogates(&text);
    if lone.is_empty() {
        return text;
    }
    let mut text = text.into_owned();
    for at in lone {
        text[at + 2..at + ESCAPE].copy_from_slice(REPLACEMENT);
    }
    Cow::Owned(text)
}

/// The positions of the escapes of lone surrogates.
fn lone_surrogates(json: &[u8]) -> Vec<usize> {
    let mut lone = Vec::new();
    // Few requests have such an escape, and the search for one is many times faster than the loop.
    let Some(mut from) = memmem::find(json, b"\\u") else {
        return lone;
    };
    // An escaped backslash may come before the `u`.
    from -= json[..from].iter().rev().take_while(|byte| **byte == b'\\').count();
    while let Some(at) = memchr(b'\\', &json[from..]).map(|found| from + found) {
        from = match (unit(json, at), unit(json, at + ESCAPE)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at + 2 * ESCAPE,
            (Some(0xd800..=0xdfff), _) => {
                lone.push(at);
                at + ESCAPE
            }
            // Also skips both characters of an escaped backslash: the second one does not begin an escape.
            _ => at + 2,
        }
        .min(json.len());
    }
    lone
}

/// The UTF-16 unit with an escape at `at`.
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &[u8]) -> String {
        serde_json::from_slice(&repaired(json)).unwrap()
    }

    #[test]
    fn lone_surrogates_are_replaced() {
        assert_eq!(text(br#""cut \ud83d""#), "cut \u{fffd}");
        assert_eq!(text(br#""\uDE00 late""#), "\u{fffd} late");
        assert_eq!(text(br#""\ud83d\ud83d\ude00""#), "\u{fffd}😀");
        assert_eq!(text(br#""\ud83dx""#), "\u{fffd}x");
        assert_eq!(text(br#""\ud83d\n""#), "\u{fffd}\n");
        assert_eq!(text(br#""\\\ud83d""#), "\\\u{fffd}");
    }

    #[test]
    fn valid_text_is_borrowed() {
        for json in [r#""\ud83d\ude00""#, r#""\\ud83d""#, r#""plain \u00e4 ä""#] {
            assert!(matches!(repaired(json.as_bytes()), Cow::Borrowed(_)), "{json}");
        }
    }

    #[test]
    fn broken_bytes_and_marks_are_repaired() {
        assert_eq!(text(b"\xef\xbb\xbf\"a\""), "a");
        assert_eq!(text(b"\"caf\xe9\""), "caf\u{fffd}");
    }

    #[test]
    fn truncated_escapes_are_left_alone() {
        for json in [&br#""\ud8"#[..], br#""\ud83"#, b"\\"] {
            assert_eq!(repaired(json), json);
        }
    }
}
