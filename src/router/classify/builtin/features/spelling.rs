//! Spelling: words, pairs of words, beginnings of words and runs of letters, whatever they mean.

use super::{Collector, Namespace};
use crate::router::classify::builtin::hash::Fnv;
use crate::router::classify::builtin::text::{Kind, Token, Words};

/// Spelling is looked at in this many words at the beginning of a text, and in a third as many at its end.
const SPELLED_WORDS: usize = 150;

/// Letters of a word that make its beginning: what is left of it in most inflections.
const BEGINNING: usize = 5;

/// How long runs of letters are, in bytes.
const RUN: usize = 5;

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

impl Collector {
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
            for spelling in spelled_words(words).map(|token| words.spelling(token)) {
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
        for token in spelled_words(words) {
            for run in words.edged_spelling(token).windows(RUN) {
                self.note_spelling(namespace, 4, Fnv::new().bytes(run).finish());
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

fn spelled_words(words: &Words) -> impl Iterator<Item = &Token> {
    spelled(words).filter(|token| token.kind == Kind::Word)
}
