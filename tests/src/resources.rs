//! The numbers of descriptors, threads and children of a program, to detect leaks.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::process::{TEST_TIMEOUT, children, descriptors_and_threads};

/// The time between two counts.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Longer than the resources of an ended worker are kept.
const QUIET: Duration = Duration::from_millis(1500);

/// The numbers of descriptors, threads and children of this process.
pub type Counts = (usize, usize, usize);

/// Counts the descriptors, threads and children of this process.
///
/// # Errors
///
/// Returns an error if `/proc` is not mounted.
pub fn count() -> io::Result<Counts> {
    let (descriptors, threads) = descriptors_and_threads()?;
    Ok((descriptors, threads, children()?.len()))
}

/// Waits until the counts are stable, and returns them.
///
/// # Errors
///
/// Returns an error if `/proc` is not mounted.
pub async fn stable_count() -> io::Result<Counts> {
    let began = Instant::now();
    let (mut counts, mut since) = (count()?, began);
    while since.elapsed() <= QUIET && began.elapsed() <= TEST_TIMEOUT / 2 {
        sleep(POLL_INTERVAL).await;
        let next = count()?;
        if next != counts {
            (counts, since) = (next, Instant::now());
        }
    }
    Ok(counts)
}

/// Waits until the counts have the wanted values, and returns the last counts.
///
/// # Errors
///
/// Returns an error if `/proc` is not mounted.
pub async fn count_after_release(wanted: Counts) -> io::Result<Counts> {
    let began = Instant::now();
    let mut counts = count()?;
    while counts != wanted && began.elapsed() <= TEST_TIMEOUT / 2 {
        sleep(POLL_INTERVAL).await;
        counts = count()?;
    }
    Ok(counts)
}
