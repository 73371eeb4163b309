//! Restarts a worker repeatedly: `restarts spawn COUNT` or `restarts start COUNT`. It prints the
//! numbers of descriptors, threads and children before and after.
//!
//! `restarts end` ends during a restart, after it has printed the process id of the new process.

use rpc_parallel::Spawner;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient};
use rpc_parallel_tests::gate::Gate;
use rpc_parallel_tests::process::memory;
use rpc_parallel_tests::resources::{count_after_release, stable_count};
use rpc_parallel_tests::restarting::{BACKOFF, at_once, fixture, spawn_blocked_at};
use rpc_parallel_tests::script::{Action, Script};

fn spawner() -> Spawner<Fixture> {
    fixture(at_once().limit(u32::MAX, BACKOFF)).on_failure(|_| {})
}

/// Returns while the `init` of a new process is blocked.
async fn end() -> anyhow::Result<()> {
    let gate = Gate::new();
    let client = spawn_blocked_at(&gate, spawner()).await;
    let _ = client.run(Action::Exit(1)).await;
    println!("{}", gate.reached().await.pid());
    Ok(())
}

async fn restart(client: &ScriptedClient, count: u32) -> anyhow::Result<()> {
    for number in 0..count {
        anyhow::ensure!(client.run(Action::Exit(1)).await.is_err());
        anyhow::ensure!(client.double(number).await? == 2 * number);
    }
    Ok(())
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let args: Vec<_> = args.iter().skip(1).map(String::as_str).collect();
    let (client, handle, times) = match args[..] {
        ["end"] => return end().await,
        ["spawn", times] => (spawner().spawn(Script::default()).await?, None, times),
        ["start", times] => {
            let worker = spawner().start(Script::default()).await?;
            // Makes the listener.
            serde_json::to_string(&worker)?;
            (worker.connect(()).await?, Some(worker), times)
        }
        _ => anyhow::bail!("usage: restarts spawn|start COUNT, or restarts end"),
    };
    // The first restarts allocate resources that the master keeps.
    restart(&client, 20).await?;
    let (before, memory_before) = (stable_count().await?, memory()?);
    restart(&client, times.parse()?).await?;
    println!("{before:?}");
    println!("{:?}", count_after_release(before).await?);
    let grown = memory()?.saturating_sub(memory_before);
    anyhow::ensure!(grown < 512 * 1024, "memory has grown by {grown} bytes");
    drop(handle);
    Ok(())
}
