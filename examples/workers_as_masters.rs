//! Workers that start workers: each worker sorts its numbers with two workers of its own, three
//! levels deep, in 15 processes.
//!
//! Each process ends with its master, so the whole tree ends with its root.

use rpc_parallel::prelude::*;
use tokio::try_join;

/// Functions that sort.
#[rpc_parallel::worker]
pub trait Sorts {
    /// Sorts numbers with `generations` levels of workers below this one. Returns the numbers, and
    /// how many processes took part.
    async fn sort(
        &self,
        numbers: Vec<u32>,
        generations: u32,
    ) -> Result<(Vec<u32>, usize), AnyError>;
}

#[derive(Default, WorkerState)]
struct Sorter;

#[rpc_parallel::worker]
impl Sorts for Sorter {
    async fn sort(
        &self,
        mut numbers: Vec<u32>,
        generations: u32,
    ) -> Result<(Vec<u32>, usize), AnyError> {
        let Some(generations) = generations.checked_sub(1) else {
            numbers.sort_unstable();
            return Ok((numbers, 1));
        };
        let others = numbers.split_off(numbers.len() / 2);
        let (left, right) = try_join!(Sorter::spawn(()), Sorter::spawn(()))?;
        let (left, right) =
            try_join!(left.sort(numbers, generations), right.sort(others, generations))?;
        Ok((merge(left.0, right.0), 1 + left.1 + right.1))
        // Both clients are dropped here, which ends both workers.
    }
}

/// Merges two sorted lists.
fn merge(left: Vec<u32>, right: Vec<u32>) -> Vec<u32> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let mut right = right.into_iter().peekable();
    for number in left {
        merged.extend(std::iter::from_fn(|| right.next_if(|it| *it < number)));
        merged.push(number);
    }
    merged.extend(right);
    merged
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    // Each number once, not sorted: the multiplier and the modulus have no common factor.
    let numbers: Vec<u32> = (0..100_000).map(|it| it * 7919 % 100_000).collect();

    let root = Sorter::spawn(()).await?;
    let (sorted, processes) = root.sort(numbers, 3).await?;

    println!("sorted {} numbers in {processes} processes", sorted.len());
    assert!(sorted.into_iter().eq(0..100_000));
    assert_eq!(processes, 15);
    Ok(())
}
