//! Maps over many items: sources, order, results, errors, windows and reductions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream;
use rpc_parallel::pool::{MapError, MapErrorKind, Pool};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::waiting::soon;

#[rpc_parallel::process]
fn square(x: u64) -> u64 {
    x * x
}

#[rpc_parallel::process]
fn shout(text: &str, times: usize) -> String {
    text.to_uppercase().repeat(times)
}

#[rpc_parallel::process]
async fn slow_square(x: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(20)).await;
    x * x
}

#[rpc_parallel::process]
fn half(x: u64) -> Result<u64, String> {
    if x.is_multiple_of(2) { Ok(x / 2) } else { Err(format!("{x} is odd")) }
}

#[rpc_parallel::process]
fn panics_at_seven(x: u64) -> u64 {
    assert_ne!(x, 7, "it is seven");
    x
}

#[rpc_parallel::process]
fn pid(_: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(2));
    std::process::id()
}

#[rpc_parallel::process]
fn only_large(x: u64) -> Option<u64> {
    (x > 5_000).then_some(x)
}

#[rpc_parallel::process]
fn as_list(x: u64) -> Vec<u64> {
    vec![x]
}

#[rpc_parallel::process]
fn concatenate(mut a: Vec<u64>, b: Vec<u64>) -> Vec<u64> {
    a.extend(b);
    a
}

#[rpc_parallel::process]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[rpc_parallel::process]
fn nothing(_: u64) {}

#[rpc_parallel::process]
fn length(bytes: Vec<u8>) -> usize {
    bytes.len()
}

/// A worker that adds to its inputs.
#[rpc_parallel::worker]
trait Offset {
    fn shifted(&self, x: u64) -> u64;
    async fn shifted_slowly(&self, x: u64) -> u64;
    fn sum(&self, a: u64, b: u64) -> u64;
}

struct By(u64);

impl WorkerState for By {
    type Init = u64;

    async fn init(by: u64) -> Result<Self, BoxError> {
        Ok(Self(by))
    }
}

#[rpc_parallel::worker]
impl Offset for By {
    fn shifted(&self, x: u64) -> u64 {
        x + self.0
    }

    async fn shifted_slowly(&self, x: u64) -> u64 {
        tokio::task::yield_now().await;
        x + self.0
    }

    fn sum(&self, a: u64, b: u64) -> u64 {
        a + b
    }
}

async fn pool_of_two() -> Pool<By> {
    let pool = By::pool().workers(2).spawn(1000);
    soon(pool).await.expect("the pool starts")
}

#[rpc_parallel::test]
async fn results_come_in_order_of_items() {
    let squares: Vec<u64> = soon(square::map(0..100_000).collect()).await.expect("all succeed");

    assert!(squares.into_iter().eq((0..100_000).map(|x| x * x)));
}

#[rpc_parallel::test]
async fn next_returns_each_result_and_then_none() {
    let mut map = square::map([3, 4]);

    let first = soon(map.next()).await.expect("there is one").expect("it succeeds");
    let second = soon(map.next()).await.expect("there is one").expect("it succeeds");

    assert_eq!((first, second), (9, 16));
    assert!(soon(map.next()).await.is_none());
    assert!(soon(map.next()).await.is_none());
}

#[rpc_parallel::test]
async fn collect_after_next_returns_the_other_results() {
    let mut map = square::map(0..100_000);

    let mut squares = Vec::new();
    while squares.len() < 50_001 {
        squares.push(soon(map.next()).await.expect("there are more").expect("it succeeds"));
    }
    let others: Vec<u64> = soon(map.collect()).await.expect("all succeed");

    squares.extend(others);
    assert!(squares.into_iter().eq((0..100_000).map(|x| x * x)));
}

#[rpc_parallel::test]
async fn empty_source_has_no_results() {
    let all: Vec<u64> =
        soon(square::map(std::iter::empty::<u64>()).collect()).await.expect("none fails");

    assert!(all.is_empty());
}

#[rpc_parallel::test]
async fn unordered_results_carry_index_of_their_item() {
    let map = square::map_unordered(10..5_010);
    let mut all: Vec<(u64, u64)> = soon(map.collect()).await.expect("all succeed");
    all.sort_unstable();

    assert!(all.into_iter().eq((0..5_000).map(|it| (it, (it + 10) * (it + 10)))));
}

#[rpc_parallel::test]
async fn several_arguments_are_a_tuple() {
    let words = [("a".to_owned(), 3), ("bc".to_owned(), 2)];

    let shouted: Vec<String> = soon(shout::map(words).collect()).await.expect("all succeed");

    assert_eq!(shouted, ["AAA", "BCBC"]);
}

#[rpc_parallel::test]
async fn stream_is_a_source() {
    let map = square::map(stream::iter(0..1_000));

    let sum: u64 = soon(map.sum()).await.expect("all succeed");

    assert_eq!(sum, (0..1_000).map(|x| x * x).sum());
}

#[rpc_parallel::test]
async fn source_error_ends_map_after_earlier_results() {
    let lines = ["1", "2", "x", "4"];
    let mut map = square::map(lines.into_iter().map(str::parse::<u64>));

    assert_eq!(soon(map.next()).await.expect("there is one").expect("it succeeds"), 1);
    assert_eq!(soon(map.next()).await.expect("there is one").expect("it succeeds"), 4);
    let error = soon(map.next()).await.expect("there is an error").expect_err("`x` is no number");

    assert!(matches!(error.kind(), MapErrorKind::Source(_)) && error.ends_map(), "{error}");
    assert_eq!(
        error.to_string(),
        "map of `square` failed: the source failed: invalid digit found in string"
    );
    assert!(soon(map.next()).await.is_none());
}

#[rpc_parallel::test]
async fn panic_of_source_ends_map() {
    let source = (0..10).inspect(|it| assert!(*it < 5, "the source breaks"));

    let error = soon(square::map(source).collect::<Vec<_>>()).await.expect_err("it panics");

    let MapErrorKind::SourcePanicked(panic) = error.kind() else { panic!("{error}") };
    assert_eq!(panic.message, "the source breaks");
}

#[rpc_parallel::test]
async fn async_items_run_at_once_up_to_concurrency() {
    let began = std::time::Instant::now();
    let map = slow_square::map(0..200).concurrency(100);

    let all: Vec<u64> = soon(map.collect()).await.expect("all succeed");

    assert!(all.into_iter().eq((0..200).map(|x| x * x)));
    // One after the other they take 4 s divided by the number of workers.
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    assert!(began.elapsed() < Duration::from_secs(4) / cores / 2, "{:?}", began.elapsed());
}

#[rpc_parallel::test]
async fn function_error_is_error_of_its_item() {
    let mut map = half::map([2, 3, 4]);

    let mut results = Vec::new();
    while let Some(result) = soon(map.next()).await {
        results.push(result);
    }

    let [Ok(1), Err(error), Ok(2)] = &results[..] else { panic!("{results:?}") };
    let MapErrorKind::Function(text) = error.kind() else { panic!("{error}") };
    assert_eq!((error.index(), text.as_str()), (Some(1), "3 is odd"));
    assert_eq!(error.to_string(), "item 1 of `half`: 3 is odd");
}

#[rpc_parallel::test]
async fn collect_stops_at_first_error() {
    let error = soon(half::map(2..).collect::<Vec<_>>()).await.expect_err("3 is odd");

    assert_eq!(error.index(), Some(1));
}

#[rpc_parallel::test]
async fn skip_errors_reports_them_and_goes_on() {
    let mut failed = Vec::new();
    let map = half::map(0..100).skip_errors(|error| failed.push(error.index()));

    let halves: Vec<u64> = soon(map.collect()).await;

    assert!(halves.into_iter().eq(0..50));
    assert!(failed.into_iter().eq((0..50).map(|it| Some(2 * it + 1))));
}

#[rpc_parallel::test]
async fn panic_is_error_of_its_item() {
    let mut failed = Vec::new();
    let map = panics_at_seven::map(0..1_000).skip_errors(|error| failed.push(error));

    let all: Vec<u64> = soon(map.collect()).await;

    assert!(all.into_iter().eq((0..1_000).filter(|it| *it != 7)));
    let [error] = &failed[..] else { panic!("{failed:?}") };
    let MapErrorKind::Panicked(panic) = error.kind() else { panic!("{error}") };
    assert!(panic.message.contains("it is seven"), "{panic}");
    assert_eq!(error.index(), Some(7));
}

#[rpc_parallel::test]
async fn all_workers_take_part() {
    let pool = soon(By::pool().workers(3).spawn(0)).await.expect("the pool starts");

    let mut pids: Vec<u32> =
        soon(pool.map(pid::FUNCTION, 0..300).collect()).await.expect("all succeed");

    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 3);
}

#[rpc_parallel::test]
async fn function_constant_runs_on_state_of_workers() {
    let pool = pool_of_two().await;

    let plain: Vec<u64> =
        soon(pool.map(OffsetClient::SHIFTED, 0..5_000).collect()).await.expect("all succeed");
    let slow: Vec<u64> =
        soon(pool.map(OffsetClient::SHIFTED_SLOWLY, 0..500).collect()).await.expect("all succeed");

    assert!(plain.into_iter().eq(1_000..6_000));
    assert!(slow.into_iter().eq(1_000..1_500));
}

#[rpc_parallel::test]
async fn endless_source_is_pulled_within_window() {
    const WINDOW: u64 = 500;
    let pulled = Arc::new(AtomicU64::new(0));
    let counter = pulled.clone();
    let source = (0..).inspect(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let mut map = square::map(source).window(WINDOW as usize);

    for yielded in 0..20_000_u64 {
        let square = soon(map.next()).await.expect("it is endless").expect("it succeeds");
        assert_eq!(square, yielded * yielded);
        let ahead = pulled.load(Ordering::Relaxed) - yielded;
        // The results of the last piece count as unconsumed until the next piece is read.
        assert!(ahead <= WINDOW + 1, "{ahead} items are pulled and not yielded");
    }
}

#[rpc_parallel::test]
async fn find_map_returns_a_match_or_none() {
    let found = soon(only_large::find_map(0..)).await.expect("no item fails");
    assert!(found.is_some_and(|it| it > 5_000));

    let found = soon(only_large::find_map(0..5_000)).await.expect("no item fails");
    assert_eq!(found, None);

    let found = soon(only_large::find_map(std::iter::empty::<u64>())).await.expect("no item fails");
    assert_eq!(found, None);
}

#[rpc_parallel::test]
async fn for_each_returns_number_of_items() {
    assert_eq!(soon(nothing::for_each(0..1_234)).await.expect("none fails"), 1_234);
}

#[rpc_parallel::test]
async fn reduction_keeps_order_of_items() {
    let reduction = as_list::map_reduce(concatenate::FUNCTION, 0..3_000);

    let all = soon(reduction.into_future()).await.expect("all succeed").expect("there are items");

    assert!(all.into_iter().eq(0..3_000));
}

#[rpc_parallel::test]
async fn commutative_reduction_combines_all_items() {
    let reduction = square::map_reduce_commutative(add::FUNCTION, 0..100_000);

    let sum = soon(reduction.into_future()).await.expect("all succeed");

    assert_eq!(sum, Some((0..100_000_u64).map(|x| x * x).sum()));
}

#[rpc_parallel::test]
async fn reduction_of_nothing_is_none_and_of_one_item_its_value() {
    let none =
        soon(square::map_reduce(add::FUNCTION, std::iter::empty::<u64>()).into_future()).await;
    let one = soon(square::map_reduce(add::FUNCTION, [7]).into_future()).await;

    assert_eq!(none.expect("nothing fails"), None);
    assert_eq!(one.expect("it succeeds"), Some(49));
}

#[rpc_parallel::test]
async fn reduction_runs_functions_of_worker_trait() {
    let pool = pool_of_two().await;
    let reduction = pool.map_reduce(OffsetClient::SHIFTED, OffsetClient::SUM, 0..1_000);

    let sum = soon(reduction.into_future()).await.expect("all succeed");

    assert_eq!(sum, Some((1_000..2_000).sum()));
}

#[rpc_parallel::test]
async fn reduction_fails_with_error_of_item() {
    let reduction = panics_at_seven::map_reduce(add::FUNCTION, 0..100);

    let error: MapError = soon(reduction.into_future()).await.expect_err("item 7 panics");

    assert_eq!(error.index(), Some(7));
    assert!(matches!(error.kind(), MapErrorKind::Panicked(_)), "{error}");
}

#[rpc_parallel::test]
async fn item_beyond_message_size_is_error_of_its_item() {
    let max = Settings::default().max_message_size();
    let items = [1, max + 1, 2].map(|len| vec![0; len]);
    let mut failed = Vec::new();
    let map = length::map(items).skip_errors(|error| failed.push(error));

    let lengths: Vec<usize> = soon(map.collect()).await;

    assert_eq!(lengths, [1, 2]);
    let [error] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(error.index(), Some(1));
    assert!(error.to_string().contains("the item cannot be sent: "), "{error}");
    assert!(error.to_string().contains("exceeds the limit"), "{error}");
}

#[rpc_parallel::test]
async fn large_items_and_results_travel() {
    let items = (0..20_u8).map(|it| vec![it; 1 << 20]);
    let pool = soon(By::pool().workers(2).spawn(0)).await.expect("the pool starts");

    let lengths: Vec<usize> =
        soon(pool.map(length::FUNCTION, items).collect()).await.expect("all succeed");

    assert_eq!(lengths, vec![1 << 20; 20]);
}

#[rpc_parallel::test]
async fn two_maps_share_a_pool() {
    let pool = pool_of_two().await;
    let first = pool.map(square::FUNCTION, 0..20_000).collect::<Vec<u64>>();
    let second = pool.map(OffsetClient::SHIFTED, 0..20_000).collect::<Vec<u64>>();

    let (first, second) = soon(async { tokio::join!(first, second) }).await;

    assert!(first.expect("all succeed").into_iter().eq((0..20_000).map(|x| x * x)));
    assert!(second.expect("all succeed").into_iter().eq(1_000..21_000));
}

#[rpc_parallel::test]
async fn calls_are_answered_between_items() {
    let pool = soon(By::pool().workers(1).spawn(5)).await.expect("the pool starts");
    let client = soon(pool.worker(0)).await.expect("it runs");
    let mut map = pool.map(pid::FUNCTION, 0..);
    soon(map.next()).await.expect("it is endless").expect("it succeeds");

    assert_eq!(soon(client.shifted(1)).await.expect("it is answered"), 6);
}
