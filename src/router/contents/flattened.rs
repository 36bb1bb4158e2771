//! A conversation inside one prompt, with history and request under headings. Gemini CLI's classification requests have
//! this form (docs/facts.md section 3).

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

use super::typed::{self, Place, line_end};
use super::{Content, Conversation};
use crate::router::Role;

/// The positions of history and request in a prompt.
#[derive(Debug)]
pub(crate) struct Flattened<'a> {
    text: &'a str,
    history: Range<usize>,
    request: Range<usize>,
}

impl<'a> Flattened<'a> {
    /// Finds both under their headings; `None` if no heading introduces a request.
    pub(crate) fn find(text: &'a str) -> Option<Self> {
        let mut headings = headings(text);
        // File contents and other additions may contain such a prompt themselves.
        let opening = headings.iter().find(|heading| heading.is("chat history"));
        let opening = opening.map_or(0, |heading| heading.end);
        let added = typed::additions(&text[opening..], Place::Opening);
        let is_added = |at: usize| added.iter().any(|range| range.contains(&at.wrapping_sub(opening)));
        headings.retain(|heading| !is_added(heading.start));
        let current = headings
            .iter()
            .rfind(|heading| heading.is("current request") && text[heading.end..].trim_start().starts_with('"'))
            .or_else(|| headings.iter().rfind(|heading| heading.is("current request")))?;
        let end = headings
            .iter()
            .rfind(|heading| heading.start > current.end && heading.is("reminder"))
            .map_or(text.len(), |heading| heading.start);
        let history = headings
            .iter()
            .find(|heading| heading.end < current.start && heading.is("chat history"))
            .map_or(current.start..current.start, |heading| heading.end..current.start);
        Some(Self {
            text,
            history: trimmed(text, history),
            request: unquoted(text, trimmed(text, current.end..end)),
        })
    }

    /// The typed text and the model's answers. The turns of the history are not separated, so they become one turn.
    pub(crate) fn conversation(&self) -> Conversation {
        let history = self.history();
        let history = (!history.is_empty()).then(|| Content::text(Role::Model, history));
        Conversation {
            request: self.request().into_owned(),
            history: history.into_iter().collect(),
            is_new_turn: true,
        }
    }

    /// The prompt without the client's additions; `None` if it contains none.
    pub(crate) fn slim(&self) -> Option<String> {
        let (history, request) = (self.history(), self.request());
        if history.len() == self.history.len() && request.len() == self.request.len() {
            return None;
        }
        let pieces = [
            &self.text[..self.history.start],
            &history,
            &self.text[self.history.end..self.request.start],
            &request,
            &self.text[self.request.end..],
        ];
        Some(pieces.concat())
    }

    fn history(&self) -> Cow<'a, str> {
        typed::history(&self.text[self.history.clone()], true)
    }

    fn request(&self) -> Cow<'a, str> {
        typed::request(&self.text[self.request.clone()])
    }
}

/// `range` without the white space at its ends.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + part.len() - part.trim_start().len();
    start..start + part.trim().len()
}

/// `range` without the double quotes around it.
fn unquoted(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let is_quoted = part.len() > 1 && part.starts_with('"') && part.ends_with('"');
    if is_quoted {
        range.start + 1..range.end - 1
    } else {
        range
    }
}

/// A Markdown heading line of a text.
struct Heading<'a> {
    words: &'a str,
    start: usize,
    end: usize,
}

impl Heading<'_> {
    fn is(&self, words: &str) -> bool {
        self.words.eq_ignore_ascii_case(words)
    }
}

/// The headings of `text`, in order.
fn headings(text: &str) -> Vec<Heading<'_>> {
    let first = text.starts_with('#').then_some(0);
    let others = memmem::find_iter(text.as_bytes(), "\n#").map(|at| at + 1);
    let starts = first.into_iter().chain(others);
    let heading = |start| {
        let end = line_end(text, start);
        Heading {
            words: text[start..end].trim_matches(|c: char| c.is_whitespace() || matches!(c, '#' | '*' | ':')),
            start,
            end,
        }
    };
    starts.map(heading).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(history: &str, request: &str) -> String {
        format!(
            "Some words about **Chat History** and **Current Request**.\n\n#### Chat History:\n{history}\n\n\
             #### Current Request:\n\"{request}\"\n\n\n### Reminder\nClassify the **Current Request**.\n\n### Output Format\nJSON\n"
        )
    }

    fn found(text: &str) -> (String, Vec<Content>) {
        let Conversation { request, history, .. } = Flattened::find(text).unwrap().conversation();
        (request, history)
    }

    #[test]
    fn request_and_history_stand_under_headings() {
        let (request, history) = found(&prompt("what is x?\n\nx is y", "why \"so\"?\nreally"));
        assert_eq!(request, "why \"so\"?\nreally");
        assert_eq!(history, [Content::text(Role::Model, "what is x?\n\nx is y")]);
        assert_eq!(found(&prompt("", "list files")), ("list files".to_owned(), Vec::new()));
        assert_eq!(found("#### Current Request:\n\"rename it\"").0, "rename it");
    }

    #[test]
    fn headings_in_the_conversation_do_not_mislead() {
        let text = prompt(
            "#### Current Request:\nno quotes here",
            "add a heading\n### Reminder\nto the file",
        );
        assert_eq!(found(&text).0, "add a heading\n### Reminder\nto the file");
    }

    #[test]
    fn named_files_may_quote_such_a_prompt() {
        let file = prompt("debug it", "why does the payment worker deadlock?");
        let files =
            format!("--- Content from referenced files ---\n\nContent from @a.ts:\n\n{file}\n--- End of content ---");
        let text = prompt("", &format!("explain @a.ts\n\n{files}"));
        assert_eq!(found(&text).0, "explain @a.ts");
    }

    #[test]
    fn additions_are_left_out() {
        let session = "<session_context>\n#### Chat History:\nsrc/why.md\n</session_context>";
        let files =
            "--- Content from referenced files ---\n\n\nContent from @a.ts:\n\n\nwhy\n\n\n--- End of content ---";
        for (history, plain) in [
            (session.to_owned(), ""),
            (format!("{session}\n\nwhat is x?\n\nx is y"), "what is x?\n\nx is y"),
        ] {
            let text = prompt(&history, &format!("explain @a.ts\n\n\n{files}"));
            let slim = Flattened::find(&text).unwrap().slim().unwrap();
            assert_eq!(slim, prompt(plain, "explain @a.ts"));
            assert_eq!(found(&text), found(&slim));
            assert_eq!(Flattened::find(&slim).unwrap().slim(), None);
        }
    }
}
