//! Selects the part of a request and of its history that the classifier reads.

use std::borrow::Cow;
use std::fmt::Write;

use super::talk;
use crate::router::Turn;

/// Bytes read at the beginning and at the end of a request, where people usually state what they want.
const REQUEST_HEAD: usize = 768;
const REQUEST_TAIL: usize = 512;

/// The turns of the history that are read: as many as Gemini CLI sends.
const TURNS: usize = 4;
/// Bytes read at the end of the history, before and after code blocks are removed.
const HISTORY_RAW: usize = 4096;
const HISTORY_TAIL: usize = 800;

/// Replaces a code block in the history.
pub(super) const CODE: &str = "[code]";
/// Marks a cut in the training data.
const CUT: &str = "[…]";

/// The request as the classifier reads it: limited in length, and without talk about models and difficulty.
pub(super) fn request(text: &str) -> String {
    let text = text.trim();
    let bounded = if text.len() <= REQUEST_HEAD + REQUEST_TAIL {
        Cow::Borrowed(text)
    } else {
        let head = text.floor_char_boundary(REQUEST_HEAD);
        let tail = text.ceil_char_boundary(text.len() - REQUEST_TAIL);
        Cow::Owned(format!("{}\n{}", &text[..head], &text[tail..]))
    };
    talk::drop_talk(&said(&bounded.replace(CUT, " ")))
}

/// Shorter requests are not searched for pasted lines.
const LONG: usize = 400;
/// The pasted lines to keep: they show the kind of the pasted text.
const PASTED_KEPT: usize = 4;

/// A long request without most of the code and log lines pasted into it.
fn said(text: &str) -> String {
    let mut pasted = 0;
    let keeps = |line: &&str| {
        pasted += usize::from(looks_pasted(line));
        pasted <= PASTED_KEPT || !looks_pasted(line)
    };
    if text.len() < LONG {
        return text.to_owned();
    }
    text.lines().filter(keeps).collect::<Vec<_>>().join("\n")
}

/// Whether a line is mostly symbols and digits, as in code and logs.
fn looks_pasted(line: &str) -> bool {
    let (mut plain, mut symbols) = (0, 0);
    for byte in line.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => plain += 1,
            b' ' | b'\t' | b'.' | b',' | b'?' | b'!' | b'\'' => {}
            _ => symbols += 1,
        }
    }
    symbols * 4 > plain && line.len() > 8
}

/// The end of the conversation before the request. Turns are joined by blank lines without their roles, because Gemini CLI's own
/// classification request has no roles: both forms of a conversation then read the same.
pub(super) fn history(turns: &[Turn]) -> String {
    let mut joined = String::new();
    let mut last = Vec::new();
    let mut length = 0;
    for turn in turns.iter().rev().take(TURNS) {
        let text = end(&turn.text, HISTORY_RAW);
        length += text.len();
        last.push(text);
        if length >= HISTORY_RAW {
            break;
        }
    }
    for text in last.into_iter().rev() {
        if !joined.is_empty() {
            joined.push_str("\n\n");
        }
        joined.push_str(text);
    }
    let joined = end(&joined, HISTORY_RAW).replace(CUT, " ");
    end(without_code(&joined).trim(), HISTORY_TAIL).to_owned()
}

/// The last `bytes` bytes of `text`, or a few less.
pub(super) fn end(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

/// Replaces fenced code blocks by [`CODE`].
fn without_code(text: &str) -> Cow<'_, str> {
    let fences = text.lines().filter(|line| is_fence(line)).count();
    if fences == 0 {
        return Cow::Borrowed(text);
    }
    // An odd number: the first fence closes a block that began earlier.
    let mut is_code = fences % 2 == 1;
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        if is_fence(line) {
            if is_code {
                let _ = writeln!(kept, "{CODE}");
            }
            is_code = !is_code;
        } else if !is_code {
            let _ = writeln!(kept, "{line}");
        }
    }
    Cow::Owned(kept)
}

fn is_fence(line: &str) -> bool {
    line.trim_start().starts_with("```")
}
