//! Many open streams on one connection: what they hold, and what they cost the calls beside them.

use std::num::NonZeroUsize;

use crate::caller;
use crate::contenders::rpc_parallel::pipes::RpcParallelPipes;
use crate::conversation::Conversation;
use crate::figure::{FLOOR, Figure, REMOC, RPC_PARALLEL};
use crate::groups::call;
use crate::opener::{self, Held};
use crate::place::{self, Place};
use crate::role::Role;

pub(crate) const PIPES: usize = 10_000;
/// Memory hardly differs from round to round.
const AT_MOST: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");

pub(super) fn figures() -> Vec<Figure> {
    vec![
        held("stream.open_10000.master", |it| it.master).at_most(AT_MOST),
        held("stream.open_10000.worker", |it| it.worker).at_most(AT_MOST),
        Figure::new("stream.open_10000.calls", "M calls/s")
            .contender("rpc-parallel (none open)", || calls_beside(0))
            .contender(RPC_PARALLEL, || calls_beside(PIPES)),
    ]
}

fn held(name: &'static str, end: fn(Held) -> f64) -> Figure {
    let each = move |role| Ok(end(Held::by(role)?) / PIPES as f64);
    Figure::new(name, "bytes")
        .contender(FLOOR, move || each(Role::ChannelsOpen))
        .contender(RPC_PARALLEL, move || each(Role::PipesOpen))
        .contender(REMOC, move || each(Role::RemocOpen))
}

/// Measures `call.in_flight_1000` with so many streams open on the same connection.
fn calls_beside(pipes: usize) -> anyhow::Result<f64> {
    let elapsed = place::run(Place::Task, async move {
        let mut caller = RpcParallelPipes::start().await?;
        let pipes = opener::opened(&mut caller, pipes).await?;
        let elapsed = caller::in_flight_of(&caller, call::IN_FLIGHT, call::CALLS_EACH).await?;
        drop(pipes);
        caller.end().await?;
        Ok(elapsed)
    })?;
    Ok(call::million_calls_per_second(elapsed))
}
