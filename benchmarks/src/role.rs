//! The roles of processes that `--serve` starts with a socket as their stdin.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::contenders::floor;
use crate::contenders::floor::calls::{self, FloorCaller};
use crate::contenders::floor::channels::FloorChannels;
use crate::contenders::floor::requests;
use crate::contenders::remoc::{self, RemocPeer};
use crate::contenders::rpc_parallel::calls::{
    RpcParallelCaller, RpcParallelHeartbeatCaller, RpcParallelUnconnectedWorker,
};
use crate::contenders::rpc_parallel::pipes::RpcParallelPipes;
use crate::contenders::rpc_parallel::snapshots::{self, Nothing, SnapshotCaller};
use crate::contenders::tarpc;
use crate::groups::life::{idle, thousand_workers};
use crate::groups::map::master_cost;
use crate::groups::stream::open_streams;
use crate::{busy_processes, runtime, stream_opener};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    /// Echoes single frames, on a runtime.
    Echo,
    /// Echoes many frames at once, on a runtime.
    BulkEcho,
    /// Echoes single frames, with blocking reads and writes.
    BlockingEcho,
    /// Sends and receives numbers and bytes on request, on a runtime.
    Requests,
    /// Workers of the peers.
    Tarpc,
    TarpcBulk,
    TarpcCancellation,
    Remoc,
    /// Fresh masters that measure the memory of open streams.
    OpenChannels,
    OpenPipes,
    OpenRemocChannels,
    /// Fresh masters that measure the cost of idle workers.
    BareProcessMemory,
    SpawnedWorkerMemory,
    StartedWorkerMemory,
    BareProcessWakeUps,
    HeartbeatWakeUps,
    /// Fresh masters that start 1,000 workers.
    ThousandBareProcesses,
    ThousandWorkers,
    ThousandForkedWorkers,
    /// Runs items and sends the sum of their results.
    Items,
    /// Sends the time and exits.
    CompletionTime,
    /// Sleeps before it echoes a single frame.
    SleepingEcho,
    /// Fresh masters of processes whose items sleep.
    SleepingBareProcesses,
    SleepingItems,
    /// Exits at once.
    ExitAtOnce,
    /// Computes, so that a core is busy.
    Busy,
}

const ROLES: [Role; 26] = [
    Role::Echo,
    Role::BulkEcho,
    Role::BlockingEcho,
    Role::Requests,
    Role::Tarpc,
    Role::TarpcBulk,
    Role::TarpcCancellation,
    Role::Remoc,
    Role::OpenChannels,
    Role::OpenPipes,
    Role::OpenRemocChannels,
    Role::BareProcessMemory,
    Role::SpawnedWorkerMemory,
    Role::StartedWorkerMemory,
    Role::BareProcessWakeUps,
    Role::HeartbeatWakeUps,
    Role::ThousandBareProcesses,
    Role::ThousandWorkers,
    Role::ThousandForkedWorkers,
    Role::Items,
    Role::CompletionTime,
    Role::SleepingEcho,
    Role::SleepingBareProcesses,
    Role::SleepingItems,
    Role::ExitAtOnce,
    Role::Busy,
];

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::BulkEcho => "bulk-echo",
            Self::BlockingEcho => "blocking-echo",
            Self::Requests => "requests",
            Self::Tarpc => "tarpc",
            Self::TarpcBulk => "tarpc-bulk",
            Self::TarpcCancellation => "tarpc-cancellation",
            Self::Remoc => "remoc",
            Self::OpenChannels => "open-channels",
            Self::OpenPipes => "open-pipes",
            Self::OpenRemocChannels => "open-remoc-channels",
            Self::BareProcessMemory => "bare-process-memory",
            Self::SpawnedWorkerMemory => "spawned-worker-memory",
            Self::StartedWorkerMemory => "started-worker-memory",
            Self::BareProcessWakeUps => "bare-process-wake-ups",
            Self::HeartbeatWakeUps => "heartbeat-wake-ups",
            Self::ThousandBareProcesses => "thousand-bare-processes",
            Self::ThousandWorkers => "thousand-workers",
            Self::ThousandForkedWorkers => "thousand-forked-workers",
            Self::Items => "items",
            Self::CompletionTime => "completion-time",
            Self::SleepingEcho => "sleeping-echo",
            Self::SleepingBareProcesses => "sleeping-bare-processes",
            Self::SleepingItems => "sleeping-items",
            Self::ExitAtOnce => "exit-at-once",
            Self::Busy => "busy",
        }
    }

    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        match ROLES.into_iter().find(|it| it.name() == name) {
            Some(role) => Ok(role),
            None => bail!("unknown role `{name}`"),
        }
    }

    /// Runs the role until the master closes its end of the socket or the measurement is sent.
    pub(crate) fn serve(self) -> anyhow::Result<()> {
        let stdin =
            std::io::stdin().as_fd().try_clone_to_owned().context("failed to take stdin")?;
        let socket = UnixStream::from(stdin);
        match self {
            Self::BlockingEcho => calls::echo_blocking(socket, Duration::ZERO),
            Self::Echo => serve_with(calls::echo(socket, calls::FRAME)),
            Self::BulkEcho => serve_with(calls::echo(socket, calls::BULK)),
            Self::Requests => serve_with(requests::serve(socket)),
            Self::Tarpc => serve_with(tarpc::calls::serve(socket)),
            Self::TarpcBulk => serve_with(tarpc::bulk::serve(socket)),
            Self::TarpcCancellation => serve_with(tarpc::cancellation::serve(socket)),
            Self::Remoc => serve_with(remoc::serve(socket)),
            Self::OpenChannels => {
                stream_opener::send_memory::<FloorChannels>(socket, open_streams::STREAMS)
            }
            Self::OpenPipes => {
                stream_opener::send_memory::<RpcParallelPipes>(socket, open_streams::STREAMS)
            }
            Self::OpenRemocChannels => {
                stream_opener::send_memory::<RemocPeer>(socket, open_streams::STREAMS)
            }
            Self::BareProcessMemory => idle::send_memory::<FloorCaller>(socket),
            Self::SpawnedWorkerMemory => idle::send_memory::<RpcParallelCaller>(socket),
            Self::StartedWorkerMemory => idle::send_memory::<RpcParallelUnconnectedWorker>(socket),
            Self::BareProcessWakeUps => idle::send_wake_ups::<FloorCaller>(socket),
            Self::HeartbeatWakeUps => idle::send_wake_ups::<RpcParallelHeartbeatCaller>(socket),
            Self::ThousandBareProcesses => thousand_workers::send_bare_measurement(socket),
            Self::ThousandWorkers => {
                thousand_workers::send_measurement::<RpcParallelCaller>(socket)
            }
            Self::ThousandForkedWorkers => {
                snapshots::take::<Nothing>()?;
                thousand_workers::send_measurement::<SnapshotCaller<Nothing>>(socket)
            }
            Self::Items => floor::items::serve(socket),
            Self::CompletionTime => floor::items::send_completion_time(socket),
            Self::SleepingEcho => calls::echo_blocking(socket, master_cost::SLEEP),
            Self::SleepingBareProcesses => master_cost::send_bare_measurement(socket),
            Self::SleepingItems => master_cost::send_measurement(socket),
            Self::ExitAtOnce => Ok(()),
            Self::Busy => busy_processes::compute(socket),
        }
    }
}

fn serve_with(worker: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    runtime::build()?.block_on(worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_is_found_by_its_name() {
        for role in ROLES {
            assert_eq!(Role::named(role.name()).expect("the name is of a role"), role);
        }
    }
}
