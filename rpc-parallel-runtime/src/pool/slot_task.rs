//! The tasks that start workers and replace them.
//!
//! Each slot has one task. It waits until its worker ends or is due to be replaced, starts the
//! replacement, and reports both to the pool.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::core::PoolCore;
use super::error::{PoolError, PoolErrorKind};
use super::member::Member;
use super::race::{Either, race};
use super::recycling::CHECK_INTERVAL;
use super::set_up::SetUp;
use super::slot_changes::{AddError, Joined};
use super::slots::SlotId;
use super::updates::MemberUpdate;
use super::vitals::Over;
use crate::connection::{WorkerFailure, task};
use crate::launch::Children;
use crate::master::{
    LimitReached, PreparedSpawn, ProcessRecord, Restarts, SpawnErrorKind, SpawnFailure,
};

/// Starts workers in parallel, and adds all of them to the pool.
///
/// # Errors
///
/// A worker did not start. No new worker is left.
///
/// # Cancel safety
///
/// Dropping the future ends the new workers.
pub(super) async fn add_workers(
    core: &Arc<PoolCore>,
    first_index: usize,
    workers: Vec<PreparedSpawn>,
) -> Result<(), PoolError> {
    let mut starting = JoinSet::new();
    for (position, worker) in workers.into_iter().enumerate() {
        let (core, index) = (core.clone(), first_index + position);
        let runtime = core.runtime().clone();
        // Owner: the set, which is dropped with this future.
        let start = async move {
            let started = start(&core, index, &worker).await;
            (index, worker, started)
        };
        starting.spawn_on(start, &runtime);
    }
    let mut started = Vec::new();
    while let Some(next) = starting.join_next().await {
        let error = match next {
            Ok((index, worker, Ok(member))) => {
                started.push((index, worker, member));
                continue;
            }
            Ok((worker_index, worker, Err(failed))) => {
                let error = worker.error(failed.into());
                PoolErrorKind::Spawn { worker_index, error }.into()
            }
            // The tasks do not panic.
            Err(_) => PoolErrorKind::RuntimeEnded.into(),
        };
        starting.shutdown().await;
        end_all(started.into_iter().map(|(.., member)| member).collect()).await;
        return Err(error);
    }
    started.sort_by_key(|(index, ..)| *index);
    let members: Vec<_> = started
        .iter()
        .map(|(_, worker, member)| (member.clone(), Arc::new(worker.label())))
        .collect();
    let slots = loop {
        let (worker_index, error) = match core.add(&members) {
            Ok(slots) => break slots,
            Err(AddError::Missing(position, set_ups)) => {
                match answer(&members[position].0, &set_ups).await {
                    Ok(()) => continue,
                    Err(failed) => (position, failed),
                }
            }
            Err(AddError::Ended(error)) => {
                drop(started);
                end_all(members.into_iter().map(|(member, _)| member).collect()).await;
                return Err(error);
            }
        };
        let (index, worker, _) = &started[worker_index];
        let error =
            PoolErrorKind::Spawn { worker_index: *index, error: worker.error(error.into()) };
        drop(started);
        end_all(members.into_iter().map(|(member, _)| member).collect()).await;
        return Err(error.into());
    };
    for ((slot_id, removed), (_, worker, member)) in slots.into_iter().zip(started) {
        let Some(restarts) = core.replace_policy.track() else { continue };
        let slot = SlotTask { core: core.clone(), slot_id, worker, restarts, recycles: true };
        let guard = SlotGuard { core: core.clone(), slot_id };
        // Owner: the slot in the pool. The task ends when the slot is dropped.
        core.runtime().spawn(task(async move {
            slot.run(member, removed).await;
            drop(guard);
        }));
    }
    Ok(())
}

/// Kills workers, and waits until their processes have exited.
async fn end_all(members: Vec<Arc<Member>>) {
    for member in &members {
        member.started().kill_now();
    }
    for member in members {
        member.started().kill().await;
    }
}

/// The reason why a worker did not start, or did not answer its set-up calls.
enum StartError {
    NotStarted(SpawnFailure),
    /// The process ended during a set-up call. Its failure has been reported.
    Died(WorkerFailure),
}

impl From<StartError> for SpawnFailure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NotStarted(failure) => failure,
            StartError::Died(failure) => SpawnErrorKind::Died(failure).into(),
        }
    }
}

/// Starts a process of a worker.
async fn start(
    core: &PoolCore,
    index: usize,
    worker: &PreparedSpawn,
) -> Result<Arc<Member>, StartError> {
    // It fails only after the semaphore was closed, which does not happen.
    let _permit = core.starting.acquire().await;
    let process = worker.spawn().await.map_err(StartError::NotStarted)?;
    Ok(Arc::new(Member::new(index, process, core.recycling)))
}

/// Makes set-up calls to a new worker. The worker is killed if one of them fails.
async fn answer(member: &Arc<Member>, set_ups: &[Arc<SetUp>]) -> Result<(), StartError> {
    for set_up in set_ups {
        if let Err(why) = set_up.run(member).await {
            if member.started().is_dead() {
                return Err(StartError::Died(member.started().end().await.failure));
            }
            member.started().kill().await;
            let (kind, stderr) = (SpawnErrorKind::SetUpCall { why }, member.started().last_lines());
            return Err(StartError::NotStarted(SpawnFailure { kind, stderr }));
        }
    }
    Ok(())
}

/// Records the end of a slot whose task ends for any reason: for example, its runtime has ended.
struct SlotGuard {
    core: Arc<PoolCore>,
    slot_id: SlotId,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        // It has no effect if the slot has another error or was removed.
        self.core.exhaust(self.slot_id, PoolErrorKind::RuntimeEnded.into());
    }
}

/// The task of a slot.
struct SlotTask {
    core: Arc<PoolCore>,
    slot_id: SlotId,
    worker: PreparedSpawn,
    restarts: Restarts,
    /// Whether workers that serve are replaced. Cleared when the limit of replacements is reached.
    recycles: bool,
}

/// The failure of the last process, and its record for the limit.
type Failed = (WorkerFailure, ProcessRecord);

impl SlotTask {
    async fn run(mut self, first: Arc<Member>, mut removed: oneshot::Receiver<()>) {
        let mut member = first;
        loop {
            let due = due(&self.core, &member, self.recycles);
            let next = match race(&mut removed, race(member.over(), due)).await {
                Either::First(_) => return retire(&self.core, member),
                Either::Second(Either::First(over)) => {
                    let failed = (over.failure.clone(), member.record(&over));
                    self.lose(member, over);
                    if Children::get().are_ending() {
                        return;
                    }
                    self.replace(None, Some(failed), &mut removed).await
                }
                Either::Second(Either::Second(_permit)) => {
                    self.replace(Some(member), None, &mut removed).await
                }
            };
            match next {
                Some(next) => member = next,
                None => return,
            }
        }
    }

    fn lose(&self, member: Arc<Member>, over: Over) {
        self.core.lose(self.slot_id, member, over.failure);
    }

    /// Starts a replacement, and returns the worker that then serves. Returns `None` if the slot has
    /// ended.
    async fn replace(
        &mut self,
        mut old: Option<Arc<Member>>,
        failed: Option<Failed>,
        removed: &mut oneshot::Receiver<()>,
    ) -> Option<Arc<Member>> {
        let Self { core, slot_id, worker, restarts, recycles } = self;
        let mut next = pin!(next_member(core, *slot_id, worker, restarts, failed));
        loop {
            let old_over = async {
                match &old {
                    Some(old) => old.over().await,
                    None => pending().await,
                }
            };
            match race(&mut *removed, race(next.as_mut(), old_over)).await {
                Either::First(_) => {
                    old.into_iter().for_each(|old| retire(core, old));
                    return None;
                }
                Either::Second(Either::First(next)) => {
                    return match (next, old) {
                        (Ok(next), old) => {
                            old.into_iter().for_each(|old| retire(core, old));
                            Some(next)
                        }
                        // The old worker is better than none.
                        (Err(Ended::LimitReached(_)), Some(old)) => {
                            *recycles = false;
                            Some(old)
                        }
                        (Err(Ended::LimitReached(error)), None) => {
                            core.exhaust(*slot_id, error);
                            None
                        }
                        (Err(Ended::Removed), old) => {
                            old.into_iter().for_each(|old| retire(core, old));
                            None
                        }
                    };
                }
                Either::Second(Either::Second(over)) => {
                    if let Some(old) = old.take() {
                        core.lose(*slot_id, old, over.failure);
                    }
                }
            }
        }
    }
}

/// Why a slot gets no other worker.
enum Ended {
    LimitReached(PoolError),
    /// The slot was removed, or this process is ending.
    Removed,
}

/// Starts processes until one has joined the pool.
async fn next_member(
    core: &Arc<PoolCore>,
    slot_id: SlotId,
    worker: &PreparedSpawn,
    restarts: &mut Restarts,
    mut failed: Option<Failed>,
) -> Result<Arc<Member>, Ended> {
    loop {
        if let Some((last, record)) = failed {
            match restarts.next(record) {
                Ok(delay) => sleep(delay).await,
                Err(LimitReached { times, within }) => {
                    let kind = PoolErrorKind::ReplaceLimitReached { last, times, within };
                    return Err(Ended::LimitReached(kind.into()));
                }
            }
        }
        if Children::get().are_ending() {
            return Err(Ended::Removed);
        }
        let joined = async {
            let member = start(core, slot_id.index, worker).await?;
            loop {
                match core.join(slot_id, &member) {
                    Joined::Yes => return Ok(Some(member)),
                    Joined::Missing(set_ups) => answer(&member, &set_ups).await?,
                    Joined::Removed => return Ok(None),
                }
            }
        };
        let failure = match joined.await {
            Ok(Some(member)) => return Ok(member),
            Ok(None) => return Err(Ended::Removed),
            Err(StartError::NotStarted(failure)) => worker.report(failure),
            Err(StartError::Died(failure)) => failure,
        };
        failed = Some((failure, ProcessRecord::default()));
    }
}

/// Waits until a worker has done as much as it may, and until it is its turn to be replaced.
async fn due(core: &PoolCore, member: &Member, recycles: bool) -> Option<OwnedSemaphorePermit> {
    if !recycles {
        return pending().await;
    }
    let recycling = core.recycling;
    let by_age = async {
        match recycling.age().and_then(|it| member.since().checked_add(it)) {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    };
    let by_checks = async {
        if !recycling.needs_checks() {
            return pending().await;
        }
        loop {
            sleep(CHECK_INTERVAL).await;
            let (process, work) = (member.started().label().pid(), member.work());
            if recycling.is_due_after(work)
                || process.is_some_and(|it| recycling.is_due_at(it, work))
            {
                return;
            }
        }
    };
    race(member.due_after_work(), race(by_age, by_checks)).await;
    core.replacing.clone().acquire_owned().await.ok()
}

/// Lets a worker finish its work, and reports its end to those that still use it.
fn retire(core: &Arc<PoolCore>, member: Arc<Member>) {
    let (core, vitals) = (core.clone(), member.vitals().clone());
    let weak = Arc::downgrade(&member);
    // The worker lives as long as those that still use it.
    drop(member);
    // Owner: this tokio runtime. The task ends with the process.
    tokio::spawn(task(async move {
        let over = vitals.over(pending()).await;
        let lost = weak.upgrade().map(|member| MemberUpdate::Lost(member, over.failure));
        core.remove_retiring(&vitals.started, lost);
    }));
}
