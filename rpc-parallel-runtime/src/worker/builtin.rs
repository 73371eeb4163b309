//! What every worker can be asked, beside its own functions.

use std::time::Duration;

use super::arguments::Arguments;
use super::servers::Servers;
use super::stats::WorkerStats;
use crate::connection::{Answering, AnyError, Call, Client, Incoming, plain};
use crate::wire::{FunctionInfo, Place, Refusal, WorkerId, codec};

const fn builtin(
    name: &'static str,
    arguments: &'static str,
    result: &'static str,
    line: u32,
) -> FunctionInfo {
    let place = Place {
        package: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        module: module_path!(),
        file: file!(),
        line,
    };
    FunctionInfo::new(name, "WorkerClient", place, arguments, result)
}

const CLOSE_SERVER: &FunctionInfo = &builtin("close_server", "", "()", line!());
const STATS: &FunctionInfo = &builtin("stats", "", "WorkerStats", line!());
const SHUT_DOWN: &FunctionInfo = &builtin("shut_down", "Duration", "bool", line!());

/// Asks a worker to take no new connections.
pub(super) fn close_server(client: &Client) -> Call<()> {
    Call::new(client, CLOSE_SERVER, plain(codec()), |sink| ().encode((), sink))
}

/// Tells a worker to end within this time; `false` if it has no process of its own.
pub(crate) fn shut_down(client: &Client, within: Duration) -> Call<bool> {
    Call::new(client, SHUT_DOWN, plain(codec()), |sink| {
        (codec::<Duration>(),).encode((&within,), sink)
    })
}

/// Asks a worker's process how it is doing.
pub(crate) fn stats(client: &Client) -> Call<WorkerStats> {
    Call::new(client, STATS, plain(codec()), |sink| ().encode((), sink))
}

/// Answers what every worker can be asked; hands the call back if it is none of that.
pub(super) fn answer<'a>(
    id: WorkerId,
    mut call: Incoming<'a>,
    answering: &mut Answering<'_>,
) -> Option<Incoming<'a>> {
    if call.function == CLOSE_SERVER.id() {
        Servers::get().remove(id);
        answering.result(plain(codec()), ());
    } else if call.function == STATS.id() {
        answering.result(plain(codec()), WorkerStats::in_call());
    } else if call.function == SHUT_DOWN.id() {
        match call.arguments(|body| (codec::<Duration>(),).decode(body)) {
            Ok((within,)) => {
                answering.result(plain(codec()), Servers::get().shut_down(id, within));
            }
            Err(error) => {
                let why = AnyError::from(error).to_string();
                answering.refuse(&Refusal::Undecodable { why });
            }
        }
    } else {
        return Some(call);
    }
    None
}
