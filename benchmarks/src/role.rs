//! What a process other than the master does with the socket on its stdin.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};

use crate::contenders::floor::calls::{self, FloorCaller};
use crate::contenders::floor::channels::FloorChannels;
use crate::contenders::floor::requests;
use crate::contenders::remoc::{self, RemocPeer};
use crate::contenders::rpc_parallel::calls::{
    RpcParallelCaller, RpcParallelStarted, RpcParallelWatched,
};
use crate::contenders::rpc_parallel::pipes::RpcParallelPipes;
use crate::contenders::tarpc;
use crate::groups::life::{idle, thousand};
use crate::groups::stream::open;
use crate::{chaos, opener, place};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    /// Sends back what comes, on a runtime.
    Echo,
    /// Sends back much at once, on a runtime.
    BulkEcho,
    /// Sends back what comes, with blocking reads and writes.
    BlockingEcho,
    /// Sends and takes numbers and bytes as asked, on a runtime.
    Requests,
    /// Serves a peer's calls.
    Tarpc,
    TarpcBulk,
    TarpcHolding,
    Remoc,
    /// Is a master, and measures what its open streams hold.
    ChannelsOpen,
    PipesOpen,
    RemocOpen,
    /// Is a master, and measures what its idle workers cost it.
    MasterOfBare,
    MasterOfSpawned,
    MasterOfStarted,
    WokenByBare,
    WokenByWatched,
    /// Is a master, and starts a thousand workers.
    ThousandBare,
    Thousand,
    /// Ends at once.
    Nothing,
    /// Is the first master of a round of chaos.
    Chaos,
}

const ROLES: [Role; 20] = [
    Role::Echo,
    Role::BulkEcho,
    Role::BlockingEcho,
    Role::Requests,
    Role::Tarpc,
    Role::TarpcBulk,
    Role::TarpcHolding,
    Role::Remoc,
    Role::ChannelsOpen,
    Role::PipesOpen,
    Role::RemocOpen,
    Role::MasterOfBare,
    Role::MasterOfSpawned,
    Role::MasterOfStarted,
    Role::WokenByBare,
    Role::WokenByWatched,
    Role::ThousandBare,
    Role::Thousand,
    Role::Nothing,
    Role::Chaos,
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
            Self::TarpcHolding => "tarpc-holding",
            Self::Remoc => "remoc",
            Self::ChannelsOpen => "channels-open",
            Self::PipesOpen => "pipes-open",
            Self::RemocOpen => "remoc-open",
            Self::MasterOfBare => "master-of-bare",
            Self::MasterOfSpawned => "master-of-spawned",
            Self::MasterOfStarted => "master-of-started",
            Self::WokenByBare => "woken-by-bare",
            Self::WokenByWatched => "woken-by-watched",
            Self::ThousandBare => "thousand-bare",
            Self::Thousand => "thousand",
            Self::Nothing => "nothing",
            Self::Chaos => "chaos",
        }
    }

    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        match ROLES.into_iter().find(|it| it.name() == name) {
            Some(role) => Ok(role),
            None => bail!("unknown role `{name}`"),
        }
    }

    /// Serves until the master closes its end.
    pub(crate) fn serve(self) -> anyhow::Result<()> {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().context("take stdin")?;
        let socket = UnixStream::from(stdin);
        match self {
            Self::BlockingEcho => calls::echo_blocking(socket),
            Self::Echo => serve_with(calls::echo(socket, calls::FRAME)),
            Self::BulkEcho => serve_with(calls::echo(socket, calls::BULK)),
            Self::Requests => serve_with(requests::serve(socket)),
            Self::Tarpc => serve_with(tarpc::calls::serve(socket)),
            Self::TarpcBulk => serve_with(tarpc::bulk::serve(socket)),
            Self::TarpcHolding => serve_with(tarpc::holding::serve(socket)),
            Self::Remoc => serve_with(remoc::serve(socket)),
            Self::ChannelsOpen => opener::measure::<FloorChannels>(socket, open::PIPES),
            Self::PipesOpen => opener::measure::<RpcParallelPipes>(socket, open::PIPES),
            Self::RemocOpen => opener::measure::<RemocPeer>(socket, open::PIPES),
            Self::MasterOfBare => idle::hold::<FloorCaller>(socket),
            Self::MasterOfSpawned => idle::hold::<RpcParallelCaller>(socket),
            Self::MasterOfStarted => idle::hold::<RpcParallelStarted>(socket),
            Self::WokenByBare => idle::observe::<FloorCaller>(socket),
            Self::WokenByWatched => idle::observe::<RpcParallelWatched>(socket),
            Self::ThousandBare => thousand::start_bare(socket),
            Self::Thousand => thousand::start(socket),
            Self::Nothing => Ok(()),
            Self::Chaos => chaos::master::serve(socket),
        }
    }
}

fn serve_with(worker: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    place::runtime()?.block_on(worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_found_by_its_name() {
        for role in ROLES {
            assert_eq!(Role::named(role.name()).expect("its own name"), role);
        }
    }
}
