//! The machine: its cores, and which of them we run on.

use std::fs;

use anyhow::Context;
use rustix::io::Errno;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Which cores a measurement and its workers may use.
#[derive(Clone, Copy)]
pub(crate) enum Cores {
    /// All of its processes share one core: no luck of placement, the comparable case.
    One,
    /// Wherever the kernel places them.
    All,
}

/// Confines this process, and all it starts from now on, until dropped.
pub(crate) struct Placed {
    before: CpuSet,
}

/// Confines this process, and all it starts from now on, to `cores`.
pub(crate) fn place(cores: Cores) -> anyhow::Result<Placed> {
    let before = sched_getaffinity(None).context("read the cores this process may use")?;
    if let Cores::One = cores {
        let mut one = CpuSet::new();
        one.set(last(&before));
        confine(&one).context("pin this process to one core")?;
    }
    Ok(Placed { before })
}

/// Confines every thread: workers are started by one that lives as long as this process.
fn confine(cores: &CpuSet) -> anyhow::Result<()> {
    for thread in fs::read_dir("/proc/self/task").context("list the threads of this process")? {
        let thread = thread?.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        match sched_setaffinity(thread, cores) {
            // It has ended meanwhile.
            Err(Errno::SRCH) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

impl Drop for Placed {
    fn drop(&mut self) {
        confine(&self.before).expect("these cores were allowed a moment ago");
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
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn cores() -> CpuSet {
        sched_getaffinity(None).expect("a thread may ask for its cores")
    }

    #[test]
    fn a_pin_holds_every_thread_and_ends_with_its_guard() {
        let before = cores();
        let (asked, ask) = mpsc::channel::<()>();
        let (answered, answer) = mpsc::channel();
        let other = thread::spawn(move || {
            for () in ask {
                answered.send(cores()).expect("the answer is waited for");
            }
        });
        let of_other = || {
            asked.send(()).expect("it lives until `asked` is dropped");
            answer.recv().expect("it answers")
        };

        let placed = place(Cores::One).expect("one of our own cores");
        let pinned = [cores(), of_other()];
        drop(placed);
        let after = [cores(), of_other()];

        assert_eq!(pinned.map(|it| it.count()), [1, 1]);
        assert_eq!(after, [before, before]);
        drop(asked);
        other.join().expect("it does not panic");
    }
}
