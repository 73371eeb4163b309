//! Counts the words of directories on all cores.
//!
//! ```text
//! cargo run --release --example word_count --features progress -- [PATH..]
//! ```
//!
//! A file that cannot be counted is reported and left out. A worker process that ends is replaced,
//! and the files without a result are counted again: after a `kill -9` of a worker, the totals are
//! the same. Without the feature there is no progress bar.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use ignore::WalkBuilder;
use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

/// The number of files that are named if they are left out. Of the others only the number is printed.
const NAMED: usize = 10;

/// The words of a file.
#[derive(Default, Serialize, Deserialize)]
struct Counted {
    bytes: u64,
    /// All words, each once, with a space behind each. This is faster to decode than a map.
    words: String,
    /// The count of each word, in the same order.
    counts: Vec<u64>,
}

/// Counts the words of a text file. A word is a run of alphanumeric characters; `The` is `the`.
// The path is an `OsString`, because serde encodes a `PathBuf` as UTF-8 text.
#[rpc_parallel::process]
fn count(file: OsString) -> Result<Counted, AnyError> {
    let mut text = fs::read_to_string(file)?;
    text.make_ascii_lowercase();
    let mut words = HashMap::<_, u64>::with_capacity(text.len() / 32);
    for word in text.split(|it: char| !it.is_alphanumeric()).filter(|it| !it.is_empty()) {
        *words.entry(word).or_default() += 1;
    }
    let mut counted = Counted { bytes: text.len() as u64, ..Counted::default() };
    for (word, count) in words {
        counted.words.extend([word, " "]);
        counted.counts.push(count);
    }
    Ok(counted)
}

/// Counts the words of all text files below the given paths.
///
/// Hidden files and files that a `.gitignore` names are left out.
#[derive(Parser)]
struct Cli {
    /// Files and directories
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// How many of the most frequent words to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// How many worker processes to start [default: the number of cores]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let began = Instant::now();
    let Cli { paths, top, workers } = Cli::parse();
    rpc_parallel::pool::configure(|pool| {
        let pool = pool.on_failure(|failure| eprintln!("word_count: {failure}"));
        if let Some(workers) = workers { pool.workers(workers) } else { pool }
    })?;

    let (files, mut left_out) = find(&paths);
    let mut map = count::map_unordered(files.clone().into_iter().map(PathBuf::into_os_string));
    let monitor = map.monitor();
    #[cfg(feature = "progress")]
    let mut map = map.progress_bar();

    let (mut totals, mut bytes, mut counted) = (HashMap::<String, u64>::new(), 0, 0);
    while let Some(result) = map.next().await {
        match result {
            Ok((_, file)) => {
                counted += 1;
                bytes += file.bytes;
                for (word, count) in file.words.split_terminator(' ').zip(file.counts) {
                    match totals.get_mut(word) {
                        Some(total) => *total += count,
                        None => drop(totals.insert(word.to_owned(), count)),
                    }
                }
            }
            Err(error) => {
                // Without an index, the error is that of the whole map.
                let Some(index) = error.index() else { return Err(error.into()) };
                left_out.push(format!("{}: {error}", files[index as usize].display()));
            }
        }
    }

    left_out.iter().take(NAMED).for_each(|it| eprintln!("word_count: left out: {it}"));
    for (word, count) in most_frequent(&totals, top) {
        println!("{count:>14}  {word}");
    }
    let (words, left_out, time) = (totals.values().sum::<u64>(), left_out.len(), began.elapsed());
    println!("\n{words} words, {bytes} bytes, {counted} files, {left_out} left out, {time:.2?}");
    if let Some(verdict) = monitor.verdict() {
        println!("{verdict}");
        for (index, worker) in verdict.workers.iter().enumerate() {
            println!("worker {index}: {} files, busy for {:.2?}", worker.items, worker.busy);
        }
    }
    Ok(())
}

/// Returns all files below the paths, and why others cannot be read.
fn find(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<String>) {
    let (mut files, mut left_out) = (Vec::new(), Vec::new());
    for entry in paths.iter().flat_map(|it| WalkBuilder::new(it).build()) {
        match entry.and_then(|it| Ok((it.metadata()?, it.into_path()))) {
            Ok((metadata, path)) if metadata.is_file() => files.push((metadata.len(), path)),
            Ok(_) => {}
            Err(error) => left_out.push(error.to_string()),
        }
    }
    // The largest are the first, so that no worker is left with a large one at the end.
    files.sort_by_key(|(bytes, _)| Reverse(*bytes));
    (files.into_iter().map(|(_, path)| path).collect(), left_out)
}

/// Returns the most frequent words with their counts, equal counts in alphabetical order.
fn most_frequent(totals: &HashMap<String, u64>, count: usize) -> Vec<(&str, u64)> {
    let mut words: Vec<_> = totals.iter().map(|(word, count)| (&**word, *count)).collect();
    let order = |a: &(&str, u64), b: &(&str, u64)| (b.1, a.0).cmp(&(a.1, b.0));
    if count < words.len() {
        words.select_nth_unstable_by(count, order);
        words.truncate(count);
    }
    words.sort_unstable_by(order);
    words
}
