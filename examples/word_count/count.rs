//! The worker: it counts the words of a batch of files, and has no state.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;

use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

/// Functions that count words.
#[rpc_parallel::worker]
pub trait WordCount {
    /// Counts the words of files. A file that cannot be counted is left out.
    // The arguments are `OsString`s, because serde encodes a path as UTF-8 text.
    fn count(&self, files: &[OsString]) -> Counted;
}

/// The words of a batch of files.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Counted {
    /// All words, each once, with a space behind each. This is faster to decode than a map.
    pub words: String,
    /// The count of each word, in the same order.
    pub counts: Vec<u64>,
    /// The number of bytes that were read.
    pub bytes: u64,
    /// The index of each file that was left out, and the reason.
    pub left_out: Vec<(usize, String)>,
}

/// The state of a worker, which is empty.
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

/// Adds the words of a text to the counts. A word is a run of alphanumeric characters, in lower
/// case.
fn count_words(text: &str, words: &mut HashMap<String, u64>) {
    let runs = text.split(|it: char| !it.is_alphanumeric()).filter(|it| !it.is_empty());
    for run in runs {
        // The common case, without an allocation: a lower-case ASCII word that was counted before.
        if run.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
            && let Some(count) = words.get_mut(run)
        {
            *count += 1;
        } else {
            *words.entry(run.to_lowercase()).or_default() += 1;
        }
    }
}
