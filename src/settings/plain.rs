//! Rewrites what `JSON.parse` accepts and the editing parser does not: half a surrogate pair, a number beyond the range
//! of a double, a last comment without an end.
//!
//! Everything keeps its length, so the parser's positions are those of the file, whose own text is edited.

use super::splice::Splices;
use super::strict::{Region, regions};

/// `text` in a form that the parser reads, with every position unchanged.
pub(super) fn plain(text: &str) -> String {
    let mut splices = Splices::of(text);
    rewrite_surrogates(text, &mut splices);
    rewrite_numbers(text, &mut splices);
    if let Some(start) = unclosed_comment(text) {
        let blank = |character: char| match character {
            '\n' => "\n".to_owned(),
            other => " ".repeat(other.len_utf8()),
        };
        splices.replace(start..text.len(), text[start..].chars().map(blank).collect::<String>());
    }
    splices.apply()
}

/// Moves each lone surrogate to the private characters from U+E000, where different ones stay different.
fn rewrite_surrogates(text: &str, splices: &mut Splices<'_>) {
    let mut next = 0;
    for (at, character, region) in regions(text) {
        if region != Region::Text || character != '\\' || at < next {
            continue;
        }
        let Some(unit) = unit_at(text, at) else {
            next = at + 2;
            continue;
        };
        next = at + 6;
        match unit {
            0xD800..0xDC00 if matches!(unit_at(text, next), Some(0xDC00..0xE000)) => next += 6,
            0xD800..0xE000 => splices.replace(at + 2..next, format!("{:04x}", unit + 0x800)),
            _ => {}
        }
    }
}

/// The value of the escape `\uXXXX` at `at`.
fn unit_at(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}

/// Replaces numbers that are infinite as a double by a zero.
fn rewrite_numbers(text: &str, splices: &mut Splices<'_>) {
    let mut end = 0;
    for (at, character, region) in regions(text) {
        if region != Region::Outside || at < end || !character.is_ascii_digit() {
            continue;
        }
        let length = text[at..].find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | 'e' | 'E' | '+' | '-'));
        end = length.map_or(text.len(), |length| at + length);
        if text[at..end].parse::<f64>().is_ok_and(f64::is_infinite) {
            splices.replace(at..end, format!("0.{}", "0".repeat(end - at - 2)));
        }
    }
}

/// The start of a comment that `text` does not close.
fn unclosed_comment(text: &str) -> Option<usize> {
    let mut start = None;
    for (at, _, region) in regions(text) {
        match region {
            Region::Comment if start.is_none_or(|start| is_closed(&text[start..at])) => start = Some(at),
            Region::Comment => {}
            Region::Outside | Region::Text => start = None,
        }
    }
    start.filter(|start| text[*start..].starts_with("/*") && !is_closed(&text[*start..]))
}

/// Whether `comment` has come to its end.
fn is_closed(comment: &str) -> bool {
    if comment.starts_with("//") {
        comment.ends_with('\n')
    } else {
        comment.len() > 3 && comment.ends_with("*/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_parser_reads_is_unchanged() {
        for text in [
            "{}",
            "{\"a\": \"\\ud83d\\ude00 \\\\ud800 \\u0041\", \"b\": [1e308, -2.5, 10]} // 1e999",
            "{} /* \\ud800 */ // \"",
            "/*/ } */{} /**/",
        ] {
            assert_eq!(plain(text), text);
        }
    }

    #[test]
    fn the_rest_keeps_its_length() {
        for (text, expected) in [
            ("[\"\\ud800\"]", "[\"\\ue000\"]"),
            ("[\"\\uDFFF\\uD800x\"]", "[\"\\ue7ff\\ue000x\"]"),
            ("[\"\\\\\\ud800\"]", "[\"\\\\\\ue000\"]"),
            ("[1e999, -1E+400]", "[0.000, -0.0000]"),
            ("{} /* é\n", "{}      \n"),
            ("{} /* a */ /*/", "{} /* a */    "),
            ("{} // a\n/* b", "{} // a\n    "),
        ] {
            assert_eq!(plain(text), expected);
            assert_eq!(text.len(), expected.len());
        }
    }
}
