//! When a pool replaces a worker that has not failed: after so many calls or items, above a resident
//! size, or beyond an age.

use std::fs;
use std::time::Duration;

use crate::transport::proc_pid;

/// How often the resident size, and calls that no guard ends, are checked.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The smallest age at which a worker is replaced, so that a limit of zero does not replace workers
/// without end.
const SMALLEST_AGE: Duration = Duration::from_millis(100);

/// The limits beyond which a worker is replaced. Default: none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Recycling {
    calls: Option<u64>,
    items: Option<u64>,
    /// The resident size, in bytes.
    memory: Option<u64>,
    age: Option<Duration>,
}

/// The work that a worker has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Work {
    pub(super) calls: u64,
    pub(super) items: u64,
}

impl Recycling {
    pub(super) fn after_calls(&mut self, calls: u64) {
        self.calls = Some(calls.max(1));
    }

    pub(super) fn after_items(&mut self, items: u64) {
        self.items = Some(items.max(1));
    }

    pub(super) fn above_memory(&mut self, bytes: u64) {
        self.memory = Some(bytes);
    }

    pub(super) fn after(&mut self, age: Duration) {
        self.age = Some(age.max(SMALLEST_AGE));
    }

    /// Returns whether a worker is due because of its work.
    pub(super) fn is_due_after(self, work: Work) -> bool {
        self.calls.is_some_and(|it| work.calls >= it)
            || self.items.is_some_and(|it| work.items >= it)
    }

    /// Returns whether a worker is due because of its resident size. A worker without work is not:
    /// its replacement would have the same size.
    pub(super) fn is_due_at(self, process: u32, work: Work) -> bool {
        let Some(memory) = self.memory else { return false };
        let worked = work.calls > 0 || work.items > 0;
        worked && resident_size(process).is_some_and(|it| it > memory)
    }

    /// Returns the age at which a worker is replaced.
    pub(super) fn age(self) -> Option<Duration> {
        self.age
    }

    /// Returns whether there is a limit that must be checked from time to time.
    pub(super) fn needs_checks(self) -> bool {
        self.calls.is_some() || self.memory.is_some()
    }
}

/// Returns the resident size of a process in bytes, if it is running. Returns `None` if `/proc`
/// belongs to another PID namespace, where the process id is that of another process.
fn resident_size(process: u32) -> Option<u64> {
    if proc_pid().ok() != Some(std::process::id()) {
        return None;
    }
    let statm = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_is_due_at_its_limit_of_calls_or_items() {
        let mut recycling = Recycling::default();
        recycling.after_calls(3);
        recycling.after_items(100);

        assert!(!recycling.is_due_after(Work { calls: 2, items: 99 }));
        assert!(recycling.is_due_after(Work { calls: 3, items: 0 }));
        assert!(recycling.is_due_after(Work { calls: 0, items: 100 }));
    }

    #[test]
    fn worker_without_limits_is_never_due() {
        let work = Work { calls: u64::MAX, items: u64::MAX };

        assert!(!Recycling::default().is_due_after(work));
        assert!(!Recycling::default().is_due_at(std::process::id(), work));
    }

    #[test]
    fn worker_above_its_memory_is_due_only_after_work() {
        let mut recycling = Recycling::default();
        recycling.above_memory(0);

        assert!(recycling.is_due_at(std::process::id(), Work { calls: 1, items: 0 }));
        assert!(!recycling.is_due_at(std::process::id(), Work::default()));
        recycling.above_memory(1 << 50);
        assert!(!recycling.is_due_at(std::process::id(), Work { calls: 1, items: 0 }));
    }

    #[test]
    fn limits_of_zero_do_not_recycle_new_workers() {
        let mut recycling = Recycling::default();
        recycling.after_calls(0);
        recycling.after_items(0);
        recycling.after(Duration::ZERO);

        assert!(!recycling.is_due_after(Work::default()));
        assert_eq!(recycling.age(), Some(SMALLEST_AGE));
    }
}
