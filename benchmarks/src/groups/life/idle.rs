//! What idle workers cost their master: memory, and being woken.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::conversation::Conversation;
use crate::figure::{FLOOR, Figure};
use crate::fresh::{self, Runs};
use crate::memory;
use crate::place::{self, Place};
use crate::role::Role;

const WORKERS: usize = 200;
/// Memory and wake-ups hardly differ from round to round.
const AT_MOST: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");
/// Long enough for everybody to do whatever is put off until after the first answer.
const SETTLING: Duration = Duration::from_millis(500);
const OBSERVED: Duration = Duration::from_secs(5);

pub(super) fn figures() -> Vec<Figure> {
    let floor = Runs::<WakeUps>::of(Role::WokenByBare);
    let ours = Runs::<WakeUps>::of(Role::WokenByWatched);
    vec![
        Figure::new("life.master_memory_per_worker", "KiB")
            .at_most(AT_MOST)
            .contender(FLOOR, || fresh::measured(Role::MasterOfBare))
            .contender("rpc-parallel (spawn)", || fresh::measured(Role::MasterOfSpawned))
            .contender("rpc-parallel (start)", || fresh::measured(Role::MasterOfStarted)),
        Figure::new("life.idle_wake_ups", "per worker and s")
            .at_most(AT_MOST)
            .contender(FLOOR, floor.value(WakeUps::all))
            .contender("rpc-parallel (master)", ours.value(|it| it.master))
            .contender("rpc-parallel (all)", ours.value(WakeUps::all)),
    ]
}

/// The fresh master: reports how many KiB of its memory each of its idle workers takes.
pub(crate) fn hold<C: Conversation>(socket: UnixStream) -> anyhow::Result<()> {
    let held = place::run(Place::Task, async {
        // With the first worker comes whatever is there once for all of them.
        let first = C::start().await?;
        tokio::time::sleep(SETTLING).await;
        let before = memory::own_mebibytes(std::process::id())?;
        let workers = start_in_turn::<C>(WORKERS).await?;
        tokio::time::sleep(SETTLING).await;
        let after = memory::own_mebibytes(std::process::id())?;
        first.end().await?;
        end(workers).await?;
        Ok((after - before) * 1024.0 / WORKERS as f64)
    })?;
    fresh::report(socket, &held)
}

/// How often threads have been woken, each second, by the number of workers.
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

/// The fresh master: reports how often it and its idle workers are woken.
pub(crate) fn observe<C: Conversation>(socket: UnixStream) -> anyhow::Result<()> {
    let woken = place::run(Place::Task, async {
        let mut workers = start_in_turn::<C>(WORKERS).await?;
        let mut processes = Vec::new();
        for worker in &mut workers {
            processes.push(worker.worker_id().await?);
        }
        tokio::time::sleep(SETTLING).await;
        let before = switches_of(&processes)?;
        tokio::time::sleep(OBSERVED).await;
        let after = switches_of(&processes)?;
        end(workers).await?;
        let rate = |before: u64, after: u64| {
            (after - before) as f64 / WORKERS as f64 / OBSERVED.as_secs_f64()
        };
        Ok(WakeUps { master: rate(before.0, after.0), workers: rate(before.1, after.1) })
    })?;
    fresh::report(socket, &woken)
}

/// Counts how often this process, and these, had to be given a core.
fn switches_of(workers: &[u32]) -> anyhow::Result<(u64, u64)> {
    let of_workers = workers.iter().map(|it| switches(*it)).sum::<anyhow::Result<u64>>()?;
    Ok((switches(std::process::id())?, of_workers))
}

fn switches(process: u32) -> anyhow::Result<u64> {
    let mut switches = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = thread?.path().join("status");
        let status = fs::read_to_string(&path)?;
        for name in ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"] {
            let field = status.lines().find_map(|it| it.strip_prefix(name));
            let count = field.and_then(|it| it.trim().parse::<u64>().ok());
            switches += count.with_context(|| format!("find `{name}` in {}", path.display()))?;
        }
    }
    Ok(switches)
}

async fn start_in_turn<C: Conversation>(count: usize) -> anyhow::Result<Vec<C>> {
    let mut workers = Vec::with_capacity(count);
    for _ in 0..count {
        workers.push(C::start().await?);
    }
    Ok(workers)
}

async fn end<C: Conversation>(workers: Vec<C>) -> anyhow::Result<()> {
    for worker in workers {
        worker.end().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_sleeps_is_woken() {
        let before = switches(std::process::id()).expect("it is this process");
        std::thread::sleep(Duration::from_millis(1));
        let after = switches(std::process::id()).expect("it is this process");

        assert!(after > before);
    }
}
