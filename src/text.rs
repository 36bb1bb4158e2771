//! Makes text from elsewhere (models, servers, files, processes) safe to show: a terminal executes escape sequences,
//! and some terminals also obey marks that reorder a line.
//!
//! ```
//! use gem_setup::text::printable;
//!
//! assert_eq!(printable("plain"), "plain");
//! assert!(!printable("\u{1b}[31mred").contains('\u{1b}'));
//! ```

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use memchr::memchr;
use serde::Serialize;
use serde::ser::Error as _;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use textwrap::core::display_width;

/// Defines an enumeration whose variants are single words, also in serde, with `ALL`, `as_str` and `Display`. With an
/// error for other words, also defines `FromStr`.
macro_rules! words {
    (
        $(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }
        $($(#[$about:meta])* pub struct $error:ident;)?
    ) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// All values, in order.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The value's word in JSON, headers and messages.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        $(
            #[derive(Debug, thiserror::Error, PartialEq, Eq)]
            $(#[$about])*
            pub struct $error(String);

            impl std::str::FromStr for $name {
                type Err = $error;

                fn from_str(text: &str) -> Result<Self, Self::Err> {
                    let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
                    known.ok_or_else(|| $error(text.to_owned()))
                }
            }
        )?
    };
}
pub(crate) use words;

/// `time` in whole seconds, minutes or hours, rounded up.
///
/// ```
/// assert_eq!(gem_setup::text::in_words(std::time::Duration::from_secs(90 * 60 + 1)), "91 min");
/// ```
#[must_use]
pub fn in_words(time: Duration) -> String {
    match time.as_secs() + u64::from(time.subsec_nanos() > 0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3600)),
    }
}

/// `text` with control characters in escaped form, except line feeds and tabs.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| is_obeyed(c) && c != '\n' && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        push_printable(&mut shown, c);
    }
    Cow::Owned(shown)
}

/// Like [`printable`], for a single line: line ends are escaped too.
#[must_use]
pub fn printable_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// The first line of `text`, shortened if it is long.
#[must_use]
pub fn one_line(text: &str) -> String {
    const LONGEST: usize = 80;
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// The first words of `text` on one line, escaped and with at most `longest` characters before that.
///
/// ```
/// assert_eq!(gem_setup::text::opening("why is\n the build slow?", 12), "why is the b…");
/// ```
#[must_use]
pub fn opening(text: &str, longest: usize) -> String {
    let words = text.split_whitespace();
    let mut words = words.flat_map(|word| std::iter::once(' ').chain(word.chars())).skip(1);
    let mut shown = String::new();
    words.by_ref().take(longest).for_each(|c| push_printable(&mut shown, c));
    if words.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Rows of text in columns.
#[derive(Debug, PartialEq, Eq)]
pub struct Aligned {
    /// The rows, without blanks at the end.
    pub lines: Vec<String>,
    /// Where the last column begins.
    pub last: usize,
}

/// Aligns the cells of `rows` in columns that are `gap` blanks apart. Escape sequences have no width.
///
/// ```
/// let rows = [["a", "1"], ["long", "2"]].map(|row| row.map(str::to_owned));
/// assert_eq!(gem_setup::text::aligned(&rows, 2).lines, ["a     1", "long  2"]);
/// ```
#[must_use]
pub fn aligned<const N: usize>(rows: &[[String; N]], gap: usize) -> Aligned {
    let widest = |column: usize| rows.iter().map(|row| display_width(&row[column])).max();
    let widths: [usize; N] = std::array::from_fn(|column| widest(column).unwrap_or_default() + gap);
    let line = |row: &[String; N]| {
        let padded = row.iter().zip(widths).map(|(cell, width)| {
            let blanks = width.saturating_sub(display_width(cell));
            format!("{cell}{}", " ".repeat(blanks))
        });
        padded.collect::<String>().trim_end().to_owned()
    };
    Aligned {
        lines: rows.iter().map(line).collect(),
        last: widths.iter().rev().skip(1).sum(),
    }
}

/// Adds `c` to `text`, in escaped form if it is a control character.
pub fn push_printable(text: &mut String, c: char) {
    if is_obeyed(c) && c != '\n' && c != '\t' {
        text.extend(c.escape_unicode());
    } else {
        text.push(c);
    }
}

/// `value` as JSON in which every control character is escaped, including those that JSON itself allows.
///
/// # Errors
/// When `value` cannot be represented in JSON.
pub fn to_json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    write_json(&mut bytes, value)?;
    String::from_utf8(bytes).map_err(serde_json::Error::custom)
}

/// Appends the text that [`to_json`] returns to `bytes`.
///
/// # Errors
/// When `value` cannot be represented in JSON; `bytes` may then end with a part of it.
pub fn write_json(bytes: &mut Vec<u8>, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(bytes, Escaping))
}

/// Whether terminals act on `c`: control characters, line separators, and marks of writing direction.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The one control character of ASCII that JSON does not escape.
const DELETE: u8 = 0x7f;

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // The search takes most of the time, and most text is plain.
        if fragment.is_ascii() && memchr(DELETE, fragment.as_bytes()).is_none() {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        let mut plain = fragment;
        while let Some((at, c)) = plain.char_indices().find(|(_, c)| is_obeyed(*c)) {
            CompactFormatter.write_string_fragment(writer, &plain[..at])?;
            // All these characters are in the first plane.
            write!(writer, "\\u{:04x}", u32::from(c))?;
            plain = &plain[at + c.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        assert_eq!(printable("a\tb\nc"), "a\tb\nc");
        assert_eq!(
            printable("\u{1b}]0;x\u{7}\u{9b}31m\r"),
            "\\u{1b}]0;x\\u{7}\\u{9b}31m\\u{d}"
        );
        assert_eq!(printable("one\r\ntwo\u{7f}"), "one\ntwo\\u{7f}");
        assert_eq!(printable("abc\u{202e}def"), "abc\\u{202e}def");
        assert_eq!(printable_line("a\nb"), "a\\nb");
    }

    #[test]
    fn a_long_text_is_cut_to_one_short_line() {
        assert_eq!(one_line("sh -c x"), "sh -c x");
        assert_eq!(one_line("python3 -c import os\nos.x()"), "python3 -c import os…");
        assert_eq!(one_line(&"ä".repeat(100)), format!("{}…", "ä".repeat(80)));
    }

    #[test]
    fn json_escapes_them_and_reads_back_the_same() {
        let text = "ä\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\"\n";
        let json = to_json(&text).unwrap();
        assert_eq!(json, "\"ä\\u001b[2J\\u009b31m\\u007f\\u202e\\\"\\n\"");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
