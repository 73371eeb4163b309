//! 1,000 workers: starts, stats, and shutdowns.

use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::descriptors;
use crate::echo_caller::{self, EchoCaller};
use crate::figure::{FLOOR, Figure, RPC_PARALLEL};
use crate::fresh_master::{self, SharedRuns};
use crate::role::Role;
use crate::runtime::{self, CallFrom};
use crate::worker_process;

const WORKERS: usize = 1_000;
/// The number of concurrent starts: enough to keep all cores busy, and few enough that the first
/// starts do not wait long.
const CONCURRENT_STARTS: usize = 100;
/// A round takes seconds.
const MAX_ROUNDS: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not 0");

/// The durations of one run in milliseconds, and the descriptors of the master per worker.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Measurement {
    started: f64,
    asked: f64,
    ended: f64,
    descriptors: f64,
}

pub(super) fn figures() -> Vec<Figure> {
    let floor = SharedRuns::<Measurement>::new(Role::ThousandBareProcesses);
    let workers = SharedRuns::<Measurement>::new(Role::ThousandWorkers);
    let forked = SharedRuns::<Measurement>::new(Role::ThousandForkedWorkers);
    let figure = |name, unit| Figure::new(name, unit).with_max_rounds(MAX_ROUNDS);
    vec![
        figure("life.thousand", "ms")
            .contender(FLOOR, floor.value(Measurement::milliseconds))
            .contender(RPC_PARALLEL, workers.value(Measurement::milliseconds))
            .contender("rpc-parallel (started)", workers.value(|it| it.started))
            .contender("rpc-parallel (asked)", workers.value(|it| it.asked))
            .contender("rpc-parallel (ended)", workers.value(|it| it.ended))
            .contender("rpc-parallel (snapshot)", forked.value(Measurement::milliseconds)),
        figure("life.thousand.descriptors", "per worker")
            .contender(FLOOR, floor.value(|it| it.descriptors))
            .contender(RPC_PARALLEL, workers.value(|it| it.descriptors)),
    ]
}

/// Runs as a fresh master of workers.
pub(crate) fn send_measurement<C>(socket: UnixStream) -> anyhow::Result<()>
where
    C: EchoCaller + AsRef<RpcParallelCaller>,
{
    descriptors::allow_all()?;
    let measurement = runtime::run(CallFrom::SpawnedTask, async {
        let first = C::start().await?;
        let before = descriptors::count()?;

        let begin = Instant::now();
        let starts = (0..WORKERS).map(|_| echo_caller::start_and_call::<C>());
        let workers: Vec<_> =
            stream::iter(starts).buffer_unordered(CONCURRENT_STARTS).try_collect().await?;
        let started = begin.elapsed();
        let descriptors = descriptors::count()? - before;

        let begin = Instant::now();
        let requests: Vec<_> = workers.iter().map(|it| it.as_ref().request_stats()).collect();
        stream::iter(requests).buffer_unordered(WORKERS).try_collect::<()>().await?;
        let asked = begin.elapsed();

        let begin = Instant::now();
        let shutdowns: Vec<_> = workers.iter().map(|it| it.as_ref().shut_down()).collect();
        stream::iter(shutdowns).buffer_unordered(WORKERS).try_collect::<()>().await?;
        let ended = begin.elapsed();
        first.stop().await?;
        Ok(Measurement::new([started, asked, ended], descriptors))
    })?;
    fresh_master::send(socket, &measurement)
}

/// Runs as a fresh master of bare processes, which exit at once.
pub(crate) fn send_bare_measurement(socket: UnixStream) -> anyhow::Result<()> {
    descriptors::allow_all()?;
    let before = descriptors::count()?;
    let begin = Instant::now();
    let starts = (0..WORKERS).map(|_| worker_process::start(Role::ExitAtOnce));
    let processes: Vec<_> = starts.collect::<anyhow::Result<_>>()?;
    let started = begin.elapsed();
    let descriptors = descriptors::count()? - before;

    let begin = Instant::now();
    for (socket, process) in processes {
        drop(socket);
        process.wait()?;
    }
    fresh_master::send(
        socket,
        &Measurement::new([started, Duration::ZERO, begin.elapsed()], descriptors),
    )
}

impl Measurement {
    fn milliseconds(self) -> f64 {
        self.started + self.asked + self.ended
    }

    fn new(times: [Duration; 3], descriptors: usize) -> Self {
        let [started, asked, ended] = times.map(|it| it.as_secs_f64() * 1e3);
        Self { started, asked, ended, descriptors: descriptors as f64 / WORKERS as f64 }
    }
}
