//! The processes that this process has started and not yet reaped.

use std::fs;
use std::time::Instant;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::worker_process::{EXIT_TIMEOUT, POLL};

/// Lists the pids of the processes that this process has started, also those that have exited.
pub(crate) fn all() -> anyhow::Result<Vec<u32>> {
    let own = std::process::id();
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").context("failed to list the processes")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        // The process may have been reaped meanwhile.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if parent(&stat) == Some(own) {
            children.push(pid);
        }
    }
    Ok(children)
}

/// Waits until every process that this process has started is reaped, so that no work is left for
/// the next measurement.
pub(crate) async fn all_reaped() -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let children = all()?;
        if children.is_empty() {
            return Ok(());
        }
        let elapsed = begin.elapsed();
        ensure!(
            elapsed < EXIT_TIMEOUT,
            "the processes {children:?} have not exited {elapsed:?} after they were stopped"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// Sends SIGKILL to a process.
pub(crate) fn kill(process: u32) -> anyhow::Result<()> {
    let process =
        i32::try_from(process).ok().and_then(Pid::from_raw).context("expected a positive pid")?;
    kill_process(process, Signal::KILL).context("failed to kill the worker")
}

/// Reads the parent's pid from the content of `/proc/PID/stat`.
fn parent(stat: &str) -> Option<u32> {
    // The name of the executable, in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_is_read_behind_a_name_with_spaces() {
        assert_eq!(parent("17 (a) b (c) S 4 17 0"), Some(4));
    }
}
