//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;

use anyhow::{Context, bail};
use rpc_parallel::Settings;

use crate::fresh_process;
use crate::group::{GROUPS, Group};
use crate::report::Format;
use crate::role::Role;

const ROUNDS: NonZeroUsize = NonZeroUsize::new(7).expect("7 is not 0");

/// What one process of this executable does.
pub(crate) enum Command {
    Help,
    /// Runs as the worker of a floor or a peer.
    Serve(Role),
    /// Measures one contender for another process.
    MeasureContender {
        figure: String,
        contender: String,
    },
    Measure(Options),
}

pub(crate) struct Options {
    pub(crate) groups: Vec<&'static Group>,
    pub(crate) rounds: NonZeroUsize,
    pub(crate) format: Format,
    /// The prefix of the names of the figures to measure.
    pub(crate) name_prefix: String,
    /// Settings to compare rpc-parallel with, in their text form.
    pub(crate) compared_settings: Option<String>,
}

/// Parses the arguments that follow the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Command> {
    let mut options = Options {
        groups: Vec::new(),
        rounds: ROUNDS,
        format: Format::Table,
        name_prefix: String::new(),
        compared_settings: None,
    };
    let mut arguments = arguments.into_iter().map(|it| it.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => return Ok(Command::Help),
            "--serve" => {
                let role = arguments.next().context("`--serve` needs a role")?;
                return Ok(Command::Serve(Role::named(&role)?));
            }
            fresh_process::OPTION => {
                let figure = arguments.next().context("`--measure` needs a figure")?;
                let contender = arguments.next().context("`--measure` needs a contender")?;
                return Ok(Command::MeasureContender { figure, contender });
            }
            "--json" => options.format = Format::Json,
            "--rounds" => options.rounds = positive(&argument, arguments.next())?,
            "--only" => {
                options.name_prefix = arguments.next().context("`--only` needs a prefix")?;
            }
            "--compare" => options.compared_settings = Some(settings(arguments.next())?),
            option if option.starts_with('-') => {
                bail!("unknown option `{option}`\n\n{}", usage())
            }
            name => options.groups.push(group(name)?),
        }
    }
    if options.groups.is_empty() {
        bail!("no group given\n\n{}", usage());
    }
    Ok(Command::Measure(options))
}

fn positive(option: &str, value: Option<String>) -> anyhow::Result<NonZeroUsize> {
    let value = value.with_context(|| format!("`{option}` needs a number"))?;
    value.parse().with_context(|| format!("`{option} {value}` must be a number from 1"))
}

/// Returns a valid text of settings.
fn settings(value: Option<String>) -> anyhow::Result<String> {
    let value = value.context("`--compare` needs settings")?;
    let parsed = value.parse::<Settings>();
    parsed.with_context(|| format!("`--compare {value}` must have valid settings"))?;
    Ok(value)
}

fn group(name: &str) -> anyhow::Result<&'static Group> {
    GROUPS
        .iter()
        .find(|it| it.name == name)
        .with_context(|| format!("unknown group `{name}`\n\n{}", usage()))
}

/// Returns the help text.
pub(crate) fn usage() -> String {
    let groups: String =
        GROUPS.iter().map(|it| format!("  {:<8} {}\n", it.name, it.description)).collect();
    format!(
        "usage: cargo run --release --manifest-path benchmarks/Cargo.toml -- [options] group...\n\
         \n\
         groups:\n\
         {groups}\
         \n\
         options:\n\
         \x20 --rounds N          measure each figure in N interleaved rounds (default {ROUNDS})\n\
         \x20 --only PREFIX       only the figures whose names have this prefix\n\
         \x20 --compare SETTINGS  rpc-parallel with these settings, and without them\n\
         \x20 --json              print one JSON object per line instead of tables\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> anyhow::Result<Command> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn error(line: &str) -> String {
        match parse_line(line) {
            Ok(_) => panic!("`{line}` must be rejected"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn groups_and_options_are_accepted_in_any_order() {
        let Ok(Command::Measure(options)) =
            parse_line("spawn --rounds 3 --only spawn.h call --compare max_depth=2 --json")
        else {
            panic!("the arguments are valid");
        };

        let names: Vec<_> = options.groups.iter().map(|it| it.name).collect();
        assert_eq!(names, ["spawn", "call"]);
        assert_eq!(options.rounds.get(), 3);
        assert_eq!(options.name_prefix, "spawn.h");
        assert_eq!(options.compared_settings.as_deref(), Some("max_depth=2"));
        assert!(matches!(options.format, Format::Json));
    }

    #[test]
    fn missing_group_is_rejected_with_list_of_groups() {
        let error = error("--json");

        assert!(error.starts_with("no group given"), "{error}");
        assert!(GROUPS.iter().all(|it| error.contains(it.name)), "{error}");
    }

    #[test]
    fn unknown_argument_is_named_in_the_error() {
        assert!(error("cal").starts_with("unknown group `cal`"));
        assert!(error("call --jsno").starts_with("unknown option `--jsno`"));
        assert!(error("call --rounds 0").starts_with("`--rounds 0`"));
        assert!(error("call --compare depth=2").starts_with("`--compare depth=2`"));
    }
}
