//! The CPU time of processes.

use std::time::Duration;

use anyhow::Context;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Reads the CPU time of all threads of this process.
pub(crate) fn of_this_process() -> anyhow::Result<Duration> {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// Reads the CPU time of all threads of a process.
///
/// In contrast to the times in `/proc`, this clock includes the current time slice of a thread, and
/// its resolution is 1 ns.
pub(crate) fn of_process(process: u32) -> anyhow::Result<Duration> {
    let pid = Pid::from_raw(process.try_into()?);
    let clock = clock_getcpuclockid(pid);
    read(clock.with_context(|| format!("failed to find the CPU-time clock of process {process}"))?)
}

fn read(clock: ClockId) -> anyhow::Result<Duration> {
    Ok(clock_gettime(clock).context("failed to read a CPU-time clock")?.into())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn computing_takes_cpu_time() {
        let cpu_time =
            || of_process(std::process::id()).expect("a process may read its own CPU time");

        let before = cpu_time();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(2) {}
        let after = cpu_time();

        assert!(after > before);
    }
}
