//! Starts a worker and prints its process id and its end.
//!
//! - `watcher failure` prints the failure of the worker.
//! - `watcher end` shuts the worker down after a line on stdin, and prints the result.
//! - `watcher release` only begins to start a detached worker, and does not poll the start again.

use std::io;
use std::pin::pin;

use futures_util::future::poll_immediate;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::program::print_line;
use rpc_parallel_tests::script::Script;
use tokio::sync::mpsc::unbounded_channel;

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, mode] = &args[..] else { anyhow::bail!("usage: watcher MODE") };
    if mode == "release" {
        let mut starting = pin!(Fixture::spawner().start_detached(Script::default()));
        let polled = poll_immediate(&mut starting).await;
        anyhow::ensure!(polled.is_none(), "the worker started within one poll");
        // This blocks the only thread of the runtime.
        io::stdin().lines().next();
        return Ok(());
    }
    let (sender, mut failures) = unbounded_channel();
    let spawner = Fixture::spawner().on_failure(move |failure| drop(sender.send(failure)));
    let client = spawner.spawn(Script::default()).await?;
    print_line(&client.pid().await?.to_string());
    if mode == "failure" {
        print_line(&failures.recv().await.expect("the callback is called").to_string());
        return Ok(());
    }
    io::stdin().lines().next();
    let ended = client.shutdown().await;
    print_line(&ended.map_or_else(|error| error.to_string(), |()| "in order".to_owned()));
    Ok(())
}
