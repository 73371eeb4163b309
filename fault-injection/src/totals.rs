//! The figures of a run: counts over all rounds.

use std::io::Write;

use serde::Serialize;

use crate::event::ProblemKind;
use crate::round::Outcome;

/// A process that is killed while it makes a listener may leave a socket file. The run tolerates
/// one such file per this number of rounds, and one more.
const ROUNDS_PER_FILE: u64 = 500;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    Text,
    /// One JSON object per figure.
    Json,
}

/// Counts over all rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) rounds: u64,
    kills: u64,
    lost: u64,
    hung: u64,
    left_over: u64,
    files: u64,
}

#[derive(Serialize)]
struct Figure {
    figure: &'static str,
    value: u64,
    unit: &'static str,
}

impl Totals {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        let count = |kind| outcome.problems.iter().filter(|it| it.kind == kind).count() as u64;
        self.rounds += 1;
        self.kills += outcome.faults;
        self.lost += count(ProblemKind::Lost);
        self.hung += count(ProblemKind::Hung);
        self.left_over += count(ProblemKind::LeftOver);
        self.files += outcome.socket_files;
    }

    /// Returns the number of problems, and of socket files beyond the tolerated number.
    pub(crate) fn violations(self) -> u64 {
        let files = self.files.saturating_sub(1 + self.rounds / ROUNDS_PER_FILE);
        self.lost + self.hung + self.left_over + files
    }

    /// Prints the figures to stdout.
    pub(crate) fn print(self, format: Format) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        for figure in self.figures() {
            let Figure { figure: name, value, unit } = figure;
            match format {
                Format::Text => writeln!(stdout, "{name:<16} {value:>8} {unit}")?,
                Format::Json => writeln!(stdout, "{}", serde_json::to_string(&figure)?)?,
            }
        }
        Ok(stdout.flush()?)
    }

    fn figures(self) -> [Figure; 6] {
        let figure = |figure, value, unit| Figure { figure, value, unit };
        [
            figure("chaos.rounds", self.rounds, "rounds"),
            figure("chaos.kills", self.kills, "signals"),
            figure("chaos.lost", self.lost, "failures"),
            figure("chaos.hung", self.hung, "waits"),
            figure("chaos.left_over", self.left_over, "resources"),
            figure("chaos.files", self.files, "sockets"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_socket_file_per_500_rounds_and_one_more_are_tolerated() {
        let totals = Totals { rounds: 500, files: 2, ..Totals::default() };

        assert_eq!(totals.violations(), 0);
        assert_eq!(Totals { files: 3, ..totals }.violations(), 1);
        assert_eq!(Totals { lost: 1, ..totals }.violations(), 1);
    }
}
