//! Workers of a pool that fail or are recycled, and their replacements.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rpc_parallel::error::{CallErrorKind, ExitReason};
use rpc_parallel::pool::{Pool, PoolErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::{Failures, KILLED};
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient, call_error};
use rpc_parallel_tests::pools::{PoolOk as _, fixtures, pid_after, pids, pool_error, worker};
use rpc_parallel_tests::process::{ends, is_gone, kill};
use rpc_parallel_tests::restarting::MINUTE;
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::waiting::soon;

/// Returns whether a future is pending after one poll.
async fn is_pending<T>(future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// A script whose `init` succeeds only once: the file does not exist before the first process.
fn starts_once(directory: &tempfile::TempDir) -> Script {
    Script::init([Action::CreateFile(directory.path().join("first"))])
}

/// Makes calls from several tasks, and returns the process ids of the workers that answered. Every
/// call must succeed.
async fn load(pool: &Pool<Fixture>, tasks: usize, calls: usize) -> BTreeSet<u32> {
    let tasks = (0..tasks).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut pids = BTreeSet::new();
            for _ in 0..calls {
                let worker = pool.get().await.expect("the pool serves");
                pids.insert(worker.pid().await.expect("no call is lost"));
            }
            pids
        })
    });
    let mut pids = BTreeSet::new();
    for task in tasks.collect::<Vec<_>>() {
        pids.extend(soon(task).await.expect("no panic"));
    }
    pids
}

#[rpc_parallel::test]
async fn killed_worker_is_replaced_and_set_up_again() {
    let failures = Failures::default();
    let pool = fixtures(2).on_failure(failures.callback()).spawn_ok(()).await;
    for event in ["first", "second"] {
        soon(pool.set_up(ScriptedClient::NOTE, &event.to_owned())).await.expect("it answers");
    }
    let before = pids(&pool).await;

    kill(before[1]);

    let next = pid_after(&pool, 1, before[1]).await;
    assert_eq!(pids(&pool).await, [before[0], next]);
    for index in 0..2 {
        let events = worker(&pool, index).await.events().await;
        assert_eq!(events, Ok(vec!["first".to_owned(), "second".to_owned()]));
    }
    assert_eq!(worker(&pool, 1).await.worker_index().await, Ok(Some(1)));
    assert_eq!(failures.first().await.exit_reason(), KILLED);
}

#[rpc_parallel::test]
async fn call_on_failed_worker_reports_failure_and_next_get_succeeds() {
    let pool = fixtures(1).spawn_ok(()).await;

    for code in 1..=8 {
        let worker = soon(pool.get()).await.expect("the worker was replaced");
        let error = call_error(soon(worker.run(Action::Exit(code))).await);
        let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), ExitReason::Exited(code));
    }

    soon(pool.get()).await.expect("inputs that kill their worker do not count");
}

#[rpc_parallel::test]
async fn waiting_call_gets_replacement_of_failed_worker() {
    let pool = fixtures(1).spawn_ok(()).await;
    let guard = soon(pool.get()).await.expect("a worker is free");
    let pid = guard.pid().await.expect("the worker answers");
    let mut waiting = pin!(pool.get());
    assert!(is_pending(waiting.as_mut()).await);

    // The guard of the failed worker is kept.
    kill(pid);

    let next = soon(waiting).await.expect("the replacement is free");
    assert_ne!(next.pid().await, Ok(pid));
    drop(guard);
    assert!(is_pending(pool.get()).await, "the failed worker is not free again");
}

#[rpc_parallel::test]
async fn worker_whose_client_was_closed_is_replaced() {
    let pool = fixtures(1).spawn_ok(()).await;
    let before = pids(&pool).await;

    worker(&pool, 0).await.close();
    let second = pid_after(&pool, 0, before[0]).await;
    worker(&pool, 0).await.shutdown().await.expect("the end is orderly");
    pid_after(&pool, 0, second).await;

    assert!(is_gone(before[0]) && is_gone(second));
}

#[rpc_parallel::test]
async fn pool_whose_workers_reach_limit_returns_last_failure() {
    let directory = tempfile::tempdir().expect("make a directory");
    let failures = Failures::default();
    let pool = fixtures(1)
        .replace_limit(2, MINUTE)
        .on_failure(failures.callback())
        .spawn_ok(starts_once(&directory))
        .await;
    let guard = soon(pool.get()).await.expect("a worker is free");
    let mut waiting = pin!(pool.get());
    assert!(is_pending(waiting.as_mut()).await);

    guard.kill().await.expect("the worker is killed");

    let errors = [
        pool_error(waiting).await,
        pool_error(pool.get()).await,
        pool_error(pool.worker(0)).await,
        pool_error(pool.least_loaded()).await,
        pool_error(pool.broadcast(ScriptedClient::PID, &())).await,
        pool_error(pool.set_up(ScriptedClient::PID, &())).await,
    ];
    for error in errors {
        let PoolErrorKind::ReplaceLimitReached { last, times, within } = error.kind() else {
            panic!("{error}")
        };
        assert_eq!((last.exit_reason(), *times, *within), (ExitReason::NotStarted, 2, MINUTE));
        assert!(error.to_string().contains("its limit of 2 restarts within 60s"), "{error}");
        assert!(error.to_string().contains("File exists"), "{error}");
    }
    assert_eq!(failures.count(2).await.len(), 2);
}

#[rpc_parallel::test]
async fn other_workers_serve_when_one_reaches_limit() {
    let directory = tempfile::tempdir().expect("make a directory");
    let path = directory.path().to_owned();
    let script = move |index| match index {
        0 => Script::init([Action::CreateFile(path.join("first"))]),
        _ => Script::default(),
    };
    let pool = soon(fixtures(2).replace_limit(0, MINUTE).spawn_each(script)).await;
    let pool = pool.expect("the pool starts");
    let before = pids(&pool).await;

    kill(before[0]);

    let error = soon(async {
        loop {
            match pool.worker(0).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    });
    let error = error.await;
    assert!(matches!(error.kind(), PoolErrorKind::ReplaceLimitReached { .. }), "{error}");
    let results = soon(pool.broadcast(ScriptedClient::PID, &())).await.expect("one serves");
    assert_eq!(results[1], Ok(before[1]));
    let error = results[0].as_ref().expect_err("the worker has failed");
    assert!(matches!(error.kind(), CallErrorKind::RestartLimitReached { .. }), "{error}");
    for _ in 0..2 {
        let guard = soon(pool.get()).await.expect("one serves");
        assert_eq!(guard.worker_index(), 1);
    }
}

#[rpc_parallel::test]
async fn set_up_calls_do_not_hide_crash_loop_from_limit() {
    let pool = fixtures(1).replace_limit(3, MINUTE).spawn_ok(()).await;
    soon(pool.set_up(ScriptedClient::NOTE, &"set up".to_owned())).await.expect("it answers");

    // No process gets any work.
    let error = soon(async {
        loop {
            match pool.worker(0).await {
                Ok(worker) => drop(worker.kill().await),
                Err(error) => return error,
            }
        }
    });

    let error = error.await;
    assert!(matches!(error.kind(), PoolErrorKind::ReplaceLimitReached { .. }), "{error}");
}

#[rpc_parallel::test]
async fn failing_set_up_call_of_replacement_counts_toward_limit() {
    let directory = tempfile::tempdir().expect("make a directory");
    let failures = Failures::default();
    let builder = fixtures(1).replace_limit(2, MINUTE).on_failure(failures.callback());
    let pool = builder.spawn_ok(()).await;
    let create = Action::CreateFile(directory.path().join("first"));
    soon(pool.set_up(ScriptedClient::RUN, &create)).await.expect("the first process succeeds");

    worker(&pool, 0).await.kill().await.expect("the worker is killed");

    let error = pool_error(pool.get()).await;
    let PoolErrorKind::ReplaceLimitReached { last, .. } = error.kind() else { panic!("{error}") };
    assert_eq!(last.exit_reason(), ExitReason::NotStarted);
    assert!(error.to_string().contains("the set-up call of its pool failed: "), "{error}");
    assert_eq!(failures.count(2).await.len(), 2);
}

#[rpc_parallel::test]
async fn failed_set_up_call_is_not_replayed() {
    let pool = fixtures(2).spawn_ok(()).await;
    let before = pids(&pool).await;
    let fail = Action::Fail("no table".to_owned());

    let error = pool_error(pool.set_up(ScriptedClient::RUN, &fail)).await;

    assert!(matches!(error.kind(), PoolErrorKind::SetUp { .. }), "{error}");
    assert!(error.to_string().contains("no table"), "{error}");
    kill(before[0]);
    pid_after(&pool, 0, before[0]).await;
}

#[rpc_parallel::test]
async fn worker_killed_during_set_up_call_is_set_up_after_replacement() {
    let pool = fixtures(2).spawn_ok(()).await;
    let before = pids(&pool).await;
    let client = worker(&pool, 1).await;
    let wait = "go".to_owned();
    let mut set_up = Box::pin(pool.set_up(ScriptedClient::WAIT_FOR, &wait));
    let mut set_up_is_pending = async || is_pending(set_up.as_mut()).await;
    assert!(set_up_is_pending().await);
    worker(&pool, 0).await.note("go").await.expect("the worker answers");

    kill(before[1]);
    soon(client.closed()).await;

    // The replacement waits for the event too, before it joins.
    assert!(set_up_is_pending().await);
    assert!(is_pending(pool.worker(1)).await);
    assert!(is_pending(&mut set_up).await);
}

#[rpc_parallel::test]
async fn workers_are_recycled_after_calls_without_losing_any() {
    let failures = Failures::default();
    let pool =
        fixtures(2).recycle_after_calls(10).on_failure(failures.callback()).spawn_ok(()).await;

    // A worker serves until its replacement has started, however many calls that are.
    let mut pids = BTreeSet::new();
    soon(async {
        while pids.len() < 5 {
            pids.extend(load(&pool, 4, 50).await);
        }
    })
    .await;

    assert_eq!(failures.list(), []);
    drop(pool);
    for pid in pids {
        assert!(ends(pid).await);
    }
}

#[rpc_parallel::test]
async fn calls_of_shared_clients_count_for_recycling() {
    let pool = fixtures(1).recycle_after_calls(3).spawn_ok(()).await;
    let client = worker(&pool, 0).await;
    let pid = client.pid().await.expect("the worker answers");
    client.pid().await.expect("the worker answers");
    client.pid().await.expect("the worker answers");

    pid_after(&pool, 0, pid).await;

    assert_eq!(client.pid().await, Ok(pid), "its clients keep the old worker");
    drop(client);
    assert!(ends(pid).await);
}

#[rpc_parallel::test]
async fn workers_are_recycled_by_age_without_losing_calls() {
    let pool = fixtures(2).recycle_after(Duration::from_millis(100)).spawn_ok(()).await;
    let first = pids(&pool).await;

    let mut seen = BTreeSet::new();
    while seen.len() < 6 {
        seen.extend(load(&pool, 3, 10).await);
    }

    for pid in first {
        assert!(ends(pid).await);
    }
}

#[rpc_parallel::test]
async fn worker_above_memory_is_recycled() {
    let pool = fixtures(2).recycle_above_memory(64 << 20).spawn_ok(()).await;
    let before = pids(&pool).await;

    let leak = Action::Leak(80 << 20);
    worker(&pool, 1).await.run(leak).await.expect("there is memory");

    let next = pid_after(&pool, 1, before[1]).await;
    assert!(ends(before[1]).await);
    assert_eq!(pids(&pool).await, [before[0], next]);
}

#[rpc_parallel::test]
async fn guard_of_recycled_worker_keeps_it() {
    let pool = fixtures(1).recycle_after_calls(1).spawn_ok(()).await;
    let guard = soon(pool.get()).await.expect("a worker is free");
    let pid = guard.pid().await.expect("the worker answers");

    let next = soon(pool.get()).await.expect("the replacement is free");

    assert_ne!(next.pid().await, Ok(pid));
    assert_eq!(guard.pid().await, Ok(pid));
    drop(guard);
    assert!(ends(pid).await);
}

#[rpc_parallel::test]
async fn recycled_worker_stays_if_its_replacement_does_not_start() {
    let directory = tempfile::tempdir().expect("make a directory");
    let failures = Failures::default();
    let pool = fixtures(1)
        .recycle_after_calls(1)
        .replace_limit(1, MINUTE)
        .on_failure(failures.callback())
        .spawn_ok(starts_once(&directory))
        .await;
    let before = pids(&pool).await;

    let guard = soon(pool.get()).await.expect("a worker is free");
    assert_eq!(guard.pid().await, Ok(before[0]));
    drop(guard);

    failures.count(2).await;
    assert_eq!(load(&pool, 2, 5).await, BTreeSet::from([before[0]]));
}

#[rpc_parallel::test]
async fn shutdown_includes_recycled_workers() {
    let directory = tempfile::tempdir().expect("make a directory");
    let log = directory.path().join("log");
    let script = Script::on_shutdown([Action::AppendTo(log.clone(), "down".to_owned())]);
    let pool = fixtures(1).recycle_after_calls(1).spawn_ok(script).await;
    let client = worker(&pool, 0).await;
    let pid = client.pid().await.expect("the worker answers");
    let next = pid_after(&pool, 0, pid).await;

    soon(pool.shutdown()).await.expect("the ends are orderly");

    assert!(is_gone(pid) && is_gone(next));
    let lines = std::fs::read_to_string(log).expect("both have written their lines");
    assert!([pid, next].iter().all(|it| lines.contains(&format!("down {it}\n"))), "{lines}");
}

#[rpc_parallel::test]
async fn killed_workers_under_load_are_all_replaced() {
    let pool = fixtures(3).spawn_ok(()).await;
    let (tasks, calls) = (6, 60);
    let workload = (0..tasks).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut answered = 0;
            while answered < calls {
                let worker = pool.get().await.expect("the pool serves");
                match worker.pid().await {
                    Ok(_) => answered += 1,
                    Err(error) => assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_))),
                }
            }
        })
    });
    let workload: Vec<_> = workload.collect();

    for round in 0..15 {
        let victim = worker(&pool, round % 3).await;
        if victim.kill().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    for task in workload {
        soon(task).await.expect("no panic");
    }
    assert_eq!(pids(&pool).await.len(), 3);
}
