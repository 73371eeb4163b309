//! A thousand workers: started, asked how they are, and ended.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::stream::{self, StreamExt, TryStreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::caller;
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::conversation::Conversation;
use crate::figure::{FLOOR, Figure, RPC_PARALLEL};
use crate::fresh::{self, Runs};
use crate::place::{self, Place};
use crate::role::Role;
use crate::worker_process;

const WORKERS: usize = 1_000;
/// How many start at the same time: enough for all cores to be busy, and not so many that those who
/// began first wait long for their turn.
const AT_ONCE: usize = 100;
/// A run takes seconds.
const AT_MOST: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not 0");

/// What one run took: milliseconds, and descriptors of the master.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Taken {
    started: f64,
    asked: f64,
    ended: f64,
    descriptors: f64,
}

pub(super) fn figures() -> Vec<Figure> {
    let floor = Runs::<Taken>::of(Role::ThousandBare);
    let ours = Runs::<Taken>::of(Role::Thousand);
    let figure = |name, unit| Figure::new(name, unit).at_most(AT_MOST);
    vec![
        figure("life.thousand", "ms")
            .contender(FLOOR, floor.value(Taken::milliseconds))
            .contender(RPC_PARALLEL, ours.value(Taken::milliseconds))
            .contender("rpc-parallel (started)", ours.value(|it| it.started))
            .contender("rpc-parallel (asked)", ours.value(|it| it.asked))
            .contender("rpc-parallel (ended)", ours.value(|it| it.ended)),
        figure("life.thousand.descriptors", "per worker")
            .contender(FLOOR, floor.value(|it| it.descriptors))
            .contender(RPC_PARALLEL, ours.value(|it| it.descriptors)),
    ]
}

/// The fresh master of workers.
pub(crate) fn start(socket: UnixStream) -> anyhow::Result<()> {
    allow_descriptors()?;
    let taken = place::run(Place::Task, async {
        let first = RpcParallelCaller::start().await?;
        let descriptors = descriptors()?;

        let begin = Instant::now();
        let starting = (0..WORKERS).map(|_| caller::start_and_call::<RpcParallelCaller>());
        let workers: Vec<_> =
            stream::iter(starting).buffer_unordered(AT_ONCE).try_collect().await?;
        let started = begin.elapsed();
        let descriptors = self::descriptors()? - descriptors;

        let begin = Instant::now();
        let asking = workers.iter().map(RpcParallelCaller::ask_for_stats);
        stream::iter(asking).buffer_unordered(WORKERS).try_collect::<()>().await?;
        let asked = begin.elapsed();

        let begin = Instant::now();
        let ending = workers.into_iter().map(RpcParallelCaller::shut_down);
        stream::iter(ending).buffer_unordered(WORKERS).try_collect::<()>().await?;
        let ended = begin.elapsed();
        first.end().await?;
        Ok(Taken::new([started, asked, ended], descriptors))
    })?;
    fresh::report(socket, &taken)
}

/// The fresh master of bare processes, which end as soon as they have begun.
pub(crate) fn start_bare(socket: UnixStream) -> anyhow::Result<()> {
    allow_descriptors()?;
    let before = descriptors()?;
    let begin = Instant::now();
    let starting = (0..WORKERS).map(|_| worker_process::start(Role::Nothing));
    let processes: Vec<_> = starting.collect::<anyhow::Result<_>>()?;
    let started = begin.elapsed();
    let descriptors = descriptors()? - before;

    let begin = Instant::now();
    for (socket, process) in processes {
        drop(socket);
        process.wait()?;
    }
    fresh::report(socket, &Taken::new([started, Duration::ZERO, begin.elapsed()], descriptors))
}

impl Taken {
    fn milliseconds(self) -> f64 {
        self.started + self.asked + self.ended
    }

    fn new(times: [Duration; 3], descriptors: usize) -> Self {
        let [started, asked, ended] = times.map(|it| it.as_secs_f64() * 1e3);
        Self { started, asked, ended, descriptors: descriptors as f64 / WORKERS as f64 }
    }
}

/// Allows this process, and all it starts from now on, as many descriptors as it may have.
fn allow_descriptors() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let allowed = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, allowed).context("allow this process more descriptors")
}

fn descriptors() -> anyhow::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd").context("count the descriptors")?.count())
}
