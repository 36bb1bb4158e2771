//! Features: what the model looks at in a request and its history, as numbers with an index each.
//!
//! Features come in groups. The features of a group have one value, so a group's weight does not depend on how long the text is;
//! the weights of the groups were chosen by cross-validation.

mod collector;
mod followup;
mod request;
mod spelling;

use collector::Collector;

use super::history::Context;
use super::lexicon::{Concept, Concepts};
use super::parts::Parts;
use super::text::{Kind, Token, Words, magnitude};
use crate::router::Turn;

/// How many different features the model knows; more than that share an index.
pub const BUCKETS: usize = 1 << 15;

/// Of these, how many are for spellings, which are many and matter little each. They share no index with the others.
const SPELLINGS: u32 = 3 << 13;

/// A request and its history as the model sees them: groups of features, which are indices below [`BUCKETS`].
#[derive(Debug)]
pub struct Features {
    /// Those of all groups, one group after the other.
    indices: Vec<u16>,
    groups: Vec<Group>,
}

/// Where a group ends in the indices, and the value of each of its features.
#[derive(Debug)]
struct Group {
    end: usize,
    value: f32,
}

impl Features {
    /// Looks at `request` in the light of `history`, oldest turn first.
    #[must_use]
    pub fn of(request: &str, history: &[Turn]) -> Self {
        let mut collector = Collector::default();
        let parts = Parts::of(request);
        let context = Context::of(&parts.ask, history);
        collector.request(&parts, context.is_some());
        if let Some(context) = &context {
            collector.followup(context);
        }
        collector.finish()
    }

    /// Each group: its features, every one once, in the order in which they were seen; and the value that they all have.
    pub fn groups(&self) -> impl Iterator<Item = (&[u16], f32)> {
        let begins = std::iter::once(0).chain(self.groups.iter().map(|group| group.end));
        begins
            .zip(&self.groups)
            .map(|(begin, group)| (&self.indices[begin..group.end], group.value))
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
