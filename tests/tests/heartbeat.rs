//! Heartbeats: blocked processes keep running, stopped processes are declared dead, and a pause of
//! the whole system ends no process.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rpc_parallel::error::{CallErrorKind, ExitReason, PipeErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel::{Settings, Spawner};
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient};
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends, ends_within, is_gone, resume, signal, stop};
use rpc_parallel_tests::process_tree::{End, ProcessTree, describe};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::{read_error, soon};
use rustix::process::Signal;

/// The heartbeat timeout of these tests.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The heartbeat interval of these tests.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long the last heartbeat may precede the stop of a process.
const EARLIER: Duration = INTERVAL;

/// The same interval and timeout for programs.
const SETTINGS: &str = "heartbeat_interval=100ms,heartbeat_timeout=1s";

fn fixture(failures: &Failures) -> Spawner<Fixture> {
    let settings =
        Settings::default().with_heartbeat_interval(INTERVAL).with_heartbeat_timeout(TIMEOUT);
    Fixture::spawner().settings(settings).on_failure(failures.callback())
}

async fn spawn_fixture(failures: &Failures) -> ScriptedClient {
    fixture(failures).spawn_ok(()).await
}

#[rpc_parallel::test]
async fn worker_with_blocking_function_survives_timeout() {
    let failures = Failures::default();

    for action in [Action::BlockFor(3 * TIMEOUT), Action::ComputeFor(3 * TIMEOUT)] {
        let spawned = spawn_fixture(&failures).await;
        let worker = fixture(&failures).start_ok(()).await;
        let started = worker.connect_ok().await;

        let (first, second) = tokio::join!(spawned.run(action.clone()), started.run(action));

        assert_eq!((first, second), (Ok(()), Ok(())));
        assert_eq!(spawned.pid().await.ok(), spawned.label().pid());
    }
    assert_eq!(failures.list(), []);
}

#[rpc_parallel::test]
async fn worker_with_blocking_init_survives_timeout() {
    let failures = Failures::default();
    let script = Script::init([Action::BlockFor(2 * TIMEOUT)]);

    let client = fixture(&failures).spawn_ok(script).await;

    assert_eq!(client.pid().await.ok(), client.label().pid());
    assert_eq!(failures.list(), []);
}

#[rpc_parallel::test]
async fn blocked_master_keeps_its_workers_past_timeout() {
    let failures = Failures::default();
    let client = spawn_fixture(&failures).await;
    let waiting = tokio::spawn(client.wait());
    let mut numbers = client.endless_numbers().await.expect("call `endless_numbers`");

    thread::sleep(2 * TIMEOUT);
    let computing = Instant::now();
    while computing.elapsed() < 2 * TIMEOUT {
        std::hint::spin_loop();
    }

    assert_eq!(client.pid().await.ok(), client.label().pid());
    assert_eq!(soon(numbers.next()).await.and_then(Result::ok), Some(0));
    assert!(!waiting.is_finished());
    assert_eq!(failures.list(), []);
}

#[rpc_parallel::test]
async fn stopped_worker_is_declared_dead_after_timeout() {
    let failures = Failures::default();
    let client = spawn_fixture(&failures).await;
    let pid = client.pid().await.expect("call `pid`");
    let waiting = tokio::spawn(client.wait());
    let pipe = client.endless_numbers().await.expect("call `endless_numbers`");
    let closed = client.clone();
    let closed = tokio::spawn(async move { closed.closed().await });

    let stopped = Instant::now();
    stop(pid);
    let error = soon(waiting).await.expect("no panic").expect_err("the worker is stopped");
    let took = stopped.elapsed();

    assert!(took >= TIMEOUT - EARLIER, "{took:?}");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    let ExitReason::Unresponsive { silence } = failure.exit_reason() else { panic!("{failure}") };
    assert!(silence >= TIMEOUT && silence <= took + EARLIER, "{silence:?}, {took:?}");
    assert!(failure.to_string().contains("missed heartbeats for "), "{failure}");
    assert!(is_gone(pid), "{}", describe(pid));
    assert_eq!(failures.first().await, *failure);
    let (_, error) = read_error(pipe).await;
    assert_eq!(*error.kind(), PipeErrorKind::WorkerDied(failure.clone()));
    let reason = soon(closed).await.expect("no panic");
    assert_eq!(reason, CallErrorKind::WorkerDied(failure.clone()));
}

#[rpc_parallel::test]
async fn stopped_worker_without_connections_is_declared_dead() {
    let failures = Failures::default();
    let worker = fixture(&failures).start_ok(()).await;
    let pid = worker.label().pid().expect("the worker runs on this host");

    stop(pid);

    let failure = failures.first().await;
    assert!(matches!(failure.exit_reason(), ExitReason::Unresponsive { .. }), "{failure}");
    assert!(ends(pid).await, "the supervisor kills the process");
}

#[rpc_parallel::test]
async fn stopped_worker_does_not_affect_other_workers() {
    let failures = Failures::default();
    let (stopped, other) = (spawn_fixture(&failures).await, spawn_fixture(&failures).await);

    stop(stopped.pid().await.expect("call `pid`"));

    let failure = failures.first().await;
    assert_eq!(failure.id(), stopped.worker_id());
    assert_eq!(other.pid().await.ok(), other.label().pid());
}

#[rpc_parallel::test]
async fn worker_resumed_before_timeout_survives_every_time() {
    let failures = Failures::default();
    let client = spawn_fixture(&failures).await;
    let pid = client.pid().await.expect("call `pid`");

    // The sum of the pauses exceeds the timeout.
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
async fn stopped_worker_survives_without_heartbeat_timeout() {
    let failures = Failures::default();
    let settings = Settings::default().with_heartbeat_interval(INTERVAL);
    let settings = settings.with_heartbeat_timeout(None);
    let client = fixture(&failures).settings(settings).spawn_ok(()).await;
    let pid = client.pid().await.expect("call `pid`");

    stop(pid);
    let waiting = client.pid().timeout(2 * TIMEOUT).await;
    resume(pid);

    let error = waiting.expect_err("the worker is stopped");
    assert!(matches!(error.kind(), CallErrorKind::TimedOut { .. }), "{error}");
    assert_eq!(soon(client.pid()).await, Ok(pid));
    assert_eq!(failures.list(), []);
}

/// Starts a program with this many generations of workers.
fn start_tree(behavior: &str, generations: usize) -> ProcessTree {
    let mut command = Command::new(env!("CARGO_BIN_EXE_left_behind"));
    command.args([behavior, &generations.to_string()]).env("RPC_PARALLEL_SETTINGS", SETTINGS);
    let mut tree = ProcessTree::start(&mut command, behavior);
    tree.become_ready(generations);
    tree
}

#[test]
fn workers_of_stopped_master_end_after_timeout() {
    for behavior in ["idle", "started", "computing", "sleeping"] {
        let tree = start_tree(behavior, 2);

        let stopped = Instant::now();
        stop(tree.master.pid());
        let end = |pid: u32| {
            assert!(ends_within(pid, TEST_TIMEOUT), "{behavior}: {}", describe(pid));
            stopped.elapsed()
        };
        thread::scope(|scope| {
            let ends: Vec<_> = tree.workers.iter().map(|it| scope.spawn(|| end(*it))).collect();
            for end in ends {
                let took = end.join().expect("the worker ends");
                assert!(took >= TIMEOUT - EARLIER, "{behavior}: {took:?}");
            }
        });

        tree.end(End::Kill);
    }
}

#[test]
fn master_resumed_after_timeout_sees_failure_of_worker() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watcher"));
    let master = Program::start(command.arg("failure").env("RPC_PARALLEL_SETTINGS", SETTINGS));
    let worker = master.line().parse().expect("the program prints a process id");
    stop(master.pid());
    // The worker stays a zombie while its master is stopped.
    assert!(ends_within(worker, TEST_TIMEOUT), "{}", describe(worker));

    resume(master.pid());

    let failure = master.line();
    assert!(failure.contains("exited with code 254"), "{failure}");
    let stderr = master.line();
    assert!(stderr.contains("rpc-parallel: the master missed heartbeats for 1."), "{stderr}");
}

#[test]
fn stopped_workers_end_with_killed_master() {
    let tree = start_tree("idle", 2);

    tree.workers.iter().for_each(|it| stop(*it));

    tree.end(End::Kill);
}

#[test]
fn stopped_worker_and_workers_below_it_end() {
    let tree = start_tree("idle", 4);
    let [above, stopped, below @ ..] = &tree.workers[..] else { panic!("{:?}", tree.workers) };

    stop(*stopped);

    for pid in below {
        assert!(ends_within(*pid, TEST_TIMEOUT), "{}", describe(*pid));
    }
    assert!(ends_within(*stopped, TEST_TIMEOUT), "{}", describe(*stopped));
    assert!(!is_gone(*above) && !is_gone(tree.master.pid()));
    tree.end(End::Return);
}

#[test]
fn process_tree_stopped_as_a_whole_survives_timeout() {
    let mut tree = start_tree("idle", 4);
    let mut processes = tree.processes();
    assert_eq!(processes.len(), 5);

    // The process that resumes first must not declare the others dead. The master has the lowest
    // process id.
    for _ in 0..2 {
        processes.sort_unstable();
        for order in [processes.clone(), processes.iter().rev().copied().collect()] {
            order.iter().for_each(|it| signal(*it, Signal::STOP));
            order.iter().for_each(|it| stop(*it));
            thread::sleep(2 * TIMEOUT);
            for pid in &order {
                resume(*pid);
                // The process runs for a moment while the others are still stopped.
                thread::sleep(TIMEOUT / 10);
            }

            // A wrong verdict would take effect within this time.
            thread::sleep(TIMEOUT);
            tree.master.write_line("count");
            assert_eq!(tree.line(), "count 4");
        }
    }
    tree.end(End::Return);
}
