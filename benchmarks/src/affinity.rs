//! The cores of the machine and the CPU affinity of this process.

use std::fs;

use anyhow::Context;
use rustix::io::Errno;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// The cores that a measurement and its workers may use.
#[derive(Clone, Copy)]
pub(crate) enum Cores {
    /// All processes share one core, so that the results do not depend on the scheduler.
    One,
    /// The scheduler places the processes.
    All,
}

/// Restores the CPU affinity of this process when dropped.
pub(crate) struct AffinityGuard {
    before: CpuSet,
}

/// Restricts this process, and the processes that it starts later, to `cores`.
pub(crate) fn restrict(cores: Cores) -> anyhow::Result<AffinityGuard> {
    let before = sched_getaffinity(None).context("failed to read the CPU affinity")?;
    if let Cores::One = cores {
        let mut one = CpuSet::new();
        one.set(last_core(&before));
        set_affinity(&one).context("failed to pin this process to one core")?;
    }
    Ok(AffinityGuard { before })
}

/// Sets the affinity of every thread: the supervisor thread starts workers and exists already.
fn set_affinity(cores: &CpuSet) -> anyhow::Result<()> {
    for thread in
        fs::read_dir("/proc/self/task").context("failed to list the threads of this process")?
    {
        let thread = thread?.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        match sched_setaffinity(thread, cores) {
            // The thread has ended meanwhile.
            Err(Errno::SRCH) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

impl Drop for AffinityGuard {
    fn drop(&mut self) {
        set_affinity(&self.before).expect("the previous affinity is valid");
    }
}

/// Returns the last core: most machines handle interrupts on the first one.
fn last_core(cores: &CpuSet) -> usize {
    (0..CpuSet::MAX_CPU).rev().find(|it| cores.is_set(*it)).unwrap_or(0)
}

/// Describes the machine.
pub(crate) fn description() -> anyhow::Result<String> {
    let cores = sched_getaffinity(None).context("failed to read the CPU affinity")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("failed to read the kernel version")?;
    Ok(format!(
        "{} cores, Linux {}; pinned figures on core {}; medians of interleaved rounds",
        cores.count(),
        kernel.trim(),
        last_core(&cores)
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn cores() -> CpuSet {
        sched_getaffinity(None).expect("a thread may read its affinity")
    }

    #[test]
    fn affinity_applies_to_all_threads_until_guard_is_dropped() {
        let before = cores();
        let (requests, received) = mpsc::channel::<()>();
        let (answers, answer) = mpsc::channel();
        let other = thread::spawn(move || {
            for () in received {
                answers.send(cores()).expect("the test receives the answer");
            }
        });
        let of_other = || {
            requests.send(()).expect("the thread runs until `requests` is dropped");
            answer.recv().expect("the thread answers")
        };

        let guard = restrict(Cores::One).expect("the core is one of this process");
        let pinned = [cores(), of_other()];
        drop(guard);
        let after = [cores(), of_other()];

        assert_eq!(pinned.map(|it| it.count()), [1, 1]);
        assert_eq!(after, [before, before]);
        drop(requests);
        other.join().expect("the thread does not panic");
    }
}
