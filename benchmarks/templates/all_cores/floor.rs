//! The sum of a million squares, on all cores, by hand: each process adds up its share.

use std::error::Error;
use std::process::{Command, Stdio};
use std::thread;

const COUNT: u64 = 1_000_000;

fn square(x: u64) -> u64 {
    x * x
}

fn main() -> Result<(), Box<dyn Error>> {
    let sum: u64 = match std::env::args().nth(1) {
        None => master()?,
        Some(share) => {
            let (start, end) = share.split_once(' ').ok_or("no end")?;
            let (start, end): (u64, u64) = (start.parse()?, end.parse()?);
            (start..end).map(square).sum()
        }
    };
    println!("{sum}");
    Ok(())
}

fn master() -> Result<u64, Box<dyn Error>> {
    let workers = thread::available_parallelism()?.get() as u64;
    let mut processes = Vec::new();
    for worker in 0..workers {
        let (start, end) = (
            COUNT * worker / workers,
            COUNT * (worker + 1) / workers,
        );
        processes.push(
            Command::new("/proc/self/exe")
                .arg(format!("{start} {end}"))
                .stdout(Stdio::piped())
                .spawn()?,
        );
    }
    let mut sum = 0;
    for process in processes {
        let output = process.wait_with_output()?;
        let share: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
        sum += share;
    }
    Ok(sum)
}
