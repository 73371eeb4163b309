//! Workers that share a table of 200 MB, which is built once: they are forked from a snapshot of the
//! program instead of executed.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rpc_parallel::Spawner;
use rpc_parallel::launch::{SealedSlice, Snapshot};
use rpc_parallel::prelude::*;

const LEN: usize = 25_000_000;
const WORKERS: u32 = 20;

static SQUARES: OnceLock<SealedSlice<u64>> = OnceLock::new();

/// Builds the table. Workers of the snapshot find it; a worker that is executed builds its own.
fn build() -> Result<(), BoxError> {
    let mut squares = SealedSlice::builder(LEN)?;
    for (number, square) in (0..).zip(squares.iter_mut()) {
        *square = number * number;
    }
    SQUARES.set(squares.seal()?).map_err(|_| "the table was built before".into())
}

#[rpc_parallel::worker]
trait Lookup {
    async fn square(&self, number: usize) -> u64;
    /// Returns the exclusive or of all squares.
    async fn checksum(&self) -> u64;
    /// Returns the memory that this process shares with no other one, in MiB.
    async fn private_memory(&self) -> Result<u64, AnyError>;
}

struct Squares;

impl WorkerState for Squares {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        if SQUARES.get().is_none() {
            build()?;
        }
        Ok(Self)
    }
}

#[rpc_parallel::worker]
impl Lookup for Squares {
    async fn square(&self, number: usize) -> u64 {
        SQUARES.get().expect("`init` has built it")[number]
    }

    async fn checksum(&self) -> u64 {
        SQUARES.get().expect("`init` has built it").iter().fold(0, |sum, it| sum ^ it)
    }

    async fn private_memory(&self) -> Result<u64, AnyError> {
        let memory = fs::read_to_string("/proc/self/smaps_rollup")?;
        let fields = memory.lines().filter(|it| it.starts_with("Private_"));
        let sizes = fields.filter_map(|it| it.split_whitespace().nth(1)?.parse::<u64>().ok());
        Ok(sizes.sum::<u64>() / 1024)
    }
}

/// Returns the mean time from the start of a worker to its answer, and its private memory in MiB.
async fn measure(
    spawner: impl Fn() -> Spawner<Squares>,
    workers: u32,
) -> Result<(Duration, u64), AnyError> {
    let began = Instant::now();
    let mut running = Vec::new();
    for _ in 0..workers {
        let squares = spawner().spawn(()).await?;
        assert_eq!(squares.square(12_345).await?, 152_399_025);
        running.push(squares);
    }
    let time = began.elapsed() / workers;
    // The kernel counts memory for a process when it has read it.
    for squares in running.iter().take(2) {
        squares.checksum().await?;
    }
    Ok((time, running[0].private_memory().await?))
}

#[rpc_parallel::entry(snapshot = build)]
async fn main() -> Result<(), AnyError> {
    let snapshot = Snapshot::of_entry()?;

    let forked = measure(|| Squares::spawner().launcher(snapshot.clone()), WORKERS).await?;
    let executed = measure(Squares::spawner, 1).await?;

    for (how, (time, memory)) in [("snapshot", forked), ("exec", executed)] {
        println!("{how:>8}: {time:>8.1?} to the first answer, {memory:>4} MiB of private memory");
    }
    Ok(())
}
