//! `key: value` pairs in a text that only resembles JSON.
//!
//! One pass over the text, from its first brace if it has one, without recursion. Brackets and commas are skipped, so missing, doubled and
//! trailing ones do not matter. If quotes inside a quoted text are not escaped, the text ends at the first quote after which an object
//! would continue.

use super::Found;

/// The maximum number of bytes between a quote and the end of the next key.
const LONGEST_KEY: usize = 64;

/// The verdict in the pairs of `text`.
pub(super) fn scan(text: &str) -> Found {
    let text = plain_quotes(text);
    let mut found = Found::default();
    let mut rest = &text[text.find('{').unwrap_or_default()..];
    while let Some((token, behind)) = next_token(rest) {
        rest = match after_colon(behind) {
            Some(value) => match scalar(value) {
                Some((scalar, behind)) => {
                    found.note(token, &unescape(scalar));
                    behind
                }
                None => value,
            },
            None => behind,
        };
    }
    found
}

/// Typographic quotes and full-width punctuation in their plain forms.
fn plain_quotes(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '“' | '”' | '„' | '‟' | '«' | '»' => '"',
            '‘' | '’' | '‚' | '‛' => '\'',
            '：' => ':',
            '，' => ',',
            '｛' => '{',
            '｝' => '}',
            other => other,
        })
        .collect()
}

/// The next quoted text or word, without its quotes, and the rest.
fn next_token(text: &str) -> Option<(&str, &str)> {
    let start = text.find(|c: char| is_quote(c) || is_word(c))?;
    let text = &text[start..];
    quoted(text).or_else(|| Some(word(text)))
}

/// The quoted text at the beginning of `text`, and the rest.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| is_quote(*c))?;
    let inside = &text[quote.len_utf8()..];
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote && goes_on(&inside[at + c.len_utf8()..]) {
            return Some((&inside[..at], &inside[at + c.len_utf8()..]));
        }
    }
    Some((inside, ""))
}

/// Whether `text` is the continuation after a quoted text, not a part of it.
fn goes_on(text: &str) -> bool {
    let text = text.trim_start();
    match text.chars().next() {
        None | Some(':' | '=' | '}' | ']') => true,
        Some('`' | '/') => text.starts_with("```") || text.starts_with("//"),
        Some(',' | ';') => {
            let text = text[1..].trim_start();
            text.is_empty() || text.starts_with(['}', ']', ',']) || begins_with_key(text)
        }
        Some(_) => begins_with_key(text),
    }
}

/// Whether `text` begins with a short word, quoted or not, and a colon.
fn begins_with_key(text: &str) -> bool {
    let text = super::beginning(text, LONGEST_KEY);
    let text = text.trim_start_matches(is_quote);
    let (_, behind) = word(text);
    behind.len() < text.len() && after_colon(behind).is_some()
}

/// The word at the beginning of `text`, possibly empty, and the rest; `here's` is one word.
fn word(text: &str) -> (&str, &str) {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let apostrophe = c == '\'' && at > 0 && chars.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        if !is_word(c) && !apostrophe {
            return text.split_at(at);
        }
    }
    (text, "")
}

/// The text after the colon (or `=`, `=>`) at the beginning of `text`; a stray quote or Markdown marks may precede the colon.
fn after_colon(text: &str) -> Option<&str> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || is_quote(c) || matches!(c, '`' | '*'));
    let text = text
        .strip_prefix(':')
        .or_else(|| text.strip_prefix("=>"))
        .or_else(|| text.strip_prefix('='))?;
    Some(text.trim_start())
}

/// The value at the beginning of `text`, and the rest; `None` for an object or a list.
fn scalar(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['{', '[']) {
        return None;
    }
    Some(quoted(text).unwrap_or_else(|| text.split_at(text.find([',', '}', ']', '\n']).unwrap_or(text.len()))))
}

/// `text` with its one-character JSON escapes resolved; others are unchanged.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n' | 'r' | 't') => plain.push(' '),
                Some(other) => plain.push(other),
                None => {}
            },
            other => plain.push(other),
        }
    }
    plain
}

const fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}
