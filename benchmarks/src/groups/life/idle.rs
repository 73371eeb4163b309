//! The cost of idle workers for their master: memory and wake-ups.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::figure::{FLOOR, Figure};
use crate::fresh_master::{self, SharedRuns};
use crate::memory;
use crate::role::Role;
use crate::runtime::{self, CallFrom};
use crate::worker_handle::WorkerHandle;

const WORKERS: usize = 200;
/// The values hardly differ between rounds.
const MAX_ROUNDS: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");
/// Long enough for work that processes defer until after the first answer.
const SETTLE_TIME: Duration = Duration::from_millis(500);
const OBSERVATION_TIME: Duration = Duration::from_secs(5);

pub(super) fn figures() -> Vec<Figure> {
    let floor = SharedRuns::<WakeUps>::new(Role::BareProcessWakeUps);
    let workers = SharedRuns::<WakeUps>::new(Role::HeartbeatWakeUps);
    vec![
        Figure::new("life.master_memory_per_worker", "KiB")
            .with_max_rounds(MAX_ROUNDS)
            .contender(FLOOR, || fresh_master::measure(Role::BareProcessMemory))
            .contender("rpc-parallel (spawn)", || fresh_master::measure(Role::SpawnedWorkerMemory))
            .contender("rpc-parallel (start)", || fresh_master::measure(Role::StartedWorkerMemory)),
        Figure::new("life.idle_wake_ups", "per worker and s")
            .with_max_rounds(MAX_ROUNDS)
            .contender(FLOOR, floor.value(WakeUps::all))
            .contender("rpc-parallel (master)", workers.value(|it| it.master))
            .contender("rpc-parallel (all)", workers.value(WakeUps::all)),
    ]
}

/// Runs as a fresh master: sends the memory that each idle worker costs it, in KiB.
pub(crate) fn send_memory<C: WorkerHandle>(socket: UnixStream) -> anyhow::Result<()> {
    let memory_per_worker = runtime::run(CallFrom::SpawnedTask, async {
        // The first worker creates resources that all workers share.
        let first = C::start().await?;
        tokio::time::sleep(SETTLE_TIME).await;
        let before = memory::anonymous_mebibytes(std::process::id())?;
        let workers = start_workers::<C>(WORKERS).await?;
        tokio::time::sleep(SETTLE_TIME).await;
        let after = memory::anonymous_mebibytes(std::process::id())?;
        first.stop().await?;
        stop_workers(workers).await?;
        Ok((after - before) * 1024.0 / WORKERS as f64)
    })?;
    fresh_master::send(socket, &memory_per_worker)
}

/// Wake-ups of threads per second and worker.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct WakeUps {
    master: f64,
    workers: f64,
}

impl WakeUps {
    fn all(self) -> f64 {
        self.master + self.workers
    }
}

/// Runs as a fresh master: sends the rates at which it and its idle workers wake up.
pub(crate) fn send_wake_ups<C: WorkerHandle>(socket: UnixStream) -> anyhow::Result<()> {
    let wake_ups = runtime::run(CallFrom::SpawnedTask, async {
        let mut workers = start_workers::<C>(WORKERS).await?;
        let mut processes = Vec::new();
        for worker in &mut workers {
            processes.push(worker.worker_pid().await?);
        }
        tokio::time::sleep(SETTLE_TIME).await;
        let before = context_switches_of_all(&processes)?;
        tokio::time::sleep(OBSERVATION_TIME).await;
        let after = context_switches_of_all(&processes)?;
        stop_workers(workers).await?;
        let rate = |before: u64, after: u64| {
            (after - before) as f64 / WORKERS as f64 / OBSERVATION_TIME.as_secs_f64()
        };
        Ok(WakeUps { master: rate(before.0, after.0), workers: rate(before.1, after.1) })
    })?;
    fresh_master::send(socket, &wake_ups)
}

/// Returns the context switches of this process and of the workers.
fn context_switches_of_all(workers: &[u32]) -> anyhow::Result<(u64, u64)> {
    let of_workers = workers.iter().map(|it| context_switches(*it)).sum::<anyhow::Result<u64>>()?;
    Ok((context_switches(std::process::id())?, of_workers))
}

fn context_switches(process: u32) -> anyhow::Result<u64> {
    let mut switches = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        switches += context_switches_of_thread(&thread?.path())?;
    }
    Ok(switches)
}

/// Reads the voluntary and involuntary context switches of a thread from its folder in `/proc`.
fn context_switches_of_thread(thread: &Path) -> anyhow::Result<u64> {
    let path = thread.join("status");
    let status = fs::read_to_string(&path)?;
    let mut switches = 0;
    for name in ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"] {
        let field = status.lines().find_map(|it| it.strip_prefix(name));
        let count = field.and_then(|it| it.trim().parse::<u64>().ok());
        switches += count.with_context(|| format!("expected `{name}` in {}", path.display()))?;
    }
    Ok(switches)
}

async fn start_workers<C: WorkerHandle>(count: usize) -> anyhow::Result<Vec<C>> {
    let mut workers = Vec::with_capacity(count);
    for _ in 0..count {
        workers.push(C::start().await?);
    }
    Ok(workers)
}

async fn stop_workers<C: WorkerHandle>(workers: Vec<C>) -> anyhow::Result<()> {
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_counts_as_wake_up() {
        let switches = || {
            context_switches_of_thread(Path::new("/proc/thread-self"))
                .expect("a thread may read its own status")
        };

        let before = switches();
        std::thread::sleep(Duration::from_millis(1));
        let after = switches();

        assert!(after > before);
    }
}
