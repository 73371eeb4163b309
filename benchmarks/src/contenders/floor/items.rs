//! Two processes that each run half of the items, as the floor of maps. The items do not travel.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::cancellation_probe::monotonic_nanoseconds;
use crate::item_runner::{ItemRunner, WORKERS};
use crate::items::{self, Items};
use crate::role::Role;
use crate::worker_process::{self, WorkerProcess};

const NUMBER: usize = size_of::<u64>();
/// The rounds of a short item, the number of short items, and the same of long items.
const REQUEST: usize = 4 * NUMBER;

pub(crate) struct FloorRunner {
    workers: Vec<(UnixStream, WorkerProcess)>,
}

impl ItemRunner for FloorRunner {
    type Mode = ();

    fn start((): ()) -> anyhow::Result<Self> {
        let workers = (0..WORKERS).map(|_| worker_process::start(Role::Items));
        Ok(Self { workers: workers.collect::<anyhow::Result<_>>()? })
    }

    fn run(&mut self, items: Items) -> anyhow::Result<Duration> {
        let groups = items.rounds_and_counts();
        let mut expected = 0_u64;
        for (rounds, count) in groups {
            expected = expected.wrapping_add(items::compute(rounds).wrapping_mul(count));
        }
        let shares = (0..).take(self.workers.len()).map(|worker| {
            groups.map(|(rounds, count)| (rounds, share(count, worker, WORKERS as u64)))
        });

        let begin = Instant::now();
        for ((socket, _), share) in self.workers.iter_mut().zip(shares) {
            socket.write_all(&request(share))?;
        }
        let mut sum = 0_u64;
        for (socket, _) in &mut self.workers {
            sum = sum.wrapping_add(receive_number(socket)?);
        }
        let elapsed = begin.elapsed();
        ensure!(sum == expected, "expected the sum {expected} of the results, found {sum}");
        Ok(elapsed)
    }

    fn stop(self) -> anyhow::Result<()> {
        for (socket, process) in self.workers {
            drop(socket);
            process.wait()?;
        }
        Ok(())
    }
}

/// Returns the part of `count` items that a worker runs.
fn share(count: u64, worker: u64, workers: u64) -> u64 {
    count * (worker + 1) / workers - count * worker / workers
}

fn request(groups: [(u32, u64); 2]) -> [u8; REQUEST] {
    let [(short, short_count), (long, long_count)] = groups;
    let mut request = [0; REQUEST];
    let numbers = [u64::from(short), short_count, u64::from(long), long_count];
    for (slot, number) in request.chunks_exact_mut(NUMBER).zip(numbers) {
        slot.copy_from_slice(&number.to_le_bytes());
    }
    request
}

fn receive_number(socket: &mut UnixStream) -> anyhow::Result<u64> {
    let mut number = [0; NUMBER];
    socket.read_exact(&mut number).context("the floor's worker has exited")?;
    Ok(u64::from_le_bytes(number))
}

/// Runs as the worker: answers each request with the sum of the results.
pub(crate) fn serve(mut socket: UnixStream) -> anyhow::Result<()> {
    let mut request = [0; REQUEST];
    loop {
        match socket.read_exact(&mut request) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            outcome => outcome?,
        }
        let mut sum = 0_u64;
        for group in request.chunks_exact(2 * NUMBER) {
            let (rounds, count) = group.split_at(NUMBER);
            let rounds = u32::try_from(u64::from_le_bytes(rounds.try_into()?))?;
            for _ in 0..u64::from_le_bytes(count.try_into()?) {
                sum = sum.wrapping_add(items::compute(rounds));
            }
        }
        socket.write_all(&sum.to_le_bytes())?;
    }
}

/// Returns the time from the completion of one result in a process until this process has it, in
/// nanoseconds.
pub(crate) fn delay_of_result() -> anyhow::Result<u64> {
    let (mut socket, process) = worker_process::start(Role::CompletionTime)?;
    let completed = receive_number(&mut socket)?;
    let delay = monotonic_nanoseconds().saturating_sub(completed);
    process.wait()?;
    Ok(delay)
}

/// Runs as the worker: sends the time.
pub(crate) fn send_completion_time(mut socket: UnixStream) -> anyhow::Result<()> {
    // Both processes are idle before.
    thread::sleep(Duration::from_millis(20));
    Ok(socket.write_all(&monotonic_nanoseconds().to_le_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_all_items() {
        let shares: Vec<_> = (0..3).map(|it| share(11, it, 3)).collect();

        assert_eq!(shares, [3, 4, 4]);
    }
}
