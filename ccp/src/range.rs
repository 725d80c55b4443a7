//! Sets of sequence numbers, as few ranges: what arrived past a gap.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// A set of numbers kept as sorted ranges that don't touch, of which there are at most as many as said at its making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<RangeInclusive<u64>>,
    count_max: usize,
}

impl RangeSet {
    /// An empty set of at most `count_max` ranges.
    pub fn new(count_max: usize) -> Self {
        Self {
            ranges: Vec::new(),
            count_max,
        }
    }

    /// Adds one number; false if that would need one range too many, and nothing was changed.
    pub fn insert(&mut self, number: u64) -> bool {
        self.insert_range(number, number)
    }

    /// Adds `start..=end`; false as for [`Self::insert`], or if `end` is before `start`.
    pub fn insert_range(&mut self, start: u64, end: u64) -> bool {
        if end < start {
            return false;
        }
        // The ranges that overlap or touch start..=end are first..last.
        let first = self
            .ranges
            .partition_point(|range| range.end().saturating_add(1) < start);
        let last = self
            .ranges
            .partition_point(|range| *range.start() <= end.saturating_add(1));
        let Some(touched) = self.ranges.get(first..last) else {
            return false;
        };
        match touched {
            [] => {
                if self.ranges.len() >= self.count_max {
                    return false;
                }
                self.ranges.insert(first, start..=end);
            }
            [low, ..] => {
                let high = touched.last().unwrap_or(low);
                let merged = start.min(*low.start())..=end.max(*high.end());
                self.ranges.splice(first..last, [merged]);
            }
        }
        true
    }

    /// True if `number` is in the set.
    pub fn contains(&self, number: u64) -> bool {
        let at = self.ranges.partition_point(|range| *range.end() < number);
        self.ranges
            .get(at)
            .is_some_and(|range| range.contains(&number))
    }

    /// If the set's lowest range begins right after `frontier`, takes it out and returns its end, else `frontier`.
    pub fn advance(&mut self, frontier: u64) -> u64 {
        match self.ranges.first() {
            Some(first) if *first.start() <= frontier.saturating_add(1) => {
                let end = *first.end();
                self.ranges.remove(0);
                end.max(frontier)
            }
            Some(_) | None => frontier,
        }
    }

    /// Takes out every number up to `frontier`.
    pub fn remove_through(&mut self, frontier: u64) {
        self.ranges.retain(|range| *range.end() > frontier);
        if let Some(first) = self.ranges.first_mut()
            && *first.start() <= frontier
        {
            *first = frontier + 1..=*first.end();
        }
    }

    /// The ranges, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &RangeInclusive<u64>> {
        self.ranges.iter()
    }

    /// The greatest number.
    pub fn last(&self) -> Option<u64> {
        self.ranges.last().map(|range| *range.end())
    }

    /// How many numbers are in it.
    pub fn len(&self) -> u64 {
        let lengths = self
            .ranges
            .iter()
            .map(|range| range.end() - range.start() + 1);
        lengths.sum()
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }

    /// True if nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::RangeSet;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_set(inserts in prop::collection::vec((0u64..60, 0u64..6), 0..40), cut in 0u64..60) {
            let (mut set, mut model) = (RangeSet::new(64), BTreeSet::new());
            for (start, len) in inserts {
                prop_assert!(set.insert_range(start, start + len));
                model.extend(start..=start + len);
            }
            let mut ours: Vec<u64> = set.iter().cloned().flatten().collect();
            prop_assert_eq!(&ours, &model.iter().copied().collect::<Vec<_>>());
            prop_assert!((0..70).all(|n| set.contains(n) == model.contains(&n)));
            let ranges: Vec<_> = set.iter().cloned().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end() + 1 < *pair[1].start()));
            set.remove_through(cut);
            ours.retain(|n| *n > cut);
            prop_assert_eq!(set.iter().cloned().flatten().collect::<Vec<u64>>(), ours);
        }
    }

    #[test]
    fn refuses_one_range_too_many_and_stays_as_it_was() {
        let mut set = RangeSet::new(2);
        assert!(set.insert(1) && set.insert(5));
        let before = set.clone();
        assert!(!set.insert(9));
        assert_eq!(set, before);
        assert!(set.insert_range(2, 4), "joining two ranges needs no third");
        assert_eq!(set.advance(0), 5);
        assert!(set.is_empty());
    }
}
