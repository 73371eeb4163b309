//! All cores in ten lines: a function, and a map of it over many inputs.
//!
//! This is `add_numbers` of Jane Street's rpc_parallel, which counts in workers how large a sum is.

/// Adds the numbers from 0 to `max` the slow way.
#[rpc_parallel::process]
fn sum_below(max: u64) -> u64 {
    (0..max).fold(0, |sum, number| std::hint::black_box(sum + number))
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let mut map = sum_below::map((1..=2_000).map(|it| it * 50));
    let monitor = map.monitor();

    let sums: Vec<u64> = map.collect().await?;

    assert_eq!(sums[1], 4_950, "the sum of the numbers below 100");
    println!("{} sums, the largest is {}", sums.len(), sums[sums.len() - 1]);
    // How busy each worker was, and what it waited for.
    if let Some(verdict) = monitor.verdict() {
        println!("{verdict}");
    }
    Ok(())
}
