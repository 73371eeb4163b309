//! What the command line asks for.

use std::error::Error;
use std::ffi::OsString;
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;

use anyhow::{Context, bail};

use crate::chaos;
use crate::group::{GROUPS, Group};
use crate::report::Format;
use crate::role::Role;

pub(crate) const ROUNDS: NonZeroUsize = NonZeroUsize::new(7).expect("7 is not 0");

/// One start of this executable.
pub(crate) enum Wish {
    Help,
    /// Be the worker of a floor or a peer.
    Serve(Role),
    Measure(Options),
}

pub(crate) struct Options {
    pub(crate) groups: Vec<&'static Group>,
    /// As many as the group thinks right, if not said.
    pub(crate) rounds: Option<NonZeroUsize>,
    pub(crate) format: Format,
    /// What the name of a figure must begin with.
    pub(crate) only: String,
    /// From which the rounds of chaos follow.
    pub(crate) seed: Option<u64>,
    pub(crate) only_round: Option<u64>,
}

impl Options {
    /// Returns which rounds of chaos are wanted.
    pub(crate) fn chaos(&self) -> chaos::Wanted {
        let rounds = self.rounds.and_then(|it| NonZeroU64::try_from(it).ok());
        chaos::Wanted { rounds, seed: self.seed, only: self.only_round }
    }
}

/// Reads the arguments that follow the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Wish> {
    let mut options = Options {
        groups: Vec::new(),
        rounds: None,
        format: Format::Table,
        only: String::new(),
        seed: None,
        only_round: None,
    };
    let mut arguments = arguments.into_iter().map(|it| it.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => return Ok(Wish::Help),
            "--serve" => {
                let role = arguments.next().context("`--serve` needs a role")?;
                return Ok(Wish::Serve(Role::named(&role)?));
            }
            "--json" => options.format = Format::Json,
            "--rounds" => options.rounds = Some(number(&argument, 1, arguments.next())?),
            "--seed" => options.seed = Some(number(&argument, 0, arguments.next())?),
            "--only-round" => options.only_round = Some(number(&argument, 0, arguments.next())?),
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

fn number<T>(option: &str, least: u32, value: Option<String>) -> anyhow::Result<T>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let value = value.with_context(|| format!("`{option}` needs a number"))?;
    value.parse().with_context(|| format!("`{option} {value}` must be a number from {least}"))
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
         \x20 --rounds N      measure each figure in N interleaved rounds (default {ROUNDS});\n\
         \x20                 how many rounds of chaos (default {})\n\
         \x20 --only NAME     only the figures whose names begin so\n\
         \x20 --json          one JSON object per line instead of tables\n\
         \x20 --seed N        what the rounds of chaos follow from\n\
         \x20 --only-round K  only this round of chaos\n",
        chaos::ROUNDS
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
        assert_eq!(options.rounds.map(NonZeroUsize::get), Some(3));
        assert_eq!(options.only, "spawn.h");
        assert!(matches!(options.format, Format::Json));
    }

    #[test]
    fn a_round_of_chaos_is_named_by_its_seed_and_its_number() {
        let Ok(Wish::Measure(options)) = parse_words("chaos --seed 0 --only-round 17") else {
            panic!("the words are all known");
        };

        let wanted = options.chaos();
        assert_eq!((wanted.seed, wanted.only), (Some(0), Some(17)));
        assert_eq!(wanted.rounds, None);
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
