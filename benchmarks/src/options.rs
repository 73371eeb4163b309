//! What the command line asks for.

use std::ffi::OsString;
use std::num::NonZeroUsize;

use anyhow::{Context, bail};

use crate::group::{GROUPS, Group};
use crate::report::Format;
use crate::role::Role;

const ROUNDS: NonZeroUsize = NonZeroUsize::new(7).expect("7 is not 0");

/// One start of this executable.
pub(crate) enum Wish {
    Help,
    /// Be the worker of a floor or a peer.
    Serve(Role),
    Measure(Options),
}

pub(crate) struct Options {
    pub(crate) groups: Vec<&'static Group>,
    pub(crate) rounds: NonZeroUsize,
    pub(crate) format: Format,
    /// What the name of a figure must begin with.
    pub(crate) only: String,
}

/// Reads the arguments that follow the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Wish> {
    let mut options =
        Options { groups: Vec::new(), rounds: ROUNDS, format: Format::Table, only: String::new() };
    let mut arguments = arguments.into_iter().map(|it| it.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => return Ok(Wish::Help),
            "--serve" => {
                let role = arguments.next().context("`--serve` needs a role")?;
                return Ok(Wish::Serve(Role::named(&role)?));
            }
            "--json" => options.format = Format::Json,
            "--rounds" => {
                let rounds = arguments.next().context("`--rounds` needs a number")?;
                options.rounds = rounds
                    .parse()
                    .with_context(|| format!("`--rounds {rounds}` must be a number from 1"))?;
            }
            "--only" => options.only = arguments.next().context("`--only` needs a name")?,
            option if option.starts_with('-') => {
                bail!("unknown option `{option}`\n\n{}", usage())
            }
            name => options.groups.push(named(name)?),
        }
    }
    if options.groups.is_empty() {
        bail!("no group given\n\n{}", usage());
    }
    Ok(Wish::Measure(options))
}

fn named(name: &str) -> anyhow::Result<&'static Group> {
    GROUPS
        .iter()
        .find(|it| it.name == name)
        .with_context(|| format!("unknown group `{name}`\n\n{}", usage()))
}

/// Says how this program is used, and lists the groups.
pub(crate) fn usage() -> String {
    let groups: String =
        GROUPS.iter().map(|it| format!("  {:<8} {}\n", it.name, it.about)).collect();
    format!(
        "usage: cargo run --release --manifest-path benchmarks/Cargo.toml -- [options] group...\n\
         \n\
         groups:\n\
         {groups}\
         \n\
         options:\n\
         \x20 --rounds N   measure each figure in N interleaved rounds (default {ROUNDS})\n\
         \x20 --only NAME  only the figures whose names begin so\n\
         \x20 --json       one JSON object per line instead of tables\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> anyhow::Result<Wish> {
        parse(words.split_whitespace().map(OsString::from))
    }

    fn refusal(words: &str) -> String {
        match parse_words(words) {
            Ok(_) => panic!("`{words}` was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn groups_and_options_come_in_any_order() {
        let Ok(Wish::Measure(options)) = parse_words("spawn --rounds 3 --only spawn.h call --json")
        else {
            panic!("the words are all known");
        };

        let names: Vec<_> = options.groups.iter().map(|it| it.name).collect();
        assert_eq!(names, ["spawn", "call"]);
        assert_eq!(options.rounds.get(), 3);
        assert_eq!(options.only, "spawn.h");
        assert!(matches!(options.format, Format::Json));
    }

    #[test]
    fn no_group_is_refused_with_the_list_of_groups() {
        let refusal = refusal("--json");

        assert!(refusal.starts_with("no group given"), "{refusal}");
        assert!(GROUPS.iter().all(|it| refusal.contains(it.name)), "{refusal}");
    }

    #[test]
    fn an_unknown_word_is_refused_by_name() {
        assert!(refusal("cal").starts_with("unknown group `cal`"));
        assert!(refusal("call --jsno").starts_with("unknown option `--jsno`"));
        assert!(refusal("call --rounds 0").starts_with("`--rounds 0`"));
    }
}
