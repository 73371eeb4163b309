//! Counts the words of directories on all cores, with a worker process for each core.
//!
//! ```text
//! cargo run --release --example word_count -- [PATH..]
//! ```
//!
//! A file that cannot be counted is reported and left out. A worker whose process ends is replaced,
//! and the files of its unanswered calls are counted again: after a `kill -9` of a worker the
//! totals are the same.
//!
//! | module | content |
//! |---|---|
//! | `count` | the worker |
//! | `spread` | how the master distributes the files |
//! | `totals` | the sum of all answers |
//! | `report` | progress, messages and the result |

mod count;
mod spread;
mod totals;
mod report;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use clap::Parser;
use ignore::WalkBuilder;

use self::report::Report;

/// Counts the words of all text files below the given paths.
///
/// Hidden files and files that a `.gitignore` names are left out.
#[derive(Parser)]
struct Cli {
    /// Files and directories
    #[arg(value_name = "PATH", default_values_os_t = [repository()])]
    paths: Vec<PathBuf>,
    /// How many of the most frequent words to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// How many worker processes to start [default: the number of cores]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Print a line for each worker process
    #[arg(long)]
    verbose: bool,
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let Cli { paths, top, workers, verbose } = Cli::parse();
    if !paths.iter().any(|it| it.exists()) {
        paths.iter().for_each(|it| eprintln!("word_count: `{}` does not exist", it.display()));
        return Ok(ExitCode::from(2));
    }
    let workers = workers.map_or_else(available_parallelism, Ok)?;

    let mut walk = WalkBuilder::new(&paths[0]);
    for path in &paths[1..] {
        walk.add(path);
    }
    let mut report = Report::new(verbose);
    let totals = spread::count(walk.build(), workers.get(), &mut report).await?;
    report.finish(&totals, top, began.elapsed())?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the repository of this example, or the current directory if the repository is gone.
fn repository() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    if repository.is_dir() { repository.into() } else { ".".into() }
}
