//! Changes to the text of a settings file: collected first, then applied in one pass. All other text is kept.

use std::collections::BTreeSet;
use std::ops::Range;

use jsonc_parser::ast::{Object, ObjectProp};
use jsonc_parser::common::Ranged;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

const BLANKS: [char; 2] = [' ', '\t'];

/// Changes to apply to a text.
pub(super) struct Splices<'t> {
    text: &'t str,
    changes: Vec<(Range<usize>, String)>,
}

impl<'t> Splices<'t> {
    pub(super) const fn of(text: &'t str) -> Self {
        Self {
            text,
            changes: Vec::new(),
        }
    }

    /// Replaces the text at `range` by `new`.
    pub(super) fn replace(&mut self, range: Range<usize>, new: impl Into<String>) {
        self.changes.push((range, new.into()));
    }

    /// The text with all changes applied.
    pub(super) fn apply(mut self) -> String {
        self.changes.sort_by_key(|(range, _)| range.start);
        let mut changed = String::with_capacity(self.text.len());
        let mut done = 0;
        for (range, new) in &self.changes {
            changed.push_str(&self.text[done..range.start.max(done)]);
            changed.push_str(new);
            done = range.end.max(done);
        }
        changed.push_str(&self.text[done..]);
        changed
    }

    /// Adds `members` at the end of `object`, each on its own line; `root` shows how the file is indented.
    pub(super) fn append(&mut self, root: &Object<'_>, object: &Object<'_>, members: &Map<String, Value>) {
        let text = self.text;
        let close = object.range.end - 1;
        let layout = Layout::of(text, root, object);
        let at = match object.properties.last() {
            Some(last) => {
                self.replace(last.end()..last.end(), ",");
                end_of_comments(text, last.end())
            }
            None => object.range.start + text[object.range.start..close].trim_end().len(),
        };
        let mut added = layout.members(members);
        let rest = &text[at..close];
        let is_last_line = rest.trim_matches(BLANKS).is_empty();
        if is_last_line {
            added.push_str(layout.newline);
            added.push_str(layout.indent);
        }
        self.replace(at..if is_last_line { close } else { at }, added);
    }

    /// Removes the members of `object` that start at `starts`, their commas, and the lines that become empty.
    pub(super) fn remove(&mut self, object: &Object<'_>, starts: &BTreeSet<usize>) {
        let is_gone = |member: &&ObjectProp<'_>| starts.contains(&member.start());
        let comma_of = |member: &ObjectProp<'_>| comma_after(self.text, member.end());
        let gone = object.properties.iter().filter(is_gone);
        let mut spans: Vec<_> = gone
            .flat_map(|member| [Some(member.start()..member.end()), comma_of(member)])
            .flatten()
            .collect();
        let ends_bare = object
            .properties
            .last()
            .is_some_and(|last| is_gone(&last) && comma_of(last).is_none());
        if ends_bare {
            // Otherwise the last remaining member would keep a trailing comma.
            let stays = object.properties.iter().rfind(|member| !is_gone(member));
            spans.extend(stays.and_then(comma_of));
        }
        spans.sort_by_key(|span| span.start);
        let inside = object.range.start + 1..object.range.end - 1;
        if is_blank_without(self.text, &inside, &spans) {
            self.replace(inside, "");
            return;
        }
        for span in joined(self.text, spans) {
            self.replace(with_blanks(self.text, span), "");
        }
    }
}

/// The layout of members that are added to an object.
struct Layout<'t> {
    newline: &'static str,
    /// The indentation of the line on which the object starts.
    indent: &'t str,
    /// The indentation of the object's members.
    inner: String,
    /// The indentation of one level.
    unit: &'t str,
}

impl<'t> Layout<'t> {
    fn of(text: &'t str, root: &Object<'_>, object: &Object<'_>) -> Self {
        let first = |object: &Object<'_>| own_indent(text, object.properties.first()?.start());
        let indent = line_indent(text, object.range.start);
        let unit = first(root).filter(|unit| !unit.is_empty()).unwrap_or("  ");
        let is_windows = text.find('\n').is_some_and(|at| text[..at].ends_with('\r'));
        Self {
            newline: if is_windows { "\r\n" } else { "\n" },
            indent,
            inner: first(object).map_or_else(|| format!("{indent}{unit}"), str::to_owned),
            unit,
        }
    }

    /// The text of `members`, with a line break before each and a comma between them.
    fn members(&self, members: &Map<String, Value>) -> String {
        let line = format!("{}{}", self.newline, self.inner);
        let member = |(name, value): (&String, &Value)| {
            let value = self.pretty(value).replace('\n', &line);
            format!("{line}{}: {value}", Value::from(name.as_str()))
        };
        members.iter().map(member).collect::<Vec<_>>().join(",")
    }

    fn pretty(&self, value: &Value) -> String {
        let mut bytes = Vec::new();
        let formatter = PrettyFormatter::with_indent(self.unit.as_bytes());
        // Serializing a value to memory cannot fail.
        let _ = value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The line of `at`, up to `at`.
fn line_before(text: &str, at: usize) -> &str {
    &text[text[..at].rfind('\n').map_or(0, |newline| newline + 1)..at]
}

/// The indentation of the line that contains `at`.
fn line_indent(text: &str, at: usize) -> &str {
    let line = line_before(text, at);
    &line[..line.len() - line.trim_start_matches(BLANKS).len()]
}

/// The white space before `at`, if nothing else precedes it on its line.
fn own_indent(text: &str, at: usize) -> Option<&str> {
    let before = text[..at].trim_end_matches(BLANKS);
    before.ends_with('\n').then(|| &text[before.len()..at])
}

/// The end of the comments that follow `from` on its line.
fn end_of_comments(text: &str, from: usize) -> usize {
    let mut end = from;
    loop {
        let rest = text[end..].trim_start_matches(BLANKS);
        let Some(length) = comment_at_start(rest) else {
            return end;
        };
        end = text.len() - rest.len() + length;
    }
}

/// The length of the comment at the start of `text`, without the line break of a line comment.
fn comment_at_start(text: &str) -> Option<usize> {
    if let Some(inside) = text.strip_prefix("/*") {
        return Some(inside.find("*/").map_or(text.len(), |at| at + 4));
    }
    text.starts_with("//").then(|| {
        let line = text.split('\n').next().unwrap_or(text);
        line.trim_end_matches('\r').len()
    })
}

/// The comma after `from`, skipping white space, line breaks and comments.
fn comma_after(text: &str, from: usize) -> Option<Range<usize>> {
    let mut rest = text[from..].trim_start();
    while let Some(length) = comment_at_start(rest) {
        rest = rest[length..].trim_start();
    }
    let at = text.len() - rest.len();
    rest.starts_with(',').then_some(at..at + 1)
}

/// Whether `range` of `text`, without `spans`, contains only white space.
fn is_blank_without(text: &str, range: &Range<usize>, spans: &[Range<usize>]) -> bool {
    let starts = std::iter::once(range.start).chain(spans.iter().map(|span| span.end));
    let ends = spans.iter().map(|span| span.start).chain([range.end]);
    starts.zip(ends).all(|(start, end)| text[start..end].trim().is_empty())
}

/// Merges neighbouring `spans` with only white space between them.
fn joined(text: &str, spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if text[last.end..span.start].trim_matches(BLANKS).is_empty() => last.end = span.end,
            _ => joined.push(span),
        }
    }
    joined
}

/// Extends `span` to its whole line if the line contains nothing else, or else to the white space that becomes
/// superfluous.
fn with_blanks(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text[..span.start].trim_end_matches(BLANKS).len();
    let rest = text[span.end..].trim_start_matches(BLANKS);
    let end = text.len() - rest.len();
    let line_break = ["\r\n", "\n"]
        .into_iter()
        .find(|line_break| rest.starts_with(line_break));
    match (text[..start].ends_with('\n'), line_break) {
        (true, Some(line_break)) => start..end + line_break.len(),
        (true, None) => span.start..end,
        (false, _) => start..span.end,
    }
}
