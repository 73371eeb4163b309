//! Whoever starts a worker is told of its failure, once, and of nothing that is none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use rpc_parallel::WorkerFailure;
use rpc_parallel::error::{CallErrorKind, ExitReason, SpawnErrorKind};
use rpc_parallel::launch::WrapperLauncher;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::mortal::{Ending, Mortal, Youth, all_failures, mortal, start};
use rpc_parallel_tests::process::{PATIENCE, ends, is_gone, kill, resume, stop};
use rpc_parallel_tests::waiting::soon;
use tokio::runtime::{Builder, Handle, Runtime};
#[cfg(feature = "tracing")]
use tokio::sync::mpsc::unbounded_channel;
use tokio::task;
#[cfg(feature = "tracing")]
use tracing::{Instrument, Span, info_span};

#[rpc_parallel::test]
async fn a_worker_that_nobody_is_connected_to_is_a_failure_too() {
    let failures = Failures::default();
    let worker = mortal(&failures).start(Youth::Happy).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    let pid = client.pid().await.expect("call it");
    drop(client);

    kill(pid);

    let failure = failures.first().await;
    assert_eq!((failure.id(), failure.worker()), (worker.id(), worker.label()));
}

#[rpc_parallel::test]
async fn every_connection_to_a_worker_learns_the_same() {
    let failures = Failures::default();
    let worker = mortal(&failures).start(Youth::Happy).await.expect("start a worker");
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let client = worker.connect(()).await.expect("connect to it");
        waiting.push(tokio::spawn(async move { client.wait().await }));
    }
    let last = worker.connect(()).await.expect("connect to it");
    assert_eq!(last.double(2).await, Ok(4));

    drop(soon(last.die_in_a_thread(Ending::Panic)).await);

    let failure = failures.first().await;
    for waiting in waiting {
        let error = soon(waiting).await.expect("no panic").expect_err("it does not answer");
        assert_eq!(*error.kind(), CallErrorKind::WorkerDied(failure.clone()));
    }
}

#[rpc_parallel::test]
async fn of_several_causes_at_once_one_is_told() {
    let failures = Failures::default();
    let workers = join_all((0..30).map(|_| start(&failures))).await;
    let mut pids = Vec::new();
    for worker in &workers {
        pids.push(worker.pid().await.expect("call it"));
    }

    for (worker, pid) in workers.iter().zip(&pids) {
        // Whichever comes first: two panics, an exit, a kill.
        let panicking = tokio::spawn(worker.die_in_a_thread(Ending::Panic));
        let exiting = tokio::spawn(worker.die_in_background(Ending::Exit(3)));
        let other = tokio::spawn(worker.die_in_a_thread(Ending::Panic));
        task::yield_now().await;
        if !is_gone(*pid) {
            kill(*pid);
        }
        for call in [panicking, exiting, other] {
            drop(soon(call).await.expect("no panic"));
        }
    }

    failures.count(workers.len()).await;
    let all = all_failures(&failures).await;
    let mut told: Vec<_> = all.iter().map(WorkerFailure::id).collect();
    told.sort();
    let mut died: Vec<_> = workers.iter().map(WorkerClient::worker_id).collect();
    died.sort();
    assert_eq!(told, died);
}

#[rpc_parallel::test]
async fn an_orderly_end_is_no_failure() {
    let failures = Failures::default();

    let dropped = start(&failures).await;
    let pid = dropped.pid().await.expect("call it");
    drop(dropped);
    assert!(ends(pid).await, "nobody can call it any more");

    let closed = start(&failures).await;
    let pid = closed.pid().await.expect("call it");
    let waiting = tokio::spawn(closed.wait());
    task::yield_now().await;
    closed.close();
    assert!(ends(pid).await, "nobody can call it any more");
    soon(waiting).await.expect("no panic").expect_err("it does not answer");

    let worker = mortal(&failures).start(Youth::Happy).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    let pid = client.pid().await.expect("call it");
    client.close_server().await.expect("call it");
    drop(client);
    assert!(ends(pid).await, "nobody can reach it any more");

    let told = mortal(&failures).start(Youth::Happy).await.expect("start a worker");
    soon(told.shutdown()).await.expect("it ends in order");

    assert_eq!(all_failures(&failures).await, []);
}

#[rpc_parallel::test]
async fn a_worker_that_computes_and_is_ended_by_its_owner_is_no_failure() {
    let failures = Failures::default();
    let client = start(&failures).await;
    let pid = client.pid().await.expect("call it");

    // It blocks its runtime, and is killed in the end.
    let computing = client.block().timeout(Duration::from_millis(100)).await;
    drop(client);

    computing.expect_err("it does not answer");
    assert!(ends(pid).await, "nobody can call it any more");
    assert_eq!(all_failures(&failures).await, []);
}

#[rpc_parallel::test]
async fn a_worker_that_does_not_start_is_an_error_of_who_starts_it_and_no_failure() {
    let failures = Failures::default();
    let deaths = [Ending::Exit(3), Ending::Abort, Ending::Panic, Ending::Signal(9)];
    let youths = deaths.map(Youth::Dies).into_iter().chain([Youth::Fails]);

    for youth in youths {
        let error = soon(mortal(&failures).spawn(youth)).await.expect_err("it does not start");
        let kind = error.kind();
        match youth {
            Youth::Fails => assert!(matches!(kind, SpawnErrorKind::Init { .. }), "{error}"),
            Youth::Dies(Ending::Panic) => {
                assert!(matches!(kind, SpawnErrorKind::InitPanicked(_)), "{error}");
            }
            Youth::Dies(_) | Youth::Doomed(_) | Youth::Happy => {
                assert!(matches!(kind, SpawnErrorKind::Died(_)), "{error}");
            }
        }
        soon(mortal(&failures).start(youth)).await.expect_err("it does not start");
    }
    let stuck =
        mortal(&failures).launcher(WrapperLauncher::new("/bin/sh").args(["-c", "exec sleep 1000"]));
    let late = stuck.spawn_timeout(Duration::from_millis(50)).spawn(Youth::Happy);
    soon(late).await.expect_err("no worker begins");
    drop(mortal(&failures).spawn(Youth::Happy));

    assert_eq!(all_failures(&failures).await, []);
}

/// Where a failure was told.
#[derive(Debug, PartialEq)]
struct Told {
    thread: Option<String>,
    in_a_task: bool,
    in_a_runtime: bool,
}

#[rpc_parallel::test]
fn a_failure_is_told_in_a_task_of_the_runtime_that_started_the_worker() {
    let (sender, told) = mpsc::channel();
    let runtimes = ["one", "other"].map(|name| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name(name).enable_all().build().expect("make a runtime")
    });
    let start = |runtime: &Runtime| {
        let sender = sender.clone();
        let spawner = Mortal::spawner().on_failure(move |_| {
            let thread = thread::current().name().map(str::to_owned);
            let (in_a_task, in_a_runtime) =
                (task::try_id().is_some(), Handle::try_current().is_ok());
            sender.send(Told { thread, in_a_task, in_a_runtime }).expect("the test listens");
        });
        runtime.block_on(spawner.spawn(Youth::Happy)).expect("start a worker")
    };
    let workers = runtimes.each_ref().map(start);

    for (worker, name) in workers.iter().zip(["one", "other"]) {
        kill(worker.label().pid().expect("it is a process of this machine"));

        let told = told.recv_timeout(PATIENCE).expect("it is told");
        let expected = Told { thread: Some(name.into()), in_a_task: true, in_a_runtime: true };
        assert_eq!(told, expected);
    }
}

#[cfg(feature = "tracing")]
#[rpc_parallel::test]
async fn a_failure_is_told_in_the_span_in_which_the_worker_was_started() {
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry());
    let (sender, mut told) = unbounded_channel();
    let spawner = Mortal::spawner().on_failure(move |_| {
        let span = Span::current().metadata().map(tracing::Metadata::name);
        sender.send(span).expect("the test listens");
    });

    for name in [Some("the one"), None] {
        let spawning = spawner.clone().spawn(Youth::Happy);
        let client = match name {
            Some(_) => spawning.instrument(info_span!("the one")).await,
            None => spawning.await,
        };
        let dying = client.expect("start a worker").die(Ending::Exit(3));
        soon(dying).await.expect_err("it does not answer");
        assert_eq!(soon(told.recv()).await, Some(name));
    }
}

#[rpc_parallel::test]
fn a_failure_after_the_end_of_the_runtime_is_told_to_nobody_and_harms_nobody() {
    let failures = Failures::default();
    let runtime = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("make a runtime")
    };
    let (first, second) = (runtime(), runtime());
    let worker = first.block_on(mortal(&failures).start(Youth::Happy)).expect("start a worker");

    drop(first);
    let pid = worker.label().pid().expect("it is a process of this machine");
    kill(pid);

    assert!(second.block_on(ends(pid)));
    let all = second.block_on(all_failures(&failures));
    assert_eq!(all, []);
}

#[rpc_parallel::test]
async fn who_panics_when_told_of_a_failure_harms_nobody_else() {
    let (failures, panics) = (Failures::default(), Arc::new(AtomicUsize::new(0)));
    let counted = panics.clone();
    let faint = Mortal::spawner().on_failure(move |failure| {
        counted.fetch_add(1, Ordering::Relaxed);
        panic!("{failure}");
    });
    let (one, other) = (faint.spawn(Youth::Happy).await, start(&failures).await);

    soon(one.expect("start a worker").die(Ending::Exit(3))).await.expect_err("it is dead");
    soon(other.die(Ending::Exit(4))).await.expect_err("it does not answer");

    assert_eq!(failures.first().await.exit_reason(), ExitReason::Exited(4));
    assert_eq!(panics.load(Ordering::Relaxed), 1);
}

#[rpc_parallel::test]
async fn one_spawner_is_told_of_all_its_workers() {
    let failures = Failures::default();
    let spawner = mortal(&failures);

    let mut died = Vec::new();
    for code in 1..=3 {
        let client = spawner.clone().spawn(Youth::Happy).await.expect("start a worker");
        died.push(client.worker_id());
        soon(client.die(Ending::Exit(code))).await.expect_err("it does not answer");
        failures.count(died.len()).await;
    }

    let told: Vec<_> = failures.list().iter().map(WorkerFailure::id).collect();
    assert_eq!(told, died);
    assert_eq!(failures.deaths(), [1, 2, 3].map(ExitReason::Exited));
}

/// A worker that is the master of mortals.
#[rpc_parallel::worker]
trait Widows {
    fn pid(&self) -> u32;
    async fn marry(&self) -> Result<Worker<Mortal>, AnyError>;
    /// Returns how those have died that it has started, once there are so many.
    async fn deaths(&self, count: usize) -> Vec<ExitReason>;
}

#[derive(Default, WorkerState)]
struct Widow {
    failures: Failures,
}

#[rpc_parallel::worker]
impl Widows for Widow {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    async fn marry(&self) -> Result<Worker<Mortal>, AnyError> {
        Ok(mortal(&self.failures).start(Youth::Happy).await?)
    }

    async fn deaths(&self, count: usize) -> Vec<ExitReason> {
        self.failures.count(count).await;
        self.failures.deaths()
    }
}

#[rpc_parallel::test]
async fn a_failure_is_told_to_the_master_that_started_the_worker_and_to_no_other() {
    let failures = Failures::default();
    let spawner = Widow::spawner().on_failure(failures.note());
    let widow = spawner.spawn(()).await.expect("start a worker");
    let mortal = widow.marry().await.expect("call it");
    let client = mortal.connect(()).await.expect("connect to it");

    soon(client.die(Ending::Exit(3))).await.expect_err("it does not answer");

    assert_eq!(soon(widow.deaths(1)).await, Ok(vec![ExitReason::Exited(3)]));
    assert_eq!(all_failures(&failures).await, []);
}

#[rpc_parallel::test]
async fn a_failure_while_the_master_stands_still_is_told_when_it_goes_on() {
    let widow = Widow::spawn(()).await.expect("start a worker");
    let (widow_pid, mortal) = tokio::join!(widow.pid(), widow.marry());
    let widow_pid = widow_pid.expect("call it");
    let client = mortal.expect("call it").connect(()).await.expect("connect to it");
    let pid = client.pid().await.expect("call it");

    stop(widow_pid);
    drop(soon(client.die_in_a_thread(Ending::Panic)).await);
    // It does not wait to be heard.
    let ended = ends(pid).await;
    resume(widow_pid);

    assert!(ended);
    assert_eq!(soon(widow.deaths(1)).await, Ok(vec![ExitReason::Exited(254)]));
}
