//! Collects features group by group.

use super::{BUCKETS, Features, Group, Namespace, SPELLINGS};
use crate::router::classify::builtin::hash::Fnv;
use crate::router::classify::builtin::lexicon::Concepts;

const WORDS: usize = BUCKETS / 64;

/// Room made at once, enough for most requests.
const FEATURES_AT_ONCE: usize = 1024;
const GROUPS_AT_ONCE: usize = 32;

/// Features that were seen so far, and which of them are in the group that is being collected.
#[derive(Debug)]
pub(super) struct Collector {
    features: Features,
    /// A bit for each feature of the group.
    seen: [u64; WORDS],
    /// Where the group begins.
    begin: usize,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            features: Features {
                indices: Vec::with_capacity(FEATURES_AT_ONCE),
                groups: Vec::with_capacity(GROUPS_AT_ONCE),
            },
            seen: [0; WORDS],
            begin: 0,
        }
    }
}

impl Collector {
    /// Adds a feature to the group: `which` of the things that number `what` speaks of was seen in `namespace`.
    pub(super) fn note(&mut self, namespace: Namespace, what: u32, which: u32) {
        let hash = Fnv::within(namespace as u32).word(what).word(which).finish();
        self.insert(SPELLINGS + hash % (BUCKETS as u32 - SPELLINGS));
    }

    /// Adds a feature that is a spelling; `hash` is that of the spelling.
    pub(super) fn note_spelling(&mut self, namespace: Namespace, what: u32, hash: u32) {
        let hash = Fnv::within(namespace as u32).word(what).word(hash).finish();
        self.insert(hash % SPELLINGS);
    }

    /// Adds a feature per concept.
    pub(super) fn note_concepts(&mut self, namespace: Namespace, what: u32, concepts: Concepts) {
        for number in concepts.numbers() {
            self.note(namespace, what, number);
        }
    }

    fn insert(&mut self, index: u32) {
        let (word, bit) = (index as usize / 64 % WORDS, 1 << (index % 64));
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.features.indices.push(index as u16);
        }
    }

    /// Ends a group: each of its features has the value `weight`.
    pub(super) fn close(&mut self, weight: f32) {
        let Features { indices, groups } = &mut self.features;
        for index in &indices[self.begin..] {
            self.seen[usize::from(*index) / 64 % WORDS] = 0;
        }
        self.begin = indices.len();
        groups.push(Group {
            end: self.begin,
            value: weight,
        });
    }

    /// Ends a group of features that together weigh `weight`, however many there are: the root of the sum of their squares.
    pub(super) fn close_sharing(&mut self, weight: f32) {
        let count = self.features.indices.len() - self.begin;
        self.close(weight / (count.max(1) as f32).sqrt());
    }

    /// The groups that were closed.
    pub(super) fn finish(self) -> Features {
        self.features
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Collector};

    #[test]
    fn a_group_has_each_feature_once_and_the_next_one_begins_empty() {
        let mut collector = Collector::default();
        let last = BUCKETS as u32 - 1;
        for index in [last, 0, 4096, 63, 64, 0, last, 65] {
            collector.insert(index);
        }
        collector.close(2.0);
        for index in [64, 64, 0, 1, 2] {
            collector.insert(index);
        }
        collector.close_sharing(6.0);
        collector.close_sharing(1.0);
        let features = collector.finish();
        let groups: Vec<_> = features.groups().collect();
        let last = BUCKETS as u16 - 1;
        let expected: [(&[u16], f32); 3] = [(&[last, 0, 4096, 63, 64, 65], 2.0), (&[64, 0, 1, 2], 3.0), (&[], 1.0)];
        assert_eq!(groups, expected);
    }
}
