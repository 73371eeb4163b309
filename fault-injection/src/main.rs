//! Kills and stops masters and workers at random times, and checks that every failure is reported
//! and that nothing is left behind.
//!
//! This process is the driver. It plays each round with fresh processes: a first master, whose
//! workers may be masters too. The driver injects the faults of the round's plan, records the
//! events that the processes report, and inspects the remains after the round.
//!
//! Every process is this executable: the driver, the first masters, which `--master` starts, and
//! the workers, in which `#[entry]` does not run `main`.

mod options;
mod bounds;
mod random;
mod plan;
mod event;
mod process;
mod fault;
mod deadline;
mod resources;
mod worker;
mod workload;
mod launching;
mod lifecycle;
mod fleet_state;
mod fleet;
mod master;
mod round;
mod totals;

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use options::{Command, Options};
use plan::RoundPlan;
use round::Outcome;
use totals::Totals;

/// The number of rounds that run concurrently. A round mostly waits.
const CONCURRENT_ROUNDS: usize = 4;

#[rpc_parallel::entry]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match options::parse(std::env::args_os().skip(1))? {
        Command::Help => Ok(std::io::stdout().write_all(options::usage().as_bytes())?),
        Command::Master => master::run(),
        Command::Play(options) => play(&options),
    }
}

/// Plays all requested rounds and prints their totals.
fn play(options: &Options) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("warning: debug build; the time limits are meant for `cargo run --release`");
    }
    let seed = options.seed.unwrap_or_else(seed_from_clock);
    let rounds = options.rounds();
    eprintln!("chaos: seed {seed}");
    disable_core_dumps()?;
    let directory = tempfile::Builder::new().prefix("chaos.").tempdir()?;
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to build a tokio runtime")?;
    let totals = runtime.block_on(play_rounds(seed, rounds, directory.path()))?;
    eprintln!("chaos: {} rounds in {:.1} s", totals.rounds, start.elapsed().as_secs_f64());
    totals.print(options.format)?;
    let violations = totals.violations();
    ensure!(violations == 0, "chaos: found {violations} violations, expected 0");
    Ok(())
}

async fn play_rounds(seed: u64, rounds: Range<u64>, directory: &Path) -> anyhow::Result<Totals> {
    let single_round = rounds.end - rounds.start == 1;
    let outcomes = stream::iter(rounds).map(|number| async move {
        let plan = RoundPlan::generate(seed, number);
        let outcome = round::play(plan.clone(), directory.join(number.to_string())).await;
        outcome
            .map(|outcome| (number, plan, outcome))
            .with_context(|| format!("failed to play round {number}"))
    });
    let mut outcomes = outcomes.buffer_unordered(CONCURRENT_ROUNDS);
    let mut totals = Totals::default();
    while let Some(outcome) = outcomes.next().await {
        let (number, plan, outcome) = outcome?;
        totals.add(&outcome);
        if single_round || !outcome.problems.is_empty() {
            print_round(seed, number, &plan, &outcome);
        }
        if totals.rounds % 100 == 0 {
            eprintln!("chaos: {} rounds", totals.rounds);
        }
    }
    Ok(totals)
}

/// Prints the problems, the plan and the event log of a round.
fn print_round(seed: u64, number: u64, plan: &RoundPlan, outcome: &Outcome) {
    eprintln!("\nround {number}: to repeat it, pass `--seed {seed} --only-round {number}`");
    for problem in &outcome.problems {
        eprintln!("  {:?}: {}", problem.kind, problem.description);
    }
    eprintln!("plan:\n{plan}events:\n{}", outcome.log);
}

fn seed_from_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Nine digits at most, because people type the seed again.
    now.as_millis() as u64 % 1_000_000_000
}

fn disable_core_dumps() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })
        .context("failed to disable core dumps")
}
