//! Runs a pure Python function on many inputs: on one thread, on a thread for each core, and in a
//! worker process for each core.
//!
//! ```text
//! cargo run --release --features python --bin python_workers -- [PAIRS]
//! ```
//!
//! A thread that runs Python code holds the lock of its interpreter, so threads of one process run
//! it one at a time. Each worker process has its own interpreter and its own lock.

mod python;
mod pairs;
mod threads;

use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rpc_parallel::prelude::*;

/// The number of pairs of texts. Default: 400.
const PAIRS: NonZeroUsize = NonZeroUsize::new(400).expect("400 is not 0");

/// Returns the similarity of two texts, from 0 to 1.
#[rpc_parallel::process]
fn similarity(a: &str, b: &str) -> Result<f64, AnyError> {
    Ok(python::similarity(a, b)?)
}

#[rpc_parallel::entry]
fn main() -> anyhow::Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(PAIRS), |it| it.parse())?;
    let pairs = pairs::pairs(count.get());
    let cores = available_parallelism()?.get();
    // Starts the interpreter of this process. The times of its threads do not include the start.
    python::similarity("", "")?;

    let (expected, one_thread) = timed(|| Ok(threads::similarities(&pairs, 1)?))?;
    let (from_threads, shared_lock) = timed(|| Ok(threads::similarities(&pairs, cores)?))?;
    let mut verdict = None;
    let (from_workers, workers) = timed(|| {
        let mut map = similarity::map(pairs.clone());
        let monitor = map.monitor();
        let similarities: Vec<f64> = map.collect().wait()?;
        verdict = monitor.verdict();
        Ok(similarities)
    })?;

    println!("similarity of {count} pairs of texts by Python code, {cores} cores");
    let print = |what: &str, time: Duration| {
        let ratio = one_thread.as_secs_f64() / time.as_secs_f64();
        println!("{what:<42} {:6.2} s, {ratio:.2} times as fast", time.as_secs_f64());
    };
    print("one thread", one_thread);
    print("threads that share an interpreter lock", shared_lock);
    print("worker processes, with their start", workers);
    if let Some(verdict) = verdict {
        println!("{verdict}");
        for (number, worker) in verdict.workers.iter().enumerate() {
            println!(
                "worker {number}: {} pairs in {:.2} s",
                worker.items,
                worker.busy.as_secs_f64()
            );
        }
    }
    ensure!(from_threads == expected, "the threads computed other similarities");
    ensure!(from_workers == expected, "the workers computed other similarities");
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Duration)> {
    let began = Instant::now();
    Ok((work()?, began.elapsed()))
}
