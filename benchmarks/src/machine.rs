//! The machine: its cores, and which of them we run on.

use std::fs;

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which cores a measurement and its workers may use.
#[derive(Clone, Copy)]
pub(crate) enum Cores {
    /// All of its processes share one core: no luck of placement, the comparable case.
    One,
    /// Wherever the kernel places them.
    All,
}

/// Confines this thread, and all it starts from now on, until dropped.
pub(crate) struct Placed {
    before: CpuSet,
}

/// Confines this thread, and all it starts from now on, to `cores`.
pub(crate) fn place(cores: Cores) -> anyhow::Result<Placed> {
    let before = sched_getaffinity(None).context("read the cores this process may use")?;
    if let Cores::One = cores {
        let mut one = CpuSet::new();
        one.set(last(&before));
        sched_setaffinity(None, &one).context("pin this process to one core")?;
    }
    Ok(Placed { before })
}

impl Drop for Placed {
    fn drop(&mut self) {
        sched_setaffinity(None, &self.before).expect("these cores were allowed a moment ago");
    }
}

/// The first core is where most machines handle their interrupts, so the last one is quieter.
fn last(cores: &CpuSet) -> usize {
    (0..CpuSet::MAX_CPU).rev().find(|it| cores.is_set(*it)).unwrap_or(0)
}

/// Describes what the figures below were measured on.
pub(crate) fn description() -> anyhow::Result<String> {
    let cores = sched_getaffinity(None).context("read the cores this process may use")?;
    let kernel =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's version")?;
    Ok(format!(
        "{} cores, Linux {}; pinned figures on core {}; medians of interleaved rounds",
        cores.count(),
        kernel.trim(),
        last(&cores)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_ends_with_its_guard() {
        let before = sched_getaffinity(None).expect("a thread may ask for its cores");

        let placed = place(Cores::One).expect("one of our own cores");
        let pinned = sched_getaffinity(None).expect("a thread may ask for its cores");
        drop(placed);

        assert_eq!(pinned.count(), 1);
        assert_eq!(sched_getaffinity(None).expect("as before"), before);
    }
}
