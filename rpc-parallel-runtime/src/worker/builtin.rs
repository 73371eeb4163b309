//! The built-in functions: every worker answers them in addition to the functions of its trait.

#[cfg(feature = "pool")]
use std::pin::Pin;
#[cfg(feature = "pool")]
use std::sync::Arc;
#[cfg(feature = "pool")]
use std::task::{Context, Poll, ready};
use std::time::Duration;

#[cfg(feature = "pool")]
use bytes::Bytes;
#[cfg(feature = "pool")]
use tokio::runtime::Handle;

use super::arguments::Arguments;
#[cfg(feature = "pool")]
use super::items::{Computing, ItemRun, MapRequest, serve_map};
#[cfg(feature = "tracing")]
use super::logs::{Logs, count, logs_of};
use super::servers::Servers;
use super::stats::WorkerStats;
use crate::connection::{Answering, AnyError, Call, Client, Incoming, plain};
#[cfg(feature = "pool")]
use crate::connection::{Pipe, PipeWriter, Running};
#[cfg(feature = "tracing")]
use crate::wire::FunctionId;
#[cfg(any(feature = "tracing", feature = "pool"))]
use crate::wire::codec;
#[cfg(feature = "pool")]
use crate::wire::{Codec, Settings};
use crate::wire::{FunctionInfo, Refusal, SourceLocation, WorkerId, WorkerLabel, own_codec};

const fn builtin(
    name: &'static str,
    arguments: &'static str,
    result: &'static str,
    line: u32,
) -> FunctionInfo {
    let place = SourceLocation {
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
/// Returns the logs of the worker's process.
#[cfg(feature = "tracing")]
const LOGS: &FunctionInfo = &builtin("logs", "", "Logs", line!());
/// Returns the number of records that the worker's process has logged.
#[cfg(feature = "tracing")]
const LOGGED: &FunctionInfo = &builtin("logged", "", "u64", line!());
const SHUT_DOWN: &FunctionInfo = &builtin("shut_down", "Duration", "bool", line!());
/// Runs a function on the items of a map. Only control connections have it.
#[cfg(feature = "pool")]
pub(super) const MAP: &FunctionInfo = &builtin("map", "MapRequest,..", "()", line!());

/// Calls `close_server`: the worker accepts no new connections.
pub(super) fn close_server(client: &Client) -> Call<()> {
    Call::new(client, CLOSE_SERVER, plain(own_codec()), |sink| ().encode((), sink))
}

/// Calls `shut_down`: the worker's process ends within this time. Returns `false` if the worker has
/// no process of its own.
pub(crate) fn shut_down(client: &Client, within: Duration) -> Call<bool> {
    Call::new(client, SHUT_DOWN, plain(own_codec()), |sink| {
        (own_codec::<Duration>(),).encode((&within,), sink)
    })
}

/// Calls `map`: the worker runs a function on the items of the orders, and sends reports. The call
/// resolves after the orders have ended and none of its user code runs in the worker.
///
/// # Errors
///
/// The call is refused if the worker does not have a function, or the state of its connection
/// failed to begin.
#[cfg(feature = "pool")]
pub(crate) fn map_items(
    client: &Client,
    request: &MapRequest,
    orders: &Pipe<Bytes>,
    reports: &PipeWriter<Bytes>,
) -> Call<()> {
    Call::new(client, MAP, plain(own_codec()), |sink| {
        map_codecs().encode((request, orders, reports), sink)
    })
}

#[cfg(feature = "pool")]
const fn map_codecs() -> (Codec<MapRequest>, Codec<Pipe<Bytes>>, Codec<PipeWriter<Bytes>>) {
    (own_codec(), codec(), codec())
}

/// Begins a call of `map`.
#[cfg(feature = "pool")]
pub(super) fn begin_map(
    mut call: Incoming<'_>,
    answering: &mut Answering<'_>,
    settings: Settings,
    runtime: Handle,
    compute: impl FnOnce(MapRequest, Arc<ItemRun>) -> Computing + Send + 'static,
) -> Option<Pin<Box<dyn Running>>> {
    match call.arguments(|body| map_codecs().decode(body)) {
        Ok((request, orders, reports)) => {
            let run = Arc::new(ItemRun::new(settings, reports, &request));
            let serving = async move { serve_map(request, orders, run, &runtime, compute).await };
            Some(Box::pin(RunningMap(Box::pin(serving))))
        }
        Err(error) => {
            answering.refuse(&Refusal::Undecodable { why: AnyError::from(error).to_string() });
            None
        }
    }
}

/// A map that is being served.
#[cfg(feature = "pool")]
struct RunningMap(Computing);

#[cfg(feature = "pool")]
impl Running for RunningMap {
    fn poll_answer(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        answering: &mut Answering<'_>,
    ) -> Poll<()> {
        match ready!(self.0.as_mut().poll(cx)) {
            Ok(()) => answering.result(plain(own_codec()), ()),
            Err(refusal) => answering.refuse(&refusal),
        }
        Poll::Ready(())
    }
}

/// Calls `stats`: returns the statistics of the worker's process.
pub(crate) fn stats(client: &Client) -> Call<WorkerStats> {
    Call::new(client, STATS, plain(own_codec()), |sink| ().encode((), sink))
}

/// Calls `logs`: returns the logs of the worker's process.
#[cfg(feature = "tracing")]
pub(crate) fn ask_for_logs(client: &Client) -> Call<Logs> {
    Call::new(client, LOGS, plain(codec()), |sink| ().encode((), sink))
}

/// Calls `logged`: returns the number of records that the worker's process has logged.
#[cfg(feature = "tracing")]
pub(super) fn ask_for_count(client: &Client) -> Call<u64> {
    Call::new(client, LOGGED, plain(codec()), |sink| ().encode((), sink))
}

/// Returns the name of a built-in function, for the span of its call.
#[cfg(feature = "tracing")]
pub(super) fn name(function: FunctionId) -> Option<String> {
    let all = [CLOSE_SERVER, STATS, LOGS, LOGGED, SHUT_DOWN];
    #[cfg(feature = "pool")]
    let all = all.into_iter().chain([MAP]);
    let info = all.into_iter().find(|it| it.id() == function)?;
    Some(format!("{}::{}", info.worker_trait(), info.name()))
}

/// Answers the call of a built-in function. Returns the call if its function is another one.
pub(super) fn answer<'a>(
    (id, label): (WorkerId, &WorkerLabel),
    mut call: Incoming<'a>,
    answering: &mut Answering<'_>,
) -> Option<Incoming<'a>> {
    #[cfg(not(feature = "tracing"))]
    let _ = label;
    #[cfg(feature = "tracing")]
    if call.function == LOGS.id() {
        answering.result(plain(codec()), logs_of(label));
        return None;
    } else if call.function == LOGGED.id() {
        answering.result(plain(codec()), count());
        return None;
    }
    if call.function == CLOSE_SERVER.id() {
        Servers::get().remove(id);
        answering.result(plain(own_codec()), ());
    } else if call.function == STATS.id() {
        answering.result(plain(own_codec()), WorkerStats::in_call());
    } else if call.function == SHUT_DOWN.id() {
        match call.arguments(|body| (own_codec::<Duration>(),).decode(body)) {
            Ok((within,)) => {
                answering.result(plain(own_codec()), Servers::get().shut_down(id, within));
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
