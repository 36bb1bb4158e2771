//! Words of a text, in lower case, with their hashes.

use super::hash::Fnv;

/// A text in lower case, split into words and single punctuation characters.
pub(super) struct Words {
    text: String,
    words: Vec<Word>,
}

/// One word, or one punctuation character.
#[derive(Clone, Copy)]
pub(super) struct Word {
    start: u32,
    end: u32,
    pub(super) hash: u32,
    /// Whether it is a word (letters, digits or `_`), not punctuation.
    pub(super) is_letters: bool,
}

impl Words {
    pub(super) fn of(text: &str) -> Self {
        let text = text.to_lowercase();
        let mut words = Vec::with_capacity(text.len() / 4 + 1);
        let mut begun = None;
        for (at, c) in text.char_indices() {
            if is_letter(c) {
                begun = begun.or(Some(at));
                continue;
            }
            if let Some(start) = begun.take() {
                words.push(Word::new(&text, start, at, true));
            }
            if !c.is_whitespace() {
                words.push(Word::new(&text, at, at + c.len_utf8(), false));
            }
        }
        if let Some(start) = begun {
            words.push(Word::new(&text, start, text.len(), true));
        }
        Self { text, words }
    }

    pub(super) fn as_slice(&self) -> &[Word] {
        &self.words
    }

    pub(super) fn spelling(&self, word: &Word) -> &str {
        &self.text[word.start as usize..word.end as usize]
    }
}

impl Word {
    fn new(text: &str, start: usize, end: usize, is_letters: bool) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
            hash: Fnv::new().bytes(&text.as_bytes()[start..end]).finish(),
            is_letters,
        }
    }
}

/// Whether `c` is part of a word. Combining marks are: scripts such as Devanagari use them for vowels.
pub(super) fn is_letter(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36f}' | '\u{900}'..='\u{dff}')
}
