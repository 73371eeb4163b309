//! Calls with tokio's `multi_thread` runtime at both ends.

use crate::figure::{FLOOR, Figure, RPC_PARALLEL, TARPC};
use crate::fresh_process;
use crate::runtime::{FLAVOR_VARIABLE, MULTI_THREAD};

pub(super) fn figures() -> Vec<Figure> {
    vec![
        figure("call.multi_thread.sequential.pinned", "us", "call.sequential.pinned"),
        figure("call.multi_thread.in_flight_1000", "M calls/s", "call.in_flight_1000"),
    ]
}

/// Measures the contenders of the figure `of` in fresh processes: a master sets the flavor of its
/// workers when it starts.
fn figure(name: &'static str, unit: &'static str, of: &'static str) -> Figure {
    let contender =
        |name| move || fresh_process::measure(of, name, &[(FLAVOR_VARIABLE, MULTI_THREAD)]);
    Figure::new(name, unit)
        .contender(FLOOR, contender(FLOOR))
        .contender(RPC_PARALLEL, contender(RPC_PARALLEL))
        .contender(TARPC, contender(TARPC))
}
