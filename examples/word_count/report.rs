//! The progress bar and the messages on stderr, and the result on stdout.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use rpc_parallel::WorkerLabel;

use crate::totals::Totals;

/// The maximum number of unreadable files that are named. Of the others only the number is printed.
const NAMED: u64 = 10;

/// Prints progress, messages and the result.
pub struct Report {
    /// Counts bytes. It is visible only if stderr is a terminal.
    pub bar: ProgressBar,
    verbose: bool,
    left_out: u64,
    failed: u64,
}

impl Report {
    /// Creates a report with an empty progress bar.
    pub fn new(verbose: bool) -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {elapsed}");
        let bar = ProgressBar::new(0).with_style(style.expect("the template is well formed"));
        Self { bar, verbose, left_out: 0, failed: 0 }
    }

    /// Prints a line above the progress bar.
    pub fn note(&self, line: impl Display) {
        self.bar.suspend(|| eprintln!("word_count: {line}"));
    }

    /// Reports a worker that was started, with `--verbose`.
    pub fn started(&self, worker: &WorkerLabel) {
        if self.verbose {
            self.note(format_args!("started {worker}"));
        }
    }

    /// Reports a file that cannot be counted.
    pub fn left_out(&mut self, file: impl Display) {
        self.left_out += 1;
        if self.left_out <= NAMED {
            self.note(format_args!("left out: {file}"));
        }
    }

    /// Reports a file that is left out because its calls have failed.
    pub fn failed(&mut self, file: impl Display) {
        self.failed += 1;
        self.note(format_args!("failed to count {file}"));
    }

    /// Prints the result.
    pub fn finish(self, totals: &Totals, top: usize, time: Duration) -> io::Result<()> {
        if self.left_out > NAMED {
            self.note(format_args!("left out: {} more", self.left_out - NAMED));
        }
        self.bar.finish_and_clear();

        let human = |count: u64| HumanCount(count).to_string();
        let mut out = io::stdout().lock();
        for (word, count) in totals.most_frequent(top) {
            writeln!(out, "{:>14}  {word}", human(count))?;
        }
        writeln!(out)?;
        for (index, files) in totals.files.iter().enumerate() {
            writeln!(out, "{:>14}  files by worker {}", human(*files), index + 1)?;
        }
        let words = human(totals.words());
        let bytes = human(totals.bytes);
        let files = human(totals.files.iter().sum());
        let missing = human(self.left_out + self.failed);
        let time = time.as_secs_f64();
        writeln!(
            out,
            "\n{words} words, {bytes} bytes, {files} files ({missing} left out), {time:.2} s"
        )
    }
}
