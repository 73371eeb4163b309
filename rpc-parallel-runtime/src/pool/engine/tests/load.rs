//! How long the items of simulated maps take.

/// How long the items of a map take, as a sum over the first items.
pub(super) struct Load {
    pub(super) name: &'static str,
    pub(super) items: u64,
    /// The nanoseconds that the items before an index take together.
    sum: Box<dyn Fn(u64) -> u64>,
    longest: u64,
    /// The efficiency to reach with 2, 8, 64 and 1,000 workers.
    pub(super) least: [f64; 4],
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

impl Load {
    pub(super) fn before(&self, index: u64) -> u64 {
        (self.sum)(index)
    }

    pub(super) fn between(&self, from: u64, to: u64) -> u64 {
        self.before(to) - self.before(from)
    }

    /// The number of items from `from` on that are done after some nanoseconds.
    pub(super) fn done_after(&self, from: u64, to: u64, nanos: u64) -> u64 {
        let end = self.before(from) + nanos;
        let (mut low, mut high) = (from, to);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.before(middle) <= end { low = middle } else { high = middle - 1 }
        }
        low - from
    }

    /// The shortest possible duration of the map in nanoseconds.
    pub(super) fn ideal(&self, workers: u64) -> u64 {
        (self.before(self.items) / workers).max(self.longest)
    }

    /// The loads of a map; the number of items grows with that of the workers.
    pub(super) fn all(workers: u64) -> Vec<Self> {
        let k = (workers / 2).max(1);
        let constant = |name, items, each: u64, least| {
            let sum = Box::new(move |index| index * each);
            Self { name, items, sum, longest: each, least }
        };
        // The duration changes by `step` / `items` from each item to the next.
        let linear = |name, first: u64, step: i64, items: u64, least| {
            let sum = move |index: u64| {
                let pairs = u128::from(index) * u128::from(index.saturating_sub(1)) / 2;
                let change = i128::from(step) * pairs as i128 / i128::from(items);
                (i128::from(index * first) + change) as u64
            };
            Self { name, items, sum: Box::new(sum), longest: 2 * MS, least }
        };
        // One item in a hundred takes a hundred times longer.
        let skew = |index: u64| {
            let (hundreds, rest) = (index / 100, index % 100);
            let slow = (hundreds.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 100;
            let slow_before = hundreds + u64::from(rest > slow);
            slow_before * 10 * MS + (index - slow_before) * 100 * US
        };
        let phase = |index: u64| index.min(100_000) * 100 + index.saturating_sub(100_000) * 50 * MS;
        let giant = move |index: u64| {
            (index * MS).min(1_000 * k * MS + 200 * MS) + u64::from(index > 1_000 * k) * 199 * MS
        };
        vec![
            constant("tiny 20 ns", 1_000_000, 20, [0.4, 0.12, 0.01, 0.0]),
            constant("10 us", 50_000 * k, 10 * US, [0.98, 0.98, 0.95, 0.3]),
            constant("1 ms", 1_000 * k, MS, [0.98, 0.98, 0.97, 0.9]),
            Self {
                name: "skew 1 % x 100",
                items: 2_500 * k,
                sum: Box::new(skew),
                longest: 10 * MS,
                least: [0.97, 0.95, 0.93, 0.6],
            },
            Self {
                name: "phase",
                items: 100_000 + 100 * k,
                sum: Box::new(phase),
                longest: 50 * MS,
                least: [0.97, 0.95, 0.95, 0.95],
            },
            linear("falling", 2 * MS + US, -(2 * MS as i64), 2_000 * k, [0.98, 0.98, 0.97, 0.9]),
            linear("rising", US, 2 * MS as i64, 2_000 * k, [0.97, 0.97, 0.95, 0.78]),
            Self {
                name: "last giant",
                items: 1_000 * k + 1,
                sum: Box::new(giant),
                longest: 200 * MS,
                least: [0.8, 0.7, 0.68, 0.6],
            },
        ]
    }
}
