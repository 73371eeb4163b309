//! Maps inside of process functions, and maps from a `main` that is not async.

use std::collections::HashSet;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::waiting::soon;

#[rpc_parallel::process]
fn square(x: u64) -> (u64, u32) {
    (x * x, std::process::id())
}

/// Sums squares by a map of its own. Returns the processes that took part, too.
#[rpc_parallel::process]
async fn sum_of_squares(limit: u64) -> Result<(u64, HashSet<u32>), AnyError> {
    let squares: Vec<(u64, u32)> = square::map(0..limit).collect().await?;
    let sum = squares.iter().map(|it| it.0).sum();
    Ok((sum, squares.into_iter().map(|it| it.1).collect()))
}

#[rpc_parallel::test]
async fn map_inside_of_map_starts_one_process_per_worker() {
    let outer = sum_of_squares::map(1..=40);

    let sums: Vec<(u64, HashSet<u32>)> = soon(outer.collect()).await.expect("all succeed");

    let mut processes = HashSet::new();
    for (limit, (sum, inner)) in (1_u64..).zip(sums) {
        assert_eq!(sum, (0..limit).map(|x| x * x).sum::<u64>());
        processes.extend(inner);
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(processes.len() <= workers, "{} processes for {workers} workers", processes.len());
}
