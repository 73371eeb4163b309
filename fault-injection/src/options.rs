//! The command line.

use std::error::Error;
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::ops::Range;
use std::str::FromStr;

use anyhow::{Context, bail};

use crate::totals::Format;

const DEFAULT_ROUNDS: NonZeroU64 = NonZeroU64::new(300).expect("300 is not 0");
/// Starts a process as the first master of a round.
pub(crate) const MASTER: &str = "--master";

/// What one process of this executable does.
pub(crate) enum Command {
    Help,
    Master,
    Play(Options),
}

/// The rounds to play, and the format of the totals.
pub(crate) struct Options {
    pub(crate) count: NonZeroU64,
    /// The seed of all plans. Default: derived from the clock.
    pub(crate) seed: Option<u64>,
    pub(crate) only_round: Option<u64>,
    pub(crate) format: Format,
}

impl Options {
    /// Returns the numbers of the rounds to play.
    pub(crate) fn rounds(&self) -> Range<u64> {
        match self.only_round {
            Some(round) => round..round + 1,
            None => 0..self.count.get(),
        }
    }
}

/// Parses the arguments that follow the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Command> {
    let mut options =
        Options { count: DEFAULT_ROUNDS, seed: None, only_round: None, format: Format::Text };
    let mut arguments = arguments.into_iter().map(|it| it.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => return Ok(Command::Help),
            MASTER => return Ok(Command::Master),
            "--rounds" => options.count = number(&argument, 1, arguments.next())?,
            "--seed" => options.seed = Some(number(&argument, 0, arguments.next())?),
            "--only-round" => options.only_round = Some(number(&argument, 0, arguments.next())?),
            "--json" => options.format = Format::Json,
            _ => bail!("unknown argument `{argument}`\n\n{}", usage()),
        }
    }
    Ok(Command::Play(options))
}

fn number<T>(option: &str, minimum: u32, value: Option<String>) -> anyhow::Result<T>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let value = value.with_context(|| format!("`{option}` needs a number"))?;
    value.parse().with_context(|| format!("`{option} {value}` must be a number from {minimum}"))
}

/// Returns the help text.
pub(crate) fn usage() -> String {
    format!(
        "usage: cargo run --release --manifest-path fault-injection/Cargo.toml -- [options]\n\
         \n\
         options:\n\
         \x20 --rounds N      number of rounds (default {DEFAULT_ROUNDS})\n\
         \x20 --seed N        seed of the plans of all rounds (default: from the clock)\n\
         \x20 --only-round K  play round K only, and print its plan and its events\n\
         \x20 --json          print one JSON object per figure\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> anyhow::Result<Command> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn options(line: &str) -> Options {
        match parse_line(line) {
            Ok(Command::Play(options)) => options,
            _ => panic!("`{line}` must be accepted"),
        }
    }

    fn error(line: &str) -> String {
        match parse_line(line) {
            Ok(_) => panic!("`{line}` must be rejected"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn no_arguments_play_the_default_number_of_rounds() {
        assert_eq!(options("").rounds(), 0..300);
        assert_eq!(options("--rounds 5").rounds(), 0..5);
    }

    #[test]
    fn seed_and_number_select_one_round() {
        let options = options("--seed 0 --only-round 17");

        assert_eq!((options.seed, options.rounds()), (Some(0), 17..18));
    }

    #[test]
    fn unknown_argument_is_named_in_the_error() {
        assert!(error("--jsno").starts_with("unknown argument `--jsno`"));
        assert!(error("--rounds 0").starts_with("`--rounds 0`"));
    }
}
