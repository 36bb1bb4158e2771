//! Features: what the model looks at in a request and its history, as numbers with an index each.
//!
//! Features come in groups. The features of a group have one value, so a group's weight does not depend on how long the text is;
//! the weights of the groups were chosen by cross-validation.

mod followup;
mod group;
mod request;
mod spelling;

use group::Group;

use super::hash::Fnv;
use super::history::Context;
use super::lexicon::{Concept, Concepts};
use super::parts::Parts;
use super::text::{Kind, Token, Words, magnitude};
use crate::router::Turn;

/// How many different features the model knows; more than that share an index.
pub const BUCKETS: usize = 1 << 15;

/// Of these, how many are for spellings, which are many and matter little each. They share no index with the others.
const SPELLINGS: usize = 3 << 13;

/// A request and its history as the model sees them: indices below [`BUCKETS`] with their values.
#[derive(Debug, Default)]
pub struct Features {
    entries: Vec<(u32, f32)>,
    /// The features of the group that is being collected.
    group: Group,
}

impl Features {
    /// Looks at `request` in the light of `history`, oldest turn first.
    #[must_use]
    pub fn of(request: &str, history: &[Turn]) -> Self {
        let mut features = Self::default();
        let parts = Parts::of(request);
        let context = Context::of(&parts.ask, history);
        features.request(&parts, context.is_some());
        if let Some(context) = &context {
            features.followup(context);
        }
        features
    }

    /// Indices and values, in the order in which they are to be summed.
    #[must_use]
    pub fn entries(&self) -> &[(u32, f32)] {
        &self.entries
    }

    /// Adds a feature to the group: `which` of the things that number `what` speaks of was seen in `namespace`.
    fn note(&mut self, namespace: Namespace, what: u32, which: u32) {
        let hash = Fnv::within(namespace as u32).word(what).word(which).finish();
        self.group
            .insert(SPELLINGS as u32 + hash % (BUCKETS - SPELLINGS) as u32);
    }

    /// Adds a feature that is a spelling; `hash` is that of the spelling.
    fn note_spelling(&mut self, namespace: Namespace, what: u32, hash: u32) {
        let hash = Fnv::within(namespace as u32).word(what).word(hash).finish();
        self.group.insert(hash % SPELLINGS as u32);
    }

    /// Adds a feature per concept.
    fn note_concepts(&mut self, namespace: Namespace, what: u32, concepts: Concepts) {
        for number in concepts.numbers() {
            self.note(namespace, what, number);
        }
    }

    /// Ends a group: each of its features has the value `weight`.
    fn close(&mut self, weight: f32) {
        let entries = &mut self.entries;
        self.group.drain(|index| entries.push((index, weight)));
    }

    /// Ends a group of features that together weigh `weight`, however many there are: the root of the sum of their squares.
    fn close_sharing(&mut self, weight: f32) {
        let first = self.entries.len();
        self.close(weight);
        let group = &mut self.entries[first..];
        let value = weight / (group.len().max(1) as f32).sqrt();
        for entry in group {
            entry.1 = value;
        }
    }
}

/// Where a feature was seen.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Namespace {
    /// What the person asks.
    Ask = 1,
    /// Code and logs along with it.
    Pasted,
    /// Its beginning and its end.
    Edges,
    /// Its shape: lengths, counts.
    Shape,
    /// What the model said last.
    Answer,
    /// What that answered.
    Question,
    /// What the request makes of it.
    Followup,
    /// Older turns.
    Earlier,
    /// Two concepts in one clause.
    Pair,
}

fn concepts_of(tokens: &[Token]) -> Concepts {
    tokens
        .iter()
        .fold(Concepts::NONE, |all, token| all.with(token.concepts))
        .without(Concepts::of(Concept::Function))
}

fn count_of(words: &Words, kinds: &[Kind]) -> u64 {
    words.tokens.iter().filter(|token| kinds.contains(&token.kind)).count() as u64
}

/// Classes of length in words, from nothing to a page.
const fn length_class(words: usize) -> u32 {
    match words {
        0..=1 => 0,
        2..=3 => 1,
        4..=6 => 2,
        7..=10 => 3,
        11..=16 => 4,
        17..=26 => 5,
        27..=45 => 6,
        46..=90 => 7,
        _ => 8,
    }
}

/// Units of measurement: what is measured in them is not counted.
const MEASURES: [&str; 22] = [
    "ms", "s", "sec", "seconds", "min", "minutes", "h", "hours", "days", "px", "kb", "mb", "gb", "tb", "gi", "mi",
    "percent", "am", "pm", "utc", "rps", "c",
];

/// The magnitude of the largest number that counts something, as `23 files` does, and `line 23`, `23 %` and `23 ms` do not.
fn largest_count(words: &Words) -> u32 {
    let mut largest = 0;
    let mut named = false;
    let mut tokens = words.tokens.iter().peekable();
    while let Some(token) = tokens.next() {
        let counts = |next: &&Token| next.kind == Kind::Word && !MEASURES.contains(&words.spelling(next));
        if token.kind == Kind::Number && token.value != 0 && !named && tokens.peek().is_some_and(counts) {
            largest = largest.max(magnitude(token.value));
        }
        named = token.concepts.has(Concept::Local);
    }
    largest
}
