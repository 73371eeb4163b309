//! What people see: a progress bar and messages on stderr, the result on stdout.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use rpc_parallel::Label;

use crate::totals::Totals;

/// Files that are named when they are left out; of others, only the number is told.
const NAMED: u64 = 10;

/// Tells people how it goes.
pub struct Report {
    /// Draws itself where stderr is a terminal, and nowhere else.
    bar: ProgressBar,
    verbose: bool,
    left_out: u64,
}

impl Report {
    /// Begins to report.
    pub fn new(verbose: bool) -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {elapsed}");
        let bar = ProgressBar::new(0).with_style(style.expect("the template is well formed"));
        Self { bar, verbose, left_out: 0 }
    }

    /// Notes that there is more to do.
    pub fn found(&self, bytes: u64) {
        self.bar.inc_length(bytes);
    }

    /// Notes that something is done.
    pub fn done(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Tells that a worker was started, to those who want to know.
    pub fn started(&self, worker: &Label) {
        if self.verbose {
            self.note(format_args!("started {worker}"));
        }
    }

    /// Tells of a file that is left out.
    pub fn left_out(&mut self, file: impl fmt::Display) {
        self.left_out += 1;
        if self.left_out <= NAMED {
            self.note(format_args!("left out: {file}"));
        }
    }

    /// Writes a line, above the progress bar.
    pub fn note(&self, line: impl fmt::Display) {
        self.bar.suspend(|| eprintln!("word_count: {line}"));
    }

    /// Writes the result.
    pub fn finish(self, totals: &Totals, top: usize, time: Duration) -> io::Result<()> {
        if let Some(more @ 1..) = self.left_out.checked_sub(NAMED) {
            self.note(format_args!("left out: {more} more"));
        }
        self.bar.finish_and_clear();

        let mut out = io::stdout().lock();
        for (word, count) in totals.most_frequent(top) {
            writeln!(out, "{:>14}  {word}", HumanCount(count).to_string())?;
        }
        writeln!(out)?;
        for (index, files) in totals.files.iter().enumerate() {
            writeln!(
                out,
                "{:>14}  files by worker {}",
                HumanCount(*files as u64).to_string(),
                index + 1
            )?;
        }
        writeln!(out)?;
        let files = totals.files.iter().sum::<usize>() as u64;
        writeln!(
            out,
            "{} words, {} bytes, {} files ({} left out), {:.2} s",
            HumanCount(totals.words()),
            HumanCount(totals.bytes),
            HumanCount(files),
            HumanCount(self.left_out),
            time.as_secs_f64(),
        )
    }
}
