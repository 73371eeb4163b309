//! Rounds in which workers and masters are killed and stopped, and nothing may be left of them.
//!
//! The driver plays each round with fresh processes: a master, which has workers, some of which are
//! masters. It strikes them as the round's plan says, hears what they tell, and looks at what is
//! left when the round is over.

mod random;
mod plan;
mod word;
mod signal;
mod patience;
mod resources;
mod worker;
mod company;
pub(crate) mod master;
mod round;

use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use futures::stream::{self, StreamExt};
use rpc_parallel::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::plan::Plan;
use self::round::Outcome;
use self::word::Kind;
use crate::figure::RPC_PARALLEL;
use crate::place;
use crate::rounds::Row;

/// How long a call or a pipe may take to end when it must.
const CALL_BOUND: Duration = Duration::from_secs(2);
/// How long a process may take to be gone when it must, and whatever it held.
const GONE_BOUND: Duration = Duration::from_secs(2);
/// How long the start of a worker may take, stopped or not.
const START_BOUND: Duration = Duration::from_secs(6);
/// After which silence processes are lost, to each other.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(1500);
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);
/// How long it may take until a process that is stopped is lost, and gone.
const LIVENESS_BOUND: Duration = Duration::from_secs(5);
/// How long a round may take, all in all.
const ROUND_BOUND: Duration = Duration::from_secs(40);
const WINDOW: usize = 16 * 1024;
/// How many rounds are played at the same time: they mostly wait.
const AT_ONCE: usize = 4;
pub(crate) const ROUNDS: u64 = 300;

/// Which rounds are to be played.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) rounds: Option<NonZeroU64>,
    /// Chosen by the clock, if not said.
    pub(crate) seed: Option<u64>,
    pub(crate) only: Option<u64>,
}

/// What came of all rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) rounds: u64,
    pub(crate) kills: u64,
    pub(crate) lost: u64,
    pub(crate) hung: u64,
    pub(crate) left_over: u64,
    pub(crate) files: u64,
}

/// Of how many rounds one may leave the socket of a process that was killed while it made it.
const ROUNDS_PER_FILE: u64 = 500;

/// Plays rounds, and tells the story of each that was not as it must be.
pub(crate) fn run(wanted: Wanted) -> anyhow::Result<Sum> {
    let seed = wanted.seed.unwrap_or_else(seed_of_now);
    let rounds = match wanted.only {
        Some(round) => round..round + 1,
        None => 0..wanted.rounds.map_or(ROUNDS, NonZeroU64::get),
    };
    eprintln!("chaos: seed {seed}");
    leave_no_core_dumps()?;
    let directory = tempfile::Builder::new().prefix("chaos.").tempdir()?;
    let begin = Instant::now();
    let sum = place::runtime()?.block_on(play_all(seed, rounds, directory.path()))?;
    eprintln!("chaos: {} rounds in {:.1} s", sum.rounds, begin.elapsed().as_secs_f64());
    Ok(sum)
}

async fn play_all(
    seed: u64,
    rounds: std::ops::Range<u64>,
    directory: &Path,
) -> anyhow::Result<Sum> {
    // Whoever plays one round wants to see it.
    let told_anyway = rounds.end - rounds.start == 1;
    let played = stream::iter(rounds).map(|number| async move {
        let plan = Plan::of(seed, number);
        let outcome = round::play(plan.clone(), directory.join(number.to_string())).await;
        outcome.map(|it| (number, plan, it)).with_context(|| format!("play round {number}"))
    });
    let mut played = played.buffer_unordered(AT_ONCE);
    let mut sum = Sum::default();
    while let Some(played) = played.next().await {
        let (number, plan, outcome) = played?;
        sum.add(&outcome);
        if told_anyway || !outcome.problems.is_empty() {
            tell(seed, number, &plan, &outcome);
        }
        if sum.rounds % 100 == 0 {
            eprintln!("chaos: {} rounds", sum.rounds);
        }
    }
    Ok(sum)
}

/// Tells the story of a round that was not as it must be.
fn tell(seed: u64, number: u64, plan: &Plan, outcome: &Outcome) {
    eprintln!("\nround {number}: play it again by `chaos --seed {seed} --only-round {number}`");
    for problem in &outcome.problems {
        eprintln!("  {:?}: {}", problem.kind, problem.what);
    }
    eprintln!("plan:\n{plan}story:\n{}", outcome.story);
}

impl Sum {
    /// Returns the figures, in the form of those that are measured.
    pub(crate) fn rows(self) -> Vec<Row> {
        let row = |figure, unit, count: u64| Row {
            figure,
            who: RPC_PARALLEL.to_owned(),
            unit,
            value: count as f64,
            least: count as f64,
            most: count as f64,
            ratio: 1.0,
            ratio_to_tarpc: None,
        };
        vec![
            row("chaos.rounds", "rounds", self.rounds),
            row("chaos.kills", "signals", self.kills),
            row("chaos.lost", "deaths", self.lost),
            row("chaos.hung", "waits", self.hung),
            row("chaos.left_over", "things", self.left_over),
            row("chaos.files", "sockets", self.files),
        ]
    }

    /// Returns how much there is that must not be.
    pub(crate) fn bad(self) -> u64 {
        let files = self.files.saturating_sub(1 + self.rounds / ROUNDS_PER_FILE);
        self.lost + self.hung + self.left_over + files
    }

    fn add(&mut self, outcome: &Outcome) {
        let count = |kind| outcome.problems.iter().filter(|it| it.kind == kind).count() as u64;
        self.rounds += 1;
        self.kills += outcome.kills;
        self.lost += count(Kind::Lost);
        self.hung += count(Kind::Hung);
        self.left_over += count(Kind::LeftOver);
        self.files += outcome.files;
    }
}

/// Returns what all processes of a round agree on.
fn settings() -> anyhow::Result<Settings> {
    Ok(Settings::default()
        .with_heartbeat_interval(HEARTBEAT_INTERVAL)
        .with_heartbeat_timeout(HEARTBEAT_TIMEOUT)
        .with_handshake_timeout(GONE_BOUND)
        // Streams without an end would keep everybody busy who has a core.
        .with_stream_window(WINDOW))
}

fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Short enough to be typed again.
    now.as_millis() as u64 % 1_000_000_000
}

fn leave_no_core_dumps() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum }).context("limit core dumps")
}
