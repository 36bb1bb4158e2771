//! The byte ranges of a file that have been received.

use std::ops::Range;

/// A set of byte positions, kept as sorted ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet(Vec<Range<u64>>);

impl RangeSet {
    /// Adds `range`, merging it with its neighbours.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // The usual case: a chunk continues the last range.
        if let Some(last) = self.0.last_mut()
            && range.start == last.end
        {
            last.end = range.end;
            return;
        }
        let first = self.0.partition_point(|r| r.end < range.start);
        let beyond = self.0.partition_point(|r| r.start <= range.end);
        let merged = self.0[first..beyond].iter().fold(range, |whole, part| {
            whole.start.min(part.start)..whole.end.max(part.end)
        });
        self.0.splice(first..beyond, [merged]);
    }

    /// The end of the contiguous bytes that start at or cover `position`; `position` itself if there are none.
    pub(super) fn run_end(&self, position: u64) -> u64 {
        let index = self.0.partition_point(|r| r.end <= position);
        self.0
            .get(index)
            .filter(|r| r.start <= position)
            .map_or(position, |r| r.end)
    }

    /// The missing ranges between 0 and `total`, in order.
    pub(super) fn gaps(&self, total: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut position = 0;
        for range in &self.0 {
            if range.start >= total {
                break;
            }
            if range.start > position {
                gaps.push(position..range.start);
            }
            position = range.end;
        }
        if position < total {
            gaps.push(position..total);
        }
        gaps
    }

    /// The number of bytes in the set.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    /// One past the last received byte.
    pub(super) fn end(&self) -> u64 {
        self.0.last().map_or(0, |r| r.end)
    }

    /// The ranges in order.
    pub(super) fn as_slice(&self) -> &[Range<u64>] {
        &self.0
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: u64 = 64;

    proptest! {
        #[test]
        fn a_range_set_agrees_with_a_set_of_single_bytes(
            parts in prop::collection::vec((0..SPAN, 0..16u64), 0..24),
            position in 0..SPAN,
        ) {
            let set: RangeSet = parts.iter().map(|&(start, len)| start..(start + len).min(SPAN)).collect();
            let mut bytes = [false; SPAN as usize];
            for &(start, len) in &parts {
                for byte in start..(start + len).min(SPAN) {
                    bytes[usize::try_from(byte).unwrap()] = true;
                }
            }
            let present = |byte: &u64| bytes[usize::try_from(*byte).unwrap()];
            prop_assert_eq!(set.len(), (0..SPAN).filter(present).count() as u64);
            let missing: Vec<u64> = set.gaps(SPAN).into_iter().flatten().collect();
            prop_assert_eq!(missing, (0..SPAN).filter(|byte| !present(byte)).collect::<Vec<_>>());
            prop_assert_eq!(set.run_end(position), (position..SPAN).find(|byte| !present(byte)).unwrap_or(SPAN));
            prop_assert!(set.as_slice().windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
