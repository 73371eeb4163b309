//! A master for tests of signals: `interruptible handling` handles SIGINT and then returns from its
//! `main`; `interruptible default` does not handle it.
//!
//! Each worker prints `worker <pid>` in its `init` and `shut down <pid>` at the end of its
//! `on_shutdown`. The master prints `ready`, and `interrupted` when it has handled SIGINT.

use std::future::pending;
use std::time::Duration;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::program::print_line;
use rpc_parallel_tests::script::{Action, Script};

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, mode] = &args[..] else { anyhow::bail!("usage: interruptible MODE") };
    let script = Script {
        init: vec![Action::PrintWithPid("worker".into())],
        on_shutdown: vec![
            // Long enough that a second signal would interrupt it.
            Action::Sleep(Duration::from_millis(50)),
            Action::PrintWithPid("shut down".into()),
        ],
    };
    let mut clients =
        vec![Fixture::spawn(script.clone()).await?, Fixture::spawn(script.clone()).await?];
    let started = Fixture::spawner().start(script).await?;
    clients.push(started.connect(()).await?);
    for client in &clients {
        tokio::spawn(client.wait());
    }
    tokio::task::yield_now().await;
    match mode.as_str() {
        "handling" => {
            let interrupted = tokio::spawn(tokio::signal::ctrl_c());
            tokio::task::yield_now().await;
            print_line("ready");
            interrupted.await??;
            print_line("interrupted");
        }
        _ => {
            print_line("ready");
            pending::<()>().await;
        }
    }
    Ok(())
}
