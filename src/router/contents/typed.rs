//! Tells what a person typed from what the client added: session and editor context, notes of hooks, contents of named files.
//!
//! Additions are recognised by their shape, so that a client may word them as it likes (FACTS section 3 has Gemini CLI's):
//! blocks between tags that are named like a client's, an editor's state as fenced JSON, and file contents between rules.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memmem};

/// Last words of the names of a client's tags, as in `hook_context`, `system-reminder`, `environment_details`.
const LAST_WORDS: [&str; 8] = [
    "context", "reminder", "note", "notes", "details", "info", "metadata", "snapshot",
];
/// Words that make a name in `snake_case` a client's, as in `ide_selection`; markup seldom has such names.
const CLIENT_WORDS: [&str; 9] = [
    "context",
    "session",
    "environment",
    "workspace",
    "editor",
    "ide",
    "system",
    "hook",
    "project",
];
/// Names of one word that are a client's where a conversation opens with them.
const SESSION_NAMES: [&str; 10] = [
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
];

/// Keys of an editor's state, of which one stands in what the client says about it.
const EDITOR_KEYS: [&str; 8] = [
    "\"activeFile\"",
    "\"otherOpenFiles\"",
    "\"openFiles\"",
    "\"activeFileChanged\"",
    "\"filesOpened\"",
    "\"filesClosed\"",
    "\"cursorMoved\"",
    "\"selectionChanged\"",
];

/// Begins a fence that holds JSON.
const FENCE: &str = "```json";

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the beginning of the conversation, where clients describe the session.
    Opening,
    /// In a later turn.
    Later,
}

impl Place {
    /// The place of the turn that follows `turns` others.
    pub(super) const fn of(turns: usize) -> Self {
        if turns == 0 { Self::Opening } else { Self::Later }
    }
}

/// `text` without what the client added.
pub(super) fn typed(text: &str, place: Place) -> Cow<'_, str> {
    without(text, &additions(text, Some(place)))
}

/// `text`, a request, without what the client added. A person may paste a block and nothing else, so a block is left alone
/// then unless its name is surely a client's.
pub(super) fn request(text: &str, place: Place) -> Cow<'_, str> {
    match typed(text, place) {
        rest if rest.is_empty() => without(text, &additions(text, None)),
        rest => rest,
    }
}

/// `text` without `ranges` and without the blank space around them.
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

/// Where the client's additions stand in `text`, in order; without a place only those that are a client's everywhere.
fn additions(text: &str, place: Option<Place>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // Most texts hold none of the three marks.
    if !["<", "--- ", FENCE].iter().any(|mark| text.contains(mark)) {
        return found;
    }
    let mut opens = place == Some(Place::Opening);
    let mut start = 0;
    while start < text.len() {
        let end = line_end(text, start);
        let line = text[start..end].trim();
        let addition = block(text, start, line, opens, place.is_some())
            .or_else(|| file_contents(text, start, line))
            .or_else(|| editor_state(text, start, line));
        if let Some(addition) = addition {
            start = line_end(text, addition.end - 1);
            found.push(addition);
            continue;
        }
        opens &= line.is_empty();
        start = end;
    }
    found
}

/// The end of the line that holds `at`, behind its line break.
fn line_end(text: &str, at: usize) -> usize {
    memchr(b'\n', &text.as_bytes()[at..]).map_or(text.len(), |found| at + found + 1)
}

/// The block between a client's tags that begins with `line`.
fn block(text: &str, start: usize, line: &str, opens: bool, may_be_alone: bool) -> Option<Range<usize>> {
    let (name, rest) = tag(line)?;
    let block = start..closing(text, start, name, rest.is_empty())?;
    let is_alone = || text[..block.start].trim().is_empty() && text[block.end..].trim().is_empty();
    let is_clients = is_clients(name) || (is_sessions(name) && (opens || (may_be_alone && is_alone())));
    is_clients.then_some(block)
}

/// The name of the tag that `line` begins with, and what follows the tag.
fn tag(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix('<')?;
    let length = line.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'))?;
    let (name, rest) = line.split_at(length);
    let (_, rest) = rest.split_once('>')?;
    (!name.is_empty()).then_some((name, rest.trim()))
}

/// The end of the block that opens at `start`. What a block of several lines holds may name its closing tag; the tag itself
/// has a line of its own.
fn closing(text: &str, start: usize, name: &str, has_lines: bool) -> Option<usize> {
    let tag = format!("</{name}>");
    let ends = || memmem::find_iter(&text.as_bytes()[start..], &tag).map(|at| start + at);
    let has_own_line = |at: &usize| {
        let before = text[..*at].trim_end_matches([' ', '\t']);
        let after = text[at + tag.len()..].trim_start_matches([' ', '\t', '\r']);
        before.ends_with('\n') && (after.is_empty() || after.starts_with('\n'))
    };
    let own_line = if has_lines { ends().find(has_own_line) } else { None };
    own_line.or_else(|| ends().next()).map(|at| at + tag.len())
}

/// Whether a tag of this name is a client's wherever it stands.
fn is_clients(name: &str) -> bool {
    let mut words = name.split(['_', '-']);
    let Some(last) = words.next_back() else { return false };
    let Some(first) = words.next() else { return false };
    let is_snake = !name.contains('-');
    LAST_WORDS.contains(&last)
        || (is_snake && (CLIENT_WORDS.contains(&first) || words.any(|word| CLIENT_WORDS.contains(&word))))
}

/// Whether a tag of this name describes the session where a conversation opens with it.
fn is_sessions(name: &str) -> bool {
    name.contains('_') || SESSION_NAMES.contains(&name)
}

/// Contents of named files, from a rule that says so to the rule that ends them.
fn file_contents(text: &str, start: usize, line: &str) -> Option<Range<usize>> {
    let title = rule(line)?;
    if !title.contains("content") || !title.contains("file") {
        return None;
    }
    let mut at = line_end(text, start);
    while at < text.len() {
        let end = line_end(text, at);
        if rule(text[at..end].trim()).is_some_and(|title| title.starts_with("end of ")) {
            return Some(start..end);
        }
        at = end;
    }
    Some(start..text.len())
}

/// The title of a rule such as `--- End of content ---`, in lower case.
fn rule(line: &str) -> Option<String> {
    let title = line.strip_prefix("--- ")?.strip_suffix(" ---")?;
    Some(title.to_ascii_lowercase())
}

/// An editor's state in a fence, from `line`, which opens the fence or introduces it.
fn editor_state(text: &str, start: usize, line: &str) -> Option<Range<usize>> {
    let next = line_end(text, start);
    let fence = if line == FENCE { start } else { next };
    let state = line_end(text, fence);
    if line.is_empty() || text[fence..state].trim() != FENCE {
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
    const FILES: &str = "--- Content from referenced files ---\n\nContent from @a.ts:\n\nwhy\n--- End of content ---";

    fn opening(text: &str) -> Cow<'_, str> {
        typed(text, Place::Opening)
    }

    #[test]
    fn blocks_that_open_the_conversation_are_additions() {
        for name in ["session_context", "ide-context", "environment", "open_tabs", "context"] {
            let block = format!("<{name} version=\"2\">\nwhy\n</{name}>");
            assert_eq!(opening(&block), "", "{name}");
            assert_eq!(
                opening(&format!("{block}\n\nlist the files\n")),
                "list the files",
                "{name}"
            );
        }
        assert_eq!(
            opening(&format!("{SESSION}\n\n{EDITOR}\n\n<memory>m</memory>\nhello")),
            "hello"
        );
    }

    #[test]
    fn additions_are_found_after_typed_text() {
        for addition in [
            FILES,
            EDITOR,
            "<hook_context>why</hook_context>",
            "<system_note>\nUse the agent.\n</system_note>",
            "<system-reminder>\nplan\n</system-reminder>",
        ] {
            let text = format!("list the files\n\n\n{addition}\n");
            assert_eq!(typed(&text, Place::Later), "list the files", "{addition}");
        }
        let two = "first\n<hook_context>a</hook_context>\nsecond\n<hook_context>b</hook_context>\nthird";
        assert_eq!(typed(two, Place::Later), "first\n\nsecond\n\nthird");
    }

    #[test]
    fn pasted_text_is_typed() {
        for text in [
            "<div>\nwhy\n</div>",
            "<my-button>\nx\n</my-button>",
            "center this:\n<user_card>\nx\n</user_card>",
            "fix it:\n<session-config>\nx\n</session-config>",
            "<state>\nx\n</state>",
            "<T> is not a type",
            "a < b\n--- a.ts ---\nx",
            "what is wrong?\n```json\n{\"a\": 1}\n```",
            "<session_context> never closes",
            "mention `<hook_context>x</hook_context>` in the page",
        ] {
            assert_eq!(opening(text), text);
        }
    }

    #[test]
    fn a_pasted_block_can_be_the_request() {
        let pasted = "<open_tabs>\nx\n</open_tabs>";
        assert_eq!(request(pasted, Place::Later), pasted);
        assert_eq!(typed(pasted, Place::Later), "");
        assert_eq!(request(SESSION, Place::Opening), "");
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
        ] {
            opening(text);
            typed(text, Place::Later);
        }
    }
}
