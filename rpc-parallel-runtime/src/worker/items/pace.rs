//! Decides when code that runs items looks at the clock, which costs as much as a short item.

use std::time::{Duration, Instant};

/// The time between two looks at the clock, while items are short.
const LOOK_EVERY: Duration = Duration::from_micros(30);

/// The maximum number of items between two looks.
const MAX_ITEMS: u32 = 1024;

/// The time for which items run before other tasks of the runtime do.
const SLICE: Duration = Duration::from_millis(1);

/// Counts items, and measures the time that they take.
pub(super) struct Pace {
    /// The number of items after which the clock is looked at.
    every: u32,
    counted: u32,
    looked: Instant,
    slice_began: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { every: 1, counted: 0, looked: now, slice_began: now }
    }

    pub(super) fn begin_slice(&mut self, now: Instant) {
        (self.counted, self.looked, self.slice_began) = (0, now, now);
    }

    /// Counts an item. Returns whether the clock should be looked at.
    #[inline]
    pub(super) fn count(&mut self) -> bool {
        self.counted += 1;
        self.counted >= self.every
    }

    /// Notes the time. Returns whether other tasks should run.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let passed = now.duration_since(self.looked).as_nanos();
        let each = (passed / u128::from(self.counted.max(1))).max(1);
        let fitting = u32::try_from(LOOK_EVERY.as_nanos() / each).unwrap_or(MAX_ITEMS);
        // It grows slowly, because the next items may be longer.
        self.every = fitting.clamp(1, MAX_ITEMS.min(self.every * 2));
        (self.counted, self.looked) = (0, now);
        now.duration_since(self.slice_began) >= SLICE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_items_are_counted_in_growing_groups_and_long_ones_singly() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut groups = |item: Duration, looks: usize| {
            let mut groups = Vec::new();
            for _ in 0..looks {
                let mut items = 1;
                while !pace.count() {
                    items += 1;
                }
                now += item * items;
                pace.look(now);
                groups.push(items);
            }
            groups
        };

        assert_eq!(groups(Duration::from_nanos(100), 10)[..5], [1, 2, 4, 8, 16]);
        assert_eq!(groups(Duration::from_nanos(100), 1), [300]);
        assert_eq!(groups(Duration::from_millis(1), 3), [300, 1, 1]);
    }

    #[test]
    fn slice_ends_after_its_time() {
        let now = Instant::now();
        let mut pace = Pace::new(now);

        assert!(!pace.look(now + SLICE / 2));
        assert!(pace.look(now + SLICE));
        pace.begin_slice(now + SLICE);
        assert!(!pace.look(now + SLICE * 3 / 2));
    }
}
