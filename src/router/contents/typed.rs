//! Separates typed text from the client's additions: session and editor context, notes of hooks, contents of named
//! files.
//!
//! Additions are recognised by their form, not by their wording (for Gemini CLI's forms see docs/facts.md section 3):
//! blocks between tags with a client's names, an editor's state as fenced JSON, and file contents between rules. Pasted
//! text may look similar, so fewer names count the closer a text is to the request.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memmem};

/// Tags that clients are known to use; they count everywhere.
const CLIENT_NAMES: [&str; 10] = [
    "session_context",
    "hook_context",
    "ide_context",
    "editor_context",
    "environment_context",
    "environment_details",
    "system-reminder",
    "system_reminder",
    "system_note",
    "state_snapshot",
];
/// The last word of other names that clients give their blocks.
const LAST_WORDS: [&str; 2] = ["context", "reminder"];
/// A tag whose name contains one of these words describes the session if it is at the start of a history.
const SESSION_WORDS: [&str; 14] = [
    "context",
    "session",
    "environment",
    "workspace",
    "editor",
    "ide",
    "system",
    "memory",
    "instructions",
    "metadata",
    "snapshot",
    "scratchpad",
    "tabs",
    "files",
];

/// The keys of an editor's state; the client's description contains at least one of them.
const EDITOR_KEYS: [&str; 7] = [
    "\"activeFile\"",
    "\"otherOpenFiles\"",
    "\"activeFileChanged\"",
    "\"filesOpened\"",
    "\"filesClosed\"",
    "\"cursorMoved\"",
    "\"selectionChanged\"",
];

/// The beginning of a code fence, and of the fence that contains an editor's state.
const FENCE: &str = "```";
const JSON_FENCE: &str = "```json";

/// The maximum number of blocks to look for in one text, as each search may read to the end of the text. Clients add only
/// a few.
const MOST_BLOCKS: usize = 64;

/// The position of a text in the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the beginning of the history, where clients describe the session.
    Opening,
    /// In a later turn of the history.
    Later,
    /// In the request.
    Request,
}

/// The turn `text` of the history without the client's additions; `opens` is true for the first turn.
pub(super) fn history(text: &str, opens: bool) -> Cow<'_, str> {
    let place = if opens { Place::Opening } else { Place::Later };
    without(text, &additions(text, place))
}

/// The request `text` without the client's additions. If nothing else is left, a block stays that a person may have
/// pasted.
pub(super) fn request(text: &str) -> Cow<'_, str> {
    let found = additions(text, Place::Request);
    match without(text, &found) {
        rest if rest.is_empty() => without(text, &Scan::new(text, Place::Request).only_known().additions()),
        rest => rest,
    }
}

/// `text` without `ranges` and without the white space around them.
fn without<'a>(text: &'a str, ranges: &[Range<usize>]) -> Cow<'a, str> {
    if ranges.is_empty() {
        return Cow::Borrowed(text);
    }
    let starts = ranges.iter().map(|range| range.end);
    let ends = ranges.iter().map(|range| range.start);
    let kept: Vec<&str> = std::iter::once(0)
        .chain(starts)
        .zip(ends.chain([text.len()]))
        .map(|(start, end)| text[start..end].trim())
        .filter(|piece| !piece.is_empty())
        .collect();
    match kept[..] {
        [] => Cow::Borrowed(""),
        [only] => Cow::Borrowed(only),
        _ => Cow::Owned(kept.join("\n\n")),
    }
}

/// The positions of the client's additions in `text`, in order.
pub(super) fn additions(text: &str, place: Place) -> Vec<Range<usize>> {
    // Most texts contain none of these three marks.
    let contains = |mark: &str| memmem::find(text.as_bytes(), mark.as_bytes()).is_some();
    if !["<", "--- ", JSON_FENCE].into_iter().any(contains) {
        return Vec::new();
    }
    Scan::new(text, place).additions()
}

/// One pass over the lines of a text.
struct Scan<'a> {
    text: &'a str,
    place: Place,
    /// Whether only names of [`CLIENT_NAMES`] count.
    is_strict: bool,
    /// Whether all lines so far were additions.
    opens: bool,
    is_fenced: bool,
    blocks: usize,
    /// The names of blocks without an end.
    unclosed: Vec<&'a str>,
    /// Whether the end of file contents is missing.
    has_no_end: bool,
}

impl<'a> Scan<'a> {
    const fn new(text: &'a str, place: Place) -> Self {
        Self {
            text,
            place,
            is_strict: false,
            opens: true,
            is_fenced: false,
            blocks: 0,
            unclosed: Vec::new(),
            has_no_end: false,
        }
    }

    const fn only_known(mut self) -> Self {
        self.is_strict = true;
        self
    }

    fn additions(mut self) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut start = 0;
        while start < self.text.len() {
            let end = line_end(self.text, start);
            let line = self.text[start..end].trim();
            if let Some(addition) = self.addition(start, line) {
                start = line_end(self.text, addition.end - 1);
                found.push(addition);
                continue;
            }
            self.is_fenced ^= line.starts_with(FENCE);
            self.opens &= line.is_empty();
            start = end;
        }
        found
    }

    /// The addition that begins with `line`, if there is one.
    fn addition(&mut self, start: usize, line: &'a str) -> Option<Range<usize>> {
        if self.is_fenced {
            return None;
        }
        self.block(start, line)
            .or_else(|| self.file_contents(start, line))
            .or_else(|| editor_state(self.text, start, line))
    }

    fn file_contents(&mut self, start: usize, line: &str) -> Option<Range<usize>> {
        if self.has_no_end || !begins_contents(line) {
            return None;
        }
        let end = contents_end(self.text, start);
        self.has_no_end = end.is_none();
        Some(start..end?)
    }

    /// The block between a client's tags that begins with `line`, if there is one.
    fn block(&mut self, start: usize, line: &'a str) -> Option<Range<usize>> {
        let name = tag(line)?;
        if !self.counts(name) || self.unclosed.contains(&name) || self.blocks == MOST_BLOCKS {
            return None;
        }
        self.blocks += 1;
        let end = closing(self.text, start, name);
        if end.is_none() {
            self.unclosed.push(name);
        }
        Some(start..end?)
    }

    /// Whether a block with this name counts as an addition at this place.
    fn counts(&self, name: &str) -> bool {
        if CLIENT_NAMES.contains(&name) {
            return true;
        }
        let words = words(name);
        let is_likely = words.len() > 1 && words.last().is_some_and(|last| LAST_WORDS.contains(&&**last));
        let is_sessions = || words.iter().any(|word| SESSION_WORDS.contains(&&**word)) || name.contains('_');
        !self.is_strict && (is_likely || (self.place == Place::Opening && self.opens && is_sessions()))
    }
}

/// The words of a name in snake_case, kebab-case or camelCase, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        let is_mark = matches!(c, '_' | '-' | ':' | '.');
        if is_mark || c.is_ascii_uppercase() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| !is_mark) {
            word.push(c.to_ascii_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The end of the line that contains `at`, after its line break.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    memchr(b'\n', &text.as_bytes()[at..]).map_or(text.len(), |found| at + found + 1)
}

/// The name of the tag at the start of `line`.
fn tag(line: &str) -> Option<&str> {
    let line = line.strip_prefix('<')?;
    let length = line.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | ':' | '.'))?;
    let (name, rest) = line.split_at(length);
    (!name.is_empty() && rest.contains('>')).then_some(name)
}

/// The end of the block `name` that opens at `start`. A block may contain blocks of the same name, and text that
/// mentions its closing tag. A closing tag on a line of its own wins over one at the end of a line.
fn closing(text: &str, start: usize, name: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at_line_end = None;
    let mut at = start;
    while at < text.len() {
        let next = line_end(text, at);
        let line = text[at..next].trim();
        let closes = closer(line, name);
        if tag(line) == Some(name) {
            if let Some(end) = at_line_end.filter(|_| depth == 1) {
                return Some(end);
            }
            depth += 1;
        }
        match closes {
            Some(0) => depth = depth.saturating_sub(1),
            Some(_) if tag(line) == Some(name) => depth -= 1,
            Some(_) if depth == 1 => {
                at_line_end.get_or_insert(at + text[at..next].trim_end().len());
            }
            _ => {}
        }
        if depth == 0 {
            return Some(at + text[at..next].trim_end().len());
        }
        at = next;
    }
    at_line_end
}

/// The position in `line` of the closing tag `name`, if the line ends with it.
fn closer(line: &str, name: &str) -> Option<usize> {
    let rest = line.strip_suffix('>')?.trim_end().strip_suffix(name)?;
    rest.strip_suffix("</").map(str::len)
}

/// The end of the contents of named files that begin at `start`: the last closing rule before the next such contents,
/// because files may contain such rules themselves.
fn contents_end(text: &str, start: usize) -> Option<usize> {
    let mut last = None;
    let mut at = line_end(text, start);
    while at < text.len() {
        let end = line_end(text, at);
        let line = text[at..end].trim();
        if last.is_some() && begins_contents(line) {
            break;
        }
        // If the request is quoted in a prompt, its last line ends with the quote.
        let unquoted = line.strip_suffix('"').unwrap_or(line);
        if rule(unquoted).is_some_and(|title| title.starts_with("end of ") && title.contains("content")) {
            last = Some(end);
        }
        at = end;
    }
    last
}

fn begins_contents(line: &str) -> bool {
    rule(line).is_some_and(|title| title.contains("content") && title.contains("file"))
}

/// The title of a rule such as `--- End of content ---`, in lower case.
fn rule(line: &str) -> Option<String> {
    let title = line.strip_prefix("--- ")?.strip_suffix(" ---")?;
    Some(title.to_ascii_lowercase())
}

/// An editor's state in a fence. `line` opens the fence or introduces it.
fn editor_state(text: &str, start: usize, line: &str) -> Option<Range<usize>> {
    let next = line_end(text, start);
    let fence = if line == JSON_FENCE { start } else { next };
    let state = line_end(text, fence);
    if line.is_empty() || text[fence..state].trim() != JSON_FENCE {
        return None;
    }
    let length = text[state..].find("\n```")?;
    let is_editors = EDITOR_KEYS.iter().any(|key| text[state..state + length].contains(key));
    is_editors.then(|| start..line_end(text, state + length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str =
        "<session_context>\nToday is Monday.\n├───why.md\n└───</session_context>\n\n</session_context>";
    const EDITOR: &str = "The editor of the user, as JSON.\n```json\n{\n  \"activeFile\": {\"path\": \"a.ts\"}\n}\n```";
    const FILES: &str = "--- Content from referenced files ---\n\nContent from @a.ts:\n\nwhy\n--- End of content ---\nwhy\n--- End of content ---";

    fn opening(text: &str) -> Cow<'_, str> {
        history(text, true)
    }

    #[test]
    fn blocks_that_open_the_history_are_additions() {
        for name in [
            "session_context",
            "ide-context",
            "environment",
            "open_tabs",
            "context",
            "sessionContext",
            "client:session",
            "scratchpad",
        ] {
            let block = format!("<{name} version=\"2\">\nwhy\n</{name}>");
            assert_eq!(opening(&block), "", "{name}");
            assert_eq!(
                opening(&format!("{block}\r\n\r\nlist the files\n")),
                "list the files",
                "{name}"
            );
        }
        let several = format!("{SESSION}\n\n{EDITOR}\n\n<memory>m</memory>\nhello");
        assert_eq!(opening(&several), "hello");
    }

    #[test]
    fn blocks_end_where_they_close() {
        let nested = "<a_context>\n<a_context>\nx\n</a_context>\nwhy\n</a_context >\nhello";
        assert_eq!(opening(nested), "hello");
        let mixed = "<hook_context>\nfoo</hook_context>\nhello\n<hook_context>\nbar\n</hook_context>";
        assert_eq!(opening(mixed), "hello");
        let two = "first\n<hook_context>a</hook_context>\nsecond\n<hook_context>b</hook_context>\nthird";
        assert_eq!(history(two, false), "first\n\nsecond\n\nthird");
        let files = format!("one\n\n{FILES}\n\nHello from flash\n\ntwo\n\n{FILES}\n\nHello from pro");
        assert_eq!(
            history(&files, false),
            "one\n\nHello from flash\n\ntwo\n\nHello from pro"
        );
    }

    #[test]
    fn additions_are_found_after_typed_text() {
        for addition in [
            FILES,
            EDITOR,
            SESSION,
            "<hook_context>why</hook_context>",
            "<system_note>\nUse the agent.\n</system_note>",
            "<system-reminder>\nplan\n</system-reminder>",
            "<projectContext>\nplan\n</projectContext>",
        ] {
            let text = format!("list the files\n\n\n{addition}\n");
            assert_eq!(request(&text), "list the files", "{addition}");
            assert_eq!(
                request(&format!("{addition}\n\nlist the files")),
                "list the files",
                "{addition}"
            );
        }
    }

    #[test]
    fn pasted_text_is_typed() {
        for text in [
            "<div>\nwhy\n</div>",
            "<my-button>\nx\n</my-button>",
            "center this:\n<user_card>\nx\n</user_card>",
            "why does this fail?\n<order_details>\nx\n</order_details>",
            "fix it:\n<session-config>\nx\n</session-config>",
            "what is this?\n```xml\n<system-reminder>\nx\n</system-reminder>\n```",
            "<instructions>\nDesign a migration\n</instructions>\ngo",
            "<task_context>\nfind the cause\n</task_context>",
            "<T> is not a type",
            "a < b\n--- a.ts ---\nx",
            "read this\n--- contents of file a.py ---\nx = 1\n",
            "what is wrong?\n```json\n{\"openFiles\": 1}\n```",
            "<session_context> never closes",
            "mention `<hook_context>x</hook_context>` in the page",
        ] {
            assert_eq!(request(text), text);
        }
        assert_eq!(opening("<div>\nwhy\n</div>"), "<div>\nwhy\n</div>");
        assert_eq!(request(SESSION), "", "nothing is typed");
    }

    #[test]
    fn long_texts_take_one_pass() {
        let started = std::time::Instant::now();
        for line in [
            "<a>\n",
            "<a_context>\n",
            "<a_context>\n</b_context>\n",
            "--- file content ---\n",
            "```json\n",
        ] {
            let text = line.repeat(20_000);
            request(&text);
            opening(&text);
        }
        let names: String = (0..5_000).map(|number| format!("<a{number}_context>\n")).collect();
        assert_eq!(request(&names), names);
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    }

    #[test]
    fn cutting_is_total() {
        for text in [
            "<",
            "<a",
            "<a_b>",
            "</a_b>",
            "<a_b></a_b>",
            "```json",
            "```json\n\n```",
            "--- file content ---",
            "é<x_context>é</x_context>é",
            "<x_context>é</x_context>",
        ] {
            opening(text);
            history(text, false);
            request(text);
        }
    }
}
