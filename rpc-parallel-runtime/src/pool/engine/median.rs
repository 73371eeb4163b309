//! The median duration of an item.

/// Durations of items, in classes that are 25 % wide at most.
#[derive(Debug)]
pub(super) struct Median {
    classes: [u64; CLASSES],
    count: u64,
}

const CLASSES: usize = 64 * 4;

impl Default for Median {
    fn default() -> Self {
        Self { classes: [0; CLASSES], count: 0 }
    }
}

impl Median {
    /// Adds items that took this number of nanoseconds each.
    pub(super) fn add(&mut self, nanos: u64, items: u64) {
        let nanos = nanos.max(4);
        let exponent = nanos.ilog2();
        // The two bits after the first one.
        let class = exponent as usize * 4 + ((nanos >> (exponent - 2)) & 3) as usize;
        self.classes[class] += items;
        self.count += items;
    }

    /// The median in nanoseconds, rounded up to the end of its class.
    pub(super) fn nanos(&self) -> Option<u64> {
        let mut before = 0;
        let class = self.classes.iter().position(|items| {
            before += items;
            before * 2 >= self.count && before > 0
        })?;
        let (exponent, quarter) = (class / 4, class as u64 % 4);
        Some((1_u64 << (exponent - 2)).saturating_mul(5 + quarter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_at_most_a_quarter_too_large() {
        let mut median = Median::default();
        assert_eq!(median.nanos(), None);

        for nanos in [10, 1_000, 1_000_000, 7_000_000, u64::MAX] {
            median.add(nanos, 1);
        }

        let found = median.nanos().expect("items were added");
        assert!((1_000_000..=1_250_000).contains(&found), "{found}");
    }

    #[test]
    fn durations_are_weighted_by_the_number_of_items() {
        let mut median = Median::default();

        median.add(1_000, 100);
        median.add(1_000_000, 99);

        assert!(median.nanos().is_some_and(|it| it <= 1_250));
    }
}
