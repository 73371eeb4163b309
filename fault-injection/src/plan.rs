//! The plan of a round: its tree of workers, their workloads, and the faults to inject.
//!
//! A plan follows from the seed and the number of the round. The timing is up to the machine, so a
//! repeated round is similar and not identical.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bounds::HEARTBEAT_TIMEOUT;
use crate::random::Random;

/// The longest time for which workers run their workloads before their masters end them.
const MAX_WORKLOAD_TIME: Duration = Duration::from_millis(120);
/// The depth of the tree of workers below its first master.
const MAX_DEPTH: usize = 3;
const MAX_WORKERS: usize = 9;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RoundPlan {
    /// Whether the runtime of the first master has several threads.
    pub(crate) multi_thread: bool,
    /// Whether the first master takes a snapshot.
    pub(crate) snapshot: bool,
    pub(crate) workers: Vec<WorkerPlan>,
    pub(crate) faults: Vec<PlannedFault>,
    pub(crate) workload_time: Duration,
    pub(crate) master_exit: MasterExit,
}

/// A worker and its own workers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkerPlan {
    pub(crate) name: String,
    pub(crate) lifetime: Lifetime,
    pub(crate) start_method: StartMethod,
    /// The time that the master waits before it starts the worker.
    pub(crate) start_delay: Duration,
    pub(crate) init: InitBehavior,
    /// The duration of `on_shutdown`.
    pub(crate) shutdown_time: Duration,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) workers: Vec<WorkerPlan>,
    /// The fault that the worker injects into its own process, and when.
    pub(crate) self_fault: Option<(Milestone, Fault)>,
    pub(crate) ending: WorkerEnding,
}

/// What the lifetime of a worker depends on.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Lifetime {
    Client,
    Master,
    Detached,
}

/// How a worker is started.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum StartMethod {
    Exec,
    /// From the snapshot of the first master.
    Snapshot,
    /// By a program that executes the worker after this time.
    Delayed(Duration),
    /// By a program that never executes the worker. The start fails after this time.
    Hanging(Duration),
    /// By a launcher that never starts a process. The start fails after this time.
    Pending(Duration),
}

/// What the `init` of a worker does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum InitBehavior {
    Immediate,
    Sleep(Duration),
    BlockThread(Duration),
}

/// What a master does with a worker until it ends the worker.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Workload {
    /// Sequential small calls.
    SmallCalls,
    /// Sequential calls with large arguments and results.
    LargeCalls,
    /// One call that never returns.
    PendingCall,
    /// Sequential calls that each block the worker's thread for a short time.
    Compute,
    /// One call that blocks the worker's thread forever.
    BlockThread,
    /// A stream from the worker.
    ReadStream,
    /// A stream to the worker.
    WriteStream,
    /// The worker calls another worker.
    CallPeer,
    /// The worker calls a server in the master's process.
    CallMaster,
}

/// How a master ends a worker.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum WorkerEnding {
    DropClient,
    Shutdown,
    CloseServer,
    /// The master does not end the worker. The worker exits with its master, or the driver ends it.
    LeaveRunning,
}

/// How the first master exits, unless a fault ends it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum MasterExit {
    Return,
    Exit,
    Panic,
    Abort,
}

/// A point in the life of a worker that is reported to the driver.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Milestone {
    /// Its master is about to start it.
    Starting,
    /// Its `init` runs.
    Init,
    /// Its master has a handle of it.
    Started,
    /// Its first function runs.
    Call,
    /// The first element of a stream passes.
    Stream,
    /// Its master is about to end it.
    Ending,
    /// Its `on_shutdown` runs.
    Shutdown,
}

/// A fault that the driver injects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PlannedFault {
    pub(crate) trigger: Trigger,
    /// The time from the trigger to the injection.
    pub(crate) delay: Duration,
    pub(crate) target: FaultTarget,
    pub(crate) fault: Fault,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Trigger {
    RoundStart,
    /// The worker of this name reaches a milestone.
    Reached(String, Milestone),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum FaultTarget {
    FirstMaster,
    Worker(String),
    /// The process that was started last. It may not run as a worker yet.
    Newest,
    /// The snapshot process of the first master.
    Snapshot,
    /// Every second process.
    EverySecond,
    All,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Fault {
    Kill,
    Segv,
    Term,
    /// SIGSTOP, followed by SIGCONT after this time.
    Pause(Duration),
    /// SIGSTOP.
    Stop,
}

impl RoundPlan {
    /// Generates the plan of one round under one seed.
    pub(crate) fn generate(seed: u64, round: u64) -> Self {
        let mut random = Random::new(seed, round);
        let mut remaining = 1 + random.index(MAX_WORKERS);
        let snapshot = random.chance(50);
        let workers = generate_workers(&mut random, "w", &mut remaining, MAX_DEPTH, snapshot);
        let mut names = Vec::new();
        collect_names(&workers, &mut names);
        let workload_time =
            MAX_WORKLOAD_TIME / 4 + duration_below(&mut random, MAX_WORKLOAD_TIME * 3 / 4);
        let faults = (0..1 + random.below(3))
            .map(|_| PlannedFault::generate(&mut random, &names, workload_time, snapshot));
        Self {
            faults: faults.collect(),
            multi_thread: random.chance(30),
            snapshot,
            workers,
            workload_time,
            master_exit: random.weighted(&[
                (55, MasterExit::Return),
                (20, MasterExit::Exit),
                (15, MasterExit::Panic),
                (10, MasterExit::Abort),
            ]),
        }
    }
}

impl RoundPlan {
    /// Returns the plan of the worker of this name.
    pub(crate) fn worker(&self, name: &str) -> Option<&WorkerPlan> {
        let mut workers = &self.workers;
        loop {
            let worker = workers.iter().find(|it| is_or_descends_from(name, &it.name))?;
            if worker.name == name {
                return Some(worker);
            }
            workers = &worker.workers;
        }
    }
}

/// Returns whether `name` is the worker `ancestor` or one of its descendants.
pub(crate) fn is_or_descends_from(name: &str, ancestor: &str) -> bool {
    name.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Generates the workers of one master, which may have a snapshot.
fn generate_workers(
    random: &mut Random,
    prefix: &str,
    remaining: &mut usize,
    depth: usize,
    snapshot: bool,
) -> Vec<WorkerPlan> {
    let mut workers = Vec::new();
    let count = 1 + random.index(4);
    while *remaining > 0 && workers.len() < count {
        *remaining -= 1;
        let name = format!("{prefix}{}", workers.len());
        workers.push(WorkerPlan::generate(random, name, remaining, depth, snapshot));
    }
    workers
}

fn collect_names(workers: &[WorkerPlan], names: &mut Vec<String>) {
    for worker in workers {
        names.push(worker.name.clone());
        collect_names(&worker.workers, names);
    }
}

impl WorkerPlan {
    fn generate(
        random: &mut Random,
        name: String,
        remaining: &mut usize,
        depth: usize,
        snapshot: bool,
    ) -> Self {
        let lifetime = random.weighted(&[
            (6, Lifetime::Client),
            (3, Lifetime::Master),
            (1, Lifetime::Detached),
        ]);
        let workload = |random: &mut Random| {
            random.weighted(&[
                (4, Workload::SmallCalls),
                (2, Workload::LargeCalls),
                (3, Workload::PendingCall),
                (2, Workload::Compute),
                (1, Workload::BlockThread),
                (3, Workload::ReadStream),
                (3, Workload::WriteStream),
                (2, Workload::CallPeer),
                (2, Workload::CallMaster),
            ])
        };
        let mut workloads: Vec<_> = (0..1 + random.below(3)).map(|_| workload(random)).collect();
        let workers = if depth > 1 && random.chance(40) {
            // A snapshot belongs to the process that has taken it.
            generate_workers(random, &format!("{name}."), remaining, depth - 1, false)
        } else {
            Vec::new()
        };
        // A worker whose thread is blocked forever runs no other workload and cannot be a master.
        if workloads.contains(&Workload::BlockThread) {
            let blocks = workers.is_empty();
            workloads.retain(|workload| (*workload == Workload::BlockThread) == blocks);
        }
        let ending = match lifetime {
            // A worker whose thread is blocked cannot answer `close_server`.
            Lifetime::Master if workloads.contains(&Workload::BlockThread) => {
                WorkerEnding::Shutdown
            }
            Lifetime::Client => random.weighted(&[
                (4, WorkerEnding::DropClient),
                (4, WorkerEnding::Shutdown),
                (2, WorkerEnding::LeaveRunning),
            ]),
            Lifetime::Master => random.weighted(&[
                (4, WorkerEnding::Shutdown),
                (3, WorkerEnding::CloseServer),
                (3, WorkerEnding::LeaveRunning),
            ]),
            Lifetime::Detached => {
                random.weighted(&[(1, WorkerEnding::Shutdown), (2, WorkerEnding::LeaveRunning)])
            }
        };
        let short = Duration::from_millis(20);
        let init = match random.below(10) {
            0..6 => InitBehavior::Immediate,
            6..8 => InitBehavior::Sleep(duration_below(random, short)),
            _ => InitBehavior::BlockThread(duration_below(random, short)),
        };
        let self_fault = random.chance(12).then(|| {
            let milestone = random.weighted(&[
                (1, Milestone::Init),
                (2, Milestone::Call),
                (2, Milestone::Stream),
                (1, Milestone::Shutdown),
            ]);
            (milestone, Fault::generate(random))
        });
        let shutdown_time =
            if random.chance(30) { duration_below(random, short) } else { Duration::ZERO };
        let start_delay =
            if random.chance(50) { duration_below(random, short) } else { Duration::ZERO };
        Self {
            name,
            lifetime,
            start_method: StartMethod::generate(random, snapshot),
            start_delay,
            init,
            shutdown_time,
            workloads,
            workers,
            self_fault,
            ending,
        }
    }

    /// Returns whether the worker or one of its descendants is detached.
    pub(crate) fn has_detached(&self) -> bool {
        self.lifetime == Lifetime::Detached || self.workers.iter().any(Self::has_detached)
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, lifetime, start_method, start_delay, init, workloads, .. } = self;
        let Self { ending, shutdown_time, self_fault, workers, .. } = self;
        write!(f, "  {name}: lifetime {lifetime:?}, start by {start_method:?} after ")?;
        write!(f, "{start_delay:?}, init {init:?}, ")?;
        writeln!(f, "workloads {workloads:?}, ending {ending:?}, on_shutdown {shutdown_time:?}")?;
        if let Some((milestone, fault)) = self_fault {
            writeln!(f, "    injects {fault:?} into itself at {milestone:?}")?;
        }
        workers.iter().try_for_each(|worker| worker.describe(f))
    }
}

/// Lists the workers and the faults, one per line.
impl fmt::Display for RoundPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { multi_thread, snapshot, workers, faults, workload_time, master_exit } = self;
        let runtime = if *multi_thread { "multi-thread" } else { "current-thread" };
        write!(f, "  first master: {runtime} runtime, snapshot {snapshot}, ")?;
        write!(f, "workloads for {workload_time:?}, ")?;
        writeln!(f, "exit by {master_exit:?}")?;
        workers.iter().try_for_each(|worker| worker.describe(f))?;
        for PlannedFault { trigger, delay, target, fault } in faults {
            writeln!(f, "  fault {fault:?} into {target:?}, {delay:?} after {trigger:?}")?;
        }
        Ok(())
    }
}

impl StartMethod {
    fn generate(random: &mut Random, snapshot: bool) -> Self {
        let delay = duration_below(random, Duration::from_millis(30));
        let timeout = Duration::from_millis(1) + duration_below(random, MAX_WORKLOAD_TIME);
        random.weighted(&[
            (if snapshot { 20 } else { 80 }, Self::Exec),
            (if snapshot { 60 } else { 0 }, Self::Snapshot),
            (10, Self::Delayed(delay)),
            (7, Self::Hanging(timeout)),
            (3, Self::Pending(timeout)),
        ])
    }

    /// Returns whether the start fails without a fault.
    pub(crate) fn hangs(self) -> bool {
        matches!(self, Self::Hanging(_) | Self::Pending(_))
    }
}

impl PlannedFault {
    fn generate(
        random: &mut Random,
        names: &[String],
        workload_time: Duration,
        snapshot: bool,
    ) -> Self {
        let name = names[random.index(names.len())].clone();
        let (trigger, delay) = if random.chance(50) {
            let milestone = random.weighted(&[
                (2, Milestone::Starting),
                (2, Milestone::Init),
                (2, Milestone::Started),
                (2, Milestone::Call),
                (2, Milestone::Stream),
                (3, Milestone::Ending),
                (2, Milestone::Shutdown),
            ]);
            // The phase after `Starting` takes longer than the others.
            let max_delay = if milestone == Milestone::Starting { 8 } else { 3 };
            let delay = duration_below(random, Duration::from_millis(max_delay));
            (Trigger::Reached(name.clone(), milestone), delay)
        } else {
            (Trigger::RoundStart, duration_below(random, workload_time))
        };
        let target = match random.below(100) {
            0..20 if snapshot => FaultTarget::Snapshot,
            0..60 => FaultTarget::Worker(name),
            60..72 => FaultTarget::Newest,
            72..90 => FaultTarget::FirstMaster,
            90..96 => FaultTarget::EverySecond,
            _ => FaultTarget::All,
        };
        let fault = match target {
            FaultTarget::All => random.weighted(&[(3, Fault::Kill), (1, Fault::Term)]),
            _ => Fault::generate(random),
        };
        Self { trigger, delay, target, fault }
    }
}

impl Fault {
    fn generate(random: &mut Random) -> Self {
        let pause = duration_below(random, Duration::from_millis(80));
        let long_pause = 2 * HEARTBEAT_TIMEOUT;
        random.weighted(&[
            (45, Self::Kill),
            (15, Self::Segv),
            (15, Self::Term),
            (15, Self::Pause(pause)),
            (2, Self::Pause(long_pause)),
            (8, Self::Stop),
        ])
    }
}

fn duration_below(random: &mut Random, bound: Duration) -> Duration {
    let bound = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(random.below(bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(workers: &[WorkerPlan]) -> Vec<&WorkerPlan> {
        workers.iter().flat_map(|it| std::iter::once(it).chain(all(&it.workers))).collect()
    }

    #[test]
    fn same_seed_generates_the_same_plan() {
        let [one, other] = [RoundPlan::generate(1, 2), RoundPlan::generate(1, 2)];

        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }

    #[test]
    fn rounds_cover_all_lifetimes_faults_and_depths() {
        let plans: Vec<_> = (0..300).map(|it| RoundPlan::generate(5, it)).collect();
        let workers: Vec<_> = plans.iter().flat_map(|it| all(&it.workers)).collect();
        let dots = |worker: &WorkerPlan| worker.name.matches('.').count();

        assert!(workers.iter().any(|it| dots(it) == MAX_DEPTH - 1));
        assert!(workers.iter().all(|it| dots(it) < MAX_DEPTH));
        for lifetime in [Lifetime::Client, Lifetime::Master, Lifetime::Detached] {
            assert!(workers.iter().any(|it| it.lifetime == lifetime), "{lifetime:?}");
        }
        assert!(workers.iter().any(|it| it.start_method == StartMethod::Snapshot));
        assert!(workers.iter().any(|it| it.start_method.hangs()));
        for fault in [Fault::Kill, Fault::Segv, Fault::Term, Fault::Stop] {
            let has_fault = |plan: &RoundPlan| plan.faults.iter().any(|it| it.fault == fault);
            assert!(plans.iter().any(has_fault), "{fault:?}");
        }
    }

    #[test]
    fn only_first_master_has_snapshot() {
        for plan in (0..300).map(|it| RoundPlan::generate(7, it)) {
            let mut forked = all(&plan.workers);
            forked.retain(|it| it.start_method == StartMethod::Snapshot);

            assert!(forked.iter().all(|it| plan.snapshot && !it.name.contains('.')), "{plan}");
        }
    }

    #[test]
    fn blocked_worker_is_no_master() {
        for plan in (0..300).map(|it| RoundPlan::generate(6, it)) {
            for worker in all(&plan.workers) {
                let blocks = worker.workloads.contains(&Workload::BlockThread);
                assert!(!blocks || worker.workers.is_empty(), "{worker:?}");
            }
        }
    }
}
