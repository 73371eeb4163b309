//! A search on all cores: prints the first line that contains a word.
//!
//! ```text
//! cargo run --example grep -- WORD [DIRECTORY]
//! ```
//!
//! The search stops as soon as one worker has found a line. What the others are doing is cancelled.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the first line of a file that contains the word.
#[rpc_parallel::process]
fn first_line(word: String, path: PathBuf) -> Option<String> {
    // A file that is no text has no lines.
    let text = fs::read_to_string(&path).ok()?;
    let (number, line) = text.lines().enumerate().find(|(_, line)| line.contains(&word))?;
    let worker = rpc_parallel::pool::worker_index().unwrap_or_default();
    Some(format!("worker {worker} found {}:{}: {}", path.display(), number + 1, line.trim()))
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let word = args.next().unwrap_or_else(|| "backpressure".to_owned());
    let directory = args.next().map_or_else(repository, PathBuf::from);

    let files = ignore::Walk::new(&directory)
        .filter_map(Result::ok)
        .filter(|it| it.file_type().is_some_and(|kind| kind.is_file()))
        .map(ignore::DirEntry::into_path);
    let pattern = word.clone();

    match first_line::find_map(files.map(move |path| (pattern.clone(), path))).await? {
        Some(line) => println!("{line}"),
        None => println!("no file below {} contains `{word}`", directory.display()),
    }
    Ok(())
}

/// Returns the repository of this example, or the current directory if the repository is gone.
fn repository() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    if repository.is_dir() { repository.into() } else { ".".into() }
}
