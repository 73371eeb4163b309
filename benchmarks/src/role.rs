//! What a process other than the master does with the socket on its stdin.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};

use crate::contenders::floor::channels::FloorChannels;
use crate::contenders::floor::{calls, requests};
use crate::contenders::remoc::{self, RemocPeer};
use crate::contenders::rpc_parallel::pipes::RpcParallelPipes;
use crate::contenders::tarpc;
use crate::groups::stream::open;
use crate::{opener, place};

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
}

const ROLES: [Role; 11] = [
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
