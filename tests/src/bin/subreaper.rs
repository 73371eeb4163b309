//! A master that adopts orphans, and whose worker leaves one: it prints the process id of the orphan,
//! and whether the orphan was reaped.

use std::path::Path;
use std::process::{Command, Stdio};

use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::until;
use rustix::process::{getpid, set_child_subreaper};

/// The functions of the worker.
#[rpc_parallel::worker]
trait Parent {
    /// Starts a process that outlives its parent for a moment, and returns its process id.
    fn leave_orphan(&self) -> Result<u32, AnyError>;
}

#[derive(Default, WorkerState)]
struct Shell;

#[rpc_parallel::worker]
impl Parent for Shell {
    fn leave_orphan(&self) -> Result<u32, AnyError> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "sleep 0.3 >/dev/null & echo $!"]).stdin(Stdio::null());
        let output = shell.output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    let own = Command::new("/bin/true").spawn()?;
    let worker = Shell::spawn(()).await?;
    let orphan = worker.leave_orphan().await?;
    worker.shutdown().await?;

    let path = format!("/proc/{orphan}");
    let reaped = until(|| (!Path::new(&path).exists()).then_some(()));
    println!("orphan {orphan} {}", if reaped.is_some() { "reaped" } else { "left" });
    let own = { own }.wait()?;
    println!("own child exited with {:?}", own.code());
    Ok(())
}
