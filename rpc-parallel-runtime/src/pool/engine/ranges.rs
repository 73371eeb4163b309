//! A set of numbers, stored as ranges.

use std::ops::Range;

/// A set of numbers, stored as ascending ranges that do not touch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ranges {
    ranges: Vec<Range<u32>>,
    len: u32,
}

impl From<Range<u32>> for Ranges {
    fn from(range: Range<u32>) -> Self {
        if range.is_empty() {
            return Self::default();
        }
        Self { len: range.end - range.start, ranges: vec![range] }
    }
}

impl Ranges {
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.ranges.first().map(|it| it.start)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u32>> {
        self.ranges.iter().cloned()
    }

    /// The range that contains all of `range`.
    fn position(&self, range: &Range<u32>) -> Option<usize> {
        let at = self.ranges.partition_point(|it| it.end <= range.start);
        let found = self.ranges.get(at)?;
        (!range.is_empty() && found.start <= range.start && range.end <= found.end).then_some(at)
    }

    pub(super) fn contains(&self, range: &Range<u32>) -> bool {
        self.position(range).is_some()
    }

    /// Removes a range, unless a part of it is missing. Returns whether it was removed.
    pub(super) fn remove(&mut self, range: &Range<u32>) -> bool {
        let Some(at) = self.position(range) else { return false };
        self.len -= range.end - range.start;
        let found = self.ranges[at].clone();
        match (found.start < range.start, range.end < found.end) {
            (false, false) => drop(self.ranges.remove(at)),
            (false, true) => self.ranges[at].start = range.end,
            (true, false) => self.ranges[at].end = range.start,
            (true, true) => {
                self.ranges[at].end = range.start;
                self.ranges.insert(at + 1, range.end..found.end);
            }
        }
        true
    }

    /// Adds a number that the set does not contain.
    pub(super) fn insert(&mut self, number: u32) {
        let at = self.ranges.partition_point(|it| it.end <= number);
        self.ranges.insert(at, number..number + 1);
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_behave_like_a_set_of_numbers(
            removals in prop::collection::vec((0..40_u32, 0..10_u32), 0..40),
        ) {
            let mut ranges = Ranges::from(2..35);
            let mut numbers: Vec<u32> = (2..35).collect();
            for (start, len) in removals {
                let range = start..start + len;
                let present = len > 0 && range.clone().all(|it| numbers.contains(&it));

                prop_assert_eq!(ranges.contains(&range), present);
                prop_assert_eq!(ranges.remove(&range), present);

                if present {
                    numbers.retain(|it| !range.contains(it));
                }
                prop_assert_eq!(ranges.iter().flatten().collect::<Vec<_>>(), numbers.clone());
                prop_assert_eq!(ranges.len() as usize, numbers.len());
                prop_assert_eq!(ranges.first(), numbers.first().copied());
            }
        }
    }
}
