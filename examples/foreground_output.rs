//! What workers print: shown line by line with their names, or piped into this program.

use rpc_parallel::prelude::*;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

/// Something old that prints its results, and knows no other way to return them.
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
        eprintln!("{} numbers are done", to - from);
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
    // Two whose lines people see: `[low] 10 = 2 * 5`, and never one inside of another.
    let shown = Printer::spawner().stdout(Redirect::prefixed()).stderr(Redirect::prefixed());
    let low = shown.clone().name("low").spawn(()).await?;
    let high = shown.name("high").spawn(()).await?;
    // And one whose lines this program reads.
    let (stdout, lines) = Redirect::piped()?;
    let read = Printer::spawner().name("read").stdout(stdout).stderr(Redirect::null());
    let read = read.spawn(()).await?;

    let primes = tokio::spawn(primes(lines));
    let calls = [low.factor(10, 15), high.factor(1_000_000, 1_000_005), read.factor(2, 1000)];
    for call in calls.map(tokio::spawn) {
        call.await??;
    }
    // The pipe ends with the worker that writes to it.
    drop(read);

    let primes = primes.await??;
    println!("{primes} primes below 1000");
    assert_eq!(primes, 168);
    Ok(())
}

/// Counts the lines of numbers with one factor, as they come.
async fn primes(lines: Receiver) -> anyhow::Result<usize> {
    let (mut primes, mut lines) = (0, BufReader::new(lines).lines());
    while let Some(line) = lines.next_line().await? {
        primes += usize::from(!line.contains('*'));
    }
    Ok(primes)
}
