//! A master that starts workers at a resource limit: `exhausted descriptors` or `processes`.
//!
//! It prints the result of each start, and the numbers of descriptors, threads and children before
//! and after.

use std::fs::{self, File};
use std::io;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::resources::{count, count_after_release};
use rpc_parallel_tests::script::Script;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The number of starts, and of the descriptors that are left for the last one.
const DESCRIPTORS: u64 = 30;

/// A number far above those of the other descriptors.
const HIGH: i32 = 60;

/// Starts a worker, and releases what occupies the limit.
async fn start_under_limit<T>(occupying: T) -> anyhow::Result<()> {
    let spawned = Fixture::spawn(Script::default()).await;
    drop(occupying);
    match spawned {
        Ok(worker) => match worker.pid().await {
            Ok(_) => println!("running"),
            Err(error) => println!("{error}"),
        },
        Err(error) => println!("{error}"),
    }
    Ok(())
}

/// Opens files until no descriptor is left, and closes as many as shall be left.
fn occupy_all_but(left: usize) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    let error = loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => break error,
        }
    };
    files.truncate(files.len().saturating_sub(left));
    if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) { Ok(files) } else { Err(error) }
}

/// Starts workers with 0 descriptors, with 1, and so on.
async fn start_with_few_descriptors() -> anyhow::Result<()> {
    // The limit is one of numbers. A program may inherit a descriptor with a high one, from a shell for
    // example.
    let _high = fcntl_dupfd_cloexec(File::open("/dev/null")?, HIGH)?;
    let numbers = fs::read_dir("/proc/self/fd")?
        .map(|it| Ok(it?.file_name().to_string_lossy().parse()?))
        .collect::<anyhow::Result<Vec<u64>>>()?;
    let limit = numbers.into_iter().max().map(|it| it + DESCRIPTORS);
    // With a higher hard limit, the starts of workers raise the soft one.
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?;
    for left in 0..usize::try_from(DESCRIPTORS)? {
        start_under_limit(occupy_all_but(left)?).await?;
    }
    Ok(())
}

/// Resets a limit when it is dropped.
struct Lowered(Resource, Rlimit);

impl Drop for Lowered {
    fn drop(&mut self) {
        let _ = setrlimit(self.0, self.1);
    }
}

async fn start_without_processes() -> anyhow::Result<()> {
    let lowered = Lowered(Resource::Nproc, getrlimit(Resource::Nproc));
    setrlimit(Resource::Nproc, Rlimit { current: Some(1), ..lowered.1 })?;
    start_under_limit(lowered).await
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let earlier = Fixture::spawn(Script::default()).await?;
    // The first start allocates resources that the master keeps.
    earlier.pid().await?;
    let before = count()?;

    match args.get(1).map(String::as_str) {
        Some("descriptors") => start_with_few_descriptors().await?,
        Some("processes") => start_without_processes().await?,
        _ => anyhow::bail!("usage: exhausted descriptors|processes"),
    }

    earlier.pid().await?;
    Fixture::spawn(Script::default()).await?.pid().await?;
    println!("{before:?}");
    println!("{:?}", count_after_release(before).await?);
    Ok(())
}
