//! Sequential calls of a program that is not async.

use std::time::Duration;

use crate::affinity::{self, Cores};
use crate::contenders::floor::calls as floor;
use crate::contenders::rpc_parallel::calls::time_waiting_calls;
use crate::figure::{FLOOR, Figure, RPC_PARALLEL};

const CALLS: u64 = 5_000;

pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = vec![figure("call.wait.pinned", Cores::One)];
    if affinity::available()?.len() > 1 {
        figures.push(figure("call.wait.apart", Cores::Apart));
    }
    Ok(figures)
}

fn figure(name: &'static str, cores: Cores) -> Figure {
    Figure::new(name, "us")
        .contender(FLOOR, time(cores, floor::time_blocking_calls))
        .contender(RPC_PARALLEL, time(cores, time_waiting_calls))
}

fn time(
    cores: Cores,
    calls: impl Fn(Cores, u64) -> anyhow::Result<Duration>,
) -> impl FnMut() -> anyhow::Result<f64> {
    move || {
        let _affinity = affinity::restrict(cores)?;
        Ok(calls(cores, CALLS)?.as_secs_f64() * 1e6 / CALLS as f64)
    }
}
