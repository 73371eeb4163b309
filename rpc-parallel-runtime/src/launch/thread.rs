//! Threads that run boxed closures.
//!
//! std compiles the code that starts and ends a thread once for each type of closure: boxing makes
//! it one type.

use std::io;
use std::thread::Builder;

use rpc_parallel_os::current_cpu;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Starts a detached thread.
pub(crate) fn start_thread(name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Starts a detached thread that begins on the CPU of this thread, so when this thread waits or has
/// used its time slice. Later the thread runs on all CPUs that this thread may use.
///
/// The kernel would let it begin on an idle CPU at once. Waking that CPU takes this thread 50 µs in a
/// virtual machine, and delays whatever else is about to run there.
pub(super) fn start_thread_on_this_cpu(
    name: &str,
    run: Box<dyn FnOnce() + Send>,
) -> io::Result<()> {
    // The first fails on a system with more CPUs than `CpuSet` has, both fail in some sandboxes.
    let (Ok(all), Ok(cpu)) = (sched_getaffinity(None), current_cpu()) else {
        return start_thread(name, run);
    };
    let mut this = CpuSet::new();
    this.set(cpu.min(CpuSet::MAX_CPU - 1));
    if sched_setaffinity(None, &this).is_err() {
        return start_thread(name, run);
    }
    let started = start_thread(
        name,
        Box::new(move || {
            let _ = sched_setaffinity(None, &all);
            run();
        }),
    );
    let _ = sched_setaffinity(None, &all);
    started
}
