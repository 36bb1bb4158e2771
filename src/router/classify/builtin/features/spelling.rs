//! Spelling: words, pairs of words, beginnings of words and runs of letters, whatever they mean.

use super::{Features, Namespace};
use crate::router::classify::builtin::hash::Fnv;
use crate::router::classify::builtin::text::{Kind, Token, Words};

/// Spelling is looked at in this many words at the beginning of a text, and in a third as many at its end.
const SPELLED_WORDS: usize = 150;

/// Letters of a word that make its beginning: what is left of it in most inflections.
const BEGINNING: usize = 5;

/// Runs of letters are three to this many bytes long.
const LONGEST_RUN: usize = 5;

/// How much the spelling of a text weighs; 0 leaves a kind of feature out.
pub(super) struct Weights {
    pub(super) words: f32,
    pub(super) pairs: f32,
    pub(super) beginnings: f32,
    pub(super) runs: f32,
}

impl Weights {
    pub(super) fn scaled(&self, by: f32) -> Self {
        Self {
            words: self.words * by,
            pairs: self.pairs * by,
            beginnings: self.beginnings * by,
            runs: self.runs * by,
        }
    }
}

impl Features {
    pub(super) fn spelling(&mut self, words: &Words, namespace: Namespace, weights: &Weights) {
        for token in spelled(words) {
            self.note_spelling(namespace, 1, token.hash);
        }
        self.close_sharing(weights.words);
        if weights.pairs > 0.0 {
            self.pairs(words, namespace);
            self.close_sharing(weights.pairs);
        }
        if weights.beginnings > 0.0 {
            for spelling in spellings(words) {
                if let Some((end, _)) = spelling.char_indices().nth(BEGINNING) {
                    self.note_spelling(namespace, 3, Fnv::new().bytes(&spelling.as_bytes()[..end]).finish());
                }
            }
            self.close_sharing(weights.beginnings);
        }
        if weights.runs > 0.0 {
            self.runs(words, namespace);
            self.close_sharing(weights.runs);
        }
    }

    /// Neighbouring words, the beginning and the end of the text among them.
    fn pairs(&mut self, words: &Words, namespace: Namespace) {
        let mut previous = 0;
        for token in spelled(words) {
            self.note_spelling(namespace, 2, Fnv::within(previous).word(token.hash).finish());
            previous = token.hash;
        }
        self.note_spelling(namespace, 2, Fnv::within(previous).finish());
    }

    /// Runs of letters in words, the edges of a word counting as spaces.
    fn runs(&mut self, words: &Words, namespace: Namespace) {
        let mut edged = Vec::new();
        for spelling in spellings(words) {
            edged.clear();
            edged.push(b' ');
            edged.extend_from_slice(spelling.as_bytes());
            edged.push(b' ');
            for start in 0..edged.len() {
                let mut hash = Fnv::new();
                for (before, &byte) in edged[start..].iter().take(LONGEST_RUN).enumerate() {
                    hash = hash.byte(byte);
                    if before >= 2 {
                        self.note_spelling(namespace, 4, hash.finish());
                    }
                }
            }
        }
    }
}

/// The words whose spelling is looked at.
fn spelled(words: &Words) -> impl Iterator<Item = &Token> {
    let tokens = &words.tokens;
    let head = tokens.len().min(SPELLED_WORDS);
    let tail = tokens.len().saturating_sub(SPELLED_WORDS / 3).max(head);
    tokens[..head].iter().chain(&tokens[tail..])
}

fn spellings(words: &Words) -> impl Iterator<Item = &str> {
    spelled(words)
        .filter(|token| token.kind == Kind::Word)
        .map(|token| words.spelling(token))
}
