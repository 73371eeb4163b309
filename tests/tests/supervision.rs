//! Workers that fail are started again, and their clients go on with the new process.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rpc_parallel::error::{
    CallErrorKind, ConnectErrorKind, ControlErrorKind, ExitReason, PipeErrorKind, SpawnErrorKind,
};
use rpc_parallel::expert::Served;
use rpc_parallel::prelude::*;
use rpc_parallel::{Spawner, WorkerFailure};
use rpc_parallel_tests::gate::{Gate, WayThrough};
use rpc_parallel_tests::process::{PATIENCE, ends, ends_within, is_gone, kill};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::waiting::{read, soon};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

/// What a worker does until it dies.
#[rpc_parallel::worker]
trait Mortals {
    fn pid(&self) -> u32;
    /// Returns how many times this was called in the life of the process.
    fn count(&self) -> u32;
    /// Waits for ever, from when it has come to the gate.
    async fn wait(&self, gate: WayThrough);
    fn endless(&self) -> Pipe<u64>;
    fn exit(&self, code: i32);
}

struct Mortal {
    calls: AtomicU32,
}

/// How a life begins.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Birth {
    /// Where to wait for a sign that it may begin.
    gate: Option<WayThrough>,
    /// A file that says that one has been there before: then it does not begin.
    first: Option<PathBuf>,
}

impl WorkerState for Mortal {
    type Init = Birth;

    async fn init(birth: Birth) -> Result<Self, BoxError> {
        if let Some(gate) = birth.gate {
            gate.block();
        }
        if let Some(first) = birth.first {
            std::fs::File::create_new(first).map_err(|_| "there was one before")?;
        }
        Ok(Self { calls: AtomicU32::new(0) })
    }
}

#[rpc_parallel::worker]
impl Mortals for Mortal {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn count(&self) -> u32 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn wait(&self, gate: WayThrough) {
        gate.pass_by();
        std::future::pending::<()>().await;
    }

    fn endless(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    fn exit(&self, code: i32) {
        std::process::exit(code);
    }
}

/// Another process that holds a handle of a worker.
#[rpc_parallel::worker]
trait Holders {
    async fn pid_of(&self, mortal: Worker<Mortal>) -> Result<u32, AnyError>;
    /// Connects, waits at the gate, and returns why the connection is no more.
    async fn outlive(&self, mortal: Worker<Mortal>, gate: WayThrough) -> Result<String, AnyError>;
}

#[derive(Default, WorkerState)]
struct Holder;

#[rpc_parallel::worker]
impl Holders for Holder {
    async fn pid_of(&self, mortal: Worker<Mortal>) -> Result<u32, AnyError> {
        Ok(mortal.connect(()).await?.pid().await?)
    }

    async fn outlive(&self, mortal: Worker<Mortal>, gate: WayThrough) -> Result<String, AnyError> {
        let client = mortal.connect(()).await?;
        client.pid().await?;
        gate.pass_by();
        Ok(client.closed().await.to_string())
    }
}

const BRIEFLY: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Starts again at once, as often as it takes.
fn at_once() -> RestartPolicy {
    RestartPolicy::on_failure().backoff(BRIEFLY..=BRIEFLY).limit(u32::MAX, MINUTE)
}

fn mortal(restart: RestartPolicy) -> Spawner<Mortal> {
    Mortal::spawner().restart(restart)
}

async fn start(restart: RestartPolicy) -> MortalsClient {
    mortal(restart).spawn(Birth::default()).await.expect("start a worker")
}

/// Has failures told through a queue.
fn telling<S: Served>(spawner: Spawner<S>) -> (Spawner<S>, UnboundedReceiver<WorkerFailure>) {
    let (tell, told) = unbounded_channel();
    (spawner.on_failure(move |failure| drop(tell.send(failure))), told)
}

/// Returns the process of a worker, once it serves.
async fn pid_of(mortal: &MortalsClient) -> u32 {
    soon(mortal.pid()).await.expect("it serves")
}

/// Kills a worker during a call, so that its client surely has noticed.
async fn kill_and_notice(mortal: &MortalsClient) {
    let gate = Gate::new();
    let waits = tokio::spawn(mortal.wait(gate.way()));
    let standing = soon(gate.reached()).await;
    kill(standing.pid());
    let error = soon(waits).await.expect("it does not panic").expect_err("it dies");
    assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
}

const KILLED: ExitReason = ExitReason::Signaled { signal: 9, core_dumped: false };

#[rpc_parallel::test]
async fn a_call_in_flight_fails_with_the_death_and_the_next_goes_to_the_new_process() {
    let mortal = start(at_once()).await;
    let (gate, first) = (Gate::new(), pid_of(&mortal).await);
    let waits = tokio::spawn(mortal.wait(gate.way()));
    soon(gate.reached()).await;

    kill(first);

    let error = soon(waits).await.expect("it does not panic").expect_err("it dies");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), KILLED);
    assert_eq!(error.worker().pid(), Some(first));
    let second = pid_of(&mortal).await;
    assert_ne!(first, second);
    assert_eq!(mortal.label().pid(), Some(second));
}

#[rpc_parallel::test]
async fn a_call_after_the_death_was_told_never_meets_it() {
    let (spawner, mut told) = telling(mortal(at_once()));
    let mortal = spawner.spawn(Birth::default()).await.expect("start a worker");
    let id = mortal.worker_id();

    for _ in 0..20 {
        let pid = pid_of(&mortal).await;
        kill(pid);
        let failure = soon(told.recv()).await.expect("it is told");
        assert_eq!((failure.worker().pid(), failure.exit_reason()), (Some(pid), KILLED));
        assert_eq!(failure.id(), id);
        assert_ne!(pid_of(&mortal).await, pid);
    }

    assert_eq!(mortal.worker_id(), id);
    drop(mortal);
    assert!(soon(told.recv()).await.is_none(), "each death was told once, and the end never");
}

#[rpc_parallel::test]
async fn what_a_process_had_in_memory_is_lost_with_it() {
    let mortal = start(at_once()).await;
    assert_eq!(mortal.count().await, Ok(1));
    assert_eq!(mortal.count().await, Ok(2));

    kill_and_notice(&mortal).await;

    assert_eq!(soon(mortal.count()).await, Ok(1));
}

#[rpc_parallel::test]
async fn clones_share_the_new_process() {
    let mortal = start(at_once()).await;
    let clones: Vec<_> = (0..10).map(|_| mortal.clone()).collect();
    kill_and_notice(&mortal).await;

    let pids = join_all(clones.iter().map(pid_of)).await;

    assert!(pids.iter().all(|it| *it == pids[0]), "{pids:?}");
    assert_eq!(pid_of(&mortal).await, pids[0]);
}

#[rpc_parallel::test]
async fn an_exit_with_code_0_is_a_failure_too() {
    let mortal = start(at_once()).await;
    let first = pid_of(&mortal).await;

    let error = mortal.exit(0).await.expect_err("it does not answer");

    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(0));
    assert_ne!(pid_of(&mortal).await, first);
}

#[rpc_parallel::test]
async fn a_pipe_of_a_dead_worker_breaks_and_is_not_continued() {
    let mortal = start(at_once()).await;
    let pid = pid_of(&mortal).await;
    let pipe = mortal.endless().await.expect("call it");

    kill(pid);

    let (_, error) = read(pipe).await;
    let error = error.expect("it does not just end");
    let PipeErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), KILLED);
    assert_ne!(pid_of(&mortal).await, pid);
}

#[rpc_parallel::test]
async fn a_call_waits_for_the_new_process_no_longer_than_its_time() {
    let hour = Duration::from_secs(3600);
    let mortal = start(RestartPolicy::on_failure().backoff(hour..=hour)).await;
    kill_and_notice(&mortal).await;
    let limit = Duration::from_millis(50);

    let error = soon(mortal.pid().timeout(limit)).await.expect_err("nobody serves");

    let CallErrorKind::TimedOut { after, unsent: Some(why) } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(*after, limit);
    assert!(why.starts_with("its worker is being started again"), "{why}");
    assert!(!mortal.is_closed());
}

#[rpc_parallel::test]
async fn a_new_process_that_is_killed_in_its_init_is_followed_by_another() {
    let gate = Gate::new();
    let birth = Birth { gate: Some(gate.way()), ..Birth::default() };
    let (spawner, mut told) = telling(mortal(at_once()));
    let spawning = tokio::spawn(spawner.spawn(birth));
    drop(soon(gate.reached()).await);
    let mortal = soon(spawning).await.expect("it does not panic").expect("start a worker");
    kill(pid_of(&mortal).await);
    soon(told.recv()).await.expect("it is told");
    let waits = tokio::spawn(mortal.pid());

    let standing = soon(gate.reached()).await;
    kill(standing.pid());
    let failure = soon(told.recv()).await.expect("it is told");
    assert_eq!((failure.worker().pid(), failure.exit_reason()), (Some(standing.pid()), KILLED));
    let third = soon(gate.reached()).await;
    let pid = third.pid();
    drop(third);

    assert_eq!(soon(waits).await.expect("it does not panic"), Ok(pid));
    drop(mortal);
    assert!(soon(told.recv()).await.is_none(), "each death was told once");
}

#[rpc_parallel::test]
async fn who_fails_too_often_is_given_up_and_everybody_is_told() {
    let restart = at_once().limit(2, MINUTE);
    let (spawner, mut told) = telling(mortal(restart));
    let mortal = spawner.spawn(Birth::default()).await.expect("start a worker");
    let clone = mortal.clone();
    let closed = tokio::spawn(async move { clone.closed().await });
    for code in 1..=2 {
        soon(mortal.exit(code)).await.expect_err("it does not answer");
        pid_of(&mortal).await;
    }
    assert!(!closed.is_finished() && !mortal.is_closed());

    let error = soon(mortal.exit(3)).await.expect_err("it does not answer");
    assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
    let error = soon(mortal.pid()).await.expect_err("it stays dead");

    let CallErrorKind::RestartLimitReached { last, times, within } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!((last.exit_reason(), *times, *within), (ExitReason::Exited(3), 2, MINUTE));
    let text = "is not started again, after 2 restarts within 60s; the last time it exited with";
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(&soon(closed).await.expect("it does not panic"), error.kind());
    assert!(mortal.is_closed());
    for code in 1..=3 {
        let failure = soon(told.recv()).await.expect("it is told");
        assert_eq!(failure.exit_reason(), ExitReason::Exited(code));
    }
    drop(mortal);
    assert!(soon(told.recv()).await.is_none(), "each death was told once");
}

/// Has a worker process 200 inputs of which 10 kill it, two pairs of them in a row.
async fn process_inputs(mortal: &MortalsClient) {
    const POISONED: [u32; 10] = [3, 4, 30, 55, 80, 81, 120, 150, 151, 199];
    let mut answered = 0;
    for input in 0..200 {
        if POISONED.contains(&input) {
            let error = soon(mortal.exit(7)).await.expect_err("the input kills the worker");
            let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
            assert_eq!(failure.exit_reason(), ExitReason::Exited(7));
        } else {
            soon(mortal.count()).await.expect("it is answered");
            answered += 1;
        }
    }
    assert_eq!(answered, 190);
}

#[rpc_parallel::test]
async fn batch_restart_answers_all_inputs_but_poisoned_ones() {
    let spawned = start(RestartPolicy::for_batch()).await;
    process_inputs(&spawned).await;

    let worker =
        mortal(RestartPolicy::for_batch()).start(Birth::default()).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    process_inputs(&client).await;
}

#[rpc_parallel::test]
async fn batch_restart_gives_up_worker_whose_init_fails() {
    let directory = tempfile::tempdir().expect("make a directory");
    let birth = Birth { first: Some(directory.path().join("first")), ..Birth::default() };
    let (spawner, mut told) = telling(mortal(RestartPolicy::for_batch()));
    let mortal = spawner.spawn(birth).await.expect("start a worker");
    pid_of(&mortal).await;

    soon(mortal.exit(7)).await.expect_err("the input kills the worker");
    let kind = soon(mortal.closed()).await;

    let CallErrorKind::RestartLimitReached { last, times, .. } = &kind else { panic!("{kind}") };
    assert_eq!((last.exit_reason(), *times), (ExitReason::NotStarted, 5));
    drop(mortal);
    let mut deaths = Vec::new();
    while let Some(failure) = soon(told.recv()).await {
        deaths.push(failure.exit_reason());
    }
    // The first did not count: it had received calls.
    assert_eq!(deaths[0], ExitReason::Exited(7));
    assert_eq!(deaths[1..], [ExitReason::NotStarted; 6]);
}

#[rpc_parallel::test]
async fn batch_restart_gives_up_worker_that_dies_without_calls() {
    let (spawner, mut told) = telling(mortal(RestartPolicy::for_batch()));
    let mortal = spawner.spawn(Birth::default()).await.expect("start a worker");

    for _ in 0..6 {
        let pid = mortal.label().pid();
        kill(pid.expect("it is a process of this host"));
        assert_eq!(soon(told.recv()).await.expect("it is told").exit_reason(), KILLED);
        let replaced = async {
            while mortal.label().pid() == pid && !mortal.is_closed() {
                yield_now().await;
            }
        };
        soon(replaced).await;
    }

    let kind = soon(mortal.closed()).await;
    let CallErrorKind::RestartLimitReached { last, times, .. } = &kind else { panic!("{kind}") };
    assert_eq!((last.exit_reason(), *times), (KILLED, 5));
}

#[rpc_parallel::test]
async fn a_new_process_that_does_not_start_counts_and_is_told() {
    let directory = tempfile::tempdir().expect("make a directory");
    let birth = Birth { first: Some(directory.path().join("first")), ..Birth::default() };
    let (spawner, mut told) = telling(mortal(at_once().limit(3, MINUTE)));
    let mortal = spawner.spawn(birth).await.expect("start a worker");

    kill(pid_of(&mortal).await);
    let kind = soon(mortal.closed()).await;

    let CallErrorKind::RestartLimitReached { last, .. } = &kind else { panic!("{kind}") };
    assert_eq!(last.exit_reason(), ExitReason::NotStarted);
    let text = "it did not start again: its `init` failed: there was one before";
    assert!(kind.to_string().ends_with(text), "{kind}");
    drop(mortal);
    let deaths = [KILLED, ExitReason::NotStarted, ExitReason::NotStarted, ExitReason::NotStarted];
    for exit_reason in deaths {
        assert_eq!(soon(told.recv()).await.map(|it| it.exit_reason()), Some(exit_reason));
    }
    assert!(soon(told.recv()).await.is_none(), "each failure was told once");
}

#[rpc_parallel::test]
async fn who_does_not_start_the_first_time_is_not_started_again() {
    let directory = tempfile::tempdir().expect("make a directory");
    let first = directory.path().join("first");
    std::fs::write(&first, "").expect("make a file");
    let (spawner, mut told) = telling(mortal(at_once()));

    let birth = Birth { first: Some(first), ..Birth::default() };
    let error = soon(spawner.spawn(birth)).await.expect_err("its `init` fails");

    assert!(matches!(error.kind(), SpawnErrorKind::Init { .. }), "{error}");
    assert!(soon(told.recv()).await.is_none(), "the error tells it");
}

#[rpc_parallel::test]
async fn between_a_failure_and_the_new_process_passes_time_that_grows() {
    let first = Duration::from_millis(100);
    let mortal = start(RestartPolicy::on_failure().backoff(first..=MINUTE)).await;

    for least in [first, 2 * first, 4 * first] {
        soon(mortal.exit(1)).await.expect_err("it does not answer");
        let died = Instant::now();
        pid_of(&mortal).await;
        assert!(died.elapsed() >= least, "{:?}", died.elapsed());
    }
}

#[rpc_parallel::test]
async fn dropping_the_last_client_before_the_new_process_is_started_leaves_nothing() {
    let pause = Duration::from_millis(200);
    let (spawner, mut told) = telling(mortal(RestartPolicy::on_failure().backoff(pause..=pause)));
    let gate = Gate::new();
    let birth = Birth { gate: Some(gate.way()), ..Birth::default() };
    let spawning = tokio::spawn(spawner.spawn(birth));
    drop(soon(gate.reached()).await);
    let mortal = soon(spawning).await.expect("it does not panic").expect("start a worker");
    kill_and_notice(&mortal).await;

    drop(mortal);

    soon(told.recv()).await.expect("the death is told");
    assert!(soon(told.recv()).await.is_none(), "nobody is left who could tell more");
    assert!(timeout(2 * pause, gate.reached()).await.is_err(), "nobody was started");
}

#[rpc_parallel::test]
async fn dropping_the_last_client_while_a_process_starts_ends_it() {
    let gate = Gate::new();
    let birth = Birth { gate: Some(gate.way()), ..Birth::default() };
    let spawning = tokio::spawn(mortal(at_once()).spawn(birth));
    drop(soon(gate.reached()).await);
    let mortal = soon(spawning).await.expect("it does not panic").expect("start a worker");
    kill_and_notice(&mortal).await;
    let waits = tokio::spawn(mortal.pid());
    let standing = soon(gate.reached()).await;
    drop(mortal);
    assert!(!is_gone(standing.pid()), "a call waits for it");

    waits.abort();

    assert!(ends(standing.pid()).await);
}

#[rpc_parallel::test]
async fn closing_while_a_process_starts_ends_it() {
    let gate = Gate::new();
    let birth = Birth { gate: Some(gate.way()), ..Birth::default() };
    let spawning = tokio::spawn(mortal(at_once()).spawn(birth));
    drop(soon(gate.reached()).await);
    let mortal = soon(spawning).await.expect("it does not panic").expect("start a worker");
    kill_and_notice(&mortal).await;
    let waits = tokio::spawn(mortal.pid());
    let standing = soon(gate.reached()).await;

    mortal.close();

    let error = soon(waits).await.expect("it does not panic").expect_err("it was closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    assert!(mortal.is_closed());
    assert!(ends(standing.pid()).await);
}

#[rpc_parallel::test]
async fn a_master_that_ends_while_a_process_starts_leaves_nothing() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_restarts"));
    let program = Program::start(program.arg("end"));
    let pid = program.line().parse().expect("it is a process id");

    let ended = program.end();

    assert!(ended.status.success(), "{ended:?}");
    assert!(ends(pid).await);
}

#[rpc_parallel::test]
async fn an_orderly_end_is_no_failure() {
    let (spawner, mut told) = telling(mortal(at_once()));
    let mortal = spawner.clone().spawn(Birth::default()).await.expect("start a worker");
    let pid = pid_of(&mortal).await;

    soon(mortal.shutdown()).await.expect("it ends in order");

    assert!(is_gone(pid));
    let kind = soon(mortal.closed()).await;
    assert!(!matches!(kind, CallErrorKind::RestartLimitReached { .. }), "{kind}");
    soon(mortal.pid()).await.expect_err("it is not started again");
    drop((mortal, spawner));
    assert!(soon(told.recv()).await.is_none(), "nothing failed");
}

#[rpc_parallel::test]
async fn a_worker_can_be_shut_down_while_it_is_dead() {
    let hour = Duration::from_secs(3600);
    let restart = RestartPolicy::on_failure().backoff(hour..=hour);
    let client = start(restart).await;
    let worker = mortal(restart).start(Birth::default()).await.expect("start a worker");
    let other = worker.connect(()).await.expect("connect to it");
    kill_and_notice(&client).await;
    kill_and_notice(&other).await;

    for ended in [soon(client.shutdown()).await, soon(worker.shutdown()).await] {
        let error = ended.expect_err("it failed before");
        let ControlErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), KILLED);
    }

    assert!(client.is_closed());
    soon(other.closed()).await;
    soon(worker.connect(())).await.expect_err("it is not started again");
}

#[rpc_parallel::test]
async fn a_handle_leads_to_the_new_process() {
    let (spawner, mut told) = telling(mortal(at_once()));
    let worker = spawner.start(Birth::default()).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    let (id, first) = (worker.id(), pid_of(&client).await);

    kill(first);
    soon(told.recv()).await.expect("it is told");

    let second = pid_of(&soon(worker.connect(())).await.expect("connect to it")).await;
    assert_ne!(first, second);
    assert_eq!(pid_of(&client).await, second);
    assert_eq!((client.worker_id(), worker.id()), (id, id));
    assert_eq!(client.label().pid(), Some(second));
}

#[rpc_parallel::test]
async fn a_handle_leads_to_the_new_process_from_another_process_too() {
    let (spawner, mut told) = telling(mortal(at_once()));
    let worker = spawner.start(Birth::default()).await.expect("start a worker");
    let holder = Holder::spawn(()).await.expect("start a worker");
    let mut pid = soon(holder.pid_of(worker.clone())).await.expect("it is reached");

    for _ in 0..3 {
        kill(pid);
        soon(told.recv()).await.expect("it is told");
        // It may connect before the next process has begun to accept.
        let next = soon(holder.pid_of(worker.clone())).await.expect("it is reached");
        assert_ne!(pid, next);
        pid = next;
    }
    let own = worker.connect(()).await.expect("connect to it");
    assert_eq!(pid_of(&own).await, pid);
}

#[rpc_parallel::test]
async fn who_connects_while_a_worker_is_dead_waits_for_the_new_process() {
    let gate = Gate::new();
    let birth = Birth { gate: Some(gate.way()), ..Birth::default() };
    let starting = tokio::spawn(mortal(at_once()).start(birth));
    drop(soon(gate.reached()).await);
    let worker = soon(starting).await.expect("it does not panic").expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    let holder = Holder::spawn(()).await.expect("start a worker");
    let first = soon(holder.pid_of(worker.clone())).await.expect("it is reached");
    kill(first);
    let standing = soon(gate.reached()).await;
    let (here, there) = (worker.clone(), holder.pid_of(worker.clone()));
    let here = tokio::spawn(async move { here.connect(()).await });
    let there = tokio::spawn(there);
    let waits = tokio::spawn(client.pid());
    for _ in 0..100 {
        yield_now().await;
    }
    assert!(!here.is_finished() && !there.is_finished() && !waits.is_finished());

    let second = standing.pid();
    drop(standing);

    let here = soon(here).await.expect("it does not panic").expect("connect to it");
    assert_eq!(pid_of(&here).await, second);
    let there = soon(there).await.expect("it does not panic").expect("it is reached");
    assert_eq!(there, second);
    assert_eq!(soon(waits).await.expect("it does not panic"), Ok(second));
    assert_ne!(first, second);
}

/// Kills a worker over and over, while others call it.
async fn shoot(mortal: MortalsClient, told: &mut UnboundedReceiver<WorkerFailure>) {
    const CALLERS: usize = 8;
    const KILLS: usize = 30;
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (mortal, done) = (mortal.clone(), done.clone());
            tokio::spawn(async move {
                let mut lost = 0;
                while !done.load(Ordering::Relaxed) {
                    match soon(mortal.pid()).await.map_err(|it| it.kind().clone()) {
                        Ok(_) => yield_now().await,
                        Err(CallErrorKind::WorkerDied(_)) => lost += 1,
                        Err(kind) => panic!("{kind}"),
                    }
                }
                lost
            })
        })
        .collect();

    for number in 0..KILLS {
        let pid = mortal.label().pid().expect("it has a process");
        if number % 3 == 0 {
            sleep(number as u32 * BRIEFLY / 10).await;
        }
        kill(pid);
        let failure = soon(told.recv()).await.expect("it is told");
        assert_eq!((failure.worker().pid(), failure.exit_reason()), (Some(pid), KILLED));
        pid_of(&mortal).await;
    }
    done.store(true, Ordering::Relaxed);

    for lost in join_all(callers).await {
        assert!(lost.expect("no call ends otherwise") <= KILLS);
    }
    drop(mortal);
}

#[rpc_parallel::test]
async fn whenever_a_worker_is_killed_its_callers_lose_a_call_at_most() {
    let (spawner, mut told) = telling(mortal(at_once()));
    let mortal = spawner.clone().spawn(Birth::default()).await.expect("start a worker");
    shoot(mortal, &mut told).await;
    let worker = spawner.start(Birth::default()).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    shoot(client, &mut told).await;

    soon(worker.shutdown()).await.expect("it ends");
    assert!(soon(told.recv()).await.is_none(), "each death was told once");
}

#[rpc_parallel::test(flavor = "multi_thread", threads = 4)]
async fn a_master_of_several_threads_loses_no_more() {
    let (spawner, mut told) = telling(mortal(at_once()));
    let mortal = spawner.clone().spawn(Birth::default()).await.expect("start a worker");
    shoot(mortal, &mut told).await;
    let worker = spawner.start(Birth::default()).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    shoot(client, &mut told).await;
}

#[rpc_parallel::test]
fn a_worker_outlives_the_runtime_that_restarts_it_and_is_not_restarted_then() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("make a runtime")
    };
    let supervising = runtime();
    let (worker, client) = supervising.block_on(async {
        let worker = mortal(at_once()).start(Birth::default()).await.expect("start a worker");
        let client = worker.connect(()).await.expect("connect to it");
        kill_and_notice(&client).await;
        pid_of(&client).await;
        // So that it listens.
        worker.address().expect("it listens");
        (worker, client)
    });

    drop(supervising);

    runtime().block_on(async {
        assert!(client.is_closed());
        let own = worker.connect(()).await.expect("connect to it");
        let holder = Holder::spawn(()).await.expect("start a worker");
        let pid = soon(holder.pid_of(worker.clone())).await.expect("it is reached");
        assert_eq!(pid_of(&own).await, pid);
        kill(pid);
        let kind = soon(own.closed()).await;
        assert!(matches!(kind, CallErrorKind::WorkerDied(_)), "{kind}");
        soon(worker.connect(())).await.expect_err("it stays dead");
    });
}

#[rpc_parallel::test]
async fn a_connection_of_another_process_is_lost_with_the_worker() {
    let worker = mortal(at_once()).start(Birth::default()).await.expect("start a worker");
    let holder = Holder::spawn(()).await.expect("start a worker");
    let own = worker.connect(()).await.expect("connect to it");
    let gate = Gate::new();
    let outlives = tokio::spawn(holder.outlive(worker.clone(), gate.way()));
    soon(gate.reached()).await;

    kill(pid_of(&own).await);

    let why = soon(outlives).await.expect("it does not panic").expect("it is reached");
    assert!(why.starts_with("connection lost: "), "{why}");
}

#[rpc_parallel::test]
async fn a_handle_of_a_worker_that_was_given_up_says_so() {
    let restart = at_once().limit(1, MINUTE);
    let worker = mortal(restart).start(Birth::default()).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");

    soon(client.exit(1)).await.expect_err("it does not answer");
    soon(client.exit(2)).await.expect_err("it does not answer");

    let kind = soon(client.closed()).await;
    let CallErrorKind::RestartLimitReached { last, .. } = &kind else { panic!("{kind}") };
    assert_eq!(last.exit_reason(), ExitReason::Exited(2));
    let error = soon(worker.connect(())).await.expect_err("it stays dead");
    let ConnectErrorKind::RestartLimitReached { last, .. } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(last.exit_reason(), ExitReason::Exited(2));
    let error = soon(worker.shutdown()).await.expect_err("it has ended");
    assert!(matches!(error.kind(), ControlErrorKind::WorkerDied(_)), "{error}");
    serde_json::to_string(&worker).expect_err("nobody could reach it");
}

#[rpc_parallel::test]
async fn a_worker_that_closes_its_server_is_not_started_again() {
    let (spawner, mut told) = telling(mortal(at_once()));
    let worker = spawner.start(Birth::default()).await.expect("start a worker");
    let holder = Holder::spawn(()).await.expect("start a worker");
    soon(holder.pid_of(worker.clone())).await.expect("it is reached");
    let address = worker.address().expect("it listens");
    let client = worker.connect(()).await.expect("connect to it");
    let pid = pid_of(&client).await;

    client.close_server().await.expect("call it");

    // Soon nobody reaches it any more, though it lives. Only an answer tells.
    let refused = async {
        loop {
            match address.connect::<MortalsClient>(()).await.map_err(|it| it.to_string()) {
                Err(error) if error.ends_with("it has ended or closed its server") => return,
                Ok(_) | Err(_) => {}
            }
        }
    };
    soon(refused).await;
    assert_eq!(pid_of(&client).await, pid);
    // When it fails, there is nobody who could reach another.
    kill(pid);
    soon(told.recv()).await.expect("it is told");
    let kind = soon(client.closed()).await;
    assert!(matches!(kind, CallErrorKind::WorkerDied(_)), "{kind}");
    assert!(soon(told.recv()).await.is_none(), "nobody was started");
}

#[rpc_parallel::test]
async fn a_worker_that_outlives_its_master_is_not_restarted_by_it() {
    let error = mortal(at_once()).start_detached(Birth::default()).await;

    let error = error.expect_err("there would be nobody who does");
    assert!(matches!(error.kind(), SpawnErrorKind::RestartDetached), "{error}");
}

/// The state of a connection, and of a worker that counts its connections.
#[rpc_parallel::worker]
trait Visits {
    fn visit(&self, visitor: &Context<Visitor>) -> (String, u32);
    fn exit(&self);
}

struct Inn {
    sign: String,
    gate: Option<WayThrough>,
    moody: Option<PathBuf>,
}

/// How an inn is kept.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Keeping {
    sign: String,
    /// Where visitors wait.
    gate: Option<WayThrough>,
    /// A file whose presence has one visitor sent away.
    moody: Option<PathBuf>,
}

fn keeping(sign: &str) -> Keeping {
    Keeping { sign: sign.to_owned(), ..Keeping::default() }
}

struct Visitor {
    name: String,
    visits: AtomicU32,
}

impl WorkerState for Inn {
    type Init = Keeping;

    async fn init(Keeping { sign, gate, moody }: Keeping) -> Result<Self, BoxError> {
        Ok(Self { sign, gate, moody })
    }
}

impl ConnectionState<Inn> for Visitor {
    type Init = String;

    async fn init(inn: &Inn, name: String) -> Result<Self, BoxError> {
        if let Some(gate) = &inn.gate {
            gate.block();
        }
        if let Some(moody) = &inn.moody
            && std::fs::remove_file(moody).is_ok()
        {
            return Err("not today".into());
        }
        Ok(Self { name: format!("{name} at {}", inn.sign), visits: AtomicU32::new(0) })
    }
}

#[rpc_parallel::worker]
impl Visits for Inn {
    fn visit(&self, visitor: &Context<Visitor>) -> (String, u32) {
        (visitor.name.clone(), visitor.visits.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn exit(&self) {
        std::process::exit(1);
    }
}

#[rpc_parallel::test]
async fn states_are_made_anew_from_the_same_arguments() {
    let (spawner, mut told) = telling(Inn::spawner().restart(at_once()));
    let lion = spawner.clone().spawn_with(keeping("the Lion"), "Ann".into());
    let lion = lion.await.expect("start a worker");
    let swan = spawner.start(keeping("the Swan")).await.expect("start a worker");
    let bob = swan.connect("Bob".into()).await.expect("connect to it");
    let eve = swan.connect("Eve".into()).await.expect("connect to it");

    for _ in 0..3 {
        for (client, name) in
            [(&lion, "Ann at the Lion"), (&bob, "Bob at the Swan"), (&eve, "Eve at the Swan")]
        {
            assert_eq!(soon(client.visit()).await, Ok((name.to_owned(), 1)));
            assert_eq!(soon(client.visit()).await, Ok((name.to_owned(), 2)));
        }
        for client in [&lion, &bob] {
            soon(client.exit()).await.expect_err("it does not answer");
            soon(told.recv()).await.expect("it is told");
        }
    }
}

#[rpc_parallel::test]
async fn a_worker_that_is_shut_down_while_its_new_process_connects_stays_down() {
    let gate = Gate::new();
    let (spawner, mut told) = telling(Inn::spawner().restart(at_once()));
    let lion = Keeping { gate: Some(gate.way()), ..keeping("the Lion") };
    let spawning = tokio::spawn(spawner.spawn_with(lion, "Ann".into()));
    drop(soon(gate.reached()).await);
    let ann = soon(spawning).await.expect("it does not panic").expect("start a worker");
    soon(ann.exit()).await.expect_err("it does not answer");
    let standing = soon(gate.reached()).await;

    let ended = soon(ann.shutdown().timeout(BRIEFLY)).await;

    let error = ended.expect_err("no process has ended in order");
    match error.kind() {
        // The new process had not reported yet that it serves.
        ControlErrorKind::WorkerDied(failure) => {
            assert_eq!(failure.exit_reason(), ExitReason::Exited(1))
        }
        ControlErrorKind::ForcedShutdown { .. } => {}
        _ => panic!("{error}"),
    }
    assert!(ends(standing.pid()).await);
    assert!(ann.is_closed());
    drop(ann);
    soon(told.recv()).await.expect("the first is told");
    assert!(soon(told.recv()).await.is_none(), "and no other");
}

#[rpc_parallel::test]
async fn a_connection_that_does_not_come_about_the_first_time_is_tried_again() {
    let directory = tempfile::tempdir().expect("make a directory");
    let moody = directory.path().join("moody");
    let inn = Keeping { moody: Some(moody.clone()), ..keeping("the Swan") };
    let swan = Inn::spawner().restart(at_once()).start(inn).await.expect("start a worker");
    let bob = swan.connect("Bob".into()).await.expect("connect to it");
    assert_eq!(soon(bob.visit()).await, Ok(("Bob at the Swan".to_owned(), 1)));
    std::fs::write(&moody, "").expect("write a file");

    soon(bob.exit()).await.expect_err("it does not answer");

    assert_eq!(soon(bob.visit()).await, Ok(("Bob at the Swan".to_owned(), 1)));
    assert!(!moody.exists(), "it was sent away before");
}

#[rpc_parallel::test]
async fn who_connects_to_a_worker_that_has_just_died_waits_for_the_new_process() {
    let worker = mortal(at_once()).start(Birth::default()).await.expect("start a worker");
    for _ in 0..50 {
        let pid = pid_of(&worker.connect(()).await.expect("connect to it")).await;
        kill(pid);
        // It is dead from here on, whoever knows that.
        assert!(ends_within(pid, PATIENCE));

        let client = soon(worker.connect(())).await.expect("there will be another");

        assert_ne!(pid_of(&client).await, pid);
    }
}

#[rpc_parallel::test]
async fn fifty_restarts_leave_no_more_than_one() {
    for how in ["spawn", "start"] {
        let ended = Program::run(Command::new(env!("CARGO_BIN_EXE_restarts")).args([how, "50"]));

        assert!(ended.status.success(), "{ended:?}");
        let [before, after] = &ended.stdout[..] else { panic!("{ended:?}") };
        assert_eq!(before, after, "descriptors, threads and children, {how}");
    }
}
