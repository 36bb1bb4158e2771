//! A set of features: a bit each, and a bit for each word of bits that is not empty.

use super::BUCKETS;
use crate::router::classify::builtin::bits::ones;

const WORDS: usize = BUCKETS / 64;
const SUMMARIES: usize = WORDS / 64;

/// The features of one group, each once, whatever the order in which they were seen.
#[derive(Debug)]
pub(super) struct Group {
    words: [u64; WORDS],
    summaries: [u64; SUMMARIES],
}

impl Default for Group {
    fn default() -> Self {
        Self {
            words: [0; WORDS],
            summaries: [0; SUMMARIES],
        }
    }
}

impl Group {
    /// Adds a feature; indices of [`BUCKETS`] and more count anew from 0.
    pub(super) fn insert(&mut self, index: u32) {
        let word = index as usize / 64 % WORDS;
        self.words[word] |= 1 << (index % 64);
        self.summaries[word / 64] |= 1 << (word % 64);
    }

    /// Takes all features out, ascending.
    pub(super) fn drain(&mut self, mut take: impl FnMut(u32)) {
        for (at, summary) in self.summaries.iter_mut().enumerate() {
            for word in ones(std::mem::take(summary)) {
                let word = at * 64 + word as usize;
                for bit in ones(std::mem::take(&mut self.words[word])) {
                    take(word as u32 * 64 + bit);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Group};

    #[test]
    fn features_come_out_once_each_and_ascending() {
        let mut group = Group::default();
        let last = BUCKETS as u32 - 1;
        for index in [last, 0, 4096, 63, 64, 0, last, 65] {
            group.insert(index);
        }
        for expected in [&[0, 63, 64, 65, 4096, last][..], &[]] {
            let mut taken = Vec::new();
            group.drain(|index| taken.push(index));
            assert_eq!(taken, expected);
        }
    }
}
