//! The sum of all answers.

use std::collections::HashMap;

use crate::count::Counted;

/// The sum of all answers.
pub struct Totals {
    words: HashMap<String, u64>,
    /// The number of bytes that were read.
    pub bytes: u64,
    /// The number of files that each worker has counted.
    pub files: Vec<u64>,
}

impl Totals {
    /// Creates empty totals.
    pub fn new(workers: usize) -> Self {
        Self { words: HashMap::new(), bytes: 0, files: vec![0; workers] }
    }

    /// Adds one answer.
    pub fn add(&mut self, worker: usize, files: u64, counted: &Counted) {
        self.bytes += counted.bytes;
        self.files[worker] += files;
        for (word, count) in counted.words.split_terminator(' ').zip(&counted.counts) {
            match self.words.get_mut(word) {
                Some(total) => *total += count,
                None => drop(self.words.insert(word.to_owned(), *count)),
            }
        }
    }

    /// Returns the number of words.
    pub fn words(&self) -> u64 {
        self.words.values().sum()
    }

    /// Returns the most frequent words with their counts, equal counts in alphabetical order.
    pub fn most_frequent(&self, count: usize) -> Vec<(&str, u64)> {
        let mut words: Vec<_> = self.words.iter().map(|(word, count)| (&**word, *count)).collect();
        let order = |a: &(&str, u64), b: &(&str, u64)| (b.1, a.0).cmp(&(a.1, b.0));
        if count < words.len() {
            words.select_nth_unstable_by(count, order);
            words.truncate(count);
        }
        words.sort_unstable_by(order);
        words
    }
}
