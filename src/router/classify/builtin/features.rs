//! The features of a request: hashed words and letter runs, and counts.
//!
//! ```
//! use gem_setup::router::classify::builtin::features::Features;
//! use gem_setup::router::classify::builtin::model::Model;
//!
//! let probability = |request| Model::builtin().judge(&Features::of(request, &[])).probability;
//! assert!(probability("fix a typo") < probability("design a cache for all services"));
//! ```

use super::counts::{COUNTS, counts};
use super::hash::Fnv;
use super::text;
use super::words::{Word, Words};
use crate::router::Turn;

/// The number of buckets that features are hashed into.
pub const BUCKETS: usize = 190_000;

/// The number of kinds of hashed features. Each kind is scaled to its own length, so a large one does not outweigh the others.
pub const BLOCKS: usize = 5;

/// The weight of each block, in the order of `Block`.
pub const SCALES: [f32; BLOCKS] = [1.0, 1.0, 0.5, 0.6, 1.0];

/// The blocks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Block {
    /// Words and pairs of words.
    Words,
    /// Runs of three to five letters within words.
    Letters,
    /// The first and last words with their position.
    Places,
    /// Words at the end of the history.
    Before,
    /// The same with pairs, only for short requests: these refer to a proposal in the history.
    Offer,
}

/// The first letters of a word, from which letter runs are taken.
const LONGEST_WORD: usize = 40;
/// Requests of at most this many words are short.
const SHORT: usize = 8;
/// Bytes at the end of the history that a short request refers to.
const OFFER: usize = 480;

/// The model's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// The distinct buckets of each block's features.
    pub blocks: [Vec<u32>; BLOCKS],
    /// The counts.
    pub counts: [f32; COUNTS],
}

impl Features {
    /// The features of `request` after `history`, whose oldest turn comes first.
    #[must_use]
    pub fn of(request: &str, history: &[Turn]) -> Self {
        let request = text::request(request);
        Self::read(&request, &Words::of(&request), &text::history(history))
    }

    pub(super) fn read(request: &str, words: &Words, history: &str) -> Self {
        let mut collector = Collector::default();
        collector.wording(words);
        collector.places(words.as_slice());
        let is_offer = !history.is_empty() && words.as_slice().len() <= SHORT;
        let offer = is_offer.then(|| Words::of(text::end(history, OFFER)));
        collector.history(&Words::of(history), offer.as_ref());
        Self {
            blocks: collector.blocks,
            counts: counts(request, words, history, offer.as_ref()),
        }
    }
}

/// Collects features, each once.
struct Collector {
    blocks: [Vec<u32>; BLOCKS],
    seen: Vec<u64>,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            blocks: [const { Vec::new() }; BLOCKS],
            seen: vec![0; BUCKETS.div_ceil(64)],
        }
    }
}

impl Collector {
    /// Adds a feature; returns whether it is new.
    fn add(&mut self, block: Block, parts: [u32; 3]) -> bool {
        let [kind, first, second] = parts;
        let hash = Fnv::within(block as u32 * 16 + kind).word(first).word(second);
        self.insert(block, hash.finish())
    }

    fn insert(&mut self, block: Block, hash: u32) -> bool {
        let bucket = hash % BUCKETS as u32;
        let (cell, bit) = (&mut self.seen[bucket as usize / 64], 1 << (bucket % 64));
        let is_new = *cell & bit == 0;
        if is_new {
            *cell |= bit;
            self.blocks[block as usize].push(bucket);
        }
        is_new
    }

    fn wording(&mut self, words: &Words) {
        for word in words.as_slice() {
            if self.add(Block::Words, [1, word.hash, 0]) && word.is_letters {
                self.letters(words.spelling(word));
            }
        }
        for [first, second] in words.as_slice().array_windows() {
            self.add(Block::Words, [2, first.hash, second.hash]);
        }
    }

    /// Runs of letters, with marks for the beginning and end of the word. In other scripts two letters carry as much meaning as three.
    fn letters(&mut self, word: &str) {
        let shortest = if word.is_ascii() { 3 } else { 2 };
        let mut marked = ['<'; LONGEST_WORD + 2];
        let mut length = 1;
        for (slot, c) in marked[1..=LONGEST_WORD].iter_mut().zip(word.chars()) {
            *slot = c;
            length += 1;
        }
        marked[length] = '>';
        let marked = &marked[..=length];
        for start in 0..marked.len() {
            let mut hash = Fnv::within(Block::Letters as u32);
            for (run, c) in (1..=5).zip(&marked[start..]) {
                hash = hash.word(u32::from(*c));
                if run >= shortest {
                    self.insert(Block::Letters, hash.finish());
                }
            }
        }
    }

    fn places(&mut self, words: &[Word]) {
        for (place, word) in (1..=4).zip(words) {
            self.add(Block::Places, [place, word.hash, 0]);
        }
        for (place, word) in (5..=7).zip(words.iter().rev()) {
            self.add(Block::Places, [place, word.hash, 0]);
        }
        if let [first, second, ..] = words {
            self.add(Block::Places, [8, first.hash, second.hash]);
        }
    }

    fn history(&mut self, before: &Words, offer: Option<&Words>) {
        for word in before.as_slice() {
            self.add(Block::Before, [0, word.hash, 0]);
        }
        let offer = offer.map_or(&[][..], Words::as_slice);
        for word in offer {
            self.add(Block::Offer, [1, word.hash, 0]);
        }
        for [first, second] in offer.array_windows() {
            self.add(Block::Offer, [2, first.hash, second.hash]);
        }
    }
}
