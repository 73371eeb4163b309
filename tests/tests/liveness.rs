//! A process that blocks is alive, and one that is stopped is not; nobody is blamed for the time in
//! which everything stood still.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rpc_parallel::error::{CallErrorKind, ExitReason, PipeErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel::{Settings, Spawner};
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::family::{End, Family, describe};
use rpc_parallel_tests::process::{PATIENCE, ends, ends_within, is_gone, resume, signal, stop};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::waiting::{read, soon};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

/// How long a process may be silent here.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How often a process is asked whether it lives.
const INTERVAL: Duration = Duration::from_millis(100);

/// How much earlier the last sign of life may be than what follows it.
const EARLIER: Duration = INTERVAL;

/// The same for a program.
const SETTINGS: &str = "heartbeat_interval=100ms,heartbeat_timeout=1s";

/// Blocks, in one way or another.
#[rpc_parallel::worker]
trait Blocks {
    fn pid(&self) -> u32;
    fn block(&self, how: Blocking);
    async fn wait(&self);
    fn count_up(&self) -> Pipe<u64>;
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Blocking {
    Not,
    Sleep(Duration),
    Compute(Duration),
}

struct Sleeper;

fn block(how: Blocking) {
    match how {
        Blocking::Not => {}
        Blocking::Sleep(time) => thread::sleep(time),
        Blocking::Compute(time) => {
            let began = Instant::now();
            while began.elapsed() < time {
                std::hint::spin_loop();
            }
        }
    }
}

impl WorkerState for Sleeper {
    type Init = Blocking;

    async fn init(how: Blocking) -> Result<Self, BoxError> {
        block(how);
        Ok(Self)
    }
}

#[rpc_parallel::worker]
impl Blocks for Sleeper {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn block(&self, how: Blocking) {
        block(how);
    }

    async fn wait(&self) {
        std::future::pending::<()>().await;
    }

    fn count_up(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }
}

fn sleeper(failures: &Failures) -> Spawner<Sleeper> {
    let settings =
        Settings::default().with_heartbeat_interval(INTERVAL).with_heartbeat_timeout(TIMEOUT);
    Sleeper::spawner().settings(settings).on_failure(failures.note())
}

async fn start(failures: &Failures) -> BlocksClient {
    sleeper(failures).spawn(Blocking::Not).await.expect("start a worker")
}

#[rpc_parallel::test]
async fn a_function_that_blocks_for_longer_than_the_timeout_survives() {
    let failures = Failures::default();

    for how in [Blocking::Sleep(3 * TIMEOUT), Blocking::Compute(3 * TIMEOUT)] {
        let client = start(&failures).await;
        let worker = sleeper(&failures).start(Blocking::Not).await.expect("start a worker");
        let started = worker.connect(()).await.expect("connect to it");

        let (one, other) = tokio::join!(client.block(how), started.block(how));

        assert_eq!((one, other), (Ok(()), Ok(())), "{how:?}");
        assert_eq!(client.pid().await.ok(), client.label().pid());
    }
    assert_eq!(failures.list(), []);
}

#[rpc_parallel::test]
async fn an_init_that_blocks_for_longer_than_the_timeout_survives() {
    let failures = Failures::default();
    let how = Blocking::Sleep(2 * TIMEOUT);

    let client = sleeper(&failures).spawn(how).await.expect("start a worker");

    assert_eq!(client.pid().await.ok(), client.label().pid());
    assert_eq!(failures.list(), []);
}

#[rpc_parallel::test]
async fn a_master_that_blocks_for_longer_than_the_timeout_keeps_its_workers() {
    let failures = Failures::default();
    let client = start(&failures).await;
    let waiting = tokio::spawn(client.wait());
    let mut numbers = client.count_up().await.expect("call it");

    block(Blocking::Sleep(2 * TIMEOUT));
    block(Blocking::Compute(2 * TIMEOUT));

    assert_eq!(client.pid().await.ok(), client.label().pid());
    assert_eq!(soon(numbers.next()).await.and_then(Result::ok), Some(0));
    assert!(!waiting.is_finished());
    assert_eq!(failures.list(), []);
}

#[rpc_parallel::test]
async fn a_stopped_worker_is_lost_after_the_timeout_and_not_before() {
    let failures = Failures::default();
    let client = start(&failures).await;
    let pid = client.pid().await.expect("call it");
    let waiting = tokio::spawn(client.wait());
    let silent = client.count_up().await.expect("call it");
    let closed = client.clone();
    let closed = tokio::spawn(async move { closed.closed().await });

    let stopped = Instant::now();
    stop(pid);
    let error = soon(waiting).await.expect("no panic").expect_err("it does not answer");
    let took = stopped.elapsed();

    assert!(took >= TIMEOUT - EARLIER, "{took:?}");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    let ExitReason::Unresponsive { silence } = failure.exit_reason() else { panic!("{failure}") };
    assert!(silence >= TIMEOUT && silence <= took + EARLIER, "{silence:?}, {took:?}");
    assert!(failure.to_string().contains("no sign of life"), "{failure}");
    assert!(is_gone(pid), "it is not only lost: {}", describe(pid));
    assert_eq!(failures.first().await, *failure);
    let (_, error) = read(silent).await;
    let error = error.expect("it does not just end");
    assert_eq!(*error.kind(), PipeErrorKind::WorkerDied(failure.clone()));
    let reason = soon(closed).await.expect("no panic");
    assert_eq!(reason, CallErrorKind::WorkerDied(failure.clone()));
}

#[rpc_parallel::test]
async fn a_stopped_worker_without_connections_is_lost_too() {
    let failures = Failures::default();
    let worker = sleeper(&failures).start(Blocking::Not).await.expect("start a worker");
    let pid = worker.label().pid().expect("it is a process of this machine");

    stop(pid);

    let failure = failures.first().await;
    assert!(matches!(failure.exit_reason(), ExitReason::Unresponsive { .. }), "{failure}");
    assert!(ends(pid).await, "it is not only lost");
}

#[rpc_parallel::test]
async fn a_stopped_worker_takes_nobody_along() {
    let failures = Failures::default();
    let (one, other) = (start(&failures).await, start(&failures).await);

    stop(one.pid().await.expect("call it"));

    let failure = failures.first().await;
    assert_eq!(failure.id(), one.worker_id());
    assert_eq!(other.pid().await.ok(), other.label().pid());
}

#[rpc_parallel::test]
async fn a_worker_that_goes_on_in_time_lives_on_however_often_it_is_stopped() {
    let failures = Failures::default();
    let client = start(&failures).await;
    let pid = client.pid().await.expect("call it");

    // All in all it is stopped for longer than the timeout.
    for _ in 0..6 {
        let waiting = tokio::spawn(client.pid());
        stop(pid);
        tokio::time::sleep(TIMEOUT / 4).await;
        resume(pid);
        assert_eq!(soon(waiting).await.expect("no panic"), Ok(pid));
    }

    tokio::time::sleep(2 * TIMEOUT).await;
    assert_eq!(soon(client.pid()).await, Ok(pid));
    assert_eq!(failures.list(), []);
}

#[rpc_parallel::test]
async fn where_there_is_no_timeout_a_stopped_worker_is_waited_for() {
    let failures = Failures::default();
    let settings = Settings::default().with_heartbeat_interval(INTERVAL);
    let settings = settings.with_heartbeat_timeout(None);
    let spawner = sleeper(&failures).settings(settings);
    let client = spawner.spawn(Blocking::Not).await.expect("start a worker");
    let pid = client.pid().await.expect("call it");

    stop(pid);
    let waiting = client.pid().timeout(2 * TIMEOUT).await;
    resume(pid);

    let error = waiting.expect_err("it is stopped");
    assert!(matches!(error.kind(), CallErrorKind::TimedOut { .. }), "{error}");
    assert_eq!(soon(client.pid()).await, Ok(pid));
    assert_eq!(failures.list(), []);
}

/// Starts a program whose workers do this, in so many generations.
fn start_program(what: &str, generations: usize) -> Family {
    let mut command = Command::new(env!("CARGO_BIN_EXE_left_behind"));
    command.args([what, &generations.to_string()]).env("RPC_PARALLEL_SETTINGS", SETTINGS);
    let mut family = Family::begin(&mut command, what);
    family.become_ready(generations);
    family
}

#[test]
fn the_workers_of_a_stopped_master_end_after_the_timeout_and_not_before() {
    for what in ["idle", "started", "computing", "sleeping"] {
        let family = start_program(what, 2);

        let stopped = Instant::now();
        stop(family.master.pid());
        let end = |pid: u32| {
            assert!(ends_within(pid, PATIENCE), "{what}: {}", describe(pid));
            stopped.elapsed()
        };
        thread::scope(|scope| {
            let ends: Vec<_> = family.workers.iter().map(|it| scope.spawn(|| end(*it))).collect();
            for end in ends {
                let took = end.join().expect("it is waited for");
                assert!(took >= TIMEOUT - EARLIER, "{what}: {took:?}");
            }
        });

        family.end(End::Kill);
    }
}

#[test]
fn a_master_that_was_stopped_for_too_long_is_told_that_its_worker_has_ended() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watcher"));
    let master = Program::start(command.arg("failure").env("RPC_PARALLEL_SETTINGS", SETTINGS));
    let worker = master.line().parse().expect("a process id");
    stop(master.pid());
    // As a zombie: who would bury it is stopped.
    assert!(ends_within(worker, PATIENCE), "{}", describe(worker));

    resume(master.pid());

    let told = master.line();
    assert!(told.contains("exited with code 254"), "{told}");
    let why = master.line();
    assert!(why.contains("rpc-parallel: the master gave no sign of life for 1."), "{why}");
}

#[test]
fn a_stopped_worker_ends_with_a_master_that_is_killed() {
    let family = start_program("idle", 2);

    family.workers.iter().for_each(|it| stop(*it));

    family.end(End::Kill);
}

#[test]
fn a_stopped_worker_takes_those_along_that_it_has_started() {
    let family = start_program("idle", 4);
    let [above, stopped, below @ ..] = &family.workers[..] else { panic!("{:?}", family.workers) };

    stop(*stopped);

    for pid in below {
        assert!(ends_within(*pid, PATIENCE), "{}", describe(*pid));
    }
    assert!(ends_within(*stopped, PATIENCE), "{}", describe(*stopped));
    assert!(!is_gone(*above) && !is_gone(family.master.pid()));
    family.end(End::Return);
}

#[test]
fn a_family_that_stood_still_as_a_whole_lives_on() {
    let mut family = start_program("idle", 4);
    let mut processes = family.processes();
    assert_eq!(processes.len(), 5);

    // Whoever goes on first does not blame the others. The master is the oldest.
    for _ in 0..2 {
        processes.sort_unstable();
        for order in [processes.clone(), processes.iter().rev().copied().collect()] {
            order.iter().for_each(|it| signal(*it, Signal::STOP));
            order.iter().for_each(|it| stop(*it));
            thread::sleep(2 * TIMEOUT);
            for pid in &order {
                resume(*pid);
                // So that it looks around while the others still stand still.
                thread::sleep(TIMEOUT / 10);
            }

            // Time enough to lose somebody after all.
            thread::sleep(TIMEOUT);
            family.master.tell("count");
            assert_eq!(family.line(), "count 4");
        }
    }
    family.end(End::Return);
}
