//! The output of workers: shown line by line with their names, or read by the program.

use rpc_parallel::prelude::*;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

/// Stands for a library that prints its results.
#[rpc_parallel::worker]
pub trait Factoring {
    /// Prints the prime factors of each number of a range.
    fn factor(&self, from: u64, to: u64);
}

#[derive(Default, WorkerState)]
struct Printer;

#[rpc_parallel::worker]
impl Factoring for Printer {
    fn factor(&self, from: u64, to: u64) {
        for number in from..to {
            let factors: Vec<_> = factors(number).iter().map(u64::to_string).collect();
            println!("{number} = {}", factors.join(" * "));
        }
        eprintln!("factored {} numbers", to - from);
    }
}

fn factors(mut number: u64) -> Vec<u64> {
    let mut factors = Vec::new();
    let mut factor = 2;
    while factor * factor <= number {
        while number.is_multiple_of(factor) {
            factors.push(factor);
            number /= factor;
        }
        factor += 1;
    }
    if number > 1 {
        factors.push(number);
    }
    factors
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    // Two workers whose lines are shown, as in `[low] 10 = 2 * 5`. Lines never mix.
    let shown = Printer::spawner().stdout(Redirect::prefixed()).stderr(Redirect::prefixed());
    let low = shown.clone().name("low").spawn(()).await?;
    let high = shown.name("high").spawn(()).await?;
    // A worker whose lines the program reads.
    let (stdout, lines) = Redirect::piped()?;
    let read = Printer::spawner().name("read").stdout(stdout).stderr(Redirect::null());
    let read = read.spawn(()).await?;

    let primes = tokio::spawn(primes(lines));
    let calls = [low.factor(10, 15), high.factor(1_000_000, 1_000_005), read.factor(2, 1000)];
    for call in calls.map(tokio::spawn) {
        call.await??;
    }
    // The pipe ends when the worker that writes to it ends.
    drop(read);

    let primes = primes.await??;
    println!("found {primes} primes below 1000");
    assert_eq!(primes, 168);
    Ok(())
}

/// Counts the lines that show a single factor.
async fn primes(lines: Receiver) -> anyhow::Result<usize> {
    let (mut primes, mut lines) = (0, BufReader::new(lines).lines());
    while let Some(line) = lines.next_line().await? {
        primes += usize::from(!line.contains('*'));
    }
    Ok(primes)
}
