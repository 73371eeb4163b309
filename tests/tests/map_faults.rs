//! Maps whose workers die, hang or fail: each item has exactly one result.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rpc_parallel::error::ExitReason;
use rpc_parallel::pool::{MapError, MapErrorKind, Pool, PoolErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{ends, kill_if_running, signal};
use rpc_parallel_tests::waiting::soon;
use rustix::process::Signal;

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
    if x == 5 {
        loop {
            std::hint::spin_loop();
        }
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

/// Stops the process, all threads of it.
#[rpc_parallel::process]
fn stops_at_five(x: u64) -> u64 {
    if x == 5 {
        signal(std::process::id(), Signal::STOP);
        // The kernel stops the other threads first.
        loop {
            std::hint::spin_loop();
        }
    }
    x
}

#[rpc_parallel::process]
fn aborts_at_half_a_million(x: u64) -> u64 {
    if x == 500_000 {
        std::process::abort();
    }
    x
}

#[rpc_parallel::process]
fn aborts_at_multiples_of_ten(x: u64) -> u64 {
    if x.is_multiple_of(10) {
        std::process::abort();
    }
    x
}

#[rpc_parallel::process]
fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Waits for half a minute in the first worker that runs it, and not in others.
#[rpc_parallel::process]
async fn slow_in_one_worker(x: u64) -> u64 {
    if x == 40 && rpc_parallel::pool::worker_index() == Some(0) {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    x
}

/// A worker whose `init` needs a file.
struct NeedsFile;

impl WorkerState for NeedsFile {
    type Init = PathBuf;

    async fn init(path: PathBuf) -> Result<Self, BoxError> {
        std::fs::metadata(path)?;
        Ok(Self)
    }
}

#[rpc_parallel::worker]
impl Identify for NeedsFile {
    fn pid(&self) -> u32 {
        std::process::id()
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
    let indexes: Vec<_> = failed.iter().map(MapError::index).collect();
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

    let indexes: Vec<_> = failed.iter().map(MapError::index).collect();
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

#[rpc_parallel::test]
async fn item_that_stops_its_process_is_error_within_timeout() {
    let pool = pool_of(2).await;
    let timeout = Duration::from_millis(300);
    let began = Instant::now();
    let mut failed = Vec::new();
    let map = pool.map(stops_at_five::FUNCTION, 0..30).timeout(timeout);

    let all: Vec<u64> = soon(map.skip_errors(|error| failed.push(error)).collect()).await;

    let [error] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(error.index(), Some(5));
    assert!(matches!(error.kind(), MapErrorKind::TimedOut { .. }), "{error}");
    assert!(all.into_iter().eq((0..30).filter(|it| *it != 5)));
    // Usually the answer comes within 100 ms of the timeout.
    assert!(began.elapsed() < timeout + Duration::from_secs(3), "{:?}", began.elapsed());
}

#[rpc_parallel::test]
async fn one_poisoned_item_in_a_million_costs_three_workers() {
    let pool = pool_of(2).await;
    let mut map = pool.map(aborts_at_half_a_million::FUNCTION, 0..1_000_000);
    let monitor = map.monitor();
    let (mut next, mut failed) = (0, Vec::new());

    while let Some(result) = soon(map.next()).await {
        match result {
            Ok(value) => assert_eq!(value, next),
            Err(error) => failed.push(error.index()),
        }
        next += 1;
    }

    assert_eq!((next, failed), (1_000_000, vec![Some(500_000)]));
    assert_eq!(monitor.progress().deaths, 3);
}

#[rpc_parallel::test]
async fn large_results_of_endless_source_are_bounded_by_bytes() {
    const ITEM: usize = 256 * 1024;
    /// The default window, and what workers hold beyond it.
    const LIMIT: usize = 2 * (64 << 20);
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = pulled.clone();
    let items = std::iter::repeat_with(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        vec![7; ITEM]
    });
    let pool = pool_of(2).await;
    let mut map = pool.map(echo::FUNCTION, items);

    for yielded in 0..600 {
        let bytes = soon(map.next()).await.expect("it is endless").expect("it succeeds");
        assert_eq!(bytes.len(), ITEM);
        let ahead = (pulled.load(Ordering::Relaxed) - yielded) * ITEM;
        assert!(ahead <= LIMIT, "{ahead} bytes are pulled and not yielded");
    }
}

#[rpc_parallel::test]
async fn map_fails_when_no_worker_can_be_replaced() {
    let directory = tempfile::tempdir().expect("create a directory");
    let path = directory.path().join("present");
    std::fs::write(&path, "").expect("write a file");
    let pool = NeedsFile::pool().workers(2).replace_limit(2, Duration::from_secs(60));
    let pool = soon(pool.spawn(path.clone())).await.expect("the pool starts");
    std::fs::remove_file(path).expect("remove the file");
    let mut map = pool.map(computes_forever::FUNCTION, 0..100);
    let waiting = tokio::time::timeout(Duration::from_millis(100), map.next()).await;
    assert!(waiting.is_err(), "no item returns");

    for index in 0..2 {
        let client = soon(pool.worker(index)).await.expect("it runs");
        kill_if_running(client.label().pid().expect("it runs here"));
    }
    let error = soon(map.next()).await.expect("there is an error").expect_err("no worker is left");

    let MapErrorKind::Pool(error) = error.kind() else { panic!("{error}") };
    assert!(matches!(error.kind(), PoolErrorKind::ReplaceLimitReached { .. }), "{error}");
    assert!(soon(map.next()).await.is_none());
}

#[rpc_parallel::test]
async fn slow_item_at_the_end_is_given_to_another_worker_too() {
    let pool = pool_of(2).await;
    let map = pool.map(slow_in_one_worker::FUNCTION, 0..48).speculate(true);

    let began = Instant::now();
    let all: Vec<u64> = soon(map.collect()).await.expect("all succeed");

    assert!(all.into_iter().eq(0..48));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[rpc_parallel::test]
async fn map_loses_no_item_while_its_workers_are_recycled() {
    let pool = soon(Plain::pool().workers(2).recycle_after_items(500).spawn(())).await;
    let pool = pool.expect("the pool starts");
    let before = pids(&pool).await;

    let squares: Vec<u64> =
        soon(pool.map(brief_square::FUNCTION, 0..20_000).collect()).await.expect("all succeed");

    assert!(squares.into_iter().eq((0..20_000).map(|x| x * x)));
    for pid in before {
        assert!(ends(pid).await, "worker {pid} was not recycled");
    }
}

#[rpc_parallel::test]
async fn many_poisoned_items_do_not_reach_limit_of_replacements() {
    let pool = pool_of(2).await;
    let mut failed = 0;
    let map = pool.map(aborts_at_multiples_of_ten::FUNCTION, 1..=100).skip_errors(|_| failed += 1);

    let all: Vec<u64> = soon(map.collect()).await;

    assert!(all.into_iter().eq((1..=100).filter(|it| it % 10 != 0)));
    assert_eq!(failed, 10);
}

/// A pool may shrink between the start of a map and the first item of a worker.
#[rpc_parallel::test]
async fn worker_that_is_removed_while_map_begins_ends_before_map() {
    for _ in 0..20 {
        let pool = pool_of(2).await;
        let removed = pids(&pool).await[1];
        let mut map = pool.map(brief_square::FUNCTION, 0..);
        // The first poll starts the map.
        let _ = map.next().now_or_never();

        soon(pool.resize(1)).await.expect("it shrinks");

        let ended = tokio::spawn(ends(removed));
        while !ended.is_finished() {
            soon(map.next()).await.expect("the source is endless").expect("the item succeeds");
        }
        assert!(ended.await.expect("the check does not panic"), "worker {removed} still runs");
    }
}
