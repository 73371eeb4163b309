//! A reduction: workers make random numbers and compute their moments, which are then combined.
//!
//! This is `number_stats` of Jane Street's rpc_parallel.

use serde::{Deserialize, Serialize};

/// The count, mean and spread of numbers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Stats {
    count: u64,
    mean: f64,
    /// The sum of the squared distances from the mean.
    squares: f64,
    min: f64,
    max: f64,
}

/// Computes the stats of a block of pseudo-random numbers between 0 and 1.
#[rpc_parallel::process]
fn block(seed: u64) -> Stats {
    const LEN: u64 = 10_000;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut stats = Stats { count: 0, mean: 0.0, squares: 0.0, min: 1.0, max: 0.0 };
    for _ in 0..LEN {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let number =
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64;
        stats.count += 1;
        let distance = number - stats.mean;
        stats.mean += distance / stats.count as f64;
        stats.squares += distance * (number - stats.mean);
        stats.min = stats.min.min(number);
        stats.max = stats.max.max(number);
    }
    stats
}

/// Combines the stats of two sets of numbers.
#[rpc_parallel::process]
fn combine(a: Stats, b: Stats) -> Stats {
    let (n, m, distance) = (a.count as f64, b.count as f64, b.mean - a.mean);
    Stats {
        count: a.count + b.count,
        mean: a.mean + distance * m / (n + m),
        squares: a.squares + b.squares + distance * distance * n * m / (n + m),
        min: a.min.min(b.min),
        max: a.max.max(b.max),
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let mut reduction = block::map_reduce_commutative(combine::FUNCTION, 1..=2_000);
    let monitor = reduction.monitor();

    let stats = reduction.await?.expect("there are blocks");

    println!("{} numbers from {:.6} to {:.6}", stats.count, stats.min, stats.max);
    println!("mean {:.4}, expected 0.5", stats.mean);
    println!("variance {:.4}, expected 0.0833", stats.squares / stats.count as f64);
    if let Some(verdict) = monitor.verdict() {
        println!("{verdict}");
    }
    Ok(())
}
