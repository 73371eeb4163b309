//! What a worker of a floor or a peer does with the socket on its stdin.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};

use crate::contenders::floor::calls as floor;
use crate::contenders::tarpc::calls as tarpc;
use crate::place;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    /// Sends back what comes, on a runtime.
    Echo,
    /// Sends back much at once, on a runtime.
    BulkEcho,
    /// Sends back what comes, with blocking reads and writes.
    BlockingEcho,
    /// Serves the peer's calls.
    Tarpc,
}

const ROLES: [Role; 4] = [Role::Echo, Role::BulkEcho, Role::BlockingEcho, Role::Tarpc];

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::BulkEcho => "bulk-echo",
            Self::BlockingEcho => "blocking-echo",
            Self::Tarpc => "tarpc",
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
            Self::BlockingEcho => floor::echo_blocking(socket),
            Self::Echo => place::runtime()?.block_on(floor::echo(socket, floor::FRAME)),
            Self::BulkEcho => place::runtime()?.block_on(floor::echo(socket, floor::BULK)),
            Self::Tarpc => place::runtime()?.block_on(tarpc::serve(socket)),
        }
    }
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
