//! Maps whose workers die, hang or fail: each item has exactly one result.

use std::time::{Duration, Instant};

use rpc_parallel::error::ExitReason;
use rpc_parallel::pool::{MapErrorKind, Pool};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{ends, kill_if_running};
use rpc_parallel_tests::waiting::soon;

/// The state of the workers, which is empty.
#[derive(Default, WorkerState)]
struct Plain;

/// What the tests ask of a worker outside of maps.
#[rpc_parallel::worker]
trait Identify {
    fn pid(&self) -> u32;
}

#[rpc_parallel::worker]
impl Identify for Plain {
    fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// Computes for 20 µs.
#[rpc_parallel::process]
fn brief_square(x: u64) -> u64 {
    let began = Instant::now();
    while began.elapsed() < Duration::from_micros(20) {}
    x * x
}

#[rpc_parallel::process]
fn poisoned(x: u64) -> u64 {
    if x == 777 || x == 60_001 {
        std::process::abort();
    }
    x * x
}

#[rpc_parallel::process]
fn hangs_at_five(x: u64) -> u64 {
    while x == 5 {
        std::hint::spin_loop();
    }
    x
}

/// Aborts the process at the first two attempts.
#[rpc_parallel::process]
fn succeeds_at_third_attempt(x: u64) -> u32 {
    let attempt = rpc_parallel::pool::attempt();
    if x == 3 && attempt < 2 {
        std::process::abort();
    }
    attempt
}

#[rpc_parallel::process]
async fn waits_forever(_: u64) -> u32 {
    std::future::pending().await
}

#[rpc_parallel::process]
fn computes_forever(_: u64) -> u32 {
    loop {
        std::hint::spin_loop();
    }
}

async fn pool_of(workers: usize) -> Pool<Plain> {
    soon(Plain::pool().workers(workers).spawn(())).await.expect("the pool starts")
}

async fn pids(pool: &Pool<Plain>) -> Vec<u32> {
    let mut pids = Vec::new();
    for index in 0..pool.len() {
        let client = soon(pool.worker(index)).await.expect("it runs");
        pids.push(soon(client.pid()).await.expect("it is answered"));
    }
    pids
}

#[rpc_parallel::test]
async fn results_are_exact_while_workers_are_killed() {
    const ITEMS: u64 = 50_000;
    let pool = pool_of(2).await;
    let mut map = pool.map(brief_square::FUNCTION, 0..ITEMS);
    let mut kills = 0;

    for index in 0..ITEMS {
        let square = soon(map.next()).await.expect("there is one").expect("it succeeds");
        assert_eq!(square, index * index);
        // A worker that is being replaced is no victim.
        if index % 2_500 == 1_250
            && let Ok(Ok(client)) =
                tokio::time::timeout(Duration::from_secs(5), pool.worker(kills % 2)).await
            && let Some(pid) = client.label().pid()
        {
            kill_if_running(pid);
            kills += 1;
        }
    }

    assert!(soon(map.next()).await.is_none());
    assert!(kills >= 15, "{kills} kills");
}

#[rpc_parallel::test]
async fn unordered_results_are_exact_while_workers_are_killed() {
    const ITEMS: u64 = 30_000;
    let pool = pool_of(3).await;
    let mut map = pool.map_unordered(brief_square::FUNCTION, 0..ITEMS);
    let mut seen = vec![false; ITEMS as usize];
    let mut kills = 0;

    let mut count = 0;
    while let Some(result) = soon(map.next()).await {
        let (index, square) = result.expect("it succeeds");
        assert_eq!(square, index * index);
        assert!(!std::mem::replace(&mut seen[index as usize], true), "{index} came twice");
        count += 1;
        if count % 3_000 == 1_500
            && let Ok(Ok(client)) =
                tokio::time::timeout(Duration::from_secs(5), pool.worker(kills % 3)).await
            && let Some(pid) = client.label().pid()
        {
            kill_if_running(pid);
            kills += 1;
        }
    }

    assert_eq!(count, ITEMS);
}

#[rpc_parallel::test]
async fn poisoned_items_cost_three_workers_each_and_are_named() {
    let pool = pool_of(2).await;
    let mut map = pool.map(poisoned::FUNCTION, 0..100_000);
    let monitor = map.monitor();
    let mut failed = Vec::new();

    let mut index = 0;
    while let Some(result) = soon(map.next()).await {
        match result {
            Ok(square) => assert_eq!(square, index * index),
            Err(error) => failed.push(error),
        }
        index += 1;
    }

    assert_eq!(index, 100_000);
    let indexes: Vec<_> = failed.iter().map(|it| it.index()).collect();
    assert_eq!(indexes, [Some(777), Some(60_001)]);
    for error in &failed {
        let MapErrorKind::WorkerDied { attempts: 3, last } = error.kind() else {
            panic!("{error}")
        };
        let reason = last.exit_reason();
        assert!(matches!(reason, ExitReason::Signaled { signal: 6, .. }), "{reason:?}");
    }
    assert_eq!(monitor.progress().deaths, 6);
}

#[rpc_parallel::test]
async fn item_beyond_timeout_is_error_and_its_worker_is_replaced() {
    let pool = pool_of(2).await;
    let map = pool.map(hangs_at_five::FUNCTION, 0..30).timeout(Duration::from_millis(200));
    let mut failed = Vec::new();

    let all: Vec<u64> = soon(map.skip_errors(|error| failed.push(error)).collect()).await;

    assert!(all.into_iter().eq((0..30).filter(|it| *it != 5)));
    let [error] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(error.index(), Some(5));
    assert!(matches!(error.kind(), MapErrorKind::TimedOut { .. }), "{error}");
    assert_eq!(
        soon(pool.map(hangs_at_five::FUNCTION, 10..20).sum::<u64>()).await.expect("ok"),
        145
    );
}

#[rpc_parallel::test]
async fn function_sees_number_of_its_attempt() {
    let pool = pool_of(2).await;

    let map = pool.map(succeeds_at_third_attempt::FUNCTION, 0..10);
    let attempts: Vec<u32> = soon(map.collect()).await.expect("the third attempt succeeds");

    assert_eq!(attempts[3], 2);
}

#[rpc_parallel::test]
async fn item_with_one_attempt_does_not_run_again() {
    let pool = pool_of(1).await;
    let mut failed = Vec::new();
    let map = pool.map(poisoned::FUNCTION, 770..790).attempts(1);

    let all: Vec<u64> = soon(map.skip_errors(|error| failed.push(error)).collect()).await;

    let indexes: Vec<_> = failed.iter().map(|it| it.index()).collect();
    assert_eq!(indexes, [Some(7)]);
    assert_eq!(all.len(), 19);
}

#[rpc_parallel::test]
async fn dropped_map_ends_waiting_items_without_killing_workers() {
    let pool = pool_of(2).await;
    let before = pids(&pool).await;
    let mut map = pool.map(waits_forever::FUNCTION, 0..100);
    let waiting = tokio::time::timeout(Duration::from_millis(100), map.next()).await;
    assert!(waiting.is_err(), "no item returns");

    drop(map);

    let sum: u64 = soon(pool.map(brief_square::FUNCTION, 0..10).sum()).await.expect("all succeed");
    assert_eq!(sum, 285);
    assert_eq!(pids(&pool).await, before);
}

#[rpc_parallel::test]
async fn dropped_map_replaces_workers_that_still_compute() {
    let pool = pool_of(2).await;
    let before = pids(&pool).await;
    let mut map = pool.map(computes_forever::FUNCTION, 0..100);
    let waiting = tokio::time::timeout(Duration::from_millis(100), map.next()).await;
    assert!(waiting.is_err(), "no item returns");

    drop(map);

    for pid in before {
        assert!(ends(pid).await, "worker {pid} still computes");
    }
    let sum: u64 = soon(pool.map(brief_square::FUNCTION, 0..10).sum()).await.expect("all succeed");
    assert_eq!(sum, 285);
}

#[rpc_parallel::test]
async fn map_on_pool_that_was_shut_down_fails() {
    let pool = pool_of(1).await;
    let map = pool.map(brief_square::FUNCTION, 0..10);
    soon(pool.clone().shutdown()).await.expect("the worker ends");

    let error = soon(map.collect::<Vec<_>>()).await.expect_err("the pool has ended");

    assert!(matches!(error.kind(), MapErrorKind::Pool(_)), "{error}");
}
