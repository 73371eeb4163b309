//! The cores of the machine and the CPU affinity of this process.

use std::fs;

use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// The cores that a measurement and its workers may use.
#[derive(Clone, Copy)]
pub(crate) enum Cores {
    /// All processes share one core, so that the results do not depend on the scheduler.
    One,
    /// The master and its worker have one core each.
    Apart,
    /// The scheduler places the processes.
    All,
}

/// Restores the CPU affinity of this process when dropped.
pub(crate) struct AffinityGuard {
    before: CpuSet,
}

/// Restricts this process, and the processes that it starts later, to `cores`.
///
/// For [`Cores::Apart`], [`Cores::separate`] must follow when the worker has started.
pub(crate) fn restrict(cores: Cores) -> anyhow::Result<AffinityGuard> {
    let before = affinity()?;
    if let Cores::One = cores {
        pin(std::process::id(), last_core(&before))?;
    }
    Ok(AffinityGuard { before })
}

impl Cores {
    /// Pins this process to the last core and its worker to the core before, if they are apart.
    ///
    /// Both start without a restriction: a process that is confined to one core from its start could
    /// assume that its peer shares this core.
    pub(crate) fn separate(self, worker: u32) -> anyhow::Result<()> {
        if let Self::Apart = self {
            let [.., core_of_worker, core_of_master] = available()?[..] else {
                bail!("expected at least two cores for a master and a worker, found one");
            };
            pin(worker, core_of_worker)?;
            pin(std::process::id(), core_of_master)?;
        }
        Ok(())
    }
}

/// Lists the cores that this process may use.
pub(crate) fn available() -> anyhow::Result<Vec<usize>> {
    let cores = affinity()?;
    Ok((0..CpuSet::MAX_CPU).filter(|it| cores.is_set(*it)).collect())
}

/// Restricts a process to one core.
pub(crate) fn pin(process: u32, core: usize) -> anyhow::Result<()> {
    let mut one = CpuSet::new();
    one.set(core);
    set_affinity(process, &one)
        .with_context(|| format!("failed to pin process {process} to core {core}"))
}

fn affinity() -> anyhow::Result<CpuSet> {
    sched_getaffinity(None).context("failed to read the CPU affinity")
}

/// Sets the affinity of every thread: the supervisor thread starts workers and exists already.
fn set_affinity(process: u32, cores: &CpuSet) -> anyhow::Result<()> {
    for thread in fs::read_dir(format!("/proc/{process}/task")).context("failed to list threads")? {
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
        set_affinity(std::process::id(), &self.before).expect("the previous affinity is valid");
    }
}

/// Returns the last core: most machines handle interrupts on the first one.
fn last_core(cores: &CpuSet) -> usize {
    (0..CpuSet::MAX_CPU).rev().find(|it| cores.is_set(*it)).unwrap_or(0)
}

/// Describes the machine.
pub(crate) fn description() -> anyhow::Result<String> {
    let cores = affinity()?;
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
    use std::process::{Command, Stdio};
    use std::sync::{Mutex, PoisonError, mpsc};
    use std::thread;

    use super::*;

    /// A test changes the affinity of all threads.
    static ONE_TEST_AT_A_TIME: Mutex<()> = Mutex::new(());

    fn cores() -> CpuSet {
        affinity().expect("a thread may read its affinity")
    }

    #[test]
    fn affinity_applies_to_all_threads_until_guard_is_dropped() {
        let _lock = ONE_TEST_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
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
    #[test]
    fn separated_master_and_worker_have_one_core_each() {
        let _lock = ONE_TEST_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        if cores().count() < 2 {
            return;
        }
        let mut worker = Command::new("cat").stdin(Stdio::piped()).spawn().expect("`cat` exists");
        let pid = i32::try_from(worker.id()).ok().and_then(Pid::from_raw);

        let guard = restrict(Cores::Apart).expect("the affinity is readable");
        Cores::Apart.separate(worker.id()).expect("there are two cores");
        let of_master = cores();
        let of_worker = sched_getaffinity(pid).expect("the worker runs");
        drop(guard);

        assert_eq!([of_master.count(), of_worker.count()], [1, 1]);
        assert_ne!(of_master, of_worker);
        drop(worker.stdin.take());
        worker.wait().expect("`cat` exits at the end of its stdin");
    }
}
