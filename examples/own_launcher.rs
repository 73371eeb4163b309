//! A launcher of one's own: it starts workers by a remote shell, which passes on their stdin and
//! stdout. The connections to a worker are channels of that stream.
//!
//! ```text
//! cargo run --example own_launcher                # a local shell, in place of the remote one
//! cargo run --example own_launcher -- ssh node1   # this program must be at the same path there
//! ```

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use rpc_parallel::launch::{LaunchRequest, Launcher, Launching};
use rpc_parallel::prelude::*;

/// Starts workers by a command that runs its last argument in a shell.
struct RemoteShell {
    command: Vec<OsString>,
    program: PathBuf,
}

impl Launcher for RemoteShell {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        Box::pin(async move {
            let [shell, arguments @ ..] = &self.command[..] else {
                return Err(std::io::Error::other("the command of the shell is empty"));
            };
            let mut command = Command::new(shell);
            command.args(arguments).arg(worker.shell_command(&self.program));
            worker.over_stdio(command)
        })
    }
}

/// The functions of the worker.
#[rpc_parallel::worker]
pub trait Hosts {
    /// Returns the name of the worker's host, and its process id.
    fn here(&self) -> Result<String, AnyError>;
}

#[derive(Default, WorkerState)]
struct Host;

#[rpc_parallel::worker]
impl Hosts for Host {
    fn here(&self) -> Result<String, AnyError> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
        Ok(format!("process {} on {}", std::process::id(), name.trim_end()))
    }
}

#[rpc_parallel::entry]
async fn main(args: Vec<OsString>) -> anyhow::Result<()> {
    let mut command = args[1..].to_vec();
    if command.is_empty() {
        command = ["/bin/sh".into(), "-c".into()].into();
    }
    let shell = RemoteShell { command, program: std::env::current_exe()? };

    let far = Host::spawner().name("far").launcher(shell).spawn(()).await?;

    println!("this is process {}", std::process::id());
    println!("{} is {}", far.label(), far.here().await?);
    Ok(())
}
