//! Items of known durations, and their results.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::ensure;

/// The number of measurements of the speed of this machine. The fastest one counts.
const CALIBRATIONS: u32 = 9;
const CALIBRATION_ROUNDS: u32 = 3_000_000;

/// How long the items of a figure take.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) count: u64,
    /// The durations of short and of long items, in microseconds.
    pub(crate) short: u32,
    pub(crate) long: u32,
    pub(crate) is_long: fn(u64) -> bool,
}

impl Workload {
    /// Returns a workload of items of equal duration.
    pub(crate) const fn uniform(count: u64, microseconds: u32) -> Self {
        Self { count, short: microseconds, long: microseconds, is_long: |_| false }
    }

    /// Calibrates the items on this machine.
    pub(crate) fn items(self) -> Items {
        Items { workload: self, short: Work::lasting(self.short), long: Work::lasting(self.long) }
    }
}

/// The items of a workload. An item is a number that says how much work it is, so that all
/// contenders do the same work even if the machine becomes slower meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Items {
    workload: Workload,
    short: Work,
    long: Work,
}

impl Items {
    pub(crate) fn count(&self) -> u64 {
        self.workload.count
    }

    /// Returns the items in order.
    pub(crate) fn iter(self) -> impl ExactSizeIterator<Item = u64> + Send {
        // A `Range<u64>` does not know its length, but a `Range<u32>` does.
        let count =
            u32::try_from(self.workload.count).expect("a workload has less than 2^32 items");
        (0..count).map(move |it| self.item(u64::from(it)))
    }

    /// Returns the item with the given index.
    pub(crate) fn item(&self, index: u64) -> u64 {
        index << 32 | u64::from(self.work_of(index).rounds)
    }

    /// Returns the result of the item with the given index.
    pub(crate) fn result(&self, index: u64) -> u64 {
        self.work_of(index).result.wrapping_add(index)
    }

    /// Returns how many items are short and long, as pairs of the rounds of one item and a count.
    pub(crate) fn rounds_and_counts(&self) -> [(u32, u64); 2] {
        let long = (0..self.count()).filter(|it| (self.workload.is_long)(*it)).count() as u64;
        [(self.short.rounds, self.count() - long), (self.long.rounds, long)]
    }

    /// Checks that all results are there, in the order of the items.
    pub(crate) fn check(&self, results: &[u64]) -> anyhow::Result<()> {
        let found = results.len() as u64;
        ensure!(found == self.count(), "expected {} results, found {found}", self.count());
        for (index, found) in (0..).zip(results) {
            let expected = self.result(index);
            ensure!(
                *found == expected,
                "expected the result {expected} of item {index}, found {found}"
            );
        }
        Ok(())
    }

    fn work_of(&self, index: u64) -> Work {
        if (self.workload.is_long)(index) { self.long } else { self.short }
    }
}

/// Does the work of an item and returns its result.
pub(crate) fn run(item: u64) -> u64 {
    compute((item & u64::from(u32::MAX)) as u32).wrapping_add(item >> 32)
}

/// Computes a number in a number of rounds that all take the same time.
pub(crate) fn compute(rounds: u32) -> u64 {
    let mut number = u64::from(black_box(rounds)) | 1;
    for _ in 0..rounds {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
    }
    black_box(number)
}

/// The work of one item.
#[derive(Clone, Copy)]
struct Work {
    rounds: u32,
    /// What [`compute`] returns.
    result: u64,
}

impl Work {
    fn lasting(microseconds: u32) -> Self {
        let rounds = microseconds * rounds_per_microsecond();
        Self { rounds, result: compute(rounds) }
    }
}

/// Measures the speed of this machine once.
fn rounds_per_microsecond() -> u32 {
    static MEASURED: OnceLock<u32> = OnceLock::new();
    *MEASURED.get_or_init(|| {
        let fastest = (0..CALIBRATIONS).map(|_| {
            let begin = Instant::now();
            compute(CALIBRATION_ROUNDS);
            (f64::from(CALIBRATION_ROUNDS) / (begin.elapsed().as_secs_f64() * 1e6)) as u32
        });
        fastest.max().unwrap_or(1).max(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKLOAD: Workload =
        Workload { count: 10, short: 0, long: 2, is_long: |it| it.is_multiple_of(3) };

    #[test]
    fn run_items_give_the_expected_results() {
        let items = WORKLOAD.items();

        let results: Vec<_> = items.iter().map(run).collect();

        items.check(&results).expect("the results are computed from the items");
    }

    #[test]
    fn exchanged_results_are_an_error() {
        let items = Workload::uniform(3, 0).items();
        let mut results: Vec<_> = items.iter().map(run).collect();

        results.swap(1, 2);

        assert!(items.check(&results).is_err());
    }

    #[test]
    fn missing_result_is_an_error() {
        let items = WORKLOAD.items();
        let results: Vec<_> = items.iter().skip(1).map(run).collect();

        assert!(items.check(&results).is_err());
    }

    #[test]
    fn long_items_are_counted() {
        let counts = WORKLOAD.items().rounds_and_counts().map(|(_, count)| count);

        assert_eq!(counts, [6, 4]);
    }
}
