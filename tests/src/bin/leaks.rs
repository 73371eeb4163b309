//! Starts workers repeatedly: `leaks MODE COUNT`. It prints the numbers of descriptors, threads and
//! children before and after, and fails if its memory has grown.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rpc_parallel::launch::{ResourceLimit, WrapperLauncher};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::process::memory;
use rpc_parallel_tests::resources::{count_after_release, stable_count};
use rpc_parallel_tests::script::{Action, Script};

fn failing() -> Script {
    Script::init([Action::Fail("scripted error".into())])
}

fn waiting() -> Script {
    Script::init([Action::Wait])
}

/// Starts and ends workers once.
async fn run(mode: &str, number: u32) -> anyhow::Result<()> {
    let spawner = Fixture::spawner();
    match mode {
        "spawn" => {
            let prefixed = spawner.stdout(Redirect::prefixed()).stderr(Redirect::prefixed());
            let client = prefixed.spawn(Script::default()).await?;
            anyhow::ensure!(client.double(number).await? == 2 * number);
        }
        "start" => {
            let worker = spawner.start(Script::default()).await?;
            // Makes the listener.
            serde_json::to_string(&worker)?;
            let client = worker.connect(()).await?;
            anyhow::ensure!(client.double(number).await? == 2 * number);
            client.close_server().await?;
        }
        "serve" => {
            let worker = Fixture::serve(Script::default()).await?;
            // Makes the listener.
            serde_json::to_string(&worker)?;
            let client = worker.connect(()).await?;
            anyhow::ensure!(client.double(number).await? == 2 * number);
            client.close_server().await?;
        }
        "serve-on-dedicated-thread" => {
            let server = Fixture::server().on_failure(|_| ());
            let worker = server.clone().serve(Script::default()).await?;
            // Makes the listener.
            serde_json::to_string(&worker)?;
            let client = worker.connect(()).await?;
            anyhow::ensure!(client.double(number).await? == 2 * number);
            match number % 2 {
                0 => client.close_server().await?,
                // The answer may be lost with the server.
                _ => drop(client.run(Action::panic().in_task()).await),
            }
            anyhow::ensure!(server.serve(failing()).await.is_err());
        }
        "failing" => {
            for action in [Action::Fail("scripted error".into()), Action::panic(), Action::Exit(3)]
            {
                let script = Script::init([action]);
                anyhow::ensure!(Fixture::spawn(script.clone()).await.is_err());
                anyhow::ensure!(Fixture::spawner().start(script).await.is_err());
            }
            anyhow::ensure!(Fixture::serve(failing()).await.is_err());
            let missing_directory = spawner.clone().current_dir("/there/is/no/such/directory");
            anyhow::ensure!(missing_directory.spawn(Script::default()).await.is_err());
            let invalid_limit = spawner.clone().limit(ResourceLimit::open_files(2).hard(1));
            anyhow::ensure!(invalid_limit.spawn(Script::default()).await.is_err());
            let missing_wrapper =
                spawner.clone().launcher(WrapperLauncher::new("/no/such/program"));
            anyhow::ensure!(missing_wrapper.spawn(Script::default()).await.is_err());
            let prefixed = spawner.clone().stdout(Redirect::prefixed());
            let init_timeout = prefixed.init_timeout(Duration::from_millis(50));
            anyhow::ensure!(init_timeout.spawn(waiting()).await.is_err());
            let spawn_timeout = spawner.spawn_timeout(Duration::from_millis(50));
            anyhow::ensure!(spawn_timeout.spawn(waiting()).await.is_err());
        }
        "dropped" => {
            // Later rounds poll the future more often before they drop it.
            let mut spawning = pin!(spawner.spawn(waiting()));
            for _ in 0..number % 10 {
                let polled = poll_fn(|cx| Poll::Ready(spawning.as_mut().poll(cx))).await;
                anyhow::ensure!(polled.is_pending());
                tokio::task::yield_now().await;
            }
        }
        _ => anyhow::bail!("unknown mode `{mode}`"),
    }
    Ok(())
}

/// The allowed growth in bytes: half of what two hundred running workers use.
const MAX_GROWTH: usize = 256 * 1024;

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, mode, count] = &args[..] else { anyhow::bail!("usage: leaks MODE COUNT") };
    // The first starts and the first line on stderr allocate resources that the master keeps.
    let printing = Script::init([Action::PrintToStderr("a line".into())]);
    drop(Fixture::spawn(printing).await?);
    for number in 0..10 {
        run(mode, number).await?;
    }
    let (before, memory_before) = (stable_count().await?, memory()?);
    for number in 0..count.parse()? {
        run(mode, number).await?;
    }
    println!("{before:?}");
    println!("{:?}", count_after_release(before).await?);
    let grown = memory()?.saturating_sub(memory_before);
    // Dropped starts run at the same time, and the allocator keeps their memory.
    let bounded = grown < MAX_GROWTH || mode == "dropped";
    anyhow::ensure!(bounded, "memory has grown by {grown} bytes");
    Ok(())
}
