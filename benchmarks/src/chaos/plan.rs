//! What is to happen in a round: who works for whom, what they do, and who is struck when.
//!
//! All of it follows from the seed and the number of the round. When things happen by the clock is
//! up to the machine, so a round that is run again is alike, and not the same.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::HEARTBEAT_TIMEOUT;
use super::random::Random;

/// How long workers work before their masters end them.
const WINDOW: Duration = Duration::from_millis(120);
/// How deep a tree of workers is, below its first master.
const DEPTH: usize = 3;
const MOST_WORKERS: usize = 9;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Whether the first master's runtime has several threads.
    pub(super) threads: bool,
    pub(super) branches: Vec<Branch>,
    pub(super) strikes: Vec<Strike>,
    pub(super) window: Duration,
    pub(super) end: End,
}

/// A worker, and its own workers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Branch {
    pub(super) name: String,
    pub(super) lives: Lives,
    /// How long its master waits before it starts it.
    pub(super) after: Duration,
    pub(super) init: Init,
    /// How long its `on_shutdown` takes.
    pub(super) shutdown: Duration,
    pub(super) tasks: Vec<Task>,
    pub(super) branches: Vec<Branch>,
    /// Where it strikes itself.
    pub(super) suicide: Option<(Point, Blow)>,
    pub(super) ending: Ending,
}

/// How long a worker lives.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Lives {
    WithClient,
    WithMaster,
    Detached,
}

/// What the `init` of a worker does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Init {
    Quick,
    Waits(Duration),
    Blocks(Duration),
}

/// What a master does with a worker while nobody ends it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Task {
    /// Small calls, one after the other.
    Call,
    /// Calls with much to carry.
    CallLarge,
    /// A call that is not answered.
    Hold,
    /// Calls that keep the worker's thread busy for a while.
    Compute,
    /// A call that keeps the worker's thread for ever.
    Block,
    /// A stream from the worker.
    Read,
    /// A stream to the worker.
    Write,
    /// The worker calls another one.
    Visit,
    /// The worker calls a server in the master's own process.
    CallBack,
}

/// How a master ends a worker.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Ending {
    Drop,
    ShutDown,
    CloseServer,
    /// Not at all: it ends with its master, or is left to who knows it.
    Leave,
}

/// How the first master ends, if nobody strikes it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum End {
    Return,
    Exit,
    Panic,
    Abort,
}

/// A place in the life of a worker that is told when it is reached.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Point {
    /// Its master is about to start it.
    Starting,
    Init,
    Started,
    /// The first of its functions runs.
    Call,
    /// The first elements of a stream have passed.
    Stream,
    /// Its master is about to end it.
    Ending,
    /// Its `on_shutdown` runs.
    Shutdown,
}

/// A signal that is to hit somebody.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Strike {
    pub(super) moment: Moment,
    /// How long after that moment.
    pub(super) delay: Duration,
    pub(super) whom: Whom,
    pub(super) blow: Blow,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Moment {
    /// The beginning of the round.
    Begin,
    Reached(String, Point),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Whom {
    /// The first master.
    Master,
    Worker(String),
    /// The process that was started last: it may not be a worker yet.
    Newest,
    /// Every second process.
    Half,
    Everybody,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Blow {
    Kill,
    Segv,
    Term,
    /// A stop, and after this time a continuation.
    Pause(Duration),
    /// A stop.
    Stop,
}

impl Plan {
    pub(super) fn of(seed: u64, round: u64) -> Self {
        let mut random = Random::of(seed, round);
        let mut left = 1 + random.index(MOST_WORKERS);
        let branches = grow(&mut random, "w", &mut left, DEPTH);
        let mut names = Vec::new();
        collect_names(&branches, &mut names);
        let window = WINDOW / 4 + pick_duration(&mut random, WINDOW * 3 / 4);
        let strikes = (0..1 + random.below(3)).map(|_| Strike::of(&mut random, &names, window));
        Self {
            strikes: strikes.collect(),
            threads: random.chance(30),
            branches,
            window,
            end: random.weighted(&[
                (55, End::Return),
                (20, End::Exit),
                (15, End::Panic),
                (10, End::Abort),
            ]),
        }
    }
}

/// Makes the workers of one master.
fn grow(random: &mut Random, prefix: &str, left: &mut usize, depth: usize) -> Vec<Branch> {
    let mut branches = Vec::new();
    let most = 1 + random.index(4);
    while *left > 0 && branches.len() < most {
        *left -= 1;
        branches.push(Branch::of(random, format!("{prefix}{}", branches.len()), left, depth));
    }
    branches
}

fn collect_names(branches: &[Branch], names: &mut Vec<String>) {
    for branch in branches {
        names.push(branch.name.clone());
        collect_names(&branch.branches, names);
    }
}

impl Branch {
    fn of(random: &mut Random, name: String, left: &mut usize, depth: usize) -> Self {
        let lives = random.weighted(&[
            (6, Lives::WithClient),
            (3, Lives::WithMaster),
            (1, Lives::Detached),
        ]);
        let task = |random: &mut Random| {
            random.weighted(&[
                (4, Task::Call),
                (2, Task::CallLarge),
                (3, Task::Hold),
                (2, Task::Compute),
                (1, Task::Block),
                (3, Task::Read),
                (3, Task::Write),
                (2, Task::Visit),
                (2, Task::CallBack),
            ])
        };
        let mut tasks: Vec<_> = (0..1 + random.below(3)).map(|_| task(random)).collect();
        let branches = if depth > 1 && random.chance(40) {
            grow(random, &format!("{name}."), left, depth - 1)
        } else {
            Vec::new()
        };
        // Who blocks does nothing else, and cannot be a master.
        if tasks.contains(&Task::Block) {
            tasks.retain(
                |it| if branches.is_empty() { *it == Task::Block } else { *it != Task::Block },
            );
        }
        let ending = match lives {
            // Whose thread is kept for ever cannot be asked to close its server.
            Lives::WithMaster if tasks.contains(&Task::Block) => Ending::ShutDown,
            Lives::WithClient => {
                random.weighted(&[(4, Ending::Drop), (4, Ending::ShutDown), (2, Ending::Leave)])
            }
            Lives::WithMaster => random.weighted(&[
                (4, Ending::ShutDown),
                (3, Ending::CloseServer),
                (3, Ending::Leave),
            ]),
            Lives::Detached => random.weighted(&[(1, Ending::ShutDown), (2, Ending::Leave)]),
        };
        let short = Duration::from_millis(20);
        let init = match random.below(10) {
            0..6 => Init::Quick,
            6..8 => Init::Waits(pick_duration(random, short)),
            _ => Init::Blocks(pick_duration(random, short)),
        };
        let suicide = random.chance(12).then(|| {
            let point = random.weighted(&[
                (1, Point::Init),
                (2, Point::Call),
                (2, Point::Stream),
                (1, Point::Shutdown),
            ]);
            (point, Blow::of(random))
        });
        let shutdown =
            if random.chance(30) { pick_duration(random, short) } else { Duration::ZERO };
        let after = if random.chance(50) { pick_duration(random, short) } else { Duration::ZERO };
        Self { name, lives, after, init, shutdown, tasks, branches, suicide, ending }
    }
}

impl Branch {
    /// Says whether it, or a worker below it, is detached.
    pub(super) fn has_detached(&self) -> bool {
        self.lives == Lives::Detached || self.branches.iter().any(Self::has_detached)
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, lives, after, init, shutdown, tasks, branches, suicide, ending } = self;
        write!(f, "  {name} {lives:?} after {after:?}, init {init:?}, {tasks:?}, ")?;
        writeln!(f, "then {ending:?} in {shutdown:?}")?;
        if let Some((point, blow)) = suicide {
            writeln!(f, "    strikes itself at {point:?} by {blow:?}")?;
        }
        branches.iter().try_for_each(|it| it.describe(f))
    }
}

/// For people who look for what has gone wrong.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threads, branches, strikes, window, end } = self;
        let threads = if *threads { "several threads" } else { "one thread" };
        writeln!(f, "  master on {threads}, for {window:?}, then {end:?}")?;
        branches.iter().try_for_each(|it| it.describe(f))?;
        for Strike { moment, delay, whom, blow } in strikes {
            writeln!(f, "  {whom:?} is struck by {blow:?} {delay:?} after {moment:?}")?;
        }
        Ok(())
    }
}

impl Strike {
    fn of(random: &mut Random, names: &[String], window: Duration) -> Self {
        let name = names[random.index(names.len())].clone();
        let (moment, delay) = if random.chance(50) {
            let point = random.weighted(&[
                (2, Point::Starting),
                (2, Point::Init),
                (2, Point::Started),
                (2, Point::Call),
                (2, Point::Stream),
                (3, Point::Ending),
                (2, Point::Shutdown),
            ]);
            // Starting takes longer than the others.
            let most = if point == Point::Starting { 8 } else { 3 };
            let delay = pick_duration(random, Duration::from_millis(most));
            (Moment::Reached(name.clone(), point), delay)
        } else {
            (Moment::Begin, pick_duration(random, window))
        };
        let whom = match random.below(100) {
            0..60 => Whom::Worker(name),
            60..72 => Whom::Newest,
            72..90 => Whom::Master,
            90..96 => Whom::Half,
            _ => Whom::Everybody,
        };
        let blow = match whom {
            Whom::Everybody => random.weighted(&[(3, Blow::Kill), (1, Blow::Term)]),
            _ => Blow::of(random),
        };
        Self { moment, delay, whom, blow }
    }
}

impl Blow {
    fn of(random: &mut Random) -> Self {
        let pause = pick_duration(random, Duration::from_millis(80));
        let long_pause = 2 * HEARTBEAT_TIMEOUT;
        random.weighted(&[
            (45, Self::Kill),
            (15, Self::Segv),
            (15, Self::Term),
            (15, Self::Pause(pause)),
            (2, Self::Pause(long_pause)),
            (8, Self::Stop),
        ])
    }
}

fn pick_duration(random: &mut Random, below: Duration) -> Duration {
    let below = u64::try_from(below.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(random.below(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(branches: &[Branch]) -> Vec<&Branch> {
        branches.iter().flat_map(|it| std::iter::once(it).chain(all(&it.branches))).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_plan() {
        let [one, other] = [Plan::of(1, 2), Plan::of(1, 2)];

        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }

    #[test]
    fn everything_there_is_happens_in_some_round() {
        let plans: Vec<_> = (0..300).map(|it| Plan::of(5, it)).collect();
        let branches: Vec<_> = plans.iter().flat_map(|it| all(&it.branches)).collect();
        let dots = |it: &Branch| it.name.matches('.').count();

        assert!(branches.iter().any(|it| dots(it) == DEPTH - 1));
        assert!(branches.iter().all(|it| dots(it) < DEPTH));
        for lives in [Lives::WithClient, Lives::WithMaster, Lives::Detached] {
            assert!(branches.iter().any(|it| it.lives == lives), "{lives:?}");
        }
        for blow in [Blow::Kill, Blow::Segv, Blow::Term, Blow::Stop] {
            let struck = |it: &Plan| it.strikes.iter().any(|it| it.blow == blow);
            assert!(plans.iter().any(struck), "{blow:?}");
        }
    }

    #[test]
    fn who_blocks_has_nothing_else_to_do() {
        for plan in (0..300).map(|it| Plan::of(6, it)) {
            for branch in all(&plan.branches) {
                let blocks = branch.tasks.contains(&Task::Block);
                assert!(!blocks || branch.branches.is_empty(), "{branch:?}");
            }
        }
    }
}
