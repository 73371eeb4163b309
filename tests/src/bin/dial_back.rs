//! Connects to the Unix socket of a master, and becomes a program whose stdin and stdout are that
//! connection: `dial_back SOCKET PROGRAM [ARGUMENT..]`.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let (Some(socket), Some(program)) = (args.next(), args.next()) else {
        anyhow::bail!("usage: dial_back SOCKET PROGRAM [ARGUMENT..]");
    };
    let connection = UnixStream::connect(socket)?;
    let stdin = OwnedFd::from(connection.try_clone()?);
    let failed =
        Command::new(program).args(args).stdin(stdin).stdout(OwnedFd::from(connection)).exec();
    Err(failed.into())
}
