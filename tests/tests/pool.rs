//! Pools of workers: their start, their size, and how callers get workers.

use std::collections::BTreeSet;
use std::fs;
use std::future::poll_fn;
use std::pin::pin;
use std::process::Command;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use rpc_parallel::error::{CallErrorKind, SpawnErrorKind};
use rpc_parallel::launch::WrapperLauncher;
use rpc_parallel::pool::PoolErrorKind;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient};
use rpc_parallel_tests::pools::{PoolOk as _, fixtures, pids, pool_error, started, worker};
use rpc_parallel_tests::process::{ends, ends_within, is_gone, still_running_after};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::waiting::soon;

/// The environment variable that marks the processes of one test.
const VARIABLE: &str = "RPC_PARALLEL_TEST_POOL";

/// How long a killed process may take to disappear.
const LIMIT: Duration = Duration::from_secs(5);

/// Returns whether a future is pending after one poll.
async fn is_pending<T>(future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[rpc_parallel::test]
async fn pool_without_size_has_one_worker_per_core() {
    let cores = thread::available_parallelism().expect("the number of cores is known").get();

    let pool = Fixture::pool().spawn_ok(()).await;

    let pids: BTreeSet<_> = pids(&pool).await.into_iter().collect();
    assert_eq!((pool.len(), pids.len()), (cores, cores));
}

#[rpc_parallel::test]
async fn worker_index_is_unique_in_init_name_and_redirects() {
    let directory = tempfile::tempdir().expect("make a directory");
    let path = directory.path().to_owned();
    let script = Script::init([Action::PrintWithPid("begins".to_owned())]);

    let pool = fixtures(2)
        .on(WrapperLauncher::new("env"), 2)
        .configure(move |spawner, index| {
            spawner.stdout(Redirect::append(path.join(format!("out-{index}"))))
        })
        .spawn_ok(script)
        .await;

    let indices = pool.broadcast(ScriptedClient::WORKER_INDEX, &()).await.expect("it serves");
    for (index, found) in indices.into_iter().enumerate() {
        let client = worker(&pool, index).await;
        assert_eq!(found, Ok(Some(index)));
        assert_eq!(client.label().name(), Some(&*format!("Fixture-{index}")));
        let output = fs::read_to_string(directory.path().join(format!("out-{index}")));
        let pid = client.pid().await.expect("the worker answers");
        assert_eq!(output.expect("the output is redirected"), format!("begins {pid}\n"));
    }
}

#[rpc_parallel::test]
async fn worker_outside_of_pool_has_no_index() {
    let pool = fixtures(1).spawn_ok(()).await;
    let started = worker(&pool, 0).await.start_fixture(Script::default()).await;
    let nested = started.expect("it starts").connect(()).await.expect("it serves");

    assert_eq!(nested.worker_index().await, Ok(None));
    assert_eq!(rpc_parallel::pool::worker_index(), None);
}

#[rpc_parallel::test]
async fn launchers_mix_in_one_pool() {
    let group = |name: &str| WrapperLauncher::new("env").arg(format!("GROUP={name}"));

    let pool = fixtures(1).on(group("a"), 2).on(group("b"), 1).spawn_ok(()).await;
    soon(pool.resize(5)).await.expect("the new worker starts");

    let groups = pool.broadcast(ScriptedClient::VARIABLE, &"GROUP".to_owned()).await;
    let groups: Result<Vec<_>, _> = groups.expect("it serves").into_iter().collect();
    let groups = groups.expect("all answer");
    let groups: Vec<_> = groups.iter().map(Option::as_deref).collect();
    assert_eq!(groups, [None, Some("a"), Some("a"), Some("b"), Some("b")]);
}

#[rpc_parallel::test]
async fn failing_init_of_one_worker_leaves_no_process() {
    let script = |index| match index {
        5 => Script::init([Action::Fail("no licence".to_owned())]),
        // Still in `init` when the pool gives up.
        6 => Script::init([Action::Wait]),
        _ => Script::default(),
    };
    let id = format!("failing-{}", std::process::id());
    let value = id.clone();
    let spawning = fixtures(8).configure(move |it, _| it.env(VARIABLE, &value)).spawn_each(script);

    let error = pool_error(spawning).await;

    let PoolErrorKind::Spawn { worker_index, error: cause } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(*worker_index, 5);
    assert!(matches!(cause.kind(), SpawnErrorKind::Init { .. }), "{error}");
    let text = "failed to start worker 5 of the pool: ";
    assert!(error.to_string().starts_with(text), "{error}");
    assert!(error.to_string().contains("no licence"), "{error}");
    assert_eq!(still_running_after(VARIABLE, &id, LIMIT), [] as [u32; 0]);
}

#[rpc_parallel::test]
async fn dropped_start_leaves_no_process() {
    let id = format!("dropped-{}", std::process::id());
    let value = id.clone();
    let builder = fixtures(3).configure(move |it, _| it.env(VARIABLE, &value));
    let directory = tempfile::tempdir().expect("make a directory");
    let began = directory.path().join("began");
    let script = Script::init([Action::AppendTo(began.clone(), "begins".into()), Action::Wait]);

    let spawning = tokio::spawn(builder.spawn(script));
    let all_begin = || fs::read_to_string(&began).ok().filter(|it| it.lines().count() == 3);
    while all_begin().is_none() {
        tokio::task::yield_now().await;
    }
    spawning.abort();

    assert!(spawning.await.is_err_and(|it| it.is_cancelled()));
    assert_eq!(still_running_after(VARIABLE, &id, LIMIT), [] as [u32; 0]);
}

#[rpc_parallel::test]
async fn sizes_out_of_range_are_errors() {
    let launcher = || WrapperLauncher::new("env");

    for builder in [fixtures(0), Fixture::pool().on(launcher(), 0)] {
        let error = pool_error(builder.spawn(Script::default())).await;
        assert!(matches!(error.kind(), PoolErrorKind::ZeroWorkers), "{error}");
        assert!(error.to_string().ends_with("found zero workers"), "{error}");
    }
    for builder in [fixtures(usize::MAX), fixtures(usize::MAX).on(launcher(), usize::MAX)] {
        let error = pool_error(builder.spawn(Script::default())).await;
        let PoolErrorKind::TooManyWorkers { workers, .. } = error.kind() else { panic!("{error}") };
        assert_eq!(*workers, usize::MAX);
    }
}

#[rpc_parallel::test]
async fn argument_of_init_larger_than_limit_is_error() {
    let settings = Settings::default().with_max_message_size(4096);
    let script = Script::init([Action::Note("x".repeat(5000))]);

    let builder = fixtures(2).configure(move |it, _| it.settings(settings));
    let error = pool_error(builder.spawn(script)).await;

    let PoolErrorKind::Spawn { error: cause, .. } = error.kind() else { panic!("{error}") };
    assert!(matches!(cause.kind(), SpawnErrorKind::InitArgument { .. }), "{error}");
    assert!(error.to_string().contains("exceeds the limit of 4096 bytes"), "{error}");
}

#[rpc_parallel::test]
async fn configured_spawner_overrides_defaults_of_pool() {
    let builder = fixtures(1).threads_per_worker(3).configure(|spawner, index| {
        spawner.name(format!("own-{index}")).env("OMP_NUM_THREADS", "7")
    });

    let pool = builder.spawn_ok(()).await;

    let client = worker(&pool, 0).await;
    assert_eq!(client.label().name(), Some("own-0"));
    for (variable, expected) in [
        ("RAYON_NUM_THREADS", "3"),
        ("OPENBLAS_NUM_THREADS", "3"),
        ("MKL_NUM_THREADS", "3"),
        ("TOKIO_WORKER_THREADS", "3"),
        ("OMP_NUM_THREADS", "7"),
    ] {
        assert_eq!(client.variable(variable).await, Ok(Some(expected.to_owned())), "{variable}");
    }
}

#[rpc_parallel::test]
async fn each_worker_has_its_own_argument_of_init() {
    let script = |index| Script::init([Action::Note(format!("worker {index}"))]);

    let pool = started(fixtures(3).spawn_each(script)).await;

    for index in 0..3 {
        let events = worker(&pool, index).await.events().await;
        assert_eq!(events, Ok(vec![format!("worker {index}")]));
    }
}

#[rpc_parallel::test]
async fn get_waits_until_a_worker_is_free() {
    let pool = fixtures(2).spawn_ok(()).await;
    let first = soon(pool.get()).await.expect("a worker is free");
    let second = soon(pool.get()).await.expect("a worker is free");
    assert_ne!(first.worker_index(), second.worker_index());
    let mut third = pin!(pool.get());
    assert!(is_pending(third.as_mut()).await);

    let freed = (second.worker_index(), second.pid().await);
    drop(second);

    let third = soon(third).await.expect("a worker is free");
    assert_eq!((third.worker_index(), third.pid().await), freed);
    assert!(is_pending(pool.get()).await);
}

#[rpc_parallel::test]
async fn waiting_callers_get_workers_in_their_order() {
    let pool = fixtures(1).spawn_ok(()).await;
    let taken = soon(pool.get()).await.expect("a worker is free");
    let (mut first, mut second) = (Box::pin(pool.get()), Box::pin(pool.get()));
    let mut third = Box::pin(pool.get());
    for waiting in [&mut first, &mut second, &mut third] {
        assert!(is_pending(waiting).await);
    }

    drop(first);
    drop(taken);

    let mut newcomer = pin!(pool.get());
    assert!(is_pending(newcomer.as_mut()).await && is_pending(third.as_mut()).await);
    drop(soon(second).await.expect("the worker is free"));
    drop(soon(third).await.expect("the worker is free"));
    soon(newcomer).await.expect("the worker is free");
}

#[rpc_parallel::test]
async fn freed_worker_of_dropped_waiting_call_is_free() {
    let pool = fixtures(1).spawn_ok(()).await;
    let taken = soon(pool.get()).await.expect("a worker is free");
    let mut waiting = Box::pin(pool.get());
    assert!(is_pending(waiting.as_mut()).await);

    // The worker is handed to the waiting call, which is dropped before it is polled.
    drop(taken);
    drop(waiting);

    soon(pool.get()).await.expect("the worker is free");
}

#[rpc_parallel::test]
async fn idle_worker_is_chosen_before_busy_one() {
    let pool = fixtures(2).spawn_ok(()).await;
    for busy in 0..2 {
        let client = worker(&pool, busy).await;
        let mut call = pin!(client.wait());
        assert!(is_pending(call.as_mut()).await);

        let guard = soon(pool.get()).await.expect("a worker is free");
        let least_loaded = soon(pool.least_loaded()).await.expect("the pool serves");

        assert_eq!(guard.worker_index(), 1 - busy);
        assert_eq!(least_loaded.worker_index().await, Ok(Some(1 - busy)));
    }
}

#[rpc_parallel::test]
async fn broadcast_returns_results_by_index() {
    let pool = fixtures(4).spawn_ok(()).await;
    worker(&pool, 2).await.count_calls().await.expect("the worker answers");

    let counts = soon(pool.broadcast(ScriptedClient::COUNT_CALLS, &())).await;

    assert_eq!(counts.expect("the pool serves"), [Ok(1), Ok(1), Ok(2), Ok(1)]);
}

#[rpc_parallel::test]
async fn broadcast_sends_large_argument_to_all_workers() {
    let settings = Settings::default().with_max_message_size(1 << 20);
    let configure = move |it: rpc_parallel::Spawner<Fixture>, index| match index {
        1 => it.settings(settings),
        _ => it,
    };
    let pool = fixtures(3).configure(configure).spawn_ok(()).await;

    let lengths = soon(pool.broadcast(ScriptedClient::LENGTH, &vec![7; 3 << 20])).await;

    let lengths = lengths.expect("the pool serves");
    assert_eq!((&lengths[0], &lengths[2]), (&Ok(3 << 20), &Ok(3 << 20)));
    let error = lengths[1].as_ref().expect_err("the argument exceeds the limit of this worker");
    assert!(matches!(error.kind(), CallErrorKind::TooLarge { .. }), "{error}");
}

#[rpc_parallel::test]
async fn broadcast_of_pipe_is_error() {
    let pool = fixtures(2).spawn_ok(()).await;

    let results = pool.broadcast(ScriptedClient::KEEP_UNREAD, &Pipe::from_items(0..3)).await;

    for result in results.expect("the pool serves") {
        let error = result.expect_err("a pipe has one reader");
        assert!(matches!(error.kind(), CallErrorKind::Unencodable { .. }), "{error}");
        assert!(error.to_string().contains("a pipe cannot be sent to several"), "{error}");
    }
}

#[rpc_parallel::test]
async fn broadcast_reports_failed_worker_in_its_place() {
    let pool = fixtures(3).spawn_ok(()).await;
    let gone = worker(&pool, 1).await;
    gone.note("gone").await.expect("the worker answers");

    let mut waiting = pin!(pool.broadcast(ScriptedClient::WAIT_FOR, &"go".to_owned()));
    assert!(is_pending(waiting.as_mut()).await);
    gone.kill().await.expect("the worker is killed");
    for index in [0, 2] {
        worker(&pool, index).await.note("go").await.expect("the worker answers");
    }

    let results = soon(waiting).await.expect("the pool serves");
    assert_eq!((&results[0], &results[2]), (&Ok(()), &Ok(())));
    let error = results[1].as_ref().expect_err("the worker was killed");
    assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
}

#[rpc_parallel::test]
async fn pool_grows_and_shrinks_on_request() {
    let pool = fixtures(1).spawn_ok(()).await;
    soon(pool.set_up(ScriptedClient::NOTE, &"set up".to_owned())).await.expect("it answers");

    soon(pool.resize(4)).await.expect("the new workers start");
    let grown = pids(&pool).await;
    for index in 0..4 {
        let client = worker(&pool, index).await;
        assert_eq!(client.worker_index().await, Ok(Some(index)));
        assert_eq!(client.events().await, Ok(vec!["set up".to_owned()]));
    }
    soon(pool.resize(2)).await.expect("it shrinks");

    assert_eq!(pids(&pool).await, grown[..2]);
    assert!(ends(grown[2]).await && ends(grown[3]).await);
    let error = pool_error(pool.worker(2)).await;
    assert!(
        matches!(error.kind(), PoolErrorKind::NoSuchWorker { worker_index: 2, workers: 2 }),
        "{error}"
    );
    assert!(matches!(pool_error(pool.resize(0)).await.kind(), PoolErrorKind::ZeroWorkers));
}

#[rpc_parallel::test]
async fn removed_worker_finishes_its_calls() {
    let pool = fixtures(2).spawn_ok(()).await;
    let client = worker(&pool, 1).await;
    let pid = client.pid().await.expect("the worker answers");
    let mut call = Box::pin(client.wait_for("go"));
    assert!(is_pending(call.as_mut()).await);

    soon(pool.resize(1)).await.expect("it shrinks");
    client.note("go").await.expect("the worker still answers");
    drop(client);

    assert_eq!(soon(call).await, Ok(()));
    assert!(ends(pid).await);
}

#[rpc_parallel::test]
async fn failed_growth_leaves_pool_as_it_was() {
    let script = |index| match index {
        3 => Script::init([Action::Fail("no licence".to_owned())]),
        _ => Script::default(),
    };
    let pool = started(fixtures(2).spawn_each(script)).await;
    let before = pids(&pool).await;

    let error = pool_error(pool.resize(5)).await;

    assert!(matches!(error.kind(), PoolErrorKind::Spawn { worker_index: 3, .. }), "{error}");
    assert_eq!(pids(&pool).await, before);
    soon(pool.resize(3)).await.expect("the third worker starts");
}

#[rpc_parallel::test]
async fn concurrent_resizes_follow_each_other() {
    let pool = fixtures(1).spawn_ok(()).await;

    let resizes = [4, 2, 3].map(|workers| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.resize(workers).await })
    });
    for resize in resizes {
        soon(resize).await.expect("no panic").expect("the workers start");
    }

    assert_eq!((pool.len(), pids(&pool).await.len()), (3, 3));
}

#[rpc_parallel::test]
async fn dropping_last_handle_ends_workers() {
    let pool = fixtures(3).spawn_ok(()).await;
    let (clone, pids) = (pool.clone(), pids(&pool).await);
    drop(pool);
    assert!(pids.iter().all(|it| !is_gone(*it)));

    drop(clone);

    for pid in pids {
        assert!(ends(pid).await);
    }
}

#[rpc_parallel::test]
async fn guard_keeps_its_worker_after_end_of_pool() {
    let pool = fixtures(2).spawn_ok(()).await;
    let guard = soon(pool.get()).await.expect("a worker is free");
    let (pids, pid) = (pids(&pool).await, guard.pid().await.expect("the worker answers"));

    drop(pool);

    for other in pids.into_iter().filter(|it| *it != pid) {
        assert!(ends(other).await);
    }
    assert_eq!(guard.pid().await, Ok(pid));
    drop(guard);
    assert!(ends(pid).await);
}

#[rpc_parallel::test]
async fn shutdown_runs_on_shutdown_of_each_worker() {
    let directory = tempfile::tempdir().expect("make a directory");
    let log = directory.path().join("log");
    let script = Script::on_shutdown([Action::AppendTo(log.clone(), "down".to_owned())]);
    let pool = fixtures(3).spawn_ok(script).await;
    let (clone, mut pids) = (pool.clone(), pids(&pool).await);
    let guard = soon(pool.get()).await.expect("a worker is free");

    soon(pool.shutdown()).await.expect("the ends are orderly");

    assert!(pids.iter().all(|it| is_gone(*it)));
    let written = fs::read_to_string(log).expect("each worker has written its line");
    let mut written: Vec<_> = written
        .lines()
        .map(|it| it.replace("down ", "").parse::<u32>().expect("a process id"))
        .collect();
    written.sort_unstable();
    pids.sort_unstable();
    assert_eq!(written, pids);
    let error = pool_error(clone.get()).await;
    assert!(matches!(error.kind(), PoolErrorKind::ShutDown), "{error}");
    assert!(
        pool_error(clone.broadcast(ScriptedClient::PID, &()))
            .await
            .to_string()
            .contains("shut down")
    );
    assert!(pool_error(clone.resize(2)).await.to_string().contains("shut down"));
    assert!(clone.is_empty());
    guard.pid().await.expect_err("the worker has ended");
    soon(clone.shutdown()).await.expect("nothing is left to end");
}

#[rpc_parallel::test]
async fn shutdown_reports_workers_that_fail() {
    let script = |index| match index {
        1 => Script::on_shutdown([Action::Exit(3)]),
        _ => Script::default(),
    };
    let pool = started(fixtures(3).spawn_each(script)).await;
    let pids = pids(&pool).await;

    let error = pool_error(pool.shutdown()).await;

    let PoolErrorKind::NotShutDown { errors } = error.kind() else { panic!("{error}") };
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].worker().name(), Some("Fixture-1"));
    assert!(error.to_string().contains("exited with code 3"), "{error}");
    assert!(pids.into_iter().all(is_gone));
}

#[rpc_parallel::test]
async fn waiting_calls_fail_when_pool_is_killed() {
    let pool = fixtures(1).spawn_ok(()).await;
    let pids = pids(&pool).await;
    let guard = soon(pool.get()).await.expect("a worker is free");
    let mut waiting = pin!(pool.get());
    assert!(is_pending(waiting.as_mut()).await);

    soon(pool.kill()).await.expect("the process is killed");

    assert!(pids.into_iter().all(is_gone));
    let error = pool_error(waiting).await;
    assert!(matches!(error.kind(), PoolErrorKind::ShutDown), "{error}");
    drop(guard);
}

#[test]
fn pool_at_end_of_main_ends_with_program_in_silence() {
    let mut program = Program::start(&mut Command::new(env!("CARGO_BIN_EXE_pool_at_exit")));
    let pids = program.numbers();

    program.write_line("end");

    let output = program.end();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, "");
    assert_eq!(pids.len(), 8);
    assert!(pids.into_iter().all(|it| ends_within(it, LIMIT)));
}

#[test]
fn pool_whose_runtime_has_ended_returns_errors() {
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).enable_all().build().expect("make a runtime")
    };
    let first = runtime();
    let (pool, pids) = first.block_on(async {
        let pool = fixtures(2).spawn_ok(()).await;
        let pids = pids(&pool).await;
        (pool, pids)
    });
    let second = runtime();
    let taken: Vec<_> = (0..2).map(|_| second.block_on(pool.get()).expect("it is free")).collect();
    let (sender, waiting) = std::sync::mpsc::channel();
    let waiter = pool.clone();
    second.spawn(async move { sender.send(waiter.get().await.map(drop)) });

    first.shutdown_timeout(Duration::from_secs(1));

    let waited = waiting.recv_timeout(LIMIT).expect("the waiting call ends");
    let errors = second
        .block_on(async { [waited.expect_err("it has ended"), pool_error(pool.worker(0)).await] });
    for error in errors {
        assert!(matches!(error.kind(), PoolErrorKind::RuntimeEnded), "{error}");
    }
    drop((taken, pool));
    second.block_on(async {
        for pid in pids {
            assert!(ends(pid).await);
        }
    });
}
