//! Starts a worker that lives with its connection, prints its process id, and prints what becomes of
//! it: `watcher failure` how it fails, `watcher end` how it ends when it is told to, which it is when
//! there is something on stdin. `watcher release` only begins to start a worker that would live on,
//! and never learns that it has.

use std::io;
use std::pin::pin;

use futures_util::future::poll_immediate;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::program::say;
use tokio::sync::mpsc::unbounded_channel;

#[rpc_parallel::worker]
trait Idles {
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Idle;

#[rpc_parallel::worker]
impl Idles for Idle {
    fn pid(&self) -> u32 {
        std::process::id()
    }
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, what] = &args[..] else { anyhow::bail!("watcher WHAT") };
    if what == "release" {
        let mut starting = pin!(Idle::spawner().start_detached(()));
        anyhow::ensure!(poll_immediate(&mut starting).await.is_none(), "no process is so quick");
        // This thread is the runtime, and does nothing else from here on.
        io::stdin().lines().next();
        return Ok(());
    }
    let (tell, mut told) = unbounded_channel();
    let spawner = Idle::spawner().on_failure(move |failure| drop(tell.send(failure)));
    let idle = spawner.spawn(()).await?;
    say(&idle.pid().await?.to_string());
    if what == "failure" {
        say(&told.recv().await.expect("the sender waits for it").to_string());
        return Ok(());
    }
    io::stdin().lines().next();
    say(&idle.shutdown().await.map_or_else(|it| it.to_string(), |()| "in order".to_owned()));
    Ok(())
}
