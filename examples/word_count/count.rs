//! What a worker does: it counts the words of a batch of files, and keeps nothing.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;

use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

/// Counts words.
#[rpc_parallel::worker]
pub trait WordCount {
    /// Counts the words of some files; a file that cannot be counted is left out.
    // Not paths: as text they would have to be UTF-8.
    fn count(&self, files: &[OsString]) -> Counted;
}

/// The words of a batch of files.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Counted {
    /// All words, each once, with a space behind each: much less to decode than a map.
    pub words: String,
    /// How often each of them stands there.
    pub counts: Vec<u64>,
    /// How many bytes were read.
    pub bytes: u64,
    /// Which files were left out, by their index, and why.
    pub left_out: Vec<(usize, String)>,
}

/// The worker.
#[derive(Default, WorkerState)]
pub struct Counter;

#[rpc_parallel::worker]
impl WordCount for Counter {
    fn count(&self, files: &[OsString]) -> Counted {
        let mut counted = Counted::default();
        let mut words = HashMap::new();
        for (index, file) in files.iter().enumerate() {
            match fs::read(file).map(String::from_utf8) {
                Ok(Ok(text)) => {
                    counted.bytes += text.len() as u64;
                    count_words(&text, &mut words);
                }
                Ok(Err(_)) => counted.left_out.push((index, "it is not text".to_owned())),
                Err(error) => counted.left_out.push((index, error.to_string())),
            }
        }
        for (word, count) in words {
            counted.words.push_str(&word);
            counted.words.push(' ');
            counted.counts.push(count);
        }
        counted
    }
}

/// Adds the words of a text: its alphanumeric runs, in lower case.
fn count_words(text: &str, words: &mut HashMap<String, u64>) {
    let runs = text.split(|it: char| !it.is_alphanumeric()).filter(|it| !it.is_empty());
    for run in runs {
        // Most words are in lower case already, and most have been seen.
        if run.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
            && let Some(count) = words.get_mut(run)
        {
            *count += 1;
        } else {
            *words.entry(run.to_lowercase()).or_default() += 1;
        }
    }
}
