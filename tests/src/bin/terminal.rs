//! Execs a program in a new session whose controlling terminal is its stdin:
//! `terminal PROGRAM [ARGUMENT..]`.

use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let Some(program) = args.next() else { anyhow::bail!("usage: terminal PROGRAM [ARGUMENT..]") };
    rustix::process::setsid()?;
    rustix::process::ioctl_tiocsctty(std::io::stdin())?;
    Err(Command::new(program).args(args).exec().into())
}
